/* The edge's side of `scale`: its real control loop and data lcore, with the least of a policy. */
#include "dataplane/control/peer.h"
#include "dataplane/crypto/keys.h"
#include "dataplane/ingest/ingest.h"
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/uring/loop.h"
#include "tests/bench/machine.h"
#include "tests/bench/meter.h"
#include "tests/bench/scale.h"
#include "tests/bench/verb.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HANDSHAKES = 8, /* as sluice-edge */
    RINGS = 1024,
    POP = 32,
    GATHER = 32,
    SPARE_CONNECTIONS = 16,
    SLOTS_SPARE = 8,
    LINK_WITHIN_S = 30,
};
#define POLL_NS UINT64_C(1000000)
#define EXPIRY_NS UINT64_C(60000000000)

struct member { /* a device that asked to join */
    struct sl_control *control;
    uint64_t session;
};

struct edge {
    struct bench_twin *side;
    struct scale_shared *sh;
    struct sl_port *port;
    struct bench_meter meter;
    struct sl_endpoint *endpoint;
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_lcore *lcore;
    struct sl_loop *loop;
    struct sl_tls_ctx *tls;
    struct member *members;
    uint32_t n_members;
    bool failed;
    /* of the lcore */
    uint64_t taken, trains, messages, messages_wrong;
    uint32_t last_session;
    uint64_t measure_ns, taken_before, units_before;
};

uint32_t scale_units(void)
{
    struct sl_grid g;
    sl_grid_make(&g, SCALE_SEQS * SCALE_ROWS_EACH, SCALE_D_MODEL, SL_CODEC_BF16, 1, SCALE_FRAGMENT_UNITS);
    return g.n_units;
}

struct sl_request scale_request(uint64_t step)
{
    struct sl_request r = {.step = step, .kind = SL_REQUEST_EVAL, .n_seqs = SCALE_SEQS};
    for (unsigned i = 0; i < SCALE_SEQS; i++)
        r.len[i] = SCALE_ROWS_EACH;
    return r;
}

struct sl_addr scale_address(unsigned side)
{
    return (struct sl_addr){
        .ip = {[10] = 0xff, [11] = 0xff, 10, 88, 0, (uint8_t)(side + 1)}, .port = side == 0 ? 40000 : 7444};
}

void scale_memory(uint64_t *heap, uint64_t *resident)
{
    struct mallinfo2 m = mallinfo2();
    unsigned long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    *heap = m.uordblks + m.hblkhd;
    if (f != NULL && fscanf(f, "%lu %lu", &total, &pages) != 2)
        pages = 0;
    if (f != NULL)
        fclose(f);
    *resident = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- on the lcore's thread ---- */

static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct edge *e = sink;
    for (unsigned i = 0; i < n; i++) {
        e->trains += rx[i]->session != e->last_session;
        e->last_session = rx[i]->session;
    }
    e->taken += n;
    sl_ingest_sink.place(e->ingest, rx, n);
}

static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok)
{
    sl_ingest_sink.commit(((struct edge *)sink)->ingest, rx, n, ok);
}

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return sl_ingest_sink.source(((struct edge *)sink)->ingest, session, grant, unit0, n);
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    sl_ingest_sink.done(((struct edge *)sink)->ingest, session, grant, why);
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    sl_ingest_sink.frame(((struct edge *)sink)->ingest, session, f, now_ns);
}

static const struct sl_sink_ops sink_ops = {
    .place = place, .commit = commit, .source = source, .done = done, .frame = frame};

static void opened(void *app, uint32_t session, uint64_t user)
{
    sl_ingest_session_opened(((struct edge *)app)->ingest, session, user);
}

/* The trainer's place: what is ready goes back evaluated. */
static void poll_lcore(void *app, uint64_t now_ns)
{
    struct edge *e = app;
    uint32_t h[POP];
    unsigned n = sl_ring_spsc_pop(e->ready, h, POP);
    for (unsigned i = 0; i < n; i++) {
        struct sl_slot *s = sl_slot_get(e->slots, h[i]);
        uint32_t device = (uint32_t)s->device; /* which says its own number: they join in any order */
        e->messages_wrong += memcmp(s->data, &device, sizeof(device)) != 0 ||
                             s->data[s->grid.tensor_units * SL_UNIT_BYTES - 1] != 1;
        s->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
    }
    sl_ring_spsc_push(e->returned, h, n);
    e->messages += n;
    sl_ingest_poll(e->ingest, now_ns);
    __atomic_store_n(&e->sh->taken, e->taken, __ATOMIC_RELEASE);
}

static uint64_t deadline(void *app)
{
    return sl_ingest_deadline(((struct edge *)app)->ingest);
}

static const struct sl_lcore_ops lcore_ops = {.opened = opened, .poll = poll_lcore, .deadline = deadline};

/* ---- control ---- */

static void on_established(void *app, struct sl_control *c)
{
}

static void on_hello(struct edge *e, struct sl_control *c, const Sluice__Hello *hello)
{
    if (e->n_members == e->sh->max_sessions) {
        sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_FULL, "no session free");
        return;
    }
    uint32_t i = e->n_members++;
    uint8_t context[12];
    struct member *m = &e->members[i];
    *m = (struct member){.control = c, .session = sl_session_id(0, i, 0x5eed0000u + i)};
    struct sl_session_config s = {.local_id = m->session,
        .peer_id = hello->receive_id,
        .fragment_units = SCALE_FRAGMENT_UNITS,
        .mtu = SL_DEFAULT_MTU,
        .local = scale_address(1),
        .initial_rtt_ns = 1000000};
    sl_exporter_context(m->session, 1, context);
    int ret = sl_tls_export(
        sl_control_tls(c), SL_EXPORTER_LABEL, context, sizeof(context), s.secret, sizeof(s.secret));
    ret = ret == 0 ? sl_lcore_open_session(e->lcore, &s, sl_session_id_handle(hello->receive_id)) : ret;
    explicit_bzero(&s, sizeof(s));
    if (ret != 0) {
        m->control = NULL;
        sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_FULL, "the data lcore takes no more for now");
    }
}

static void on_heartbeat(struct edge *e, struct sl_control *c, const Sluice__Heartbeat *h)
{
    uint64_t late = sl_loop_now_ns() - h->sent_ns;
    bool joining = __atomic_load_n(&e->sh->phase, __ATOMIC_RELAXED) == SCALE_JOIN;
    sl_histogram_record(joining ? &e->sh->beat_joining : &e->sh->beat_otherwise, late);
    e->sh->beats_heard++;
    Sluice__HeartbeatAck ack = SLUICE__HEARTBEAT_ACK__INIT;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    ack.seq_no = h->seq_no;
    ack.sent_ns = h->sent_ns;
    envelope.body_case = SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK;
    envelope.heartbeat_ack = &ack;
    sl_control_send(c, &envelope);
}

static void on_message(void *app, struct sl_control *c, const Sluice__Envelope *m)
{
    if (m->body_case == SLUICE__ENVELOPE__BODY_HELLO)
        on_hello(app, c, m->hello);
    else if (m->body_case == SLUICE__ENVELOPE__BODY_HEARTBEAT)
        on_heartbeat(app, c, m->heartbeat);
}

static void on_adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
}

static void on_closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    struct edge *e = app;
    for (uint32_t i = 0; i < e->n_members; i++)
        if (e->members[i].control == c)
            e->members[i].control = NULL;
    sl_control_free(c);
}

static const struct sl_control_ops control_ops = {
    .established = on_established, .message = on_message, .adapter = on_adapter, .closed = on_closed};

/* The lcore has the session (rules T13). */
static void welcome(struct edge *e, const struct member *m)
{
    Sluice__Welcome w = SLUICE__WELCOME__INIT;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    w.session = m->session;
    w.epoch = 1;
    w.heartbeat_ms = e->sh->heartbeat_ms;
    envelope.body_case = SLUICE__ENVELOPE__BODY_WELCOME;
    envelope.welcome = &w;
    sl_control_send(m->control, &envelope);
    sl_loop_flush(e->loop, m->control);
}

/* ---- phases ---- */

static bool start_lcore(struct edge *e, unsigned gather)
{
    struct sl_lcore_config c = {.queue = &e->meter.queue,
        .endpoint = e->endpoint,
        .poll = SL_POLL_ADAPTIVE,
        .ops = &lcore_ops,
        .app = e,
        .cpu = e->side->cpu};
    bench_meter_begin(&e->meter);
    e->meter.gather = gather;
    return sl_lcore_start(&c, &e->lcore, e->side->err, e->side->err_cap) == 0;
}

static uint64_t units_placed(const struct edge *e)
{
    struct sl_ingest_stats s;
    sl_ingest_stats(e->ingest, &s);
    return s.units_placed;
}

static bool begin_measure(struct edge *e)
{
    sl_lcore_stop(e->lcore);
    e->trains = e->messages = 0;
    e->taken_before = e->taken;
    e->units_before = units_placed(e);
    if (!start_lcore(e, GATHER))
        return false;
    e->measure_ns = bench_now_ns();
    return true;
}

static bool end_measure(struct edge *e)
{
    struct scale_part *p = &e->sh->part;
    sl_lcore_stop(e->lcore);
    bench_meter_end(&e->meter);
    const struct bench_turns *t = &e->meter.turns;
    double window = bench_sample_median(&e->meter.windows);
    p->packets = e->taken - e->taken_before;
    p->bytes = (units_placed(e) - e->units_before) * SL_UNIT_BYTES;
    p->messages = e->messages;
    double share =
        t->packets_rx > 0 ? (double)p->packets / (double)(t->packets_rx + t->interrupted_packets) : 1;
    p->cycles_per_packet = (window > 0             ? window
                               : t->packets_rx > 0 ? (double)t->cycles / (double)t->packets_rx
                                                   : 0) /
                           share;
    p->packets_per_turn = t->turns > 0 ? (double)t->packets_rx / (double)t->turns : 0;
    p->train_mean = e->trains > 0 ? (double)p->packets / (double)e->trains : 0;
    return start_lcore(e, 0);
}

static void enter(struct edge *e, uint32_t phase)
{
    bool good = true;
    uint32_t was = e->sh->at;
    if (was == SCALE_MEASURE)
        good = end_measure(e);
    if (good && phase == SCALE_MEASURE)
        good = begin_measure(e);
    if (phase == SCALE_MEMORY) {
        struct scale_level *l = &e->sh->level[0];
        while (l->sessions != e->n_members && l < &e->sh->level[SCALE_LEVELS - 1])
            l++;
        scale_memory(&l->heap_bytes[1], &l->resident_bytes[1]);
    }
    e->failed = !good;
    if (!good || phase == SCALE_QUIT)
        sl_loop_stop(e->loop);
    __atomic_store_n(&e->sh->at, phase, __ATOMIC_RELEASE);
}

static void poll_loop(void *app, uint64_t now_ns)
{
    struct edge *e = app;
    struct sl_lcore_confirm a;
    while (sl_lcore_confirmed(e->lcore, &a))
        if (!a.closed && a.status == 0 && e->members[a.session].control != NULL)
            welcome(e, &e->members[a.session]);
    uint32_t phase = __atomic_load_n(&e->sh->phase, __ATOMIC_ACQUIRE);
    if (phase != e->sh->at)
        enter(e, phase);
    if (bench_twin_cancelled(e->side))
        sl_loop_stop(e->loop);
}

/* ---- making it ---- */

static int make_data_path(struct edge *e)
{
    struct scale_shared *sh = e->sh;
    uint32_t n_slots = sh->active + SLOTS_SPARE;
    int ret = sl_slots_create(n_slots, (size_t)scale_units() * SL_UNIT_BYTES, &e->slots);
    e->ready = sl_ring_spsc_create(RINGS);
    e->returned = sl_ring_spsc_create(RINGS);
    struct sl_ingest_config ic = {.slots = e->slots,
        .ready = e->ready,
        .returned = e->returned,
        .max_sessions = sh->max_sessions,
        .d_model = SCALE_D_MODEL,
        .codec = SL_CODEC_BF16,
        .fragment_units = SCALE_FRAGMENT_UNITS,
        .grants_per_session = 1,
        .grant_expiry_ns = EXPIRY_NS,
        .park_after_ns = EXPIRY_NS};
    struct sl_endpoint_config ec = {.max_sessions = sh->max_sessions,
        .max_sends = n_slots,
        .max_message_units = scale_units(),
        .is_edge = true};
    if (ret == 0 && (e->ready == NULL || e->returned == NULL))
        ret = -ENOMEM;
    ret = ret == 0 ? sl_ingest_create(&ic, &e->ingest) : ret;
    ret = ret == 0 ? sl_endpoint_create(&ec, &sink_ops, e, &e->endpoint) : ret;
    if (ret != 0) {
        snprintf(e->side->err, e->side->err_cap, "edge's data path: %s", strerror(-ret));
        return ret;
    }
    sl_ingest_bind(e->ingest, e->endpoint);
    struct sl_endpoint_memory m;
    sl_endpoint_memory(e->endpoint, &m);
    sh->session_bytes = m.idle_session_bytes;
    sh->hot_bytes = m.hot_session_bytes;
    sh->ingest_session_bytes = sl_ingest_session_bytes(e->ingest);
    return 0;
}

static int open_port(struct edge *e)
{
    char args[1024], socket[256];
    struct sl_eal_config eal = {.run_dir = e->side->dir, .file_prefix = "edge", .memory_mib = 64, .cpu = -1};
    int ret = sl_eal_start(&eal, args, sizeof(args), e->side->err, e->side->err_cap);
    snprintf(socket, sizeof(socket), "%s/scale.sock", e->side->dir);
    struct sl_dpdk_port_config c = {.device = "memif",
        .memif_socket = socket,
        .n_mbufs = 4096,
        .peer_timeout_ns = LINK_WITHIN_S * UINT64_C(1000000000)};
    ret = ret == 0 ? sl_dpdk_port_open(&c, &e->port, e->side->err, e->side->err_cap) : ret;
    return ret == 0 ? bench_meter_init(&e->meter, sl_port_queue(e->port, 0)) : ret;
}

static int make_control(struct edge *e)
{
    char ca[160], cert[160], key[160];
    const char *dir = e->sh->certificates;
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    snprintf(cert, sizeof(cert), "%s/edge.pem", dir);
    snprintf(key, sizeof(key), "%s/edge.key", dir);
    struct sl_control_config config = {
        .role = SL_CONTROL_EDGE, .adapter_bytes_max = 1 << 20, .handshake_timeout_ns = EXPIRY_NS};
    int ret = sl_tls_ctx_create(SL_TLS_SERVER, ca, cert, key, &e->tls, e->side->err, e->side->err_cap);
    ret = ret == 0 ? sl_loop_create(
                         e->sh->max_sessions + SPARE_CONNECTIONS, &e->loop, e->side->err, e->side->err_cap)
                   : ret;
    int port = ret == 0 ? sl_loop_listen(e->loop, "127.0.0.1:0", HANDSHAKES, e->tls, &config, &control_ops, e,
                              e->side->err, e->side->err_cap)
                        : ret;
    if (port < 0)
        return port;
    __atomic_store_n(&e->sh->port, (uint32_t)port, __ATOMIC_RELEASE);
    return 0;
}

int scale_edge_side(struct bench_twin *side)
{
    static struct edge e;
    e.side = side;
    e.sh = side->shared;
    e.members = calloc(e.sh->max_sessions, sizeof(*e.members));
    if (e.members == NULL || make_data_path(&e) != 0 || open_port(&e) != 0 || make_control(&e) != 0 ||
        !start_lcore(&e, 0))
        return BENCH_FAILED;
    int ret = sl_loop_run(e.loop, poll_loop, &e, POLL_NS);
    if (e.failed)
        return BENCH_FAILED;
    sl_lcore_stop(e.lcore);
    sl_endpoint_stats(e.endpoint, &e.sh->endpoint[1]);
    sl_port_stats(e.port, &e.sh->port_stats[1]);
    e.sh->messages_wrong = e.messages_wrong;
    return ret == 0 ? BENCH_OK : BENCH_FAILED;
}
