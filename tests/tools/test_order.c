#include "trainer/tools/order.h"

#include "tests/data/scratch.h"

#include <errno.h>
#include <string.h>

enum { SEQ = 8, LONG = 83, SHORT = 19, PASS = LONG / SEQ + SHORT / SEQ };

static uint32_t ids[LONG + SHORT];
static struct sl_stream streams[] = {{ids, LONG}, {ids + LONG, SHORT}};
static const struct sl_input input = {.streams = streams, .n_streams = 2};

/* The place of the next window in `ids`. */
static size_t next(struct sl_order *order)
{
    const uint32_t *window = sl_order_next(order);
    assert_non_null(window);
    return (size_t)(window - ids);
}

static void order__first_pass_takes_every_window_once(void **state)
{
    struct sl_order order;
    char err[128];
    bool seen[LONG + SHORT] = {false};
    assert_int_equal(sl_order_create(&input, SEQ, 1, &order, err, sizeof err), 0);
    for (int i = 0; i < PASS; i++) {
        size_t at = next(&order), in_stream = at < LONG ? at : at - LONG;
        assert_int_equal(in_stream % SEQ, 0);
        assert_true(in_stream + SEQ <= (at < LONG ? LONG : SHORT));
        assert_false(seen[at]);
        seen[at] = true;
    }
    sl_order_free(&order);
}

static void order__later_passes_shift_and_shuffle_anew(void **state)
{
    struct sl_order order;
    char err[128];
    size_t first[PASS];
    assert_int_equal(sl_order_create(&input, SEQ, 1, &order, err, sizeof err), 0);
    for (int i = 0; i < PASS; i++)
        first[i] = next(&order);
    size_t shift = next(&order) % SEQ, same = 0;
    for (int i = 1; i < LONG / SEQ - 1; i++)
        same += next(&order) == first[i] + shift;
    assert_true(same < 4);
    assert_int_equal(order.pass, 1);
    sl_order_free(&order);
}

static void order__is_a_function_of_the_seed(void **state)
{
    struct sl_order one, two, other;
    char err[128];
    size_t same = 0;
    assert_int_equal(sl_order_create(&input, SEQ, 1, &one, err, sizeof err), 0);
    assert_int_equal(sl_order_create(&input, SEQ, 1, &two, err, sizeof err), 0);
    assert_int_equal(sl_order_create(&input, SEQ, 2, &other, err, sizeof err), 0);
    for (int i = 0; i < 5 * PASS; i++) {
        size_t at = next(&one);
        assert_int_equal(at, next(&two));
        same += at == next(&other);
    }
    assert_true(same < 2 * PASS);
    sl_order_free(&one);
    sl_order_free(&two);
    sl_order_free(&other);
}

static void order__too_little_text(void **state)
{
    struct sl_order order;
    char err[128];
    assert_int_equal(sl_order_create(&input, LONG / 2 + 1, 1, &order, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "too little text"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order__first_pass_takes_every_window_once),
        cmocka_unit_test(order__later_passes_shift_and_shuffle_anew),
        cmocka_unit_test(order__is_a_function_of_the_seed),
        cmocka_unit_test(order__too_little_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
