/* Messages through the whole data path: two data lcores, each with endpoint and port, ingest on the edge's.
 * The generator runs in the device's lcore, between its bursts. */
#include "dataplane/ingest/ingest.h"
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/uring/udp_port.h"
#include "tests/bench/latency.h"
#include "tests/bench/machine.h"
#include "tests/bench/netns.h"
#include "tests/bench/verb.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    D_MODEL = SL_UNIT_BYTES / 2, /* bf16: a row is a unit */
    FRAGMENT_UNITS = 22,
    WINDOW_PACKETS = 256,
    SLOTS = 64,
    RINGS = 256,
    GRANTS_MAX = 8,
    IN_TURN = 1 << 16, /* planned messages that may wait: the generator never waits for the path */
    LINK_WITHIN_S = 20,
    DRAIN_S = 2,
};
static const uint64_t second_ns = 1000000000;

static uint32_t target_units(uint32_t rows)
{
    return (rows * 4 + SL_UNIT_BYTES - 1) / SL_UNIT_BYTES;
}

uint32_t latency_units(uint32_t rows)
{
    return rows + target_units(rows);
}

uint32_t latency_rows(uint32_t units)
{
    uint32_t rows = units > 1 ? units - 1 : 1;
    while (rows > 1 && latency_units(rows) > units)
        rows--;
    return rows;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

/* ---- what both ends have ---- */

struct end {
    struct bench_twin *side;
    struct latency_full *run;
    struct sl_port *port;
    struct sl_endpoint *endpoint;
    struct sl_lcore *lcore;
};

static int explain(struct end *e, int ret, const char *what)
{
    if (ret != 0)
        snprintf(e->side->err, e->side->err_cap, "%s: %s", what, strerror(-ret));
    return ret;
}

static struct sl_addr address(const struct end *e, unsigned side)
{
    struct sl_addr memif = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, (uint8_t)(side + 1)}, .port = 7444};
    if (e->run->backend == LATENCY_MEMIF)
        return memif;
    struct sockaddr_in in = bench_netns_address(side, memif.port);
    memcpy(memif.ip + 12, &in.sin_addr, 4);
    return memif;
}

static int open_uring(struct end *e)
{
    struct sl_uring_port_config c = {.local = address(e, e->side->index)};
    int ret = bench_netns_join(e->side, SL_DEFAULT_MTU);
    return ret != 0 ? ret : sl_uring_port_open(&c, &e->port, e->side->err, e->side->err_cap);
}

static int open_port(struct end *e)
{
    if (e->run->backend == LATENCY_URING_UDP)
        return open_uring(e);
    char args[1024], socket[256];
    bool device = e->side->index == 0;
    struct sl_eal_config eal = {
        .run_dir = e->side->dir, .file_prefix = device ? "device" : "edge", .memory_mib = 64, .cpu = -1};
    int ret = sl_eal_start(&eal, args, sizeof(args), e->side->err, e->side->err_cap);
    if (ret != 0)
        return ret;
    snprintf(socket, sizeof(socket), "%s/full.sock", e->side->dir);
    struct sl_dpdk_port_config c = {.device = "memif",
        .memif_socket = socket,
        .memif_server = device,
        .n_mbufs = 4096,
        .peer_timeout_ns = LINK_WITHIN_S * second_ns};
    return sl_dpdk_port_open(&c, &e->port, e->side->err, e->side->err_cap);
}

static int create_endpoint(struct end *e, const struct sl_sink_ops *ops, void *sink)
{
    struct sl_endpoint_config c = {.max_sessions = 1,
        .max_sends = SLOTS,
        .max_message_units = e->run->n_units,
        .window_packets = WINDOW_PACKETS,
        .key_update_packets = (uint32_t)e->run->key_update_packets,
        .is_edge = e->side->index == 1};
    return explain(e, sl_endpoint_create(&c, ops, sink, &e->endpoint), "endpoint");
}

static struct sl_session_config session_of(const struct end *e)
{
    uint64_t id[2] = {sl_session_id(0, 0, 0x2222), sl_session_id(0, 0, 0x1111)};
    unsigned i = e->side->index;
    struct sl_session_config c = {.local_id = id[i],
        .peer_id = id[1 - i],
        .fragment_units = FRAGMENT_UNITS,
        .mtu = SL_DEFAULT_MTU,
        .local = address(e, i),
        .initial_rtt_ns = 1000000};
    if (i == 0)
        c.remote = address(e, 1);
    memset(c.secret, 7, sizeof(c.secret));
    return c;
}

/* Starts the lcore, waits for the link, opens the session. */
static int begin(struct end *e, const struct sl_lcore_ops *ops, void *app)
{
    char text[512];
    struct sl_lcore_config c = {.queue = sl_port_queue(e->port, 0),
        .endpoint = e->endpoint,
        .poll = e->run->edge_adaptive && e->side->index == 1 ? SL_POLL_ADAPTIVE : SL_POLL_BUSY,
        .ops = ops,
        .app = app,
        .cpu = e->side->cpu};
    int ret = sl_lcore_start(&c, &e->lcore, e->side->err, e->side->err_cap);
    if (ret != 0)
        return ret;
    while ((ret = sl_port_wait(e->port, text, sizeof(text))) == 1 && !bench_twin_cancelled(e->side))
        nap();
    if (ret != 0) {
        snprintf(e->side->err, e->side->err_cap, "%s", text);
        return ret;
    }
    struct sl_session_config s = session_of(e);
    struct sl_lcore_confirm done;
    ret = sl_lcore_open_session(e->lcore, &s, 0);
    while (ret == 0 && !sl_lcore_confirmed(e->lcore, &done))
        nap();
    ret = ret == 0 ? done.status : ret;
    return ret == 0 ? bench_twin_meet(e->side) : explain(e, ret, "session");
}

static void finish(struct end *e)
{
    sl_lcore_stop(e->lcore);
    sl_endpoint_stats(e->endpoint, &e->run->endpoint[e->side->index]);
    sl_port_stats(e->port, &e->run->port[e->side->index]);
}

/* ---- the edge: every complete message goes straight back, in the data lcore ---- */

struct edge {
    struct end end; /* first */
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_ingest *ingest;
};

static void edge_opened(void *app, uint32_t session, uint64_t user)
{
    sl_ingest_session_opened(((struct edge *)app)->ingest, session, user);
}

static void edge_poll(void *app, uint64_t now_ns)
{
    struct edge *e = app;
    uint32_t h;
    while (sl_ring_spsc_pop(e->ready, &h, 1) == 1) {
        struct sl_slot *s = sl_slot_get(e->slots, h);
        s->outcome =
            (struct sl_slot_outcome){.status = e->end.run->echo ? SL_RESULT_GRADIENT : SL_RESULT_EVAL};
        sl_ring_spsc_push(e->returned, &h, 1);
    }
    sl_ingest_poll(e->ingest, now_ns);
}

static uint64_t edge_deadline(void *app)
{
    return sl_ingest_deadline(((struct edge *)app)->ingest);
}

static int make_edge(struct edge *e)
{
    size_t slot_bytes = (size_t)e->end.run->n_units * SL_UNIT_BYTES;
    int ret = sl_slots_create(SLOTS, slot_bytes, &e->slots);
    e->ready = sl_ring_spsc_create(RINGS);
    e->returned = sl_ring_spsc_create(RINGS);
    if (ret == 0 && (e->ready == NULL || e->returned == NULL))
        ret = -ENOMEM;
    struct sl_ingest_config c = {.slots = e->slots,
        .ready = e->ready,
        .returned = e->returned,
        .max_sessions = 1,
        .d_model = D_MODEL,
        .codec = SL_CODEC_BF16,
        .fragment_units = FRAGMENT_UNITS,
        .grants_per_session = GRANTS_MAX,
        .grant_expiry_ns = 60 * second_ns,
        .park_after_ns = 60 * second_ns};
    if (ret == 0)
        ret = sl_ingest_create(&c, &e->ingest);
    if (explain(&e->end, ret, "slots") != 0 || create_endpoint(&e->end, &sl_ingest_sink, e->ingest) != 0)
        return -1;
    sl_ingest_bind(e->ingest, e->end.endpoint);
    return 0;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * second_ns + (uint64_t)t.tv_nsec;
}

/* This thread sleeps meanwhile, so what the process uses is the data lcore's and EAL's. */
static void watch_idling(struct latency_full *run)
{
    uint64_t from = bench_now_ns(), used = cpu_ns();
    struct timespec t = {.tv_sec = (time_t)run->idle_seconds,
        .tv_nsec = (long)((run->idle_seconds - (double)(time_t)run->idle_seconds) * 1e9)};
    if (run->idle_seconds <= 0)
        return;
    nanosleep(&t, NULL);
    run->idle_cpu = (double)(cpu_ns() - used) / (double)(bench_now_ns() - from);
}

/* Where namespaces take a right that we have not, there is nothing to measure. */
static int not_opened(int ret)
{
    return ret == -EPERM ? BENCH_SKIPPED : BENCH_FAILED;
}

static int run_edge(struct bench_twin *side)
{
    static const struct sl_lcore_ops ops = {
        .opened = edge_opened, .poll = edge_poll, .deadline = edge_deadline};
    struct edge e = {.end = {.side = side, .run = side->shared}};
    int ret = open_port(&e.end);
    if (ret != 0)
        return not_opened(ret);
    if (make_edge(&e) != 0 || begin(&e.end, &ops, &e) != 0)
        return BENCH_FAILED;
    watch_idling(e.end.run);
    if (bench_twin_meet(side) != 0)
        return BENCH_FAILED;
    while (__atomic_load_n(&e.end.run->over, __ATOMIC_ACQUIRE) == 0 && !bench_twin_cancelled(side))
        nap();
    finish(&e.end);
    return BENCH_OK;
}

/* ---- the device: the generator ---- */

enum message_state { IDLE, ASKED, GRANTED, SENT };
struct message {
    enum message_state state;
    uint32_t grant, units_left;
    uint64_t step, planned_ns, sent_ns;
};

struct device {
    struct end end; /* first */
    struct message message[GRANTS_MAX];
    uint8_t *tensor, *gradient;
    uint64_t next_step, rng;
    bool open, begun;
    double next_ns, interval_ns; /* of the plan */
    uint64_t from_ns, until_ns;  /* what is planned in between is recorded */
    /* Planned times that have come but not left yet: without a grant they wait. */
    uint64_t due[IN_TURN];
    uint64_t due_head, due_tail;
};

static const uint8_t *device_source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return ((struct device *)sink)->tensor + (size_t)unit0 * SL_UNIT_BYTES;
}

static void device_done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}

static struct message *of_grant(struct device *d, uint32_t grant)
{
    for (unsigned i = 0; i < d->end.run->in_flight; i++)
        if (d->message[i].state >= GRANTED && d->message[i].grant == grant)
            return &d->message[i];
    return NULL;
}

static void device_place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct device *d = sink;
    for (unsigned i = 0; i < n; i++) {
        const struct message *m = of_grant(d, rx[i]->grant);
        rx[i]->how = m != NULL && m->state == SENT ? SL_PLACE : SL_SCRATCH;
        rx[i]->dst = d->gradient + (size_t)rx[i]->unit0 * SL_UNIT_BYTES;
    }
}

static void complete(struct device *d, struct message *m)
{
    struct latency_full *run = d->end.run;
    uint64_t now = bench_now_ns();
    if (m->planned_ns >= d->from_ns && m->planned_ns < d->until_ns) {
        sl_histogram_record(&run->planned, now - m->planned_ns);
        sl_histogram_record(&run->sent, now - m->sent_ns);
    }
    run->n_done++;
    m->state = IDLE;
}

static void device_commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct device *d = sink;
    for (unsigned i = 0; i < n; i++) {
        struct message *m = of_grant(d, rx[i]->grant);
        if (rx[i]->how != SL_PLACE || !(ok_mask >> i & 1) || m == NULL)
            continue;
        m->units_left -= rx[i]->n_units;
        if (m->units_left == 0)
            complete(d, m);
    }
}

static void device_frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct device *d = sink;
    for (unsigned i = 0; i < d->end.run->in_flight; i++) {
        struct message *m = &d->message[i];
        if (f->type == SL_FRAME_GRANT && m->state == ASKED && m->step == f->grant.step) {
            m->state = GRANTED;
            m->grant = f->grant.index;
        } else if (f->type == SL_FRAME_RESULT && m->state == SENT && m->step == f->result.step &&
                   !d->end.run->echo) {
            complete(d, m);
        } else if (f->type == SL_FRAME_STEP_LOST && m->state >= ASKED && m->step == f->step_lost.step) {
            d->end.run->lost_steps++;
            m->state = IDLE;
        }
    }
}

static const struct sl_sink_ops device_sink = {.place = device_place,
    .commit = device_commit,
    .source = device_source,
    .done = device_done,
    .frame = device_frame};

/* A REQUEST for every place that has none under way. */
static void ask(struct device *d, uint64_t now_ns)
{
    for (unsigned i = 0; i < d->end.run->in_flight; i++) {
        struct message *m = &d->message[i];
        if (m->state != IDLE)
            continue;
        struct sl_frame f = {.type = SL_FRAME_REQUEST};
        f.request.step = d->next_step + 1;
        f.request.kind = d->end.run->echo ? SL_REQUEST_TRAIN : SL_REQUEST_EVAL;
        f.request.n_seqs = 1;
        f.request.len[0] = (uint16_t)d->end.run->rows;
        if (sl_endpoint_frame(d->end.endpoint, 0, &f, now_ns) != 0)
            return;
        m->step = ++d->next_step;
        m->state = ASKED;
    }
}

static void send_message(struct device *d, struct message *m, uint64_t planned_ns, uint64_t now_ns)
{
    m->planned_ns = planned_ns;
    m->sent_ns = now_ns;
    m->units_left = d->end.run->rows;
    if (sl_endpoint_send(d->end.endpoint, 0, m->grant, d->end.run->n_units, now_ns) != 0) {
        d->end.run->lost_steps++;
        m->state = IDLE;
        return;
    }
    m->state = SENT;
    d->end.run->n_sent++;
}

static struct message *granted(struct device *d)
{
    struct message *found = NULL;
    for (unsigned i = 0; i < d->end.run->in_flight; i++) {
        struct message *m = &d->message[i];
        if (m->state == GRANTED && (found == NULL || m->step < found->step))
            found = m;
    }
    return found;
}

/* xorshift64* (Vigna, 2016), to (0, 1]. */
static double uniform(struct device *d)
{
    d->rng ^= d->rng >> 12;
    d->rng ^= d->rng << 25;
    d->rng ^= d->rng >> 27;
    return ((double)(d->rng * UINT64_C(0x2545f4914f6cdd1d) >> 11) + 1) / 9007199254740992.0;
}

static void plan(struct device *d, uint64_t now_ns)
{
    struct latency_full *run = d->end.run;
    while ((uint64_t)d->next_ns <= now_ns && (uint64_t)d->next_ns < d->until_ns &&
           d->due_tail - d->due_head < IN_TURN) {
        uint64_t at = (uint64_t)d->next_ns;
        d->due[d->due_tail++ % IN_TURN] = at;
        run->n_planned++;
        if (at >= d->from_ns)
            sl_histogram_record(&run->lag, now_ns - at);
        d->next_ns += run->poisson ? -d->interval_ns * log(uniform(d)) : d->interval_ns;
    }
}

static void start_plan(struct device *d, uint64_t now_ns)
{
    struct latency_full *run = d->end.run;
    d->begun = true;
    d->from_ns = now_ns + (uint64_t)(run->warm_up_seconds * 1e9);
    d->until_ns = d->from_ns + (uint64_t)(run->seconds * 1e9);
    d->next_ns = (double)now_ns;
    d->interval_ns = run->rate > 0 ? 1e9 / run->rate : 0;
}

static void device_poll(void *app, uint64_t now_ns)
{
    struct device *d = app;
    struct latency_full *run = d->end.run;
    struct message *m;
    if (!d->open || __atomic_load_n(&run->go, __ATOMIC_ACQUIRE) == 0)
        return;
    if (!d->begun)
        start_plan(d, now_ns);
    if (run->rate > 0) {
        plan(d, now_ns);
        while (d->due_head != d->due_tail && (m = granted(d)) != NULL)
            send_message(d, m, d->due[d->due_head++ % IN_TURN], now_ns);
    } else {
        while (now_ns < d->until_ns && (m = granted(d)) != NULL) {
            run->n_planned++;
            send_message(d, m, now_ns, now_ns);
        }
    }
    if (now_ns < d->until_ns || d->due_head != d->due_tail)
        ask(d, now_ns);
}

static void device_opened(void *app, uint32_t session, uint64_t user)
{
    ((struct device *)app)->open = true;
}

static int run_device(struct bench_twin *side)
{
    static const struct sl_lcore_ops ops = {.opened = device_opened, .poll = device_poll};
    struct device *d = calloc(1, sizeof(*d));
    struct latency_full *run = side->shared;
    if (d == NULL)
        return BENCH_FAILED;
    d->end = (struct end){.side = side, .run = run};
    d->rng = 88172645463325252u;
    size_t bytes = (size_t)run->n_units * SL_UNIT_BYTES;
    d->tensor = aligned_alloc(64, bytes);
    d->gradient = aligned_alloc(64, bytes);
    if (d->tensor == NULL || d->gradient == NULL)
        return BENCH_FAILED;
    memset(d->tensor, 1, bytes);
    int ret = open_port(&d->end);
    if (ret != 0)
        return not_opened(ret);
    if (create_endpoint(&d->end, &device_sink, d) != 0 || begin(&d->end, &ops, d) != 0 ||
        bench_twin_meet(side) != 0)
        return BENCH_FAILED;
    __atomic_store_n(&run->go, 1, __ATOMIC_RELEASE);
    uint64_t ends = bench_now_ns() + (uint64_t)((run->seconds + run->warm_up_seconds) * 1e9);
    while (bench_now_ns() < ends && !bench_twin_cancelled(side))
        nap();
    ends += DRAIN_S * second_ns;
    while (__atomic_load_n(&run->n_done, __ATOMIC_RELAXED) <
               __atomic_load_n(&run->n_planned, __ATOMIC_RELAXED) &&
           bench_now_ns() < ends && !bench_twin_cancelled(side))
        nap();
    finish(&d->end);
    __atomic_store_n(&run->over, 1, __ATOMIC_RELEASE);
    bench_twin_outlive(side);
    return BENCH_OK;
}

int latency_full_side(struct bench_twin *side)
{
    return side->index == 0 ? run_device(side) : run_edge(side);
}
