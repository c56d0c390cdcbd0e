#include "device-sim/body/body.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const double s_per_ns = 1e-9, ns_per_s = 1e9;
static const double come_back_above_floor = 0.05; /* of full */
/* Of a handset's power amplifier near its full output: 30 to 45 % in the surveys of them; the rest of what a
 * sending radio draws does not depend on its output. */
static const double amplifier_efficiency = 0.35;
/* TS 38.101-1, table 6.3.1-1: the least output that a handset has to be able to go down to is -40 dBm at
 * 20 MHz; its full output is 23 dBm. */
static const double least_power_share = 5e-7;

int sl_body_init(struct sl_body *b, const struct sl_body_config *cfg, uint64_t now_ns)
{
    const struct sl_clock *c = &cfg->clock;

    if (c->n_steps == 0 || c->n_steps > SL_CLOCK_STEPS_MAX || !(c->flops > 0) || !(cfg->battery_j > 0))
        return -EINVAL;
    memset(b, 0, sizeof(*b));
    b->cfg = cfg;
    b->at_ns = now_ns;
    b->look_ns = now_ns + sl_thermal_period_ns;
    b->step = b->cap = b->wanted_cap = c->n_steps - 1;
    b->send_w = cfg->send_w;
    b->temperature_c = cfg->thermal.ambient_c;
    sl_battery_init(&b->battery, cfg->battery_j, cfg->battery_start);
    return 0;
}

static bool computes(const struct sl_body *b)
{
    return b->awake && b->at_ns < b->job_end_ns;
}

static double chip_w(const struct sl_body *b)
{
    if (!b->awake)
        return 0;
    return computes(b) ? b->cfg->clock.power_w[b->step] : b->cfg->idle_w;
}

/* How far the chip's power is constant: to `until` or the governor's next look, where that may matter. */
static uint64_t constant_until(const struct sl_body *b, double power_w, uint64_t until)
{
    const struct sl_body_config *c = b->cfg;

    if (!sl_thermal_on(&c->thermal) || b->look_ns >= until ||
        sl_thermal_quiet(&c->thermal, b->step, b->cap, b->temperature_c, power_w))
        return until;
    return b->look_ns;
}

/* Heat and clock through a stretch of constant power, the governor's look at its end included. */
static void warm(struct sl_body *b, double power_w, uint64_t until)
{
    const struct sl_body_config *c = b->cfg;

    if (sl_thermal_on(&c->thermal))
        b->temperature_c =
            sl_thermal_after(&c->thermal, b->temperature_c, power_w, (double)(until - b->at_ns) * s_per_ns);
    b->at_ns = until;
    if (until < b->look_ns)
        return;
    if (until == b->look_ns && sl_thermal_on(&c->thermal))
        b->step = sl_thermal_step(&c->thermal, b->step, b->cap, b->temperature_c, power_w);
    b->look_ns += ((until - b->look_ns) / sl_thermal_period_ns + 1) * sl_thermal_period_ns;
}

void sl_body_advance(struct sl_body *b, uint64_t now_ns)
{
    while (b->at_ns < now_ns) {
        double out[SL_CAUSE_COUNT] = {0}, power = chip_w(b), seconds;
        bool busy = computes(b);
        uint64_t until = constant_until(b, power, busy && b->job_end_ns < now_ns ? b->job_end_ns : now_ns);
        seconds = (double)(until - b->at_ns) * s_per_ns;
        out[busy ? SL_CAUSE_COMPUTE : SL_CAUSE_IDLE] = power * seconds;
        b->compute_s += busy ? seconds : 0;
        sl_battery_move(&b->battery, out, b->plug_w * seconds);
        warm(b, power, until);
    }
}

void sl_body_awake(struct sl_body *b, bool awake, uint64_t now_ns)
{
    sl_body_advance(b, now_ns);
    b->awake = awake;
    if (!awake)
        b->job_end_ns = 0;
}

void sl_body_plug(struct sl_body *b, bool plugged, double watts, uint64_t now_ns)
{
    sl_body_advance(b, now_ns);
    b->plug_w = plugged ? watts : 0;
}

/* Who was not slowed down by heat follows the bound upwards at once. */
static void take_cap(struct sl_body *b)
{
    bool cool = b->step == b->cap;

    b->cap = b->wanted_cap;
    if (cool || b->step > b->cap)
        b->step = b->cap;
}

void sl_body_bound_clock(struct sl_body *b, double hz, uint64_t now_ns)
{
    sl_body_advance(b, now_ns);
    b->wanted_cap = sl_clock_step_below(&b->cfg->clock, hz);
    if (!computes(b))
        take_cap(b);
}

double sl_body_power_share(const struct sl_body_config *c, double radiated_w)
{
    double share = radiated_w > 0 && c->radiated_w > 0 ? radiated_w / c->radiated_w : 1;

    return share >= 1 ? 1 : share < least_power_share ? least_power_share : share;
}

/* What a sending radio draws: the amplifier's part follows its output, the rest stays. A class whose radio
 * draws less than its amplifier would has an amplifier alone. */
void sl_body_bound_power(struct sl_body *b, double radiated_w, uint64_t now_ns)
{
    const struct sl_body_config *c = b->cfg;
    double amplifier = c->radiated_w / amplifier_efficiency;

    sl_body_advance(b, now_ns);
    if (amplifier > c->send_w)
        amplifier = c->send_w;
    b->send_w = c->send_w - amplifier * (1 - sl_body_power_share(c, radiated_w));
}

uint64_t sl_body_compute(struct sl_body *b, double flop, uint64_t now_ns)
{
    struct sl_body ahead;

    sl_body_advance(b, now_ns);
    b->job_end_ns = 0;
    take_cap(b);
    ahead = *b;
    while (flop > 0) {
        double rate = sl_clock_flops(&b->cfg->clock, ahead.step), power = b->cfg->clock.power_w[ahead.step];
        uint64_t end = ahead.at_ns + (uint64_t)ceil(flop / rate * ns_per_s);
        uint64_t until = constant_until(&ahead, power, end);
        flop = until == end ? 0 : flop - rate * (double)(until - ahead.at_ns) * s_per_ns;
        warm(&ahead, power, until);
    }
    b->job_end_ns = ahead.at_ns;
    return ahead.at_ns - b->at_ns;
}

void sl_body_radio(struct sl_body *b, const struct sl_radio_times *t, uint64_t now_ns)
{
    const struct sl_body_config *c = b->cfg;
    uint64_t carried = t->send_ns + t->receive_ns;
    /* Sending and receiving may overlap, and are booked when a packet is taken: the tail never shrinks. */
    uint64_t tail = t->connected_ns > carried ? t->connected_ns - carried : 0;
    double out[SL_CAUSE_COUNT] = {0};

    sl_body_advance(b, now_ns);
    if (tail < b->tail_ns)
        tail = b->tail_ns;
    out[SL_CAUSE_SEND] = b->send_w * (double)(t->send_ns - b->radio.send_ns) * s_per_ns;
    out[SL_CAUSE_RECEIVE] = c->receive_w * (double)(t->receive_ns - b->radio.receive_ns) * s_per_ns;
    out[SL_CAUSE_PROMOTION] = c->promotion_w * (double)(t->promotion_ns - b->radio.promotion_ns) * s_per_ns;
    out[SL_CAUSE_TAIL] = c->tail_w * (double)(tail - b->tail_ns) * s_per_ns;
    b->radio = *t;
    b->tail_ns = tail;
    sl_battery_move(&b->battery, out, 0);
}

void sl_body_energy(const struct sl_body *b, struct sl_energy *e)
{
    memcpy(e->by_cause_j, b->battery.by_cause_j, sizeof(e->by_cause_j));
    e->total_j = b->battery.drawn_j;
    e->charged_j = b->battery.charged_j;
}

void sl_body_state(const struct sl_body *b, struct sl_body_state *s)
{
    const struct sl_clock *c = &b->cfg->clock;

    *s = (struct sl_body_state){.battery = b->battery.level_j / b->battery.capacity_j,
        .temperature_c = b->temperature_c,
        .clock_hz = c->hz[b->step],
        .clock_max_hz = c->hz[c->n_steps - 1],
        .charging = b->plug_w > 0};
}

bool sl_body_is_low(const struct sl_body *b)
{
    return b->battery.level_j <= b->cfg->battery_floor * b->battery.capacity_j;
}

bool sl_body_has_recovered(const struct sl_body *b)
{
    double wanted = b->cfg->battery_floor + come_back_above_floor;

    return b->battery.level_j >= (wanted < 1 ? wanted : 1) * b->battery.capacity_j;
}
