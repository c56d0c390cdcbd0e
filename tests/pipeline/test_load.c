#include "tests/pipeline/test.h"
#include "trainer/pipeline/load.h"

static void assert_times(const struct sl_load *l, uint64_t busy, uint64_t stall, uint64_t idle)
{
    struct sl_load_times t;
    sl_load_read(l, &t);
    assert_int_equal(t.busy_ns, busy);
    assert_int_equal(t.stall_ns, stall);
    assert_int_equal(t.idle_ns, idle);
}

static void idle__without_an_offer_is_no_stall(void **state)
{
    struct sl_load l = {0};
    sl_load_begin(&l, 100);
    sl_load_idle(&l, UINT64_MAX, false, 150);
    sl_load_busy(&l, false, 180);
    sl_load_idle(&l, UINT64_MAX, false, 200);
    assert_times(&l, 30, 0, 70);
}

static void idle__with_work_waiting_is_a_stall(void **state)
{
    struct sl_load l = {0};
    sl_load_begin(&l, 100);
    sl_load_idle(&l, UINT64_MAX, true, 150); /* from here something waits */
    sl_load_idle(&l, UINT64_MAX, false, 170);
    sl_load_busy(&l, true, 200);
    sl_load_idle(&l, UINT64_MAX, true, 230);
    assert_times(&l, 30, 50, 50);
}

/* The trainer was asleep as the message came: its stall begins there. */
static void idle__counts_from_when_the_message_was_ready(void **state)
{
    struct sl_load l = {0};
    sl_load_begin(&l, 100);
    sl_load_idle(&l, 160, true, 200);
    assert_times(&l, 0, 40, 60);
    sl_load_busy(&l, false, 300);
    sl_load_idle(&l, 250, true, 310); /* ready while the trainer was busy: it waits from the end of that */
    assert_times(&l, 100, 50, 60);
    sl_load_idle(&l, 400, false, 400); /* ready this very moment */
    assert_times(&l, 100, 140, 60);
}

static void end__stops_the_account(void **state)
{
    struct sl_load l = {0};
    sl_load_busy(&l, true, 50); /* before training */
    assert_times(&l, 0, 0, 0);
    sl_load_begin(&l, 100);
    sl_load_busy(&l, true, 120);
    sl_load_end(&l, 130);
    sl_load_idle(&l, UINT64_MAX, true, 900);
    sl_load_begin(&l, 1000);
    sl_load_idle(&l, UINT64_MAX, false, 1001); /* what was offered then is not now */
    assert_times(&l, 20, 10, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle__without_an_offer_is_no_stall),
        cmocka_unit_test(idle__with_work_waiting_is_a_stall),
        cmocka_unit_test(idle__counts_from_when_the_message_was_ready),
        cmocka_unit_test(end__stops_the_account),
    };
    return cmocka_run_group_tests_name("pipeline/load", tests, NULL, NULL);
}
