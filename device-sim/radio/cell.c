#include "device-sim/radio/radio_internal.h"

#include "trainer/tensor/rng.h"

#include <math.h>
#include <string.h>

enum { HARQ_MAX = 4 };
static const double ns = 1e-9;
static const double forget_below = 1e-3; /* bytes a TTI: a served rate that is as good as none */

/* ---- who waits in which cell ---- */

struct sl_radio_list *sl_radio_list_of(struct sl_radio_environment *e, const struct sl_radio_phone *p, int w)
{
    return &e->cell[p->cell].active[w];
}

void sl_radio_join(struct sl_radio *r, uint32_t i, int w)
{
    struct sl_radio_phone *p = &r->phone[i];
    struct sl_radio_environment *e = &r->environment[p->environment];
    struct sl_radio_list *l = sl_radio_list_of(e, p, w);

    if (p->way[w].active)
        return;
    p->way[w].active = true;
    l->phone[l->n++] = i;
    e->n_active[w]++;
}

void sl_radio_leave(struct sl_radio *r, uint32_t i, int w)
{
    struct sl_radio_phone *p = &r->phone[i];
    struct sl_radio_environment *e = &r->environment[p->environment];
    struct sl_radio_list *l = sl_radio_list_of(e, p, w);

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

void sl_radio_change_cell(struct sl_radio *r, uint32_t i, uint32_t to)
{
    struct sl_radio_phone *p = &r->phone[i];
    bool active[SL_RADIO_DIRECTIONS];

    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        active[w] = p->way[w].active;
        sl_radio_leave(r, i, w);
    }
    p->cell = to;
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
        if (active[w])
            sl_radio_join(r, i, w);
}

/* ---- a cell's slot ---- */

static double exponential(uint64_t key, uint64_t i, double mean)
{
    return -log(sl_rng_open(key, i)) * mean;
}

/* Others' phones that are on: each alternates between exponential times on and off, so how many are on is a
 * birth and death process; begins at its long-run mean. */
static void advance_background(const struct sl_radio_config *g, struct sl_radio_cell *c, uint64_t now_ns)
{
    if (g->background == 0)
        return;
    if (c->background_until_ns == 0) {
        double on = g->background_on_s / (g->background_on_s + g->background_off_s);
        for (uint32_t k = 0; k < g->background; k++)
            c->background_on += sl_rng_open(c->background_key, c->background_i++) < on;
        c->background_until_ns = now_ns;
    }
    while (c->background_until_ns <= now_ns) {
        double down = c->background_on / g->background_on_s,
               up = (g->background - c->background_on) / g->background_off_s;
        c->background_until_ns +=
            (uint64_t)(exponential(c->background_key, c->background_i, 1 / (down + up)) * 1e9) + 1;
        if (sl_rng_open(c->background_key, c->background_i + 1) * (down + up) < down)
            c->background_on--;
        else
            c->background_on++;
        c->background_i += 2;
    }
}

static void average(struct sl_radio_way *w, uint64_t tti, double window, double bytes)
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

static double fading_of(const struct sl_radio *r, const struct sl_radio_environment *e,
    struct sl_radio_phone *p, int w, uint64_t now_ns)
{
    struct sl_radio_way *way = &p->way[w];
    struct sl_fading f = e->cfg->fading;

    if (f.branches == 0)
        return 1;
    if (now_ns < way->fading_tti)
        return way->fading;
    f.doppler_hz = p->doppler_hz;
    way->fading = sl_fading_power(
        &f, sl_rng_mix(p->key + (uint64_t)w + 1 + 2 * (uint64_t)p->cell), sl_radio_seconds(r, now_ns));
    /* It holds for a tenth of a Doppler period, the channel's coherence time. */
    way->fading_tti = now_ns + (f.doppler_hz > 0 ? (uint64_t)(0.1e9 / f.doppler_hz) : 1000000000);
    return way->fading;
}

/* A block that errs comes by a later transmission; those behind it wait for it. */
static uint64_t delivery(const struct sl_radio_config *g, struct sl_radio_phone *p, int w, uint64_t now_ns)
{
    struct sl_radio_way *way = &p->way[w];
    uint64_t at = now_ns + g->tti_ns;

    for (int k = 0; k < HARQ_MAX && sl_rng_open(p->key, 1000 + HARQ_MAX * (2 * way->blocks + (uint64_t)w) +
                                                            (uint64_t)k) < g->bler;
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
    struct sl_radio *r, struct sl_radio_environment *e, uint32_t i, int w, double left, uint64_t now_ns)
{
    struct sl_radio_phone *p = &r->phone[i];
    const struct sl_radio_config *g = e->cfg;
    double part, fading = fading_of(r, e, p, w, now_ns), tti_s = (double)g->tti_ns * ns;
    double rate = sl_radio_best_part(g, (enum sl_radio_direction)w, p->gain[w] * fading, left, &part);
    uint32_t bytes = (uint32_t)(rate * tti_s / 8);

    if (bytes == 0)
        return 0;
    uint32_t used = sl_links_grant(r->links[w], i, bytes, delivery(g, p, w, now_ns));
    double took = part * used / bytes;
    sl_links_airtime(r->links[w], i, (uint64_t)((double)g->tti_ns * fmin(1, (double)used / bytes)));
    average(&p->way[w], now_ns / g->tti_ns, g->pf_window_s / tti_s, used);
    if (sl_links_backlog_bytes(r->links[w], i) == 0)
        sl_radio_leave(r, i, w);
    return took;
}

static double metric_of(
    struct sl_radio *r, struct sl_radio_environment *e, uint32_t i, int w, uint64_t now_ns)
{
    struct sl_radio_phone *p = &r->phone[i];
    const struct sl_radio_config *g = e->cfg;
    double part, rate = sl_radio_best_part(
                     g, (enum sl_radio_direction)w, p->gain[w] * fading_of(r, e, p, w, now_ns), 1, &part);

    if (rate <= 0)
        return 0;
    if (g->scheduler == SL_SCHEDULE_MAX)
        return rate;
    average(&p->way[w], now_ns / g->tti_ns, g->pf_window_s / ((double)g->tti_ns * ns), 0);
    return rate / (p->way[w].served + 1);
}

/* Who is to be served, best first. */
static uint32_t rank(
    struct sl_radio *r, struct sl_radio_environment *e, struct sl_radio_cell *c, int w, uint64_t now_ns)
{
    const struct sl_radio_list *l = &c->active[w];
    uint32_t n = 0;

    for (uint32_t k = 0; k < l->n; k++) {
        uint32_t i = e->cfg->scheduler == SL_SCHEDULE_RR ? l->phone[(k + c->turn[w]) % l->n] : l->phone[k];
        struct sl_radio_phone *p = &r->phone[i];
        if (sl_radio_since(p->looked_ns, now_ns) >= e->cfg->measure_ns)
            sl_radio_look(r, i, now_ns);
        if (p->way[w].active && sl_radio_list_of(e, p, w) == l && p->way[w].ready_ns <= now_ns)
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

void sl_radio_serve_cell(struct sl_radio *r, struct sl_radio_environment *e, struct sl_radio_cell *c, int w,
    uint64_t now_ns, uint64_t tti)
{
    double left = 1;

    advance_background(e->cfg, c, now_ns);
    uint32_t n = rank(r, e, c, w, now_ns);
    while (n && left >= 1.0 / SL_RADIO_BAND_PARTS) {
        /* Others' phones win as often as fair sharing among all who are on gives them a turn. */
        if (c->background_on && left >= 1 &&
            sl_rng_open(c->background_key, ~(2 * tti + (uint64_t)w)) * (n + c->background_on) <
                c->background_on)
            return;
        uint32_t i = take_best(r, &n, e->cfg->scheduler == SL_SCHEDULE_RR);
        left -= serve(r, e, i, w, left, now_ns);
    }
}
