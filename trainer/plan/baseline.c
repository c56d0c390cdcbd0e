#include "trainer/plan/baseline.h"

#include "trainer/plan/search.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALTERNATIONS_MAX = 50 };

static int assign(struct sl_solver *s)
{
    int rc = sl_assign(s->s, s->cost, s->server);

    return rc > 0 ? -ENOSPC : rc;
}

int sl_baseline_by_rate(struct sl_solver *s)
{
    uint32_t m = s->s->n_servers;

    /* At equal shares of the servers' bandwidths and full power. */
    for (uint32_t n = 0; n < s->s->n_users; n++)
        for (uint32_t k = 0; k < m; k++) {
            double b = s->s->server[k].bandwidth_hz * fmin(1, (double)m / s->s->n_users);
            double snr = sl_plan_gain(s->s, n, k) * s->s->user[n].p_max_w / (s->s->noise_w_per_hz * b);
            s->cost[(size_t)n * m + k] = sl_plan_can_serve(s->s, k, n) ? -b * log2(1 + snr) : INFINITY;
        }
    return assign(s);
}

int sl_baseline_at_random(struct sl_solver *s, uint32_t draw)
{
    uint32_t m = s->s->n_servers;
    uint64_t key = sl_rng_key(s->seed + draw, "plan/association");

    for (uint32_t n = 0; n < s->s->n_users; n++)
        for (uint32_t k = 0; k < m; k++) {
            size_t i = (size_t)n * m + k;
            s->cost[i] =
                sl_plan_can_serve(s->s, k, n) ? (double)(sl_rng_u64(key, i) >> 11) * 0x1p-53 : INFINITY;
        }
    return assign(s);
}

static void at_cut(struct sl_solver *s, bool greatest)
{
    for (uint32_t n = 0; n < s->s->n_users; n++) {
        const struct sl_plan_user *u = &s->s->user[n];
        uint32_t least, most;
        s->v.layers(s->v.ctx, n, &least, &most);
        /* Local-only means all layers although the stability bound is infinite there (rules P3). */
        s->alpha[n] = !greatest ? least : u->max_layers < s->s->layers ? u->max_layers : s->s->layers;
        s->relaxed[n] = s->alpha[n];
    }
}

/* The cut that costs a user least, its shares and clocks being as they are. */
static uint32_t cut_at(const struct sl_solver *s, uint32_t n, struct sl_plan_choice c)
{
    struct sl_plan one = {1, &c};
    struct sl_plan_scenario alone = *s->s;
    struct sl_plan_score score;
    uint32_t least, most, best = c.alpha;
    double best_value = INFINITY;

    alone.n_users = 1;
    alone.user = s->s->user + n;
    alone.gain = s->s->gain + (size_t)n * s->s->n_servers;
    s->v.layers(s->v.ctx, n, &least, &most);
    for (c.alpha = least; c.alpha <= most; c.alpha++) {
        sl_plan_score(&alone, s->objective, &one, NULL, &score);
        if (score.objective < best_value) {
            best_value = score.objective;
            best = c.alpha;
        }
    }
    return best;
}

static int alpha_only(struct sl_solver *s, struct sl_plan_choice *choice)
{
    uint32_t m = s->s->n_servers, *count = calloc(m, sizeof *count);

    if (!count)
        return -ENOMEM;
    for (uint32_t n = 0; n < s->s->n_users; n++)
        if (s->server[n] != SL_PLAN_NOBODY)
            count[s->server[n]]++;
    for (uint32_t n = 0; n < s->s->n_users; n++) {
        uint32_t k = s->server[n];
        choice[n] = (struct sl_plan_choice){.server = SL_PLAN_NOBODY};
        if (k == SL_PLAN_NOBODY)
            continue;
        choice[n] = (struct sl_plan_choice){s->alpha[n], k, s->s->user[n].p_max_w,
            s->s->server[k].bandwidth_hz / count[k], s->s->user[n].f_max_hz,
            s->s->server[k].f_max_hz / count[k]};
        choice[n].alpha = s->alpha[n] = cut_at(s, n, choice[n]);
    }
    free(count);
    return 0;
}

/* Cuts at held shares, shares at held cuts, association at held prices, until nothing falls. */
static int alternate(struct sl_solver *s, struct sl_plan_choice *choice)
{
    uint32_t n = s->s->n_users, m = s->s->n_servers;
    double before = INFINITY;
    int rc = alpha_only(s, choice);

    for (int k = 0; k < ALTERNATIONS_MAX && !rc; k++) {
        rc = sl_plan_whole_value(&s->v, s->server, s->alpha, &s->value, choice, s->prices);
        if (rc || !(s->value < before * (1 - 1e-9)))
            break;
        before = s->value;
        for (uint32_t i = 0; i < n; i++) {
            if (s->server[i] != SL_PLAN_NOBODY)
                s->alpha[i] = cut_at(s, i, choice[i]);
            for (uint32_t j = 0; j < m; j++)
                s->cost[(size_t)i * m + j] = s->server[i] != SL_PLAN_NOBODY && sl_plan_can_serve(s->s, j, i)
                                                 ? s->v.user(s->v.ctx, j, i, s->alpha[i], &s->prices[j])
                                                 : INFINITY;
        }
        memcpy(s->spare, s->server, n * sizeof *s->spare);
        if ((rc = assign(s)))
            break;
        double moved;
        rc = sl_plan_whole_value(&s->v, s->server, s->alpha, &moved, NULL, NULL);
        if (!(moved < before))
            memcpy(s->server, s->spare, n * sizeof *s->spare);
    }
    return rc ? rc : sl_plan_whole_value(&s->v, s->server, s->alpha, &s->value, choice, NULL);
}

int sl_baseline(struct sl_solver *s, enum sl_plan_method method, struct sl_plan_choice *choice)
{
    struct sl_plan_choice *own = choice ? NULL : calloc(s->s->n_users, sizeof *own);
    int rc = choice || own ? 0 : -ENOMEM;

    if (rc)
        return rc;
    choice = choice ? choice : own;
    if (method == SL_PLAN_GREEDY || method == SL_PLAN_EDGE_ONLY)
        rc = sl_baseline_by_rate(s);
    else
        rc = sl_baseline_at_random(s, 0);
    if (!rc && method == SL_PLAN_ALPHA_ONLY) {
        rc = alpha_only(s, choice);
    } else if (!rc && method == SL_PLAN_ALTERNATING) {
        rc = alternate(s, choice);
    } else if (!rc) {
        if (method == SL_PLAN_EDGE_ONLY || method == SL_PLAN_LOCAL_ONLY)
            at_cut(s, method == SL_PLAN_LOCAL_ONLY);
        if (method == SL_PLAN_EDGE_ONLY)
            rc = sl_solver_servers(s);
        else if (method == SL_PLAN_GREEDY || method == SL_PLAN_RANDOM)
            rc = sl_solver_cuts(s);
        if (!rc)
            rc = sl_plan_whole_value(&s->v, s->server, s->alpha, &s->value, choice, NULL);
    }
    free(own);
    return rc;
}
