/* CoDel against RFC 8289's pseudocode, written a second time (plain_codel.h); the control law's
 * closed form under a standing queue; and what must never be dropped. */
#include "device-sim/link/codel.h"

#include "tests/device-sim/plain_codel.h"
#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

static const uint64_t ms = 1000000;

enum { PACKETS = 40000 };

/* ---- both on the same arrivals ---- */

/* Arrivals whose load swings between an idle link and several times its rate, over seconds. */
static void make_arrivals(uint64_t *at_ns, uint32_t *size, uint64_t seed)
{
    uint64_t t = 1000 * ms;

    for (unsigned i = 0; i < PACKETS; i++) {
        uint64_t r = sl_rng_u64(seed, i);
        double load = 0.2 + 2.2 * (0.5 + 0.5 * sin((double)t * 1e-9 * (0.9 + (double)(seed % 5))));
        double gap_ms = -log((double)((r >> 11) + 1) * 0x1p-53) / load;
        t += (uint64_t)(gap_ms * 1e6);
        at_ns[i] = t;
        size[i] = 60 + (uint32_t)(r % 1441);
    }
}

/* The link serves 780 bytes a millisecond: the mean packet's size. Returns how many were dropped; where the
 * two differ is a failure. */
static unsigned compare(uint64_t seed, struct plain_codel *q)
{
    uint64_t *at = calloc(PACKETS, sizeof(*at)), backlog = 0, now;
    uint32_t *size = calloc(PACKETS, sizeof(*size));
    struct sl_codel c;
    unsigned head = 0, tail = 0, dropped = 0;

    *q = (struct plain_codel){.target = 5e6,
        .interval = 1e8,
        .packet = calloc(PACKETS, sizeof(*q->packet)),
        .fate = calloc(PACKETS, 1)};
    make_arrivals(at, size, seed);
    sl_codel_init(&c, SL_CODEL_TARGET_NS, SL_CODEL_INTERVAL_NS);
    for (now = at[0]; head < PACKETS;) {
        for (; tail < PACKETS && at[tail] <= now; tail++) {
            q->packet[q->tail++] = (struct plain_packet){(double)at[tail], size[tail]};
            q->bytes += size[tail];
            backlog += size[tail];
        }
        if (head == tail) {
            now = at[tail];
            continue;
        }
        bool drop;
        do {
            backlog -= size[head];
            drop = sl_codel_drops(&c, now - at[head], backlog, now);
            head++;
            dropped += drop;
        } while (drop);
        int served = plain_deque(q, (double)now);
        if (served != (int)head - 1)
            fail_msg(
                "seed %llu: packet %u is served, by the RFC %d", (unsigned long long)seed, head - 1, served);
        now += (uint64_t)size[head - 1] * ms / 780;
    }
    free(at);
    free(size);
    return dropped;
}

static void drops__as_the_pseudocode_of_the_rfc(void **state)
{
    unsigned dropped = 0, reentries = 0, loops = 0;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct plain_codel q;
        dropped += compare(seed, &q);
        reentries += q.reentries;
        loops += q.loops;
        free(q.packet);
        free(q.fate);
    }
    print_message("%u drops, %u entries that took up the old count, %u calls with several drops\n", dropped,
        reentries, loops);
    assert_true(dropped > 2000 && reentries > 20 && loops > 20); /* the arrivals reach every branch */
}

/* A queue that never drains: drop n comes at sum_{k<n} interval / sqrt(k) after the first, near 2 interval
 * sqrt n. */
static void standing_queue__drops_by_the_control_law(void **state)
{
    struct sl_codel c;
    uint64_t first = 0;
    unsigned n = 0;
    double due = 0;

    sl_codel_init(&c, SL_CODEL_TARGET_NS, SL_CODEL_INTERVAL_NS);
    for (uint64_t now = 1000 * ms; now < 11000 * ms; now += ms / 10) {
        while (sl_codel_drops(&c, 50 * ms, 100000, now)) {
            if (n++ == 0) {
                first = now;
                assert_int_equal(now, 1100 * ms); /* an interval after the first look */
            }
            assert_true(fabs((double)(now - first) * 1e-9 - due) < 1.1e-4); /* the grid of calls is 0.1 ms */
            due += 0.1 / sqrt(n);
        }
    }
    double t = 9.9;
    assert_true(fabs(sqrt(n) - t / 0.2) < 1); /* n = (t / 2 interval)^2 */
}

static void short_or_small_queue__is_left_alone(void **state)
{
    struct sl_codel below, small, interrupted;

    sl_codel_init(&below, 5 * ms, 100 * ms);
    sl_codel_init(&small, 5 * ms, 100 * ms);
    sl_codel_init(&interrupted, 5 * ms, 100 * ms);
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t now = i * ms;
        assert_false(sl_codel_drops(&below, 5 * ms - 1, 1000000, now));
        assert_false(sl_codel_drops(&small, 900 * ms, SL_CODEL_MTU_BYTES, now));
        /* one packet in time every 99 ms is enough */
        assert_false(sl_codel_drops(&interrupted, i % 99 == 0 ? ms : 50 * ms, 1000000, now));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drops__as_the_pseudocode_of_the_rfc),
        cmocka_unit_test(standing_queue__drops_by_the_control_law),
        cmocka_unit_test(short_or_small_queue__is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
