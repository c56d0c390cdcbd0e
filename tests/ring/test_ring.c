#include "dataplane/ring/ring.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void create__capacity_not_power_of_two(void **state)
{
    assert_null(sl_ring_spsc_create(0));
    assert_null(sl_ring_spsc_create(1));
    assert_null(sl_ring_spsc_create(3));
    assert_null(sl_ring_spsc_create(1000));
}

static void push__full(void **state)
{
    struct sl_ring_spsc *r = sl_ring_spsc_create(8);
    assert_non_null(r);
    uint32_t in[16], out[16];
    for (uint32_t i = 0; i < 16; i++)
        in[i] = 100 + i;
    assert_int_equal(sl_ring_spsc_push(r, in, 5), 5);
    assert_int_equal(sl_ring_spsc_push(r, in + 5, 8), 2); /* capacity - 1 in all */
    assert_int_equal(sl_ring_spsc_push(r, in, 1), 0);
    assert_int_equal(sl_ring_spsc_count(r), 7);
    assert_int_equal(sl_ring_spsc_pop(r, out, 16), 7);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(out[i], 100 + i);
    assert_int_equal(sl_ring_spsc_pop(r, out, 1), 0);
    sl_ring_spsc_free(r);
}

static void push__wraps_in_order(void **state)
{
    struct sl_ring_spsc *r = sl_ring_spsc_create(4);
    uint32_t next_in = 0, next_out = 0, out[3];
    for (unsigned round = 0; round < 1000; round++) {
        uint32_t in[2] = {next_in, next_in + 1};
        next_in += sl_ring_spsc_push(r, in, 1 + round % 2);
        unsigned n = sl_ring_spsc_pop(r, out, 1 + round % 3);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(out[i], next_out++);
    }
    assert_int_equal(next_in - next_out, sl_ring_spsc_count(r));
    sl_ring_spsc_free(r);
}

/* What a handle names is written before the push and must be seen whole after the pop, with no other
 * synchronisation. */
enum { ITEMS = 200000, RECORDS = 64 };
struct shared {
    struct sl_ring_spsc *forth, *back;
    uint64_t record[RECORDS][4];
};

static void *producer(void *arg)
{
    struct shared *s = arg;
    for (uint64_t i = 0; i < ITEMS;) {
        uint32_t h;
        if (sl_ring_spsc_pop(s->back, &h, 1) == 0) {
            sched_yield();
            continue;
        }
        for (unsigned k = 0; k < 4; k++)
            s->record[h][k] = i * 4 + k;
        if (sl_ring_spsc_push(s->forth, &h, 1) != 1)
            abort();
        i++;
    }
    return NULL;
}

static void transfer__two_threads(void **state)
{
    struct shared *s = calloc(1, sizeof(*s));
    s->forth = sl_ring_spsc_create(2 * RECORDS);
    s->back = sl_ring_spsc_create(2 * RECORDS);
    pthread_t t;
    for (uint32_t i = 0; i < RECORDS;
         i++) /* the consumer's side gives the free records, before there is another thread */
        assert_int_equal(sl_ring_spsc_push(s->back, &i, 1), 1);
    assert_int_equal(pthread_create(&t, NULL, producer, s), 0);
    uint64_t bad = 0;
    for (uint64_t i = 0; i < ITEMS;) {
        uint32_t h[8];
        unsigned n = sl_ring_spsc_pop(s->forth, h, 8);
        if (n == 0)
            sched_yield();
        for (unsigned j = 0; j < n; j++, i++) {
            for (unsigned k = 0; k < 4; k++)
                bad += s->record[h[j]][k] != i * 4 + k;
        }
        if (n > 0)
            assert_int_equal(sl_ring_spsc_push(s->back, h, n), n);
    }
    pthread_join(t, NULL);
    assert_int_equal(bad, 0);
    sl_ring_spsc_free(s->forth);
    sl_ring_spsc_free(s->back);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create__capacity_not_power_of_two),
        cmocka_unit_test(push__full),
        cmocka_unit_test(push__wraps_in_order),
        cmocka_unit_test(transfer__two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
