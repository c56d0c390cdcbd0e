/* Key update (rules T8): one side by hand against packets sealed with keys derived here, then both over the
 * network. */
#include "dataplane/transport/session.h"
#include "tests/transport/model.h"

#include <stdio.h>

enum { GRANT = 5, N_UNITS = 400, ROOM = 600, N = MODEL_KEY_UPDATE_PACKETS };
static struct model model;
static struct sl_endpoint *ep;
static struct sealer peer;
static uint8_t bytes[64][ROOM], out[512][ROOM];
static struct sl_rx rx[64];
static struct sl_tx tx[512];
static struct model_message *message;

static int setup(void **state)
{
    ep = open_one(true, &model, 64);
    sealer_init(&peer, true, id_of(true));
    message = model_expect(&model, 1, GRANT, N_UNITS);
    return 0;
}

static int setup_device(void **state)
{
    ep = open_one(false, &model, 64);
    sealer_init(&peer, false, id_of(false));
    message = NULL;
    return 0;
}

static int teardown(void **state)
{
    assert_accounts(ep);
    sl_endpoint_free(ep);
    model_free(&model);
    sealer_free(&peer);
    return 0;
}

/* Packet i: fragment `pn` of the message under number pn, in the peer's present phase. */
static void data(unsigned i, uint64_t pn)
{
    rx[i] =
        rx_of(bytes[i], seal_data(&peer, pn, GRANT, (uint32_t)pn * MODEL_UNITS, MODEL_UNITS, 1, bytes[i]));
}

static unsigned deliver(unsigned n, uint64_t now_ns)
{
    return sl_rx_burst(ep, rx, n, now_ns);
}

static unsigned drain(uint64_t now_ns)
{
    for (unsigned i = 0; i < 512; i++)
        tx[i] = (struct sl_tx){.buf = out[i], .cap = ROOM};
    return sl_tx_burst(ep, tx, 512, now_ns);
}

static uint32_t updates_rx(void)
{
    struct sl_session_stats s;
    assert_int_equal(sl_session_stats(ep, 1, &s), 0);
    return s.key_updates_rx;
}

static uint32_t updates_tx(void)
{
    struct sl_session_stats s;
    assert_int_equal(sl_session_stats(ep, 1, &s), 0);
    return s.key_updates_tx;
}

static uint64_t three_ptos(void)
{
    return 3 * sl_recovery_base_pto_ns(&ep->sessions[1].recovery);
}

/* ---- receiving ---- */

static void sl_rx_burst__follows_the_phase_bit(void **state)
{
    data(0, 0);
    assert_int_equal(deliver(1, MS), 1);
    sealer_next_phase(&peer);
    data(0, 1);
    data(1, 2);
    assert_int_equal(deliver(2, MS), 2);
    assert_int_equal(updates_rx(), 1);
    data(0, 3);
    assert_int_equal(deliver(1, MS), 1);
    assert_int_equal(updates_rx(), 1);
    assert_int_equal(message->n_received, 4 * MODEL_UNITS);
}

/* Packets of both phases in one burst, in any order. */
static void sl_rx_burst__both_phases_in_a_burst(void **state)
{
    uint64_t random = 5;
    for (unsigned round = 0; round < 200; round++) {
        unsigned order[16], boundary = (unsigned)(next_random(&random) % 17);
        for (unsigned i = 0; i < 16; i++)
            order[i] = i;
        for (unsigned i = 15; i > 0; i--) {
            unsigned j = (unsigned)(next_random(&random) % (i + 1)), t = order[i];
            order[i] = order[j];
            order[j] = t;
        }
        unsigned at[16];
        for (unsigned i = 0; i < 16; i++)
            at[order[i]] = i;
        for (unsigned pn = 0; pn < 16; pn++) {
            if (pn == boundary)
                sealer_next_phase(&peer);
            data(at[pn], pn);
        }
        unsigned split = (unsigned)(next_random(&random) % 17);
        struct sl_rx second[16];
        memcpy(second, rx + split, (16 - split) * sizeof(rx[0]));
        assert_int_equal(sl_rx_burst(ep, rx, split, MS) + sl_rx_burst(ep, second, 16 - split, 2 * MS), 16);
        assert_int_equal(updates_rx(), boundary < 16);
        assert_int_equal(drops(ep, SL_DROP_BAD_TAG) + drops(ep, SL_DROP_NO_KEY), 0);
        teardown(NULL);
        setup(NULL);
    }
}

static void sl_rx_burst__old_key_for_three_ptos(void **state)
{
    uint64_t late[2];
    data(0, 0);
    data(2, 3); /* of the old phase, on its way */
    data(3, 4);
    deliver(1, MS);
    sealer_next_phase(&peer);
    data(1, 5);
    struct sl_rx new = rx[1];
    assert_int_equal(sl_rx_burst(ep, &new, 1, MS), 1);
    drain(MS);
    late[0] = MS + three_ptos() - MS;
    late[1] = MS + three_ptos() + MS;
    drain(late[0]);
    assert_int_equal(sl_rx_burst(ep, &rx[2], 1, late[0]), 1);
    drain(late[1]);
    assert_int_equal(sl_rx_burst(ep, &rx[3], 1, late[1]), 0);
    assert_int_equal(drops(ep, SL_DROP_NO_KEY), 1);
    static const uint8_t zero[16];
    assert_memory_equal(ep->sessions[1].rx_before.key, zero, sizeof(zero));
}

/* A flipped bit costs an open and changes nothing. */
static void sl_rx_burst__forged_phase_bit(void **state)
{
    struct sl_session_stats before, after;
    data(0, 0);
    deliver(1, MS);
    sl_session_stats(ep, 1, &before);
    for (unsigned i = 0; i < 20; i++) {
        data(i, 1 + i);
        bytes[i][SL_HEADER_FLAGS_AT] ^= SL_FLAG_KEY_PHASE;
    }
    assert_int_equal(deliver(20, MS), 0);
    assert_int_equal(drops(ep, SL_DROP_BAD_TAG), 20);
    sl_session_stats(ep, 1, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    struct sl_endpoint_stats s;
    sl_endpoint_stats(ep, &s);
    assert_true(s.schedules_made <= 2); /* the next key is expanded once, not for each */
    data(0, 1);
    assert_int_equal(deliver(1, MS), 1);
    sealer_next_phase(&peer);
    data(0, 2); /* the true update still works */
    data(1, 3);
    bytes[1][SL_HEADER_FLAGS_AT] ^= SL_FLAG_KEY_PHASE; /* and back: as if of the phase after */
    assert_int_equal(deliver(2, MS), 1);
    assert_int_equal(updates_rx(), 1);
}

static void sl_rx_burst__many_updates_in_a_row(void **state)
{
    for (unsigned i = 0; i < 90; i++) {
        if (i != 0)
            sealer_next_phase(&peer);
        data(0, i);
        assert_int_equal(deliver(1, (1 + i) * MS), 1);
        drain((1 + i) * MS + MS / 2); /* where the next key is made */
        assert_int_equal(updates_rx(), i);
    }
}

/* A peer that updates again before it can know that the first was seen has to repeat itself. */
static void sl_rx_burst__next_but_one_is_not_had(void **state)
{
    data(0, 0);
    sealer_next_phase(&peer);
    data(1, 1);
    sealer_next_phase(&peer);
    data(2, 2);
    struct sl_rx second = rx[2];
    assert_int_equal(deliver(2, MS), 2);
    assert_int_equal(sl_rx_burst(ep, &second, 1, MS), 0);
    assert_int_equal(drops(ep, SL_DROP_NO_KEY), 1);
    drain(2 * MS);
    assert_int_equal(sl_rx_burst(ep, &second, 1, 2 * MS), 1);
    assert_int_equal(updates_rx(), 2);
}

static void sl_rx_burst__limit_of_a_key(void **state)
{
    const uint64_t limit = UINT64_C(1) << 23;
    struct sl_frame ping = {.type = SL_FRAME_PING};
#define TAKES(pn, n)                                                                                         \
    do {                                                                                                     \
        rx[0] = rx_of(bytes[0], seal_frame(&peer, pn, &ping, bytes[0]));                                     \
        assert_int_equal(deliver(1, MS), n);                                                                 \
    } while (0)
    TAKES(limit - 1, 1);
    TAKES(limit, 0);
    assert_int_equal(drops(ep, SL_DROP_KEY_EXHAUSTED), 1);
    sealer_next_phase(&peer);
    TAKES(limit + 10, 1); /* the next key has a limit of its own, from the first packet under it */
    TAKES(limit + 5, 1);
    TAKES(2 * limit + 4, 1);
    TAKES(2 * limit + 5, 0);
    assert_int_equal(drops(ep, SL_DROP_KEY_EXHAUSTED), 2);
    drain(2 * MS);
    sealer_next_phase(&peer);
    TAKES((UINT64_C(1) << 62) - 1, 1); /* numbers of more than 32 bits */
    drain(3 * MS);
    sealer_next_phase(&peer);
    TAKES(UINT64_C(1) << 62, 0);
    TAKES(UINT64_MAX, 0);
    assert_int_equal(drops(ep, SL_DROP_KEY_EXHAUSTED), 4);
}

/* ---- sending ---- */

static uint64_t pn_of(unsigned i, bool *phase)
{
    struct sl_header h;
    size_t len;
    assert_int_equal(sl_header_decode(tx[i].buf, tx[i].len, &h, &len), SL_DROP_NONE);
    *phase = h.flags & SL_FLAG_KEY_PHASE;
    return h.pn;
}

static void acknowledge(uint64_t pn, uint64_t first, uint64_t last, uint64_t now_ns)
{
    struct sl_frame f = {.type = SL_FRAME_ACK, .ack = {.n_ranges = 1, .range = {{first, last}}}};
    rx[0] = rx_of(bytes[0], seal_frame(&peer, pn, &f, bytes[0]));
    assert_int_equal(deliver(1, now_ns), 1);
}

static void sl_tx_burst__moves_on_after_an_ack_and_three_ptos(void **state)
{
    bool phase;
    model_offer(&model, 1, GRANT, 4000, 1);
    sl_endpoint_send(ep, 1, GRANT, 4000, 0);
    assert_int_equal(drain(0), 64); /* four times what a key is meant for, but nothing is acknowledged */
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(pn_of(i, &phase), i);
        assert_false(phase);
    }
    acknowledge(0, 0, 7, 10 * MS);
    uint64_t then = 10 * MS + three_ptos();
    assert_int_equal(drain(10 * MS), 8);
    pn_of(7, &phase);
    assert_false(phase);
    acknowledge(1, 8, 15, then - 1);
    assert_int_equal(drain(then - 1), 8);
    pn_of(7, &phase);
    assert_false(phase);
    acknowledge(2, 16, 63, then);
    unsigned n = drain(then);
    assert_true(n >= 40);
    assert_int_equal(updates_tx(), 1);
    sealer_next_phase(&peer); /* to derive; the device's own direction has its own keys */
    struct sealer mine;
    sealer_init(&mine, true, 0);
    sealer_next_phase(&mine);
    uint8_t plain[ROOM];
    for (unsigned i = 0; i < n; i++) {
        uint64_t pn = pn_of(i, &phase);
        assert_int_equal(pn, 80 + i);
        assert_true(phase);
        size_t len = tx[i].len - (size_t)SL_HEADER_DATA_BYTES - SL_TAG_BYTES;
        const uint8_t *p = tx[i].buf;
        assert_true(sl_aead_open(mine.aead, mine.key, mine.keys.iv, pn, p, SL_HEADER_DATA_BYTES,
            p + SL_HEADER_DATA_BYTES, len, plain, p + SL_HEADER_DATA_BYTES + len));
    }
    sealer_free(&mine);
    drain(then + MS);
    acknowledge(3, 64, 79, then + 1000 * MS); /* late, of the old phase: no leave for another update */
    drain(then + 1000 * MS);
    assert_int_equal(updates_tx(), 1);
}

/* Nothing acknowledged for twice as long: sending stops; an ACK, and the wait, and it goes on under the next
 * key. */
static void sl_tx_burst__stops_where_the_key_ends(void **state)
{
    bool phase;
    ep->key_stop_packets = 40;
    model_offer(&model, 1, GRANT, 4000, 1);
    sl_endpoint_send(ep, 1, GRANT, 4000, 0);
    assert_int_equal(drain(0), 40);
    for (uint64_t t = 1; t < 100; t++)
        assert_int_equal(drain(t * MS), 0);
    assert_true(sl_next_deadline(ep) == UINT64_MAX);
    acknowledge(0, 0, 39, 100 * MS);
    assert_int_equal(drain(100 * MS), 0);
    uint64_t at = sl_next_deadline(ep);
    while (drain(at) == 0 && at < 10000 * MS)
        at = sl_next_deadline(ep);
    assert_true(at >= 100 * MS + three_ptos() && at < 100 * MS + three_ptos() + MS);
    assert_int_equal(pn_of(0, &phase), 40);
    assert_true(phase);
    assert_int_equal(updates_tx(), 1);
}

/* What only acknowledges asks for an ACK itself in time. */
static void sl_tx_burst__acks_alone_ask_to_be_acknowledged(void **state)
{
    uint64_t now = 0, asked = 0;
    for (uint64_t pn = 0; pn < 40; pn++) {
        struct sl_frame ping = {.type = SL_FRAME_PING}, f[4];
        now += MS;
        rx[0] = rx_of(bytes[0], seal_frame(&peer, 2 * pn, &ping, bytes[0])); /* gaps: at once */
        deliver(1, now);
        for (unsigned n = drain(now), i = 0; i < n; i++)
            if (open_frames_of(true, tx[i].buf, tx[i].len, f, 4) == 2 && f[1].type == SL_FRAME_PING) {
                struct sl_header h;
                size_t len;
                sl_header_decode(tx[i].buf, tx[i].len, &h, &len);
                asked++;
                assert_int_equal(h.pn, N / 2 - 1);
            }
    }
    assert_int_equal(asked, 1);
}

/* Far beyond 32 bits in both directions. */
static void sl_tx_burst__numbers_of_more_than_32_bits(void **state)
{
    struct rig r;
    const uint64_t far = UINT64_C(5) << 32;
    rig_init(&r, 3, 0.02, 0.01, MS);
    struct sl_endpoint *both[2] = {r.edge, r.device};
    for (unsigned i = 0; i < 2; i++) {
        struct sl_session *s = &both[i]->sessions[1];
        s->next_pn = s->tx_first = s->window.next = s->recovery.next_above_acked = far - 20;
        s->rx_limit = far + 1000;
    }
    for (uint32_t grant = 1; grant <= 3; grant++) {
        model_expect(&r.edge_model, 1, grant, 500);
        model_offer(&r.device_model, 1, grant, 500, grant);
        sl_endpoint_send(r.device, 1, grant, 500, r.now_ns);
    }
    rig_run(&r, r.now_ns + 60000 * MS, NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(r.edge_model.in[i].completed, 1);
        assert_int_equal(r.device_model.out[i].done[SL_DONE_ACKED], 1);
        assert_memory_equal(
            r.edge_model.in[i].bytes, r.device_model.out[i].bytes, (size_t)500 * SL_UNIT_BYTES);
    }
    assert_accounts(r.edge);
    rig_free(&r);
}

#define EDGE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define DEVICE(f) cmocka_unit_test_setup_teardown(f, setup_device, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        EDGE(sl_rx_burst__follows_the_phase_bit),
        EDGE(sl_rx_burst__both_phases_in_a_burst),
        EDGE(sl_rx_burst__old_key_for_three_ptos),
        EDGE(sl_rx_burst__forged_phase_bit),
        EDGE(sl_rx_burst__many_updates_in_a_row),
        EDGE(sl_rx_burst__next_but_one_is_not_had),
        EDGE(sl_rx_burst__limit_of_a_key),
        DEVICE(sl_tx_burst__moves_on_after_an_ack_and_three_ptos),
        DEVICE(sl_tx_burst__stops_where_the_key_ends),
        DEVICE(sl_tx_burst__acks_alone_ask_to_be_acknowledged),
        cmocka_unit_test(sl_tx_burst__numbers_of_more_than_32_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
