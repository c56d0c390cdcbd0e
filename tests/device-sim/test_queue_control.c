/* What the disciplines are for: a flow that yields to loss (CUBIC, RFC 9438) or to delay (Vegas' rule) behind
 * a link, in virtual time. Packets of 1500 bytes, an acknowledgement each, by a return path without a queue.
 */
#include "device-sim/link/link.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BYTES = 1500, WINDOW = 1 << 13, GAP = 3 };
static const uint64_t ms = 1000000;
static const double seconds = 60, from_s = 15; /* of a run; figures from then on */

struct flow {
    struct sl_links *links;
    bool delay_based;
    double rate_bps, base_s;
    /* congestion control; RFC 9438: C, beta, W_max, K */
    double cwnd, ssthresh, w_max, w_est, epoch_s, k, rtt_s, next_step_s;
    uint64_t next, highest,
        reduced_at; /* packets: next to send, highest acknowledged, next at the last reduction */
    uint64_t in_flight;
    uint64_t sent_ns[WINDOW];
    bool waiting[WINDOW]; /* for its acknowledgement */
    /* acknowledgements on their way: constant delay, so in order */
    uint64_t ack[WINDOW], ack_ns[WINDOW], ack_head, ack_tail;
    uint64_t delivered;
    struct sl_histogram sojourn;
};

static void reduce(struct flow *f, double now_s)
{
    f->w_max = f->cwnd;
    f->cwnd = f->ssthresh = fmax(2, f->cwnd * 0.7);
    f->k = cbrt(f->w_max * (1 - 0.7) / 0.4);
    f->w_est = f->cwnd;
    f->epoch_s = now_s;
    f->reduced_at = f->next;
}

static void grow_cubic(struct flow *f, double now_s)
{
    double t = now_s - f->epoch_s + f->rtt_s, target = 0.4 * pow(t - f->k, 3) + f->w_max;

    if (f->epoch_s == 0) { /* no loss yet: it begins where slow start left off */
        f->epoch_s = now_s;
        f->w_max = f->cwnd;
        f->k = 0;
        f->w_est = f->cwnd;
        return;
    }
    f->w_est += 3 * (1 - 0.7) / (1 + 0.7) / f->cwnd; /* what Reno would have: never less (4.3) */
    if (target < f->w_est)
        f->cwnd = fmax(f->cwnd, f->w_est);
    else
        f->cwnd += fmin(0.5, fmax(0.01, (target - f->cwnd) / f->cwnd));
}

/* Vegas: two to four packets in the queue (Brakmo and Peterson, 1995), one step a round trip. */
static void grow_vegas(struct flow *f, double now_s)
{
    double queued = f->cwnd * (1 - f->base_s / f->rtt_s);

    if (now_s < f->next_step_s)
        return;
    f->next_step_s = now_s + f->rtt_s;
    f->cwnd += queued < 2 ? 1 : queued > 4 ? -1 : 0;
}

static void acknowledged(struct flow *f, uint64_t i, uint64_t now_ns)
{
    double now_s = 1e-9 * (double)now_ns;

    f->waiting[i % WINDOW] = false;
    f->in_flight--;
    f->rtt_s = 1e-9 * (double)(now_ns - f->sent_ns[i % WINDOW]);
    if (i > f->highest) {
        for (uint64_t k = f->highest > GAP ? f->highest - GAP : 1; k + GAP <= i; k++) {
            if (!f->waiting[k % WINDOW])
                continue;
            f->waiting[k % WINDOW] = false; /* lost */
            f->in_flight--;
            if (k >= f->reduced_at)
                reduce(f, now_s);
        }
        f->highest = i;
    }
    bool slow_start =
        f->delay_based ? f->cwnd < f->ssthresh && f->rtt_s < 1.25 * f->base_s : f->cwnd < f->ssthresh;
    if (slow_start) {
        f->cwnd += 1;
        return;
    }
    f->ssthresh = fmin(f->ssthresh, f->cwnd);
    if (f->delay_based)
        grow_vegas(f, now_s);
    else
        grow_cubic(f, now_s);
}

static void send_what_may(struct flow *f, uint64_t now_ns)
{
    while ((double)f->in_flight < f->cwnd && f->in_flight < WINDOW / 2) {
        uint64_t i = f->next++;
        f->sent_ns[i % WINDOW] = now_ns;
        f->waiting[i % WINDOW] = true;
        f->in_flight++;
        sl_links_offer(f->links, 0, (uint32_t)(i % WINDOW), BYTES - SL_LINK_IP_UDP_BYTES, now_ns);
    }
}

static void run(struct flow *f, const struct sl_link_params *p, bool delay_based)
{
    *f = (struct flow){.delay_based = delay_based, .cwnd = 10, .ssthresh = 1e9, .next = 1, .reduced_at = 1};
    f->base_s = 2e-9 * (double)p->delay_ns + BYTES * 8 / p->service.rate_bps;
    f->rtt_s = f->base_s;
    sl_histogram_reset(&f->sojourn);
    assert_int_equal(sl_links_create(1, WINDOW, &f->links), 0);
    assert_int_equal(sl_links_set(f->links, 0, p, sl_rng_key(1, "flow")), 0);
    uint64_t now = 1000 * ms, start = now, measured = now + (uint64_t)(from_s * 1e9);
    while (now < start + (uint64_t)(seconds * 1e9)) {
        struct sl_link_out o;
        while (sl_link_next(f->links, now, &o)) {
            if (o.verdict != SL_LINK_TAKEN)
                continue;
            if (now >= measured) {
                sl_histogram_record(&f->sojourn, o.due_ns - f->sent_ns[o.handle] - p->delay_ns);
                f->delivered++;
            }
            f->ack[f->ack_tail % WINDOW] = o.handle;
            f->ack_ns[f->ack_tail++ % WINDOW] = o.due_ns + p->delay_ns;
        }
        while (f->ack_head < f->ack_tail && f->ack_ns[f->ack_head % WINDOW] <= now) {
            uint64_t place = f->ack[f->ack_head++ % WINDOW],
                     low = f->highest > WINDOW / 2 ? f->highest - WINDOW / 2 : 0;
            acknowledged(f, low + (place + WINDOW - low % WINDOW) % WINDOW, now);
        }
        send_what_may(f, now);
        uint64_t next = sl_links_deadline(f->links);
        if (f->ack_head < f->ack_tail && f->ack_ns[f->ack_head % WINDOW] < next)
            next = f->ack_ns[f->ack_head % WINDOW];
        /* All lost at once: as after a retransmission timeout, it begins anew. */
        if (next == UINT64_MAX) {
            f->in_flight = 0;
            reduce(f, 1e-9 * (double)now);
            next = now + 1000 * ms;
        }
        now = next > now ? next : now;
    }
    sl_links_free(f->links);
}

static double p50_ms(const struct flow *f)
{
    return 1e-6 * (double)sl_histogram_quantile(&f->sojourn, 0.5);
}

static double p95_ms(const struct flow *f)
{
    return 1e-6 * (double)sl_histogram_quantile(&f->sojourn, 0.95);
}

static double utilisation(const struct flow *f, double capacity_bytes)
{
    return (double)f->delivered * BYTES / capacity_bytes;
}

static struct sl_link_params link(enum sl_discipline_kind kind, double mbps, double rtt_ms)
{
    return (struct sl_link_params){.service = {.kind = SL_SERVICE_RATE, .rate_bps = mbps * 1e6},
        .queue = {.kind = kind, .bytes = 1 << 20},
        .delay_ns = (uint64_t)(rtt_ms / 2 * 1e6)};
}

static void show(const char *name, const struct flow *f, double share)
{
    print_message("%-22s in the queue p50 %6.1f ms, p95 %6.1f ms, of the link %.3f\n", name, p50_ms(f),
        p95_ms(f), share);
}

/* 20 Mbit/s, 40 ms, a queue of 1 MiB: it is 419 ms long. CUBIC fills it; CoDel and PIE keep it near their
 * targets at almost no cost in throughput; a flow that minds the delay needs no help. */
static void constant_rate__each_keeps_its_promise(void **state)
{
    static struct flow f;
    double capacity = 20e6 / 8 * (seconds - from_s);
    struct sl_link_params p = link(SL_DISCIPLINE_DROPTAIL, 20, 40);

    run(&f, &p, false);
    show("cubic, droptail 1 MiB", &f, utilisation(&f, capacity));
    assert_true(p50_ms(&f) > 250 && utilisation(&f, capacity) > 0.99);
    p = link(SL_DISCIPLINE_CODEL, 20, 40);
    run(&f, &p, false);
    show("cubic, codel", &f, utilisation(&f, capacity));
    assert_true(p50_ms(&f) < 15 && p95_ms(&f) < 40 && utilisation(&f, capacity) > 0.9);
    p = link(SL_DISCIPLINE_PIE, 20, 40);
    run(&f, &p, false);
    show("cubic, pie", &f, utilisation(&f, capacity));
    assert_true(p50_ms(&f) < 30 && p95_ms(&f) < 60 && utilisation(&f, capacity) > 0.9);
    p = link(SL_DISCIPLINE_DROPTAIL, 20, 40);
    run(&f, &p, true);
    show("vegas, droptail 1 MiB", &f, utilisation(&f, capacity));
    assert_true(p50_ms(&f) < 5 && utilisation(&f, capacity) > 0.95);
}

/* A bottleneck by a trace: 12 Mbit/s for eight seconds, 4 for four, in opportunities of 1500 bytes. */
static void traced_bottleneck__codel_against_bufferbloat(void **state)
{
    enum { FAST = 8000, SLOW = 1333 };
    static uint32_t at_ms[FAST + SLOW];
    static struct flow f;

    for (uint32_t i = 0; i < FAST; i++)
        at_ms[i] = i;
    for (uint32_t i = 0; i < SLOW; i++)
        at_ms[FAST + i] = 8000 + 3 * (i + 1);
    const struct sl_trace trace = {at_ms, FAST + SLOW};
    double capacity = (FAST + SLOW) * 1500.0 / 12 * (seconds - from_s), p95[2];
    static const enum sl_discipline_kind kinds[] = {SL_DISCIPLINE_DROPTAIL, SL_DISCIPLINE_CODEL};

    for (unsigned i = 0; i < 2; i++) {
        struct sl_link_params p = link(kinds[i], 9, 40);
        p.service = (struct sl_service_params){.kind = SL_SERVICE_TRACE, .rate_bps = 9e6, .trace = &trace};
        run(&f, &p, false);
        show(sl_discipline_name(kinds[i]), &f, utilisation(&f, capacity));
        p95[i] = p95_ms(&f);
        assert_true(utilisation(&f, capacity) > 0.75);
    }
    assert_true(p95[0] > 800 && p95[1] < p95[0] / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_rate__each_keeps_its_promise),
        cmocka_unit_test(traced_bottleneck__codel_against_bufferbloat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
