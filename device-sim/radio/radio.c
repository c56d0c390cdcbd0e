#include "device-sim/radio/radio_internal.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double los_correlation_m = 50; /* TR 38.901 table 7.6.3.1-2 */

const char *sl_radio_scheduler_name(enum sl_radio_scheduler s)
{
    static const char *const names[SL_SCHEDULE_COUNT] = {"pf", "rr", "max"};
    return s < SL_SCHEDULE_COUNT ? names[s] : "unknown";
}

/* ---- as the links' granter ---- */

static uint64_t deadline(void *ctx)
{
    struct sl_radio_granter *g = ctx;
    uint64_t next = UINT64_MAX;

    for (uint32_t k = 0; k < g->radio->n_environments; k++) {
        struct sl_radio_environment *e = &g->radio->environment[k];
        if (e->n_active[g->way] && e->next_tti_ns[g->way] < next)
            next = e->next_tti_ns[g->way];
    }
    return next;
}

static void run(void *ctx, uint64_t at_ns)
{
    struct sl_radio_granter *g = ctx;
    struct sl_radio *r = g->radio;

    for (uint32_t k = 0; k < r->n_environments; k++) {
        struct sl_radio_environment *e = &r->environment[k];
        if (!e->n_active[g->way] || e->next_tti_ns[g->way] > at_ns)
            continue;
        e->next_tti_ns[g->way] = e->earliest_ns[g->way] = at_ns + e->cfg->tti_ns;
        for (uint32_t c = 0; c < e->cfg->n_cells; c++)
            if (e->cell[c].active[g->way].n)
                sl_radio_serve_cell(r, e, &e->cell[c], g->way, at_ns, at_ns / e->cfg->tti_ns);
    }
}

/* The first slot at or after a time: slots begin at multiples of their length. */
static uint64_t slot_from(const struct sl_radio_config *g, uint64_t at_ns)
{
    return (at_ns + g->tti_ns - 1) / g->tti_ns * g->tti_ns;
}

static void backlogged(void *ctx, uint32_t i, uint64_t at_ns)
{
    struct sl_radio_granter *g = ctx;
    struct sl_radio *r = g->radio;
    struct sl_radio_phone *p = &r->phone[i];

    if (p->environment == SL_RADIO_NOBODY)
        return;
    struct sl_radio_environment *e = &r->environment[p->environment];
    if (sl_radio_since(p->looked_ns, at_ns) >= e->cfg->measure_ns)
        sl_radio_look(r, i, at_ns);
    uint64_t ready = at_ns;
    if (g->way == SL_RADIO_UP &&
        e->cfg->sr_period_ns) { /* the next occasion of its own, and the grant's way */
        uint64_t period = e->cfg->sr_period_ns, offset = sl_rng_u64(p->key, 1) % period;
        ready = at_ns + (period + offset - at_ns % period) % period + e->cfg->grant_ns;
    }
    if (ready > p->way[g->way].ready_ns)
        p->way[g->way].ready_ns = ready;
    bool first = e->n_active[g->way] == 0;
    sl_radio_join(r, i, g->way);
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
        r->granter[w] = (struct sl_radio_granter){r, (enum sl_radio_direction)w};
        sl_links_set_granter(r->links[w], &(struct sl_granter){&r->granter[w], deadline, run, backlogged});
    }
}

/* ---- making it ---- */

static void place_phone(struct sl_radio *r, uint32_t i, const struct sl_radio_place *where, uint64_t seed)
{
    struct sl_radio_phone *p = &r->phone[i];
    char name[48];
    double at[2];

    p->environment = where->environment;
    p->candidate = SL_RADIO_NOBODY;
    p->power = 1;
    snprintf(name, sizeof name, "radio %u", i);
    p->key = sl_rng_key(seed, name);
    if (p->environment == SL_RADIO_NOBODY)
        return;
    const struct sl_radio_config *g = r->environment[p->environment].cfg;
    bool near = where->cell != SL_RADIO_NOBODY;
    if (near) { /* within a quarter of the area's shorter side around it */
        double reach = 0.25 * fmin(g->mobility.width_m, g->mobility.height_m) / sqrt(g->n_cells);
        double far = reach * sqrt(sl_rng_open(p->key, 2)), turn = 2 * M_PI * sl_rng_open(p->key, 3);
        at[0] = fmin(fmax(g->cell_m[where->cell][0] + far * cos(turn), 0), g->mobility.width_m);
        at[1] = fmin(fmax(g->cell_m[where->cell][1] + far * sin(turn), 0), g->mobility.height_m);
    }
    sl_mobility_init(&p->mobility, &g->mobility, sl_rng_key(p->key, "mobility"), near ? at : NULL);
}

static void make_cells(
    struct sl_radio *r, uint32_t k, const struct sl_radio_config *g, uint64_t seed, uint32_t **list)
{
    struct sl_radio_environment *e = &r->environment[k];
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
        r->environment[k].cell = calloc(config[k].n_cells, sizeof(struct sl_radio_cell));
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
        if (r->phone[i].environment != SL_RADIO_NOBODY)
            sl_radio_look(r, i, start_ns);
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

void sl_radio_set_power(struct sl_radio *r, uint32_t i, double share)
{
    struct sl_radio_phone *p = &r->phone[i];

    if (p->environment == SL_RADIO_NOBODY)
        return;
    p->gain[SL_RADIO_UP] *= share / p->power;
    p->power = share;
    sl_radio_describe(r->environment[p->environment].cfg, p);
}

bool sl_radio_serves(const struct sl_radio *r, uint32_t i)
{
    return r->phone[i].environment != SL_RADIO_NOBODY;
}
