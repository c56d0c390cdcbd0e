/* The link emulator against closed forms, on a virtual clock. */
#include "device-sim/link/link.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

enum { IP = SL_LINK_IP_UDP_BYTES };
static const uint64_t ms = 1000000;

static struct sl_link_params params(double rate_bps, uint64_t delay_ns, double loss, uint64_t queue)
{
    return (struct sl_link_params){.service = {.kind = SL_SERVICE_RATE, .rate_bps = rate_bps},
        .queue = {.kind = SL_DISCIPLINE_DROPTAIL, .bytes = queue},
        .impairment.loss.good = loss,
        .delay_ns = delay_ns};
}

/* Lets time pass until a packet comes out, and returns when. */
static uint64_t fetch(struct sl_links *s, struct sl_link_out *out)
{
    uint64_t now;

    while ((now = sl_links_deadline(s)) != UINT64_MAX)
        if (sl_link_next(s, now, out))
            return now;
    return UINT64_MAX;
}

static struct sl_links *one_link(
    double rate_bps, uint64_t delay_ns, double loss, uint64_t queue, uint32_t room)
{
    struct sl_links *s;
    struct sl_link_params p = params(rate_bps, delay_ns, loss, queue);

    assert_int_equal(sl_links_create(1, room, &s), 0);
    assert_int_equal(sl_links_set(s, 0, &p, sl_rng_key(7, "phone 0 up")), 0);
    return s;
}

static void assert_conserved(const struct sl_links *s, uint32_t link)
{
    struct sl_link_stats st;
    uint64_t packets, bytes;

    sl_links_stats(s, link, &st);
    packets = st.delivered + st.under_way;
    bytes = st.delivered_bytes + st.under_way_bytes;
    for (int v = 0; v < SL_LINK_VERDICT_COUNT; v++) {
        packets += st.drops[v];
        bytes += st.drop_bytes[v];
    }
    assert_int_equal(st.drops[SL_LINK_TAKEN], 0);
    assert_int_equal(st.offered, packets);
    assert_int_equal(st.offered_bytes, bytes);
}

/* 1472 + 28 = 1500 bytes at 12 Mbit/s take exactly 1 ms. */
static void offer__arrives_after_serialisation_and_delay(void **state)
{
    struct sl_links *s = one_link(12e6, 20 * ms, 0, 1 << 20, 100);
    struct sl_link_out out;

    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(sl_links_offer(s, 0, 100 + i, 1500 - IP, 1000 * ms), SL_LINK_TAKEN);
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t due = (1000 + i + 1 + 20) * ms;
        assert_false(sl_link_next(s, due - 1, &out));
        assert_true(sl_links_deadline(s) == due);
        assert_true(sl_link_next(s, due, &out));
        assert_int_equal(out.handle, 100 + i);
        assert_true(out.due_ns == due);
    }
    assert_int_equal(sl_links_deadline(s), UINT64_MAX);
    /* An idle link does not save up: the next packet takes its own millisecond from now. */
    sl_links_offer(s, 0, 1, 1500 - IP, 5000 * ms);
    assert_true(fetch(s, &out) == 5021 * ms);
    assert_conserved(s, 0);
    sl_links_free(s);
}

/* Saturated for 10 s: delivered bytes are rate x time, to one packet, at rates that do not divide evenly. */
static void rate__is_exact_over_many_packets(void **state)
{
    static const double rates[] = {1e6, 7e6, 9.973e6, 33.3e6, 1e9};

    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        struct sl_links *s = one_link(rates[r], 0, 0, 8000, 1000);
        struct sl_link_stats st;
        struct sl_link_out out;
        uint64_t now = 123456789, end = now + 10000 * ms;

        while (now < end) {
            while (sl_links_offer(s, 0, 0, 1200 - IP, now) == SL_LINK_TAKEN)
                ;
            now = sl_links_deadline(s);
            while (sl_link_next(s, now, &out))
                ;
        }
        sl_links_stats(s, 0, &st);
        double expected = rates[r] / 8 * (double)(now - 123456789) / 1e9;
        assert_true(fabs((double)st.delivered_bytes - expected) <= 1200);
        assert_conserved(s, 0);
        sl_links_free(s);
    }
}

/* A burst of 100 x 1000 bytes into 50,000 bytes of queue: 50 fit, and the first is being sent at once. */
static void queue__drops_the_tail(void **state)
{
    struct sl_links *s = one_link(8e6, 0, 0, 50000, 1000);
    struct sl_link_stats st;
    unsigned full = 0;
    struct sl_link_out out;

    for (uint32_t i = 0; i < 100; i++)
        full += sl_links_offer(s, 0, i, 1000 - IP, 0) == SL_LINK_QUEUE_FULL;
    assert_int_equal(full, 50);
    /* 10 ms at 1000 bytes a ms drain ten places. */
    for (uint32_t i = 0; i < 100; i++)
        full += sl_links_offer(s, 0, 100 + i, 1000 - IP, 10 * ms) == SL_LINK_QUEUE_FULL;
    assert_int_equal(full, 50 + 90);
    uint32_t n = 0;
    while (sl_link_next(s, 1000 * ms, &out)) {
        assert_int_equal(out.handle, n < 50 ? n : 100 + n - 50);
        n++;
    }
    assert_int_equal(n, 60);
    sl_links_stats(s, 0, &st);
    assert_int_equal(st.drops[SL_LINK_QUEUE_FULL], 140);
    assert_int_equal(st.airtime_ns, 60 * ms);
    assert_int_equal(st.late_max_ns, 999 * ms);
    assert_conserved(s, 0);
    sl_links_free(s);
}

static void queue__smaller_than_a_packet_still_takes_one(void **state)
{
    struct sl_links *s = one_link(8e6, 0, 0, 100, 10);

    assert_int_equal(sl_links_offer(s, 0, 0, 1000, 0), SL_LINK_TAKEN);
    assert_int_equal(sl_links_offer(s, 0, 0, 1000, 0), SL_LINK_QUEUE_FULL);
    sl_links_free(s);
}

/* What becomes of packets that are offered one by one to an idle link. */
static enum sl_link_verdict fate(struct sl_links *s, uint32_t link, uint32_t i, uint64_t now_ns)
{
    struct sl_link_out out;

    assert_int_equal(sl_links_offer(s, link, i, 100, now_ns), SL_LINK_TAKEN);
    assert_true(fetch(s, &out) != UINT64_MAX);
    assert_int_equal(out.handle, i);
    return out.verdict;
}

/* 100,000 packets: within 4.5 standard deviations of the binomial, and the same ones every time. */
static void loss__is_binomial_and_a_function_of_the_key(void **state)
{
    static const double losses[] = {0.01, 0.05, 0.3};
    enum { N = 100000 };

    for (size_t k = 0; k < 3; k++) {
        struct sl_links *a = one_link(1e9, 0, losses[k], 1 << 20, N),
                        *b = one_link(1e6, 5, losses[k], 1 << 20, N);
        struct sl_link_stats st;
        double mean = N * losses[k], sd = sqrt(N * losses[k] * (1 - losses[k]));
        for (uint32_t i = 0; i < N; i++)
            assert_int_equal(fate(a, 0, i, i * ms), fate(b, 0, i, i * 10 * ms));
        sl_links_stats(a, 0, &st);
        assert_true(fabs((double)st.drops[SL_LINK_LOST] - mean) < 4.5 * sd);
        assert_true(st.drops[SL_LINK_LOST] > 0);
        assert_conserved(a, 0);
        sl_links_free(a);
        sl_links_free(b);
    }
}

static void loss__differs_between_keys_and_has_both_ends(void **state)
{
    struct sl_links *s;
    struct sl_link_params p = params(1e9, 0, 0.5, 1 << 20);
    unsigned differ = 0;

    assert_int_equal(sl_links_create(3, 10000, &s), 0);
    sl_links_set(s, 0, &p, sl_rng_key(7, "phone 0 up"));
    sl_links_set(s, 1, &p, sl_rng_key(7, "phone 0 down"));
    for (uint32_t i = 0; i < 1000; i++)
        differ += fate(s, 0, i, i * ms) != fate(s, 1, i, i * ms);
    assert_in_range(differ, 400, 600);
    p.impairment.loss.good = 1;
    sl_links_set(s, 2, &p, 3);
    assert_int_equal(fate(s, 2, 0, 2000 * ms), SL_LINK_LOST);
    sl_links_free(s);
}

/* Lost packets use the rate: 10 packets of 1 ms each, all lost, delay the eleventh. */
static void loss__strikes_after_the_queue(void **state)
{
    struct sl_links *s = one_link(12e6, 0, 1, 1 << 20, 100);
    struct sl_link_params sound = params(12e6, 0, 0, 1 << 20);
    struct sl_link_out out;

    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(sl_links_offer(s, 0, i, 1500 - IP, 0), SL_LINK_TAKEN);
    assert_int_equal(sl_links_offer(s, 0, 10, 1500 - IP, 0), SL_LINK_TAKEN);
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(fetch(s, &out) <= (i + 1) * ms);
        assert_int_equal(out.verdict, SL_LINK_LOST);
    }
    sl_links_set(s, 0, &sound, 1);
    assert_true(fetch(s, &out) == 11 * ms);
    assert_int_equal(out.verdict, SL_LINK_TAKEN);
    sl_links_free(s);
}

/* Nothing begins to be served before the hold is over; what is on the air goes on. */
static void hold__puts_off_what_has_not_begun(void **state)
{
    struct sl_links *s = one_link(12e6, 0, 0, 1 << 20, 100);
    struct sl_link_out out;

    sl_links_offer(s, 0, 0, 1500 - IP, 0);
    sl_links_offer(s, 0, 1, 1500 - IP, 0);
    sl_links_hold(s, 0, 50 * ms);
    sl_links_hold(s, 0, 20 * ms); /* none shortens */
    assert_true(fetch(s, &out) == 1 * ms);
    assert_true(fetch(s, &out) == 51 * ms);
    assert_int_equal(out.handle, 1);
    /* A beginning that was scheduled is put off, too. */
    sl_links_hold(s, 0, 60 * ms);
    sl_links_offer(s, 0, 2, 1500 - IP, 55 * ms);
    sl_links_hold(s, 0, 70 * ms);
    assert_true(fetch(s, &out) == 71 * ms);
    assert_conserved(s, 0);
    sl_links_free(s);
}

/* A trace of 3 opportunities a 10 ms: two at 2 ms, one at 10 ms; by hand. */
static void trace__serves_by_opportunities(void **state)
{
    uint32_t at_ms[] = {2, 2, 10};
    struct sl_trace trace = {at_ms, 3};
    struct sl_link_params p = params(0, 0, 0, 1 << 20);
    static const struct {
        uint32_t bytes;
        uint64_t due_ms;
    } sent[] = {{1500, 2}, {800, 2}, {1000, 10} /* 700 bytes at 2 ms, 300 at 10 */, {1200, 10}, {1501, 12},
        {1499, 12}, {100, 20}};
    struct sl_links *s;
    struct sl_link_out out;

    p.service = (struct sl_service_params){.kind = SL_SERVICE_TRACE, .trace = &trace};
    assert_int_equal(sl_links_create(1, 100, &s), 0);
    assert_int_equal(sl_links_set(s, 0, &p, 1), 0);
    for (uint32_t i = 0; i < sizeof sent / sizeof sent[0]; i++)
        assert_int_equal(sl_links_offer(s, 0, i, sent[i].bytes - IP, 0), SL_LINK_TAKEN);
    for (uint32_t i = 0; i < sizeof sent / sizeof sent[0]; i++) {
        assert_true(fetch(s, &out) == sent[i].due_ms * ms);
        assert_int_equal(out.handle, i);
    }
    /* What was not used is lost: 1400 bytes of the opportunity at 20 ms do not help at 20.5 ms. */
    sl_links_offer(s, 0, 0, 1500 - IP, 20 * ms + ms / 2);
    assert_true(fetch(s, &out) == 22 * ms);
    sl_links_offer(s, 0, 0, 200 - IP, 1000002 * ms);
    assert_true(fetch(s, &out) == 1000002 * ms);
    assert_conserved(s, 0);
    sl_links_free(s);
}

/* At saturation a random trace delivers what a plain count of its opportunities says, at any phase. */
static void trace__delivers_all_opportunities(void **state)
{
    enum { N = 500, SECONDS = 20 };
    uint32_t at_ms[N];

    for (uint32_t round = 0; round < 8; round++) {
        uint32_t t = 0;
        for (uint32_t i = 0; i < N; i++)
            at_ms[i] = t += (uint32_t)(sl_rng_u64(round, i) % 7 == 0 ? sl_rng_u64(round, N + i) % 40 : i % 2);
        struct sl_trace trace = {at_ms, N};
        uint64_t phase = sl_rng_u64(99, round) % (at_ms[N - 1] * ms) / ms * ms, expected = 0;
        struct sl_link_params p = params(0, 0, 0, 20000);
        struct sl_links *s;
        struct sl_link_out out;
        struct sl_link_stats st;
        p.service = (struct sl_service_params){.kind = SL_SERVICE_TRACE, .trace = &trace, .phase_ns = phase};
        assert_int_equal(sl_links_create(1, 100, &s), 0);
        assert_int_equal(sl_links_set(s, 0, &p, 1), 0);
        /* Counted one by one from the start of the record. */
        for (uint64_t base = 0; base <= phase / ms + SECONDS * 1000; base += at_ms[N - 1])
            for (uint32_t i = 0; i < N; i++)
                expected +=
                    (base + at_ms[i]) * ms >= phase && (base + at_ms[i]) * ms < phase + SECONDS * 1000 * ms;
        uint64_t now = 0;
        while (now < SECONDS * 1000 * ms) {
            while (sl_links_offer(s, 0, 0, 1400 - IP, now) == SL_LINK_TAKEN)
                ;
            now = sl_links_deadline(s);
            while (now < SECONDS * 1000 * ms && sl_link_next(s, now, &out))
                ;
        }
        sl_links_stats(s, 0, &st);
        assert_true(fabs((double)st.delivered_bytes - (double)expected * SL_OPPORTUNITY_BYTES) <= 1400);
        assert_true(sl_service_capacity(sl_links_service(s, 0), 0, SECONDS * 1000 * ms) ==
                    (double)expected * SL_OPPORTUNITY_BYTES);
        sl_links_free(s);
    }
}

/* 8 Mbit/s for 10 ms, nothing for 5 ms, 16 Mbit/s for 5 ms: 1000, 0 and 2000 bytes a ms. */
static void series__integrates_the_rate(void **state)
{
    uint64_t at_ns[] = {0, 10 * ms, 15 * ms, 20 * ms};
    double rate[] = {8e6, 0, 16e6, 0};
    struct sl_series series = {at_ns, rate, 4};
    struct sl_link_params p = params(0, 0, 0, 1 << 20);
    static const double due_ms[] = {6, 15.5 + 0.5, 19, 22, 28};
    struct sl_links *s;
    struct sl_link_out out;

    p.service = (struct sl_service_params){.kind = SL_SERVICE_SERIES, .series = &series};
    assert_int_equal(sl_links_create(1, 100, &s), 0);
    assert_int_equal(sl_links_set(s, 0, &p, 1), 0);
    sl_links_offer(s, 0, 0, 6000 - IP, 0); /* 6 ms */
    sl_links_offer(s, 0, 1, 6000 - IP, 0); /* 4000 by 10 ms, 2000 by 16 ms */
    sl_links_offer(s, 0, 2, 6000 - IP, 0); /* by 19 ms */
    sl_links_offer(s, 0, 3, 4000 - IP, 0); /* 2000 by 20 ms, 2000 by 22 ms */
    sl_links_offer(s, 0, 4, 6000 - IP, 0); /* by 28 ms */
    for (uint32_t i = 0; i < 5; i++)
        assert_true(fabs((double)fetch(s, &out) - due_ms[i] * 1e6) <= 2);
    assert_true(
        fabs(sl_service_capacity(sl_links_service(s, 0), 0, 36 * ms) - (20000 + 10000 + 2000)) < 1e-6);
    /* A gigabyte takes 50,000 cycles of 20 kB. */
    sl_links_offer(s, 0, 9, 1000000000 - IP, 40 * ms);
    assert_true(fabs((double)fetch(s, &out) - 40e6 - 50000 * 20e6) <= 1e3);
    sl_links_free(s);
}

struct test_granter {
    struct sl_links *links;
    uint64_t at_ns;
    unsigned backlogged;
};
static uint64_t granter_deadline(void *ctx)
{
    return ((struct test_granter *)ctx)->at_ns;
}
static void granter_run(void *ctx, uint64_t at_ns)
{
    struct test_granter *g = ctx;

    g->at_ns = sl_links_grant(g->links, 0, 700, at_ns) == 700 ? at_ns + ms : UINT64_MAX;
}
static void granter_backlogged(void *ctx, uint32_t link, uint64_t at_ns)
{
    struct test_granter *g = ctx;

    g->backlogged++;
    g->at_ns = at_ns + ms;
}

/* 700 bytes a ms, from 1 ms after the first packet on. */
static void grant__serves_as_it_is_given(void **state)
{
    struct sl_link_params p = params(0, 10 * ms, 0, 1 << 20);
    struct test_granter g = {.at_ns = UINT64_MAX};
    struct sl_link_out out;

    p.service.kind = SL_SERVICE_GRANTED;
    assert_int_equal(sl_links_create(1, 100, &g.links), 0);
    assert_int_equal(sl_links_set(g.links, 0, &p, 1), 0);
    sl_links_set_granter(
        g.links, &(struct sl_granter){&g, granter_deadline, granter_run, granter_backlogged});
    sl_links_offer(g.links, 0, 0, 1000 - IP, 5 * ms);
    sl_links_offer(g.links, 0, 1, 400 - IP, 5 * ms);
    assert_int_equal(g.backlogged, 1);
    assert_int_equal(sl_links_backlog_bytes(g.links, 0), 1400);
    assert_true(fetch(g.links, &out) == 17 * ms); /* 700 at 6 ms, 300 at 7 ms */
    assert_true(fetch(g.links, &out) == 17 * ms);
    assert_int_equal(out.handle, 1);
    sl_links_hold(g.links, 0, 40 * ms);
    g.at_ns = 30 * ms;
    sl_links_offer(g.links, 0, 2, 100 - IP, 30 * ms);
    assert_int_equal(g.backlogged, 2);
    assert_true(fetch(g.links, &out) == UINT64_MAX); /* held: the grant was not used, and there is no other */
    uint32_t handle;
    assert_true(sl_links_evict(g.links, &handle));
    assert_int_equal(handle, 2);
    assert_false(sl_links_evict(g.links, &handle));
    sl_links_free(g.links);
}

/* Many links with different rates and delays: arrivals come in order of time, each link's in order of
 * sending. */
static void next__is_in_order_of_arrival_over_all_links(void **state)
{
    enum { LINKS = 37, PACKETS = 200 };
    struct sl_links *s;
    struct sl_link_out out;
    uint32_t seen[LINKS] = {0}, total = 0;
    uint64_t last = 0, due;

    assert_int_equal(sl_links_create(LINKS, LINKS * PACKETS, &s), 0);
    for (uint32_t i = 0; i < LINKS; i++) {
        struct sl_link_params p = params(1e6 * (1 + i * 7 % 13), i * 11 % 17 * ms, 0, 1 << 30);
        sl_links_set(s, i, &p, i);
    }
    for (uint32_t k = 0; k < PACKETS; k++) {
        for (uint32_t i = 0; i < LINKS; i++)
            assert_int_equal(
                sl_links_offer(s, i, k, 40 + (uint32_t)(sl_rng_u64(1, k * LINKS + i) % 1400), k * ms / 3),
                SL_LINK_TAKEN);
    }
    assert_int_equal(sl_links_offer(s, 0, 0, 100, 0), SL_LINK_NO_ROOM);
    while ((due = fetch(s, &out)) != UINT64_MAX) {
        assert_true(out.due_ns >= last && due == out.due_ns);
        last = due;
        assert_int_equal(out.handle, seen[out.link]++);
        total++;
    }
    assert_int_equal(total, LINKS * PACKETS);
    for (uint32_t i = 0; i < LINKS; i++)
        assert_conserved(s, i);
    sl_links_free(s);
}

static void set__refuses_what_is_no_link(void **state)
{
    static const double bad_rates[] = {0, -1e6, NAN}, bad_losses[] = {-0.1, 1.1, NAN};
    struct sl_link_params p;
    struct sl_links *s;

    assert_int_equal(sl_links_create(0, 1, &s), -EINVAL);
    assert_int_equal(sl_links_create(1, 0, &s), -EINVAL);
    assert_int_equal(sl_links_create(1, 4, &s), 0);
    for (size_t i = 0; i < 3; i++) {
        p = params(bad_rates[i], 0, 0, 1000);
        assert_int_equal(sl_links_set(s, 0, &p, 0), -EINVAL);
        p = params(1e6, 0, bad_losses[i], 1000);
        assert_int_equal(sl_links_set(s, 0, &p, 0), -EINVAL);
    }
    p = params(1e6, 0, 0, 1000);
    assert_int_equal(sl_links_set(s, 1, &p, 0), -EINVAL);
    assert_int_equal(sl_links_offer(s, 0, 0, 100, 0), SL_LINK_NO_ROOM); /* never set up */
    assert_int_equal(sl_links_offer(s, 9, 0, 100, 0), SL_LINK_NO_ROOM);
    sl_links_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offer__arrives_after_serialisation_and_delay),
        cmocka_unit_test(rate__is_exact_over_many_packets),
        cmocka_unit_test(queue__drops_the_tail),
        cmocka_unit_test(queue__smaller_than_a_packet_still_takes_one),
        cmocka_unit_test(loss__is_binomial_and_a_function_of_the_key),
        cmocka_unit_test(loss__differs_between_keys_and_has_both_ends),
        cmocka_unit_test(loss__strikes_after_the_queue),
        cmocka_unit_test(hold__puts_off_what_has_not_begun),
        cmocka_unit_test(trace__serves_by_opportunities),
        cmocka_unit_test(trace__delivers_all_opportunities),
        cmocka_unit_test(series__integrates_the_rate),
        cmocka_unit_test(grant__serves_as_it_is_given),
        cmocka_unit_test(next__is_in_order_of_arrival_over_all_links),
        cmocka_unit_test(set__refuses_what_is_no_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
