#include "device-sim/radio/radio.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOBODY = UINT32_MAX, BAND_PARTS = 16, HARQ_MAX = 4 };
static const double thermal_dbm_per_hz = -174, light_m_per_ns = 0.299792458, ns = 1e-9;
static const double forget_below = 1e-3;    /* bytes a TTI: a served rate that is as good as none */
static const double los_correlation_m = 50; /* TR 38.901 table 7.6.3.1-2 */
/* Without traffic for so long a phone is not connected (ORIGIN's phones: 8 to 12 s), and there is nothing to
 * hand over. */
static const uint64_t released_ns = 10000000000;

/* One direction of a phone. */
struct way {
    bool active;         /* in its cell's list */
    uint64_t ready_ns;   /* may be scheduled from then on (uplink: request and grant) */
    uint64_t last_ns;    /* of its deliveries: they keep their order */
    uint64_t blocks;     /* sent, for the draw of errors */
    double served;       /* bytes a TTI, exponentially averaged */
    uint64_t served_tti; /* of that average */
    uint64_t fading_tti; /* of the next */
    double fading;
};

struct phone {
    uint32_t environment, cell, candidate;
    uint64_t key;
    struct sl_mobility mobility;
    struct sl_radio_state state;
    bool has_looked;
    uint64_t looked_ns, candidate_ns; /* last look; since when the candidate has been better */
    double gain[SL_RADIO_DIRECTIONS]; /* SNR over the whole band, linear, without fading */
    double doppler_hz;
    struct way way[SL_RADIO_DIRECTIONS];
};

struct list {
    uint32_t *phone, n;
};

struct cell {
    struct list active[SL_RADIO_DIRECTIONS];
    uint32_t turn[SL_RADIO_DIRECTIONS]; /* round robin */
    struct sl_field sight, shadow[2];   /* shadow: without and with a line of sight */
    /* others' phones: how many are on, until when, and the draws of it */
    uint64_t background_key, background_i, background_until_ns;
    uint32_t background_on;
    double background_served;
};

struct environment {
    const struct sl_radio_config *cfg;
    struct cell *cell; /* [n_cells] */
    uint32_t n_active[SL_RADIO_DIRECTIONS];
    uint64_t next_tti_ns[SL_RADIO_DIRECTIONS],
        earliest_ns[SL_RADIO_DIRECTIONS]; /* earliest: after the last one */
};

struct granter {
    struct sl_radio *radio;
    enum sl_radio_direction way;
};

struct sl_radio {
    uint32_t n_phones, n_environments;
    uint64_t start_ns;
    struct sl_links *links[SL_RADIO_DIRECTIONS];
    struct granter granter[SL_RADIO_DIRECTIONS];
    void (*moved)(void *, uint32_t, uint64_t);
    void *app;
    struct environment *environment;
    struct phone *phone;
    uint32_t *lists; /* the cells' memory */
    double *metric;  /* [n_phones] of one TTI */
    uint32_t *order;
};

const char *sl_radio_scheduler_name(enum sl_radio_scheduler s)
{
    static const char *const names[SL_SCHEDULE_COUNT] = {"pf", "rr", "max"};
    return s < SL_SCHEDULE_COUNT ? names[s] : "unknown";
}

static double linear(double db)
{
    return pow(10, db / 10);
}

static double in_db(double v)
{
    return v > 0 ? 10 * log10(v) : -300;
}

static double seconds(const struct sl_radio *r, uint64_t now_ns)
{
    return now_ns > r->start_ns ? (double)(now_ns - r->start_ns) * ns : 0;
}

/* A late host lets one direction catch up after the other: times of the second may lie before what the first
 * has seen. */
static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* ---- what a phone hears ---- */

/* Loss between a place and a cell, all but fading. */
static double loss_db(const struct environment *e, uint32_t c, double x, double y)
{
    const struct sl_radio_config *g = e->cfg;
    double dx = x - g->cell_m[c][0], dy = y - g->cell_m[c][1], d = sqrt(dx * dx + dy * dy);
    double p = sl_line_of_sight_probability(g->path_loss, d);
    /* Where the line of sight is free is a matter of place, too: the normal field as a uniform one. */
    bool sight = p >= 1 || (p > 0 && 0.5 * erfc(-sl_field_at(&e->cell[c].sight, x, y) * M_SQRT1_2) < p);
    double loss = sl_path_loss_db(g->path_loss, &g->geometry, d, sight);
    double sigma = g->shadowing ? sl_shadowing_db(g->path_loss, sight) : 0;

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

/* The part of the band that serves best: downwards all of it; upwards as little as the power fills. */
static double best_part(
    const struct sl_radio_config *g, enum sl_radio_direction w, double snr, double most, double *part)
{
    double best = 0;

    *part = most;
    if (w == SL_RADIO_DOWN)
        return part_rate(g, w, snr, most);
    for (double p = most; p >= 1.0 / BAND_PARTS; p /= 2) {
        double rate = part_rate(g, w, snr, p);
        if (rate > best) {
            best = rate;
            *part = p;
        }
    }
    return best;
}

static uint32_t best_cell(const struct environment *e, double x, double y, double *loss)
{
    uint32_t best = 0;

    *loss = INFINITY;
    for (uint32_t c = 0; c < e->cfg->n_cells; c++) {
        double l = loss_db(e, c, x, y);
        if (l < *loss) {
            *loss = l;
            best = c;
        }
    }
    return best;
}

static void tune(const struct environment *e, struct phone *p, double loss)
{
    const struct sl_radio_config *g = e->cfg;
    double part;

    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        p->gain[w] = snr_of(g, (enum sl_radio_direction)w, loss);
        p->state.snr_db[w] = in_db(p->gain[w]);
        p->state.cqi[w] = sl_cqi(g->table, p->gain[w] / g->layers[w]);
        p->state.rate_bps[w] = best_part(g, (enum sl_radio_direction)w, p->gain[w], 1, &part);
    }
    p->state.covered = p->state.rate_bps[SL_RADIO_UP] > 0 && p->state.rate_bps[SL_RADIO_DOWN] > 0;
    p->state.cell = p->cell;
}

/* ---- who waits in which cell ---- */

static struct list *list_of(struct environment *e, const struct phone *p, int w)
{
    return &e->cell[p->cell].active[w];
}

static void join(struct sl_radio *r, uint32_t i, int w)
{
    struct phone *p = &r->phone[i];
    struct environment *e = &r->environment[p->environment];
    struct list *l = list_of(e, p, w);

    if (p->way[w].active)
        return;
    p->way[w].active = true;
    l->phone[l->n++] = i;
    e->n_active[w]++;
}

static void leave(struct sl_radio *r, uint32_t i, int w)
{
    struct phone *p = &r->phone[i];
    struct environment *e = &r->environment[p->environment];
    struct list *l = list_of(e, p, w);

    if (!p->way[w].active)
        return;
    p->way[w].active = false;
    for (uint32_t k = 0; k < l->n; k++)
        if (l->phone[k] == i) {
            l->phone[k] = l->phone[--l->n];
            break;
        }
    e->n_active[w]--;
}

static void change_cell(struct sl_radio *r, uint32_t i, uint32_t to)
{
    struct phone *p = &r->phone[i];
    bool active[SL_RADIO_DIRECTIONS];

    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        active[w] = p->way[w].active;
        leave(r, i, w);
    }
    p->cell = to;
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
        if (active[w])
            join(r, i, w);
}

static void hand_over(struct sl_radio *r, uint32_t i, uint32_t to, uint64_t now_ns)
{
    struct phone *p = &r->phone[i];
    const struct sl_radio_config *g = r->environment[p->environment].cfg;

    change_cell(r, i, to);
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
    struct phone *p = &r->phone[i];
    const struct sl_radio_config *g = r->environment[p->environment].cfg;

    if (best == p->cell || own_loss - best_loss <= g->hysteresis_db) {
        p->candidate = NOBODY;
        return;
    }
    if (p->candidate != best) {
        p->candidate = best;
        p->candidate_ns = now_ns;
    }
    if (since(p->candidate_ns, now_ns) < g->time_to_trigger_ns)
        return;
    p->candidate = NOBODY;
    hand_over(r, i, best, now_ns);
}

/* Where the phone is and what it hears. One that had no traffic for long has no connection to hand over, and
 * takes the best cell. */
static void look(struct sl_radio *r, uint32_t i, uint64_t now_ns)
{
    struct phone *p = &r->phone[i];
    struct environment *e = &r->environment[p->environment];
    struct sl_radio_state *s = &p->state;
    double best_loss;

    bool first = !p->has_looked, idle = first || since(p->looked_ns, now_ns) >= released_ns;
    p->has_looked = true;
    p->looked_ns = now_ns;
    if (!first && e->cfg->mobility.kind == SL_MOBILITY_STATIC)
        return;
    s->speed_mps = sl_mobility_at(&p->mobility, seconds(r, now_ns), &s->x_m, &s->y_m);
    p->doppler_hz = fmax(e->cfg->fading.doppler_hz, s->speed_mps * e->cfg->geometry.ghz / light_m_per_ns);
    uint32_t best = best_cell(e, s->x_m, s->y_m, &best_loss);
    double zone = zones_db(e->cfg, s->x_m, s->y_m);
    if (idle) {
        change_cell(r, i, best);
        p->candidate = NOBODY;
    } else {
        consider(r, i, best, best_loss, loss_db(e, p->cell, s->x_m, s->y_m), now_ns);
    }
    tune(e, p, (p->cell == best ? best_loss : loss_db(e, p->cell, s->x_m, s->y_m)) + zone);
}

/* ---- a cell's slot ---- */

static double exponential(uint64_t key, uint64_t i, double mean)
{
    return -log(sl_radio_uniform(key, i)) * mean;
}

/* Others' phones that are on: each alternates between exponential times on and off, so how many are on is a
 * birth and death process; begins at its long-run mean. */
static void advance_background(const struct sl_radio_config *g, struct cell *c, uint64_t now_ns)
{
    if (g->background == 0)
        return;
    if (c->background_until_ns == 0) {
        double on = g->background_on_s / (g->background_on_s + g->background_off_s);
        for (uint32_t k = 0; k < g->background; k++)
            c->background_on += sl_radio_uniform(c->background_key, c->background_i++) < on;
        c->background_until_ns = now_ns;
    }
    while (c->background_until_ns <= now_ns) {
        double down = c->background_on / g->background_on_s,
               up = (g->background - c->background_on) / g->background_off_s;
        c->background_until_ns +=
            (uint64_t)(exponential(c->background_key, c->background_i, 1 / (down + up)) * 1e9) + 1;
        if (sl_radio_uniform(c->background_key, c->background_i + 1) * (down + up) < down)
            c->background_on--;
        else
            c->background_on++;
        c->background_i += 2;
    }
}

static void average(struct way *w, uint64_t tti, double window, double bytes)
{
    double keep = 1 - 1 / window;

    if (tti > w->served_tti) {
        w->served *= pow(keep, (double)(tti - w->served_tti));
        w->served_tti = tti;
    }
    w->served += bytes / window;
    if (w->served < forget_below)
        w->served = 0;
}

static double fading_of(
    const struct sl_radio *r, const struct environment *e, struct phone *p, int w, uint64_t now_ns)
{
    struct way *way = &p->way[w];
    struct sl_fading f = e->cfg->fading;

    if (f.branches == 0)
        return 1;
    if (now_ns < way->fading_tti)
        return way->fading;
    f.doppler_hz = p->doppler_hz;
    way->fading =
        sl_fading_power(&f, sl_rng_mix(p->key + (uint64_t)w + 1 + 2 * (uint64_t)p->cell), seconds(r, now_ns));
    /* It holds for a tenth of a Doppler period, the channel's coherence time. */
    way->fading_tti = now_ns + (f.doppler_hz > 0 ? (uint64_t)(0.1e9 / f.doppler_hz) : 1000000000);
    return way->fading;
}

/* A block that errs comes by a later transmission; those behind it wait for it. */
static uint64_t delivery(const struct sl_radio_config *g, struct phone *p, int w, uint64_t now_ns)
{
    struct way *way = &p->way[w];
    uint64_t at = now_ns + g->tti_ns;

    for (int k = 0;
         k < HARQ_MAX &&
         sl_radio_uniform(p->key, 1000 + HARQ_MAX * (2 * way->blocks + (uint64_t)w) + (uint64_t)k) < g->bler;
         k++)
        at += g->harq_ns;
    way->blocks++;
    if (at < way->last_ns)
        at = way->last_ns;
    way->last_ns = at;
    return at;
}

/* Serves one phone with what is left of the band; returns what it took of it. */
static double serve(
    struct sl_radio *r, struct environment *e, uint32_t i, int w, double left, uint64_t now_ns)
{
    struct phone *p = &r->phone[i];
    const struct sl_radio_config *g = e->cfg;
    double part, fading = fading_of(r, e, p, w, now_ns), tti_s = (double)g->tti_ns * ns;
    double rate = best_part(g, (enum sl_radio_direction)w, p->gain[w] * fading, left, &part);
    uint32_t bytes = (uint32_t)(rate * tti_s / 8);

    if (bytes == 0)
        return 0;
    uint32_t used = sl_links_grant(r->links[w], i, bytes, delivery(g, p, w, now_ns));
    double took = part * used / bytes;
    sl_links_airtime(r->links[w], i, (uint64_t)((double)g->tti_ns * fmin(1, (double)used / bytes)));
    average(&p->way[w], now_ns / g->tti_ns, g->pf_window_s / tti_s, used);
    if (sl_links_backlog_bytes(r->links[w], i) == 0)
        leave(r, i, w);
    return took;
}

static double metric_of(struct sl_radio *r, struct environment *e, uint32_t i, int w, uint64_t now_ns)
{
    struct phone *p = &r->phone[i];
    const struct sl_radio_config *g = e->cfg;
    double part,
        rate = best_part(g, (enum sl_radio_direction)w, p->gain[w] * fading_of(r, e, p, w, now_ns), 1, &part);

    if (rate <= 0)
        return 0;
    if (g->scheduler == SL_SCHEDULE_MAX)
        return rate;
    average(&p->way[w], now_ns / g->tti_ns, g->pf_window_s / ((double)g->tti_ns * ns), 0);
    return rate / (p->way[w].served + 1);
}

/* Who is to be served, best first. */
static uint32_t rank(struct sl_radio *r, struct environment *e, struct cell *c, int w, uint64_t now_ns)
{
    const struct list *l = &c->active[w];
    uint32_t n = 0;

    for (uint32_t k = 0; k < l->n; k++) {
        uint32_t i = e->cfg->scheduler == SL_SCHEDULE_RR ? l->phone[(k + c->turn[w]) % l->n] : l->phone[k];
        struct phone *p = &r->phone[i];
        if (since(p->looked_ns, now_ns) >= e->cfg->measure_ns)
            look(r, i, now_ns);
        if (p->way[w].active && list_of(e, p, w) == l && p->way[w].ready_ns <= now_ns)
            r->order[n++] = i;
    }
    c->turn[w]++;
    if (e->cfg->scheduler == SL_SCHEDULE_RR)
        return n;
    for (uint32_t k = 0; k < n; k++)
        r->metric[r->order[k]] = metric_of(r, e, r->order[k], w, now_ns);
    return n;
}

static uint32_t take_best(struct sl_radio *r, uint32_t *n, bool in_turn)
{
    uint32_t best = 0;

    for (uint32_t k = 1; k < *n && !in_turn; k++)
        if (r->metric[r->order[k]] > r->metric[r->order[best]])
            best = k;
    uint32_t i = r->order[best];
    if (in_turn)
        memmove(r->order, r->order + 1, --*n * sizeof *r->order);
    else
        r->order[best] = r->order[--*n];
    return i;
}

static void serve_cell(
    struct sl_radio *r, struct environment *e, struct cell *c, int w, uint64_t now_ns, uint64_t tti)
{
    double left = 1;

    advance_background(e->cfg, c, now_ns);
    uint32_t n = rank(r, e, c, w, now_ns);
    while (n && left >= 1.0 / BAND_PARTS) {
        /* Others' phones win as often as fair sharing among all who are on gives them a turn. */
        if (c->background_on && left >= 1 &&
            sl_radio_uniform(c->background_key, ~(2 * tti + (uint64_t)w)) * (n + c->background_on) <
                c->background_on)
            return;
        uint32_t i = take_best(r, &n, e->cfg->scheduler == SL_SCHEDULE_RR);
        left -= serve(r, e, i, w, left, now_ns);
    }
}

/* ---- as the links' granter ---- */

static uint64_t deadline(void *ctx)
{
    struct granter *g = ctx;
    uint64_t next = UINT64_MAX;

    for (uint32_t k = 0; k < g->radio->n_environments; k++) {
        struct environment *e = &g->radio->environment[k];
        if (e->n_active[g->way] && e->next_tti_ns[g->way] < next)
            next = e->next_tti_ns[g->way];
    }
    return next;
}

static void run(void *ctx, uint64_t at_ns)
{
    struct granter *g = ctx;
    struct sl_radio *r = g->radio;

    for (uint32_t k = 0; k < r->n_environments; k++) {
        struct environment *e = &r->environment[k];
        if (!e->n_active[g->way] || e->next_tti_ns[g->way] > at_ns)
            continue;
        e->next_tti_ns[g->way] = e->earliest_ns[g->way] = at_ns + e->cfg->tti_ns;
        for (uint32_t c = 0; c < e->cfg->n_cells; c++)
            if (e->cell[c].active[g->way].n)
                serve_cell(r, e, &e->cell[c], g->way, at_ns, at_ns / e->cfg->tti_ns);
    }
}

/* The first slot at or after a time: slots begin at multiples of their length. */
static uint64_t slot_from(const struct sl_radio_config *g, uint64_t at_ns)
{
    return (at_ns + g->tti_ns - 1) / g->tti_ns * g->tti_ns;
}

static void backlogged(void *ctx, uint32_t i, uint64_t at_ns)
{
    struct granter *g = ctx;
    struct sl_radio *r = g->radio;
    struct phone *p = &r->phone[i];

    if (p->environment == NOBODY)
        return;
    struct environment *e = &r->environment[p->environment];
    if (since(p->looked_ns, at_ns) >= e->cfg->measure_ns)
        look(r, i, at_ns);
    uint64_t ready = at_ns;
    if (g->way == SL_RADIO_UP &&
        e->cfg->sr_period_ns) { /* the next occasion of its own, and the grant's way */
        uint64_t period = e->cfg->sr_period_ns, offset = sl_rng_u64(p->key, 1) % period;
        ready = at_ns + (period + offset - at_ns % period) % period + e->cfg->grant_ns;
    }
    if (ready > p->way[g->way].ready_ns)
        p->way[g->way].ready_ns = ready;
    bool first = e->n_active[g->way] == 0;
    join(r, i, g->way);
    uint64_t slot = slot_from(e->cfg, p->way[g->way].ready_ns);
    if (slot < e->earliest_ns[g->way]) /* a slot is not used twice */
        slot = e->earliest_ns[g->way];
    if (first || slot < e->next_tti_ns[g->way])
        e->next_tti_ns[g->way] = slot;
}

void sl_radio_bind(struct sl_radio *r, struct sl_links *up, struct sl_links *down)
{
    r->links[SL_RADIO_UP] = up;
    r->links[SL_RADIO_DOWN] = down;
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        r->granter[w] = (struct granter){r, (enum sl_radio_direction)w};
        sl_links_set_granter(r->links[w], &(struct sl_granter){&r->granter[w], deadline, run, backlogged});
    }
}

/* ---- making it ---- */

static void place_phone(struct sl_radio *r, uint32_t i, const struct sl_radio_place *where, uint64_t seed)
{
    struct phone *p = &r->phone[i];
    char name[48];
    double at[2];

    p->environment = where->environment;
    p->candidate = NOBODY;
    snprintf(name, sizeof name, "radio %u", i);
    p->key = sl_rng_key(seed, name);
    if (p->environment == NOBODY)
        return;
    const struct sl_radio_config *g = r->environment[p->environment].cfg;
    bool near = where->cell != NOBODY;
    if (near) { /* within a quarter of the area's shorter side around it */
        double reach = 0.25 * fmin(g->mobility.width_m, g->mobility.height_m) / sqrt(g->n_cells);
        double far = reach * sqrt(sl_radio_uniform(p->key, 2)), turn = 2 * M_PI * sl_radio_uniform(p->key, 3);
        at[0] = fmin(fmax(g->cell_m[where->cell][0] + far * cos(turn), 0), g->mobility.width_m);
        at[1] = fmin(fmax(g->cell_m[where->cell][1] + far * sin(turn), 0), g->mobility.height_m);
    }
    sl_mobility_init(&p->mobility, &g->mobility, sl_rng_key(p->key, "mobility"), near ? at : NULL);
}

static void make_cells(
    struct sl_radio *r, uint32_t k, const struct sl_radio_config *g, uint64_t seed, uint32_t **list)
{
    struct environment *e = &r->environment[k];
    char name[48];

    e->cfg = g;
    for (uint32_t c = 0; c < g->n_cells; c++) {
        snprintf(name, sizeof name, "radio %u cell %u", k, c);
        uint64_t key = sl_rng_key(seed, name);
        sl_field_init(&e->cell[c].sight, sl_rng_key(key, "line of sight"), los_correlation_m);
        for (int sight = 0; sight < 2; sight++)
            sl_field_init(&e->cell[c].shadow[sight],
                sl_rng_key(key, sight ? "shadowing, los" : "shadowing, nlos"),
                sl_shadowing_m(g->path_loss, sight));
        e->cell[c].background_key = sl_rng_key(key, "background");
        for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
            e->cell[c].active[w].phone = *list;
            *list += r->n_phones;
        }
    }
}

int sl_radio_create(const struct sl_radio_config *config, uint32_t n, const struct sl_radio_place *place,
    uint32_t n_phones, uint64_t seed, uint64_t start_ns, void (*moved)(void *, uint32_t, uint64_t), void *app,
    struct sl_radio **out)
{
    struct sl_radio *r = calloc(1, sizeof *r);
    size_t cells = 0;

    if (!r)
        return -ENOMEM;
    for (uint32_t k = 0; k < n; k++)
        cells += config[k].n_cells;
    r->n_phones = n_phones;
    r->n_environments = n;
    r->start_ns = start_ns;
    r->moved = moved;
    r->app = app;
    r->environment = calloc(n, sizeof *r->environment);
    r->phone = calloc(n_phones, sizeof *r->phone);
    r->lists = calloc(cells * SL_RADIO_DIRECTIONS * n_phones, sizeof *r->lists);
    r->metric = calloc(n_phones, sizeof *r->metric);
    r->order = calloc(n_phones, sizeof *r->order);
    bool ok = r->environment && r->phone && r->lists && r->metric && r->order;
    uint32_t *list = r->lists;
    for (uint32_t k = 0; k < n && ok; k++) {
        r->environment[k].cell = calloc(config[k].n_cells, sizeof(struct cell));
        ok = r->environment[k].cell != NULL;
        if (ok)
            make_cells(r, k, &config[k], seed, &list);
    }
    if (!ok) {
        sl_radio_free(r);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n_phones; i++)
        place_phone(r, i, &place[i], seed);
    for (uint32_t i = 0; i < n_phones; i++)
        if (r->phone[i].environment != NOBODY)
            look(r, i, start_ns);
    *out = r;
    return 0;
}

void sl_radio_free(struct sl_radio *r)
{
    if (!r)
        return;
    for (uint32_t k = 0; r->environment && k < r->n_environments; k++)
        free(r->environment[k].cell);
    free(r->environment);
    free(r->phone);
    free(r->lists);
    free(r->metric);
    free(r->order);
    free(r);
}

void sl_radio_state(const struct sl_radio *r, uint32_t i, struct sl_radio_state *out)
{
    *out = r->phone[i].state;
}

bool sl_radio_serves(const struct sl_radio *r, uint32_t i)
{
    return r->phone[i].environment != NOBODY;
}
