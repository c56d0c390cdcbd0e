#include "tests/tensor/twin.h"
#include "trainer/tensor/parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct seen {
    uint8_t times[1000];
    uint32_t grain, total;
    atomic_uint calls, wrong;
};

static void mark(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    struct seen *s = ctx;
    s->calls++;
    if (first % s->grain || thread >= sl_parallel_threads() || (first + n != s->total && n % s->grain))
        s->wrong++;
    for (uint32_t i = first; i < first + n; i++)
        s->times[i]++;
}

static void parallel__does_everything_once_in_whole_grains(void **state)
{
    static const uint32_t threads[] = {1, 2, 3, 7};
    static const uint32_t totals[] = {1, 15, 16, 17, 508, 1000}, grains[] = {1, 16, 300};
    for (unsigned t = 0; t < sizeof threads / sizeof *threads; t++) {
        sl_parallel_set_threads(threads[t]);
        for (unsigned i = 0; i < sizeof totals / sizeof *totals; i++) {
            for (unsigned g = 0; g < sizeof grains / sizeof *grains; g++) {
                struct seen s = {.grain = grains[g], .total = totals[i]};
                sl_parallel(totals[i], grains[g], mark, &s);
                assert_int_equal(s.wrong, 0);
                assert_true(s.calls >= 1 && s.calls <= threads[t]);
                for (uint32_t k = 0; k < 1000; k++)
                    assert_int_equal(s.times[k], k < totals[i]);
            }
        }
    }
    sl_parallel_set_threads(1);
}

static void parallel__does_nothing_for_nothing(void **state)
{
    struct seen s = {.grain = 1};
    sl_parallel(0, 1, mark, &s);
    assert_int_equal(s.calls, 0);
}

static void again(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    struct seen *inner = ctx;
    sl_parallel(inner[thread].total, inner[thread].grain, mark, &inner[thread]);
}

static void parallel__a_range_inside_a_range_runs_in_its_caller(void **state)
{
    struct seen inner[3] = {
        {.grain = 1, .total = 500}, {.grain = 16, .total = 999}, {.grain = 3, .total = 1000}};
    sl_parallel_set_threads(3);
    sl_parallel(3, 1, again, inner);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(inner[i].calls, 1);
        for (uint32_t k = 0; k < inner[i].total; k++)
            assert_int_equal(inner[i].times[k], 1);
    }
    sl_parallel_set_threads(1);
}

static void *call_often(void *wrong)
{
    for (unsigned round = 0; round < 2000; round++) {
        struct seen s = {.grain = 16, .total = 1000};
        sl_parallel(s.total, s.grain, mark, &s);
        for (uint32_t k = 0; k < s.total; k++)
            *(unsigned *)wrong += s.times[k] != 1;
        *(unsigned *)wrong += s.wrong + (s.calls != 3);
    }
    return NULL;
}

/* One of them has the helpers, the other does its ranges alone: the same ranges. */
static void parallel__two_callers_at_once(void **state)
{
    pthread_t thread;
    unsigned wrong[2] = {0};
    sl_parallel_set_threads(3);
    assert_int_equal(pthread_create(&thread, NULL, call_often, &wrong[0]), 0);
    call_often(&wrong[1]);
    pthread_join(thread, NULL);
    assert_int_equal(wrong[0] + wrong[1], 0);
    sl_parallel_set_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parallel__does_everything_once_in_whole_grains),
        cmocka_unit_test(parallel__does_nothing_for_nothing),
        cmocka_unit_test(parallel__a_range_inside_a_range_runs_in_its_caller),
        cmocka_unit_test(parallel__two_callers_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
