#include "device-sim/sink/flows.h"

#include "dataplane/io/lcore/address.h"
#include "dataplane/wire/packet.h"
#include "device-sim/sink/timers.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ms_ns = 1000000, begin_within_ns = 1000000000;
static const uint64_t notice_min_ns = 20000000, notice_max_ns = 1000000000;
enum {
    INITIAL_WINDOW_PACKETS = 10, /* RFC 6928 */
    MIN_WINDOW_PACKETS = 2,
    WINDOW_MAX_BYTES = 4 << 20,
    SILENT_MAX = 8,
    BURST = 32,
    IPV4_UDP_BYTES = 28,
    IPV6_UDP_BYTES = 48,
    TIMERS_PER_PHONE = 3,
};
enum direction { UP, DOWN, DIRECTIONS };

struct packet {
    struct packet *next; /* free, lost, or to be sent again */
    uint32_t phone, fragment;
    uint64_t sequence, offered_ns, noticed_ns; /* noticed: when the phone finds out that it is lost */
    uint16_t payload_bytes;
    uint8_t down, again;
};

struct list {
    struct packet *first, *last;
};

struct flow {
    struct list lost;  /* dropped, and the phone does not know it yet: they fill the window */
    struct list again; /* to be sent again */
    uint64_t srtt_ns;
    uint64_t sequence, recover;            /* the window is halved once for all packets before `recover` */
    uint32_t silent;                       /* times in a row that it was halved without an arrival */
    uint32_t window, threshold, under_way; /* bytes */
    uint32_t message, fragments, next, arrived; /* message: number of the one under way */
};

/* What a phone's own timer means. */
enum stage { STAGE_FORWARD, STAGE_SENDING, STAGE_RECEIVING, STAGE_BACKWARD };

struct phone {
    enum stage stage;
    struct flow flow[DIRECTIONS];
};

struct sl_flows {
    struct sl_queue queue; /* first: the emulator's frees come with it */
    struct sl_flows_config cfg;
    struct sl_flow_shape *shape;
    struct phone *phone;
    struct packet *pool, *pool_free;
    struct sl_timers *timers;
    struct sl_rounds *rounds;
    struct sl_flow_totals totals[DIRECTIONS];
    uint64_t now_ns;
    bool closing;
};

static void on_free(struct sl_queue *, struct sl_dgram *, unsigned);
static const struct sl_port_ops queue_ops = {.free = on_free};

static uint32_t ip_bytes(const struct sl_flows *f, uint32_t phone, uint32_t payload)
{
    return payload + (sl_addr_is_mapped(&f->shape[phone].address) ? IPV4_UDP_BYTES : IPV6_UDP_BYTES);
}

static uint32_t packet_bytes_max(const struct sl_flows *f, uint32_t phone)
{
    const struct sl_flow_shape *s = &f->shape[phone];

    return ip_bytes(f, phone, s->head_bytes + s->fragment_units * (uint32_t)SL_UNIT_BYTES);
}

static void set_timer(struct sl_flows *f, uint32_t phone, uint32_t which, uint64_t at_ns)
{
    sl_timers_set(f->timers, phone * TIMERS_PER_PHONE + which, at_ns);
}

/* ---- packets ---- */

static struct packet *take_packet(struct sl_flows *f)
{
    struct packet *p = f->pool_free;

    if (p)
        f->pool_free = p->next;
    return p;
}

static void give_packet(struct sl_flows *f, struct packet *p)
{
    p->next = f->pool_free;
    f->pool_free = p;
}

static void append(struct list *l, struct packet *p)
{
    p->next = NULL;
    if (l->first)
        l->last->next = p;
    else
        l->first = p;
    l->last = p;
}

static struct packet *take_first(struct list *l)
{
    struct packet *p = l->first;

    if (p)
        l->first = p->next;
    return p;
}

static struct packet *next_packet(struct sl_flows *f, uint32_t i, enum direction d)
{
    struct flow *w = &f->phone[i].flow[d];
    const struct sl_flow_shape *s = &f->shape[i];
    struct packet *p;

    if ((p = take_first(&w->again)))
        return p;
    if (w->next == w->fragments)
        return NULL;
    p = take_packet(f);
    if (!p) {
        set_timer(f, i, 1 + d, f->now_ns + ms_ns);
        return NULL;
    }
    uint32_t units = d == UP ? s->up_units : s->down_units;
    uint32_t left = units - w->next * s->fragment_units;
    uint32_t n = left < s->fragment_units ? left : s->fragment_units;
    *p = (struct packet){.phone = i,
        .fragment = w->next++,
        .payload_bytes = (uint16_t)(s->head_bytes + n * SL_UNIT_BYTES),
        .down = d == DOWN};
    return p;
}

static void tell(struct sl_flows *f, const struct packet *p)
{
    const struct flow *w = &f->phone[p->phone].flow[p->down];
    const struct sl_addr *phone = &f->shape[p->phone].address;
    struct sl_flow_packet out = {.down = p->down,
        .again = p->again,
        .phone = p->phone,
        .message = w->message,
        .fragment = p->fragment,
        .fragments = w->fragments,
        .sequence = p->sequence,
        .offered_ns = p->offered_ns,
        .at_ns = f->now_ns,
        .payload_bytes = p->payload_bytes,
        .src = p->down ? f->cfg.edge : *phone,
        .dst = p->down ? *phone : f->cfg.edge};

    f->cfg.packet(f->cfg.ctx, &out);
}

static void offer(struct sl_flows *f, struct packet *p)
{
    enum direction d = p->down ? DOWN : UP;
    struct flow *w = &f->phone[p->phone].flow[d];
    uint32_t bytes = ip_bytes(f, p->phone, p->payload_bytes);
    const struct sl_addr *phone = &f->shape[p->phone].address;
    struct sl_dgram dgram = {.len = p->payload_bytes,
        .src = d == UP ? *phone : f->cfg.edge,
        .dst = d == UP ? f->cfg.edge : *phone,
        .buffer = p};

    p->sequence = w->sequence++;
    p->offered_ns = f->now_ns;
    w->under_way += bytes;
    f->totals[d].offered++;
    f->totals[d].offered_bytes += bytes;
    if (d == DOWN) {
        tell(f, p);
        f->cfg.emulator->down(f->cfg.emulator_ctx, &dgram, 1, f->now_ns);
    } else {
        f->cfg.emulator->up(f->cfg.emulator_ctx, &dgram, 1, f->now_ns);
    }
}

/* The window is halved once for all that was lost at about the same time. */
static void react_to_loss(struct sl_flows *f, const struct packet *p, struct flow *w)
{
    uint32_t least = MIN_WINDOW_PACKETS * packet_bytes_max(f, p->phone);

    if (p->sequence < w->recover)
        return;
    w->recover = w->sequence;
    w->window = w->window / 2 > least ? w->window / 2 : least;
    w->threshold = w->window;
    if (w->silent < SILENT_MAX)
        w->silent++;
}

static void notice_losses(struct sl_flows *f, uint32_t i, enum direction d)
{
    struct flow *w = &f->phone[i].flow[d];

    while (w->lost.first && w->lost.first->noticed_ns <= f->now_ns) {
        struct packet *p = take_first(&w->lost);
        w->under_way -= ip_bytes(f, i, p->payload_bytes);
        react_to_loss(f, p, w);
        p->again = 1;
        append(&w->again, p);
    }
    if (w->lost.first)
        set_timer(f, i, 1 + d, w->lost.first->noticed_ns);
}

/* Sends what the window lets. A drop comes back inside offer(). */
static void pump(struct sl_flows *f, uint32_t i, enum direction d)
{
    struct flow *w = &f->phone[i].flow[d];
    uint32_t bytes = packet_bytes_max(f, i);
    struct packet *p;

    notice_losses(f, i, d);
    while (w->under_way + bytes <= w->window && (p = next_packet(f, i, d)))
        offer(f, p);
}

static void begin_message(struct sl_flows *f, uint32_t i, enum direction d)
{
    struct flow *w = &f->phone[i].flow[d];
    const struct sl_flow_shape *s = &f->shape[i];
    uint32_t units = d == UP ? s->up_units : s->down_units;

    w->message++;
    w->fragments = (units + s->fragment_units - 1) / s->fragment_units;
    w->next = w->arrived = 0;
    pump(f, i, d);
}

/* ---- loss and arrival ---- */

/* It is noticed after a round trip, later where nothing has arrived for a while: a hole in the coverage. */
static void dropped(struct sl_flows *f, struct packet *p)
{
    enum direction d = p->down ? DOWN : UP;
    struct flow *w = &f->phone[p->phone].flow[d];
    uint64_t after = (w->srtt_ns > notice_min_ns ? w->srtt_ns : notice_min_ns)
                     << (w->silent ? w->silent - 1 : 0);

    f->totals[d].dropped++;
    f->totals[d].dropped_bytes += ip_bytes(f, p->phone, p->payload_bytes);
    p->noticed_ns = f->now_ns + (after < notice_max_ns ? after : notice_max_ns);
    append(&w->lost, p);
    set_timer(f, p->phone, 1 + d, w->lost.first->noticed_ns);
}

static void on_free(struct sl_queue *q, struct sl_dgram *dgram, unsigned n)
{
    struct sl_flows *f = (struct sl_flows *)q;

    for (unsigned i = 0; i < n; i++) {
        if (f->closing)
            give_packet(f, dgram[i].buffer);
        else
            dropped(f, dgram[i].buffer);
    }
}

static void grow(struct sl_flows *f, const struct packet *p, struct flow *w, uint32_t bytes)
{
    uint64_t rtt = 2 * (f->now_ns - p->offered_ns);

    w->srtt_ns = w->srtt_ns ? w->srtt_ns - w->srtt_ns / 8 + rtt / 8 : rtt; /* RFC 6298 */
    w->silent = 0;
    if (w->window < w->threshold)
        w->window += bytes;
    else
        w->window += (uint32_t)((uint64_t)bytes * packet_bytes_max(f, p->phone) / w->window);
    if (w->window > WINDOW_MAX_BYTES)
        w->window = WINDOW_MAX_BYTES;
}

static void begin_compute(struct sl_flows *f, uint32_t i, bool backward)
{
    uint64_t ns = f->cfg.compute_ns(f->cfg.ctx, i, backward, f->now_ns);

    f->phone[i].stage = backward ? STAGE_BACKWARD : STAGE_FORWARD;
    set_timer(f, i, 0, f->now_ns + (ns ? ns : 1));
}

static void message_over(struct sl_flows *f, uint32_t i, enum direction d)
{
    f->totals[d].messages++;
    if (d == UP)
        sl_rounds_ready(f->rounds, i);
    else
        begin_compute(f, i, true);
}

static void arrived(struct sl_flows *f, struct packet *p)
{
    enum direction d = p->down ? DOWN : UP;
    uint32_t i = p->phone, bytes = ip_bytes(f, i, p->payload_bytes);
    struct flow *w = &f->phone[i].flow[d];

    w->under_way -= bytes;
    f->totals[d].arrived++;
    f->totals[d].arrived_bytes += bytes;
    grow(f, p, w, bytes);
    if (d == UP)
        tell(f, p);
    give_packet(f, p);
    if (++w->arrived == w->fragments)
        message_over(f, i, d);
    else
        pump(f, i, d);
}

static bool arrivals(
    struct sl_flows *f, unsigned (*ready)(void *, struct sl_dgram *, unsigned, uint64_t), uint64_t now_ns)
{
    struct sl_dgram dgram[BURST];
    unsigned n = ready(f->cfg.emulator_ctx, dgram, BURST, now_ns);

    for (unsigned i = 0; i < n; i++)
        arrived(f, dgram[i].buffer);
    return n > 0;
}

/* ---- time ---- */

static void expired(struct sl_flows *f, uint32_t timer)
{
    uint32_t i = timer / TIMERS_PER_PHONE, which = timer % TIMERS_PER_PHONE;
    struct phone *p = &f->phone[i];

    if (which > 0) {
        pump(f, i, (enum direction)(which - 1));
    } else if (p->stage == STAGE_FORWARD) {
        p->stage = STAGE_SENDING;
        begin_message(f, i, UP);
    } else if (p->stage == STAGE_BACKWARD) {
        begin_compute(f, i, false);
    }
}

static bool turn(struct sl_flows *f, uint64_t now_ns)
{
    bool any = arrivals(f, f->cfg.emulator->up_ready, now_ns);
    int64_t timer;
    uint32_t phone;

    any |= arrivals(f, f->cfg.emulator->down_ready, now_ns);
    while ((timer = sl_timers_next(f->timers, now_ns)) >= 0) {
        expired(f, (uint32_t)timer);
        any = true;
    }
    while (sl_rounds_next(f->rounds, now_ns, &phone)) {
        f->phone[phone].stage = STAGE_RECEIVING;
        begin_message(f, phone, DOWN);
        any = true;
    }
    return any;
}

void sl_flows_run(struct sl_flows *f, uint64_t now_ns)
{
    f->now_ns = now_ns;
    while (turn(f, now_ns))
        ;
}

uint64_t sl_flows_deadline(const struct sl_flows *f)
{
    uint64_t links = f->cfg.emulator->deadline(f->cfg.emulator_ctx);
    uint64_t timers = sl_timers_deadline(f->timers), rounds = sl_rounds_deadline(f->rounds);
    uint64_t first = links < timers ? links : timers;

    return first < rounds ? first : rounds;
}

/* ---- life ---- */

static int make_rounds(struct sl_flows *f)
{
    uint64_t *edge_ns = malloc(f->cfg.n * sizeof(*edge_ns));

    if (!edge_ns)
        return -ENOMEM;
    for (uint32_t i = 0; i < f->cfg.n; i++)
        edge_ns[i] = f->shape[i].edge_ns;
    int rc = sl_rounds_create(&(struct sl_rounds_config){.n = f->cfg.n,
                                  .sync = f->cfg.gang.sync,
                                  .quorum = f->cfg.gang.quorum,
                                  .deadline_ns = f->cfg.gang.deadline_ns,
                                  .edge_ns = edge_ns},
        &f->rounds);
    free(edge_ns);
    return rc;
}

static int make_tables(struct sl_flows *f)
{
    const struct sl_flows_config *c = &f->cfg;

    f->shape = malloc(c->n * sizeof(*f->shape));
    f->phone = calloc(c->n, sizeof(*f->phone));
    f->pool = calloc(c->max_packets, sizeof(*f->pool));
    if (!f->shape || !f->phone || !f->pool)
        return -ENOMEM;
    memcpy(f->shape, c->shape, c->n * sizeof(*f->shape));
    for (uint32_t i = c->max_packets; i-- > 0;)
        give_packet(f, &f->pool[i]);
    return sl_timers_create(c->n * TIMERS_PER_PHONE, &f->timers);
}

int sl_flows_create(const struct sl_flows_config *c, struct sl_flows **out)
{
    struct sl_flows *f;

    if (c->n == 0 || c->max_packets == 0)
        return -EINVAL;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->shape[i].up_units == 0 || c->shape[i].down_units == 0 || c->shape[i].fragment_units == 0 ||
            c->shape[i].head_bytes + c->shape[i].fragment_units * SL_UNIT_BYTES > SL_DATAGRAM_MAX_BYTES)
            return -EINVAL;
    f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->cfg = *c;
    f->queue.ops = &queue_ops;
    int rc = make_tables(f);
    if (!rc)
        rc = make_rounds(f);
    if (rc) {
        sl_flows_free(f);
        return rc;
    }
    uint64_t key = sl_rng_key(c->seed, "flows begin");
    for (uint32_t i = 0; i < c->n; i++) {
        for (int d = 0; d < DIRECTIONS; d++) {
            struct flow *w = &f->phone[i].flow[d];
            w->window = INITIAL_WINDOW_PACKETS * packet_bytes_max(f, i);
            w->threshold = WINDOW_MAX_BYTES;
        }
        f->phone[i].stage = STAGE_BACKWARD; /* as if an update had just ended */
        set_timer(f, i, 0, sl_rng_u64(key, i) % begin_within_ns);
    }
    *out = f;
    return 0;
}

void sl_flows_free(struct sl_flows *f)
{
    if (!f)
        return;
    sl_timers_free(f->timers);
    sl_rounds_free(f->rounds);
    free(f->shape);
    free(f->phone);
    free(f->pool);
    free(f);
}

struct sl_queue *sl_flows_queue(struct sl_flows *f)
{
    return &f->queue;
}

void sl_flows_close(struct sl_flows *f)
{
    f->closing = true;
}

void sl_flows_totals(const struct sl_flows *f, struct sl_flow_totals *up, struct sl_flow_totals *down)
{
    *up = f->totals[UP];
    *down = f->totals[DOWN];
}

uint64_t sl_flows_gangs(const struct sl_flows *f)
{
    return sl_rounds_count(f->rounds);
}
