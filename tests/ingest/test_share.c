/* Fair shares of slots on random histories: many devices, few slots, some greedy. The endpoint is the test's:
 * it only hears what ingest says. */
#include "dataplane/ingest/ingest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    DEVICES_MAX = 40,
    SLOTS_MAX = 8,
    ROWS_MAX = 16,
    D_MODEL = 32,
    FRAGMENT = 20,
    SEEDS = 60,
    ROUNDS = 400
};

struct device {
    bool greedy, open;
    uint32_t rows;            /* of its messages */
    uint64_t step, granted;   /* newest asked for; messages granted */
    uint64_t served;          /* rows */
    uint32_t waiting;         /* requests without a grant */
    uint64_t asked_at[8], at; /* counts of all grants as its requests were made, oldest first */
    uint64_t longest;         /* grants to all that a request waited for */
};

static struct {
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct device device[DEVICES_MAX];
    struct {
        uint32_t session, grant;
    } grants[256]; /* said, and not yet answered by a message */
    unsigned n_grants, n_devices;
    uint64_t all_grants, random, now_ns;
} w;

static uint32_t below(uint32_t n)
{
    w.random = w.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((w.random >> 33) % n);
}

/* ---- what ingest asks of the endpoint ---- */

int sl_endpoint_frame(
    struct sl_endpoint *endpoint, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct device *d = &w.device[session];
    if (f->type != SL_FRAME_GRANT)
        return 0;
    w.grants[w.n_grants].session = session;
    w.grants[w.n_grants++].grant = f->grant.index;
    d->granted++;
    d->served += d->rows;
    uint64_t waited = w.all_grants++ - d->asked_at[0];
    if (waited > d->longest)
        d->longest = waited;
    memmove(d->asked_at, d->asked_at + 1, --d->waiting * sizeof d->asked_at[0]);
    return 0;
}

int sl_endpoint_send(
    struct sl_endpoint *endpoint, uint32_t session, uint32_t grant, uint32_t units, uint64_t now_ns)
{
    return 0;
}

int sl_endpoint_cancel(struct sl_endpoint *endpoint, uint32_t session, uint32_t grant)
{
    return 0;
}

/* ---- the world ---- */

static void open_world(uint32_t n_slots, uint32_t grants_per_session)
{
    uint64_t random = w.random;
    memset(&w, 0, sizeof w);
    w.random = random;
    w.now_ns = 1;
    assert_int_equal(sl_slots_create(n_slots, 32 * SL_UNIT_BYTES, &w.slots), 0);
    w.ready = sl_ring_spsc_create(64);
    w.returned = sl_ring_spsc_create(64);
    const struct sl_ingest_config c = {.slots = w.slots,
        .ready = w.ready,
        .returned = w.returned,
        .max_sessions = DEVICES_MAX,
        .d_model = D_MODEL,
        .codec = SL_CODEC_BF16,
        .fragment_units = FRAGMENT,
        .waiting_requests = 4 * DEVICES_MAX,
        .grants_per_session = grants_per_session,
        .grant_expiry_ns = UINT64_MAX / 2};
    assert_int_equal(sl_ingest_create(&c, &w.ingest), 0);
}

static void close_world(void)
{
    sl_ingest_free(w.ingest);
    sl_slots_free(w.slots);
    sl_ring_spsc_free(w.ready);
    sl_ring_spsc_free(w.returned);
}

static void join(uint32_t d, uint32_t rows, bool greedy)
{
    w.device[d] = (struct device){.rows = rows, .greedy = greedy, .open = true};
    sl_ingest_session_opened(w.ingest, d, d);
}

static void ask(uint32_t d)
{
    struct device *v = &w.device[d];
    struct sl_frame f = {
        .type = SL_FRAME_REQUEST, .request = {.step = ++v->step, .n_seqs = 1, .len = {(uint16_t)v->rows}}};
    v->asked_at[v->waiting++] = w.all_grants;
    sl_ingest_sink.frame(w.ingest, d, &f, w.now_ns);
}

/* A device that is always hungry has one request waiting; a greedy one as many as the edge lets it. */
static void ask_all(void)
{
    uint32_t first = below(DEVICES_MAX);
    for (uint32_t i = 0; i < DEVICES_MAX; i++) {
        uint32_t d = (first + i) % DEVICES_MAX;
        while (w.device[d].open && w.device[d].waiting < (w.device[d].greedy ? 4 : 1))
            ask(d);
    }
}

/* A granted message comes whole; which of them first is chance. */
static void deliver(unsigned n)
{
    while (n-- && w.n_grants) {
        unsigned i = below(w.n_grants);
        uint32_t rows = w.device[w.grants[i].session].rows;
        struct sl_rx rx = {.session = w.grants[i].session,
            .grant = w.grants[i].grant,
            .n_units = rows + (rows * 4 + SL_UNIT_BYTES - 1) / SL_UNIT_BYTES};
        struct sl_rx *packets[] = {&rx};
        w.grants[i] = w.grants[--w.n_grants];
        sl_ingest_sink.place(w.ingest, packets, 1);
        assert_int_equal(rx.how, SL_PLACE);
        sl_ingest_sink.commit(w.ingest, packets, 1, 1);
    }
}

/* The trainer answers the oldest READY ones: one way, so their slots are free at once. */
static void train(unsigned n)
{
    uint32_t handle;
    while (n-- && sl_ring_spsc_pop(w.ready, &handle, 1)) {
        struct sl_slot *s = sl_slot_get(w.slots, handle);
        s->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
        s->state = SL_SLOT_GRADIENT;
        assert_int_equal(sl_ring_spsc_push(w.returned, &handle, 1), 1);
    }
}

static void run(unsigned rounds)
{
    while (rounds--) {
        w.now_ns += 1000;
        ask_all();
        deliver(below(4));
        train(below(4));
        sl_ingest_poll(w.ingest, w.now_ns);
    }
}

/* ---- the tests ---- */

/* The slots are taken, by others that go away after that, until all of the first n wait. */
static void take_slots(uint32_t n, uint32_t n_slots)
{
    for (uint32_t d = n; d < n + n_slots; d++) {
        join(d, 10, false);
        ask(d);
        w.device[d].open = false;
    }
    w.all_grants = 0;
}

/* Equal messages: nobody is more than one message from an equal share, however much some ask for, and nobody
 * waits for long. */
static void shares__are_within_one_message_of_equal(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        w.random = seed;
        uint32_t n = 2 + below(DEVICES_MAX - SLOTS_MAX - 1),
                 slots = 1 + below(n - 1 < SLOTS_MAX ? n - 1 : SLOTS_MAX);
        open_world(slots, 8); /* who has all that it may have does not wait for a share */
        take_slots(n, slots);
        for (uint32_t d = 0; d < n; d++)
            join(d, 10, below(4) == 0);
        for (unsigned i = 0; i < ROUNDS; i++) {
            run(1);
            for (uint32_t d = 0; d < n; d++) {
                assert_true(w.device[d].granted * n <= w.all_grants + n);
                assert_true(w.device[d].granted * n + n >= w.all_grants);
            }
        }
        assert_true(w.all_grants > ROUNDS / 4);
        for (uint32_t d = 0; d < n; d++)
            assert_true(w.device[d].longest <= (w.device[d].greedy ? 5 : 2) * n);
        close_world();
    }
}

/* Messages of different sizes: what is shared is rows. Two that both wait all the time differ by one message
 * of each at most (Goyal et al. 1996, theorem 1). */
static void shares__are_of_rows(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        w.random = seed;
        uint32_t n = 3 + below(20), slots = 1 + below(2);
        open_world(slots, 8);
        take_slots(n, slots);
        for (uint32_t d = 0; d < n; d++)
            join(d, 1 + below(ROWS_MAX), true);
        for (unsigned i = 0; i < 2 * ROUNDS; i++) {
            run(1);
            for (uint32_t a = 0; a < n; a++)
                for (uint32_t b = 0; b < n; b++)
                    assert_true(
                        w.device[a].served <= w.device[b].served + w.device[a].rows + w.device[b].rows);
        }
        close_world();
    }
}

/* Who comes late gets its share from then on: it does not make up for what it missed. */
static void join__begins_at_the_present_share(void **state)
{
    enum { N = 10 };
    w.random = 5;
    open_world(2, 2);
    for (uint32_t d = 0; d < N; d++)
        join(d, 10, d == 3);
    run(4000);
    uint64_t before = w.device[0].granted;
    assert_true(before > 100);
    join(N, 10, true);
    run(2000);
    uint64_t since = w.device[0].granted - before;
    assert_true(since > 50);
    assert_in_range(w.device[N].granted, since - 2, since + 2);
    close_world();
}

/* The same of a device that slept while the others trained. */
static void sleep__is_not_made_up_for(void **state)
{
    enum { N = 6 };
    w.random = 9;
    open_world(2, 2);
    for (uint32_t d = 0; d < N; d++)
        join(d, 10, false);
    run(500);
    w.device[2].open = false; /* asks for nothing any more */
    run(3000);
    uint64_t before[2] = {w.device[0].granted, w.device[2].granted};
    assert_true(before[0] > before[1] + 100);
    w.device[2].open = true;
    run(2000);
    uint64_t since = w.device[0].granted - before[0];
    assert_in_range(w.device[2].granted - before[1], since - 2, since + 2);
    close_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares__are_within_one_message_of_equal),
        cmocka_unit_test(shares__are_of_rows),
        cmocka_unit_test(join__begins_at_the_present_share),
        cmocka_unit_test(sleep__is_not_made_up_for),
    };
    return cmocka_run_group_tests_name("ingest/share", tests, NULL, NULL);
}
