#include "dataplane/io/lcore/steer.h"
#include "tests/io/lcore/fake_port.h"
#include "tests/wire/test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

struct world {
    struct fake_port *below;
    struct sl_port *port;
    unsigned n;
    struct sl_queue *q[SL_LCORES_MAX];
};

static struct world open_world(unsigned queues, unsigned lcores)
{
    char err[128];
    struct world w = {.below = fake_port_open(queues), .n = lcores};
    assert_int_equal(sl_steer_open(&w.below->port, lcores, &w.port, err, sizeof(err)), 0);
    assert_int_equal(w.port->n_queues, lcores);
    for (unsigned i = 0; i < lcores; i++) {
        w.q[i] = sl_port_queue(w.port, i);
        assert_int_equal(sl_queue_enter(w.q[i], err, sizeof(err)), 0);
    }
    return w;
}

static void close_world(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++)
        sl_queue_leave(w->q[i]);
    sl_port_close(w->port);
    assert_true(w->below->closed);
    assert_int_equal(w->below->out_at_close, 0);
    fake_port_free(w->below);
}

static struct sl_steer_stats stats_of(const struct world *w, unsigned lcore)
{
    struct sl_steer_stats s;
    sl_queue_steering(w->q[lcore], &s);
    return s;
}

/* A turn of a lcore: what it gets, freed at once. Returns how many; *value: the sum of their last bytes. */
static unsigned turn(struct world *w, unsigned lcore, uint64_t *value)
{
    struct sl_dgram d[SL_PORT_BURST];
    unsigned n = sl_queue_rx(w->q[lcore], d, SL_PORT_BURST);
    for (unsigned i = 0; i < n; i++) {
        if (d[i].len >= SL_DATAGRAM_MIN_BYTES && d[i].data[SL_HEADER_LCORE_AT] < w->n)
            assert_int_equal(d[i].data[SL_HEADER_LCORE_AT], lcore);
        if (value != NULL)
            *value += d[i].data[d[i].len - 1];
    }
    sl_queue_free(w->q[lcore], d, n);
    return n;
}

static void rx__everything_ends_at_the_lcore_of_its_session(void **state)
{
    struct world w = open_world(2, 4);
    uint64_t value[4] = {0};
    unsigned got[4] = {0};
    for (unsigned i = 0; i < 60; i++)
        fake_arrive(w.below->fake[i % 2], (uint8_t)(i / 2 % 4), (uint8_t)i);
    for (unsigned t = 0; t < 4; t++)
        for (unsigned l = 0; l < 4; l++)
            got[l] += turn(&w, l, &value[l]);
    uint64_t steered = 0, on = 0, in = 0;
    for (unsigned l = 0; l < 4; l++) {
        uint64_t expected = 0;
        unsigned n = 0;
        for (unsigned i = 0; i < 60; i++) {
            n += i / 2 % 4 == l;
            expected += i / 2 % 4 == l ? i : 0;
        }
        assert_int_equal(got[l], n);
        assert_int_equal(value[l], expected);
        struct sl_steer_stats s = stats_of(&w, l);
        steered += s.steered, on += s.passed_on, in += s.passed_in;
    }
    assert_int_equal(on, in);
    assert_int_equal(steered + on, 60);
    assert_int_equal(stats_of(&w, 2).steered + stats_of(&w, 3).steered, 0); /* they have no queue */
    turn(&w, 0, NULL); /* takes back what the others have freed */
    turn(&w, 1, NULL);
    assert_int_equal(w.below->fake[0]->n_free + w.below->fake[1]->n_free, 2 * FAKE_BUFFERS - 2 * 256);
    close_world(&w);
}

static void rx__what_names_no_lcore_stays_where_it_came(void **state)
{
    struct world w = open_world(2, 2);
    fake_arrive(w.below->fake[1], 2, 0);
    fake_arrive(w.below->fake[1], 255, 0);
    fake_arrive(w.below->fake[1], 0, 0);
    w.below->fake[1]->arrived[2].len = SL_DATAGRAM_MIN_BYTES - 1;
    assert_int_equal(turn(&w, 1, NULL), 3);
    assert_int_equal(turn(&w, 0, NULL), 0);
    close_world(&w);
}

static void rx__a_full_ring_is_a_named_drop(void **state)
{
    enum { N = 400, ROOM = 256 };
    struct world w = open_world(1, 2);
    struct sl_port_stats port;
    uint64_t value = 0;
    unsigned got = 0;
    turn(&w, 0, NULL);
    uint32_t lent = FAKE_BUFFERS - w.below->fake[0]->n_free;
    for (unsigned i = 0; i < N; i++)
        fake_arrive(w.below->fake[0], 1, 1);
    for (unsigned t = 0; t < 2 * N / SL_PORT_BURST + 1; t++)
        turn(&w, 0, NULL); /* while lcore 1 does something else */
    assert_int_equal(stats_of(&w, 0).passed_on, ROOM);
    assert_int_equal(stats_of(&w, 0).steer_full, N - ROOM);
    sl_port_stats(w.port, &port);
    assert_int_equal(port.drops[SL_PORT_STEER_FULL], N - ROOM);
    for (unsigned n; (n = turn(&w, 1, &value)) > 0;)
        got += n;
    assert_int_equal(got, ROOM);
    assert_int_equal(value, ROOM);
    for (unsigned t = 0; t < 16; t++)
        turn(&w, 0, NULL);
    assert_int_equal(w.below->fake[0]->n_free, FAKE_BUFFERS - 256); /* all but what is lent */
    assert_true(lent > 0);
    fake_arrive(w.below->fake[0], 1, 1); /* and there is room again */
    turn(&w, 0, NULL);
    assert_int_equal(turn(&w, 1, NULL), 1);
    close_world(&w);
}

/* Arrivals of others and a busy queue of its own: neither waits for ever. */
static void rx__others_and_its_own_queue_take_turns(void **state)
{
    struct world w = open_world(2, 2);
    struct sl_dgram d[SL_PORT_BURST];
    for (unsigned i = 0; i < 200; i++) {
        fake_arrive(w.below->fake[0], 1, 0);
        fake_arrive(w.below->fake[1], 1, 1);
    }
    for (unsigned t = 0; t < 4; t++)
        turn(&w, 0, NULL);
    unsigned n = sl_queue_rx(w.q[1], d, SL_PORT_BURST), own = 0;
    for (unsigned i = 0; i < n; i++)
        own += d[i].data[d[i].len - 1];
    assert_int_equal(n, SL_PORT_BURST);
    assert_int_equal(own, SL_PORT_BURST / 2);
    sl_queue_free(w.q[1], d, n);
    close_world(&w);
}

static void tx__without_a_queue_leaves_by_the_home_lcore(void **state)
{
    struct world w = open_world(1, 2);
    struct sl_dgram d[40];
    assert_int_equal(sl_queue_alloc(w.q[1], d, 32), 0); /* nothing is lent yet: a named want */
    assert_int_equal(stats_of(&w, 1).no_room, 32);
    turn(&w, 0, NULL);
    assert_int_equal(sl_queue_alloc(w.q[1], d, 32), 32);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(d[i].len, FAKE_BYTES);
        d[i].len = 10;
        d[i].data[9] = (uint8_t)i;
    }
    assert_int_equal(sl_queue_tx(w.q[1], d, 30), 30);
    sl_queue_free(w.q[1], d + 30, 2);
    assert_int_equal(w.below->fake[0]->sent, 0);
    turn(&w, 0, NULL);
    assert_int_equal(w.below->fake[0]->sent, 30);
    assert_int_equal(w.below->fake[0]->sent_value, 29 * 30 / 2);
    assert_int_equal(stats_of(&w, 1).tx_passed, 30);
    for (unsigned round = 0; round < 100; round++) { /* what is sent is lent again */
        turn(&w, 0, NULL);
        assert_int_equal(sl_queue_alloc(w.q[1], d, 40), 40);
        for (unsigned i = 0; i < 40; i++)
            d[i].len = 1;
        assert_int_equal(sl_queue_tx(w.q[1], d, 40), 40);
    }
    close_world(&w);
}

/* Datagrams from rx may be sent too: passed on ones go back to the queue that they are of. */
static void tx__of_what_was_passed_on_leaves_by_its_own_queue(void **state)
{
    struct world w = open_world(2, 2);
    struct sl_dgram d[SL_PORT_BURST];
    for (unsigned i = 0; i < 6; i++)
        fake_arrive(w.below->fake[i & 1], 1, (uint8_t)i);
    turn(&w, 0, NULL);
    unsigned n = sl_queue_rx(w.q[1], d, SL_PORT_BURST);
    assert_int_equal(n, 6);
    struct sl_dgram mixed[6] = {d[0], d[3], d[1], d[4], d[5], d[2]};
    assert_int_equal(sl_queue_tx(w.q[1], mixed, 6), 6);
    assert_int_equal(w.below->fake[1]->sent, 3);
    assert_int_equal(w.below->fake[1]->sent_value, 1 + 3 + 5);
    turn(&w, 0, NULL);
    assert_int_equal(w.below->fake[0]->sent, 3);
    assert_int_equal(w.below->fake[0]->sent_value, 0 + 2 + 4);
    close_world(&w);
}

static void rests__keeps_what_is_to_be_sent(void **state)
{
    struct world w = open_world(1, 2);
    struct sl_dgram d[4];
    turn(&w, 0, NULL);
    assert_int_equal(sl_queue_alloc(w.q[1], d, 4), 4);
    for (unsigned i = 0; i < 4; i++)
        d[i].len = 1;
    sl_queue_tx(w.q[1], d, 4);
    w.below->fake[0]->rests = true;
    assert_true(sl_queue_rests(w.q[0]));
    assert_false(sl_queue_rests(w.q[1]));
    turn(&w, 0, NULL);
    assert_int_equal(w.below->fake[0]->sent, 0);
    w.below->fake[0]->rests = false;
    turn(&w, 0, NULL);
    assert_int_equal(w.below->fake[0]->sent, 4);
    close_world(&w);
}

static void close__gives_back_what_lies_in_the_rings(void **state)
{
    struct world w = open_world(1, 3);
    struct sl_dgram d[8];
    for (unsigned i = 0; i < 50; i++)
        fake_arrive(w.below->fake[0], 1 + i % 2, 0);
    turn(&w, 0, NULL);
    assert_int_equal(sl_queue_alloc(w.q[2], d, 8), 8);
    for (unsigned i = 0; i < 8; i++)
        d[i].len = 1;
    sl_queue_tx(w.q[2], d, 5);
    sl_queue_free(w.q[2], d + 5, 3);
    assert_true(fake_out(w.below) > 0);
    close_world(&w); /* checks that nothing is out */
}

static void open__refuses_what_cannot_be(void **state)
{
    struct sl_port *port;
    char err[128];
    const struct {
        unsigned queues, lcores;
    } bad[] = {{2, 1}, {1, 0}, {1, SL_LCORES_MAX + 1}};
    for (unsigned i = 0; i < 3; i++) {
        struct fake_port *p = fake_port_open(bad[i].queues);
        assert_int_equal(sl_steer_open(&p->port, bad[i].lcores, &port, err, sizeof(err)), -EINVAL);
        assert_true(p->closed);
        fake_port_free(p);
    }
}

/* ---- threads: each lcore on its own, everything echoed ---- */

enum { EACH = 100000, LCORES = 3, QUEUES = 2 };

struct thread {
    struct world *w;
    unsigned index;
    pthread_t id;
};
static uint64_t seen[LCORES], arrived_at[QUEUES]; /* atomic */

static uint64_t load(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static uint64_t accounted(const struct world *w)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < LCORES; i++)
        n += load(&seen[i]) + stats_of(w, i).steer_full;
    return n;
}

static void *run(void *arg)
{
    struct thread *t = arg;
    struct world *w = t->w;
    struct sl_dgram d[SL_PORT_BURST];
    uint32_t x = 12345 + t->index;
    while (accounted(w) < (uint64_t)QUEUES * EACH) {
        if (t->index < QUEUES) {
            struct fake_queue *q = w->below->fake[t->index];
            if (q->at == q->n_arrived)
                q->at = q->n_arrived = 0;
            while (q->n_arrived < 48 && q->n_free > 600 && load(&arrived_at[t->index]) < EACH) {
                x = x * 1664525 + 1013904223;
                fake_arrive(q, (uint8_t)(x >> 24) % LCORES, 7);
                __atomic_store_n(&arrived_at[t->index], arrived_at[t->index] + 1, __ATOMIC_RELAXED);
            }
        }
        unsigned n = sl_queue_rx(w->q[t->index], d, SL_PORT_BURST);
        for (unsigned i = 0; i < n; i++)
            if (d[i].data[SL_HEADER_LCORE_AT] != t->index)
                return "a datagram of another lcore";
        sl_queue_tx(w->q[t->index], d, n / 2);
        sl_queue_free(w->q[t->index], d + n / 2, n - n / 2);
        __atomic_store_n(&seen[t->index], seen[t->index] + n, __ATOMIC_RELAXED);
        if (n == 0)
            sched_yield(); /* there may be fewer CPUs than lcores */
    }
    return NULL;
}

static void threads__lose_nothing_uncounted(void **state)
{
    struct world w = open_world(QUEUES, LCORES);
    struct thread t[LCORES];
    for (unsigned i = 0; i < LCORES; i++) {
        t[i] = (struct thread){.w = &w, .index = i};
        assert_int_equal(pthread_create(&t[i].id, NULL, run, &t[i]), 0);
    }
    for (unsigned i = 0; i < LCORES; i++) {
        void *wrong;
        pthread_join(t[i].id, &wrong);
        assert_null(wrong);
    }
    uint64_t received = 0, on = 0, in = 0, steered = 0, full = 0;
    for (unsigned i = 0; i < QUEUES; i++)
        received += w.below->fake[i]->received;
    for (unsigned i = 0; i < LCORES; i++) {
        struct sl_steer_stats s = stats_of(&w, i);
        on += s.passed_on, in += s.passed_in, steered += s.steered, full += s.steer_full;
    }
    assert_int_equal(received, (uint64_t)QUEUES * EACH);
    assert_int_equal(on, in);
    assert_int_equal(steered + on + full, received);
    close_world(&w);
}

/* The sleeper's sleep has no end of its own: a hang here is a lost wake-up. */
static void *sleeper(void *arg)
{
    struct world *w = arg;
    for (unsigned got = 0; got < 1000;) {
        unsigned n = turn(w, 1, NULL);
        got += n;
        if (n == 0)
            sl_queue_sleep(w->q[1], UINT64_MAX);
    }
    return NULL;
}

static void sleep__ends_when_something_is_passed_on(void **state)
{
    struct world w = open_world(2, 2);
    pthread_t id;
    assert_true(w.q[1]->wakeable);
    assert_int_equal(pthread_create(&id, NULL, sleeper, &w), 0);
    for (unsigned i = 0; i < 1000; i++) {
        fake_arrive(w.below->fake[0], 1, 0);
        while (stats_of(&w, 0).passed_on <= i)
            turn(&w, 0, NULL);
        for (; stats_of(&w, 1).passed_in <= i; sched_yield())
            turn(&w, 0, NULL);
    }
    pthread_join(id, NULL);
    close_world(&w);
}

/* Passed on before anybody could see it asleep: it looks once more. */
static void sleep__does_not_begin_with_mail_in_its_rings(void **state)
{
    struct world w = open_world(2, 2);
    struct sl_dgram d;
    fake_arrive(w.below->fake[0], 1, 0);
    turn(&w, 0, NULL);
    sl_queue_sleep(w.q[1], UINT64_MAX);
    assert_int_equal(sl_queue_rx(w.q[1], &d, 1), 1);
    sl_queue_tx(w.q[1], &d, 1);
    sl_queue_sleep(w.q[0], UINT64_MAX); /* to be sent for the other */
    turn(&w, 0, NULL);
    assert_int_equal(w.below->fake[0]->sent, 1);
    close_world(&w);
}

static void sleep__without_a_queue_is_a_nap(void **state)
{
    struct world w = open_world(1, 2);
    assert_false(w.q[0]->wakeable);
    assert_false(w.q[1]->wakeable);
    sl_queue_sleep(w.q[1], 1000);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rx__everything_ends_at_the_lcore_of_its_session),
        cmocka_unit_test(rx__what_names_no_lcore_stays_where_it_came),
        cmocka_unit_test(rx__a_full_ring_is_a_named_drop),
        cmocka_unit_test(rx__others_and_its_own_queue_take_turns),
        cmocka_unit_test(tx__without_a_queue_leaves_by_the_home_lcore),
        cmocka_unit_test(tx__of_what_was_passed_on_leaves_by_its_own_queue),
        cmocka_unit_test(rests__keeps_what_is_to_be_sent),
        cmocka_unit_test(close__gives_back_what_lies_in_the_rings),
        cmocka_unit_test(open__refuses_what_cannot_be),
        cmocka_unit_test(threads__lose_nothing_uncounted),
        cmocka_unit_test(sleep__ends_when_something_is_passed_on),
        cmocka_unit_test(sleep__does_not_begin_with_mail_in_its_rings),
        cmocka_unit_test(sleep__without_a_queue_is_a_nap),
    };
    return cmocka_run_group_tests_name("io/lcore/steer", tests, NULL, NULL);
}
