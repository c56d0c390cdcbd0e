/* Ingest and the phones' store talk through two real endpoints and a network that loses, repeats and
 * reorders: every step of every phone ends with its own gradient, though slots are fewer than phones. */
#include "dataplane/wire/int8.h"
#include "device-sim/device/store.h"
#include "tests/ingest/fixture.h"

#include <stdlib.h>

enum {
    PHONES = 5,
    SLOTS = 3,
    STEPS = 12,
    MESSAGE_BYTES_MAX = UNITS * SL_UNIT_BYTES, /* in bf16 */
    IN_FLIGHT = 4096,
    LOSS_PERCENT = 5,
    REPEAT_PERCENT = 2,
};

struct datagram {
    uint64_t at_ns;
    bool up;
    uint16_t len;
    uint32_t session;
    uint8_t bytes[600];
};
struct held { /* by the trainer */
    struct sl_slot *slot;
    uint64_t until_ns;
};
static struct world {
    enum sl_codec codec;
    struct sl_grid grid;
    unsigned message_bytes, tensor_bytes; /* that travel */
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_ingest *ingest;
    struct sl_store *store;
    struct sl_endpoint *edge, *device;
    uint64_t now_ns, random;
    struct datagram *flight;
    unsigned n_flight;
    struct held held[SLOTS];
    uint64_t step[PHONES];
    bool again[PHONES]; /* the step was lost, or is the next: to be asked for */
    bool send[PHONES];
    unsigned lost;
} w;

/* Every third step's can be compressed. */
static uint8_t byte_of(uint32_t phone, uint64_t step, unsigned at)
{
    return (uint8_t)(phone * 83 + step * 29 + (step % 3 == 0 ? at / 256 : at * 7 + at / 251));
}

static unsigned percent(void)
{
    return (unsigned)(next_random(&w.random) % 100);
}

/* ---- phones ---- */

static void on_event(void *app, uint32_t phone, const struct sl_store_event *ev)
{
    assert_int_equal(ev->step, w.step[phone]);
    switch (ev->kind) {
    case SL_STORE_GRANTED:
        w.send[phone] = true;
        break;
    case SL_STORE_LOST:
        assert_true(ev->reason == SL_LOST_EXPIRED || ev->reason == SL_LOST_PARK_FULL);
        w.lost++;
        w.again[phone] = true;
        break;
    case SL_STORE_RESULT:
        assert_int_equal(ev->result.status, SL_RESULT_GRADIENT);
        assert_int_equal(ev->result.global_step, 1000 * phone + ev->step);
        for (unsigned i = 0; i < w.tensor_bytes; i++)
            assert_int_equal(sl_store_gradient(w.store, phone)[i], (uint8_t)~byte_of(phone, ev->step, i));
        w.step[phone]++;
        w.again[phone] = true;
    }
}

static void phones_act(void)
{
    for (uint32_t p = 0; p < PHONES; p++) {
        if (w.again[p] && w.step[p] <= STEPS) {
            struct sl_request r = request_of(w.step[p], ROWS);
            w.again[p] = w.send[p] = false;
            for (unsigned i = 0; i < w.message_bytes; i++)
                sl_store_message(w.store, p, w.step[p])[i] = byte_of(p, w.step[p], i);
            assert_int_equal(sl_store_request(w.store, p, &r, &w.grid, w.now_ns), 0);
        }
        if (w.send[p] && percent() < 20) { /* computing takes its time */
            w.send[p] = false;
            assert_int_equal(sl_store_send(w.store, p, w.now_ns), 0);
        }
    }
}

/* ---- the trainer ---- */

/* What the slot holds is what the phone sent, decoded where that is what the codec asks for. */
static void look(const struct sl_slot *slot)
{
    uint8_t sent[MESSAGE_BYTES_MAX];
    uint16_t elements[ROWS * D_MODEL];
    for (unsigned i = 0; i < w.message_bytes; i++)
        sent[i] = byte_of(slot->session, slot->request.step, i);
    if (sl_codec_is_coded(w.codec)) {
        sl_int8_decode_bf16_plain(sent, elements, ROWS * D_MODEL);
        assert_memory_equal(slot->data, elements, sizeof(elements));
    } else {
        assert_memory_equal(slot->data, sent, w.tensor_bytes);
    }
    assert_memory_equal(sl_slot_targets(slot), sent + w.tensor_bytes, w.message_bytes - w.tensor_bytes);
}

static void trainer_acts(void)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct held *h = &w.held[i];
        uint32_t handle;
        if (h->slot == NULL && sl_ring_spsc_pop(w.ready, &handle, 1) == 1) {
            h->slot = sl_slot_get(w.slots, handle);
            assert_non_null(h->slot);
            assert_int_equal(h->slot->device, h->slot->session);
            look(h->slot);
            h->slot->state = SL_SLOT_IN_BATCH;
            h->until_ns = w.now_ns + percent() * MS;
        } else if (h->slot != NULL && h->until_ns <= w.now_ns) {
            for (unsigned b = 0; b < w.tensor_bytes; b++)
                h->slot->data[b] = (uint8_t)~byte_of(h->slot->session, h->slot->request.step, b);
            h->slot->outcome = (struct sl_slot_outcome){
                .status = SL_RESULT_GRADIENT, .global_step = 1000 * h->slot->session + h->slot->request.step};
            h->slot->state = SL_SLOT_GRADIENT;
            handle = h->slot->handle;
            h->slot = NULL;
            assert_int_equal(sl_ring_spsc_push(w.returned, &handle, 1), 1);
        }
    }
}

/* ---- the network ---- */

static void carry(struct sl_endpoint *from, bool up)
{
    uint8_t bytes[600];
    struct sl_tx tx = {.buf = bytes, .cap = sizeof(bytes)};
    while (sl_tx_burst(from, &tx, 1, w.now_ns) == 1) {
        for (unsigned copies = percent() < LOSS_PERCENT     ? 0
                               : percent() < REPEAT_PERCENT ? 2
                                                            : 1;
             copies != 0; copies--) {
            assert_true(w.n_flight < IN_FLIGHT);
            struct datagram *d = &w.flight[w.n_flight++];
            d->at_ns = w.now_ns + (2 + percent() / 10) * MS;
            d->up = up;
            d->len = tx.len;
            memcpy(d->bytes, bytes, tx.len);
        }
    }
}

static void deliver(void)
{
    struct sl_rx rx[2][64];
    static struct datagram got[64];
    unsigned n[2] = {0, 0}, taken = 0;
    for (unsigned i = 0; i < w.n_flight && taken < 64;) {
        if (w.flight[i].at_ns > w.now_ns) {
            i++;
            continue;
        }
        struct datagram *d = &got[taken++];
        *d = w.flight[i];
        w.flight[i] = w.flight[--w.n_flight];
        rx[d->up][n[d->up]++] = (struct sl_rx){.pkt = d->bytes,
            .len = d->len,
            .local = d->up ? edge_addr : device_addr,
            .remote = d->up ? device_addr : edge_addr};
    }
    sl_rx_burst(w.edge, rx[1], n[1], w.now_ns);
    sl_rx_burst(w.device, rx[0], n[0], w.now_ns);
}

/* ---- both programs, thin ---- */

static void world_init(enum sl_codec codec, uint64_t seed)
{
    memset(&w, 0, sizeof(w));
    w.random = seed;
    w.codec = codec;
    assert_int_equal(sl_grid_make(&w.grid, ROWS, D_MODEL, codec, 1, FRAGMENT), 0);
    w.message_bytes = w.grid.n_units * SL_UNIT_BYTES;
    w.tensor_bytes = w.grid.tensor_units * SL_UNIT_BYTES;
    w.now_ns = 1000 * MS;
    w.flight = malloc(IN_FLIGHT * sizeof(*w.flight));
    w.ready = sl_ring_spsc_create(2); /* holds one: the backlog has work */
    w.returned = sl_ring_spsc_create(64);
    assert_true(w.flight != NULL && w.ready != NULL && w.returned != NULL);
    assert_int_equal(sl_slots_create(SLOTS, SLOT_UNITS * SL_UNIT_BYTES, &w.slots), 0);
    const struct sl_ingest_config c = {.slots = w.slots,
        .ready = w.ready,
        .returned = w.returned,
        .max_sessions = PHONES,
        .d_model = D_MODEL,
        .codec = codec,
        .fragment_units = FRAGMENT,
        .grant_expiry_ns = 60 * MS, /* some expire while their phone computes */
        .park_after_ns = 12 * MS,   /* about a round trip */
        .park_bytes = SLOT_UNITS * SL_UNIT_BYTES};
    assert_int_equal(sl_ingest_create(&c, &w.ingest), 0);
    const struct sl_store_config sc = {.n_phones = PHONES,
        .message_bytes = w.message_bytes,
        .gradient_bytes = w.tensor_bytes,
        .compress = codec == SL_CODEC_INT8_LZ4,
        .event = on_event};
    assert_int_equal(sl_store_create(&sc, &w.store), 0);
    struct sl_endpoint_config ec = {.max_sessions = PHONES,
        .max_sends = 4,
        .max_message_units = SLOT_UNITS,
        .window_packets = 64,
        .is_edge = true};
    assert_int_equal(sl_endpoint_create(&ec, &sl_ingest_sink, w.ingest, &w.edge), 0);
    sl_ingest_bind(w.ingest, w.edge);
    ec.is_edge = false;
    ec.max_sends = PHONES;
    assert_int_equal(sl_endpoint_create(&ec, &sl_store_sink, w.store, &w.device), 0);
    sl_store_bind(w.store, w.device);
    for (uint32_t p = 0; p < PHONES; p++) {
        struct sl_session_config s = {.local_id = sl_session_id(0, p, 0xe),
            .peer_id = sl_session_id(0, p, 0xd),
            .fragment_units = FRAGMENT,
            .mtu = SL_DEFAULT_MTU,
            .local = edge_addr,
            .initial_rtt_ns = 20 * MS};
        memcpy(s.secret, test_secret, sizeof(s.secret));
        assert_int_equal(sl_endpoint_open(w.edge, &s, w.now_ns), 0);
        sl_ingest_session_opened(w.ingest, p, p);
        s.peer_id = s.local_id;
        s.local_id = sl_session_id(0, p, 0xd);
        s.local = device_addr;
        s.remote = edge_addr;
        assert_int_equal(sl_endpoint_open(w.device, &s, w.now_ns), 0);
        sl_store_session_opened(w.store, p);
        w.step[p] = 1;
        w.again[p] = true;
    }
}

static void world_free(void)
{
    sl_endpoint_free(w.edge);
    sl_endpoint_free(w.device);
    sl_ingest_free(w.ingest);
    sl_store_free(w.store);
    sl_slots_free(w.slots);
    sl_ring_spsc_free(w.ready);
    sl_ring_spsc_free(w.returned);
    free(w.flight);
}

static bool all_done(void)
{
    for (uint32_t p = 0; p < PHONES; p++)
        if (w.step[p] <= STEPS)
            return false;
    return true;
}

static void run_turn(void)
{
    deliver();
    phones_act();
    trainer_acts();
    sl_ingest_poll(w.ingest, w.now_ns);
    carry(w.device, true);
    carry(w.edge, false);
    w.now_ns += MS;
}

static void exchange(enum sl_codec codec)
{
    struct sl_ingest_stats s;
    struct sl_store_stats phones;
    unsigned lost = 0;
    uint64_t parked = 0, dropped = 0, expired = 0, expanded = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world_init(codec, seed);
        for (unsigned turns = 0; !all_done(); turns++) {
            assert_true(turns < 200000); /* nobody waits for ever */
            run_turn();
        }
        for (unsigned turns = 0; turns < 5000; turns++) /* what is left over is acknowledged or expires */
            run_turn();
        sl_ingest_stats(w.ingest, &s);
        assert_int_equal(s.slots_free, SLOTS);
        assert_int_equal(
            s.park_bytes + s.gradients_outstanding + s.grants_outstanding + s.requests_waiting, 0);
        assert_int_equal(s.returned_gradient, s.gradients_acked + s.park_dropped);
        assert_true(s.returned_gradient >= PHONES * STEPS);
        assert_accounts(w.edge);
        assert_accounts(w.device);
        assert_int_equal(drops(w.edge, SL_DROP_NO_GRANT) + drops(w.edge, SL_DROP_OFF_GRID), 0);
        lost += w.lost;
        parked += s.parked;
        dropped += s.park_dropped;
        expired += s.grants_expired;
        sl_store_stats(w.store, &phones);
        assert_true(phones.fragments_compressed >= s.fragments_expanded);
        expanded += s.fragments_expanded;
        world_free();
    }
    assert_true(lost > 0 && parked > 0 && dropped > 0 && expired > 0); /* the hard ways were taken, too */
    assert_int_equal(expanded > 0, codec == SL_CODEC_INT8_LZ4);
}

static void exchange__every_step_gets_its_gradient(void **state)
{
    exchange(SL_CODEC_BF16);
}

static void exchange__in_int8(void **state)
{
    exchange(SL_CODEC_INT8);
}

static void exchange__in_int8_lz4(void **state)
{
    exchange(SL_CODEC_INT8_LZ4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchange__every_step_gets_its_gradient),
        cmocka_unit_test(exchange__in_int8),
        cmocka_unit_test(exchange__in_int8_lz4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
