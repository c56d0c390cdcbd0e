#include "dataplane/ingest/slot_table.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

static void slots_create__bad_sizes(void **state)
{
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(0, 4096, &s), -EINVAL);
    assert_int_equal(sl_slots_create(1, 0, &s), -EINVAL);
    assert_int_equal(sl_slots_create(65536, 64, &s), -EINVAL); /* a handle's index has 16 bits */
    assert_int_equal(sl_slots_create(1, ((size_t)1 << 30) + 1, &s), -EINVAL);
    sl_slots_free(NULL);
}

static void slots_create__rounds_to_units(void **state)
{
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(3, 65, &s), 0);
    assert_int_equal(sl_slots_count(s), 3);
    assert_int_equal(sl_slots_bytes(s), 128);
    assert_int_equal(sl_slots_free_count(s), 3);
    sl_slots_free(s);
}

/* Slots lie apart, aligned, and every byte of each can be written without touching another. */
static void slots_take__memory_is_disjoint(void **state)
{
    enum { N = 5, UNITS = 7 };
    struct sl_slots *s;
    struct sl_slot_entry *e[N];
    assert_int_equal(sl_slots_create(N, UNITS * 64, &s), 0);
    for (int i = 0; i < N; i++) {
        e[i] = sl_slots_take(s, UNITS);
        assert_non_null(e[i]);
        assert_int_equal((uintptr_t)e[i]->slot.data % 64, 0);
        assert_int_equal(e[i]->slot.state, SL_SLOT_GRANTED);
        assert_int_equal(e[i]->missing, UNITS);
        memset(e[i]->slot.data, i + 1, UNITS * 64);
    }
    assert_null(sl_slots_take(s, 1));
    for (int i = 0; i < N; i++)
        for (int b = 0; b < UNITS * 64; b++)
            assert_int_equal(e[i]->slot.data[b], i + 1);
    sl_slots_free(s);
}

static void slots_give__last_in_first_out(void **state)
{
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(4, 64, &s), 0);
    struct sl_slot_entry *a = sl_slots_take(s, 1), *b = sl_slots_take(s, 1);
    sl_slots_give(s, a);
    sl_slots_give(s, b);
    assert_ptr_equal(sl_slots_take(s, 1), b);
    assert_ptr_equal(sl_slots_take(s, 1), a);
    sl_slots_free(s);
}

static void slots_take__clears_what_was_received(void **state)
{
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(1, 100 * 64, &s), 0);
    struct sl_slot_entry *e = sl_slots_take(s, 100);
    memset(e->bits, 0xff, 2 * sizeof(*e->bits));
    e->missing = 0;
    sl_slots_give(s, e);
    assert_ptr_equal(sl_slots_take(s, 100), e);
    for (int w = 0; w < 2; w++)
        assert_int_equal(e->bits[w].have | e->bits[w].claimed, 0);
    assert_int_equal(e->missing, 100);
    sl_slots_free(s);
}

static void slot_get__stale_handles(void **state)
{
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(2, 64, &s), 0);
    struct sl_slot_entry *e = sl_slots_take(s, 1);
    uint32_t handle = e->slot.handle;
    assert_ptr_equal(sl_slot_get(s, handle), &e->slot);
    assert_null(sl_slot_get(s, 0));
    assert_null(sl_slot_get(s, UINT32_MAX));
    assert_null(sl_slot_get(s, (handle & 0xffff0000) | 7)); /* an index beyond */
    sl_slots_give(s, e);
    assert_null(sl_slot_get(s, handle));
    assert_null(sl_slot_get(s, e->slot.handle)); /* free: nobody has been given this one */
    assert_ptr_equal(sl_slots_take(s, 1), e);
    assert_null(sl_slot_get(s, handle));
    assert_ptr_equal(sl_slot_get(s, e->slot.handle), &e->slot);
    sl_slots_free(s);
}

/* No generation is seen twice before all others were, and none makes a handle of 0. */
static void slots_give__generations_go_round(void **state)
{
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(1, 64, &s), 0);
    struct sl_slot_entry *e = sl_slots_take(s, 1);
    const uint32_t first = e->slot.handle;
    for (uint32_t i = 1; i < 65535; i++) {
        sl_slots_give(s, e);
        sl_slots_take(s, 1);
        assert_int_not_equal(e->slot.handle, 0);
        assert_int_not_equal(e->slot.handle, first);
    }
    sl_slots_give(s, e);
    sl_slots_take(s, 1);
    assert_int_equal(e->slot.handle, first);
    sl_slots_free(s);
}

static void slots__poisoned_where_no_message_is(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
    struct sl_slots *s;
    assert_int_equal(sl_slots_create(2, 10 * 64, &s), 0);
    struct sl_slot_entry *e = sl_slots_take(s, 4);
    assert_false(__asan_address_is_poisoned(e->slot.data));
    assert_false(__asan_address_is_poisoned(e->slot.data + 4 * 64 - 1));
    assert_true(__asan_address_is_poisoned(e->slot.data + 4 * 64)); /* beyond the message */
    assert_true(__asan_address_is_poisoned(e->slot.data - 1));      /* between slots */
    sl_slots_give(s, e);
    assert_true(__asan_address_is_poisoned(e->slot.data));
    sl_slots_free(s);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_create__bad_sizes),
        cmocka_unit_test(slots_create__rounds_to_units),
        cmocka_unit_test(slots_take__memory_is_disjoint),
        cmocka_unit_test(slots_give__last_in_first_out),
        cmocka_unit_test(slots_take__clears_what_was_received),
        cmocka_unit_test(slot_get__stale_handles),
        cmocka_unit_test(slots_give__generations_go_round),
        cmocka_unit_test(slots__poisoned_where_no_message_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
