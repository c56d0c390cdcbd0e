#include "tests/ingest/fixture.h"

static uint64_t edge_id(const struct edge *e, uint32_t session)
{
    return sl_session_id(0, session, 0xe0000 + e->incarnation);
}

void edge_init(struct edge *e, const struct edge_options *o)
{
    memset(e, 0, sizeof(*e));
    e->now_ns = 1000 * MS;
    assert_int_equal(sl_slots_create(o->n_slots, SLOT_UNITS * SL_UNIT_BYTES, &e->slots), 0);
    e->ready = sl_ring_spsc_create(o->ring_capacity ? o->ring_capacity : 64);
    e->returned = sl_ring_spsc_create(64);
    assert_non_null(e->ready);
    assert_non_null(e->returned);
    e->config = (struct sl_ingest_config){.slots = e->slots,
        .ready = e->ready,
        .returned = e->returned,
        .max_sessions = SESSIONS,
        .d_model = D_MODEL,
        .codec = o->codec == SL_CODEC_F32 ? SL_CODEC_BF16 : o->codec,
        .fragment_units = FRAGMENT,
        .waiting_requests = o->waiting_requests,
        .grants_per_session = o->grants_per_session,
        .grant_expiry_ns = 1000 * MS,
        .grant_margin_ns = o->grant_margin_ns,
        .grant_factor = o->grant_factor,
        .park_after_ns = 500 * MS,
        .park_bytes = o->park_bytes};
    assert_int_equal(sl_ingest_create(&e->config, &e->ingest), 0);
    const struct sl_endpoint_config c = {.max_sessions = SESSIONS,
        .max_sends = o->max_sends ? o->max_sends : 64,
        .max_message_units = o->max_message_units ? o->max_message_units : SLOT_UNITS,
        .window_packets = 64,
        .is_edge = true};
    assert_int_equal(sl_endpoint_create(&c, &sl_ingest_sink, e->ingest, &e->endpoint), 0);
    sl_ingest_bind(e->ingest, e->endpoint);
    for (uint32_t s = 0; s < SESSIONS; s++)
        sealer_init(&e->sealer[s], true, 0);
}

void edge_free(struct edge *e)
{
    sl_endpoint_free(e->endpoint);
    sl_ingest_free(e->ingest);
    sl_slots_free(e->slots);
    sl_ring_spsc_free(e->ready);
    sl_ring_spsc_free(e->returned);
    for (uint32_t s = 0; s < SESSIONS; s++)
        sealer_free(&e->sealer[s]);
}

void edge_open(struct edge *e, uint32_t session, uint64_t device)
{
    e->incarnation++;
    struct sl_session_config c = {.local_id = edge_id(e, session),
        .peer_id = 7,
        .fragment_units = FRAGMENT,
        .mtu = SL_DEFAULT_MTU,
        .local = edge_addr,
        .remote = device_addr,
        .initial_rtt_ns = 20 * MS};
    memcpy(c.secret, test_secret, sizeof(c.secret));
    assert_int_equal(sl_endpoint_open(e->endpoint, &c, e->now_ns), 0);
    sl_ingest_session_opened(e->ingest, session, device);
    e->sealer[session].peer = c.local_id;
    e->pn[session] = 0;
    memset(&e->seen[session], 0, sizeof(e->seen[session]));
}

void edge_close(struct edge *e, uint32_t session)
{
    sl_endpoint_close(e->endpoint, session);
    sl_ingest_session_closed(e->ingest, session);
}

/* ---- the devices ---- */

static void deliver_frame(struct edge *e, uint32_t session, const struct sl_frame *f)
{
    uint8_t bytes[600];
    uint16_t len = seal_frame(&e->sealer[session], e->pn[session]++, f, bytes);
    struct sl_rx rx = rx_of(bytes, len);
    assert_int_equal(sl_rx_burst(e->endpoint, &rx, 1, e->now_ns), 1);
}

struct sl_request request_of(uint64_t step, uint16_t rows)
{
    return (struct sl_request){.step = step, .kind = SL_REQUEST_TRAIN, .n_seqs = 1, .len = {rows}};
}

void send_request(struct edge *e, uint32_t session, const struct sl_request *r)
{
    deliver_frame(e, session, &(struct sl_frame){.type = SL_FRAME_REQUEST, .request = *r});
}

void ask(struct edge *e, uint32_t session, uint64_t step)
{
    struct sl_request r = request_of(step, ROWS);
    send_request(e, session, &r);
}

void burst_units(struct edge *e, struct burst *b, uint32_t session, uint32_t grant, uint32_t unit0,
    uint16_t n, uint8_t fill, bool forged)
{
    uint8_t *bytes = b->bytes[b->n];
    uint16_t len = seal_data(&e->sealer[session], e->pn[session]++, grant, unit0, n, fill, bytes);
    if (forged)
        bytes[len - 1] ^= 1;
    b->rx[b->n++] = rx_of(bytes, len);
}

unsigned burst_send(struct edge *e, struct burst *b)
{
    unsigned delivered = sl_rx_burst(e->endpoint, b->rx, b->n, e->now_ns);
    b->n = 0;
    return delivered;
}

void send_units(struct edge *e, uint32_t session, uint32_t grant, uint32_t unit0, uint16_t n, uint8_t fill)
{
    struct burst b = {.n = 0};
    burst_units(e, &b, session, grant, unit0, n, fill, false);
    burst_send(e, &b);
}

void send_message(struct edge *e, uint32_t session, uint32_t grant)
{
    send_units(e, session, grant, 8, 3, 3);
    send_units(e, session, grant, 0, 4, 1);
    send_units(e, session, grant, 4, 4, 2);
}

void ack_all(struct edge *e, uint32_t session)
{
    struct seen *s = &e->seen[session];
    assert_true(s->any);
    deliver_frame(e, session,
        &(struct sl_frame){
            .type = SL_FRAME_ACK, .ack = {.n_ranges = 1, .range = {{.first = 0, .last = s->highest_pn}}}});
}

static void note(struct edge *e, const struct sl_tx *tx)
{
    struct seen *s = &e->seen[tx->session];
    struct sl_header h;
    size_t header_len;
    assert_int_equal(sl_header_decode(tx->buf, tx->len, &h, &header_len), SL_DROP_NONE);
    s->highest_pn = h.pn;
    s->any = true;
    if (h.type == SL_PACKET_DATA) {
        s->data_packets++;
        return;
    }
    assert_true(s->n + 32 <= FRAMES_KEPT);
    s->n += open_frames_of(false, tx->buf, tx->len, s->frame + s->n, FRAMES_KEPT - s->n);
}

void turn(struct edge *e)
{
    uint8_t bytes[8][600];
    struct sl_tx tx[8];
    unsigned n;
    sl_ingest_poll(e->ingest, e->now_ns);
    do {
        for (unsigned i = 0; i < 8; i++)
            tx[i] = (struct sl_tx){.buf = bytes[i], .cap = sizeof(bytes[i])};
        n = sl_tx_burst(e->endpoint, tx, 8, e->now_ns);
        for (unsigned i = 0; i < n; i++)
            note(e, &tx[i]);
    } while (n == 8);
    assert_conserved(e);
}

void turn_at(struct edge *e, uint64_t now_ns)
{
    e->now_ns = now_ns;
    turn(e);
}

const struct sl_frame *next_frame(struct edge *e, uint32_t session, enum sl_frame_type type)
{
    struct seen *s = &e->seen[session];
    for (unsigned i = 0; i < s->n; i++) {
        if (s->frame[i].type != type)
            continue;
        s->frame[i].type = SL_FRAME_PADDING; /* taken; the union stays */
        return &s->frame[i];
    }
    return NULL;
}

uint32_t granted_index(struct edge *e, uint32_t session)
{
    const struct sl_frame *f = next_frame(e, session, SL_FRAME_GRANT);
    assert_non_null(f);
    uint32_t newest = f->grant.index;
    while ((f = next_frame(e, session, SL_FRAME_GRANT)) != NULL)
        newest = f->grant.index > newest ? f->grant.index : newest;
    return newest;
}

void assert_lost(struct edge *e, uint32_t session, uint32_t grant, uint64_t step, enum sl_lost_reason reason)
{
    const struct sl_frame *f = next_frame(e, session, SL_FRAME_STEP_LOST);
    assert_non_null(f);
    assert_int_equal(f->step_lost.grant, grant);
    assert_int_equal(f->step_lost.step, step);
    assert_int_equal(f->step_lost.reason, reason);
    assert_null(next_frame(e, session, SL_FRAME_STEP_LOST));
}

/* ---- the trainer ---- */

struct sl_slot *trainer_takes(struct edge *e)
{
    uint32_t handle;
    if (sl_ring_spsc_pop(e->ready, &handle, 1) == 0)
        return NULL;
    struct sl_slot *slot = sl_slot_get(e->slots, handle);
    assert_non_null(slot);
    assert_int_equal(slot->state, SL_SLOT_READY);
    slot->state = SL_SLOT_IN_BATCH;
    return slot;
}

void trainer_returns(struct edge *e, struct sl_slot *slot, enum sl_result_status status)
{
    uint32_t handle = slot->handle;
    slot->state = SL_SLOT_GRADIENT;
    slot->outcome = (struct sl_slot_outcome){.status = (uint8_t)status,
        .flags = SL_RESULT_BOUNDARY,
        .global_step = 100 + slot->request.step,
        .nll = 2.5};
    assert_int_equal(sl_ring_spsc_push(e->returned, &handle, 1), 1);
}

struct sl_slot *make_ready(struct edge *e, uint32_t session, uint64_t step)
{
    ask(e, session, step);
    turn(e);
    send_message(e, session, granted_index(e, session));
    struct sl_slot *slot = trainer_takes(e);
    assert_non_null(slot);
    return slot;
}

/* ---- accounts ---- */

struct sl_ingest_stats stats_of(const struct edge *e)
{
    struct sl_ingest_stats s;
    sl_ingest_stats(e->ingest, &s);
    return s;
}

void assert_conserved(const struct edge *e)
{
    struct sl_ingest_stats s = stats_of(e);
    assert_int_equal(s.requests, s.requests_repeated + s.requests_refused + s.requests_no_room +
                                     s.requests_gone + s.requests_waiting + s.granted);
    assert_int_equal(s.granted, s.ready + s.grants_expired + s.grants_cancelled + s.grants_outstanding);
    assert_int_equal(s.ready, s.returned_gradient + s.returned_eval + s.returned_refused +
                                  s.returned_skipped + s.returned_session_gone + s.with_trainer);
    assert_int_equal(s.returned_gradient,
        s.gradients_acked + s.gradients_gone + s.gradients_lost + s.park_dropped + s.gradients_outstanding);
    assert_int_equal(s.slots_free + s.slots_in_use, sl_slots_count(e->slots));
    assert_accounts(e->endpoint);
}
