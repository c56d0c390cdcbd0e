/* The devices' side of `scale`: thousands of real control connections on one loop, their sessions on one data
 * lcore. It leads the edge through the phases. */
#include "dataplane/control/peer.h"
#include "dataplane/crypto/keys.h"
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/uring/loop.h"
#include "tests/bench/machine.h"
#include "tests/bench/paced_queue.h"
#include "tests/bench/scale.h"
#include "tests/bench/verb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CONNECTING_MOST = 64, /* below the listener's backlog */
    WINDOW_PACKETS = 64,
    LINK_WITHIN_S = 30,
    SPARE_CONNECTIONS = 16,
    HEAD_BYTES = SCALE_FRAGMENT_UNITS * SL_UNIT_BYTES,
};
#define POLL_NS UINT64_C(1000000)
#define SETTLE_NS UINT64_C(200000000)
#define DRAIN_NS UINT64_C(5000000000)
#define JOIN_NS UINT64_C(300000000000) /* a level at most */

struct member {
    struct sl_control *control;
    struct devices *all;
    uint64_t connect_ns;
    bool joined;
};

/* A place among those in mid-message; of the lcore. */
struct place {
    uint32_t session;
    uint64_t step; /* 0: none under way */
};

enum lead { CONNECTING, SETTLING, REMEMBERING, MEASURING, DRAINING, SUMMING, LAST };

struct devices {
    struct bench_twin *side;
    struct scale_shared *sh;
    struct sl_port *port;
    struct bench_paced_queue queue;
    struct sl_endpoint *endpoint;
    struct sl_lcore *lcore;
    struct sl_loop *loop;
    struct sl_tls_ctx *tls[SCALE_CERTIFICATES];
    struct member *members;
    char address[32];
    uint32_t started, joined, refused;
    uint64_t beat; /* next heartbeat's number since the start */
    uint64_t start_ns;
    /* leading */
    enum lead lead;
    uint32_t level, part;
    uint64_t since_ns, level_ns;
    bool failed;
    /* between the threads; atomic */
    uint32_t use, train; /* sessions to send from, 0: none */
    uint64_t outstanding;
    /* of the lcore */
    uint8_t *tensor, *heads; /* of every message; and, for each session, the first fragment: it names it */
    uint64_t *steps;         /* of each session */
    uint32_t *granted;
    struct place *places;
    uint32_t cursor, train_set;
};

/* ---- on the lcore's thread: `active` sessions in mid-message at a time, taking turns ---- */

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    struct devices *d = sink;
    d->queue.sent++;
    if (unit0 == 0)
        return d->heads + (size_t)session * HEAD_BYTES;
    return d->tensor + (size_t)unit0 * SL_UNIT_BYTES;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}

static void over(struct devices *d, uint32_t session, uint64_t step, uint64_t *count)
{
    for (uint32_t i = 0; i < d->sh->active; i++) {
        struct place *p = &d->places[i];
        if (p->session != session || p->step != step)
            continue;
        p->step = 0;
        (*count)++;
        __atomic_store_n(&d->outstanding, d->outstanding - 1, __ATOMIC_RELEASE);
        return;
    }
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct devices *d = sink;
    if (f->type == SL_FRAME_GRANT && f->grant.index > d->granted[session]) {
        d->granted[session] = f->grant.index;
        sl_endpoint_send(d->endpoint, session, f->grant.index, scale_units(), now_ns);
    } else if (f->type == SL_FRAME_RESULT) {
        over(d, session, f->result.step, &d->sh->messages_done);
    } else if (f->type == SL_FRAME_STEP_LOST) {
        over(d, session, f->step_lost.step, &d->sh->messages_lost);
    }
}

static const struct sl_sink_ops sink_ops = {.source = source, .done = done, .frame = frame};

static bool ask(struct devices *d, struct place *p, uint32_t use, uint64_t now_ns)
{
    uint32_t session = d->cursor % use;
    struct sl_frame f = {.type = SL_FRAME_REQUEST};
    f.request = scale_request(d->steps[session] + 1);
    if (sl_endpoint_frame(d->endpoint, session, &f, now_ns) != 0)
        return false;
    d->cursor = session + 1;
    *p = (struct place){.session = session, .step = ++d->steps[session]};
    d->sh->messages_asked++;
    __atomic_store_n(&d->outstanding, d->outstanding + 1, __ATOMIC_RELEASE);
    return true;
}

static void poll_lcore(void *app, uint64_t now_ns)
{
    struct devices *d = app;
    uint32_t use = __atomic_load_n(&d->use, __ATOMIC_ACQUIRE);
    uint32_t train = __atomic_load_n(&d->train, __ATOMIC_RELAXED);
    d->queue.taken = __atomic_load_n(&d->sh->taken, __ATOMIC_ACQUIRE);
    if (use == 0)
        return;
    if (train != d->train_set)
        sl_endpoint_set_train(d->endpoint, d->train_set = train);
    /* fewer sessions than places: one message of a session at a time */
    uint32_t places = use < d->sh->active ? use : d->sh->active;
    for (uint32_t i = 0; i < places; i++)
        if (d->places[i].step == 0 && !ask(d, &d->places[i], use, now_ns))
            return;
}

static const struct sl_lcore_ops lcore_ops = {.poll = poll_lcore};

/* ---- control ---- */

static void send_hello(struct sl_control *c, uint64_t receive_id)
{
    static uint8_t hash[32];
    Sluice__Hello h = SLUICE__HELLO__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;
    h.protocol = SL_CONTROL_PROTOCOL;
    h.receive_id = receive_id;
    h.model_hash.data = hash;
    h.model_hash.len = sizeof(hash);
    h.mtu = SL_DEFAULT_MTU;
    e.body_case = SLUICE__ENVELOPE__BODY_HELLO;
    e.hello = &h;
    sl_control_send(c, &e);
}

static uint32_t index_of(const struct member *m)
{
    return (uint32_t)(m - m->all->members);
}

static void on_established(void *app, struct sl_control *c)
{
    const struct member *m = sl_control_user(c);
    send_hello(c, sl_session_id(0, index_of(m), 0xf00d0000u + index_of(m)));
}

static void on_message(void *app, struct sl_control *c, const Sluice__Envelope *e)
{
    struct devices *d = app;
    struct member *m = sl_control_user(c);
    uint8_t context[12];
    if (e->body_case != SLUICE__ENVELOPE__BODY_WELCOME)
        return;
    uint32_t i = index_of(m);
    struct sl_session_config s = {.local_id = sl_session_id(0, i, 0xf00d0000u + i),
        .peer_id = e->welcome->session,
        .fragment_units = SCALE_FRAGMENT_UNITS,
        .mtu = SL_DEFAULT_MTU,
        .local = scale_address(0),
        .remote = scale_address(1),
        .initial_rtt_ns = 1000000};
    sl_exporter_context(e->welcome->session, e->welcome->epoch, context);
    int ret = sl_tls_export(
        sl_control_tls(c), SL_EXPORTER_LABEL, context, sizeof(context), s.secret, sizeof(s.secret));
    ret = ret == 0 ? sl_lcore_open_session(d->lcore, &s, i) : ret;
    explicit_bzero(&s, sizeof(s));
    d->refused += ret != 0;
}

static void on_adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
}

static void on_closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    struct devices *d = app;
    struct member *m = sl_control_user(c);
    if (!d->failed && d->lead != LAST) {
        snprintf(d->side->err, d->side->err_cap, "device %u's connection ended: %s", index_of(m), text);
        d->failed = true;
    }
    m->control = NULL;
    sl_control_free(c);
}

static const struct sl_control_ops control_ops = {
    .established = on_established, .message = on_message, .adapter = on_adapter, .closed = on_closed};

static void connect_some(struct devices *d, uint32_t target, uint64_t now_ns)
{
    struct sl_control_config config = {
        .role = SL_CONTROL_DEVICE, .adapter_bytes_max = 1 << 20, .handshake_timeout_ns = JOIN_NS};
    while (d->started < target && d->started - d->joined < CONNECTING_MOST) {
        struct member *m = &d->members[d->started];
        *m = (struct member){.all = d, .connect_ns = now_ns};
        int ret = sl_loop_connect(d->loop, d->address, d->tls[d->started % SCALE_CERTIFICATES], &config,
            &control_ops, d, m, &m->control);
        if (ret != 0) {
            snprintf(d->side->err, d->side->err_cap, "connecting: %s", strerror(-ret));
            d->failed = true;
            return;
        }
        d->started++;
    }
}

static void take_confirmations(struct devices *d)
{
    struct sl_lcore_confirm a;
    while (sl_lcore_confirmed(d->lcore, &a)) {
        struct member *m = &d->members[a.user];
        d->refused += a.status != 0;
        m->joined = a.status == 0;
        d->joined++;
        sl_histogram_record(&d->sh->join, sl_loop_now_ns() - m->connect_ns);
    }
}

/* ---- heartbeats: evenly spread, each with the time at which it was due ---- */

static void beat(struct devices *d, struct member *m, uint64_t due_ns)
{
    Sluice__Heartbeat h = SLUICE__HEARTBEAT__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;
    h.seq_no = d->beat;
    h.sent_ns = due_ns;
    e.body_case = SLUICE__ENVELOPE__BODY_HEARTBEAT;
    e.heartbeat = &h;
    if (sl_control_send(m->control, &e) != 0)
        return;
    sl_loop_flush(d->loop, m->control);
    d->sh->beats_sent++;
    sl_histogram_record(&d->sh->beat_lag, sl_loop_now_ns() - due_ns);
}

static void send_heartbeats(struct devices *d, uint64_t now_ns)
{
    double spacing_ns = d->sh->heartbeat_ms * 1e6 / d->sh->max_sessions;
    for (;; d->beat++) {
        uint64_t due_ns = d->start_ns + (uint64_t)((double)d->beat * spacing_ns);
        if (due_ns > now_ns)
            return;
        struct member *m = &d->members[d->beat % d->sh->max_sessions];
        if (m->joined && m->control != NULL)
            beat(d, m, due_ns);
    }
}

/* ---- leading ---- */

static void ask_edge(struct devices *d, enum scale_phase phase)
{
    __atomic_store_n(&d->sh->phase, (uint32_t)phase, __ATOMIC_RELEASE);
}

static bool edge_is(const struct devices *d, enum scale_phase phase)
{
    return __atomic_load_n(&d->sh->at, __ATOMIC_ACQUIRE) == (uint32_t)phase;
}

static void go(struct devices *d, enum lead lead, uint64_t now_ns)
{
    d->lead = lead;
    d->since_ns = now_ns;
}

/* The measurements of a level: trains of 8, trains of 1. After the last level: 10 and all sessions in turn.
 */
static bool next_part(struct devices *d, uint32_t *sessions, uint32_t *train)
{
    const struct scale_shared *sh = d->sh;
    *train = d->part % 2 == 0 ? 8 : 1;
    *sessions = sh->level_sessions[d->level];
    if (d->part < 2)
        return true;
    if (d->level + 1 < sh->n_levels || sh->max_sessions <= 10 || d->part >= 2 + 4 * sh->rounds)
        return false;
    *sessions = (d->part - 2) / 2 % 2 == 0 ? 10 : sh->max_sessions;
    return true;
}

static void measure_or_go_on(struct devices *d, uint64_t now_ns)
{
    uint32_t sessions, train;
    if (next_part(d, &sessions, &train)) {
        d->part++;
        d->sh->part = (struct scale_part){.sessions = sessions, .train = train};
        __atomic_store_n(&d->train, train, __ATOMIC_RELAXED);
        ask_edge(d, SCALE_MEASURE);
        go(d, MEASURING, now_ns);
        return;
    }
    d->part = 0;
    if (++d->level < d->sh->n_levels) {
        ask_edge(d, SCALE_JOIN);
        d->level_ns = now_ns;
        go(d, CONNECTING, now_ns);
    } else {
        ask_edge(d, SCALE_QUIT);
        go(d, LAST, now_ns);
    }
}

static void lead(struct devices *d, uint64_t now_ns)
{
    struct scale_shared *sh = d->sh;
    uint64_t since = now_ns - d->since_ns;
    switch (d->lead) {
    case CONNECTING: {
        uint32_t target = sh->level_sessions[d->level];
        connect_some(d, target, now_ns);
        if (d->joined == target) {
            sh->level[d->level].sessions = target;
            sh->level[d->level].join_s = 1e-9 * (double)(now_ns - d->level_ns);
            ask_edge(d, SCALE_IDLE);
            go(d, SETTLING, now_ns);
        } else if (since > JOIN_NS) {
            snprintf(d->side->err, d->side->err_cap, "%u of %u devices joined within %.0f s", d->joined,
                target, 1e-9 * (double)JOIN_NS);
            d->failed = true;
        }
        return;
    }
    case SETTLING:
        if (since < SETTLE_NS)
            return;
        ask_edge(d, SCALE_MEMORY);
        go(d, REMEMBERING, now_ns);
        return;
    case REMEMBERING:
        if (!edge_is(d, SCALE_MEMORY))
            return;
        scale_memory(&sh->level[d->level].heap_bytes[0], &sh->level[d->level].resident_bytes[0]);
        measure_or_go_on(d, now_ns);
        return;
    case MEASURING:
        if (!edge_is(d, SCALE_MEASURE)) {
            d->since_ns = now_ns;
            return;
        }
        __atomic_store_n(&d->use, sh->part.sessions, __ATOMIC_RELEASE);
        if ((double)since < sh->seconds * 1e9)
            return;
        __atomic_store_n(&d->use, 0, __ATOMIC_RELEASE);
        sh->part.seconds = 1e-9 * (double)since;
        go(d, DRAINING, now_ns);
        return;
    case DRAINING:
        if (__atomic_load_n(&d->outstanding, __ATOMIC_ACQUIRE) != 0 && since < DRAIN_NS)
            return;
        sh->part.seconds += 1e-9 * (double)since;
        ask_edge(d, SCALE_IDLE);
        go(d, SUMMING, now_ns);
        return;
    case SUMMING:
        if (!edge_is(d, SCALE_IDLE))
            return;
        if (sh->n_parts < SCALE_PARTS_MAX)
            sh->parts[sh->n_parts++] = sh->part;
        measure_or_go_on(d, now_ns);
        return;
    case LAST:
        if (edge_is(d, SCALE_QUIT))
            sl_loop_stop(d->loop);
        return;
    }
}

static void poll_loop(void *app, uint64_t now_ns)
{
    struct devices *d = app;
    take_confirmations(d);
    send_heartbeats(d, now_ns);
    lead(d, now_ns);
    if (d->failed || bench_twin_cancelled(d->side))
        sl_loop_stop(d->loop);
}

/* ---- making it ---- */

static int make_endpoint(struct devices *d)
{
    uint32_t n = d->sh->max_sessions;
    struct sl_endpoint_config c = {.max_sessions = n,
        .max_sends = 2 * d->sh->active,
        .max_message_units = scale_units(),
        .window_packets = WINDOW_PACKETS};
    d->members = calloc(n, sizeof(*d->members));
    d->steps = calloc(n, sizeof(*d->steps));
    d->granted = calloc(n, sizeof(*d->granted));
    d->places = calloc(d->sh->active, sizeof(*d->places));
    d->tensor = aligned_alloc(SL_UNIT_BYTES, (size_t)scale_units() * SL_UNIT_BYTES);
    d->heads = aligned_alloc(SL_UNIT_BYTES, (size_t)n * HEAD_BYTES);
    int ret = -ENOMEM;
    if (d->heads != NULL && d->members != NULL && d->steps != NULL && d->granted != NULL &&
        d->places != NULL && d->tensor != NULL) {
        memset(d->tensor, 1, (size_t)scale_units() * SL_UNIT_BYTES);
        memset(d->heads, 1, (size_t)n * HEAD_BYTES);
        for (uint32_t i = 0; i < n; i++)
            memcpy(d->heads + (size_t)i * HEAD_BYTES, &i, sizeof(i));
        ret = sl_endpoint_create(&c, &sink_ops, d, &d->endpoint);
    }
    if (ret != 0)
        snprintf(d->side->err, d->side->err_cap, "devices' sessions: %s", strerror(-ret));
    return ret;
}

static int make_control(struct devices *d)
{
    char ca[160], cert[192], key[192];
    const char *dir = d->sh->certificates;
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    for (unsigned i = 0; i < SCALE_CERTIFICATES; i++) {
        snprintf(cert, sizeof(cert), "%s/device-%05u.pem", dir, i);
        snprintf(key, sizeof(key), "%s/device-%05u.key", dir, i);
        if (sl_tls_ctx_create(SL_TLS_CLIENT, ca, cert, key, &d->tls[i], d->side->err, d->side->err_cap) != 0)
            return -1;
    }
    return sl_loop_create(d->sh->max_sessions + SPARE_CONNECTIONS, &d->loop, d->side->err, d->side->err_cap);
}

static int start_data_path(struct devices *d)
{
    char args[1024], socket[256], text[512];
    struct sl_eal_config eal = {
        .run_dir = d->side->dir, .file_prefix = "devices", .memory_mib = 64, .cpu = -1};
    int ret = sl_eal_start(&eal, args, sizeof(args), d->side->err, d->side->err_cap);
    snprintf(socket, sizeof(socket), "%s/scale.sock", d->side->dir);
    struct sl_dpdk_port_config c = {.device = "memif",
        .memif_socket = socket,
        .memif_server = true,
        .n_mbufs = 4096,
        .peer_timeout_ns = LINK_WITHIN_S * UINT64_C(1000000000)};
    ret = ret == 0 ? sl_dpdk_port_open(&c, &d->port, d->side->err, d->side->err_cap) : ret;
    if (ret != 0)
        return ret;
    bench_paced_queue_init(&d->queue, sl_port_queue(d->port, 0), SCALE_IN_FLIGHT);
    struct sl_lcore_config lc = {.queue = &d->queue.queue,
        .endpoint = d->endpoint,
        .poll = SL_POLL_ADAPTIVE,
        .ops = &lcore_ops,
        .app = d,
        .cpu = d->side->cpu};
    ret = sl_lcore_start(&lc, &d->lcore, d->side->err, d->side->err_cap);
    while (ret == 0 && (sl_port_wait(d->port, text, sizeof(text)) == 1 ||
                           __atomic_load_n(&d->sh->port, __ATOMIC_ACQUIRE) == 0)) {
        if (bench_twin_cancelled(d->side))
            return -ECANCELED;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    snprintf(d->address, sizeof(d->address), "127.0.0.1:%u", d->sh->port);
    return ret;
}

int scale_devices_side(struct bench_twin *side)
{
    static struct devices d;
    d.side = side;
    d.sh = side->shared;
    if (make_endpoint(&d) != 0 || make_control(&d) != 0 || start_data_path(&d) != 0)
        return BENCH_FAILED;
    d.start_ns = d.level_ns = d.since_ns = sl_loop_now_ns();
    ask_edge(&d, SCALE_JOIN);
    int ret = sl_loop_run(d.loop, poll_loop, &d, POLL_NS);
    sl_lcore_stop(d.lcore);
    sl_endpoint_stats(d.endpoint, &d.sh->endpoint[0]);
    sl_port_stats(d.port, &d.sh->port_stats[0]);
    d.sh->joined = d.joined;
    d.sh->refused = d.refused;
    bench_twin_outlive(side);
    return ret != 0 || d.failed ? BENCH_FAILED : BENCH_OK;
}
