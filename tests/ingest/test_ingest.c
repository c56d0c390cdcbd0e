#include "tests/ingest/fixture.h"

#include <errno.h>
#include <stdlib.h>

static struct edge e;
enum { SLOT_BYTES = SLOT_UNITS * SL_UNIT_BYTES };

static void ingest_create__bad_configurations(void **state)
{
    struct sl_ingest *in;
    edge_init(&e, &(struct edge_options){.n_slots = 2});
    const struct sl_ingest_config good = e.config;
    struct sl_ingest_config bad[6];
    for (unsigned i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].max_sessions = 0;
    bad[1].d_model = 0;
    bad[2].fragment_units = 0;
    bad[3].fragment_units = 141; /* no datagram holds so many units */
    bad[4].grants_per_session = 9;
    bad[5].grant_expiry_ns = 0;
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(sl_ingest_create(&bad[i], &in), -EINVAL);
    sl_ingest_free(NULL);
    edge_free(&e);
}

/* At most 4 KiB for an idle session in the whole data plane; ingestion's part is a quarter at most. */
static void session_bytes__of_ten_thousand(void **state)
{
    struct sl_ingest *in;
    edge_init(&e, &(struct edge_options){.n_slots = 2});
    struct sl_ingest_config c = e.config;
    c.max_sessions = 10000;
    assert_int_equal(sl_ingest_create(&c, &in), 0);
    size_t many = sl_ingest_session_bytes(in);
    assert_in_range(many, 64, 1024);
    sl_ingest_free(in);
    edge_free(&e);
}

static void message__goes_up_and_its_gradient_down(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2});
    edge_open(&e, 1, 42);
    ask(&e, 1, 7);
    turn(&e);
    const struct sl_frame *f = next_frame(&e, 1, SL_FRAME_GRANT);
    assert_non_null(f);
    assert_int_equal(f->grant.index, 1);
    assert_int_equal(f->grant.cumulative, 1);
    assert_int_equal(f->grant.step, 7);
    assert_int_equal(f->grant.expiry_ms, 1000);
    turn_at(&e, e.now_ns + MS);
    send_units(&e, 1, 1, 8, 3, 3);
    turn_at(&e, e.now_ns + 2 * MS);
    assert_null(trainer_takes(&e));
    send_units(&e, 1, 1, 0, 4, 1);
    send_units(&e, 1, 1, 4, 4, 2);

    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->session, 1);
    assert_int_equal(slot->device, 42);
    assert_int_equal(slot->grant, 1);
    assert_int_equal(slot->request.step, 7);
    assert_int_equal(slot->grid.n_units, UNITS);
    assert_int_equal(slot->ready_ns - slot->first_ns, 2 * MS);
    assert_int_equal((uintptr_t)slot->data % 64, 0);
    for (unsigned i = 0; i < UNITS * SL_UNIT_BYTES; i++)
        assert_int_equal(slot->data[i], 1 + i / (4 * SL_UNIT_BYTES));
    assert_ptr_equal(sl_slot_targets(slot), slot->data + ROWS * SL_UNIT_BYTES);

    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
    f = next_frame(&e, 1, SL_FRAME_RESULT);
    assert_non_null(f);
    assert_int_equal(f->result.grant, 1);
    assert_int_equal(f->result.step, 7);
    assert_int_equal(f->result.global_step, 107);
    assert_int_equal(f->result.status, SL_RESULT_GRADIENT);
    assert_int_equal(f->result.flags, SL_RESULT_BOUNDARY);
    assert_int_equal(f->result.tokens, ROWS);
    assert_true(f->result.nll == 2.5);
    assert_int_equal(e.seen[1].data_packets, 3); /* 10 units: no targets on the way down */
    assert_int_equal(stats_of(&e).slots_in_use, 1);
    ack_all(&e, 1);
    turn(&e);
    assert_int_equal(stats_of(&e).gradients_acked, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_int_equal(stats_of(&e).slots_in_use_max, 1);
    edge_free(&e);
}

/* ---- sessions that end while their slot is in each of its states; the handle goes to another device at once
 * ---- */

/* Whoever has the handle now has nothing of the session before: no grant, no gradient, no news. */
static void assert_newcomer_untouched(void)
{
    const struct seen *s = &e.seen[1];
    turn(&e);
    assert_null(sl_ingest_sink.source(e.ingest, 1, 1, 0, 1));
    assert_int_equal(s->data_packets, 0);
    for (unsigned i = 0; i < s->n; i++)
        assert_true(s->frame[i].type == SL_FRAME_ACK || s->frame[i].type == SL_FRAME_PADDING);
    uint64_t before = drops(e.endpoint, SL_DROP_NO_GRANT);
    send_units(&e, 1, 1, 0, 4, 9);
    assert_int_equal(drops(e.endpoint, SL_DROP_NO_GRANT), before + 1);
    struct sl_slot *slot = make_ready(&e, 1, 1); /* and can begin from its own first step */
    assert_int_equal(slot->grant, 1);
    assert_int_equal(slot->device, 77);
    trainer_returns(&e, slot, SL_RESULT_EVAL);
    turn(&e);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_conserved(&e);
}

static void start_session(void)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2, .park_bytes = 2 * SLOT_BYTES});
    edge_open(&e, 1, 42);
}

static void reuse_handle(void)
{
    edge_close(&e, 1);
    edge_open(&e, 1, 77);
}

static void session_closed__waiting(void **state)
{
    start_session();
    edge_open(&e, 2, 2);
    ask(&e, 2, 1);
    ask(&e, 2, 2);
    ask(&e, 1, 1);
    turn(&e);
    reuse_handle();
    assert_int_equal(stats_of(&e).requests_gone, 1);
    edge_close(&e, 2);
    assert_int_equal(stats_of(&e).grants_cancelled, 2);
    assert_newcomer_untouched();
    edge_free(&e);
}

static void session_closed__granted(void **state)
{
    start_session();
    ask(&e, 1, 1);
    turn(&e);
    reuse_handle();
    assert_int_equal(stats_of(&e).grants_cancelled, 1);
    assert_newcomer_untouched();
    edge_free(&e);
}

static void session_closed__filling(void **state)
{
    start_session();
    ask(&e, 1, 1);
    turn(&e);
    send_units(&e, 1, 1, 0, 4, 1);
    reuse_handle();
    assert_int_equal(stats_of(&e).grants_cancelled, 1);
    assert_newcomer_untouched();
    edge_free(&e);
}

static void session_closed__ready(void **state)
{
    start_session();
    ask(&e, 1, 1);
    turn(&e);
    send_message(&e, 1, 1);
    reuse_handle();
    assert_int_equal(stats_of(&e).slots_in_use, 1); /* on the ring: it comes back by way of the trainer */
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->device, 42);
    trainer_returns(&e, slot, SL_RESULT_SKIPPED);
    turn(&e);
    assert_int_equal(stats_of(&e).returned_session_gone, 1);
    assert_newcomer_untouched();
    edge_free(&e);
}

static void session_closed__in_batch(void **state)
{
    start_session();
    struct sl_slot *slot = make_ready(&e, 1, 1);
    reuse_handle();
    ask(&e, 1, 1); /* the newcomer has a grant of the same index, and a slot of its own */
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
    assert_int_equal(stats_of(&e).returned_session_gone, 1);
    assert_int_equal(stats_of(&e).returned_gradient, 0);
    assert_int_equal(e.seen[1].data_packets, 0);
    assert_null(next_frame(&e, 1, SL_FRAME_RESULT));
    send_message(&e, 1, 1);
    struct sl_slot *own = trainer_takes(&e);
    assert_non_null(own);
    assert_int_equal(own->device, 77);
    edge_free(&e);
}

static void session_closed__gradient_not_yet_sent(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2, .max_sends = 1});
    edge_open(&e, 1, 42);
    edge_open(&e, 2, 2);
    trainer_returns(&e, make_ready(&e, 2, 1), SL_RESULT_GRADIENT);
    turn(&e);
    trainer_returns(&e, make_ready(&e, 1, 1), SL_RESULT_GRADIENT);
    turn(&e);
    assert_int_equal(e.seen[1].data_packets, 0);
    reuse_handle();
    assert_int_equal(stats_of(&e).gradients_gone, 1);
    ack_all(&e, 2);
    assert_newcomer_untouched();
    edge_free(&e);
}

static void session_closed__sending(void **state)
{
    start_session();
    trainer_returns(&e, make_ready(&e, 1, 1), SL_RESULT_GRADIENT);
    turn(&e);
    reuse_handle();
    assert_int_equal(stats_of(&e).gradients_gone, 1);
    assert_newcomer_untouched();
    edge_free(&e);
}

static void session_closed__parked(void **state)
{
    start_session();
    trainer_returns(&e, make_ready(&e, 1, 1), SL_RESULT_GRADIENT);
    turn(&e);
    turn_at(&e, e.now_ns + 500 * MS);
    assert_int_equal(stats_of(&e).parked, 1);
    reuse_handle();
    assert_int_equal(stats_of(&e).gradients_gone, 1);
    assert_int_equal(stats_of(&e).park_bytes, 0);
    assert_newcomer_untouched();
    edge_free(&e);
}

/* Told of the end before the endpoint is: whatever it still asks for is not there any more. */
static void session_closed__before_the_endpoint(void **state)
{
    start_session();
    trainer_returns(&e, make_ready(&e, 1, 1), SL_RESULT_GRADIENT);
    turn(&e);
    sl_ingest_session_closed(e.ingest, 1);
    assert_int_equal(stats_of(&e).gradients_gone, 1);
    assert_null(sl_ingest_sink.source(e.ingest, 1, 1, 0, 4));
    turn_at(&e, e.now_ns + 5000 * MS); /* a probe finds nothing to repeat */
    sl_endpoint_close(e.endpoint, 1);
    edge_open(&e, 1, 77);
    assert_newcomer_untouched();
    edge_free(&e);
}

/* ---- a model: whatever happens, in whatever order, everything is accounted for and no byte is in a wrong
 * place ---- */

enum { TURNS = 2000, REMEMBERED = 8 };
static uint64_t n_seeds = 3;
struct phone {
    bool open;
    uint64_t step;
    uint32_t incarnation;
    uint32_t newest; /* grant */
};
static struct phone phone[SESSIONS];
static struct sl_slot *taken[8];
static unsigned n_taken;

static uint8_t fill_of(uint32_t session, uint32_t incarnation, uint32_t grant, uint32_t unit0)
{
    uint64_t seed = (uint64_t)incarnation << 40 ^ (uint64_t)session << 32 ^ (uint64_t)grant << 8 ^ unit0;
    return (uint8_t)(next_random(&seed) | 1);
}

static uint32_t below(uint64_t *random, uint32_t n)
{
    return (uint32_t)(next_random(random) % n);
}

static void read_news(uint32_t s)
{
    const struct sl_frame *f;
    while ((f = next_frame(&e, s, SL_FRAME_GRANT)) != NULL)
        if (f->grant.index > phone[s].newest)
            phone[s].newest = f->grant.index;
    e.seen[s].n = 0;
}

static void open_phone(uint32_t s)
{
    edge_open(&e, s, s);
    phone[s] = (struct phone){.open = true, .incarnation = e.incarnation};
}

static void send_some(uint32_t s, uint64_t *random)
{
    static struct burst b;
    b.n = 0;
    for (unsigned n = 1 + below(random, 6); n != 0 && phone[s].newest != 0; n--) {
        uint32_t back = below(random, 10) == 0 ? below(random, REMEMBERED + 3) : 0;
        uint32_t grant = phone[s].newest > back ? phone[s].newest - back : below(random, 3);
        uint32_t unit0 = FRAGMENT * below(random, 3), left = UNITS - unit0;
        bool forged = below(random, 8) == 0, off = below(random, 20) == 0;
        burst_units(&e, &b, s, grant, unit0 + off, (uint16_t)(left < FRAGMENT ? left : FRAGMENT),
            forged || off ? 0 : fill_of(s, phone[s].incarnation, grant, unit0), forged);
    }
    burst_send(&e, &b);
}

static void take_and_look(void)
{
    struct sl_slot *slot = trainer_takes(&e);
    if (slot == NULL)
        return;
    assert_int_equal(slot->grid.n_units, UNITS);
    assert_true(slot->first_ns >= slot->granted_ns && slot->ready_ns >= slot->first_ns);
    uint32_t incarnation = (uint32_t)(slot->request.step >> 32); /* every phone counts from its own */
    for (unsigned i = 0; i < UNITS * SL_UNIT_BYTES; i++)
        assert_int_equal(
            slot->data[i], fill_of(slot->session, incarnation, slot->grant, i / SL_UNIT_BYTES & ~3u));
    memset(slot->data, 0xee, UNITS * SL_UNIT_BYTES);
    taken[n_taken++] = slot;
}

static void give_back(uint64_t *random)
{
    if (n_taken == 0)
        return;
    unsigned i = below(random, n_taken);
    trainer_returns(&e, taken[i], (enum sl_result_status)(below(random, 3) ? 0 : below(random, 4)));
    taken[i] = taken[--n_taken];
}

static void one_event(uint64_t *random)
{
    uint32_t s = below(random, SESSIONS);
    struct phone *p = &phone[s];
    switch (below(random, 12)) {
    case 0:
        if (below(random, 10) == 0 && p->open) {
            edge_close(&e, s);
            p->open = false;
        } else if (!p->open) {
            open_phone(s);
        }
        break;
    case 1:
    case 2:
        if (p->open) {
            if (below(random, 3) != 0)
                p->step++;
            ask(&e, s, (uint64_t)p->incarnation << 32 | p->step);
        }
        break;
    case 3:
    case 4:
    case 5:
        if (p->open)
            send_some(s, random);
        break;
    case 6:
    case 7:
        take_and_look();
        break;
    case 8:
        give_back(random);
        break;
    case 9:
        if (p->open && e.seen[s].any)
            ack_all(&e, s);
        break;
    case 10:
        sl_ingest_set_park_after(e.ingest, below(random, 500) * MS);
        break;
    default:
        e.now_ns += below(random, 50) == 0 ? 700 * MS : below(random, 20) * MS;
    }
}

static void model(uint64_t seed)
{
    uint64_t random = seed;
    edge_init(&e, &(struct edge_options){.n_slots = 6,
                      .waiting_requests = SESSIONS + (uint32_t)(seed % 3),
                      .ring_capacity = 4,
                      .max_sends = 3,
                      .park_bytes = 2 * SLOT_BYTES});
    memset(phone, 0, sizeof(phone));
    n_taken = 0;
    for (unsigned i = 0; i < TURNS; i++) {
        one_event(&random);
        assert_conserved(&e);
        if (below(&random, 3) == 0)
            turn(&e);
        for (uint32_t s = 0; s < SESSIONS; s++)
            read_news(s);
    }
    struct sl_ingest_stats s = stats_of(&e);
    assert_true(s.granted > 30 && s.ready > 5 && s.returned_gradient > 2); /* it was not idle */
    for (uint32_t i = 0; i < SESSIONS; i++) /* everybody leaves, the trainer gives back all */
        if (phone[i].open)
            edge_close(&e, i);
    for (unsigned i = 0; i < 6; i++) {
        turn(&e);
        take_and_look();
        give_back(&random);
    }
    turn(&e);
    s = stats_of(&e);
    assert_int_equal(s.slots_free, 6);
    assert_int_equal(
        s.grants_outstanding + s.with_trainer + s.gradients_outstanding + s.requests_waiting + s.park_bytes,
        0);
    assert_int_equal(s.returned_stale, 0);
    assert_int_equal(sl_ingest_deadline(e.ingest), UINT64_MAX);
    edge_free(&e);
}

static void model__conserves_everything(void **state)
{
    for (uint64_t seed = 1; seed <= n_seeds; seed++)
        model(seed);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        n_seeds = strtoull(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ingest_create__bad_configurations),
        cmocka_unit_test(session_bytes__of_ten_thousand),
        cmocka_unit_test(message__goes_up_and_its_gradient_down),
        cmocka_unit_test(session_closed__waiting),
        cmocka_unit_test(session_closed__granted),
        cmocka_unit_test(session_closed__filling),
        cmocka_unit_test(session_closed__ready),
        cmocka_unit_test(session_closed__in_batch),
        cmocka_unit_test(session_closed__gradient_not_yet_sent),
        cmocka_unit_test(session_closed__sending),
        cmocka_unit_test(session_closed__parked),
        cmocka_unit_test(session_closed__before_the_endpoint),
        cmocka_unit_test(model__conserves_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
