/* PIE against RFC 8033's pseudocode, written a second time (plain_pie.h) with a timer that never sleeps; and
 * the state that its integral term leads to under a constant overload: delay at the target, drops for the
 * excess. */
#include "device-sim/link/pie.h"

#include "tests/device-sim/plain_pie.h"
#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

static const uint64_t ms = 1000000;

/* ---- a queue of packets around either, at 1250 bytes a millisecond ---- */

struct packet {
    uint64_t at_ns;
    uint32_t size;
};
enum { PACKETS = 60000, RATE = 1250 };

struct tally {
    unsigned early, served, bursts;
    double max_prob;
};

/* The same arrivals to both, what one drops the other must. */
static void compare(uint64_t seed, struct tally *t)
{
    struct packet *queue = calloc(PACKETS, sizeof(*queue));
    struct plain_pie plain = {.qdelay_ref = 0.015, .burst_allowance = PLAIN_MAX_BURST, .key = seed};
    struct sl_pie pie;
    unsigned head = 0, tail = 0;
    uint64_t bytes = 0, at = 1000 * ms, free_at = 0, timer = 0;

    sl_pie_init(&pie, SL_PIE_TARGET_NS, seed);
    for (unsigned i = 0; i < PACKETS; i++) {
        uint64_t r = sl_rng_u64(~seed, i);
        double load = 0.1 + 1.6 * (0.5 + 0.5 * sin((double)at * 1e-9 * 0.7 * (double)(1 + seed % 4)));
        if (i % 9000 == 8999)
            at += 3000 * ms; /* rests now and then */
        at += (uint64_t)(-log((double)((r >> 11) + 1) * 0x1p-53) / load * 0.62e6);
        uint32_t size = 60 + (uint32_t)(r % 1441);
        if (timer == 0)
            timer = at + 15 * ms;
        /* in order of time: services, ticks of the plain one's timer, the arrival; ticks first at a tie */
        for (;;) {
            uint64_t begins = head == tail                  ? UINT64_MAX
                              : queue[head].at_ns > free_at ? queue[head].at_ns
                                                            : free_at;
            if (timer <= begins && timer <= at) {
                plain_pie_update(&plain);
                timer += 15 * ms;
            } else if (begins <= at) {
                bytes -= queue[head].size;
                uint64_t sojourn = begins - queue[head].at_ns;
                sl_pie_served(&pie, sojourn, bytes, begins);
                plain.current_qdelay = bytes ? (double)sojourn * 1e-9 : 0;
                free_at = begins + queue[head].size * ms / RATE;
                head++;
                t->served++;
            } else {
                break;
            }
        }
        bool drops = sl_pie_drops(&pie, bytes, at);
        if (drops == plain_enqueue(&plain, bytes))
            fail_msg("seed %llu, packet %u: dropped %d, by the RFC %d", (unsigned long long)seed, i, drops,
                !drops);
        assert_true(fabs(pie.drop_prob - plain.drop_prob) < 1e-9);
        t->early += drops;
        t->bursts += plain.burst_allowance > 0 && plain.drop_prob > 0;
        t->max_prob = fmax(t->max_prob, plain.drop_prob);
        if (!drops) {
            queue[tail++] = (struct packet){at, size};
            bytes += size;
        }
    }
    free(queue);
}

static void drops__as_the_pseudocode_of_the_rfc(void **state)
{
    struct tally t = {0};

    for (uint64_t seed = 1; seed <= 12; seed++)
        compare(seed, &t);
    print_message("%u early drops, %u under a burst allowance, highest probability %.3f\n", t.early, t.bursts,
        t.max_prob);
    assert_true(t.early > 5000 && t.bursts > 500 && t.max_prob > 0.15);
}

/* Offered 1.25 times the rate: the probability must come to 1 - 1 / 1.25 = 0.2 and the delay to 15 ms. Means
 * over the last 60 of 120 s, within 5 %. */
static void constant_overload__delay_comes_to_the_target(void **state)
{
    enum { SIZE = 1250 };
    struct sl_pie pie;
    static uint64_t taken_at[200000];
    unsigned head = 0, tail = 0, offered = 0, dropped = 0, n = 0;
    uint64_t free_at = 0;
    double delay_sum = 0;

    sl_pie_init(&pie, SL_PIE_TARGET_NS, 7);
    for (uint64_t at = ms; at < 120000 * ms; at += 8 * ms / 10) {
        while (head < tail && free_at <= at) {
            uint64_t begins = free_at > taken_at[head] ? free_at : taken_at[head];
            if (begins > at)
                break;
            sl_pie_served(&pie, begins - taken_at[head], (uint64_t)(tail - head - 1) * SIZE, begins);
            if (at > 60000 * ms) {
                delay_sum += (double)(begins - taken_at[head]) * 1e-6;
                n++;
            }
            free_at = begins + ms;
            head++;
        }
        bool drop = sl_pie_drops(&pie, (uint64_t)(tail - head) * SIZE, at);
        if (at > 60000 * ms) {
            offered++;
            dropped += drop;
        }
        if (!drop)
            taken_at[tail++] = at;
    }
    print_message("mean delay %.2f ms, share dropped %.4f\n", delay_sum / n, (double)dropped / offered);
    assert_true(fabs(delay_sum / n - 15) < 0.75);
    assert_true(fabs((double)dropped / offered - 0.2) < 0.01);
}

/* A burst of 100 ms into a queue at rest goes through whole; one of 400 ms does not. */
static void burst__is_allowed_for_150_ms(void **state)
{
    struct sl_pie pie;
    unsigned dropped[2] = {0};

    for (unsigned k = 0; k < 2; k++) {
        uint64_t until = (k ? 1400 : 1100) * ms;
        sl_pie_init(&pie, SL_PIE_TARGET_NS, 3);
        for (uint64_t at = 1000 * ms, i = 0; at < until; at += ms / 4, i++) {
            dropped[k] += sl_pie_drops(&pie, i * 1000, at);
            if (i % 4 == 3)
                sl_pie_served(&pie, i / 4 * 3 * ms / 4, i * 1000, at);
        }
    }
    assert_int_equal(dropped[0], 0);
    assert_true(dropped[1] > 0);
}

/* An hour of rest costs no more than a few thousand steps, and leaves the state of a new queue. */
static void rest__forgets(void **state)
{
    struct sl_pie pie;
    uint64_t at = ms;

    sl_pie_init(&pie, SL_PIE_TARGET_NS, 3);
    for (unsigned i = 0; i < 100000; i++, at += ms / 10) {
        sl_pie_drops(&pie, 1000000, at);
        sl_pie_served(&pie, 100 * ms, 1000000, at);
    }
    assert_true(pie.drop_prob > 0.5);
    sl_pie_served(&pie, 100 * ms, 0, at);
    assert_false(sl_pie_drops(&pie, 0, at + 3600000 * ms));
    assert_true(pie.drop_prob == 0);
    assert_int_equal(pie.burst_ns, SL_PIE_MAX_BURST_NS);
    assert_true(pie.next_update_ns > at + 3600000 * ms && pie.next_update_ns <= at + 3600015 * ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drops__as_the_pseudocode_of_the_rfc),
        cmocka_unit_test(constant_overload__delay_comes_to_the_target),
        cmocka_unit_test(burst__is_allowed_for_150_ms),
        cmocka_unit_test(rest__forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
