#include "trainer/plan/search.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEAR = 2, PASSES_MAX = 12, TRIES = 3, SWAP_TRIES_PER_USER = 2 };
static const double worth = 1e-7; /* of the whole value, of a move: less is not worth its time */

struct search {
    const struct sl_plan_value *v;
    const struct sl_plan_scenario *s;
    uint32_t *server, *alpha;
    uint32_t *list; /* [n_servers][n_users]: who is there */
    uint32_t *count;
    double *value;
    struct sl_plan_prices *prices;
    struct sl_plan_member *member;
    double *at;                /* [n_users][n_servers]: a user's cost at the prices, with its present cut */
    uint32_t *stamp, *version; /* at's: of which prices it is; [n_servers]: the prices', 1 and more */
    uint32_t moves;
};

static void destroy(struct search *s)
{
    free(s->list);
    free(s->count);
    free(s->value);
    free(s->prices);
    free(s->member);
    free(s->at);
    free(s->stamp);
    free(s->version);
}

static int create(struct search *s, const struct sl_plan_value *v, uint32_t *server, uint32_t *alpha)
{
    size_t n = v->scenario->n_users, m = v->scenario->n_servers;

    *s = (struct search){.v = v,
        .s = v->scenario,
        .server = server,
        .alpha = alpha,
        .list = calloc(n * m, sizeof(uint32_t)),
        .count = calloc(m, sizeof(uint32_t)),
        .value = calloc(m, sizeof(double)),
        .prices = calloc(m, sizeof(struct sl_plan_prices)),
        .member = calloc(n + 1, sizeof(struct sl_plan_member)),
        .at = calloc(n * m, sizeof(double)),
        .stamp = calloc(n * m, sizeof(uint32_t)),
        .version = calloc(m, sizeof(uint32_t))};
    if (s->list && s->count && s->value && s->prices && s->member && s->at && s->stamp && s->version)
        return 0;
    destroy(s);
    return -ENOMEM;
}

static uint32_t *list_of(struct search *s, uint32_t m)
{
    return s->list + (size_t)m * s->s->n_users;
}

/* A server's value with `out` left out and `in` let in, with that cut; either may be nobody. Of `enough` or
 * more: any such value. */
static double trial(struct search *s, uint32_t m, uint32_t out, uint32_t in, uint32_t alpha, double enough,
    struct sl_plan_prices *prices)
{
    const uint32_t *list = list_of(s, m);
    uint32_t k = 0;

    for (uint32_t i = 0; i < s->count[m]; i++)
        if (list[i] != out)
            s->member[k++] = (struct sl_plan_member){.user = list[i], .alpha = s->alpha[list[i]], .x = 1};
    if (in != SL_PLAN_NOBODY)
        s->member[k++] = (struct sl_plan_member){.user = in, .alpha = alpha, .x = 1};
    return s->v->server(s->v->ctx, m, s->member, k, enough, prices);
}

static void refresh(struct search *s, uint32_t m)
{
    s->value[m] = trial(s, m, SL_PLAN_NOBODY, SL_PLAN_NOBODY, 0, INFINITY, &s->prices[m]);
}

static void take_out(struct search *s, uint32_t n)
{
    uint32_t m = s->server[n], *list = list_of(s, m);

    for (uint32_t i = 0; i < s->count[m]; i++)
        if (list[i] == n) {
            list[i] = list[--s->count[m]];
            return;
        }
}

static void put_in(struct search *s, uint32_t n, uint32_t m)
{
    list_of(s, m)[s->count[m]++] = n;
    s->server[n] = m;
}

static double total(const struct search *s)
{
    double sum = 0;

    for (uint32_t m = 0; m < s->s->n_servers; m++)
        sum += s->value[m];
    return sum;
}

static double least_gain(const struct search *s)
{
    double sum = total(s);

    return isfinite(sum) ? worth * fabs(sum) : 0;
}

/* What a user's leaving saves at most. A server left empty is free of its constraints, too. */
static double saves(struct search *s, uint32_t n)
{
    uint32_t m = s->server[n];

    return s->count[m] == 1 || !isfinite(s->value[m])
               ? s->value[m]
               : s->v->user(s->v->ctx, m, n, s->alpha[n], &s->prices[m]);
}

struct candidate {
    double gain; /* at most */
    uint32_t server, alpha;
};

static void keep(struct candidate *best, struct candidate c)
{
    for (int i = 0; i < TRIES; i++)
        if (c.gain > best[i].gain) {
            struct candidate swap = best[i];
            best[i] = c;
            c = swap;
        }
}

static void take(struct search *s, uint32_t m, double value, struct sl_plan_prices prices)
{
    s->value[m] = value;
    s->prices[m] = prices;
}

static bool try_cut(struct search *s, uint32_t n, uint32_t alpha)
{
    uint32_t m = s->server[n], before = s->alpha[n];
    struct sl_plan_prices prices;
    double enough = s->value[m] - least_gain(s);

    s->alpha[n] = alpha;
    double now = trial(s, m, SL_PLAN_NOBODY, SL_PLAN_NOBODY, 0, enough, &prices);
    if (now >= enough) {
        s->alpha[n] = before;
        return false;
    }
    take(s, m, now, prices);
    return true;
}

/* saved: what the user's leaving saves at most. */
static bool try_move(struct search *s, uint32_t n, double saved, const struct candidate *c)
{
    uint32_t from = s->server[n], to = c->server;
    struct sl_plan_prices here, there;

    if (to == from)
        return try_cut(s, n, c->alpha);
    double enough = s->value[to] + saved - least_gain(s);
    double with = trial(s, to, SL_PLAN_NOBODY, n, c->alpha, enough, &there);
    if (!isfinite(with) || with >= enough)
        return false;
    enough = s->value[from] + s->value[to] - least_gain(s) - with;
    double without = trial(s, from, n, SL_PLAN_NOBODY, 0, enough, &here);
    if (without >= enough)
        return false;
    take_out(s, n);
    s->alpha[n] = c->alpha;
    put_in(s, n, to);
    take(s, from, without, here);
    take(s, to, with, there);
    return true;
}

static bool move_user(struct search *s, int what, uint32_t n)
{
    struct candidate best[TRIES] = {{0}};
    uint32_t from = s->server[n], least, most;
    double saved = saves(s, n);

    s->v->layers(s->v->ctx, n, &least, &most);
    if (!(what & SL_SEARCH_CUTS))
        least = most = s->alpha[n];
    for (uint32_t m = 0; m < s->s->n_servers; m++) {
        struct candidate c = {.server = m};
        if (m != from && (!(what & SL_SEARCH_SERVERS) || !sl_plan_can_serve(s->s, m, n) ||
                             s->count[m] >= sl_plan_room(s->s, m) || !isfinite(s->value[m])))
            continue;
        uint32_t a = s->alpha[n], from_cut = m == from || a < least + NEAR ? least : a - NEAR,
                 to_cut = m == from || a + NEAR > most ? most : a + NEAR;
        if (from_cut > to_cut) /* a cut outside of what is allowed */
            from_cut = least, to_cut = most;
        double enough = saved - fmax(least_gain(s), best[TRIES - 1].gain);
        c.gain = saved - s->v->best(s->v->ctx, m, n, from_cut, to_cut, &s->prices[m], enough, &c.alpha);
        if (m == from && c.alpha == s->alpha[n])
            continue;
        if (c.gain > least_gain(s))
            keep(best, c);
    }
    for (int i = 0; i < TRIES && best[i].gain > 0; i++)
        if (try_move(s, n, saved, &best[i])) {
            s->moves++;
            return true;
        }
    return false;
}

/* least: what b's server costs at least with a in b's place. */
static bool try_swap(struct search *s, uint32_t a, uint32_t b, double least)
{
    uint32_t ma = s->server[a], mb = s->server[b];
    struct sl_plan_prices at_a, at_b;
    double enough = s->value[ma] + s->value[mb] - least_gain(s);
    double now = trial(s, ma, a, b, s->alpha[b], enough - least, &at_a);

    if (!isfinite(now) || now >= enough - least)
        return false;
    double other = trial(s, mb, b, a, s->alpha[a], enough - now, &at_b);
    if (other >= enough - now)
        return false;
    take_out(s, a);
    take_out(s, b);
    put_in(s, a, mb);
    put_in(s, b, ma);
    take(s, ma, now, at_a);
    take(s, mb, other, at_b);
    s->moves++;
    return true;
}

/* Only what is asked for is computed: most pairs of a user and a server never are before prices change. */
static double cost_at(struct search *s, uint32_t n, uint32_t m)
{
    size_t i = (size_t)n * s->s->n_servers + m;

    if (s->stamp[i] != s->version[m]) {
        s->stamp[i] = s->version[m];
        s->at[i] = sl_plan_can_serve(s->s, m, n) ? s->v->user(s->v->ctx, m, n, s->alpha[n], &s->prices[m])
                                                 : INFINITY;
    }
    return s->at[i];
}

static bool swap_users(struct search *s)
{
    size_t tries = (size_t)SWAP_TRIES_PER_USER * s->s->n_users;
    bool any = false;

    for (uint32_t i = 0; i < s->s->n_servers; i++) /* cuts may have changed since the last time */
        s->version[i]++;
    for (uint32_t a = 0; a < s->s->n_users; a++) {
        if (s->server[a] == SL_PLAN_NOBODY)
            continue;
        for (uint32_t b = a + 1; b < s->s->n_users && tries; b++) {
            uint32_t ma = s->server[a], mb = s->server[b];
            if (mb == SL_PLAN_NOBODY || ma == mb)
                continue;
            if (!(cost_at(s, a, ma) + cost_at(s, b, mb) - cost_at(s, a, mb) - cost_at(s, b, ma) >
                    least_gain(s)))
                continue;
            tries--;
            if (try_swap(s, a, b, s->value[mb] + cost_at(s, a, mb) - cost_at(s, b, mb))) {
                any = true;
                s->version[ma]++;
                s->version[mb]++;
            }
        }
    }
    return any;
}

static void fill(struct search *s)
{
    for (uint32_t n = 0; n < s->s->n_users; n++)
        if (s->server[n] != SL_PLAN_NOBODY)
            list_of(s, s->server[n])[s->count[s->server[n]]++] = n;
    for (uint32_t m = 0; m < s->s->n_servers; m++)
        refresh(s, m);
}

int sl_plan_search(const struct sl_plan_value *v, int what, uint32_t *server, uint32_t *alpha, double *value,
    uint32_t *moves)
{
    struct search s;
    int rc = create(&s, v, server, alpha);

    if (rc)
        return rc;
    fill(&s);
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        bool any = false;
        for (uint32_t n = 0; n < s.s->n_users; n++)
            if (server[n] != SL_PLAN_NOBODY)
                any |= move_user(&s, what, n);
        if (!any && (!(what & SL_SEARCH_SERVERS) || !swap_users(&s)))
            break;
    }
    *value = total(&s);
    if (moves)
        *moves = s.moves;
    destroy(&s);
    return 0;
}

int sl_plan_whole_value(const struct sl_plan_value *v, const uint32_t *server, const uint32_t *alpha,
    double *value, struct sl_plan_choice *choice, struct sl_plan_prices *prices)
{
    uint32_t n = v->scenario->n_users;
    struct sl_plan_member *member = calloc(n, sizeof *member);

    if (!member)
        return -ENOMEM;
    *value = 0;
    for (uint32_t i = 0; choice && i < n; i++)
        choice[i] = (struct sl_plan_choice){.server = SL_PLAN_NOBODY};
    for (uint32_t m = 0; m < v->scenario->n_servers; m++) {
        struct sl_plan_prices p;
        uint32_t k = 0;
        for (uint32_t i = 0; i < n; i++)
            if (server[i] == m)
                member[k++] = (struct sl_plan_member){.user = i, .alpha = alpha[i], .x = 1};
        *value += v->server(v->ctx, m, member, k, INFINITY, &p);
        for (uint32_t i = 0; choice && i < k; i++)
            choice[member[i].user] = (struct sl_plan_choice){alpha[member[i].user], m, member[i].power_w,
                member[i].bandwidth_hz, member[i].f_hz, member[i].f_edge_hz};
        if (prices)
            prices[m] = p;
    }
    free(member);
    return 0;
}
