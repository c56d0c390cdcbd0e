#include "trainer/pipeline/modelled.h"

#include "dataplane/wire/packet.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Whatever the codec and wherever a message ends, what is decoded is finite, small and not all the same. */
static void gradient__every_codec__finite_and_small(void **state)
{
    enum { ROWS = 5, D = 48 };

    for (enum sl_codec codec = 0; codec < SL_CODEC_COUNT; codec++) {
        struct sl_grid g;
        uint8_t units[ROWS * D * sizeof(float) + 4 * SL_UNIT_BYTES];
        float x[ROWS * D];

        assert_int_equal(sl_grid_make(&g, ROWS, D, codec, 0, 1), 0);
        assert_true((size_t)g.tensor_units * SL_UNIT_BYTES <= sizeof(units));
        memset(units, 0xff, sizeof(units)); /* NaN in every codec */
        sl_modelled_gradient(codec, units, g.tensor_units);
        sl_codec_decode(codec, units, x, ROWS * D);
        double sum = 0;
        for (unsigned i = 0; i < ROWS * D; i++) {
            assert_true(isfinite(x[i]) && fabsf(x[i]) > 0 && fabsf(x[i]) < 0.01f);
            sum += (double)x[i];
        }
        assert_true(fabs(sum) < 0.01 * ROWS * D / 10);                         /* both signs */
        assert_int_equal(units[(size_t)g.tensor_units * SL_UNIT_BYTES], 0xff); /* no further */
    }
}

struct seen {
    uint32_t n, down_to;
    bool backward;
    uint64_t waited_ns;
    double s;
};

static double pass_s(void *app, const struct sl_seq *seqs, uint32_t n, bool backward, uint32_t down_to)
{
    struct seen *s = app;

    s->n = n;
    s->down_to = down_to;
    s->backward = backward;
    return s->s;
}

static void wait(void *app, uint64_t ns)
{
    ((struct seen *)app)->waited_ns += ns;
}

static void pass__waits_as_long_as_it_takes(void **state)
{
    struct seen seen = {.s = 0.25};
    struct sl_modelled m = {.pass_s = pass_s, .wait = wait, .app = &seen};
    struct sl_seq seqs[3] = {{.len = 4}};

    sl_modelled_pass(&m, seqs, 3, true);
    assert_int_equal(seen.n, 3);
    assert_true(seen.backward);
    assert_int_equal(seen.waited_ns, 250000000);
    seen.s = 0;
    sl_modelled_pass(&m, seqs, 1, false);
    assert_false(seen.backward);
    assert_int_equal(seen.waited_ns, 250000000);
}

static void catch_up__waits_for_what_is_left(void **state)
{
    struct seen seen = {.s = 100};
    struct sl_modelled m = {.pass_s = pass_s, .wait = wait, .app = &seen};
    struct sl_seq seqs[3] = {{.len = 4}};
    uint64_t now = sl_modelled_now();

    sl_modelled_catch_up(&m, seqs, 2, true, 5, now - 60000000000u);
    assert_true(seen.n == 2 && seen.down_to == 5 && seen.backward);
    assert_true(seen.waited_ns <= 40000000000u && seen.waited_ns > 30000000000u);
    seen = (struct seen){.s = 100};
    sl_modelled_catch_up(&m, seqs, 2, false, 0, now - 100000000001u); /* it took longer by itself */
    assert_int_equal(seen.waited_ns, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradient__every_codec__finite_and_small),
        cmocka_unit_test(pass__waits_as_long_as_it_takes),
        cmocka_unit_test(catch_up__waits_for_what_is_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
