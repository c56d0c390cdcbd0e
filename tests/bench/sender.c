#include "tests/bench/sender.h"

#include "dataplane/io/lcore/lcore.h"
#include "tests/bench/bare.h"
#include "tests/bench/flood.h"
#include "tests/bench/machine.h"
#include "tests/bench/meter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BURST = 32,
    IN_FLIGHT_MOST = 384, /* BARE: three quarters of a ring */
    LAG_MOST = 256,
    AHEAD = 2, /* steps that a session has asked for at a time */
};

static const uint64_t lost_after_ns = 20000000;

struct session {
    uint64_t step;
    uint64_t open[AHEAD]; /* steps asked for and not yet over; 0: none */
    uint32_t granted;     /* highest grant answered */
};

struct sender {
    struct bench_shared *shared;
    const struct bench_load *load;
    struct sl_port *port;
    struct bench_meter meter;
    struct sl_endpoint *endpoint;
    struct bench_bare bare;
    struct bench_flood flood;
    struct session *sessions;
    struct bench_material material;
    uint8_t *spare;            /* a burst of datagrams */
    uint64_t now, outstanding; /* steps of all sessions */
    uint32_t *asking, n_asking;
};

/* ---- the devices' sink ---- */

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return ((struct sender *)sink)->material.units + (size_t)unit0 * SL_UNIT_BYTES;
}

static uint16_t compress(
    void *sink, uint32_t session, const uint8_t *units, uint32_t unit0, uint32_t n, uint8_t *out)
{
    const struct sender *s = sink;
    uint32_t n_units;
    size_t len;
    uint16_t coded;
    const uint8_t *block =
        bench_material_fragment(&s->material, unit0 / s->load->fragment_units, &n_units, &len, &coded);
    if (coded != 0)
        memcpy(out, block, coded);
    return coded;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}

/* Frames may come twice: only the first ends the step. */
static bool over(struct sender *s, uint32_t session, uint64_t step)
{
    for (unsigned i = 0; i < AHEAD; i++) {
        if (s->sessions[session].open[i] != step)
            continue;
        s->sessions[session].open[i] = 0;
        s->outstanding--;
        s->asking[s->n_asking++] = session;
        return true;
    }
    return false;
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now)
{
    struct sender *s = sink;
    switch (f->type) {
    case SL_FRAME_GRANT:
        if (f->grant.index <= s->sessions[session].granted)
            return;
        s->sessions[session].granted = f->grant.index;
        sl_endpoint_send(s->endpoint, session, f->grant.index, s->load->grid.n_units, s->now);
        return;
    case SL_FRAME_RESULT:
        s->shared->messages += over(s, session, f->result.step);
        return;
    case SL_FRAME_STEP_LOST:
        s->shared->steps_lost += over(s, session, f->step_lost.step);
        return;
    default:
        return;
    }
}

static const struct sl_sink_ops sink_ops = {.source = source, .done = done, .frame = frame},
                                compressing_ops = {
                                    .source = source, .compress = compress, .done = done, .frame = frame};

/* ---- FULL: on the data lcore ---- */

static bool ask(struct sender *s, uint32_t session)
{
    struct sl_frame f = {.type = SL_FRAME_REQUEST};
    f.request = bench_load_request(s->load, s->sessions[session].step + 1);
    if (sl_endpoint_frame(s->endpoint, session, &f, s->now) != 0)
        return false;
    s->sessions[session].open[s->sessions[session].open[0] == 0 ? 0 : 1] = f.request.step;
    s->sessions[session].step++;
    s->outstanding++;
    return true;
}

static void poll(void *app, uint64_t now)
{
    struct sender *s = app;
    s->now = now;
    if (bench_phase(s->shared) != BENCH_FULL) {
        if (s->outstanding == 0)
            bench_phase_reached(s->shared, BENCH_DRAIN);
        return;
    }
    while (s->n_asking != 0 && ask(s, s->asking[s->n_asking - 1]))
        s->n_asking--;
}

static const struct sl_lcore_ops lcore_ops = {.poll = poll};

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static int run_full(struct sender *s)
{
    struct sl_lcore *lcore;
    struct sl_lcore_config c = {.queue = &s->meter.queue,
        .endpoint = s->endpoint,
        .poll = SL_POLL_BUSY,
        .ops = &lcore_ops,
        .app = s,
        .cpu = s->load->cpu[BENCH_SENDER]};
    bench_meter_begin(&s->meter);
    int ret = sl_lcore_start(&c, &lcore, s->shared->err, sizeof(s->shared->err));
    if (ret != 0)
        return ret;
    bench_phase_reached(s->shared, BENCH_FULL);
    while (bench_phase(s->shared) == BENCH_FULL)
        nap();
    while (__atomic_load_n(&s->shared->at, __ATOMIC_ACQUIRE) != BENCH_DRAIN &&
           bench_phase(s->shared) != BENCH_QUIT)
        nap();
    /* the last acknowledgements leave within the delayed ACK's time */
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    sl_lcore_stop(lcore);
    s->shared->cycles += s->meter.turns.cycles;
    s->shared->packets += s->meter.turns.packets_tx;
    return 0;
}

/* ---- BARE ---- */

struct pace {
    uint64_t taken, since_ns;
};

/* Packets that are under way for far longer than a ring takes are lost: where the link loses some, the pace
 * would wait for them for ever. Returns how many of `sent` still count. */
static uint64_t paced(struct sender *s, struct pace *p, uint64_t sent)
{
    uint64_t taken = bench_taken(s->shared);
    if (taken != p->taken || sent - taken <= IN_FLIGHT_MOST - BURST) {
        *p = (struct pace){taken, 0};
        return sent;
    }
    uint64_t now = bench_now_ns();
    if (p->since_ns == 0)
        p->since_ns = now;
    return bench_link_lossy(&s->load->link) && now - p->since_ns > lost_after_ns ? taken : sent;
}

static int run_bare(struct sender *s)
{
    struct pace p = {0};
    struct sl_queue *q = &s->meter.queue;
    struct sl_dgram d[BURST];
    uint64_t sent = 0;
    int ret = sl_queue_enter(q, s->shared->err, sizeof(s->shared->err));
    if (ret != 0)
        return ret;
    bench_pin(s->load->cpu[BENCH_SENDER]);
    bench_phase_reached(s->shared, BENCH_BARE);
    while (bench_phase(s->shared) == BENCH_BARE) {
        unsigned n = sl_queue_rx(q, d, BURST); /* nobody answers; the port wants to be asked */
        sl_queue_free(q, d, n);
        sent = paced(s, &p, sent);
        if (sl_queue_rests(q) || sent - bench_taken(s->shared) > IN_FLIGHT_MOST - BURST ||
            sl_queue_alloc(q, d, BURST) != BURST)
            continue;
        for (unsigned i = 0; i < BURST; i++) {
            uint32_t session;
            d[i].len = bench_bare_seal(&s->bare, &s->material, d[i].data, &session);
            d[i].ecn = 0;
            d[i].src = bench_link_addr(&s->load->link, BENCH_SENDER, 0);
            d[i].dst = bench_link_addr(&s->load->link, BENCH_RECEIVER, session % s->load->cores);
        }
        sent += sl_queue_tx(q, d, BURST);
    }
    sl_queue_leave(q);
    return 0;
}

/* ---- FLOOD ---- */

/* What is due by the rate and has not been sent; a lag of more than a burst's time is given up, not made up
 * for. */
static unsigned due(const struct sender *s, uint64_t began, uint64_t *sent)
{
    double rate = s->shared->rate;
    if (rate <= 0)
        return BURST;
    uint64_t want = (uint64_t)(rate * 1e-9 * (double)(bench_now_ns() - began));
    if (want > *sent + LAG_MOST)
        *sent = want - LAG_MOST;
    return want > *sent ? (want - *sent < BURST ? (unsigned)(want - *sent) : BURST) : 0;
}

static unsigned flood(struct sender *s, struct sl_queue *q, unsigned n)
{
    struct sl_dgram d[BURST];
    unsigned filled = 0;
    if (n == 0 || sl_queue_rests(q) || sl_queue_alloc(q, d, n) != n)
        return 0;
    for (; filled < n; filled++) {
        const uint8_t *packet = bench_flood_next(&s->flood, s->shared, &d[filled].len);
        if (packet == NULL)
            break;
        memcpy(d[filled].data, packet, d[filled].len);
        d[filled].ecn = 0;
        d[filled].src = bench_link_addr(&s->load->link, BENCH_SENDER, 0);
        d[filled].dst = bench_link_addr(&s->load->link, BENCH_RECEIVER, 0);
    }
    sl_queue_tx(q, d, filled);
    sl_queue_free(q, d + filled, n - filled);
    return filled;
}

static int run_flood(struct sender *s)
{
    struct sl_queue *q = &s->meter.queue;
    struct sl_dgram d[BURST];
    int ret = s->flood.packets == NULL ? bench_flood_make(&s->flood, &s->material) : 0;
    if (ret == 0)
        ret = sl_queue_enter(q, s->shared->err, sizeof(s->shared->err));
    if (ret != 0)
        return ret;
    bench_pin(s->load->cpu[BENCH_SENDER]);
    bench_phase_reached(s->shared, BENCH_FLOOD);
    uint64_t began = bench_now_ns(), sent = 0;
    while (bench_phase(s->shared) == BENCH_FLOOD) {
        sl_queue_free(q, d, sl_queue_rx(q, d, BURST)); /* acknowledgements, which nobody wants */
        sent += flood(s, q, due(s, began, &sent));
    }
    sl_queue_leave(q);
    return 0;
}

/* ---- */

static int run_seal(struct sender *s)
{
    bench_pin(s->load->cpu[BENCH_SENDER]);
    bench_phase_reached(s->shared, BENCH_SEAL);
    while (bench_phase(s->shared) == BENCH_SEAL)
        for (unsigned i = 0; i < BURST; i++) {
            uint32_t session;
            bench_bare_seal(&s->bare, &s->material, s->spare + (size_t)i * SL_DATAGRAM_MAX_BYTES, &session);
        }
    return 0;
}

/* ---- */

static void publish(struct sender *s)
{
    struct sl_port_stats p;
    struct sl_endpoint_stats e;
    sl_port_stats(s->port, &p);
    sl_endpoint_stats(s->endpoint, &e);
    uint64_t other = p.drops[SL_PORT_LINK_DOWN] + p.drops[SL_PORT_UNREACHABLE];
    s->shared->tx_packets = p.tx_packets;
    s->shared->tx_full = p.drops[SL_PORT_TX_FULL];
    s->shared->tx_other = other;
    s->shared->offered = p.tx_packets + s->shared->tx_full + other;
    s->shared->retransmits = e.retransmits;
    s->shared->resident_bytes = bench_resident_bytes();
}

static int serve(struct sender *s)
{
    for (;;) {
        publish(s);
        bench_phase_reached(s->shared, BENCH_IDLE);
        int ret = 0;
        switch (bench_phase(s->shared)) {
        case BENCH_FULL:
            ret = run_full(s);
            break;
        case BENCH_BARE:
            ret = run_bare(s);
            break;
        case BENCH_FLOOD:
            ret = run_flood(s);
            break;
        case BENCH_SEAL:
            ret = run_seal(s);
            break;
        case BENCH_QUIT:
            return 0;
        default:
            nap();
        }
        if (ret != 0)
            return ret;
    }
}

static int make(struct sender *s)
{
    const struct bench_load *l = s->load;
    char *err = s->shared->err;
    size_t cap = sizeof(s->shared->err);
    struct sl_endpoint_config c = {.max_sessions = l->sessions,
        .max_sends = l->sessions * 4,
        .max_message_units = l->grid.n_units,
        .window_packets = l->window};
    s->spare = aligned_alloc(64, (size_t)BURST * SL_DATAGRAM_MAX_BYTES / 64 * 64);
    s->sessions = calloc(l->sessions, sizeof(*s->sessions));
    s->asking = calloc((size_t)l->sessions * AHEAD, sizeof(*s->asking));
    int ret =
        s->spare == NULL || s->sessions == NULL || s->asking == NULL ? -ENOMEM : bench_bare_init(&s->bare, l);
    if (ret == 0)
        ret = bench_material_make(&s->material, l);
    if (ret == 0)
        ret = sl_endpoint_create(
            &c, l->codec == SL_CODEC_INT8_LZ4 ? &compressing_ops : &sink_ops, s, &s->endpoint);
    for (uint32_t i = 0; i < l->sessions && ret == 0; i++) {
        struct sl_session_config sc = bench_load_session(l, BENCH_SENDER, i);
        ret = sl_endpoint_open(s->endpoint, &sc, bench_now_ns());
        for (unsigned k = 0; k < AHEAD; k++)
            s->asking[s->n_asking++] = i;
    }
    if (ret != 0) {
        snprintf(err, cap, "sender's sessions: %s", strerror(-ret));
        return ret;
    }
    struct bench_link *link = &((struct bench_load *)(uintptr_t)l)->link;
    link->step = &s->shared->joined;
    ret = bench_link_open(link, BENCH_SENDER, &s->port, err, cap);
    if (ret == 0)
        ret = bench_meter_init(&s->meter, sl_port_queue(s->port, 0));
    return ret;
}

int bench_sender(struct bench_shared *shared, void *load)
{
    static struct sender s;
    s.shared = shared;
    s.load = load;
    int ret = make(&s);
    if (ret == 0)
        ret = serve(&s);
    if (s.port != NULL)
        bench_link_close(s.port);
    sl_endpoint_free(s.endpoint);
    return ret != 0;
}
