#include "dataplane/transport/send.h"
#include "tests/transport/model.h"

#include <stdlib.h>

enum { POOL = 3, MOST = 200 };

static struct sl_sends pool;
static struct sl_send_head head;
static void *memory;

static int setup(void **state)
{
    memory = calloc(1, sl_sends_bytes(POOL, MOST));
    sl_sends_init(&pool, POOL, MOST, memory);
    sl_send_head_init(&head);
    return memory == NULL;
}

static int teardown(void **state)
{
    free(memory);
    return 0;
}

static void sl_send_take__each_fragment_once_then_not_due(void **state)
{
    bool again;
    uint32_t s = sl_send_start(&pool, &head, 1, 9, 130, 2), unit0;
    assert_int_equal(pool.sends[s].n_fragments, 65);
    for (uint32_t f = 0; f < 65; f++) {
        assert_int_equal(head.first[SL_SENDS_DUE], s);
        assert_int_equal(sl_send_take(&pool, &head, s, &again), f);
        assert_false(again);
    }
    assert_int_equal(head.first[SL_SENDS_DUE], SL_SEND_NONE);
    assert_int_equal(head.first[SL_SENDS_ALL], s);
    assert_int_equal(sl_send_units(&pool.sends[s], 64, &unit0), 2);
    assert_int_equal(unit0, 128);
}

static void sl_send_units__last_fragment_is_shorter(void **state)
{
    uint32_t unit0, s = sl_send_start(&pool, &head, 1, 9, 45, 22);
    assert_int_equal(pool.sends[s].n_fragments, 3);
    assert_int_equal(sl_send_units(&pool.sends[s], 0, &unit0), 22);
    assert_int_equal(sl_send_units(&pool.sends[s], 2, &unit0), 1);
    assert_int_equal(unit0, 44);
}

static void sl_send_mark_lost__comes_again_before_new_ones(void **state)
{
    bool again;
    uint32_t s = sl_send_start(&pool, &head, 1, 9, MOST, 1);
    for (uint32_t f = 0; f < 150; f++)
        sl_send_take(&pool, &head, s, &again);
    sl_send_mark_lost(&pool, &head, s, 140);
    sl_send_mark_lost(&pool, &head, s, 3);
    sl_send_mark_lost(&pool, &head, s, 3); /* twice lost, once sent */
    assert_int_equal(sl_send_take(&pool, &head, s, &again), 3);
    assert_true(again);
    assert_int_equal(sl_send_take(&pool, &head, s, &again), 140);
    assert_int_equal(sl_send_take(&pool, &head, s, &again), 150);
    assert_false(again);
    sl_send_mark_lost(&pool, &head, s, 3); /* and lost once more */
    assert_int_equal(sl_send_take(&pool, &head, s, &again), 3);
}

static void sl_send_mark_acked__completes_once(void **state)
{
    bool again;
    uint32_t s = sl_send_start(&pool, &head, 1, 9, 3, 1);
    for (int i = 0; i < 3; i++)
        sl_send_take(&pool, &head, s, &again);
    sl_send_mark_lost(&pool, &head, s, 2);
    assert_false(sl_send_mark_acked(&pool, &head, s, 0));
    assert_false(sl_send_mark_acked(&pool, &head, s, 0));
    assert_false(sl_send_mark_acked(&pool, &head, s, 1));
    assert_int_equal(head.first[SL_SENDS_DUE], s);
    assert_true(sl_send_mark_acked(&pool, &head, s, 2)); /* it was only late */
    assert_int_equal(head.first[SL_SENDS_DUE], SL_SEND_NONE);
    sl_send_mark_lost(&pool, &head, s, 2); /* its copy's loss is nothing */
    assert_int_equal(head.first[SL_SENDS_DUE], SL_SEND_NONE);
}

static void sl_send_start__lists_and_pool(void **state)
{
    bool again;
    uint32_t a = sl_send_start(&pool, &head, 1, 1, 2, 1), b = sl_send_start(&pool, &head, 1, 2, 2, 1),
             c = sl_send_start(&pool, &head, 1, 3, 2, 1);
    assert_int_equal(sl_send_start(&pool, &head, 1, 4, 2, 1), SL_SEND_NONE);
    assert_int_equal(sl_send_find(&pool, &head, 2), b);
    assert_int_equal(sl_send_find(&pool, &head, 7), SL_SEND_NONE);
    uint32_t generation = pool.sends[b].generation;
    sl_send_end(&pool, &head, b);
    assert_int_equal(sl_send_find(&pool, &head, 2), SL_SEND_NONE);
    assert_int_equal(head.first[SL_SENDS_DUE], a);
    sl_send_take(&pool, &head, a, &again);
    sl_send_take(&pool, &head, a, &again);
    assert_int_equal(head.first[SL_SENDS_DUE], c);
    sl_send_mark_lost(&pool, &head, a, 1); /* one that repeats goes first */
    assert_int_equal(head.first[SL_SENDS_DUE], a);
    assert_int_equal(sl_send_start(&pool, &head, 1, 4, 200, 1), b);
    assert_int_not_equal(pool.sends[b].generation, generation);
    assert_false(sl_send_is_acked(&pool.sends[b], 199));
    sl_send_end(&pool, &head, a);
    sl_send_end(&pool, &head, c);
    sl_send_end(&pool, &head, b);
    for (int l = 0; l < SL_SEND_LISTS; l++)
        assert_true(head.first[l] == SL_SEND_NONE && head.last[l] == SL_SEND_NONE);
    assert_int_equal(pool.n_free, POOL);
}

#define WITH_POOL(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_POOL(sl_send_start__lists_and_pool),
        WITH_POOL(sl_send_take__each_fragment_once_then_not_due),
        WITH_POOL(sl_send_mark_lost__comes_again_before_new_ones),
        WITH_POOL(sl_send_mark_acked__completes_once),
        WITH_POOL(sl_send_units__last_fragment_is_shorter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
