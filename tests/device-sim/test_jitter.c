/* Jitter's distribution against the exponential by Kolmogorov and Smirnov's test (99.9 %, fixed seed), order,
 * and the share that is held back. */
#include "device-sim/link/jitter.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { N = 200000 };
static const uint64_t ms = 1000000;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Packets far apart: each has its own delay. */
static void spaced_packets__have_an_exponential_delay(void **state)
{
    struct sl_jitter_params p = {.mean_ns = 4 * ms};
    double *delay = calloc(N, sizeof(*delay)), worst = 0, sum = 0;
    struct sl_jitter j;

    assert_int_equal(sl_jitter_init(&j, &p, sl_rng_key(7, "link 0 up")), 0);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t due = i * 1000 * ms;
        delay[i] = (double)(sl_jitter_arrival(&j, due) - due) * 1e-6;
        sum += delay[i];
    }
    qsort(delay, N, sizeof(*delay), ascending);
    for (unsigned i = 0; i < N; i++) {
        double f = 1 - exp(-delay[i] / 4);
        worst = fmax(worst, fmax(fabs(f - (double)i / N), fabs(f - (double)(i + 1) / N)));
    }
    print_message("mean %.3f ms, Kolmogorov-Smirnov %.5f, limit %.5f\n", sum / N, worst, 1.949 / sqrt(N));
    assert_true(worst < 1.949 / sqrt(N));
    assert_true(fabs(sum / N - 4) < 3.3 * 4 / sqrt(N));
    free(delay);
}

/* Close packets: in order, never early, and as late as the latest before them at most: a running maximum,
 * here taken from delays drawn anew for spaced packets under the same key. */
static void close_packets__keep_their_order(void **state)
{
    struct sl_jitter_params p = {.mean_ns = 4 * ms};
    struct sl_jitter j, alone;
    uint64_t latest = 0;

    sl_jitter_init(&j, &p, 3);
    sl_jitter_init(&alone, &p, 3);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t due = i * ms / 4, apart = i * 1000 * ms;
        uint64_t own = due + sl_jitter_arrival(&alone, apart) - apart;
        latest = own > latest ? own : latest;
        assert_int_equal(sl_jitter_arrival(&j, due), latest);
    }
}

/* Held back: as many as asked, by 99.9 % of the binomial; each of them is overtaken by what comes in that
 * time, and all others keep their order. */
static void reorder__holds_a_share_back(void **state)
{
    static const double shares[] = {0.01, 0.1, 0.5};

    for (unsigned k = 0; k < 3; k++) {
        struct sl_jitter_params p = {.reorder = shares[k], .reorder_by_ns = 5 * ms};
        struct sl_jitter j;
        double held = 0;
        sl_jitter_init(&j, &p, 40 + k);
        for (uint64_t i = 1; i <= N; i++) {
            uint64_t at = sl_jitter_arrival(&j, i * ms);
            assert_true(at == i * ms || at == (i + 5) * ms);
            held += at != i * ms;
        }
        assert_true(fabs(held / N - shares[k]) < 3.3 * sqrt(shares[k] * (1 - shares[k]) / N));
    }
}

/* Together: what is not held back is still in order. */
static void reorder_and_jitter__only_the_held_back_are_out_of_order(void **state)
{
    struct sl_jitter_params p = {.mean_ns = 2 * ms, .reorder = 0.05, .reorder_by_ns = 20 * ms};
    struct sl_jitter j;
    uint64_t highest = 0, overtaken = 0;

    sl_jitter_init(&j, &p, 8);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t before = j.latest_ns, at = sl_jitter_arrival(&j, i * ms / 2);
        bool held = j.latest_ns == before && at >= before + 20 * ms;
        assert_true(held || at >= highest);
        highest = held ? highest : at;
        overtaken += held;
    }
    assert_true(fabs((double)overtaken / N - 0.05) < 3.3 * sqrt(0.05 * 0.95 / N));
}

static void nothing_asked__nothing_changes(void **state)
{
    struct sl_jitter j;

    sl_jitter_init(&j, &(struct sl_jitter_params){0}, 1);
    assert_int_equal(sl_jitter_arrival(&j, 10 * ms), 10 * ms);
    assert_int_equal(sl_jitter_arrival(&j, 9 * ms), 9 * ms);
    assert_int_equal(sl_jitter_init(&j, &(struct sl_jitter_params){.reorder = 1.5}, 1), -EINVAL);
    assert_int_equal(sl_jitter_init(&j, &(struct sl_jitter_params){.reorder = NAN}, 1), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spaced_packets__have_an_exponential_delay),
        cmocka_unit_test(close_packets__keep_their_order),
        cmocka_unit_test(reorder__holds_a_share_back),
        cmocka_unit_test(reorder_and_jitter__only_the_held_back_are_out_of_order),
        cmocka_unit_test(nothing_asked__nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
