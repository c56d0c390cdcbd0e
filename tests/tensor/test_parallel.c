#include "tests/tensor/twin.h"
#include "trainer/tensor/parallel.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parallel__does_everything_once_in_whole_grains),
        cmocka_unit_test(parallel__does_nothing_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
