#include "dataplane/transport/endpoint.h"
#include "dataplane/transport/session.h"
#include "tests/transport/model.h"

#include <errno.h>

enum { ROOM = 600 };
static struct model model;
static uint8_t bytes[512][ROOM];
static struct sl_tx tx[512];

/* Everything that may leave now. */
static unsigned drain(struct sl_endpoint *ep, uint64_t now_ns)
{
    for (unsigned i = 0; i < 512; i++)
        tx[i] = (struct sl_tx){.buf = bytes[i], .cap = ROOM};
    return sl_tx_burst(ep, tx, 512, now_ns);
}

static struct sl_session_config config_of(uint32_t handle)
{
    struct sl_session_config c = {.local_id = sl_session_id(0, handle, 1),
        .peer_id = 2,
        .fragment_units = 22,
        .mtu = 1500,
        .remote = edge_addr};
    return c;
}

static struct sl_header header_of(unsigned i)
{
    struct sl_header h;
    size_t len;
    assert_int_equal(sl_header_decode(tx[i].buf, tx[i].len, &h, &len), SL_DROP_NONE);
    return h;
}

static void acknowledge(
    struct sl_endpoint *ep, struct sealer *edge, uint64_t pn, uint64_t first, uint64_t last, uint64_t now_ns)
{
    uint8_t p[512];
    struct sl_frame f = {.type = SL_FRAME_ACK, .ack = {.n_ranges = 1, .range = {{first, last}}}};
    struct sl_rx r = rx_of(p, seal_frame(edge, pn, &f, p));
    assert_int_equal(sl_rx_burst(ep, &r, 1, now_ns), 1);
}

static void sl_session_id__parts(void **state)
{
    uint64_t id = sl_session_id(0xab, 0x123456, 0xdeadbeef);
    assert_true(id == UINT64_C(0xab123456deadbeef));
    assert_int_equal(sl_session_id_handle(id), 0x123456);
}

static void sl_endpoint_create__refuses(void **state)
{
    struct sl_endpoint *ep;
    const struct sl_endpoint_config good = {.max_sessions = 1, .max_sends = 1, .max_message_units = 1};
    struct sl_endpoint_config c = good;
    c.max_sessions = 0;
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), -EINVAL);
    c = good;
    c.max_sends = 0;
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), -EINVAL);
    c = good;
    c.max_message_units = 0;
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), -EINVAL);
    assert_int_equal(sl_endpoint_create(&good, &model_sink, &model, &ep), 0);
    sl_endpoint_free(ep);
    sl_endpoint_free(NULL);
}

/* Issue: at most 4 KiB of data-plane state for an idle session, of which the transport may take 3, and two
 * cache lines for a packet in order. */
static void sl_endpoint_memory__bounds(void **state)
{
    struct sl_endpoint *ep;
    struct sl_endpoint_memory m, more;
    struct sl_endpoint_config c = {.max_sessions = 10000, .max_sends = 64, .max_message_units = 4096};
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), 0);
    sl_endpoint_memory(ep, &m);
    sl_endpoint_free(ep);
    assert_true(m.hot_session_bytes <= 2 * 64);
    assert_true(m.idle_session_bytes <= 3 * 1024);
    c.max_sessions = 20000; /* what a session more costs is what was said */
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), 0);
    sl_endpoint_memory(ep, &more);
    sl_endpoint_free(ep);
    assert_true(more.total_bytes - m.total_bytes <= 10000 * (m.idle_session_bytes + 8));
    print_message("%zu bytes an idle session, %zu of them hot; %zu more while active\n", m.idle_session_bytes,
        m.hot_session_bytes, m.active_session_bytes);
}

/* Three sessions, room for one to be active. */
static void sl_endpoint_frame__refused_while_too_many_are_active(void **state)
{
    struct sl_endpoint *ep;
    struct sealer edge;
    struct sl_endpoint_stats s;
    const struct sl_endpoint_config c = {
        .max_sessions = 4, .max_sends = 8, .max_message_units = 100, .max_active = 1};
    struct sl_frame f = {.type = SL_FRAME_REQUEST, .request = {.n_seqs = 1, .len = {1}}};
    model_init(&model);
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), 0);
    for (uint32_t h = 1; h < 4; h++) {
        struct sl_session_config sc = config_of(h);
        memcpy(sc.secret, test_secret, sizeof(sc.secret));
        sc.fragment_units = MODEL_UNITS;
        assert_int_equal(sl_endpoint_open(ep, &sc, 0), 0);
    }
    sealer_init(&edge, false, config_of(1).local_id);
    assert_int_equal(sl_endpoint_frame(ep, 1, &f, 0), 0);
    assert_int_equal(sl_endpoint_frame(ep, 1, &f, 0), 0);
    assert_int_equal(sl_endpoint_frame(ep, 2, &f, 0), -ENOBUFS);
    sl_endpoint_stats(ep, &s);
    assert_int_equal(s.outbox_waits, 1);
    assert_int_equal(s.active_free, 0);
    assert_int_equal(drain(ep, 0), 1);
    acknowledge(ep, &edge, 0, 0, 0, MS); /* nothing outstanding any more */
    assert_int_equal(sl_endpoint_frame(ep, 2, &f, MS), 0);
    sl_endpoint_close(ep, 2);
    assert_int_equal(sl_endpoint_frame(ep, 3, &f, MS), 0);
    sl_endpoint_free(ep);
    sealer_free(&edge);
}

/* Data of a session without a place for records waits, in turn; its ACKs do not. */
static void sl_tx_burst__waits_for_a_place_among_the_active(void **state)
{
    struct sl_endpoint *ep;
    struct sealer edge[4];
    struct sl_endpoint_stats s;
    const struct sl_endpoint_config c = {
        .max_sessions = 4, .max_sends = 8, .max_message_units = 100, .max_active = 1};
    model_init(&model);
    assert_int_equal(sl_endpoint_create(&c, &model_sink, &model, &ep), 0);
    for (uint32_t h = 1; h < 4; h++) {
        struct sl_session_config sc = config_of(h);
        memcpy(sc.secret, test_secret, sizeof(sc.secret));
        sc.fragment_units = MODEL_UNITS;
        assert_int_equal(sl_endpoint_open(ep, &sc, 0), 0);
        sealer_init(&edge[h], false, sc.local_id);
        model_offer(&model, h, 1, 8, h);
        assert_int_equal(sl_endpoint_send(ep, h, 1, 8, 0), 0);
    }
    assert_int_equal(drain(ep, 0), 2); /* the first one's message */
    assert_int_equal(tx[0].session, 1);
    sl_endpoint_stats(ep, &s);
    assert_int_equal(s.record_waits, 2);
    struct sl_frame ping = {.type = SL_FRAME_PING};
    uint8_t p[512];
    struct sl_rx r = rx_of(p, seal_frame(&edge[3], 7, &ping, p));
    assert_int_equal(sl_rx_burst(ep, &r, 1, MS), 1); /* not 0: told at once */
    assert_int_equal(drain(ep, MS), 1);
    assert_int_equal(tx[0].session, 3);
    assert_int_equal(header_of(0).type, SL_PACKET_FRAMES);
    acknowledge(ep, &edge[1], 0, 0, 1, 2 * MS);
    assert_int_equal(drain(ep, 2 * MS), 2);
    assert_int_equal(tx[0].session, 2);
    sl_endpoint_close(ep, 2);
    assert_int_equal(drain(ep, 3 * MS), 2);
    assert_int_equal(tx[0].session, 3);
    assert_int_equal(drain(ep, 3 * MS), 0);
    acknowledge(ep, &edge[3], 8, 1, 2, 4 * MS); /* 0 was the ACK */
    for (unsigned h = 0; h < 3; h++)
        assert_int_equal(model.out[h].done[h == 1 ? SL_DONE_SESSION_GONE : SL_DONE_ACKED], 1);
    sl_endpoint_stats(ep, &s);
    assert_int_equal(s.active_free, 1);
    sl_endpoint_free(ep);
    model_free(&model);
    for (uint32_t h = 1; h < 4; h++)
        sealer_free(&edge[h]);
}

static void sl_endpoint_open__refuses(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 8);
    struct sl_session_config c = config_of(1);
    assert_int_equal(sl_endpoint_open(ep, &c, 0), -EEXIST);
    c = config_of(4);
    assert_int_equal(sl_endpoint_open(ep, &c, 0), -EINVAL); /* max_sessions is 4 */
    c = config_of(2);
    c.local_id |= UINT64_C(1) << 56; /* another lcore's */
    assert_int_equal(sl_endpoint_open(ep, &c, 0), -EINVAL);
    c = config_of(2);
    c.fragment_units = 23; /* more than the MTU takes */
    assert_int_equal(sl_endpoint_open(ep, &c, 0), -EINVAL);
    c.fragment_units = 0;
    assert_int_equal(sl_endpoint_open(ep, &c, 0), -EINVAL);
    c = config_of(2);
    c.mtu = 500;
    c.fragment_units = 1;
    assert_int_equal(sl_endpoint_open(ep, &c, 0), -EINVAL);
    c = config_of(2);
    assert_int_equal(sl_endpoint_open(ep, &c, 0), 0);
    assert_true(sl_endpoint_is_open(ep, 2));
    sl_endpoint_close(ep, 2);
    assert_false(sl_endpoint_is_open(ep, 2));
    sl_endpoint_close(ep, 2); /* nothing */
    sl_endpoint_close(ep, 99);
    assert_int_equal(sl_endpoint_open(ep, &c, 0), 0); /* the handle is free again */
    sl_endpoint_free(ep);
}

static void sl_endpoint_send__refuses(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 8);
    for (uint32_t grant = 1; grant <= 9; grant++)
        model_offer(&model, 1, grant, 10, grant);
    assert_int_equal(sl_endpoint_send(ep, 2, 1, 10, 0), -ENOENT);
    assert_int_equal(sl_endpoint_send(ep, 77, 1, 10, 0), -ENOENT);
    assert_int_equal(sl_endpoint_send(ep, 1, 1, 0, 0), -EINVAL);
    assert_int_equal(sl_endpoint_send(ep, 1, 1, 4097, 0), -EINVAL);
    for (uint32_t grant = 1; grant <= 8; grant++)
        assert_int_equal(sl_endpoint_send(ep, 1, grant, 10, 0), 0);
    assert_int_equal(sl_endpoint_send(ep, 1, 8, 10, 0), -EEXIST);
    assert_int_equal(sl_endpoint_send(ep, 1, 9, 10, 0), -ENOBUFS);
    assert_int_equal(sl_endpoint_cancel(ep, 1, 3), 0);
    assert_int_equal(model.out[2].done[SL_DONE_CANCELLED], 1);
    assert_int_equal(sl_endpoint_cancel(ep, 1, 3), -ENOENT);
    assert_int_equal(sl_endpoint_send(ep, 1, 9, 10, 0), 0);
    sl_endpoint_free(ep);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(model.out[i].done[SL_DONE_SESSION_GONE], i == 2 ? 0 : 1);
    model_free(&model);
}

static void sl_endpoint_frame__refuses(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 8);
    struct sl_frame f = {.type = SL_FRAME_REQUEST, .request = {.n_seqs = 1, .len = {1}}};
    struct sl_frame ping = {.type = SL_FRAME_PING};
    assert_int_equal(sl_endpoint_frame(ep, 3, &f, 0), -ENOENT);
    assert_int_equal(sl_endpoint_frame(ep, 1, &ping, 0), -EINVAL);
    for (unsigned i = 0; i < SL_OUTBOX_SLOTS; i++)
        assert_int_equal(sl_endpoint_frame(ep, 1, &f, 0), 0);
    assert_int_equal(sl_endpoint_frame(ep, 1, &f, 0), -ENOBUFS);
    sl_endpoint_free(ep);
}

static void sl_tx_burst__nothing_before_the_remote_is_known(void **state)
{
    struct sl_endpoint *ep = open_one(true, &model, 8);
    struct sl_frame f = {.type = SL_FRAME_GRANT, .grant = {.index = 1}}, ping = {.type = SL_FRAME_PING};
    struct sealer device;
    uint8_t p[512];
    sealer_init(&device, true, id_of(true));
    model_offer(&model, 1, 1, 10, 1);
    assert_int_equal(sl_endpoint_send(ep, 1, 1, 10, 0), 0);
    assert_int_equal(sl_endpoint_frame(ep, 1, &f, 0), 0);
    assert_true(sl_next_deadline(ep) == UINT64_MAX);
    assert_int_equal(drain(ep, 1000 * MS), 0);
    struct sl_rx r = rx_of(p, seal_frame(&device, 0, &ping, p));
    sl_rx_burst(ep, &r, 1, 1000 * MS);
    assert_int_equal(sl_next_deadline(ep), 0);
    assert_int_equal(drain(ep, 1000 * MS), 1 + 3);
    assert_memory_equal(&tx[0].remote, &device_addr, sizeof(device_addr));
    sl_endpoint_free(ep);
    model_free(&model);
    sealer_free(&device);
}

static void sl_tx_burst__idle_session_sends_nothing(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 8);
    for (uint64_t t = 0; t < 3600; t += 60)
        assert_int_equal(drain(ep, t * 1000 * MS), 0);
    assert_true(sl_next_deadline(ep) == UINT64_MAX);
    sl_endpoint_free(ep);
}

static void sl_tx_burst__on_the_senders_grid(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 64);
    model_offer(&model, 1, 5, 42, 1);
    sl_endpoint_send(ep, 1, 5, 42, 0);
    assert_int_equal(drain(ep, 0), 11);
    for (unsigned i = 0; i < 11; i++) {
        struct sl_header h = header_of(i);
        assert_int_equal(h.type, SL_PACKET_DATA);
        assert_int_equal(h.grant, 5);
        assert_true(h.session == id_of(true));
        assert_int_equal(h.pn, i);
        assert_int_equal(h.unit0, i * MODEL_UNITS);
        assert_int_equal(h.n_units, i == 10 ? 2 : MODEL_UNITS);
        assert_int_equal(tx[i].session, 1);
        assert_memory_equal(&tx[i].remote, &edge_addr, sizeof(edge_addr));
    }
    sl_endpoint_free(ep);
    model_free(&model);
}

/* A fragment that the sink can say in fewer bytes is flagged; the others go as they are. */
static void sl_tx_burst__compressed_fragments(void **state)
{
    static struct model received;
    struct sl_endpoint *ep = open_one(false, &model, 64), *edge = open_one(true, &received, 64);
    struct model_message *out = model_offer(&model, 1, 5, 3 * MODEL_UNITS, 1);
    struct model_message *in = model_expect(&received, 1, 5, 3 * MODEL_UNITS);
    memset(out->bytes + MODEL_UNITS * SL_UNIT_BYTES, 7, MODEL_UNITS * SL_UNIT_BYTES);
    sl_endpoint_send(ep, 1, 5, 3 * MODEL_UNITS, 0);
    assert_int_equal(drain(ep, 0), 3);
    for (unsigned i = 0; i < 3; i++) {
        struct sl_header h = header_of(i);
        assert_int_equal(h.n_units, MODEL_UNITS);
        assert_int_equal(h.flags, i == 1 ? SL_FLAG_COMPRESSED : 0);
        assert_int_equal(h.coded, i == 1 ? MODEL_CODED : 0);
        assert_int_equal(tx[i].len, i == 1 ? 32 + MODEL_CODED + 16 : 32 + MODEL_UNITS * 64 + 16);
        struct sl_rx rx = rx_of(tx[i].buf, tx[i].len);
        assert_int_equal(sl_rx_burst(edge, &rx, 1, 0), 1);
    }
    assert_memory_equal(in->bytes, out->bytes, 3 * MODEL_UNITS * SL_UNIT_BYTES);
    assert_int_equal(in->completed, 1);
    sl_endpoint_free(edge);
    sl_endpoint_free(ep);
    model_free(&received);
    model_free(&model);
}

static void sl_tx_burst__window_is_kept_and_opens_with_acks(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 10);
    struct sealer edge;
    sealer_init(&edge, false, id_of(false));
    model_offer(&model, 1, 5, 400, 1);
    sl_endpoint_send(ep, 1, 5, 400, 0);
    assert_int_equal(drain(ep, 0), 10);
    assert_int_equal(drain(ep, MS), 0);
    acknowledge(ep, &edge, 0, 0, 3, 10 * MS);
    assert_int_equal(drain(ep, 10 * MS), 4);
    acknowledge(
        ep, &edge, 1, 9, 9, 11 * MS); /* 4 5 6 lost, 9 acknowledged: room for four; the lost ones first */
    assert_int_equal(drain(ep, 11 * MS), 4);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(header_of(i).unit0, (4 + i) * MODEL_UNITS);
    assert_int_equal(header_of(3).unit0, 14 * MODEL_UNITS);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(header_of(i).pn, 14 + i); /* never a number twice */
    struct sl_session_stats s;
    sl_session_stats(ep, 1, &s);
    assert_int_equal(s.retransmits, 3);
    sl_endpoint_free(ep);
    model_free(&model);
    sealer_free(&edge);
}

static void sl_tx_burst__dead_peer_backs_off(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 8);
    model_offer(&model, 1, 5, 400, 1);
    sl_endpoint_send(ep, 1, 5, 400, 0);
    assert_int_equal(drain(ep, 0), 8);
    uint64_t now = 0, before = 0, gap = 0;
    unsigned rounds = 0;
    while (now < 600000 * MS) { /* ten minutes */
        now = sl_next_deadline(ep);
        unsigned n = drain(ep, now);
        if (n == 0)
            continue; /* the wheel only turned */
        assert_int_equal(n, SL_PTO_PROBES);
        uint64_t this_gap = now - before;
        assert_true(this_gap + MS >= gap);
        assert_true(this_gap <= SL_PTO_MAX_NS + 2 * MS);
        gap = this_gap;
        before = now;
        rounds++;
    }
    /* PTO 65 ms doubles seven times to the cap of 8 s: 8.3 s, then every 8 s */
    assert_true(rounds >= 75 && rounds <= 85);
    assert_true(gap >= SL_PTO_MAX_NS);
    struct sl_session_stats s;
    sl_session_stats(ep, 1, &s);
    assert_int_equal(s.ptos, rounds);
    assert_int_equal(s.packets_tx, 8 + 2 * rounds);
    sl_endpoint_free(ep);
    assert_int_equal(model.out[0].done[SL_DONE_SESSION_GONE], 1);
    model_free(&model);
}

static void sl_tx_burst__probe_repeats_the_oldest(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 8);
    struct sl_frame f = {.type = SL_FRAME_REQUEST, .request = {.step = 1, .n_seqs = 1, .len = {1}}};
    model_offer(&model, 1, 5, 10, 1);
    sl_endpoint_send(ep, 1, 5, 10, 0);
    sl_endpoint_frame(ep, 1, &f, 0);
    assert_int_equal(drain(ep, 0), 4);
    assert_int_equal(header_of(0).type, SL_PACKET_FRAMES);
    while (drain(ep, sl_next_deadline(ep)) == 0)
        ;
    assert_int_equal(header_of(0).type, SL_PACKET_FRAMES); /* the REQUEST, then the first fragment */
    assert_int_equal(header_of(1).type, SL_PACKET_DATA);
    assert_int_equal(header_of(1).unit0, 0);
    /* a cancelled message is not repeated: a PING asks instead */
    sl_endpoint_free(ep);
    model_free(&model);
    ep = open_one(false, &model, 8);
    model_offer(&model, 1, 5, 10, 1);
    sl_endpoint_send(ep, 1, 5, 10, 0);
    assert_int_equal(drain(ep, 0), 3);
    sl_endpoint_cancel(ep, 1, 5);
    while (drain(ep, sl_next_deadline(ep)) == 0)
        ;
    struct sl_frame ping[2];
    assert_int_equal(open_frames_of(true, tx[0].buf, tx[0].len, ping, 2), 1);
    assert_int_equal(ping[0].type, SL_FRAME_PING);
    sl_endpoint_free(ep);
    model_free(&model);
}

static void sl_endpoint_close__in_the_middle_of_a_message(void **state)
{
    struct rig r;
    rig_init(&r, 3, 0, 0, 0);
    model_expect(&r.edge_model, 1, 1, 4000);
    model_offer(&r.device_model, 1, 1, 4000, 1);
    sl_endpoint_send(r.device, 1, 1, 4000, r.now_ns);
    rig_run(&r, r.now_ns + 12 * MS, NULL);
    assert_true(r.edge_model.in[0].n_received > 0 && r.edge_model.in[0].n_received < 4000);
    sl_endpoint_close(r.device, 1);
    assert_int_equal(r.device_model.out[0].done[SL_DONE_SESSION_GONE], 1);
    sl_endpoint_close(r.edge, 1);
    rig_run(&r, r.now_ns + 60000 * MS, NULL);
    assert_int_equal(r.edge_model.in[0].completed, 0);
    assert_accounts(r.edge);
    assert_true(drops(r.edge, SL_DROP_UNKNOWN_SESSION) > 0);
    assert_true(sl_next_deadline(r.edge) == UINT64_MAX && sl_next_deadline(r.device) == UINT64_MAX);
    rig_free(&r);
}

static bool first_is_acked(struct rig *r)
{
    return r->device_model.out[0].done[SL_DONE_ACKED] != 0;
}

static void sl_endpoint_send__largest_message(void **state)
{
    struct rig r;
    rig_init(&r, 3, 0.01, 0, MS);
    model_expect(&r.edge_model, 1, 1, 4096);
    model_offer(&r.device_model, 1, 1, 4096, 1);
    assert_int_equal(sl_endpoint_send(r.device, 1, 1, 4096, r.now_ns), 0);
    assert_true(rig_run(&r, r.now_ns + 60000 * MS, first_is_acked));
    assert_int_equal(r.edge_model.in[0].completed, 1);
    assert_memory_equal(r.edge_model.in[0].bytes, r.device_model.out[0].bytes, 4096 * SL_UNIT_BYTES);
    struct sl_session_stats s;
    sl_session_stats(r.device, 1, &s);
    assert_true(s.min_rtt_ns >= 10 * MS && s.min_rtt_ns < 12 * MS); /* twice the network's 5 ms */
    assert_true(s.smoothed_rtt_ns >= 10 * MS && s.smoothed_rtt_ns < 20 * MS);
    rig_free(&r);
}

static void sl_endpoint_cancel__is_never_acked(void **state)
{
    struct rig r;
    rig_init(&r, 3, 0, 0, 0);
    model_expect(&r.edge_model, 1, 1, 400);
    model_expect(&r.edge_model, 1, 2, 40);
    model_offer(&r.device_model, 1, 1, 400, 1);
    model_offer(&r.device_model, 1, 2, 40, 2);
    sl_endpoint_send(r.device, 1, 1, 400, r.now_ns);
    rig_run(&r, r.now_ns + 2 * MS, NULL);
    sl_endpoint_cancel(r.device, 1, 1);
    sl_endpoint_send(r.device, 1, 2, 40, r.now_ns); /* takes the first one's place in the pool */
    rig_run(&r, r.now_ns + 60000 * MS, NULL);
    assert_int_equal(r.device_model.out[0].done[SL_DONE_CANCELLED], 1);
    assert_int_equal(r.device_model.out[0].done[SL_DONE_ACKED], 0);
    assert_int_equal(r.device_model.out[1].done[SL_DONE_ACKED], 1);
    assert_int_equal(r.edge_model.in[1].completed, 1);
    assert_true(sl_next_deadline(r.device) == UINT64_MAX);
    rig_free(&r);
}

static void sl_tx_burst__source_that_has_gone_ends_the_message(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 64);
    model_offer(&model, 1, 5, 40, 1);
    model.no_source = true;
    sl_endpoint_send(ep, 1, 5, 40, 0);
    assert_int_equal(drain(ep, 0), 0);
    assert_int_equal(model.out[0].done[SL_DONE_CANCELLED], 1);
    sl_endpoint_free(ep);
    model_free(&model);
}

static void sl_tx_burst__sessions_take_turns(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 256);
    for (uint32_t h = 2; h < 4; h++) {
        struct sl_session_config c = config_of(h);
        c.fragment_units = MODEL_UNITS;
        assert_int_equal(sl_endpoint_open(ep, &c, 0), 0);
    }
    for (uint32_t h = 1; h < 4; h++) {
        model_offer(&model, h, 5, 1000, h);
        sl_endpoint_send(ep, h, 5, 1000, 0);
    }
    unsigned n = drain(ep, 0), of[4] = {0};
    assert_int_equal(n, 512);
    for (unsigned i = 0; i < n; i++)
        of[tx[i].session]++;
    for (unsigned h = 1; h < 4; h++)
        assert_true(of[h] >= 512 / 3 - SL_TRAIN && of[h] <= 512 / 3 + SL_TRAIN);
    sl_endpoint_free(ep);
    model_free(&model);
}

static void sl_endpoint_set_train__is_how_long_a_turn_is(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 256);
    struct sl_session_config c = config_of(2);
    c.fragment_units = MODEL_UNITS;
    assert_int_equal(sl_endpoint_open(ep, &c, 0), 0);
    sl_endpoint_set_train(ep, 3);
    for (uint32_t h = 1; h < 3; h++) {
        model_offer(&model, h, 5, 1000, h);
        sl_endpoint_send(ep, h, 5, 1000, 0);
    }
    unsigned n = drain(ep, 0);
    assert_true(n >= 12);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(tx[i].session, i / 3 % 2 == 0 ? tx[0].session : 3 - tx[0].session);
    sl_endpoint_free(ep);
    model_free(&model);
}

static void sl_tx_burst__buffer_too_small_is_left_alone(void **state)
{
    struct sl_endpoint *ep = open_one(false, &model, 64);
    struct sl_tx small = {.buf = bytes[0], .cap = 100};
    model_offer(&model, 1, 5, 40, 1);
    sl_endpoint_send(ep, 1, 5, 40, 0);
    assert_int_equal(sl_tx_burst(ep, &small, 1, 0), 0);
    assert_int_equal(drain(ep, 0), 10);
    sl_endpoint_free(ep);
    model_free(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_endpoint_create__refuses),
        cmocka_unit_test(sl_endpoint_memory__bounds),
        cmocka_unit_test(sl_endpoint_frame__refused_while_too_many_are_active),
        cmocka_unit_test(sl_tx_burst__waits_for_a_place_among_the_active),
        cmocka_unit_test(sl_session_id__parts),
        cmocka_unit_test(sl_endpoint_open__refuses),
        cmocka_unit_test(sl_endpoint_close__in_the_middle_of_a_message),
        cmocka_unit_test(sl_endpoint_send__refuses),
        cmocka_unit_test(sl_endpoint_send__largest_message),
        cmocka_unit_test(sl_endpoint_cancel__is_never_acked),
        cmocka_unit_test(sl_endpoint_frame__refuses),
        cmocka_unit_test(sl_tx_burst__nothing_before_the_remote_is_known),
        cmocka_unit_test(sl_tx_burst__idle_session_sends_nothing),
        cmocka_unit_test(sl_tx_burst__on_the_senders_grid),
        cmocka_unit_test(sl_tx_burst__compressed_fragments),
        cmocka_unit_test(sl_tx_burst__window_is_kept_and_opens_with_acks),
        cmocka_unit_test(sl_tx_burst__dead_peer_backs_off),
        cmocka_unit_test(sl_tx_burst__probe_repeats_the_oldest),
        cmocka_unit_test(sl_tx_burst__source_that_has_gone_ends_the_message),
        cmocka_unit_test(sl_tx_burst__sessions_take_turns),
        cmocka_unit_test(sl_endpoint_set_train__is_how_long_a_turn_is),
        cmocka_unit_test(sl_tx_burst__buffer_too_small_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
