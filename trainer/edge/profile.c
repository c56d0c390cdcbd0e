/* What is learnt of devices and of the edge itself while they train (rules P9; trainer/plan/profile.h). */
#include "trainer/edge/edge.h"

#include "trainer/plan/forecast.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GANG_EVERY_NS (SECOND_NS / 10)

/* Of events `profile`: so many a second at most, a hundred times as many at once. All windows are in the last
 * one's sums. */
enum { PROFILES_PER_S = 5, PROFILES_BURST = 100 * PROFILES_PER_S };

struct edge_profile {
    struct sl_plan_profile fit;
    struct sl_forecast forecast;
    uint64_t session_id; /* of the newest beat */
};

int edge_open_profiles(struct edge *e)
{
    e->profiles = calloc(e->max_devices, sizeof *e->profiles);
    if (e->profiles)
        return 0;
    snprintf(e->err, sizeof e->err, "not enough memory to profile %u devices; lower edge.max_devices",
        e->max_devices);
    return -ENOMEM;
}

void edge_close_profiles(struct edge *e)
{
    free(e->profiles);
}

const struct sl_plan_profile *edge_profile(const struct edge *e, const struct device *d)
{
    return &e->profiles[d->index].fit;
}

static uint32_t window_rows(const struct device *d)
{
    return d->class->seq - 1;
}

static double layer_flop(const struct edge *e, const struct device *d)
{
    const struct sl_cost_shape shape = edge_cost_shape(e);
    const uint32_t rows = window_rows(d);

    return e->x->training.batch *
           (sl_cost_block_forward(&shape, &rows, 1) + sl_cost_block_backward(&shape, &rows, 1));
}

/* What a layer's adapter adds to a step: pushed, and G pulled, at every aggregation. */
static double adapter_bit(const struct edge *e, const struct device *d)
{
    const uint32_t steps = strcmp(e->x->training.aggregation, "gradients") ? e->x->training.aggregate_every
                                                                           : e->x->training.accumulate;
    struct sl_lora_config lora = e->lora;

    lora.rank = d->class->rank;
    return 8.0 * sizeof(float) * (double)sl_adapter_block_size(e->shape, &lora) / steps;
}

void edge_profile_work(const struct edge *e, const struct device *d, struct sl_profile_work *work)
{
    struct sl_grid grid = {0};

    sl_grid_make(
        &grid, e->x->training.batch * window_rows(d), e->shape->d_model, e->codec, 1, e->fragment_units);
    *work = (struct sl_profile_work){.layer_flop = layer_flop(e, d),
        .up_bit = 8.0 * SL_UNIT_BYTES * grid.n_units,
        .down_bit = 8.0 * SL_UNIT_BYTES * grid.tensor_units,
        .min_layers = 1,
        .max_layers = e->shape->n_layers - 1};
    work->layer_up_bit = work->layer_down_bit = adapter_bit(e, d);
}

static bool may_report(struct edge *e)
{
    const double now = (double)sl_loop_now_ns() * 1e-9;

    e->forecasts.allowance += (now - e->forecasts.at_s) * PROFILES_PER_S;
    e->forecasts.at_s = now;
    if (e->forecasts.allowance > PROFILES_BURST)
        e->forecasts.allowance = PROFILES_BURST;
    if (e->forecasts.allowance < 1)
        return false;
    e->forecasts.allowance--;
    return true;
}

static void report_forecast(struct edge *e, const struct device *d, const struct sl_forecast_result *r,
    const struct sl_profile_fit *f)
{
    e->forecasts.windows++;
    if (!may_report(e)) {
        e->forecasts.left_out++;
        return;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddStringToObject(o, "class", d->class->name);
    cJSON_AddNumberToObject(o, "cut", r->cut);
    cJSON_AddBoolToObject(o, "changed", r->changed);
    cJSON_AddNumberToObject(o, "steps", (double)r->steps);
    cJSON_AddNumberToObject(o, "predicted_s", r->predicted_s);
    cJSON_AddNumberToObject(o, "measured_s", r->measured_s);
    cJSON_AddNumberToObject(o, "predicted_j", r->predicted_j);
    cJSON_AddNumberToObject(o, "measured_j", r->measured_j);
    cJSON_AddNumberToObject(o, "period_s", r->period_s);
    cJSON_AddNumberToObject(o, "layer_s", f->layer_s);
    cJSON_AddNumberToObject(o, "clock_hz", f->clock_hz);
    cJSON_AddNumberToObject(o, "ceiling_hz", f->ceiling_hz);
    cJSON_AddNumberToObject(o, "layer_cycles", f->layer_cycles);
    cJSON_AddNumberToObject(o, "kappa", f->kappa);
    cJSON_AddNumberToObject(o, "compute_w", f->compute_w);
    cJSON_AddNumberToObject(o, "up_s", f->up_s);
    cJSON_AddNumberToObject(o, "down_s", f->down_s);
    cJSON_AddNumberToObject(o, "rtt_s", f->rtt_s);
    cJSON_AddNumberToObject(o, "edge_flops", sl_profile_edge_flops(&e->speed));
    edge_event(e, "profile", o);
}

/* A device's two clocks are its own affair: `at_s` is when the beat came, by the edge's. */
void edge_take_profile(struct edge *e, struct device *d, const Sluice__Heartbeat *h)
{
    struct edge_profile *p = &e->profiles[d->index];
    struct sl_profile_work work;
    struct sl_forecast_result result;
    struct sl_profile_fit fit;
    const struct sl_plan_beat beat = {.at_s = (double)sl_loop_now_ns() * 1e-9,
        .steps = h->steps,
        .cut = d->cut,
        .step_computed_s = h->compute_s,
        .computed_s = h->computed_s,
        .turn_s = h->turn_s,
        .held_s = (double)sl_trainer_held_ns(e->trainer, d->index) * 1e-9,
        .clock_hz = h->clock_hz,
        .clock_max_hz = h->clock_max_hz,
        .clock_cap_hz = d->planned.clock_hz,
        .temperature_c = h->temperature_c > 0 ? h->temperature_c : 0,
        .battery = h->battery,
        .battery_floor = h->battery_floor,
        .rate_up_bps = h->rate_up_bps,
        .rate_down_bps = h->rate_down_bps,
        .rate_cap_bps = d->planned.rate_up_bps,
        .rtt_s = h->rtt_ms * 1e-3,
        .bytes_up = h->bytes_up,
        .bytes_down = h->bytes_down,
        .wakes = h->wakes,
        .wake_time_s = h->wake_time_s,
        .energy_compute_j = h->energy_compute_j,
        .energy_send_j = h->energy_send_j,
        .energy_receive_j = h->energy_receive_j,
        .energy_tail_j = h->energy_tail_j,
        .energy_idle_j = h->energy_idle_j,
        .energy_promotion_j = h->energy_promotion_j};

    if (p->session_id != d->session_id)
        sl_profile_rest(&p->fit);
    p->session_id = d->session_id;
    sl_profile_beat(&p->fit, &beat);
    edge_profile_work(e, d, &work);
    if (sl_forecast_beat(&p->forecast, &p->fit, &work, &result)) {
        sl_profile_fit(&p->fit, &work, &fit);
        report_forecast(e, d, &result, &fit);
    }
}

/* A gang now and then is enough, and a fleet of thousands has many. The event says how many took part, not
 * who: the mean of those that are here, which is exact when all are.
 */
void edge_profile_gang(struct edge *e, const struct sl_event *event)
{
    const struct sl_cost_shape shape = edge_cost_shape(e);
    const uint64_t now = sl_loop_now_ns();
    double flop = 0;
    uint32_t n = 0;

    if (now - e->gang_measured_ns < GANG_EVERY_NS)
        return;
    e->gang_measured_ns = now;
    for (uint32_t i = 0; i < e->max_devices; i++) {
        const struct device *d = &e->devices[i];
        if (d->state != DEVICE_JOINED)
            continue;
        flop += (e->shape->n_layers - d->cut) * layer_flop(e, d);
        n++;
    }
    if (n == 0)
        return;
    flop *= (double)event->step.devices / n;
    flop += 2 * sl_cost_head_forward(&shape, event->step.tokens);
    sl_profile_gang(&e->speed, flop, (double)event->step.compute_ns * 1e-9);
}
