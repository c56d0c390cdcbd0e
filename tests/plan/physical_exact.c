#include "tests/plan/physical_exact.h"

#include "trainer/plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Variables: a user's clock, time of sending, bandwidth and edge clock, all in logarithms; then the logarithm
 * of the time bound, and the first phase's slack. */
enum { CLOCK, SENDING, BANDWIDTH, EDGE, PER_USER };
enum {
    VARIABLES = PHYSICAL_USERS_MAX * PER_USER + 2,
    CONSTRAINTS = 12 * PHYSICAL_USERS_MAX + 16,
    TERMS = 1024
};
enum { FACTOR = 12, NEWTON_MAX = 60 };
static const double exact_enough = 1e-10, centred = 1e-7;

enum kind { EXP, LINEAR, SHANNON, LOG_SHANNON }; /* of z: e^z; z; (e^x - 1)/x at x = e^z; its logarithm */
struct term {
    enum kind kind;
    double c, k; /* c * kind(k + sum coefficient * variable) */
    int n, at[2];
    double by[2];
};
struct constraint { /* sum of terms <= bound (+ slack) */
    int first, n;
    double bound;
    bool soft;
};
struct program {
    const struct sl_plan_scenario *s;
    int variables, terms, constraints;
    int tau, slack;
    struct term term[TERMS];
    struct constraint objective, constraint[CONSTRAINTS];
    bool looking; /* the first phase: for a point that keeps the soft constraints */
    double y[VARIABLES];
};

static struct term *add(struct program *p, enum kind kind, double c, double k)
{
    struct term *t = &p->term[p->terms++];

    if (p->terms > TERMS)
        abort();
    *t = (struct term){.kind = kind, .c = c, .k = k};
    return t;
}

static struct term *of(struct term *t, int variable, double by)
{
    t->at[t->n] = variable;
    t->by[t->n++] = by;
    return t;
}

static struct constraint *begin(struct program *p, double bound)
{
    struct constraint *c = &p->constraint[p->constraints++];

    if (p->constraints > CONSTRAINTS)
        abort();
    *c = (struct constraint){.first = p->terms, .bound = bound};
    return c;
}

static void end(struct program *p, struct constraint *c)
{
    c->n = p->terms - c->first;
}

static void at_most(struct program *p, int variable, double value)
{
    struct constraint *c = begin(p, log(value));

    of(add(p, LINEAR, 1, 0), variable, 1);
    end(p, c);
}

static void at_least(struct program *p, int variable, double value)
{
    struct constraint *c = begin(p, -log(value));

    of(add(p, LINEAR, 1, 0), variable, -1);
    end(p, c);
}

/* ---- the problem ---- */

struct step {
    double up_bit, device, edge, down_hz, fixed_s, fixed_j, shannon_j;
};

static struct step step_of(const struct sl_plan_scenario *s, uint32_t n, uint32_t m, uint32_t alpha)
{
    const struct sl_plan_user *u = &s->user[n];
    const struct sl_plan_server *v = &s->server[m];
    double g = s->gain[n * s->n_servers + m] / s->noise_w_per_hz;
    double down_bit = u->down_bit + alpha * u->layer_down_bit;
    struct step t = {
        .up_bit = u->up_bit + alpha * u->layer_up_bit,
        .device = alpha * u->layer_flop / (u->cores * u->flop_per_cycle),
        .edge = ((s->layers - alpha) * u->layer_flop + u->head_flop) / (v->cores * v->flop_per_cycle),
        .fixed_s = u->rtt_s + u->wake_s,
    };
    t.shannon_j = t.up_bit * log(2) / g;

    if (u->down_bps > 0) {
        t.fixed_s += down_bit / u->down_bps;
        t.fixed_j = u->rx_w * down_bit / u->down_bps;
    } else {
        t.down_hz = down_bit / log2(1 + g * v->tx_psd_w_per_hz);
    }
    return t;
}

/* times the whole step's time, over the bound `over` (a variable) where that is not below 0 */
static void add_time(struct program *p, uint32_t n, const struct step *t, double times, int over)
{
    int v = (int)n * PER_USER;
    struct term *part[5] = {of(add(p, EXP, times * t->device, 0), v + CLOCK, -1),
        of(add(p, EXP, times, 0), v + SENDING, 1), of(add(p, EXP, times * t->edge, 0), v + EDGE, -1),
        of(add(p, EXP, times * t->down_hz, 0), v + BANDWIDTH, -1), add(p, EXP, times * t->fixed_s, 0)};

    for (int i = 0; i < 5 && over >= 0; i++)
        of(part[i], over, -1);
}

static void add_energy(struct program *p, uint32_t n, const struct step *t, double times)
{
    const struct sl_plan_user *u = &p->s->user[n];
    int v = (int)n * PER_USER;

    of(add(p, EXP, times * u->kappa * t->device, 0), v + CLOCK, 2);
    if (u->up_bps_per_hz > 0)
        of(add(p, EXP, times * u->p_max_w, 0), v + SENDING, 1);
    else
        of(of(add(p, SHANNON, times * t->shannon_j, log(t->up_bit * log(2))), v + SENDING, -1), v + BANDWIDTH,
            -1);
    of(add(p, EXP, times * u->rx_w * t->down_hz, 0), v + BANDWIDTH, -1);
    add(p, EXP, times * t->fixed_j, 0);
}

static void add_user(struct program *p, uint32_t n, uint32_t m, const struct step *t)
{
    const struct sl_plan_scenario *s = p->s;
    const struct sl_plan_user *u = &s->user[n];
    int v = (int)n * PER_USER;
    struct constraint *c;

    at_most(p, v + CLOCK, u->f_max_hz);
    at_least(p, v + CLOCK, 1e-3 * u->f_max_hz);
    at_least(p, v + BANDWIDTH, fmax(s->min_share, 1e-9) * s->server[m].bandwidth_hz);
    at_least(p, v + EDGE, fmax(s->min_share, 1e-9) * s->server[m].f_max_hz);
    if (u->bandwidth_max_hz > 0)
        at_most(p, v + BANDWIDTH, u->bandwidth_max_hz);
    c = begin(p, 0);
    if (u->up_bps_per_hz > 0) {
        of(of(add(p, LINEAR, 1, log(t->up_bit / u->up_bps_per_hz)), v + SENDING, -1), v + BANDWIDTH, -1);
    } else { /* power = shannon_j / time * SHANNON */
        of(add(p, LINEAR, 1, log(t->shannon_j / u->p_max_w)), v + SENDING, -1);
        of(of(add(p, LOG_SHANNON, 1, log(t->up_bit * log(2))), v + SENDING, -1), v + BANDWIDTH, -1);
    }
    end(p, c);
    at_most(p, v + SENDING, 1e6);
    if (p->tau >= 0) {
        c = begin(p, 1);
        add_time(p, n, t, 1, p->tau);
        end(p, c);
    }
    if (u->deadline_s > 0) {
        c = begin(p, 1);
        add_time(p, n, t, 1 / u->deadline_s, -1);
        end(p, c);
        c->soft = true;
    }
    if (u->energy_j > 0) {
        c = begin(p, 1);
        add_energy(p, n, t, 1 / u->energy_j);
        end(p, c);
        c->soft = true;
    }
}

static bool idles(const struct sl_plan_scenario *s)
{
    bool any = false;

    for (uint32_t n = 0; n < s->n_users; n++)
        any |= s->user[n].idle_w > 0;
    return any;
}

static void state(struct program *p, const struct sl_plan_scenario *s, const struct physical_exact *x)
{
    struct sl_plan_scales scales;
    struct step step[PHYSICAL_USERS_MAX];
    double stability = 0;

    memset(p, 0, sizeof *p);
    sl_plan_scales(s, &scales);
    p->s = s;
    p->variables = (int)s->n_users * PER_USER;
    p->tau = s->asynchronous || (s->weights.delay == 0 && !idles(s)) ? -1 : p->variables++;
    for (uint32_t n = 0; n < s->n_users; n++) {
        const struct sl_plan_user *u = &s->user[n];
        step[n] = step_of(s, n, x->server[n], x->alpha[n]);
        double phi = 1 + s->battery_price * (1 - u->soc) / (u->soc - u->soc_min);
        add_energy(p, n, &step[n], s->weights.energy * phi / scales.energy0_j);
        double idling = s->weights.energy * phi * u->idle_w / scales.energy0_j;
        if (s->asynchronous)
            add_time(p, n, &step[n], s->weights.delay / scales.tau0_s + idling, -1);
        else if (p->tau >= 0)
            of(add(p, EXP, idling, 0), p->tau, 1);
        stability += 2 * u->lipschitz * u->lipschitz / (u->samples * (1 - (double)x->alpha[n] / s->layers));
    }
    add(p, EXP, s->weights.stability * stability / scales.stability0, 0);
    if (p->tau >= 0)
        of(add(p, EXP, s->weights.delay / scales.tau0_s, 0), p->tau, 1);
    end(p, &p->objective);
    for (uint32_t n = 0; n < s->n_users; n++)
        add_user(p, n, x->server[n], &step[n]);
    for (uint32_t m = 0; m < s->n_servers; m++)
        for (int what = BANDWIDTH; what <= EDGE; what++) {
            struct constraint *c = begin(p, 1);
            double all = what == EDGE ? s->server[m].f_max_hz : s->server[m].bandwidth_hz;
            for (uint32_t n = 0; n < s->n_users; n++)
                if (x->server[n] == m)
                    of(add(p, EXP, 1 / all, 0), (int)n * PER_USER + what, 1);
            end(p, c);
            if (c->n == 0)
                p->constraints--;
        }
    p->slack = p->variables;
}

/* Shares a little below equal ones, clock and power a little below the greatest: inside of all but the soft.
 */
static void start(struct program *p, const struct physical_exact *x)
{
    const struct sl_plan_scenario *s = p->s;
    double longest = 0;

    for (uint32_t n = 0; n < s->n_users; n++) {
        const struct sl_plan_user *u = &s->user[n];
        struct step t = step_of(s, n, x->server[n], x->alpha[n]);
        const struct sl_plan_server *m = &s->server[x->server[n]];
        double *y = p->y + n * PER_USER, users = 0;
        for (uint32_t i = 0; i < s->n_users; i++)
            users += x->server[i] == x->server[n];
        double b = 0.9 * m->bandwidth_hz / users, g = 0.9 * m->f_max_hz / users, f = 0.9 * u->f_max_hz;
        if (u->bandwidth_max_hz > 0)
            b = fmin(b, 0.9 * u->bandwidth_max_hz);
        double snr = s->gain[n * s->n_servers + x->server[n]] * 0.9 * u->p_max_w / (s->noise_w_per_hz * b);
        double up =
            u->up_bps_per_hz > 0 ? 1.1 * t.up_bit / (b * u->up_bps_per_hz) : t.up_bit / (b * log2(1 + snr));
        y[CLOCK] = log(f);
        y[SENDING] = log(up);
        y[BANDWIDTH] = log(b);
        y[EDGE] = log(g);
        longest = fmax(longest, t.device / f + up + t.edge / g + t.down_hz / b + t.fixed_s);
    }
    if (p->tau >= 0)
        p->y[p->tau] = log(1.2 * longest);
}

/* ---- log barrier ---- */

static void shape(enum kind kind, double z, double *v, double *d1, double *d2)
{
    double x = exp(z), e = exp(x), h, h1, h2;

    if (kind == EXP || kind == LINEAR) {
        *v = kind == EXP ? x : z;
        *d1 = kind == EXP ? x : 1;
        *d2 = kind == EXP ? x : 0;
        return;
    }
    if (x < 0.02) {
        h = 1 + x * (1 / 2. + x * (1 / 6. + x * (1 / 24. + x * (1 / 120. + x / 720))));
        h1 = x * (1 / 2. + x * (2 / 6. + x * (3 / 24. + x * (4 / 120. + x * 5 / 720))));
        h2 = x * (1 / 2. + x * (4 / 6. + x * (9 / 24. + x * (16 / 120. + x * 25 / 720))));
    } else {
        h = (e - 1) / x;
        h1 = e - h;
        h2 = x * e - h1;
    }
    *v = kind == SHANNON ? h : log(h);
    *d1 = kind == SHANNON ? h1 : h1 / h;
    *d2 = kind == SHANNON ? h2 : h2 / h - *d1 * *d1;
}

/* A sum of terms at y, and its gradient where g is not NULL. */
static double sum_of(const struct program *p, const struct constraint *c, const double *y, double *g)
{
    double sum = 0;

    if (g)
        memset(g, 0, VARIABLES * sizeof *g);
    for (int i = c->first; i < c->first + c->n; i++) {
        const struct term *t = &p->term[i];
        double z = t->k, v, d1, d2;
        for (int k = 0; k < t->n; k++)
            z += t->by[k] * y[t->at[k]];
        shape(t->kind, z, &v, &d1, &d2);
        sum += t->c == 0 ? 0 : t->c * v;
        for (int k = 0; k < t->n && g; k++)
            g[t->at[k]] += t->c * d1 * t->by[k];
    }
    if (c->soft && p->looking) {
        sum -= y[p->slack];
        if (g)
            g[p->slack] -= 1;
    }
    return sum;
}

static void add_hessian(const struct program *p, const struct constraint *c, const double *y, double weight,
    double h[VARIABLES][VARIABLES])
{
    for (int i = c->first; i < c->first + c->n; i++) {
        const struct term *t = &p->term[i];
        double z = t->k, v, d1, d2;
        for (int k = 0; k < t->n; k++)
            z += t->by[k] * y[t->at[k]];
        shape(t->kind, z, &v, &d1, &d2);
        for (int a = 0; a < t->n; a++)
            for (int b = 0; b < t->n; b++)
                h[t->at[a]][t->at[b]] += weight * t->c * d2 * t->by[a] * t->by[b];
    }
}

static double goal(const struct program *p, const double *y)
{
    return p->looking ? y[p->slack] : sum_of(p, &p->objective, y, NULL);
}

static double barrier(const struct program *p, const double *y, double t)
{
    double sum = t * goal(p, y);

    for (int i = 0; i < p->constraints; i++) {
        double room = p->constraint[i].bound - sum_of(p, &p->constraint[i], y, NULL);
        if (!(room > 0))
            return INFINITY;
        sum -= log(room);
    }
    return sum;
}

/* Solves h x = g in place of g; false: not positive definite. */
static bool cholesky(double h[VARIABLES][VARIABLES], double *g, int n)
{
    for (int j = 0; j < n; j++) {
        for (int k = 0; k < j; k++)
            for (int i = j; i < n; i++)
                h[i][j] -= h[i][k] * h[j][k];
        if (!(h[j][j] > 0))
            return false;
        double root = sqrt(h[j][j]);
        for (int i = j; i < n; i++)
            h[i][j] /= root;
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            g[i] -= h[i][k] * g[k];
        g[i] /= h[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++)
            g[i] -= h[k][i] * g[k];
        g[i] /= h[i][i];
    }
    return true;
}

/* One of Newton's steps; false: at the centre, to rounding. */
static bool newton(struct program *p, double t, int n)
{
    double h[VARIABLES][VARIABLES] = {{0}}, g[VARIABLES], step[VARIABLES], next[VARIABLES], one[VARIABLES];
    double decrement = 0;

    if (p->looking) {
        memset(g, 0, sizeof g);
        g[p->slack] = t;
    } else {
        sum_of(p, &p->objective, p->y, g);
        for (int i = 0; i < n; i++)
            g[i] *= t;
        add_hessian(p, &p->objective, p->y, t, h);
    }
    for (int k = 0; k < p->constraints; k++) {
        const struct constraint *c = &p->constraint[k];
        double room = c->bound - sum_of(p, c, p->y, one);
        for (int i = 0; i < n; i++) {
            g[i] += one[i] / room;
            for (int j = 0; j < n && one[i] != 0; j++)
                h[i][j] += one[i] * one[j] / (room * room);
        }
        add_hessian(p, c, p->y, 1 / room, h);
    }
    for (int i = 0; i < n; i++) {
        h[i][i] *= 1 + 1e-14;
        step[i] = g[i];
    }
    if (!cholesky(h, step, n))
        return false;
    for (int i = 0; i < n; i++)
        decrement += g[i] * step[i];
    if (!(decrement > centred))
        return false;
    double here = barrier(p, p->y, t);
    for (double share = 1; share > 1e-8; share /= 2) {
        for (int i = 0; i < n; i++)
            next[i] = p->y[i] - share * step[i];
        if (barrier(p, next, t) < here - 0.1 * share * decrement) {
            memcpy(p->y, next, (size_t)n * sizeof *next);
            return true;
        }
    }
    return false;
}

static double minimise(struct program *p, double give_up)
{
    int n = p->variables + p->looking;
    double t = p->constraints / (p->looking ? 1 + fabs(goal(p, p->y)) : fabs(goal(p, p->y)));

    for (;; t *= FACTOR) {
        for (int i = 0; i < NEWTON_MAX && newton(p, t, n); i++)
            if (p->looking && p->y[p->slack] < -1e-9)
                return p->y[p->slack];
        double now = goal(p, p->y), off = p->constraints / t;
        if (p->looking && (now - 2 * off > 0 || off < 1e-12))
            return now;
        if (!p->looking && now - 2 * off > give_up)
            return INFINITY;
        if (!p->looking && off < exact_enough * now)
            return now;
    }
}

/* Into the soft constraints too. */
static bool find_inside(struct program *p)
{
    double most = -1;

    for (int i = 0; i < p->constraints; i++)
        if (p->constraint[i].soft)
            most = fmax(most, sum_of(p, &p->constraint[i], p->y, NULL) - p->constraint[i].bound);
    if (most < 0)
        return true;
    p->looking = true;
    p->y[p->slack] = most + 1;
    most = minimise(p, INFINITY);
    p->looking = false;
    return most < 0;
}

double physical_exact_inner(const struct sl_plan_scenario *s, double give_up, struct physical_exact *x)
{
    static struct program p;

    x->objective = INFINITY;
    state(&p, s, x);
    start(&p, x);
    if (!find_inside(&p))
        return INFINITY;
    x->objective = minimise(&p, give_up);
    for (uint32_t n = 0; n < s->n_users; n++) {
        const double *y = p.y + n * PER_USER;
        const struct sl_plan_user *u = &s->user[n];
        double a = s->gain[n * s->n_servers + x->server[n]] / s->noise_w_per_hz;
        double t = exp(y[SENDING]), b = exp(y[BANDWIDTH]);
        x->f_hz[n] = exp(y[CLOCK]);
        x->bandwidth_hz[n] = b;
        x->f_edge_hz[n] = exp(y[EDGE]);
        x->power_w[n] = u->up_bps_per_hz > 0
                            ? u->p_max_w
                            : b / a * expm1((u->up_bit + x->alpha[n] * u->layer_up_bit) * log(2) / (t * b));
    }
    return x->objective;
}

void physical_exact_optimum(const struct sl_plan_scenario *s, struct physical_exact *best)
{
    uint64_t associations = 1, cuts = 1;

    best->objective = INFINITY;
    for (uint32_t n = 0; n < s->n_users; n++) {
        associations *= s->n_servers;
        cuts *= s->layers - 1;
    }
    for (uint64_t i = 0; i < associations * cuts; i++) {
        struct physical_exact x;
        uint64_t a = i / cuts, c = i % cuts;
        bool allowed = true;
        for (uint32_t n = 0; n < s->n_users; n++) {
            const struct sl_plan_user *u = &s->user[n];
            x.server[n] = (uint32_t)(a % s->n_servers);
            x.alpha[n] = 1 + (uint32_t)(c % (s->layers - 1));
            a /= s->n_servers;
            c /= s->layers - 1;
            allowed &= x.alpha[n] >= u->min_layers && x.alpha[n] <= u->max_layers;
        }
        if (allowed && physical_exact_inner(s, best->objective, &x) < best->objective)
            *best = x;
    }
}
