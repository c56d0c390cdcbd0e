#include "device-sim/life/life.h"

#include "device-sim/life/daily.h"
#include "device-sim/life/trace.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <string.h>

static const double ns_per_s = 1e9, s_per_h = 3600;

const char *sl_life_name(enum sl_life_kind kind)
{
    static const char *const names[SL_LIFE_KINDS] = {
        "arrive", "depart", "crash", "kill", "plug", "unplug", "idle_begin", "idle_end"};

    return (unsigned)kind < SL_LIFE_KINDS ? names[kind] : "?";
}

bool sl_life_changes(const struct sl_life_config *c)
{
    return c->arrivals_per_hour > 0 || c->trace || c->diurnal || c->crash_per_hour > 0 ||
           c->kill_per_hour > 0;
}

/* Beyond the clock's range: never. */
static uint64_t later(uint64_t from_ns, double seconds)
{
    double ns = seconds * ns_per_s;

    return ns < 9e18 - (double)from_ns ? from_ns + (uint64_t)ns : UINT64_MAX;
}

/* ---- in the area or not ---- */

static double exponential(uint64_t key, uint64_t i, double mean)
{
    return -mean * log(sl_rng_open(key, i));
}

/* Of that mean; sigma 0: just the mean. */
static double lognormal(uint64_t key, uint64_t i, double mean, double sigma)
{
    return mean * exp(sigma * (double)sl_rng_normal(key, i) - sigma * sigma / 2);
}

static double stay_s(const struct sl_life *l)
{
    const struct sl_life_config *c = l->cfg;

    return c->stay_sigma > 0 ? lognormal(l->stay_key, l->n_area, c->stay_s, c->stay_sigma)
                             : exponential(l->stay_key, l->n_area, c->stay_s);
}

/* in_area holds; when it ends, or begins again. */
static void plan_area(struct sl_life *l)
{
    const struct sl_life_config *c = l->cfg;

    if (c->trace) {
        uint64_t ns = sl_life_trace_change(c->trace, l->traced, l->n_area);
        l->area_ns = ns < UINT64_MAX - l->start_ns ? l->start_ns + ns : UINT64_MAX;
    } else if (c->arrivals_per_hour > 0) {
        l->area_ns = later(l->at_ns,
            l->in_area ? stay_s(l) : exponential(l->area_key, l->n_area, s_per_h / c->arrivals_per_hour));
    } else {
        l->area_ns = UINT64_MAX;
    }
    l->n_area++;
}

static bool there_at_first(const struct sl_life *l)
{
    const struct sl_life_config *c = l->cfg;
    double away_s = c->arrivals_per_hour > 0 ? s_per_h / c->arrivals_per_hour : 0;
    double share = c->present >= 0 ? c->present : c->stay_s / (c->stay_s + away_s);

    if (c->trace)
        return false;
    return c->arrivals_per_hour <= 0 || sl_rng_open(l->fault_key, 0) < share;
}

/* ---- by day ---- */

static uint64_t time_of_hour(const struct sl_life *l, double h)
{
    return h < HUGE_VAL ? later(l->start_ns, (h - l->cfg->start_h) * s_per_h / l->cfg->time_scale)
                        : UINT64_MAX;
}

/* When a state that begins at `hour` ends. */
static void plan_daily(const struct sl_life *l, const struct sl_life_daily *d, uint64_t key, bool on,
    double hour, double *next_h, uint64_t *next_ns)
{
    *next_h = sl_daily_change(d, key, on, hour);
    *next_ns = time_of_hour(l, *next_h);
}

static void plan_charging(struct sl_life *l, double hour)
{
    plan_daily(l, &l->cfg->charging, l->charging_key, l->plugged, hour, &l->charging_h, &l->charging_ns);
}

static void plan_idle(struct sl_life *l, double hour)
{
    plan_daily(l, &l->cfg->idle, l->idle_key, l->idle, hour, &l->idle_h, &l->idle_ns);
}

/* ---- faults ---- */

/* Hours of presence until the n-th. */
static uint64_t exposure_ns(const struct sl_life *l, double per_hour, uint64_t n, uint64_t stream)
{
    return per_hour > 0 ? later(0, exponential(l->fault_key, 4 * n + stream, s_per_h / per_hour))
                        : UINT64_MAX;
}

static uint64_t due(const struct sl_life *l, uint64_t left_ns)
{
    return l->present && left_ns < UINT64_MAX - l->since_ns ? l->since_ns + left_ns : UINT64_MAX;
}

static void fall(struct sl_life *l, enum sl_life_kind kind)
{
    const struct sl_life_config *c = l->cfg;

    l->down = true;
    if (kind == SL_LIFE_CRASH) {
        l->up_ns = later(l->at_ns, lognormal(l->reboot_key, l->n_crash, c->reboot_s, c->reboot_sigma));
        l->crash_left_ns = exposure_ns(l, c->crash_per_hour, ++l->n_crash, 1);
    } else {
        l->up_ns = later(l->at_ns, lognormal(l->restart_key, l->n_kill, c->restart_s, c->restart_sigma));
        l->kill_left_ns = exposure_ns(l, c->kill_per_hour, ++l->n_kill, 2);
    }
}

/* Leaving, in order or not: what is left of both hazards waits. */
static void stop_exposure(struct sl_life *l)
{
    uint64_t spent_ns = l->at_ns - l->since_ns;

    if (l->crash_left_ns != UINT64_MAX)
        l->crash_left_ns -= spent_ns < l->crash_left_ns ? spent_ns : l->crash_left_ns;
    if (l->kill_left_ns != UINT64_MAX)
        l->kill_left_ns -= spent_ns < l->kill_left_ns ? spent_ns : l->kill_left_ns;
    l->present = false;
}

/* ---- all of it ---- */

static bool allowed(const struct sl_life *l)
{
    if (!l->cfg->diurnal)
        return true;
    switch (l->cfg->policy) {
    case SL_LIFE_CHARGING:
        return l->plugged;
    case SL_LIFE_IDLE:
        return l->idle;
    case SL_LIFE_CHARGING_AND_IDLE:
        return l->plugged && l->idle;
    case SL_LIFE_ALWAYS:
        break;
    }
    return true;
}

static bool wanted(const struct sl_life *l)
{
    return l->in_area && !l->down && allowed(l);
}

void sl_life_init(struct sl_life *l, const struct sl_life_config *c, uint32_t traced, uint64_t seed,
    uint32_t phone, uint64_t start_ns)
{
    memset(l, 0, sizeof(*l));
    l->cfg = c;
    l->traced = traced;
    l->area_key = sl_rng_u64(sl_rng_key(seed, "life.away"), phone);
    l->stay_key = sl_rng_u64(sl_rng_key(seed, "life.stay"), phone);
    l->fault_key = sl_rng_u64(sl_rng_key(seed, "life.fault"), phone);
    l->reboot_key = sl_rng_u64(sl_rng_key(seed, "life.reboot"), phone);
    l->restart_key = sl_rng_u64(sl_rng_key(seed, "life.restart"), phone);
    l->charging_key = sl_rng_u64(sl_rng_key(seed, "life.charging"), phone);
    l->idle_key = sl_rng_u64(sl_rng_key(seed, "life.idle"), phone);
    l->start_ns = l->at_ns = start_ns;
    l->up_ns = l->charging_ns = l->idle_ns = UINT64_MAX;
    l->in_area = there_at_first(l);
    plan_area(l);
    if (c->diurnal) {
        /* What is on already turns on at once. */
        plan_charging(l, c->start_h);
        plan_idle(l, c->start_h);
        if (sl_daily_on(&c->charging, l->charging_key, c->start_h)) {
            l->charging_h = c->start_h;
            l->charging_ns = start_ns;
        }
        if (sl_daily_on(&c->idle, l->idle_key, c->start_h)) {
            l->idle_h = c->start_h;
            l->idle_ns = start_ns;
        }
    }
    l->crash_left_ns = exposure_ns(l, c->crash_per_hour, 0, 1);
    l->kill_left_ns = exposure_ns(l, c->kill_per_hour, 0, 2);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The next change of anything, before what follows from it. */
static uint64_t next_change(const struct sl_life *l)
{
    uint64_t t = least(least(l->area_ns, l->up_ns), least(l->charging_ns, l->idle_ns));

    return least(t, least(due(l, l->crash_left_ns), due(l, l->kill_left_ns)));
}

/* What is on at the start is there before anybody comes: a phone that lies idle at its charger arrives, it
 * does not arrive, leave and arrive. */
static bool settled(const struct sl_life *l)
{
    return least(l->charging_ns, l->idle_ns) > l->at_ns;
}

uint64_t sl_life_deadline(const struct sl_life *l)
{
    return settled(l) && l->present != wanted(l) ? l->at_ns : next_change(l);
}

/* Carries out the change that is due at l->at_ns; whether it is an event by itself. */
static bool change(struct sl_life *l, enum sl_life_kind *kind)
{
    uint64_t t = l->at_ns;

    if (l->charging_ns == t) {
        l->plugged = !l->plugged;
        plan_charging(l, l->charging_h);
        *kind = l->plugged ? SL_LIFE_PLUG : SL_LIFE_UNPLUG;
        return true;
    }
    if (l->idle_ns == t) {
        l->idle = !l->idle;
        plan_idle(l, l->idle_h);
        *kind = l->idle ? SL_LIFE_IDLE_BEGIN : SL_LIFE_IDLE_END;
        return true;
    }
    if (l->up_ns == t) {
        l->up_ns = UINT64_MAX;
        l->down = false;
        return false;
    }
    if (l->area_ns == t) {
        l->in_area = !l->in_area;
        plan_area(l);
        return false;
    }
    *kind = due(l, l->crash_left_ns) == t ? SL_LIFE_CRASH : SL_LIFE_KILL;
    stop_exposure(l);
    fall(l, *kind);
    return true;
}

bool sl_life_next(struct sl_life *l, uint64_t now_ns, struct sl_life_event *e)
{
    for (;;) {
        if (settled(l) && l->present != wanted(l)) {
            if (l->at_ns > now_ns)
                return false;
            if (l->present)
                stop_exposure(l);
            else
                l->present = true;
            l->since_ns = l->at_ns;
            *e = (struct sl_life_event){l->present ? SL_LIFE_ARRIVE : SL_LIFE_DEPART, l->at_ns};
            return true;
        }
        uint64_t t = next_change(l);
        if (t > now_ns)
            return false;
        l->at_ns = t;
        if (change(l, &e->kind)) {
            e->at_ns = t;
            return true;
        }
    }
}
