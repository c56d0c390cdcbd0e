/* What traffic.jsonl is told of the phones that are watched. */
#include "device-sim/fleet/fleet.h"

#include <stdio.h>
#include <string.h>

static void of_body(struct sl_fleet *f, uint32_t i, uint64_t now_ns, struct sl_traffic_phone *out)
{
    struct sl_body_state s;

    sl_body_state(sl_body_of(&f->bodies, f->plane, i, now_ns), &s);
    out->battery = s.battery;
    out->temperature_c = s.temperature_c;
    out->clock = s.clock_max_hz > 0 ? s.clock_hz / s.clock_max_hz : 1;
}

int sl_fleet_traffic_open(struct sl_fleet *f, char *err, size_t err_cap)
{
    const struct sl_watch *w = sl_plane_watch(f->plane);
    struct sl_traffic_phone phones[SL_TRAFFIC_PHONES] = {0};
    const char *states[SL_PHONE_ENDED + 1], *radios[SL_RRC_TAIL + 1];
    char path[SL_PATH_BYTES + 16];

    for (int s = 0; s <= SL_PHONE_ENDED; s++)
        states[s] = sl_phone_state_name((enum sl_phone_state)s);
    for (int s = 0; s <= SL_RRC_TAIL; s++)
        radios[s] = sl_rrc_state_name((enum sl_rrc_state)s);
    for (uint32_t k = 0; k < w->n; k++) {
        phones[k].index = w->phone[k].phone;
        const struct sl_class_config *c = sl_fleet_class(f, phones[k].index);
        phones[k].class_name = c->name;
        phones[k].service = c->link.radio[0]      ? "granted"
                            : c->link.trace_up[0] ? "trace"
                            : c->link.rates[0]    ? "series"
                                                  : "rate";
    }
    snprintf(path, sizeof(path), "%s/traffic.jsonl", f->options.run);
    return sl_traffic_open(path, f->n, phones, w->n,
        &(struct sl_traffic_names){states, radios, SL_PHONE_ENDED + 1, SL_RRC_TAIL + 1}, f->start_ns,
        &f->traffic, err, err_cap);
}

static void totals_of(const struct sl_fleet *f, struct sl_traffic_totals *t)
{
    struct sl_plane_phone data;

    *t = (struct sl_traffic_totals){0};
    for (uint32_t i = 0; i < f->n; i++) {
        sl_plane_phone(f->plane, i, &data);
        t->sent_up += data.bytes_up;
        t->arrived_down += data.bytes_down;
    }
}

/* A message that is there before the modelled phone would have it is still being computed. */
static enum sl_phone_state state_of(const struct sl_phone *p, uint64_t now_ns)
{
    return p->state == SL_PHONE_SENDING && p->due_ns > now_ns ? SL_PHONE_COMPUTING : p->state;
}

void sl_fleet_traffic_poll(struct sl_fleet *f, uint64_t now_ns)
{
    const struct sl_watch *w = sl_plane_watch(f->plane);
    struct sl_traffic_phone phones[SL_TRAFFIC_PHONES];
    struct sl_traffic_totals totals;
    struct sl_plane_phone data;
    uint64_t taken = 0;

    if (now_ns < sl_traffic_deadline(f->traffic))
        return;
    for (uint32_t k = 0; k < w->n; k++) {
        taken = sl_watch_read(w, k, &phones[k]);
        uint32_t i = phones[k].index;
        phones[k].class_name = phones[k].service = NULL;
        sl_plane_phone(f->plane, i, &data);
        phones[k].rtt_ns = data.rtt_ns;
        phones[k].state = (uint8_t)state_of(&f->phone[i], now_ns);
        of_body(f, i, now_ns, &phones[k]);
    }
    bool all = sl_traffic_wants_totals(f->traffic);
    if (all)
        totals_of(f, &totals);
    int rc = sl_traffic_sample(f->traffic, now_ns, taken, phones, all ? &totals : NULL);
    if (rc)
        fprintf(stderr, "sluice-sim: traffic.jsonl ends here: it cannot be written: %s\n", strerror(-rc));
}
