#include "device-sim/fleet/watch.h"

#include <string.h>

static void put(_Atomic uint64_t *to, uint64_t v)
{
    atomic_store_explicit(to, v, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

void sl_watch_init(struct sl_watch *w, uint32_t n_phones)
{
    memset(w, 0, sizeof(*w));
    w->n = n_phones < SL_TRAFFIC_PHONES ? n_phones : SL_TRAFFIC_PHONES;
    for (uint32_t k = 0; k < w->n; k++)
        w->phone[k].phone = sl_traffic_watched(n_phones, w->n, k);
}

static void publish_link(
    struct sl_watched_link *out, const struct sl_link_stats *s, uint64_t queued, double allowed)
{
    uint64_t dropped = 0;

    for (int v = SL_LINK_TAKEN + 1; v < SL_LINK_VERDICT_COUNT; v++)
        dropped += s->drops[v];
    put(&out->offered, s->offered_bytes);
    put(&out->carried, s->delivered_bytes);
    put(&out->dropped, dropped);
    put(&out->served, s->served);
    put(&out->wait_ns, s->wait_sum_ns);
    put(&out->queued, queued);
    put(&out->allowed, get(&out->allowed) + (uint64_t)allowed);
}

static void publish_cell(struct sl_watched_cell *out, const struct sl_radio_state *s)
{
    put(&out->cell, s->cell + 1);
    put(&out->handovers, s->handovers);
    atomic_store_explicit(&out->snr_up_db, s->snr_db[SL_RADIO_UP], memory_order_relaxed);
    atomic_store_explicit(&out->snr_down_db, s->snr_db[SL_RADIO_DOWN], memory_order_relaxed);
}

void sl_watch_publish(struct sl_watch *w, const struct sl_emulator *e, uint64_t now_ns)
{
    struct sl_emulator_queues q;
    struct sl_link_stats up, down;
    struct sl_radio_state cell;
    double up_bps = 0, down_bps = 0, s = (double)(now_ns - w->published_ns) * 1e-9;

    for (uint32_t k = 0; k < w->n; k++) {
        struct sl_watched *p = &w->phone[k];
        if (w->published_ns && now_ns > w->published_ns)
            sl_emulator_rates(e, p->phone, w->published_ns, now_ns, &up_bps, &down_bps);
        sl_emulator_stats(e, p->phone, &up, &down);
        sl_emulator_queues(e, p->phone, &q);
        publish_link(&p->up, &up, q.up_bytes, up_bps * s / 8);
        publish_link(&p->down, &down, q.down_bytes, down_bps * s / 8);
        if (sl_emulator_cell(e, p->phone, &cell))
            publish_cell(&p->cell, &cell);
        put(&p->radio, (uint64_t)sl_rrc_state(sl_emulator_radio(e, p->phone), now_ns));
    }
    w->published_ns = now_ns;
    atomic_store_explicit(&w->taken_ns, now_ns, memory_order_release);
}

static void read_link(const struct sl_watched_link *in, struct sl_traffic_link *out)
{
    *out = (struct sl_traffic_link){.offered = get(&in->offered),
        .carried = get(&in->carried),
        .dropped = get(&in->dropped),
        .served = get(&in->served),
        .wait_ns = get(&in->wait_ns),
        .queued = get(&in->queued),
        .allowed = (double)get(&in->allowed)};
}

uint64_t sl_watch_read(const struct sl_watch *w, uint32_t k, struct sl_traffic_phone *out)
{
    uint64_t taken = atomic_load_explicit(&w->taken_ns, memory_order_acquire);

    out->index = w->phone[k].phone;
    read_link(&w->phone[k].up, &out->up);
    read_link(&w->phone[k].down, &out->down);
    const struct sl_watched_cell *cell = &w->phone[k].cell;
    out->cell = (struct sl_traffic_cell){.cell = (uint32_t)get(&cell->cell),
        .handovers = get(&cell->handovers),
        .snr_up_db = atomic_load_explicit(&cell->snr_up_db, memory_order_relaxed),
        .snr_down_db = atomic_load_explicit(&cell->snr_down_db, memory_order_relaxed)};
    out->radio = (uint8_t)get(&w->phone[k].radio);
    return taken;
}
