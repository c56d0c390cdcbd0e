/* The link emulator against closed forms, on a virtual clock. */
#include "device-sim/link/link.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

enum { IP = SL_LINK_IP_UDP_BYTES };
static const uint64_t ms = 1000000;

static struct sl_links *one_link(
    double rate_bps, uint64_t delay_ns, double loss, uint64_t queue, uint32_t room)
{
    struct sl_links *s;
    struct sl_link_params p = {rate_bps, delay_ns, loss, queue};

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
    uint32_t link, handle;

    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(sl_links_offer(s, 0, 100 + i, 1500 - IP, 1000 * ms), SL_LINK_TAKEN);
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t due = (1000 + i + 1 + 20) * ms;
        assert_int_equal(sl_links_deadline(s), due);
        assert_false(sl_link_next(s, due - 1, &link, &handle));
        assert_true(sl_link_next(s, due, &link, &handle));
        assert_int_equal(handle, 100 + i);
    }
    assert_int_equal(sl_links_deadline(s), UINT64_MAX);
    /* An idle link does not save up: the next packet takes its own millisecond from now. */
    sl_links_offer(s, 0, 1, 1500 - IP, 5000 * ms);
    assert_int_equal(sl_links_deadline(s), 5021 * ms);
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
        uint32_t link, handle;
        uint64_t now = 123456789, end = now + 10000 * ms;

        while (now < end) {
            while (sl_links_offer(s, 0, 0, 1200 - IP, now) == SL_LINK_TAKEN)
                ;
            now = sl_links_deadline(s);
            while (sl_link_next(s, now, &link, &handle))
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
    uint32_t link, handle;

    for (uint32_t i = 0; i < 100; i++)
        full += sl_links_offer(s, 0, i, 1000 - IP, 0) == SL_LINK_QUEUE_FULL;
    assert_int_equal(full, 50);
    /* 10 ms at 1000 bytes a ms drain ten places. */
    for (uint32_t i = 0; i < 100; i++)
        full += sl_links_offer(s, 0, 100 + i, 1000 - IP, 10 * ms) == SL_LINK_QUEUE_FULL;
    assert_int_equal(full, 50 + 90);
    uint32_t n = 0;
    while (sl_link_next(s, 1000 * ms, &link, &handle)) {
        assert_int_equal(handle, n < 50 ? n : 100 + n - 50);
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
            assert_int_equal(sl_links_offer(a, 0, i, 100, i * ms), sl_links_offer(b, 0, i, 100, i * 10 * ms));
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
    struct sl_link_params p = {1e9, 0, 0.5, 1 << 20};
    unsigned differ = 0;

    assert_int_equal(sl_links_create(3, 10000, &s), 0);
    sl_links_set(s, 0, &p, sl_rng_key(7, "phone 0 up"));
    sl_links_set(s, 1, &p, sl_rng_key(7, "phone 0 down"));
    for (uint32_t i = 0; i < 1000; i++)
        differ += sl_links_offer(s, 0, i, 100, i * ms) != sl_links_offer(s, 1, i, 100, i * ms);
    assert_in_range(differ, 400, 600);
    p.loss = 1;
    sl_links_set(s, 2, &p, 3);
    assert_int_equal(sl_links_offer(s, 2, 0, 100, 0), SL_LINK_LOST);
    sl_links_free(s);
}

/* Lost packets use the rate: 10 packets of 1 ms each, all lost, delay the eleventh. */
static void loss__strikes_after_the_queue(void **state)
{
    struct sl_links *s = one_link(12e6, 0, 1, 1 << 20, 100);
    struct sl_link_params sound = {12e6, 0, 0, 1 << 20};

    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(sl_links_offer(s, 0, i, 1500 - IP, 0), SL_LINK_LOST);
    sl_links_set(s, 0, &sound, 1);
    assert_int_equal(sl_links_offer(s, 0, 10, 1500 - IP, 0), SL_LINK_TAKEN);
    assert_int_equal(sl_links_deadline(s), 11 * ms);
    sl_links_free(s);
}

/* Many links with different rates and delays: arrivals come in order of time, each link's in order of
 * sending. */
static void next__is_in_order_of_arrival_over_all_links(void **state)
{
    enum { LINKS = 37, PACKETS = 200 };
    struct sl_links *s;
    uint32_t seen[LINKS] = {0}, link, handle, total = 0;
    uint64_t last = 0, due;

    assert_int_equal(sl_links_create(LINKS, LINKS * PACKETS, &s), 0);
    for (uint32_t i = 0; i < LINKS; i++) {
        struct sl_link_params p = {1e6 * (1 + i * 7 % 13), i * 11 % 17 * ms, 0, 1 << 30};
        sl_links_set(s, i, &p, i);
    }
    for (uint32_t k = 0; k < PACKETS; k++) {
        for (uint32_t i = 0; i < LINKS; i++)
            assert_int_equal(
                sl_links_offer(s, i, k, 40 + (uint32_t)(sl_rng_u64(1, k * LINKS + i) % 1400), k * ms / 3),
                SL_LINK_TAKEN);
    }
    assert_int_equal(sl_links_offer(s, 0, 0, 100, 0), SL_LINK_NO_ROOM);
    while ((due = sl_links_deadline(s)) != UINT64_MAX) {
        assert_true(due >= last);
        last = due;
        assert_true(sl_link_next(s, due, &link, &handle));
        assert_int_equal(handle, seen[link]++);
        total++;
    }
    assert_int_equal(total, LINKS * PACKETS);
    for (uint32_t i = 0; i < LINKS; i++)
        assert_conserved(s, i);
    sl_links_free(s);
}

static void set__refuses_what_is_no_link(void **state)
{
    static const struct sl_link_params bad[] = {
        {0, 0, 0, 0}, {-1e6, 0, 0, 0}, {NAN, 0, 0, 0}, {1e6, 0, -0.1, 0}, {1e6, 0, 1.1, 0}, {1e6, 0, NAN, 0}};
    struct sl_links *s;

    assert_int_equal(sl_links_create(0, 1, &s), -EINVAL);
    assert_int_equal(sl_links_create(1, 0, &s), -EINVAL);
    assert_int_equal(sl_links_create(1, 4, &s), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_links_set(s, 0, &bad[i], 0), -EINVAL);
    assert_int_equal(sl_links_set(s, 1, &(struct sl_link_params){1e6, 0, 0, 0}, 0), -EINVAL);
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
        cmocka_unit_test(next__is_in_order_of_arrival_over_all_links),
        cmocka_unit_test(set__refuses_what_is_no_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
