#include "dataplane/transport/recovery.h"
#include "tests/transport/model.h"

#include "dataplane/transport/ack.h"

enum { CAPACITY = 16 };

struct log {
    uint32_t acked[64], lost[64];
    unsigned n_acked, n_lost;
};
static struct sl_sent ring[CAPACITY];
static struct sl_recovery rec;
static struct log events;

static void on_acked(void *arg, const struct sl_sent *s)
{
    struct log *l = arg;
    l->acked[l->n_acked++] = s->pn;
}

static void on_lost(void *arg, const struct sl_sent *s)
{
    struct log *l = arg;
    l->lost[l->n_lost++] = s->pn;
}

static const struct sl_recovery_ops ops = {.acked = on_acked, .lost = on_lost};

static void fresh(void)
{
    sl_recovery_init(&rec, 100 * MS);
    rec.ring = ring;
    rec.mask = CAPACITY - 1;
    memset(&events, 0, sizeof(events));
}

static struct sl_recovery_result ack(uint64_t first, uint64_t last, uint64_t now_ns)
{
    struct sl_ack a = {.n_ranges = 1, .range = {{first, last}}};
    memset(&events, 0, sizeof(events));
    return sl_recovery_on_ack(&rec, &a, now_ns, &ops, &events);
}

/* ---- RTT: RFC 9002 5.3, worked by hand ---- */

static void sl_rtt_sample__first(void **state)
{
    struct sl_rtt r;
    sl_rtt_init(&r, SL_INITIAL_RTT_NS);
    assert_int_equal(r.smoothed_ns, 333 * MS);
    assert_int_equal(r.var_ns, 333 * MS / 2);
    sl_rtt_sample(&r, 80 * MS, 5 * MS, 5 * MS); /* the delay does not count in the first */
    assert_int_equal(r.smoothed_ns, 80 * MS);
    assert_int_equal(r.var_ns, 40 * MS);
    assert_int_equal(r.min_ns, 80 * MS);
}

static void sl_rtt_sample__second_less_the_ack_delay(void **state)
{
    struct sl_rtt r;
    sl_rtt_init(&r, SL_INITIAL_RTT_NS);
    sl_rtt_sample(&r, 80 * MS, 0, 5 * MS);
    sl_rtt_sample(&r, 100 * MS, 4 * MS, 5 * MS); /* adjusted 96 */
    assert_int_equal(r.latest_ns, 100 * MS);
    assert_int_equal(r.var_ns, (3 * 40 * MS + 16 * MS) / 4);      /* 34 ms */
    assert_int_equal(r.smoothed_ns, (7 * 80 * MS + 96 * MS) / 8); /* 82 ms */
    assert_int_equal(r.min_ns, 80 * MS);
}

static void sl_rtt_sample__delay_is_clamped_and_never_below_the_minimum(void **state)
{
    struct sl_rtt r;
    sl_rtt_init(&r, SL_INITIAL_RTT_NS);
    sl_rtt_sample(&r, 80 * MS, 0, 5 * MS);
    sl_rtt_sample(&r, 88 * MS, 70 * MS, 5 * MS); /* clamped to 5: adjusted 83 */
    assert_int_equal(r.smoothed_ns, (7 * 80 * MS + 83 * MS) / 8);
    sl_rtt_init(&r, SL_INITIAL_RTT_NS);
    sl_rtt_sample(&r, 80 * MS, 0, 5 * MS);
    sl_rtt_sample(&r, 83 * MS, 4 * MS, 5 * MS); /* 79 would be below the minimum: not adjusted */
    assert_int_equal(r.smoothed_ns, (7 * 80 * MS + 83 * MS) / 8);
    sl_rtt_sample(&r, 60 * MS, 4 * MS, 5 * MS); /* a new minimum is taken unadjusted */
    assert_int_equal(r.min_ns, 60 * MS);
}

static void sl_rtt_sample__converges_geometrically(void **state)
{
    /* with constant samples x after a first y: smoothed - x = (7/8)^n (y - x) */
    struct sl_rtt r;
    double want = 200e6 - 40e6;
    sl_rtt_init(&r, SL_INITIAL_RTT_NS);
    sl_rtt_sample(&r, 200 * MS, 0, 0);
    for (unsigned n = 0; n < 40; n++) {
        sl_rtt_sample(&r, 40 * MS, 0, 0);
        want *= 7.0 / 8.0;
        double got = (double)r.smoothed_ns - 40e6;
        assert_true(got - want < 10 && want - got < 10); /* ns; integer rounding */
    }
}

static void sl_recovery_on_ack__samples_only_the_largest_newly_acked(void **state)
{
    fresh();
    sl_recovery_push(&rec, 0, 100, 10 * MS);
    sl_recovery_push(&rec, 1, 100, 20 * MS);
    ack(0, 0, 60 * MS);
    assert_int_equal(rec.rtt.latest_ns, 50 * MS);
    ack(0, 0, 90 * MS); /* the same again is no sample */
    assert_int_equal(rec.rtt.latest_ns, 50 * MS);
    ack(0, 5, 100 * MS); /* 5 carried an ACK only: 1 is new, but not the largest */
    assert_int_equal(rec.rtt.latest_ns, 50 * MS);
    assert_int_equal(events.n_acked, 1);
}

/* ---- loss ---- */

static void sl_recovery_on_ack__packet_threshold(void **state)
{
    fresh();
    for (uint32_t pn = 0; pn < 6; pn++)
        sl_recovery_push(&rec, pn, 100, 0);
    ack(3, 3, 50 * MS); /* 0 is three below: lost; 1 and 2 may be late */
    assert_int_equal(events.n_acked, 1);
    assert_int_equal(events.n_lost, 1);
    assert_int_equal(events.lost[0], 0);
    struct sl_recovery_result r = ack(4, 5, 51 * MS);
    assert_int_equal(r.acked_packets, 2);
    assert_int_equal(r.acked_bytes, 200);
    assert_int_equal(r.lost_packets, 2);
    assert_int_equal(events.lost[0], 1);
    assert_int_equal(events.lost[1], 2);
    assert_int_equal(rec.in_flight, 0);
    assert_int_equal(rec.head, rec.tail);
}

static void sl_recovery_on_loss_timer__time_threshold(void **state)
{
    fresh();
    sl_recovery_push(&rec, 0, 100, 7 * MS);
    sl_recovery_push(&rec, 1, 100, 8 * MS);
    ack(1, 1, 48 * MS); /* RTT 40: packet 0 is lost 9/8 of that after it left */
    assert_int_equal(events.n_lost, 0);
    assert_int_equal(rec.loss_ns, 7 * MS + 45 * MS);
    assert_int_equal(sl_recovery_deadline_ns(&rec), 52 * MS);
    struct sl_recovery_result r = sl_recovery_on_loss_timer(&rec, 52 * MS - 1, &ops, &events);
    assert_int_equal(r.lost_packets, 0);
    r = sl_recovery_on_loss_timer(&rec, 52 * MS, &ops, &events);
    assert_int_equal(r.lost_packets, 1);
    assert_int_equal(r.lost_last_sent_ns, 7 * MS);
    assert_int_equal(rec.in_flight, 0);
    assert_true(rec.loss_ns == UINT64_MAX);
}

static void sl_recovery_on_ack__many_ranges(void **state)
{
    fresh();
    for (uint32_t i = 0; i < 12; i++)
        sl_recovery_push(&rec, 10 * i, 100, i);
    struct sl_ack a = {
        .n_ranges = 4, .range = {{105, 110}, {81, 99}, {30, 50}, {2, 3}}}; /* 110, 90, 30 40 50, none */
    struct sl_recovery_result r = sl_recovery_on_ack(&rec, &a, MS, &ops, &events);
    assert_int_equal(r.acked_packets, 5);
    static const uint32_t want[] = {30, 40, 50, 90, 110}, lost[] = {0, 10, 20, 60, 70, 80, 100};
    assert_memory_equal(events.acked, want, sizeof(want));
    assert_int_equal(r.lost_packets, 7); /* all others are three or more below 110 */
    assert_memory_equal(events.lost, lost, sizeof(lost));
}

static void sl_recovery_on_ack__late_ack_of_a_lost_packet_is_nothing(void **state)
{
    fresh();
    for (uint32_t pn = 0; pn < 5; pn++)
        sl_recovery_push(&rec, pn, 100, 0);
    ack(1, 4, MS);
    assert_int_equal(events.n_lost, 1);
    struct sl_recovery_result r = ack(0, 4, 2 * MS);
    assert_int_equal(r.acked_packets + r.lost_packets, 0);
}

static void sl_recovery_on_ack__ring_wraps(void **state)
{
    fresh();
    uint32_t acked = 0;
    for (uint32_t pn = 0; pn < 1000; pn++) {
        assert_false(sl_recovery_full(&rec));
        sl_recovery_push(&rec, pn, 100, pn);
        if (pn % 7 == 6)
            acked += ack(pn - 6, pn, pn).acked_packets;
    }
    assert_int_equal(acked, 994);
    assert_int_equal(rec.in_flight, 6);
}

static void sl_recovery_drop_oldest__makes_room(void **state)
{
    fresh();
    for (uint32_t pn = 0; pn < CAPACITY; pn++)
        sl_recovery_push(&rec, pn, 100, 0);
    assert_true(sl_recovery_full(&rec));
    struct sl_recovery_result r = sl_recovery_drop_oldest(&rec, &ops, &events);
    assert_int_equal(r.lost_packets, 1);
    assert_int_equal(events.lost[0], 0);
    assert_false(sl_recovery_full(&rec));
}

/* ---- PTO ---- */

static void sl_recovery_pto_ns__closed_form_and_backoff(void **state)
{
    fresh();
    assert_true(sl_recovery_deadline_ns(&rec) == UINT64_MAX);
    /* before any sample: 100 + 4 * 50 + 5 */
    assert_int_equal(sl_recovery_pto_ns(&rec), 305 * MS);
    sl_recovery_push(&rec, 0, 100, 10 * MS);
    assert_int_equal(sl_recovery_deadline_ns(&rec), 315 * MS);
    for (unsigned k = 1; k < 40; k++) {
        rec.pto_count = k;
        uint64_t want = k < 5 ? (305 * MS) << k : SL_PTO_MAX_NS;
        assert_int_equal(sl_recovery_pto_ns(&rec), want);
    }
    ack(0, 0, 50 * MS); /* resets the back-off; RTT 40, variation 20 */
    assert_int_equal(rec.pto_count, 0);
    assert_int_equal(sl_recovery_pto_ns(&rec), 40 * MS + 80 * MS + 5 * MS);
}

static void sl_recovery_pto_ns__granularity(void **state)
{
    fresh();
    sl_recovery_push(&rec, 0, 100, 0);
    ack(0, 0, 100); /* RTT 100 ns */
    assert_int_equal(sl_recovery_pto_ns(&rec), 100 + SL_GRANULARITY_NS + SL_MAX_ACK_DELAY_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_rtt_sample__first),
        cmocka_unit_test(sl_rtt_sample__second_less_the_ack_delay),
        cmocka_unit_test(sl_rtt_sample__delay_is_clamped_and_never_below_the_minimum),
        cmocka_unit_test(sl_rtt_sample__converges_geometrically),
        cmocka_unit_test(sl_recovery_on_ack__samples_only_the_largest_newly_acked),
        cmocka_unit_test(sl_recovery_on_ack__packet_threshold),
        cmocka_unit_test(sl_recovery_on_ack__many_ranges),
        cmocka_unit_test(sl_recovery_on_ack__late_ack_of_a_lost_packet_is_nothing),
        cmocka_unit_test(sl_recovery_on_ack__ring_wraps),
        cmocka_unit_test(sl_recovery_on_loss_timer__time_threshold),
        cmocka_unit_test(sl_recovery_drop_oldest__makes_room),
        cmocka_unit_test(sl_recovery_pto_ns__closed_form_and_backoff),
        cmocka_unit_test(sl_recovery_pto_ns__granularity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
