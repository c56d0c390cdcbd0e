#include "trainer/model/schedule.h"

#include "tests/wire/test.h"

#include <math.h>

static void sl_lr_share__of_nothing_is_the_constant_rate(void **state)
{
    struct sl_lr_schedule s = {0};
    assert_true(sl_lr_share(&s, 0) == 1 && sl_lr_share(&s, 1000000) == 1);
}

static void sl_lr_share__rises_over_the_warmup(void **state)
{
    for (int kind = SL_SCHEDULE_CONSTANT; kind <= SL_SCHEDULE_COSINE; kind++) {
        struct sl_lr_schedule s = {.kind = (enum sl_schedule_kind)kind, .steps = 20, .warmup = 4};
        for (uint64_t i = 0; i < 4; i++)
            assert_true(sl_lr_share(&s, i) == (double)(i + 1) / 4);
        assert_true(sl_lr_share(&s, 4) == 1);
    }
}

static void sl_lr_share__falls_to_the_floor_and_stays(void **state)
{
    struct sl_lr_schedule s = {.kind = SL_SCHEDULE_LINEAR, .steps = 10, .floor = 0.2};
    for (uint64_t i = 0; i <= 10; i++)
        assert_true(fabs(sl_lr_share(&s, i) - (1 - 0.08 * (double)i)) < 1e-12);
    assert_true(sl_lr_share(&s, 500) == 0.2);
    s.kind = SL_SCHEDULE_COSINE;
    assert_true(sl_lr_share(&s, 0) == 1);
    assert_true(fabs(sl_lr_share(&s, 5) - 0.6) < 1e-12);
    assert_true(fabs(sl_lr_share(&s, 10) - 0.2) < 1e-12 && fabs(sl_lr_share(&s, 500) - 0.2) < 1e-12);
    for (uint64_t i = 0; i < 10; i++)
        assert_true(sl_lr_share(&s, i) > sl_lr_share(&s, i + 1));
}

static void sl_schedule_parse__knows_three_names(void **state)
{
    enum sl_schedule_kind kind;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_schedule_parse(sl_schedule_name((enum sl_schedule_kind)i), &kind), 0);
        assert_int_equal(kind, i);
    }
    assert_true(sl_schedule_parse("Cosine", &kind) < 0 && sl_schedule_parse("", &kind) < 0);
}

static void sl_lr_schedule_check__finds_what_cannot_be(void **state)
{
    assert_null(sl_lr_schedule_check(&(struct sl_lr_schedule){0}));
    assert_null(sl_lr_schedule_check(&(struct sl_lr_schedule){.warmup = 5})); /* of a run without an end */
    assert_null(sl_lr_schedule_check(&(struct sl_lr_schedule){SL_SCHEDULE_LINEAR, 10, 10, 1}));
    assert_non_null(sl_lr_schedule_check(&(struct sl_lr_schedule){SL_SCHEDULE_LINEAR, 10, 11, 1}));
    assert_non_null(sl_lr_schedule_check(&(struct sl_lr_schedule){SL_SCHEDULE_LINEAR, 0, 0, 0}));
    assert_non_null(sl_lr_schedule_check(&(struct sl_lr_schedule){SL_SCHEDULE_LINEAR, 10, 0, NAN}));
    assert_non_null(sl_lr_schedule_check(&(struct sl_lr_schedule){.kind = (enum sl_schedule_kind)7}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_lr_share__of_nothing_is_the_constant_rate),
        cmocka_unit_test(sl_lr_share__rises_over_the_warmup),
        cmocka_unit_test(sl_lr_share__falls_to_the_floor_and_stays),
        cmocka_unit_test(sl_schedule_parse__knows_three_names),
        cmocka_unit_test(sl_lr_schedule_check__finds_what_cannot_be),
    };
    return cmocka_run_group_tests_name("model/schedule", tests, NULL, NULL);
}
