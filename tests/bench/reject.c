/* sluice-bench reject: what a packet costs that is not taken up, in cycles of sl_rx_burst on bursts of such
 * packets alone. */
#include "dataplane/crypto/aead.h"
#include "dataplane/ingest/ingest.h"
#include "dataplane/io/lcore/cycles.h"
#include "dataplane/wire/packet.h"
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BURST = 32,
    BUFFERS = 512, /* as many as a port's ring holds */
    BUFFER_BYTES = 2048,
    D_MODEL = 192,
    SEQS = 4,
    ROWS = 128,
    FRAGMENT_UNITS = 22,
    SLOTS = 16,
    SAMPLES_MAX = 1 << 18,
    CHEAP_CYCLES = 100, /* the target: for what needs no open, and beyond the open for what does */
};

static double seconds = 0.5;

static const struct bench_option options[] = {
    {"seconds", BENCH_REAL, &seconds, "S", "each kind of packet", 0.01, 60, NULL},
    {0},
};

/* A device of which only the frames matter: it asks for a grant, then nothing of it is authentic. */
struct bench {
    struct sl_endpoint *device, *edge;
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    uint64_t edge_id, rng;
    uint32_t grant, n_units;
    uint64_t replayed_pn; /* the highest that the edge has seen */
    uint8_t *buffer, *out;
    struct sl_rx rx[BUFFERS];
    struct sl_aead *aead;
    struct sl_aead_key *key;
    struct bench_sample cycles;
};

static uint64_t draw(struct bench *b) /* xorshift64* (Vigna, 2016) */
{
    b->rng ^= b->rng >> 12;
    b->rng ^= b->rng << 25;
    b->rng ^= b->rng >> 27;
    return b->rng * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- the device's sink ---- */

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return NULL;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct bench *b = sink;
    if (f->type == SL_FRAME_GRANT)
        b->grant = f->grant.index;
}

static const struct sl_sink_ops device_sink = {.source = source, .done = done, .frame = frame};

/* ---- packets ---- */

static uint8_t *at(const struct bench *b, unsigned i)
{
    return b->buffer + (size_t)i * BUFFER_BYTES;
}

static struct sl_header header_of(const struct bench *b, unsigned i)
{
    uint32_t fragments = b->n_units / FRAGMENT_UNITS;
    return (struct sl_header){.type = SL_PACKET_DATA,
        .grant = b->grant,
        .session = b->edge_id,
        .pn = b->replayed_pn + 1 + i,
        .unit0 = i % fragments * FRAGMENT_UNITS,
        .n_units = FRAGMENT_UNITS};
}

static uint16_t noise(struct bench *b, uint8_t *p)
{
    uint16_t len = SL_HEADER_DATA_BYTES + FRAGMENT_UNITS * SL_UNIT_BYTES + SL_TAG_BYTES;
    for (unsigned k = 0; k < len; k += 8) {
        uint64_t r = draw(b);
        memcpy(p + k, &r, sizeof(r)); /* the buffer has room behind */
    }
    return len;
}

static uint16_t make_random(struct bench *b, unsigned i)
{
    return noise(b, at(b, i));
}

static uint16_t make_unknown(struct bench *b, unsigned i)
{
    uint16_t len = noise(b, at(b, i));
    struct sl_header h = header_of(b, i);
    h.session = draw(b);
    sl_header_encode(&h, at(b, i));
    return len;
}

static uint16_t make_replayed(struct bench *b, unsigned i)
{
    uint16_t len = noise(b, at(b, i));
    struct sl_header h = header_of(b, i);
    h.pn = b->replayed_pn;
    sl_header_encode(&h, at(b, i));
    return len;
}

static uint16_t make_off_grid(struct bench *b, unsigned i)
{
    uint16_t len = noise(b, at(b, i));
    struct sl_header h = header_of(b, i);
    h.unit0++;
    sl_header_encode(&h, at(b, i));
    return len;
}

static uint16_t make_forged(struct bench *b, unsigned i)
{
    uint16_t len = noise(b, at(b, i));
    struct sl_header h = header_of(b, i);
    sl_header_encode(&h, at(b, i));
    return len;
}

static const struct kind {
    const char *name;
    uint16_t (*make)(struct bench *, unsigned i);
    bool opened;
    enum sl_drop drop; /* what all of them, or nearly all, are counted as */
} kinds[] = {
    {"random", make_random, false, SL_DROP_VERSION},
    {"unknown_session", make_unknown, false, SL_DROP_UNKNOWN_SESSION},
    {"replayed", make_replayed, false, SL_DROP_REPLAYED},
    {"off_grid", make_off_grid, false, SL_DROP_OFF_GRID},
    {"forged", make_forged, true, SL_DROP_BAD_TAG},
};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- measuring ---- */

static void prepare(struct bench *b, const struct kind *k)
{
    for (unsigned i = 0; i < BUFFERS; i++)
        b->rx[i] = (struct sl_rx){.pkt = at(b, i), .len = k->make(b, i)};
}

static void time_rejects(struct bench *b)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9), now = bench_now_ns();
    bench_sample_clear(&b->cycles);
    for (unsigned i = 0; now < until && !bench_stopping(); i = (i + BURST) % BUFFERS, now = bench_now_ns()) {
        uint64_t from = sl_cycles();
        sl_rx_burst(b->edge, b->rx + i, BURST, now);
        bench_sample_add(&b->cycles, (double)(sl_cycles() - from) / BURST);
    }
}

/* The same packets through the cipher alone, into as many bytes as a message has. */
static double time_open(struct bench *b)
{
    static const uint8_t iv[SL_AEAD_IV_BYTES] = {1};
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9), wrong = 0;
    size_t plain = FRAGMENT_UNITS * SL_UNIT_BYTES;
    uint32_t fragments = b->n_units / FRAGMENT_UNITS;
    bench_sample_clear(&b->cycles);
    for (unsigned i = 0; bench_now_ns() < until && !bench_stopping(); i = (i + BURST) % BUFFERS) {
        uint64_t from = sl_cycles();
        for (unsigned k = i; k < i + BURST; k++) {
            const uint8_t *p = at(b, k);
            wrong += !sl_aead_open(b->aead, b->key, iv, k, p, SL_HEADER_DATA_BYTES, p + SL_HEADER_DATA_BYTES,
                plain, b->out + (size_t)(k % fragments) * plain, p + SL_HEADER_DATA_BYTES + plain);
        }
        bench_sample_add(&b->cycles, (double)(sl_cycles() - from) / BURST);
    }
    return wrong != 0 ? bench_sample_median(&b->cycles) : 0;
}

/* ---- making it ---- */

static bool exchange(struct bench *b, struct sl_endpoint *from, struct sl_endpoint *to, uint64_t now)
{
    struct sl_tx tx[BURST];
    struct sl_rx rx[BURST];
    for (unsigned i = 0; i < BURST; i++)
        tx[i] = (struct sl_tx){.buf = at(b, i), .cap = BUFFER_BYTES};
    unsigned n = sl_tx_burst(from, tx, BURST, now);
    for (unsigned i = 0; i < n; i++)
        rx[i] =
            (struct sl_rx){.pkt = tx[i].buf, .len = tx[i].len, .local = tx[i].remote, .remote = tx[i].local};
    sl_rx_burst(to, rx, n, now);
    return n != 0;
}

/* A grant, so that what is forged after it is wanted and gets as far as the open. */
static bool get_grant(struct bench *b)
{
    struct sl_frame f = {.type = SL_FRAME_REQUEST};
    f.request = (struct sl_request){.step = 1, .kind = SL_REQUEST_EVAL, .n_seqs = SEQS};
    for (unsigned i = 0; i < SEQS; i++)
        f.request.len[i] = ROWS;
    uint64_t now = bench_now_ns();
    sl_endpoint_frame(b->device, 0, &f, now);
    for (unsigned turn = 0; turn < 64; turn++, now += 10000000) {
        exchange(b, b->device, b->edge, now);
        sl_ingest_poll(b->ingest, now);
        exchange(b, b->edge, b->device, now);
    }
    struct sl_session_stats s;
    sl_session_stats(b->device, 0, &s);
    b->replayed_pn = s.packets_tx - 1;
    return b->grant != 0 && s.packets_tx != 0;
}

static int make_endpoints(struct bench *b)
{
    struct sl_endpoint_config c = {.max_sessions = 1, .max_sends = 8, .max_message_units = b->n_units};
    int ret = sl_endpoint_create(&c, &device_sink, b, &b->device);
    c.is_edge = true;
    ret = ret == 0 ? sl_endpoint_create(&c, &sl_ingest_sink, b->ingest, &b->edge) : ret;
    if (ret != 0)
        return ret;
    sl_ingest_bind(b->ingest, b->edge);
    struct sl_session_config s = {.fragment_units = FRAGMENT_UNITS,
        .mtu = SL_DEFAULT_MTU,
        .initial_rtt_ns = 1000000,
        .secret = {7},
        .remote = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7444},
        .local_id = sl_session_id(0, 0, 1),
        .peer_id = sl_session_id(0, 0, 2)};
    b->edge_id = s.peer_id;
    ret = sl_endpoint_open(b->device, &s, bench_now_ns());
    s.peer_id = s.local_id;
    s.local_id = b->edge_id;
    ret = ret == 0 ? sl_endpoint_open(b->edge, &s, bench_now_ns()) : ret;
    if (ret == 0)
        sl_ingest_session_opened(b->ingest, 0, 0);
    return ret;
}

static int make(struct bench *b)
{
    static const uint8_t key[SL_AEAD_KEY_BYTES] = {1, 2, 3};
    struct sl_grid g;
    sl_grid_make(&g, SEQS * ROWS, D_MODEL, SL_CODEC_BF16, 1, FRAGMENT_UNITS);
    b->n_units = g.n_units;
    b->rng = 88172645463325252u;
    b->buffer = aligned_alloc(4096, BUFFERS * BUFFER_BYTES);
    b->out = aligned_alloc(64, (size_t)g.n_units * SL_UNIT_BYTES);
    b->ready = sl_ring_spsc_create(64);
    b->returned = sl_ring_spsc_create(64);
    b->aead = sl_aead_create();
    b->key = aligned_alloc(64, (sl_aead_key_size() + 63) / 64 * 64);
    if (b->buffer == NULL || b->out == NULL || b->ready == NULL || b->returned == NULL || b->aead == NULL ||
        b->key == NULL || bench_sample_init(&b->cycles, SAMPLES_MAX) != 0 ||
        sl_slots_create(SLOTS, (size_t)g.n_units * SL_UNIT_BYTES, &b->slots) != 0)
        return -1;
    sl_aead_key_init(b->aead, b->key, key);
    struct sl_ingest_config c = {.slots = b->slots,
        .ready = b->ready,
        .returned = b->returned,
        .max_sessions = 1,
        .d_model = D_MODEL,
        .codec = SL_CODEC_BF16,
        .fragment_units = FRAGMENT_UNITS,
        .grant_expiry_ns = UINT64_C(3600000000000),
        .park_after_ns = UINT64_C(3600000000000)};
    return sl_ingest_create(&c, &b->ingest) == 0 && make_endpoints(b) == 0 && get_grant(b) ? 0 : -1;
}

static void free_all(struct bench *b)
{
    sl_endpoint_free(b->device);
    sl_endpoint_free(b->edge);
    if (b->ingest != NULL)
        sl_ingest_free(b->ingest);
    if (b->slots != NULL)
        sl_slots_free(b->slots);
    if (b->ready != NULL)
        sl_ring_spsc_free(b->ready);
    if (b->returned != NULL)
        sl_ring_spsc_free(b->returned);
    sl_aead_free(b->aead);
    bench_sample_free(&b->cycles);
    free(b->buffer);
    free(b->out);
    free(b->key);
}

/* Every packet under one name, and each under the one that it was made for. */
static bool counted(const struct sl_endpoint_stats *before, const struct sl_endpoint_stats *after, cJSON *to,
    const struct kind *k)
{
    uint64_t all = 0, came = after->packets_rx - before->packets_rx;
    cJSON *j = cJSON_AddObjectToObject(to, "drops");
    for (unsigned i = 0; i < SL_DROP_COUNT; i++) {
        uint64_t n = after->drops[i] - before->drops[i];
        all += n;
        if (n != 0)
            cJSON_AddNumberToObject(j, sl_drop_name((enum sl_drop)i), (double)n);
    }
    cJSON_AddNumberToObject(to, "packets", (double)came);
    return all == came && (after->drops[k->drop] - before->drops[k->drop]) * 10 >= came * 9;
}

static int measure(struct bench *b, cJSON *result, char *err, size_t err_cap)
{
    prepare(b, &kinds[N_KINDS - 1]);
    double open = time_open(b), within = 0;
    cJSON *target = cJSON_CreateObject();
    cJSON_AddNumberToObject(result, "packet_bytes", b->rx[0].len);
    cJSON_AddNumberToObject(result, "open_cycles", open);
    int status = BENCH_OK;
    for (unsigned i = 0; i < N_KINDS && status == BENCH_OK && !bench_stopping(); i++) {
        const struct kind *k = &kinds[i];
        struct sl_endpoint_stats before, after;
        cJSON *j = cJSON_AddObjectToObject(result, k->name);
        bench_progress("reject: %s", k->name);
        prepare(b, k);
        sl_endpoint_stats(b->edge, &before);
        time_rejects(b);
        sl_endpoint_stats(b->edge, &after);
        double median = bench_sample_median(&b->cycles);
        cJSON_AddItemToObject(j, "cycles", bench_sample_json(&b->cycles));
        if (k->opened)
            cJSON_AddNumberToObject(j, "cycles_beyond_open", median - open);
        within = CHEAP_CYCLES + (k->opened ? open : 0);
        cJSON_AddBoolToObject(target, k->name, median <= within);
        if (!counted(&before, &after, j, k)) {
            snprintf(err, err_cap, "%s packets: see drops", k->name);
            status = BENCH_UNCOUNTED;
        }
    }
    cJSON_AddNumberToObject(target, "cycles_beside_the_open", CHEAP_CYCLES);
    cJSON_AddItemToObject(result, "target", target);
    return status;
}

static int run(cJSON *result, char *err, size_t err_cap)
{
    static struct bench b;
    bench_pin(bench_cpu(0));
    int status = BENCH_FAILED;
    if (make(&b) == 0)
        status = measure(&b, result, err, err_cap);
    else
        snprintf(err, err_cap, "cannot make an endpoint with a grant: out of memory, or no AES-GCM here");
    free_all(&b);
    return status;
}

const struct bench_verb bench_reject = {
    .name = "reject",
    .summary = "what a packet costs that is not taken up",
    .about =
        "Cycles a packet of sl_rx_burst, bursts of 32, over as many buffers as a ring holds; no port. "
        "random:\n"
        "noise. unknown_session, replayed, off_grid: a right header but for that. forged: everything right\n"
        "but the tag, so it is opened; open_cycles is the cipher alone on the same packets.\n",
    .examples = "  sluice-bench reject --json\n",
    .options = options,
    .run = run,
};
