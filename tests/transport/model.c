#include "tests/transport/model.h"

#include <stdlib.h>

enum { ONE = 1 }; /* the session's handle */

/* ---- the sink ---- */

void model_init(struct model *m)
{
    memset(m, 0, sizeof(*m));
}

void model_free(struct model *m)
{
    for (unsigned i = 0; i < m->n_in; i++) {
        free(m->in[i].bytes);
        free(m->in[i].units);
    }
    for (unsigned i = 0; i < m->n_out; i++)
        free(m->out[i].bytes);
}

struct model_message *model_expect(struct model *m, uint32_t session, uint32_t grant, uint32_t n_units)
{
    assert_true(m->n_in < MODEL_MESSAGES);
    struct model_message *g = &m->in[m->n_in++];
    *g = (struct model_message){
        .session = session, .grant = grant, .n_units = n_units, .fragment_units = MODEL_UNITS};
    g->bytes = calloc(n_units, SL_UNIT_BYTES);
    g->units = calloc(n_units, 1);
    assert_non_null(g->bytes);
    assert_non_null(g->units);
    return g;
}

struct model_message *model_offer(
    struct model *m, uint32_t session, uint32_t grant, uint32_t n_units, uint64_t seed)
{
    assert_true(m->n_out < MODEL_MESSAGES);
    struct model_message *g = &m->out[m->n_out++];
    *g = (struct model_message){
        .session = session, .grant = grant, .n_units = n_units, .fragment_units = MODEL_UNITS};
    g->bytes = malloc((size_t)n_units * SL_UNIT_BYTES);
    assert_non_null(g->bytes);
    for (size_t i = 0; i < (size_t)n_units * SL_UNIT_BYTES; i += 8) {
        uint64_t r = next_random(&seed);
        memcpy(g->bytes + i, &r, 8);
    }
    return g;
}

static struct model_message *find(struct model_message *g, unsigned n, uint32_t session, uint32_t grant)
{
    for (unsigned i = 0; i < n; i++)
        if (g[i].session == session && g[i].grant == grant)
            return &g[i];
    return NULL;
}

struct model_message *model_in(struct model *m, uint32_t session, uint32_t grant)
{
    return find(m->in, m->n_in, session, grant);
}

static void place_one(struct model *m, struct sl_rx *rx)
{
    struct model_message *g = model_in(m, rx->session, rx->grant);
    rx->how = SL_REFUSE;
    if (m->refuse_unnamed)
        return;
    if (m->defer_always) {
        rx->how = SL_DEFER;
        return;
    }
    if (g == NULL) {
        rx->reason = SL_DROP_NO_GRANT;
        return;
    }
    uint32_t left = rx->unit0 < g->n_units ? g->n_units - rx->unit0 : 0;
    uint32_t want = left < g->fragment_units ? left : g->fragment_units;
    if (left == 0 || rx->unit0 % g->fragment_units != 0 || rx->n_units != want) {
        rx->reason = SL_DROP_OFF_GRID;
        return;
    }
    uint8_t *units = g->units + rx->unit0;
    if (units[0] == UNIT_CLAIMED) {
        rx->how = SL_DEFER;
    } else if (units[0] == UNIT_RECEIVED) {
        rx->how = SL_SCRATCH;
    } else {
        rx->how = SL_PLACE;
        rx->dst = g->bytes + (size_t)rx->unit0 * SL_UNIT_BYTES;
        memset(units, UNIT_CLAIMED, rx->n_units);
    }
}

static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct model *m = sink;
    m->places++;
    for (unsigned i = 0; i < n; i++) {
        place_one(m, rx[i]);
        m->placed[rx[i]->how]++;
    }
}

/* Whether a packet's plaintext, which lies at dst, is units of the message now. */
static bool expand(const struct sl_rx *rx)
{
    if (rx->coded == 0)
        return true;
    if (rx->coded != MODEL_CODED || rx->dst[1] != MODEL_CODED_MARK)
        return false;
    memset(rx->dst, rx->dst[0], (size_t)rx->n_units * SL_UNIT_BYTES);
    return true;
}

static uint16_t compress(
    void *sink, uint32_t session, const uint8_t *units, uint32_t unit0, uint32_t n, uint8_t *out)
{
    for (size_t i = 1; i < (size_t)n * SL_UNIT_BYTES; i++)
        if (units[i] != units[0])
            return 0;
    out[0] = units[0];
    out[1] = MODEL_CODED_MARK;
    return MODEL_CODED;
}

static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct model *m = sink;
    m->commits++;
    assert_true(n <= 64);
    for (unsigned i = 0; i < n; i++) {
        if (rx[i]->how != SL_PLACE)
            continue;
        struct model_message *g = model_in(m, rx[i]->session, rx[i]->grant);
        bool ok = ok_mask >> i & 1;
        if (ok && !expand(rx[i])) {
            rx[i]->how = SL_REFUSE;
            ok = false;
        }
        for (uint32_t u = rx[i]->unit0; u < rx[i]->unit0 + rx[i]->n_units; u++) {
            assert_int_equal(g->units[u], UNIT_CLAIMED);
            g->units[u] = ok ? UNIT_RECEIVED : UNIT_FREE;
        }
        if (ok) {
            g->n_received += rx[i]->n_units;
            if (g->n_received == g->n_units)
                g->completed++;
        }
    }
}

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    struct model *m = sink;
    struct model_message *g = find(m->out, m->n_out, session, grant);
    assert_non_null(g);
    assert_true(unit0 + n <= g->n_units);
    assert_int_equal(g->done[0] + g->done[1] + g->done[2], 0);
    g->sources++;
    return m->no_source ? NULL : g->bytes + (size_t)unit0 * SL_UNIT_BYTES;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    struct model *m = sink;
    struct model_message *g = find(m->out, m->n_out, session, grant);
    assert_non_null(g);
    g->done[why]++;
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct model *m = sink;
    uint64_t step = f->type == SL_FRAME_REQUEST  ? f->request.step
                    : f->type == SL_FRAME_GRANT  ? f->grant.step
                    : f->type == SL_FRAME_RESULT ? f->result.step
                                                 : f->step_lost.step;
    if (step < MODEL_STEPS)
        m->frames[f->type][step]++;
    m->last_frame = *f;
}

const struct sl_sink_ops model_sink = {
    .place = place, .commit = commit, .source = source, .compress = compress, .done = done, .frame = frame};

void assert_accounts(const struct sl_endpoint *ep)
{
    struct sl_endpoint_stats s;
    sl_endpoint_stats(ep, &s);
    uint64_t sum = s.delivered_data + s.delivered_frames + s.scratch;
    for (unsigned i = 0; i < SL_DROP_COUNT; i++)
        sum += s.drops[i];
    assert_int_equal(s.drops[SL_DROP_NONE], 0);
    assert_int_equal(s.packets_rx, sum);
}

uint64_t drops(const struct sl_endpoint *ep, enum sl_drop why)
{
    struct sl_endpoint_stats s;
    sl_endpoint_stats(ep, &s);
    return s.drops[why];
}

/* ---- packets sealed by hand ---- */

const uint8_t test_secret[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
const struct sl_addr edge_addr = {
    .ip = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1}, .port = 7000};
const struct sl_addr device_addr = {
    .ip = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2}, .port = 9000};

static void keys_of(struct sealer *s, bool to_edge)
{
    struct sl_packet_keys k;
    assert_int_equal(sl_packet_keys_derive(test_secret, &k), 0);
    s->keys = to_edge ? k.device_to_edge : k.edge_to_device;
    s->phase = 0;
    s->aead = sl_aead_create();
    assert_non_null(s->aead);
    s->key = aligned_alloc(64, (sl_aead_key_size() + 63) / 64 * 64);
    assert_non_null(s->key);
    sl_aead_key_init(s->aead, s->key, s->keys.key);
}

void sealer_next_phase(struct sealer *s)
{
    struct sl_direction_keys next;
    assert_int_equal(sl_direction_keys_next(&s->keys, &next), 0);
    s->keys = next;
    s->phase++;
    sl_aead_key_init(s->aead, s->key, s->keys.key);
}

void sealer_init(struct sealer *s, bool to_edge, uint64_t peer)
{
    keys_of(s, to_edge);
    s->peer = peer;
}

void sealer_free(struct sealer *s)
{
    sl_aead_key_clear(s->key);
    free(s->key);
    sl_aead_free(s->aead);
}

static uint16_t seal(struct sealer *s, const struct sl_header *h, const void *plain, size_t len, uint8_t *out)
{
    size_t header = sl_header_encode(h, out);
    out[SL_HEADER_FLAGS_AT] |= s->phase & SL_FLAG_KEY_PHASE;
    sl_aead_seal(
        s->aead, s->key, s->keys.iv, h->pn, out, header, plain, len, out + header, out + header + len);
    return (uint16_t)(header + len + SL_TAG_BYTES);
}

uint16_t seal_plain(struct sealer *s, struct sl_header h, const void *plain, size_t len, uint8_t *out)
{
    h.session = s->peer;
    return seal(s, &h, plain, len, out);
}

uint16_t seal_data(struct sealer *s, uint64_t pn, uint32_t grant, uint32_t unit0, uint16_t n_units,
    uint8_t fill, uint8_t *out)
{
    static uint8_t plain[SL_DATAGRAM_MAX_BYTES];
    struct sl_header h = {.type = SL_PACKET_DATA,
        .grant = grant,
        .session = s->peer,
        .pn = pn,
        .unit0 = unit0,
        .n_units = n_units};
    memset(plain, fill, (size_t)n_units * SL_UNIT_BYTES);
    return seal(s, &h, plain, (size_t)n_units * SL_UNIT_BYTES, out);
}

uint16_t seal_coded(
    struct sealer *s, uint64_t pn, uint32_t grant, uint32_t unit0, uint8_t fill, uint8_t mark, uint8_t *out)
{
    const uint8_t plain[MODEL_CODED] = {fill, mark};
    struct sl_header h = {.type = SL_PACKET_DATA,
        .flags = SL_FLAG_COMPRESSED,
        .grant = grant,
        .session = s->peer,
        .pn = pn,
        .unit0 = unit0,
        .n_units = MODEL_UNITS,
        .coded = MODEL_CODED};
    return seal(s, &h, plain, sizeof(plain), out);
}

uint16_t seal_bytes(struct sealer *s, uint64_t pn, const void *plain, size_t len, uint8_t *out)
{
    struct sl_header h = {.type = SL_PACKET_FRAMES, .session = s->peer, .pn = pn};
    return seal(s, &h, plain, len, out);
}

uint16_t seal_frame(struct sealer *s, uint64_t pn, const struct sl_frame *f, uint8_t *out)
{
    uint8_t plain[512];
    size_t len = sl_frame_encode(f, plain, sizeof(plain));
    assert_true(len != 0);
    return seal_bytes(s, pn, plain, len, out);
}

unsigned open_frames_of(bool to_edge, const uint8_t *pkt, uint16_t len, struct sl_frame *out, unsigned cap)
{
    struct sealer s;
    struct sl_header h;
    uint8_t plain[SL_DATAGRAM_MAX_BYTES];
    size_t header_len, at = 0;
    unsigned n = 0;
    assert_int_equal(sl_header_decode(pkt, len, &h, &header_len), SL_DROP_NONE);
    if (h.type != SL_PACKET_FRAMES)
        return 0;
    keys_of(&s, to_edge);
    if (h.flags != 0)
        sealer_next_phase(&s);
    size_t plain_len = len - header_len - SL_TAG_BYTES;
    assert_true(sl_aead_open(s.aead, s.key, s.keys.iv, h.pn, pkt, header_len, pkt + header_len, plain_len,
        plain, pkt + header_len + plain_len));
    sealer_free(&s);
    while (at < plain_len && n < cap) {
        size_t used = sl_frame_decode(plain + at, plain_len - at, &out[n++]);
        assert_true(used != 0);
        at += used;
    }
    return n;
}

struct sl_endpoint *open_one(bool is_edge, struct model *m, uint32_t window_packets)
{
    struct sl_endpoint *ep;
    const struct sl_endpoint_config config = {.max_sessions = 4,
        .max_sends = 8,
        .max_message_units = 4096,
        .window_packets = window_packets,
        .key_update_packets = MODEL_KEY_UPDATE_PACKETS,
        .is_edge = is_edge};
    model_init(m);
    assert_int_equal(sl_endpoint_create(&config, &model_sink, m, &ep), 0);
    m->endpoint = ep;
    struct sl_session_config s = {.local_id = id_of(is_edge),
        .peer_id = id_of(!is_edge),
        .fragment_units = MODEL_UNITS,
        .mtu = SL_DEFAULT_MTU,
        .local = is_edge ? edge_addr : device_addr,
        .initial_rtt_ns = 20 * MS};
    memcpy(s.secret, test_secret, sizeof(s.secret));
    if (!is_edge)
        s.remote = edge_addr;
    assert_int_equal(sl_endpoint_open(ep, &s, 0), 0);
    return ep;
}

/* ---- the network ---- */

static bool earlier(const struct flight *a, const struct flight *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static void push(struct network *net, const uint8_t *bytes, uint16_t len, uint64_t now_ns)
{
    if (net->n == net->cap) {
        net->cap = net->cap ? 2 * net->cap : 256;
        net->queue = realloc(net->queue, net->cap * sizeof(*net->queue));
        assert_non_null(net->queue);
    }
    struct flight f = {.at_ns = now_ns + net->delay_ns, .order = net->order++, .len = len};
    if (net->jitter_ns != 0)
        f.at_ns += next_random(&net->random) % net->jitter_ns;
    assert_true(len <= sizeof(f.bytes));
    memcpy(f.bytes, bytes, len);
    unsigned i = net->n++;
    for (; i > 0 && earlier(&f, &net->queue[(i - 1) / 2]); i = (i - 1) / 2)
        net->queue[i] = net->queue[(i - 1) / 2];
    net->queue[i] = f;
}

static void pop(struct network *net, struct flight *out)
{
    *out = net->queue[0];
    struct flight last = net->queue[--net->n];
    unsigned i = 0;
    for (unsigned child; (child = 2 * i + 1) < net->n; i = child) {
        if (child + 1 < net->n && earlier(&net->queue[child + 1], &net->queue[child]))
            child++;
        if (!earlier(&net->queue[child], &last))
            break;
        net->queue[i] = net->queue[child];
    }
    net->queue[i] = last;
    if (out->order < net->last_order)
        net->reordered++;
    else
        net->last_order = out->order;
}

/* ---- the same through the simulator's links ---- */

static void links_init(struct network *net, const struct sl_link_params *p, unsigned room, uint64_t key)
{
    net->cap = room;
    net->queue = calloc(room, sizeof(*net->queue));
    net->unused = calloc(room, sizeof(*net->unused));
    assert_non_null(net->queue);
    assert_non_null(net->unused);
    for (uint32_t i = 0; i < room; i++)
        net->unused[i] = i;
    sl_histogram_reset(&net->sojourn);
    assert_int_equal(sl_links_create(1, room, &net->links), 0);
    assert_int_equal(sl_links_set(net->links, 0, p, key), 0);
}

static void links_offer(struct network *net, const struct sl_tx *tx, uint64_t now_ns)
{
    assert_true(net->n < net->cap);
    uint32_t place = net->unused[net->cap - net->n - 1];
    struct flight *f = &net->queue[place];
    assert_true(tx->len <= sizeof(f->bytes));
    *f = (struct flight){.at_ns = now_ns, .order = net->order++, .len = tx->len};
    memcpy(f->bytes, tx->buf, tx->len);
    if (sl_links_offer(net->links, 0, place, tx->len, now_ns) == SL_LINK_TAKEN)
        net->n++;
    else
        net->lost++;
}

/* The next that has arrived by now; false: none. */
static bool links_pop(struct network *net, uint64_t now_ns, struct flight *out)
{
    struct sl_link_out o;
    while (sl_link_next(net->links, now_ns, &o)) {
        *out = net->queue[o.handle];
        net->unused[net->cap - net->n] = o.handle;
        net->n--;
        if (o.verdict != SL_LINK_TAKEN) {
            net->lost++;
            continue;
        }
        sl_histogram_record(&net->sojourn, o.due_ns - out->at_ns);
        if (out->order < net->last_order)
            net->reordered++;
        else
            net->last_order = out->order;
        return true;
    }
    return false;
}

/* When something arrives next. */
static uint64_t network_deadline(struct network *net)
{
    if (net->links != NULL)
        return sl_links_deadline(net->links);
    return net->n != 0 ? net->queue[0].at_ns : UINT64_MAX;
}

static bool network_pop(struct network *net, uint64_t now_ns, struct flight *out)
{
    if (net->links != NULL)
        return links_pop(net, now_ns, out);
    if (net->n == 0 || net->queue[0].at_ns > now_ns)
        return false;
    pop(net, out);
    return true;
}

static bool chance(struct network *net, double p)
{
    return (double)(next_random(&net->random) >> 11) * 0x1p-53 < p;
}

/* Sends all that is due. */
static void send_all(struct sl_endpoint *ep, struct network *net, uint64_t now_ns)
{
    uint8_t bytes[8][600];
    struct sl_tx tx[8];
    unsigned n;
    do {
        for (unsigned i = 0; i < 8; i++)
            tx[i] = (struct sl_tx){.buf = bytes[i], .cap = sizeof(bytes[i])};
        n = sl_tx_burst(ep, tx, 8, now_ns);
        for (unsigned i = 0; i < n; i++) {
            net->sent++;
            if (net->links != NULL) {
                links_offer(net, &tx[i], now_ns);
                continue;
            }
            if (chance(net, net->loss)) {
                net->lost++;
                continue;
            }
            push(net, tx[i].buf, tx[i].len, now_ns);
            if (chance(net, net->duplicate))
                push(net, tx[i].buf, tx[i].len, now_ns);
        }
    } while (n == 8);
}

/* Hands over what has arrived, in bursts of random size. */
static void deliver(struct sl_endpoint *ep, struct network *net, const struct sl_addr *local,
    const struct sl_addr *remote, uint64_t now_ns)
{
    struct flight got[16];
    struct sl_rx rx[16];
    for (bool more = true; more;) {
        unsigned n = 0, most = 1 + (unsigned)(next_random(&net->random) % 16);
        while (n < most && (more = network_pop(net, now_ns, &got[n]))) {
            rx[n] =
                (struct sl_rx){.pkt = got[n].bytes, .len = got[n].len, .local = *local, .remote = *remote};
            n++;
        }
        if (n > 0)
            sl_rx_burst(ep, rx, n, now_ns);
    }
}

void rig_init(struct rig *r, uint64_t seed, double loss, double duplicate, uint64_t jitter_ns)
{
    memset(r, 0, sizeof(*r));
    r->edge = open_one(true, &r->edge_model, 64);
    r->device = open_one(false, &r->device_model, 64);
    struct network net = {
        .loss = loss, .duplicate = duplicate, .delay_ns = 5 * MS, .jitter_ns = jitter_ns, .random = seed};
    r->up = net;
    net.random = ~seed;
    r->down = net;
    r->now_ns = 1000 * MS;
}

void rig_init_links(struct rig *r, uint32_t window_packets, const struct sl_link_params *up,
    const struct sl_link_params *down, unsigned room, uint64_t seed)
{
    memset(r, 0, sizeof(*r));
    r->edge = open_one(true, &r->edge_model, window_packets);
    r->device = open_one(false, &r->device_model, window_packets);
    r->up.random = seed;
    r->down.random = ~seed;
    links_init(&r->up, up, room, seed);
    links_init(&r->down, down, room, ~seed);
    r->now_ns = 1000 * MS;
}

static void network_free(struct network *net)
{
    sl_links_free(net->links);
    free(net->unused);
    free(net->queue);
}

void rig_free(struct rig *r)
{
    sl_endpoint_free(r->edge);
    sl_endpoint_free(r->device);
    model_free(&r->edge_model);
    model_free(&r->device_model);
    network_free(&r->up);
    network_free(&r->down);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool rig_run(struct rig *r, uint64_t until_ns, bool (*finished)(struct rig *))
{
    for (unsigned idle = 0; idle < 1000;) {
        send_all(r->device, &r->up, r->now_ns);
        send_all(r->edge, &r->down, r->now_ns);
        if (finished != NULL && finished(r))
            return true;
        uint64_t next = least(sl_next_deadline(r->edge), sl_next_deadline(r->device));
        next = least(next, least(network_deadline(&r->up), network_deadline(&r->down)));
        if (next > until_ns)
            return finished == NULL;
        idle = next > r->now_ns ? 0 : idle + 1; /* the clock must move */
        if (next > r->now_ns)
            r->now_ns = next;
        deliver(r->edge, &r->up, &edge_addr, &device_addr, r->now_ns);
        deliver(r->device, &r->down, &device_addr, &edge_addr, r->now_ns);
    }
    fail_msg("the clock stands still at %llu ns", (unsigned long long)r->now_ns);
    return false;
}
