#include "dataplane/transport/outbox.h"
#include "tests/transport/model.h"

#include <errno.h>

static struct sl_outbox box;
static uint8_t out[8192];

static struct sl_frame grant(uint32_t index)
{
    return (struct sl_frame){.type = SL_FRAME_GRANT, .grant = {.index = index}};
}

static int add(uint32_t index)
{
    struct sl_frame f = grant(index);
    return sl_outbox_add(&box, &f);
}

static uint32_t nth_index(size_t n)
{
    struct sl_frame f;
    assert_int_equal(sl_frame_decode(out + 24 * n, 24, &f), 24);
    return f.grant.index;
}

static void sl_outbox_take__in_order_once(void **state)
{
    uint32_t slots;
    sl_outbox_init(&box);
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(add(i), 0);
    assert_int_equal(sl_outbox_take(&box, 7, out, 3 * 24 + 23, &slots), 3 * 24);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(nth_index(i), i + 1);
    assert_int_equal(sl_outbox_take(&box, 8, out, sizeof(out), &slots), 2 * 24);
    assert_int_equal(nth_index(0), 4);
    assert_int_equal(sl_outbox_take(&box, 9, out, sizeof(out), &slots), 0);
    assert_int_equal(slots, 0);
}

static void sl_outbox_add__full_and_wrong(void **state)
{
    uint32_t slots;
    struct sl_frame ping = {.type = SL_FRAME_PING};
    struct sl_frame bad = grant(0);
    sl_outbox_init(&box);
    assert_int_equal(sl_outbox_add(&box, &ping), -EINVAL);
    assert_int_equal(sl_outbox_add(&box, &bad), -EINVAL);
    for (uint32_t i = 1; i <= SL_OUTBOX_SLOTS; i++)
        assert_int_equal(add(i), 0);
    assert_int_equal(add(99), -ENOBUFS);
    sl_outbox_take(&box, 0, out, sizeof(out), &slots);
    assert_int_equal(slots, UINT32_MAX);
    assert_int_equal(add(99), -ENOBUFS); /* sent is not acknowledged */
    sl_outbox_acked(&box, 0, 1u << 4);
    assert_int_equal(add(99), 0);
    assert_int_equal(add(99), -ENOBUFS);
}

static void sl_outbox_lost__comes_again_unless_a_copy_is_under_way(void **state)
{
    uint32_t first, second;
    sl_outbox_init(&box);
    add(1);
    sl_outbox_take(&box, 10, out, sizeof(out), &first);
    sl_outbox_lost(&box, 10, first);
    assert_int_equal(sl_outbox_take(&box, 11, out, sizeof(out), &second), 24);
    sl_outbox_lost(&box, 10, first); /* an old copy's loss: 11 is still out */
    assert_int_equal(sl_outbox_take(&box, 12, out, sizeof(out), &second), 0);
    sl_outbox_acked(&box, 10, first); /* either copy's acknowledgement will do */
    assert_int_equal(box.used, 0);
    sl_outbox_lost(&box, 11, 1);
    assert_int_equal(box.due, 0);
}

static void sl_outbox_acked__not_the_slots_next_frame(void **state)
{
    uint32_t slots, again;
    sl_outbox_init(&box);
    for (uint32_t i = 1; i <= SL_OUTBOX_SLOTS; i++)
        add(i);
    sl_outbox_take(&box, 0, out, sizeof(out), &slots);
    sl_outbox_repeat(&box, 0, 1);
    sl_outbox_take(&box, 1, out, sizeof(out), &again);
    assert_int_equal(again, 1);
    sl_outbox_acked(&box, 1, again);
    assert_int_equal(add(77), 0); /* takes the place of the first */
    sl_outbox_acked(&box, 0, 1);  /* the first copy's, late: of the frame before */
    assert_int_equal(box.used, UINT32_MAX);
    sl_outbox_lost(&box, 0, 1);
    assert_int_equal(sl_outbox_take(&box, 2, out, sizeof(out), &again), 24);
    assert_int_equal(nth_index(0), 77);
    sl_outbox_acked(&box, 1, 1); /* 77 first left in packet 2 */
    assert_int_equal(box.used, UINT32_MAX);
    sl_outbox_acked(&box, 2, 1);
    assert_int_equal(box.used, UINT32_MAX - 1);
}

static void sl_outbox_take__longest_request(void **state)
{
    uint32_t slots;
    struct sl_frame f = {.type = SL_FRAME_REQUEST, .request = {.step = 3, .n_seqs = SL_SEQS_MAX}}, back;
    for (unsigned i = 0; i < SL_SEQS_MAX; i++)
        f.request.len[i] = (uint16_t)(i + 1);
    sl_outbox_init(&box);
    assert_int_equal(sl_outbox_add(&box, &f), 0);
    assert_int_equal(sl_outbox_take(&box, 0, out, SL_OUTBOX_BYTES, &slots), SL_OUTBOX_BYTES);
    assert_int_equal(sl_frame_decode(out, SL_OUTBOX_BYTES, &back), SL_OUTBOX_BYTES);
    assert_int_equal(back.request.len[63], 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_outbox_add__full_and_wrong),
        cmocka_unit_test(sl_outbox_take__in_order_once),
        cmocka_unit_test(sl_outbox_take__longest_request),
        cmocka_unit_test(sl_outbox_lost__comes_again_unless_a_copy_is_under_way),
        cmocka_unit_test(sl_outbox_acked__not_the_slots_next_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
