#include "trainer/plan/profile.h"

#include <math.h>
#include <string.h>

/* A first plan from two steps is rougher than from six, and seconds earlier; re-planning mends it. */
static const uint64_t ready_steps = 2;
/* Half-lives: of links and waiting, of what heat decides, and of what only the chip decides. */
static const double window_steps = 8, heat_steps = 3, chip_steps = 200;
static const double most = 1e15;  /* of any number that a device tells */
static const double slack_s = 10; /* beats that an outage held up come all at once */
static const double most_w = 1000, most_steps_s = 1e4, most_rtt_s = 60; /* of a device */
static const double mixed = 0.05; /* weight of an interval in which the clock changed */
static const double same_clock = 1e-6, hz_per_ghz = 1e9;
static const double sample_off = 5,
                    sample_from_steps = 4; /* a step's own time so many times off the sums' is not believed */
static const double far_below_cap = 0.7;   /* then it is heat, not the plan, that holds the clock down */
static const double ceiling_rise =
    0.02; /* a beat, towards the full clock, while the plan holds the clock down */

/* Least figures of a user, where a device says that something costs nothing: a scenario wants them above 0.
 */
static const double least_s = 1e-6, least_w = 1e-6;
/* Of the power of computing, where idling is told as nearly all of it. */
static const double least_added = 0.05;
static const double least_bps = 1;    /* of a rate told */
static const double clock_range = 16; /* between two clocks of a chip */
static const double beats_most = 64;  /* of the window's own, while no step is finished */

static bool sane(double x)
{
    return x >= 0 && x <= most; /* false for what is no number */
}

static bool beat_is_sane(const struct sl_plan_beat *b)
{
    const double x[] = {b->at_s, b->step_computed_s, b->computed_s, b->turn_s, b->held_s, b->clock_hz,
        b->clock_max_hz, b->clock_cap_hz, b->battery, b->battery_floor, b->rate_up_bps, b->rate_down_bps,
        b->rate_cap_bps, b->rtt_s, b->wake_time_s, b->energy_compute_j, b->energy_send_j, b->energy_receive_j,
        b->energy_tail_j, b->energy_idle_j, b->energy_promotion_j};

    for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++)
        if (!sane(x[i]))
            return false;
    return b->cut > 0 && b->steps < (uint64_t)most && b->rtt_s <= most_rtt_s;
}

static struct sl_profile_sums sums_of(const struct sl_plan_beat *b)
{
    return (struct sl_profile_sums){.at_s = b->at_s,
        .computed_s = b->computed_s,
        .turn_s = b->turn_s,
        .held_s = b->held_s,
        .clock_hz = b->clock_hz,
        .compute_j = b->energy_compute_j,
        .send_j = b->energy_send_j,
        .receive_j = b->energy_receive_j,
        .tail_j = b->energy_tail_j,
        .idle_j = b->energy_idle_j,
        .promotion_j = b->energy_promotion_j,
        .steps = b->steps,
        .cut = b->cut};
}

/* Can the device have got from `a` to `b`? */
static bool follows(const struct sl_profile_sums *a, const struct sl_profile_sums *b)
{
    double s = b->at_s - a->at_s + slack_s;
    const double joules[] = {b->compute_j - a->compute_j, b->send_j - a->send_j, b->receive_j - a->receive_j,
        b->tail_j - a->tail_j, b->idle_j - a->idle_j, b->promotion_j - a->promotion_j};

    if (b->clock_hz > clock_range * a->clock_hz || a->clock_hz > clock_range * b->clock_hz)
        return false;
    if (b->at_s < a->at_s || b->steps < a->steps || (double)(b->steps - a->steps) > most_steps_s * s)
        return false;
    if (b->computed_s < a->computed_s || b->computed_s - a->computed_s > s || b->turn_s < a->turn_s ||
        b->held_s < a->held_s)
        return false;
    for (size_t i = 0; i < sizeof(joules) / sizeof(joules[0]); i++)
        if (joules[i] < 0 || joules[i] > most_w * s)
            return false;
    return true;
}

static bool is_same_clock(double a, double b)
{
    return fabs(a - b) <= same_clock * a;
}

/* Power against clock, from what computing took since the beat before. */
static void learn_power(struct sl_plan_profile *p, const struct sl_profile_sums *b)
{
    const struct sl_profile_sums *a = &p->last;
    double weight = is_same_clock(a->clock_hz, b->clock_hz) ? 1 : mixed;
    double f = a->clock_hz / hz_per_ghz, g = b->clock_hz / hz_per_ghz;
    double x = 0.5 * (f * f * f + g * g * g) * (b->computed_s - a->computed_s);

    p->kappa_xy += weight * x * (b->compute_j - a->compute_j);
    p->kappa_xx += weight * x * x;
}

/* Where heat lets the clock go. The plan's own bound says nothing about that: then the old knowledge stands,
 * and is slowly forgotten in favour of the full clock. */
static void learn_ceiling(struct sl_plan_profile *p, const struct sl_plan_beat *b)
{
    double full = b->clock_max_hz > 0 ? b->clock_max_hz : b->clock_hz;
    bool held = b->clock_cap_hz > 0 && b->clock_hz <= b->clock_cap_hz &&
                b->clock_hz > far_below_cap * b->clock_cap_hz && b->clock_cap_hz < full;

    if (held && p->ceiling_hz > 0)
        p->ceiling_hz += ceiling_rise * (full - p->ceiling_hz);
    else if (held || p->ceiling_hz <= 0)
        p->ceiling_hz = held ? full : b->clock_hz;
    else
        p->ceiling_hz += (1 - exp2(-1 / window_steps)) * (b->clock_hz - p->ceiling_hz);
}

static void learn_beat(struct sl_plan_profile *p, const struct sl_plan_beat *b)
{
    struct sl_profile_window *w = &p->window;

    if (b->rate_up_bps >= least_bps) {
        w->beats_up++;
        w->inverse_up += 1 / b->rate_up_bps;
    }
    if (b->rate_down_bps >= least_bps) {
        w->beats_down++;
        w->inverse_down += 1 / b->rate_down_bps;
    }
    if (w->beats > beats_most) {
        double *const x[] = {&w->beats, &w->rtt_s, &w->clock_hz, &w->beats_up, &w->inverse_up, &w->beats_down,
            &w->inverse_down};
        for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++)
            *x[i] *= 0.5;
    }
    w->beats++;
    w->rtt_s += b->rtt_s;
    w->clock_hz += b->clock_hz;
    p->clock_max_hz = b->clock_max_hz;
    p->rate_cap_bps = b->rate_cap_bps;
    p->battery = b->battery;
    p->battery_floor = b->battery_floor;
    if (b->clock_hz > 0)
        learn_ceiling(p, b);
}

static void fade(double *x, size_t n, double keep)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= keep;
}

static void forget(struct sl_plan_profile *p, double steps)
{
    double keep_chip = exp2(-steps / chip_steps);

    _Static_assert(
        sizeof(p->window) % sizeof(double) == 0 && sizeof(p->recent) % sizeof(double) == 0, "doubles alone");
    fade((double *)&p->window, sizeof(p->window) / sizeof(double), exp2(-steps / window_steps));
    fade((double *)&p->recent, sizeof(p->recent) / sizeof(double), exp2(-steps / heat_steps));
    p->cycles_xx *= keep_chip;
    p->cycles_xy *= keep_chip;
    p->kappa_xx *= keep_chip;
    p->kappa_xy *= keep_chip;
}

/* What a step of the interval computed: the device's own figure, unless its sums speak against it. Those of
 * one interval cannot: a beat that comes late has much of the next step's computing in it. */
static double step_computed(
    const struct sl_profile_window *w, const struct sl_plan_beat *b, double steps, double computed_s)
{
    double layers = w->layers + steps * b->cut, mean = (w->computing_s + computed_s) / layers * b->cut;
    double said = b->step_computed_s;

    if (said <= 0)
        return computed_s / steps;
    if (w->steps + steps >= sample_from_steps && (said > sample_off * mean || said < mean / sample_off))
        return mean;
    return said;
}

/* From the anchor to a beat with steps more than its last one. */
static void learn_interval(
    struct sl_plan_profile *p, const struct sl_plan_beat *b, const struct sl_profile_sums *now)
{
    const struct sl_profile_sums *a = &p->anchor;
    struct sl_profile_window *w = &p->window;
    double n = (double)(now->steps - a->steps), wall = now->at_s - a->at_s;
    double link = now->turn_s - a->turn_s - (now->held_s - a->held_s);
    double computed = step_computed(w, b, n, now->computed_s - a->computed_s);
    double clock = p->interval_hz / p->interval;

    if (now->cut != a->cut || computed <= 0 || now->turn_s - a->turn_s > wall + slack_s)
        return;
    forget(p, n);
    w->steps += n;
    w->layers += n * now->cut;
    w->computed_s += n * computed;
    w->link_s +=
        link; /* may be below 0 in one interval: the edge has booked a step that the device has not */
    w->wall_s += wall;
    w->computing_s += now->computed_s - a->computed_s;
    w->send_j += now->send_j - a->send_j;
    w->receive_j += now->receive_j - a->receive_j;
    w->tail_j += now->tail_j - a->tail_j;
    w->idle_j += now->idle_j - a->idle_j;
    w->promotion_j += now->promotion_j - a->promotion_j;
    p->recent.layers += n * now->cut;
    p->recent.computed_s += n * computed;
    p->recent.computing_s += now->computed_s - a->computed_s;
    p->recent.compute_j += now->compute_j - a->compute_j;
    p->steps += now->steps - a->steps;
    if (clock > 0) {
        double x = now->cut / (clock / hz_per_ghz);
        double weight = is_same_clock(clock, a->clock_hz) && is_same_clock(clock, now->clock_hz) ? 1 : mixed;
        p->cycles_xy += weight * x * computed;
        p->cycles_xx += weight * x * x;
    }
}

void sl_profile_rest(struct sl_plan_profile *p)
{
    p->has_last = p->has_anchor = p->has_suspect = false;
}

static void begin_interval(struct sl_plan_profile *p, const struct sl_profile_sums *now)
{
    p->anchor = *now;
    p->has_anchor = true;
    p->interval = 0;
    p->interval_hz = 0;
}

static void refuse(struct sl_plan_profile *p, const struct sl_profile_sums *now)
{
    p->refused++;
    if (p->has_suspect && follows(&p->suspect, now)) { /* two that agree: the device began anew */
        p->last = *now;
        p->has_anchor = p->has_suspect = false;
        p->cycles_xy = p->cycles_xx = p->kappa_xy = p->kappa_xx = p->ceiling_hz = 0;
        return;
    }
    p->suspect = *now;
    p->has_suspect = true;
}

void sl_profile_beat(struct sl_plan_profile *p, const struct sl_plan_beat *b)
{
    if (!beat_is_sane(b)) {
        p->refused++;
        return;
    }
    struct sl_profile_sums now = sums_of(b);
    if (p->has_last && !follows(&p->last, &now)) {
        refuse(p, &now);
        return;
    }
    p->has_suspect = false;
    learn_beat(p, b);
    p->interval++;
    p->interval_hz += b->clock_hz;
    if (p->has_last) {
        learn_power(p, &now);
        if (now.steps > p->last.steps) {
            if (p->has_anchor)
                learn_interval(p, b, &now);
            begin_interval(p, &now);
        }
    }
    p->last = now;
    p->has_last = true;
}

bool sl_profile_ready(const struct sl_plan_profile *p)
{
    return p->steps >= ready_steps && p->recent.layers > 0 && p->recent.computed_s > 0;
}

static double at_least(double x, double least)
{
    return x > least ? x : least;
}

static double ratio(double a, double b)
{
    double r = b > 0 && a > 0 ? a / b : 0;
    return isfinite(r) ? r : 0;
}

/* The time on the way is measured as a whole. How much of it is which direction follows from the rates told
 * and the sizes. */
static void fit_link(
    const struct sl_plan_profile *p, const struct sl_profile_work *work, struct sl_profile_fit *f)
{
    const struct sl_profile_window *w = &p->window;
    double told_bps = ratio(w->beats_up, w->inverse_up);
    bool paced = p->rate_cap_bps > 0 && p->rate_cap_bps < told_bps;
    double up = work->up_bit * ratio(w->inverse_up, w->beats_up);
    double down = work->down_bit * ratio(w->inverse_down, w->beats_down);
    double carried;

    f->rtt_s = ratio(w->rtt_s, w->beats);
    f->link_s = ratio(w->link_s, w->steps);
    if (f->rtt_s > 0.5 * f->link_s)
        f->rtt_s = 0.5 * f->link_s;
    carried = f->link_s - f->rtt_s;
    if (!(up > 0) || !(down > 0)) {
        up = work->up_bit;
        down = work->down_bit;
    }
    if (paced)
        up = work->up_bit / p->rate_cap_bps;
    f->up_s = carried * ratio(up, up + down);
    f->down_s = carried - f->up_s;
    f->up_bps = paced ? told_bps : work->up_bit / at_least(f->up_s, least_s);
}

void sl_profile_fit(
    const struct sl_plan_profile *p, const struct sl_profile_work *work, struct sl_profile_fit *f)
{
    const struct sl_profile_window *w = &p->window;

    memset(f, 0, sizeof(*f));
    if (!sl_profile_ready(p))
        return;
    fit_link(p, work, f);
    f->layer_s = ratio(p->recent.computed_s, p->recent.layers);
    f->clock_hz = ratio(w->clock_hz, w->beats);
    f->ceiling_hz = p->ceiling_hz;
    f->layer_cycles = ratio(p->cycles_xy, p->cycles_xx) * hz_per_ghz;
    f->kappa = ratio(p->kappa_xy, p->kappa_xx) / (hz_per_ghz * hz_per_ghz * hz_per_ghz);
    f->compute_w = ratio(p->recent.compute_j, p->recent.computing_s);
    f->send_j = ratio(w->send_j, w->steps);
    f->receive_j = ratio(w->receive_j, w->steps);
    f->promotion_j = ratio(w->promotion_j, w->steps);
    f->tail_w = ratio(w->tail_j, w->wall_s);
    f->idle_w = ratio(w->idle_j, w->wall_s - w->computing_s);
    f->period_s = ratio(w->wall_s, w->steps);
}

void sl_profile_predict(const struct sl_plan_profile *p, const struct sl_profile_work *work, uint32_t cut,
    double *step_s, double *energy_j)
{
    struct sl_profile_fit f;
    double compute, now, period;

    sl_profile_fit(p, work, &f);
    compute = cut * f.layer_s;
    *step_s = compute + f.link_s;
    now = ratio(p->window.computed_s, p->window.steps) + f.link_s;
    period = f.period_s > now ? f.period_s - now + *step_s : *step_s;
    *energy_j = f.compute_w * compute + f.send_j + f.receive_j + f.promotion_j + f.tail_w * period +
                f.idle_w * (period - compute);
}

void sl_profile_user(
    const struct sl_plan_profile *p, const struct sl_profile_work *work, struct sl_plan_user *u)
{
    struct sl_profile_fit f;

    if (!sl_profile_ready(p))
        return;
    sl_profile_fit(p, work, &f);
    u->layer_flop = work->layer_flop;
    u->cores = 1;
    /* Without a clock told, one of 1 Hz does what was measured: only its full use can be planned then. */
    u->f_max_hz = f.ceiling_hz > 0 && f.layer_cycles > 0 ? f.ceiling_hz : 1;
    u->flop_per_cycle =
        ratio(work->layer_flop, f.layer_cycles > 0 && f.ceiling_hz > 0 ? f.layer_cycles : f.layer_s);
    u->kappa = f.kappa > 0 ? f.kappa : ratio(f.compute_w, u->f_max_hz * u->f_max_hz * u->f_max_hz);
    /* A scenario's user idles all the time, and computing adds to that. */
    u->idle_w = f.idle_w + f.tail_w;
    u->kappa *= at_least(1 - ratio(f.idle_w, f.compute_w), least_added);
    u->up_bit = work->up_bit;
    u->down_bit = work->down_bit;
    u->layer_up_bit = work->layer_up_bit;
    u->layer_down_bit = work->layer_down_bit;
    u->rtt_s = f.rtt_s;
    u->wake_s = 0; /* in the times on the way */
    /* The joules are of all that went over the air, the time on the way of messages and gradients alone. */
    double more_up = 1 + p->last.cut * ratio(work->layer_up_bit, work->up_bit),
           more_down = 1 + p->last.cut * ratio(work->layer_down_bit, work->down_bit);
    u->p_max_w = at_least(ratio(f.send_j, more_up * work->up_bit / f.up_bps), least_w);
    u->rx_w = ratio(f.receive_j, more_down * at_least(f.down_s, least_s));
    u->p_min_w = u->p_max_w;
    u->up_bps_per_hz = 1;
    u->bandwidth_max_hz = f.up_bps;
    u->down_bps = work->down_bit / at_least(f.down_s, least_s);
    u->soc = p->battery;
    u->soc_min = p->battery_floor;
    u->min_layers = work->min_layers;
    u->max_layers = work->max_layers;
}

void sl_profile_gang(struct sl_profile_edge *e, double flop, double seconds)
{
    static const double keep = 0.95; /* a half is forgotten in 14 gangs */

    if (!(flop > 0) || !(seconds > 0) || flop > most * most || seconds > most)
        return;
    e->flop = keep * e->flop + flop;
    e->seconds = keep * e->seconds + seconds;
    e->gangs++;
}

double sl_profile_edge_flops(const struct sl_profile_edge *e)
{
    return ratio(e->flop, e->seconds);
}
