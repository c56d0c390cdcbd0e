#include "device-sim/radio/radio_internal.h"

#include "trainer/tensor/rng.h"

#include <math.h>

static const double thermal_dbm_per_hz = -174, light_m_per_ns = 0.299792458;
/* Without traffic for so long a phone is not connected (phones of measurements: 8 to 12 s), and there is
 * nothing to hand over. */
static const uint64_t released_ns = 10000000000;

static double linear(double db)
{
    return pow(10, db / 10);
}

static double in_db(double v)
{
    return v > 0 ? 10 * log10(v) : -300;
}

static double distance_m(const struct sl_radio_config *g, uint32_t c, double x, double y)
{
    double dx = x - g->cell_m[c][0], dy = y - g->cell_m[c][1];

    return sqrt(dx * dx + dy * dy);
}

/* Loss of the path alone, less four sigmas of shadowing: what a cell has at least, for all that is likely. */
static double least_loss_db(const struct sl_radio_config *g, double d, bool sight)
{
    double luck = g->shadowing ? 4 * sl_shadowing_db(g->path_loss, sight) : 0;

    return sl_path_loss_db(g->path_loss, &g->geometry, d, sight) - luck;
}

/* Loss between a place and a cell, all but fading. INFINITY where it is `bound` or more at its luckiest,
 * which spares most of a city's cells their fields. */
static double loss_db(const struct sl_radio_environment *e, uint32_t c, double x, double y, double bound)
{
    const struct sl_radio_config *g = e->cfg;
    double d = distance_m(g, c, x, y), p = sl_line_of_sight_probability(g->path_loss, d);

    if (least_loss_db(g, d, p > 0) >= bound && least_loss_db(g, d, p >= 1) >= bound)
        return INFINITY;
    /* Where the line of sight is free is a matter of place, too: the normal field as a uniform one. */
    bool sight = p >= 1 || (p > 0 && 0.5 * erfc(-sl_field_at(&e->cell[c].sight, x, y) * M_SQRT1_2) < p);
    double sigma = g->shadowing ? sl_shadowing_db(g->path_loss, sight) : 0;
    if (least_loss_db(g, d, sight) >= bound)
        return INFINITY;
    double loss = sl_path_loss_db(g->path_loss, &g->geometry, d, sight);
    if (sigma > 0)
        loss += sigma * sl_field_at(&e->cell[c].shadow[sight], x, y);
    return loss;
}

static double zones_db(const struct sl_radio_config *g, double x, double y)
{
    double loss = 0;

    for (uint32_t i = 0; i < g->n_zones; i++)
        if (x >= g->zone[i].x0 && x <= g->zone[i].x1 && y >= g->zone[i].y0 && y <= g->zone[i].y1)
            loss += g->zone[i].loss_db;
    return loss;
}

static double snr_of(const struct sl_radio_config *g, enum sl_radio_direction w, double loss)
{
    double noise =
        thermal_dbm_per_hz + in_db(g->bandwidth_hz * g->usable) + g->noise_figure_db[w] + g->interference_db;

    return linear(g->tx_dbm[w] - loss - noise);
}

/* Bits a second with `part` of the band, all of the power in it where the phone sends. */
static double part_rate(const struct sl_radio_config *g, enum sl_radio_direction w, double snr, double part)
{
    double there = (w == SL_RADIO_UP ? snr / part : snr) / g->layers[w];

    return sl_cqi_efficiency(g->table, sl_cqi(g->table, there)) * g->layers[w] * part * g->bandwidth_hz *
           g->usable * g->share[w] * (1 - g->bler);
}

double sl_radio_best_part(
    const struct sl_radio_config *g, enum sl_radio_direction w, double snr, double most, double *part)
{
    double best = 0;

    *part = most;
    if (w == SL_RADIO_DOWN)
        return part_rate(g, w, snr, most);
    for (double p = most; p >= 1.0 / SL_RADIO_BAND_PARTS; p /= 2) {
        double rate = part_rate(g, w, snr, p);
        if (rate > best) {
            best = rate;
            *part = p;
        }
    }
    return best;
}

static uint32_t best_cell(const struct sl_radio_environment *e, double x, double y, double *loss)
{
    uint32_t best = 0;

    for (uint32_t c = 1; c < e->cfg->n_cells; c++)
        if (distance_m(e->cfg, c, x, y) < distance_m(e->cfg, best, x, y))
            best = c;
    uint32_t nearest = best;
    *loss = loss_db(e, best, x, y, INFINITY);
    for (uint32_t c = 0; c < e->cfg->n_cells; c++) {
        double l = c == nearest ? INFINITY : loss_db(e, c, x, y, *loss);
        if (l < *loss) {
            *loss = l;
            best = c;
        }
    }
    return best;
}

void sl_radio_describe(const struct sl_radio_config *g, struct sl_radio_phone *p)
{
    double part;

    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        p->state.snr_db[w] = in_db(p->gain[w]);
        p->state.cqi[w] = sl_cqi(g->table, p->gain[w] / g->layers[w]);
        p->state.rate_bps[w] = sl_radio_best_part(g, (enum sl_radio_direction)w, p->gain[w], 1, &part);
    }
    p->state.covered = p->state.rate_bps[SL_RADIO_UP] > 0 && p->state.rate_bps[SL_RADIO_DOWN] > 0;
    p->state.cell = p->cell;
}

static void tune(const struct sl_radio_environment *e, struct sl_radio_phone *p, double loss)
{
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
        p->gain[w] = snr_of(e->cfg, (enum sl_radio_direction)w, loss);
    p->gain[SL_RADIO_UP] *= p->power;
    sl_radio_describe(e->cfg, p);
}

static void hand_over(struct sl_radio *r, uint32_t i, uint32_t to, uint64_t now_ns)
{
    struct sl_radio_phone *p = &r->phone[i];
    const struct sl_radio_config *g = r->environment[p->environment].cfg;

    sl_radio_change_cell(r, i, to);
    p->state.handovers++;
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        p->way[w].ready_ns = now_ns + g->interruption_ns;
        p->way[w].served = 0;
        sl_links_hold(r->links[w], i, now_ns + g->interruption_ns);
    }
    if (g->new_address && r->moved)
        r->moved(r->app, i, now_ns);
}

/* The A3 event: the same neighbour better by the hysteresis for the time to trigger. */
static void consider(
    struct sl_radio *r, uint32_t i, uint32_t best, double best_loss, double own_loss, uint64_t now_ns)
{
    struct sl_radio_phone *p = &r->phone[i];
    const struct sl_radio_config *g = r->environment[p->environment].cfg;

    if (best == p->cell || own_loss - best_loss <= g->hysteresis_db) {
        p->candidate = SL_RADIO_NOBODY;
        return;
    }
    if (p->candidate != best) {
        p->candidate = best;
        p->candidate_ns = now_ns;
    }
    if (sl_radio_since(p->candidate_ns, now_ns) < g->time_to_trigger_ns)
        return;
    p->candidate = SL_RADIO_NOBODY;
    hand_over(r, i, best, now_ns);
}

/* Where the phone is and what it hears. One that had no traffic for long has no connection to hand over, and
 * takes the best cell. */
void sl_radio_look(struct sl_radio *r, uint32_t i, uint64_t now_ns)
{
    struct sl_radio_phone *p = &r->phone[i];
    struct sl_radio_environment *e = &r->environment[p->environment];
    struct sl_radio_state *s = &p->state;
    double best_loss;

    bool first = !p->has_looked, idle = first || sl_radio_since(p->looked_ns, now_ns) >= released_ns;
    p->has_looked = true;
    if (now_ns < p->looked_ns) /* a phone does not walk backwards */
        now_ns = p->looked_ns;
    p->looked_ns = now_ns;
    if (!first && e->cfg->mobility.kind == SL_MOBILITY_STATIC)
        return;
    s->speed_mps = sl_mobility_at(&p->mobility, sl_radio_seconds(r, now_ns), &s->x_m, &s->y_m);
    p->doppler_hz = fmax(e->cfg->fading.doppler_hz, s->speed_mps * e->cfg->geometry.ghz / light_m_per_ns);
    uint32_t best = best_cell(e, s->x_m, s->y_m, &best_loss);
    double zone = zones_db(e->cfg, s->x_m, s->y_m);
    if (idle) {
        sl_radio_change_cell(r, i, best);
        p->candidate = SL_RADIO_NOBODY;
    } else {
        consider(r, i, best, best_loss, loss_db(e, p->cell, s->x_m, s->y_m, INFINITY), now_ns);
    }
    tune(e, p, (p->cell == best ? best_loss : loss_db(e, p->cell, s->x_m, s->y_m, INFINITY)) + zone);
}
