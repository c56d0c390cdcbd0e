#include "trainer/plan/solve.h"

#include "trainer/plan/baseline.h"
#include "trainer/plan/physical_solve.h"
#include "trainer/plan/search.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_ROUNDS = 3,
    RELAX_MAX = 500,
    RANDOM_STARTS = 1,
    FEW_USERS = 16,
    RANDOM_STARTS_OF_FEW = 24,
    WARM_SEARCHES = 1
};

const char *sl_plan_method_name(enum sl_plan_method method)
{
    static const char *const names[SL_PLAN_METHOD_COUNT] = {"proposed", "alternating", "alpha_only",
        "resources_only", "greedy", "random", "edge_only", "local_only"};

    return method < SL_PLAN_METHOD_COUNT ? names[method] : "unknown";
}

void sl_solver_note(struct sl_solver *s, double value)
{
    if (s->now.iterations < SL_PLAN_TRACE_MAX)
        s->now.trace[s->now.iterations] = value;
    s->now.iterations++;
}

/* The published first block: cuts relaxed and clocks, on every server. Traces are added up as if all servers
 * iterated together; one that has ended keeps its last value. */
static void relax(struct sl_solver *s)
{
    double sum[RELAX_MAX] = {0}, trace[RELAX_MAX];
    uint32_t longest = 0;

    s->now.kkt_residual = 0;
    for (uint32_t m = 0; m < s->s->n_servers; m++) {
        uint32_t n = 0, k;
        double residual;
        for (uint32_t i = 0; i < s->s->n_users; i++)
            if (s->server[i] == m)
                s->member[n++] = (struct sl_plan_member){.user = i, .alpha = s->relaxed[i], .x = 1};
        if (n == 0)
            continue;
        k = sl_printed_relax(s->printed, m, s->member, n, trace, RELAX_MAX, &residual);
        for (uint32_t i = 0; i < n; i++)
            s->relaxed[s->member[i].user] = s->member[i].alpha;
        for (uint32_t i = 0; i < RELAX_MAX; i++)
            sum[i] += trace[i < k ? i : k - 1];
        longest = k > longest ? k : longest;
        s->now.kkt_residual = fmax(s->now.kkt_residual, residual);
    }
    for (uint32_t i = 0; i < longest; i++)
        sl_solver_note(s, sum[i]);
}

static void round_cuts(struct sl_solver *s)
{
    for (uint32_t n = 0; n < s->s->n_users; n++) {
        uint32_t least, most;
        s->v.layers(s->v.ctx, n, &least, &most);
        double a = nearbyint(s->relaxed[n]);
        s->alpha[n] = a < least ? least : a > most ? most : (uint32_t)a;
    }
}

void sl_solver_middle(struct sl_solver *s)
{
    for (uint32_t n = 0; n < s->s->n_users; n++) {
        uint32_t least, most, middle = s->s->layers / 2;
        s->v.layers(s->v.ctx, n, &least, &most);
        s->alpha[n] = middle < least ? least : middle > most ? most : middle;
        s->relaxed[n] = s->alpha[n];
    }
}

/* Cuts for an association that stays: relaxed, rounded, repaired. */
int sl_solver_cuts(struct sl_solver *s)
{
    relax(s);
    round_cuts(s);
    return sl_plan_search(&s->v, SL_SEARCH_CUTS, s->server, s->alpha, &s->value, &s->now.moves);
}

/* A better association for cuts that stay. Moves and swaps from the greedy one end within a ten-thousandth of
 * what more starts find; from the relaxed one they end in much poorer plans where servers differ. */
int sl_solver_servers(struct sl_solver *s)
{
    return sl_plan_search(&s->v, SL_SEARCH_SERVERS, s->server, s->alpha, &s->value, &s->now.moves);
}

enum first { FROM_NOBODY, FROM_HERE, CUTS_HERE }; /* the last: leaves the association to the moves */

/* Both blocks in turn from the association in s->server, then whole cuts and moves. */
static int both(struct sl_solver *s, enum first first)
{
    uint32_t n = s->s->n_users;
    int rc = 0;

    if (first == FROM_NOBODY)
        rc = sl_associate(&s->v, s->relaxed, false, s->server, NULL);
    for (int round = 0; round < BLOCK_ROUNDS && !rc; round++) {
        relax(s);
        memcpy(s->spare, s->server, n * sizeof *s->spare);
        if (first == CUTS_HERE || round == BLOCK_ROUNDS - 1)
            break;
        rc = sl_associate(&s->v, s->relaxed, true, s->server, NULL);
        if (!rc && !memcmp(s->spare, s->server, n * sizeof *s->spare))
            break;
    }
    if (rc)
        return rc;
    round_cuts(s);
    return sl_plan_search(
        &s->v, SL_SEARCH_SERVERS | SL_SEARCH_CUTS, s->server, s->alpha, &s->value, &s->now.moves);
}

void sl_solver_begin(struct sl_solver *s)
{
    memset(&s->now, 0, sizeof s->now);
    s->now.kkt_residual = s->now.lower_bound = NAN;
    memcpy(s->server, s->who, s->s->n_users * sizeof *s->server);
    sl_solver_middle(s);
}

void sl_solver_keep(struct sl_solver *s)
{
    s->starts++;
    if (!(s->value < s->best))
        return;
    s->best = s->value;
    if (s->now.iterations == 0) { /* moves alone: what is told of relaxed cuts is an earlier start's */
        s->report.moves = s->now.moves;
    } else {
        s->report = s->now;
    }
    memcpy(s->best_server, s->server, s->s->n_users * sizeof *s->server);
    memcpy(s->best_alpha, s->alpha, s->s->n_users * sizeof *s->alpha);
}

static int moves_and_swaps(struct sl_solver *s)
{
    uint32_t moves = s->now.moves;
    int rc = sl_plan_search(
        &s->v, SL_SEARCH_SERVERS | SL_SEARCH_CUTS, s->server, s->alpha, &s->value, &s->now.moves);

    s->now.moves += moves;
    return rc;
}

/* Every comparison's association and cuts count as they are, so that none of them is better; the best of them
 * are starts of moves and swaps. */
static int from_baselines(struct sl_solver *s)
{
    static const enum sl_plan_method warm[] = {SL_PLAN_GREEDY, SL_PLAN_RANDOM, SL_PLAN_ALTERNATING,
        SL_PLAN_ALPHA_ONLY, SL_PLAN_RESOURCES_ONLY, SL_PLAN_EDGE_ONLY, SL_PLAN_LOCAL_ONLY};
    enum { WARM = sizeof warm / sizeof *warm };
    uint32_t n = s->s->n_users, *kept = malloc((size_t)n * WARM * 2 * sizeof *kept);
    double value[WARM];
    int rc = kept ? 0 : -ENOMEM;

    for (size_t i = 0; i < WARM && !rc; i++) {
        sl_solver_begin(s);
        rc = sl_baseline(s, warm[i], NULL);
        if (!rc)
            rc = sl_plan_whole_value(&s->v, s->server, s->alpha, &s->value, NULL, NULL);
        if (rc)
            break;
        value[i] = s->value;
        memcpy(kept + 2 * i * n, s->server, n * sizeof *kept);
        memcpy(kept + (2 * i + 1) * n, s->alpha, n * sizeof *kept);
        sl_solver_keep(s);
    }
    for (size_t k = 0; k < WARM_SEARCHES && !rc; k++) {
        size_t least = 0;
        for (size_t i = 1; i < WARM; i++)
            least = value[i] < value[least] ? i : least;
        value[least] = INFINITY;
        sl_solver_begin(s);
        memcpy(s->server, kept + 2 * least * n, n * sizeof *kept);
        memcpy(s->alpha, kept + (2 * least + 1) * n, n * sizeof *kept);
        rc = moves_and_swaps(s);
        if (!rc)
            sl_solver_keep(s);
    }
    free(kept);
    return rc;
}

static int proposed(struct sl_solver *s)
{
    /* Where users are few a move of one changes much, and a search ends in a poor plan more often. */
    int rc = 0, starts = 2 + (s->s->n_users <= FEW_USERS ? RANDOM_STARTS_OF_FEW : RANDOM_STARTS);

    for (int start = 0; start < starts && !rc; start++) {
        sl_solver_begin(s);
        if (start == 1)
            rc = sl_baseline_by_rate(s);
        else if (start > 1)
            rc = sl_baseline_at_random(s, (uint32_t)start);
        if (!rc)
            rc = both(s, start == 0 ? FROM_NOBODY : start == 1 ? FROM_HERE : CUTS_HERE);
        if (!rc)
            sl_solver_keep(s);
    }
    return rc ? rc : from_baselines(s);
}

/* Who takes part: those without a fault, as many as there is room for. */
static int admit(struct sl_solver *s)
{
    uint32_t n = s->s->n_users, m = s->s->n_servers;

    for (uint32_t i = 0; i < n; i++) {
        bool cannot = sl_plan_user_fault(s->s, s->objective, i) ||
                      (s->physical && sl_physical_user_fault(s->physical, i));
        s->who[i] = cannot ? SL_PLAN_NOBODY : 0;
        for (uint32_t k = 0; k < m; k++)
            s->cost[(size_t)i * m + k] =
                s->who[i] == 0 && sl_plan_can_serve(s->s, k, i) ? -log(sl_plan_gain(s->s, i, k)) : INFINITY;
    }
    int rc = sl_assign(s->s, s->cost, s->who);
    for (uint32_t i = 0; i < n; i++)
        s->who[i] = s->who[i] == SL_PLAN_NOBODY ? SL_PLAN_NOBODY : 0;
    return rc < 0 ? rc : 0;
}

/* Weak duality: for any prices >= 0 of a server's sums, the sum of the least costs at those prices less what
 * the prices charge for all there is bounds the optimum from below. The published equality is a bound on the
 * sum here, which can only lower the bound. The better of the plan's own prices and none. */
static double lower_bound(struct sl_solver *s)
{
    uint32_t n = s->s->n_users, m = s->s->n_servers;
    double best = -INFINITY, value;

    if (sl_plan_whole_value(&s->v, s->best_server, s->best_alpha, &value, NULL, s->prices))
        return NAN;
    for (uint32_t k = 0; k < m; k++) {
        s->prices[k].bandwidth = fmax(s->prices[k].bandwidth, 0);
        s->prices[k].clock = fmax(s->prices[k].clock, 0);
    }
    for (int free_of_charge = 0; free_of_charge < 2; free_of_charge++) {
        double sum = 0;
        for (uint32_t k = 0; k < m; k++) {
            if (free_of_charge)
                s->prices[k] = (struct sl_plan_prices){0};
            if (sl_plan_room(s->s, k))
                sum -= s->prices[k].bandwidth * s->s->server[k].bandwidth_hz +
                       s->prices[k].clock * s->s->server[k].f_max_hz;
        }
        for (uint32_t i = 0; i < n; i++) {
            uint32_t least, most, alpha;
            double cheapest = INFINITY;
            if (s->who[i] == SL_PLAN_NOBODY)
                continue;
            s->v.layers(s->v.ctx, i, &least, &most);
            for (uint32_t k = 0; k < m; k++)
                if (sl_plan_can_serve(s->s, k, i))
                    cheapest = fmin(
                        cheapest, s->v.best(s->v.ctx, k, i, least, most, &s->prices[k], INFINITY, &alpha));
            sum += cheapest;
        }
        best = fmax(best, sum);
    }
    return best;
}

static void destroy(struct sl_solver *s)
{
    sl_printed_free(s->printed);
    sl_physical_free(s->physical);
    free(s->who);
    free(s->server);
    free(s->alpha);
    free(s->relaxed);
    free(s->member);
    free(s->cost);
    free(s->prices);
    free(s->spare);
    free(s->best_server);
    free(s->best_alpha);
}

static int create(struct sl_solver *s, const struct sl_plan_scenario *scenario,
    enum sl_plan_objective objective, uint64_t seed)
{
    size_t n = scenario->n_users, m = scenario->n_servers;

    *s = (struct sl_solver){.s = scenario,
        .objective = objective,
        .seed = seed,
        .printed = objective == SL_PLAN_PRINTED ? sl_printed_create(scenario) : NULL,
        .physical = objective == SL_PLAN_PHYSICAL ? sl_physical_create(scenario) : NULL,
        .who = calloc(n, sizeof(uint32_t)),
        .server = calloc(n, sizeof(uint32_t)),
        .alpha = calloc(n, sizeof(uint32_t)),
        .relaxed = calloc(n, sizeof(double)),
        .member = calloc(n, sizeof(struct sl_plan_member)),
        .cost = calloc(n * m, sizeof(double)),
        .prices = calloc(m, sizeof(struct sl_plan_prices)),
        .spare = calloc(n, sizeof(uint32_t)),
        .best_server = calloc(n, sizeof(uint32_t)),
        .best_alpha = calloc(n, sizeof(uint32_t)),
        .best = INFINITY};
    if (!(s->printed || s->physical) || !s->who || !s->server || !s->alpha || !s->relaxed || !s->member ||
        !s->cost || !s->prices || !s->spare || !s->best_server || !s->best_alpha)
        return -ENOMEM;
    s->v = s->physical ? sl_physical_value(s->physical) : sl_printed_value(s->printed);
    return 0;
}

int sl_plan_solve(const struct sl_plan_scenario *scenario, enum sl_plan_objective objective,
    enum sl_plan_method method, uint64_t seed, struct sl_plan *plan, struct sl_plan_report *report)
{
    struct sl_solver s;
    double value;

    if (sl_plan_scenario_fault(scenario, objective) || plan->n != scenario->n_users)
        return -EINVAL;
    int rc = create(&s, scenario, objective, seed);
    if (!rc)
        rc = admit(&s);
    if (!rc && s.physical) {
        rc = sl_physical_solve(&s, method, plan->user);
    } else if (!rc && method == SL_PLAN_PROPOSED) {
        rc = proposed(&s);
        if (!rc)
            rc = sl_plan_whole_value(&s.v, s.best_server, s.best_alpha, &value, plan->user, NULL);
    } else if (!rc) {
        sl_solver_begin(&s);
        rc = sl_baseline(&s, method, plan->user);
        s.value = INFINITY;
        s.report = s.now;
        s.starts = 1;
    }
    if (!rc) {
        *report = s.report;
        report->starts = s.starts;
        if (!s.physical)
            report->lower_bound = method == SL_PLAN_PROPOSED ? lower_bound(&s) : NAN;
        sl_plan_score(scenario, objective, plan, NULL, &report->score);
        report->unplanned = scenario->n_users - report->score.planned;
    }
    destroy(&s);
    return rc;
}

const char *sl_plan_why_not(const struct sl_plan_scenario *s, enum sl_plan_objective o, uint32_t n)
{
    const char *why = sl_plan_user_fault(s, o, n);

    if (!why && o == SL_PLAN_PHYSICAL) {
        struct sl_physical *p = sl_physical_create(s);
        if (p)
            why = sl_physical_user_fault(p, n);
        sl_physical_free(p);
    }
    if (why)
        return why;
    return s->user[n].deadline_s > 0 || s->user[n].energy_j > 0
               ? "beside the others no server has room for it, or its deadline or energy bound cannot be met"
               : "no server that it reaches has room for it";
}
