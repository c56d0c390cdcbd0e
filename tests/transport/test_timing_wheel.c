#include "dataplane/transport/timing_wheel.h"
#include "tests/transport/model.h"

#define TICK_NS (UINT64_C(1) << SL_WHEEL_TICK_SHIFT)

static struct sl_wheel wheel;
static struct sl_wheel_timer timers[256];

static void fresh(void)
{
    memset(timers, 0, sizeof(timers));
    sl_wheel_init(&wheel, timers);
}

static void sl_wheel_pop__never_early_and_late_by_less_than_a_tick(void **state)
{
    for (unsigned bits = 0; bits < 60; bits++) {
        fresh();
        uint64_t start = 12345678901, deadline = start + (UINT64_C(1) << bits);
        sl_wheel_arm(&wheel, 3, deadline, start);
        /* as a caller does: sleep until told to look again */
        uint64_t now = start;
        unsigned looks = 0;
        while (sl_wheel_pop(&wheel, now) == SL_WHEEL_NONE) {
            uint64_t next = sl_wheel_next_ns(&wheel);
            assert_true(next > now);
            now = next;
            assert_true(++looks <= SL_WHEEL_LEVELS + 1);
        }
        assert_true(now >= deadline && now - deadline <= TICK_NS);
        assert_true(sl_wheel_next_ns(&wheel) == UINT64_MAX);
    }
}

static void sl_wheel_pop__past_deadline_at_the_next_tick(void **state)
{
    fresh();
    sl_wheel_arm(&wheel, 1, 5, 1000 * TICK_NS);
    assert_true(sl_wheel_next_ns(&wheel) <= 1000 * TICK_NS);
    assert_int_equal(sl_wheel_pop(&wheel, 1000 * TICK_NS), 1);
}

static void sl_wheel_cancel__is_not_popped(void **state)
{
    fresh();
    for (uint32_t i = 0; i < 10; i++)
        sl_wheel_arm(&wheel, i, (i / 2) * TICK_NS * 100, 0);
    for (uint32_t i = 0; i < 10; i += 2)
        sl_wheel_cancel(&wheel, i);
    sl_wheel_cancel(&wheel, 200); /* not armed: nothing */
    unsigned n = 0;
    uint32_t i;
    while ((i = sl_wheel_pop(&wheel, UINT64_MAX / 2)) != SL_WHEEL_NONE) {
        assert_int_equal(i % 2, 1);
        n++;
    }
    assert_int_equal(n, 5);
    assert_true(sl_wheel_next_ns(&wheel) == UINT64_MAX);
}

/* Against a plain array of deadlines that is searched. */
static void sl_wheel__random_against_a_list(void **state)
{
    enum { N = 256 };
    uint64_t deadline[N], random = 5, now = UINT64_C(1) << 40;
    unsigned fired = 0;
    fresh();
    for (unsigned i = 0; i < N; i++)
        deadline[i] = UINT64_MAX;
    for (unsigned round = 0; round < 50000; round++) {
        uint64_t r = next_random(&random);
        uint32_t i = r % N;
        if (r >> 60 == 0) {
            sl_wheel_cancel(&wheel, i);
            deadline[i] = UINT64_MAX;
        } else if (r >> 63) {
            deadline[i] = now + (next_random(&random) >> (24 + (r >> 8) % 36));
            sl_wheel_arm(&wheel, i, deadline[i], now);
        }
        uint64_t first = UINT64_MAX;
        for (unsigned k = 0; k < N; k++)
            first = deadline[k] < first ? deadline[k] : first;
        uint64_t next = sl_wheel_next_ns(&wheel);
        assert_true(first == UINT64_MAX ? next == UINT64_MAX : next <= first + TICK_NS);
        if ((r >> 16) % 4 == 0)
            now += next_random(&random) >> (30 + (r >> 20) % 30);
        while ((i = sl_wheel_pop(&wheel, now)) != SL_WHEEL_NONE) {
            assert_true(deadline[i] <= now);
            deadline[i] = UINT64_MAX;
            fired++;
        }
        for (unsigned k = 0; k < N; k++)
            if (deadline[k] != UINT64_MAX)
                assert_true(deadline[k] + TICK_NS >= now);
    }
    assert_true(fired > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_wheel_pop__never_early_and_late_by_less_than_a_tick),
        cmocka_unit_test(sl_wheel_pop__past_deadline_at_the_next_tick),
        cmocka_unit_test(sl_wheel_cancel__is_not_popped),
        cmocka_unit_test(sl_wheel__random_against_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
