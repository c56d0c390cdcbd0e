#include "device-sim/fleet/plane.h"

#include "dataplane/ring/ring.h"
#include "device-sim/fleet/phone_links.h"
#include "device-sim/fleet/port.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAILBOXES = 4, /* per phone and direction: steps that control and lcore may be apart */
    RING_PER_PHONE = 8,
    SIGHTS = 16384, /* between two turns of the control thread */
    /* Packets that the emulator may hold in a direction: at least so many, and a window for each message that
     * may be under way, as far as the memory of the port goes. The port has buffers for both directions, and
     * some for its rings and bursts. */
    EMULATED_MIN = 6000,
    EMULATED_MAX = 65536,
    EMULATED_A_MESSAGE = 128, /* the transport's window */
    OTHER_MBUFS = 4384,
    MBUF_SPARE_BYTES = 512,  /* of a buffer beside the packet */
    PUBLISHED_AT_ONCE = 512, /* so many phones are told of together; of more, a few at a time */
    PUBLISHED_A_TURN = 8,
};
static const uint64_t publish_phone_ns = 40000; /* of more: the time that each takes in its round */
static const uint64_t publish_every_ns = 20000000, rates_every_ns = 1000000000;

enum command { COMMAND_REQUEST, COMMAND_SEND, COMMAND_DROP, COMMAND_BOUND };

/* Handles on the rings: phone, step cycle (modulo 256), kind. */
static uint32_t handle_of(uint32_t phone, uint8_t cycle, uint8_t kind)
{
    return phone << 16 | (uint32_t)cycle << 8 | kind;
}

struct box_down {
    struct sl_request request;
    struct sl_grid grid;
};

/* What the lcore publishes of a phone. */
struct published {
    _Atomic double rate_up_bps, rate_down_bps;
    _Atomic uint64_t bytes_up, bytes_down, airtime_tx_ns, airtime_rx_ns, retransmits, rtt_ns;
    _Atomic uint64_t connected_ns, promotion_ns, promotions; /* the radio's states */
    _Atomic uint64_t handovers, cell;
};

struct plane_phone {
    /* control's */
    uint8_t cycle;
    /* the lcore's */
    uint8_t lcore_cycle;
    bool open;
    bool waits;                                   /* its request is in `waiting` */
    uint64_t retransmits_before, retransmits_now; /* of earlier sessions; of this one */
    /* passed by the rings */
    struct box_down down[MAILBOXES];
    struct sl_store_event up[MAILBOXES];
    struct published published;
    _Atomic double pace_bps, power_share; /* control's; read at COMMAND_BOUND and when a session opens */
    _Atomic bool bound_told; /* that command is under way: one at a time, however many Plans come */
};

struct sl_plane {
    uint32_t n;
    struct sl_phone_addresses addresses;
    struct sl_port *port;
    struct sl_endpoint *endpoint;
    struct sl_store *store;
    const struct sl_replay *replay;
    struct sl_emulator *emulator;
    struct sl_lcore *lcore;
    struct sl_lcore_stats lcore_stats;
    struct sl_ring_spsc *commands, *events;
    struct sl_ring_spsc *waiting; /* of the lcore's own: requests that the endpoint had no room for */
    struct sl_ring_spsc *seen;    /* of places in `sights`; NULL: nobody reads them */
    struct sl_emulator_seen *sights;
    uint32_t next_sight;
    _Atomic uint64_t unseen;
    uint64_t published_ns, rates_ns, watched_ns;
    uint32_t publish_next, emulated; /* emulated: packets that a direction may hold */
    struct sl_watch watch;
    struct sl_fleet_port own; /* not open where who opened the plane gave it a port */
    struct plane_phone phone[];
};

/* ---- on the lcore ---- */

static void emit(struct sl_plane *pl, uint32_t i, const struct sl_store_event *e)
{
    struct plane_phone *p = &pl->phone[i];
    uint32_t handle = handle_of(i, p->lcore_cycle, (uint8_t)e->kind);

    if (e->kind != SL_STORE_GRANTED) /* the box holds how a step ended, once; a grant needs none */
        p->up[p->lcore_cycle % MAILBOXES] = *e;
    sl_ring_spsc_push(pl->events, &handle, 1);
}

static void on_store_event(void *app, uint32_t phone, const struct sl_store_event *e)
{
    emit(app, phone, e);
}

/* What a phone sends that does not compute. */
static const uint8_t *replayed(void *app, uint32_t phone, const struct sl_request *r, const struct sl_grid *g)
{
    const struct sl_plane *pl = app;
    struct sl_replay_shape shape = {.n_seqs = r->n_seqs, .rows = g->rows, .cut = r->cut};

    return sl_replay_pick(pl->replay, &shape, phone, r->step, g);
}

/* A step that never left: as if the edge had said so. What cannot be held is not asked for again. */
static void lost(struct sl_plane *pl, uint32_t i, uint64_t step, int status)
{
    uint8_t reason = status == -EINVAL ? SL_LOST_REFUSED_SHAPE : SL_LOST_EXPIRED;

    emit(pl, i, &(struct sl_store_event){.kind = SL_STORE_LOST, .reason = reason, .step = step});
}

/* What the endpoint has no room for now waits until others are done. A phone that was told at once would ask
 * again at once: for ever, where time stands still meanwhile. */
static void request(struct sl_plane *pl, uint32_t handle, uint64_t now_ns)
{
    uint32_t i = handle >> 16;
    struct plane_phone *p = &pl->phone[i];
    struct box_down *box = &p->down[(uint8_t)(handle >> 8) % MAILBOXES];
    int status = sl_store_request(pl->store, i, &box->request, &box->grid, now_ns);

    p->waits = status == -ENOBUFS && sl_ring_spsc_push(pl->waiting, &handle, 1) == 1;
    if (!p->waits && (status == -ENOBUFS || status == -EINVAL))
        lost(pl, i, box->request.step, status);
}

/* As many as there is room for, the one that has waited longest first. */
static void serve_waiting(struct sl_plane *pl, uint64_t now_ns)
{
    struct sl_endpoint_stats s;
    uint32_t handle;

    if (!sl_ring_spsc_count(pl->waiting))
        return;
    sl_endpoint_stats(pl->endpoint, &s);
    for (; s.active_free && sl_ring_spsc_pop(pl->waiting, &handle, 1); s.active_free--) {
        struct plane_phone *p = &pl->phone[handle >> 16];
        if (p->waits && p->lcore_cycle == (uint8_t)(handle >> 8))
            request(pl, handle, now_ns);
    }
}

/* A session begins without a pace, so it is given again to each. */
static void bound(struct sl_plane *pl, uint32_t i)
{
    struct plane_phone *p = &pl->phone[i];

    p->bound_told = false; /* before they are read: what comes from here on is told again */
    sl_emulator_set_power(pl->emulator, i, p->power_share);
    if (p->open)
        sl_endpoint_set_pace(pl->endpoint, i, p->pace_bps);
}

static void execute(struct sl_plane *pl, uint32_t handle, uint64_t now_ns)
{
    uint32_t i = handle >> 16;
    uint8_t cycle = (uint8_t)(handle >> 8);
    struct plane_phone *p = &pl->phone[i];
    struct box_down *box = &p->down[cycle % MAILBOXES];

    switch ((enum command)(handle & 0xff)) {
    case COMMAND_REQUEST:
        p->lcore_cycle = cycle;
        request(pl, handle, now_ns);
        break;
    case COMMAND_SEND:
        if (cycle == p->lcore_cycle && sl_store_send(pl->store, i, now_ns) == -ENOBUFS) {
            sl_store_drop(pl->store, i);
            lost(pl, i, box->request.step, -ENOBUFS);
        }
        break;
    case COMMAND_BOUND:
        bound(pl, i);
        break;
    case COMMAND_DROP:
        p->waits = false;
        sl_store_drop(pl->store, i);
        break;
    }
}

static void put(_Atomic uint64_t *to, uint64_t v)
{
    atomic_store_explicit(to, v, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static void publish_radio(struct sl_plane *pl, uint32_t i)
{
    const struct sl_rrc *r = sl_emulator_radio(pl->emulator, i);
    struct published *out = &pl->phone[i].published;
    struct sl_radio_state cell;
    uint64_t promotion_ns, connected_ns;

    sl_rrc_times(r, pl->published_ns, &promotion_ns, &connected_ns);
    put(&out->promotion_ns, promotion_ns);
    put(&out->connected_ns, connected_ns);
    put(&out->promotions, r->promotions);
    if (sl_emulator_cell(pl->emulator, i, &cell)) {
        put(&out->handovers, cell.handovers);
        put(&out->cell, cell.cell + UINT64_C(1));
    }
}

static void publish_phone(struct sl_plane *pl, uint32_t i)
{
    struct plane_phone *p = &pl->phone[i];
    struct published *out = &p->published;
    struct sl_link_stats up, down;
    struct sl_session_stats session;

    sl_emulator_stats(pl->emulator, i, &up, &down);
    put(&out->bytes_up, up.offered_bytes - up.offered * SL_LINK_IP_UDP_BYTES);
    put(&out->bytes_down, down.delivered_bytes - down.delivered * SL_LINK_IP_UDP_BYTES);
    put(&out->airtime_tx_ns, up.airtime_ns);
    put(&out->airtime_rx_ns, down.airtime_ns);
    publish_radio(pl, i);
    if (p->open && sl_session_stats(pl->endpoint, i, &session) == 0) {
        p->retransmits_now = session.retransmits;
        put(&out->rtt_ns, session.smoothed_rtt_ns);
    }
    put(&out->retransmits, p->retransmits_before + p->retransmits_now);
}

static void publish_rates(struct sl_plane *pl, uint32_t i, uint64_t now_ns)
{
    uint64_t from_ns = now_ns > rates_every_ns ? now_ns - rates_every_ns : 0;
    double up, down;

    sl_emulator_rates(pl->emulator, i, from_ns, now_ns, &up, &down);
    atomic_store_explicit(&pl->phone[i].published.rate_up_bps, up, memory_order_relaxed);
    atomic_store_explicit(&pl->phone[i].published.rate_down_bps, down, memory_order_relaxed);
}

static void publish_all(struct sl_plane *pl, uint64_t now_ns)
{
    bool rates = pl->rates_ns == 0 || now_ns - pl->rates_ns >= rates_every_ns;

    for (uint32_t i = 0; i < pl->n; i++) {
        publish_phone(pl, i);
        if (rates)
            publish_rates(pl, i, now_ns);
    }
    if (rates)
        pl->rates_ns = now_ns;
}

/* A turn must not wait for thousands of phones. */
static void publish_some(struct sl_plane *pl, uint64_t now_ns)
{
    for (uint32_t k = 0; k < PUBLISHED_A_TURN; k++) {
        publish_phone(pl, pl->publish_next);
        publish_rates(pl, pl->publish_next, now_ns);
        pl->publish_next = pl->publish_next + 1 < pl->n ? pl->publish_next + 1 : 0;
    }
}

static void poll_lcore(void *app, uint64_t now_ns)
{
    struct sl_plane *pl = app;
    uint32_t handle;

    while (sl_ring_spsc_pop(pl->commands, &handle, 1))
        execute(pl, handle, now_ns);
    serve_waiting(pl, now_ns);
    bool many = pl->n > PUBLISHED_AT_ONCE;
    if (now_ns - pl->published_ns >= (many ? PUBLISHED_A_TURN * publish_phone_ns : publish_every_ns)) {
        pl->published_ns = now_ns;
        if (many)
            publish_some(pl, now_ns);
        else
            publish_all(pl, now_ns);
    }
    if (now_ns - pl->watched_ns < publish_every_ns)
        return;
    pl->watched_ns = now_ns;
    sl_watch_publish(&pl->watch, pl->emulator, now_ns);
}

static uint64_t lcore_deadline(void *app)
{
    struct sl_plane *pl = app;

    return sl_ring_spsc_count(pl->commands) ? 0 : UINT64_MAX;
}

static void opened(void *app, uint32_t session, uint64_t user)
{
    struct sl_plane *pl = app;

    pl->phone[session].open = true;
    pl->phone[session].retransmits_now = 0;
    sl_endpoint_set_pace(pl->endpoint, session, pl->phone[session].pace_bps);
    sl_store_session_opened(pl->store, session);
}

static void closed(void *app, uint32_t session)
{
    struct sl_plane *pl = app;
    struct plane_phone *p = &pl->phone[session];

    p->open = p->waits = false;
    p->retransmits_before += p->retransmits_now;
    p->retransmits_now = 0;
    sl_store_session_closed(pl->store, session);
}

static const struct sl_lcore_ops lcore_ops = {
    .opened = opened, .closed = closed, .poll = poll_lcore, .deadline = lcore_deadline};

static void keep_sight(void *app, const struct sl_emulator_seen *seen)
{
    struct sl_plane *pl = app;
    uint32_t at = pl->next_sight % SIGHTS;

    if (sl_ring_spsc_count(pl->seen) >= SIGHTS - 1) { /* those places are still to be read */
        atomic_fetch_add_explicit(&pl->unseen, 1, memory_order_relaxed);
        return;
    }
    pl->sights[at] = *seen;
    pl->next_sight++;
    sl_ring_spsc_push(pl->seen, &at, 1);
}

/* ---- on the control thread ---- */

static int watch(struct sl_plane *pl, const struct sl_plane_config *c)
{
    struct sl_emulator_watch w = {
        .seen = c->seen, .ctx = c->app, .packets = c->watch == SL_PLANE_WATCH_PACKETS};

    if (c->watch == SL_PLANE_WATCH_NOTHING)
        return 0;
    if (!c->seen) {
        pl->seen = sl_ring_spsc_create(SIGHTS);
        pl->sights = calloc(SIGHTS, sizeof(*pl->sights));
        if (!pl->seen || !pl->sights)
            return -ENOMEM;
        w.seen = keep_sight;
        w.ctx = pl;
    }
    sl_emulator_set_watch(pl->emulator, &w);
    return 0;
}

static uint32_t ring_capacity(uint32_t n)
{
    uint32_t c = 64;

    while (c < n * RING_PER_PHONE)
        c *= 2;
    return c;
}

static uint32_t mbufs(const struct sl_plane *pl)
{
    return 2 * pl->emulated + OTHER_MBUFS;
}

/* Half of the port's memory is what its rings and the rest may take. */
static uint32_t emulated_packets(const struct sl_experiment *e)
{
    uint64_t wanted =
                 (uint64_t)EMULATED_A_MESSAGE * (e->edge.slots < e->n_devices ? e->edge.slots : e->n_devices),
             room = ((uint64_t)e->edge.data.memory_mib << 20) / 2 / (e->edge.data.mtu + MBUF_SPARE_BYTES) / 2;

    wanted = wanted < room ? wanted : room;
    wanted = wanted < EMULATED_MAX ? wanted : EMULATED_MAX;
    return wanted > EMULATED_MIN ? (uint32_t)wanted : EMULATED_MIN;
}

static int make_memory_parts(struct sl_plane *pl, const struct sl_plane_config *c, char *err, size_t err_cap)
{
    struct sl_store_config store = {.n_phones = pl->n,
        .message_bytes = c->message_bytes,
        .gradient_bytes = c->gradient_bytes,
        .compress = strcmp(c->experiment->edge.data.codec, sl_codec_name(SL_CODEC_INT8_LZ4)) == 0,
        .message = c->replay ? replayed : NULL,
        .event = on_store_event,
        .app = pl};
    struct sl_endpoint_config endpoint = {.max_sessions = pl->n,
        .max_sends = pl->n,
        .max_message_units = (uint32_t)(c->message_bytes / SL_UNIT_BYTES + 1)};
    int rc = sl_store_create(&store, &pl->store);

    if (!rc)
        rc = sl_endpoint_create(&endpoint, &sl_store_sink, pl->store, &pl->endpoint);
    pl->commands = sl_ring_spsc_create(ring_capacity(pl->n));
    pl->events = sl_ring_spsc_create(ring_capacity(pl->n));
    pl->waiting = sl_ring_spsc_create(ring_capacity(pl->n));
    if (!rc && (!pl->commands || !pl->events || !pl->waiting))
        rc = -ENOMEM;
    if (rc) {
        snprintf(err, err_cap, "cannot set up the data plane of %u phones: %s", pl->n, strerror(-rc));
        return rc;
    }
    return sl_phone_links_open(
        c->experiment, &pl->addresses, pl->emulated, c->start_ns, &pl->emulator, err, err_cap);
}

int sl_plane_open(const struct sl_plane_config *c, struct sl_plane **out, char *err, size_t err_cap)
{
    uint32_t n = c->experiment->n_devices;
    struct sl_plane *pl = calloc(1, sizeof(*pl) + n * sizeof(pl->phone[0]));
    struct sl_lcore_config lcore = {
        .poll = strcmp(c->experiment->edge.data.poll, "busy") == 0 ? SL_POLL_BUSY : SL_POLL_ADAPTIVE,
        .ops = &lcore_ops,
        .app = pl,
        .emulator = &sl_fleet_emulator,
        .cpu = -1};

    if (!pl) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    pl->n = n;
    for (uint32_t i = 0; i < n; i++)
        atomic_init(&pl->phone[i].power_share, 1);
    pl->emulated = emulated_packets(c->experiment);
    sl_watch_init(&pl->watch, n);
    pl->replay = c->replay;
    bool own = !c->port;

    pl->port = c->port;
    int rc = sl_phone_addresses(c->experiment, &pl->addresses, err, err_cap);
    if (!rc)
        rc = make_memory_parts(pl, c, err, err_cap);
    if (!rc && (rc = watch(pl, c)) != 0)
        snprintf(err, err_cap, "out of memory");
    if (!rc && own)
        rc = sl_fleet_port_open(&pl->own, c->experiment, c->run_dir, &pl->addresses, mbufs(pl), err, err_cap);
    if (own)
        pl->port = pl->own.port;
    if (!rc) {
        sl_store_bind(pl->store, pl->endpoint);
        sl_emulator_bind(pl->emulator, sl_port_queue(pl->port, 0));
        lcore.queue = sl_port_queue(pl->port, 0);
        lcore.endpoint = pl->endpoint;
        lcore.emulator_ctx = pl->emulator;
        rc = own ? sl_lcore_start(&lcore, &pl->lcore, err, err_cap)
                 : sl_lcore_create(&lcore, &pl->lcore, err, err_cap);
    }
    if (rc) {
        sl_plane_close(pl);
        return rc;
    }
    *out = pl;
    return 0;
}

void sl_plane_stop(struct sl_plane *pl)
{
    if (!pl->lcore)
        return;
    sl_lcore_stats(pl->lcore, &pl->lcore_stats);
    sl_lcore_stop(pl->lcore);
    pl->lcore = NULL;
    for (uint32_t i = 0; i < pl->n; i++)
        publish_phone(pl, i);
}

void sl_plane_close(struct sl_plane *pl)
{
    if (!pl)
        return;
    sl_plane_stop(pl);
    sl_emulator_free(pl->emulator);
    if (pl->port != pl->own.port)
        sl_port_close(pl->port);
    sl_endpoint_free(pl->endpoint);
    sl_store_free(pl->store);
    sl_ring_spsc_free(pl->commands);
    sl_ring_spsc_free(pl->events);
    sl_ring_spsc_free(pl->waiting);
    sl_ring_spsc_free(pl->seen);
    free(pl->sights);
    sl_fleet_port_close(&pl->own);
    free(pl);
}

const char *sl_plane_eal_args(const struct sl_plane *pl)
{
    return pl->own.eal_args;
}

void sl_plane_describe_lcore(const struct sl_plane *pl, char *text, size_t cap)
{
    sl_lcore_describe(pl->lcore, text, cap);
}

int sl_plane_wait(struct sl_plane *pl, char *text, size_t cap)
{
    return sl_port_wait(pl->port, text, cap);
}

struct sl_addr sl_plane_phone_address(const struct sl_plane *pl, uint32_t phone)
{
    return sl_phone_address(&pl->addresses, phone);
}

struct sl_lcore *sl_plane_lcore(struct sl_plane *pl)
{
    return pl->lcore;
}

bool sl_plane_pending(const struct sl_plane *pl)
{
    return sl_ring_spsc_count(pl->events) != 0 || sl_lcore_has_confirmed(pl->lcore);
}

struct sl_store *sl_plane_store(struct sl_plane *pl)
{
    return pl->store;
}

int sl_plane_open_session(struct sl_plane *pl, uint32_t phone, const struct sl_session_config *c)
{
    return sl_lcore_open_session(pl->lcore, c, phone);
}

int sl_plane_close_session(struct sl_plane *pl, uint32_t phone)
{
    pl->phone[phone].cycle++; /* events of the old session are of a cycle that is over */
    return sl_lcore_close_session(pl->lcore, phone);
}

bool sl_plane_confirmed(struct sl_plane *pl, struct sl_lcore_confirm *c)
{
    return sl_lcore_confirmed(pl->lcore, c);
}

static void command(struct sl_plane *pl, uint32_t phone, enum command kind)
{
    uint32_t handle = handle_of(phone, pl->phone[phone].cycle, (uint8_t)kind);

    sl_ring_spsc_push(pl->commands, &handle, 1); /* has room: a phone has at most a few under way */
    if (pl->lcore)
        sl_lcore_wake(pl->lcore);
}

void sl_plane_request(
    struct sl_plane *pl, uint32_t phone, const struct sl_request *r, const struct sl_grid *g)
{
    struct plane_phone *p = &pl->phone[phone];
    struct box_down *box = &p->down[++p->cycle % MAILBOXES];

    box->request = *r;
    box->grid = *g;
    command(pl, phone, COMMAND_REQUEST);
}

void sl_plane_send(struct sl_plane *pl, uint32_t phone)
{
    command(pl, phone, COMMAND_SEND);
}

void sl_plane_drop(struct sl_plane *pl, uint32_t phone)
{
    command(pl, phone, COMMAND_DROP);
    pl->phone[phone].cycle++;
}

void sl_plane_bound(struct sl_plane *pl, uint32_t phone, double rate_up_bps, double power_share)
{
    struct plane_phone *p = &pl->phone[phone];

    if (p->pace_bps == rate_up_bps && p->power_share == power_share)
        return;
    p->pace_bps = rate_up_bps;
    p->power_share = power_share;
    if (!atomic_exchange(&p->bound_told, true))
        command(pl, phone, COMMAND_BOUND);
}

bool sl_plane_event(struct sl_plane *pl, uint32_t *phone, struct sl_store_event *e)
{
    uint32_t handle;

    while (sl_ring_spsc_pop(pl->events, &handle, 1)) {
        struct plane_phone *p = &pl->phone[handle >> 16];
        uint8_t cycle = (uint8_t)(handle >> 8);
        if (cycle != p->cycle)
            continue;
        *phone = handle >> 16;
        if ((handle & 0xff) == SL_STORE_GRANTED)
            *e = (struct sl_store_event){
                .kind = SL_STORE_GRANTED, .step = p->down[cycle % MAILBOXES].request.step};
        else
            *e = p->up[cycle % MAILBOXES];
        return true;
    }
    return false;
}

bool sl_plane_seen(struct sl_plane *pl, struct sl_emulator_seen *out)
{
    uint32_t at;

    if (!pl->seen || !sl_ring_spsc_pop(pl->seen, &at, 1))
        return false;
    *out = pl->sights[at];
    return true;
}

uint64_t sl_plane_unseen(const struct sl_plane *pl)
{
    return atomic_load_explicit(&pl->unseen, memory_order_relaxed);
}

void sl_plane_phone(const struct sl_plane *pl, uint32_t phone, struct sl_plane_phone *out)
{
    const struct published *p = &pl->phone[phone].published;

    out->bytes_up = get(&p->bytes_up);
    out->bytes_down = get(&p->bytes_down);
    out->radio = (struct sl_radio_times){.send_ns = get(&p->airtime_tx_ns),
        .receive_ns = get(&p->airtime_rx_ns),
        .connected_ns = get(&p->connected_ns),
        .promotion_ns = get(&p->promotion_ns)};
    out->promotions = get(&p->promotions);
    out->handovers = get(&p->handovers);
    out->cell = get(&p->cell);
    out->retransmits = get(&p->retransmits);
    out->rtt_ns = get(&p->rtt_ns);
    out->rate_up_bps = atomic_load_explicit(&p->rate_up_bps, memory_order_relaxed);
    out->rate_down_bps = atomic_load_explicit(&p->rate_down_bps, memory_order_relaxed);
}

const struct sl_watch *sl_plane_watch(const struct sl_plane *pl)
{
    return &pl->watch;
}

static void add_link(struct sl_link_stats *sum, const struct sl_link_stats *s)
{
    sum->offered += s->offered;
    sum->offered_bytes += s->offered_bytes;
    sum->delivered += s->delivered;
    sum->delivered_bytes += s->delivered_bytes;
    for (int v = 0; v < SL_LINK_VERDICT_COUNT; v++) {
        sum->drops[v] += s->drops[v];
        sum->drop_bytes[v] += s->drop_bytes[v];
    }
    sum->under_way += s->under_way;
    sum->under_way_bytes += s->under_way_bytes;
    sum->airtime_ns += s->airtime_ns;
    sum->late_sum_ns += s->late_sum_ns;
    if (s->late_max_ns > sum->late_max_ns)
        sum->late_max_ns = s->late_max_ns;
}

void sl_plane_totals(struct sl_plane *pl, struct sl_plane_totals *t)
{
    struct sl_link_stats up, down;

    memset(t, 0, sizeof(*t));
    for (uint32_t i = 0; i < pl->n; i++) {
        sl_emulator_stats(pl->emulator, i, &up, &down);
        add_link(&t->up, &up);
        add_link(&t->down, &down);
    }
    sl_endpoint_stats(pl->endpoint, &t->endpoint);
    sl_store_stats(pl->store, &t->store);
    sl_port_stats(pl->port, &t->port);
    t->lcore = pl->lcore_stats;
    t->strays = sl_emulator_strays(pl->emulator);
}

const struct sl_histogram *sl_plane_lag(const struct sl_plane *pl, bool up)
{
    return sl_emulator_lag(pl->emulator, up);
}
