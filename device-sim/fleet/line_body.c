/* What a phone's body says over its line, and when its battery ends its part. */
#include "device-sim/fleet/fleet.h"

#include <stdio.h>

static const uint64_t finish_step_ns = 30000000000; /* a phone that leaves waits so long for its step's end */

void sl_line_tell_body(Sluice__Heartbeat *h, const struct sl_body *body, const struct sl_plane_phone *data)
{
    struct sl_body_state state;
    struct sl_energy energy;

    sl_body_state(body, &state);
    sl_body_energy(body, &energy);
    h->battery = state.battery;
    h->battery_floor = body->cfg->battery_floor;
    h->charging = state.charging;
    h->temperature_c = state.temperature_c;
    h->clock_hz = state.clock_hz;
    h->clock_max_hz = state.clock_max_hz;
    h->computed_s = body->compute_s;
    h->energy_j = energy.total_j;
    h->energy_compute_j = energy.by_cause_j[SL_CAUSE_COMPUTE];
    h->energy_send_j = energy.by_cause_j[SL_CAUSE_SEND];
    h->energy_receive_j = energy.by_cause_j[SL_CAUSE_RECEIVE];
    h->energy_tail_j = energy.by_cause_j[SL_CAUSE_TAIL];
    h->energy_idle_j = energy.by_cause_j[SL_CAUSE_IDLE];
    h->energy_promotion_j = energy.by_cause_j[SL_CAUSE_PROMOTION];
    h->wakes = data->promotions;
    h->wake_time_s = (double)data->radio.promotion_ns * 1e-9;
}

/* At the battery's floor a phone begins no further step, and leaves when the one under way is over; in the
 * middle of it only when the battery is empty, or the step does not end. Where its day has hours on a charger
 * it comes back. */
void sl_line_watch_battery(struct sl_fleet *f, uint32_t i, const struct sl_body *body, uint64_t now_ns)
{
    struct sl_phone *p = &f->phone[i];
    struct sl_line *l = &f->line[i];
    char text[64];

    if (body->battery.level_j <= 0) {
        if (!sl_visits_rest(f, i, now_ns))
            sl_line_bye(f, i, "battery empty");
        return;
    }
    if (!sl_body_is_low(body))
        return;
    if (!p->leaving)
        l->leave_by_ns = now_ns + finish_step_ns;
    p->leaving = true;
    if ((p->state != SL_PHONE_IDLE || p->job != SL_JOB_NONE) && now_ns < l->leave_by_ns)
        return;
    if (sl_visits_rest(f, i, now_ns))
        return;
    snprintf(text, sizeof(text), "battery at its floor, %.0f %%", 100 * body->cfg->battery_floor);
    sl_line_bye(f, i, text);
}
