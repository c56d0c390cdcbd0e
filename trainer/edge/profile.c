/* What is learnt of devices and of the edge itself while they train (rules P9; trainer/plan/profile.h). */
#include "trainer/edge/edge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GANG_EVERY_NS (SECOND_NS / 10)

struct edge_profile {
    struct sl_plan_profile fit;
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
}

/* A device's two clocks are its own affair: `at_s` is when the beat came, by the edge's. */
void edge_take_profile(struct edge *e, struct device *d, const Sluice__Heartbeat *h)
{
    struct edge_profile *p = &e->profiles[d->index];
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
