#include "tests/bench/link_run.h"

#include "dataplane/io/lcore/clock.h"
#include "device-sim/fleet/emulator.h"
#include "tests/bench/link_exact.h"
#include "tests/bench/link_virtual.h"
#include "tests/bench/overcommit.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { UNDER_WAY = 1 << 16, SIZE_LEAST = 100, SIZE_MOST = 1500, START_NS = 20000000, DRAIN_NS = 50000000 };
static const double offered_share = 1.25;
static const double delivered_target = 0.005;
static const uint64_t timing_target_ns = 1000000;

/* A queue whose datagrams come by a schedule, and an emulator around the fleet's that notes what passes. */
struct source {
    struct sl_queue queue; /* first */
    struct sl_emulator *emulator;
    struct bench_arrival *planned; /* at_ns: when it is to come */
    struct bench_arrival *came;    /* at_ns: when it came, by the clock that the emulator was given */
    uint64_t *fetched_ns;          /* [n]; 0: not yet */
    uint64_t n, next, n_came;
    uint64_t start_ns, end_ns;
    uint8_t (*memory)[SIZE_MOST];
    uint32_t *unused, n_unused;
    uint64_t no_buffer;
    struct bench_overcommit from, till;
    uint32_t over; /* atomic */
};

/* ---- the queue: what a port would bring ---- */

static struct source *source_of(struct sl_queue *q)
{
    return (struct source *)q;
}

static int enter(struct sl_queue *q, char *err, size_t cap)
{
    return 0;
}

static void leave(struct sl_queue *q)
{
}

static void watch(struct source *s, uint64_t since)
{
    if (s->from.at_ns == 0)
        bench_overcommit_look(&s->from);
    if (since > s->end_ns && s->till.at_ns == 0)
        bench_overcommit_look(&s->till);
    if (since > s->end_ns + DRAIN_NS)
        __atomic_store_n(&s->over, 1, __ATOMIC_RELEASE);
}

static unsigned rx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct source *s = source_of(q);
    uint64_t now = sl_clock_ns();
    unsigned got = 0;

    if (now < s->start_ns)
        return 0;
    watch(s, now - s->start_ns);
    while (got < n && s->next < s->n && s->planned[s->next].at_ns <= now - s->start_ns) {
        uint64_t i = s->next++;
        if (s->n_unused == 0) {
            s->no_buffer++;
            continue;
        }
        uint32_t slot = s->unused[--s->n_unused];
        d[got++] = (struct sl_dgram){.data = s->memory[slot],
            .len = (uint16_t)(s->planned[i].bytes - SL_LINK_IP_UDP_BYTES),
            .buffer = (void *)(uintptr_t)slot,
            .src = {.port = 1},
            .dst = {.ip = {[10] = 0xff, [11] = 0xff, 10, 77, 1, 1}, .port = SL_PHONE_PORT}};
    }
    return got;
}

static unsigned alloc(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return 0;
}

static unsigned tx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return 0;
}

static void give_back(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct source *s = source_of(q);

    for (unsigned i = 0; i < n; i++)
        s->unused[s->n_unused++] = (uint32_t)(uintptr_t)d[i].buffer;
}

static bool rests(struct sl_queue *q)
{
    return false;
}

/* Till the next one is to come, as a port that wakes on receipt would. */
static void nap(struct sl_queue *q, uint64_t ns)
{
    struct source *s = source_of(q);
    uint64_t since = sl_clock_ns() - s->start_ns,
             next = s->next < s->n ? s->planned[s->next].at_ns : s->end_ns;

    if (next <= since)
        return;
    ns = next - since < ns ? next - since : ns;
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

static const struct sl_port_ops queue_ops = {.enter = enter,
    .leave = leave,
    .rx = rx,
    .alloc = alloc,
    .tx = tx,
    .free = give_back,
    .rests = rests,
    .sleep = nap};

/* ---- the emulator, with notes ---- */

static void down(void *ctx, struct sl_dgram *d, unsigned n, uint64_t now_ns)
{
    struct source *s = ctx;

    if (now_ns < s->start_ns) { /* this turn began before the run did: its packets come once more */
        s->next -= n;
        sl_queue_free(&s->queue, d, n);
        return;
    }
    for (unsigned k = 0; k < n; k++) {
        memcpy(d[k].data, &s->n_came, sizeof(s->n_came)); /* its name from here on */
        s->came[s->n_came++] = (struct bench_arrival){
            .at_ns = now_ns - s->start_ns, .bytes = d[k].len + (uint32_t)SL_LINK_IP_UDP_BYTES};
    }
    sl_fleet_emulator.down(s->emulator, d, n, now_ns);
}

static unsigned down_ready(void *ctx, struct sl_dgram *d, unsigned n, uint64_t now_ns)
{
    struct source *s = ctx;
    unsigned got = sl_fleet_emulator.down_ready(s->emulator, d, n, now_ns);
    uint64_t now = got > 0 ? sl_clock_ns() - s->start_ns : 0;

    for (unsigned k = 0; k < got; k++) {
        uint64_t i;
        memcpy(&i, d[k].data, sizeof(i));
        s->fetched_ns[i] = now;
    }
    return got;
}

static void up(void *ctx, struct sl_dgram *d, unsigned n, uint64_t now_ns)
{
    sl_fleet_emulator.up(((struct source *)ctx)->emulator, d, n, now_ns);
}

static unsigned up_ready(void *ctx, struct sl_dgram *d, unsigned n, uint64_t now_ns)
{
    return sl_fleet_emulator.up_ready(((struct source *)ctx)->emulator, d, n, now_ns);
}

static uint64_t deadline(void *ctx)
{
    return sl_fleet_emulator.deadline(((struct source *)ctx)->emulator);
}

static const struct sl_emulator_ops emulator_ops = {
    .up = up, .down = down, .up_ready = up_ready, .down_ready = down_ready, .deadline = deadline};

/* ---- the endpoint behind it: the packets are none of its own, it drops them by name ---- */

static void place(void *sink, struct sl_rx *const *r, unsigned n)
{
}
static void commit(void *sink, struct sl_rx *const *r, unsigned n, uint64_t ok_mask)
{
}
static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return NULL;
}
static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}
static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
}
static const struct sl_sink_ops sink_ops = {
    .place = place, .commit = commit, .source = source, .done = done, .frame = frame};

/* ---- a run ---- */

/* Poisson arrivals. */
static int plan(struct source *s, const struct bench_link_run *r, double mbps)
{
    double mean_bytes = r->packet != 0 ? (double)r->packet : (SIZE_LEAST + SIZE_MOST) / 2.0;
    double gap_ns = mean_bytes * 8e3 / mbps, at = 0;
    uint64_t key = sl_rng_key(1, "arrivals"), most = (uint64_t)(1.2 * r->seconds * 1e9 / gap_ns) + 1000;

    s->planned = calloc(most, sizeof(*s->planned));
    s->came = calloc(most, sizeof(*s->came));
    s->fetched_ns = calloc(most, sizeof(*s->fetched_ns));
    s->memory = calloc(UNDER_WAY, sizeof(*s->memory));
    s->unused = calloc(UNDER_WAY, sizeof(*s->unused));
    if (s->planned == NULL || s->came == NULL || s->fetched_ns == NULL || s->memory == NULL ||
        s->unused == NULL)
        return -ENOMEM;
    while (s->n < most && at < r->seconds * 1e9) {
        uint64_t u = sl_rng_u64(key, 2 * s->n);
        s->planned[s->n].at_ns = (uint64_t)at;
        s->planned[s->n].bytes =
            r->packet != 0
                ? (uint32_t)r->packet
                : SIZE_LEAST + (uint32_t)(sl_rng_u64(key, 2 * s->n + 1) % (SIZE_MOST - SIZE_LEAST + 1));
        at -= log((double)((u >> 11) + 1) * 0x1p-53) * gap_ns;
        s->n++;
    }
    for (uint32_t i = 0; i < UNDER_WAY; i++)
        s->unused[s->n_unused++] = i;
    s->end_ns = (uint64_t)(r->seconds * 1e9);
    return 0;
}

static const struct sl_phone_addresses addresses = {
    .first = {.ip = {[10] = 0xff, [11] = 0xff, 10, 77, 1, 1}, .port = SL_PHONE_PORT}};

static int open_emulator(
    struct source *s, const struct bench_link_run *r, const struct bench_link_model *m, char *err, size_t cap)
{
    if (r->experiment != NULL)
        return sl_phone_links_open(r->experiment, &addresses, UNDER_WAY, s->start_ns, &s->emulator, err, cap);
    struct sl_link_pair link = {
        .up = bench_link_model_from(m, s->start_ns), .down = bench_link_model_from(m, s->start_ns)};
    int ret = sl_emulator_create(&link, NULL, &addresses, 1, UNDER_WAY, 1, &s->emulator);
    if (ret != 0)
        snprintf(err, cap, "the emulator: %s", strerror(-ret));
    return ret;
}

static int emulate(
    struct source *s, const struct bench_link_run *r, const struct bench_link_model *m, char *err, size_t cap)
{
    struct sl_endpoint_config endpoint = {.max_sessions = 1, .max_sends = 1, .max_message_units = 1};
    struct sl_lcore_config lcore = {.queue = &s->queue,
        .poll = r->busy ? SL_POLL_BUSY : SL_POLL_ADAPTIVE,
        .emulator = &emulator_ops,
        .emulator_ctx = s,
        .cpu = -1};
    struct sl_lcore *running = NULL;

    s->queue.ops = &queue_ops;
    s->start_ns = sl_clock_ns() + START_NS;
    int ret = open_emulator(s, r, m, err, cap);
    if (ret == 0) {
        ret = sl_endpoint_create(&endpoint, &sink_ops, s, &lcore.endpoint);
        if (ret != 0)
            snprintf(err, cap, "the endpoint: %s", strerror(-ret));
    }
    if (ret == 0) {
        sl_emulator_bind(s->emulator, &s->queue);
        ret = sl_lcore_start(&lcore, &running, err, cap);
    }
    while (ret == 0 && __atomic_load_n(&s->over, __ATOMIC_ACQUIRE) == 0 && bench_sleep(0.25))
        bench_progress("link: %.0f of %.0f s", 1e-9 * (double)(sl_clock_ns() - s->start_ns), r->seconds);
    sl_lcore_stop(running);
    sl_emulator_free(s->emulator);
    sl_endpoint_free(lcore.endpoint);
    return ret;
}

/* ---- what came of it ---- */

struct figures {
    struct bench_sample error_ms, online_ms, offline_ms;
    uint64_t bytes, exact_bytes, packets, exact_packets, only_one;
};

static void compare(struct source *s, const struct bench_link_model *m, struct figures *f)
{
    /* Both sides are counted up to the same moment. */
    for (uint64_t i = 0; i < s->n_came; i++) {
        uint64_t due = s->came[i].due_ns, fetched = s->fetched_ns[i];
        bool online = fetched != 0 && fetched <= s->end_ns, offline = due != 0 && due <= s->end_ns;
        f->bytes += online ? s->came[i].bytes : 0;
        f->exact_bytes += offline ? s->came[i].bytes : 0;
        f->packets += online;
        f->exact_packets += offline;
        f->only_one += due != 0 && due + DRAIN_NS / 2 <= s->end_ns && fetched == 0;
        f->only_one += due == 0 && fetched != 0;
        if (due != 0 && fetched != 0)
            bench_sample_add(&f->error_ms, 1e-6 * fabs((double)fetched - (double)due));
        if (online)
            bench_sample_add(&f->online_ms, 1e-6 * (double)(fetched - s->came[i].at_ns - m->up.delay_ns));
        if (offline)
            bench_sample_add(&f->offline_ms, 1e-6 * (double)s->came[i].wait_ns);
    }
}

static void delays(cJSON *result, struct figures *f)
{
    cJSON *j = cJSON_AddObjectToObject(result, "queue_delay_ms"),
          *d = cJSON_AddObjectToObject(result, "queue_delay_difference_ms");

    cJSON_AddItemToObject(j, "online", bench_sample_json(&f->online_ms));
    cJSON_AddItemToObject(j, "exact", bench_sample_json(&f->offline_ms));
    cJSON_AddNumberToObject(
        d, "p50", bench_sample_median(&f->online_ms) - bench_sample_median(&f->offline_ms));
    cJSON_AddNumberToObject(
        d, "p99", bench_sample_quantile(&f->online_ms, 0.99) - bench_sample_quantile(&f->offline_ms, 0.99));
}

static void report(cJSON *result, struct source *s, const struct bench_link_model *m, struct figures *f)
{
    double ratio = f->exact_bytes > 0 ? (double)f->bytes / (double)f->exact_bytes : 0;
    double capacity = m->queue != NULL ? bench_link_model_capacity(m, 0, s->end_ns - m->up.delay_ns) : 0;

    cJSON_AddNumberToObject(result, "offered_packets", (double)s->n_came);
    cJSON_AddNumberToObject(result, "no_buffer", (double)s->no_buffer);
    cJSON_AddNumberToObject(result, "delivered_packets", (double)f->packets);
    cJSON_AddNumberToObject(result, "delivered_bytes", (double)f->bytes);
    cJSON_AddNumberToObject(result, "exact_packets", (double)f->exact_packets);
    cJSON_AddNumberToObject(result, "exact_bytes", (double)f->exact_bytes);
    cJSON_AddNumberToObject(result, "delivered_ratio", ratio);
    if (capacity > 0)
        cJSON_AddNumberToObject(result, "exact_of_capacity", (double)f->exact_bytes / capacity);
    cJSON_AddNumberToObject(result, "different_fate", (double)f->only_one);
    cJSON_AddItemToObject(result, "timing_error_ms", bench_sample_json(&f->error_ms));
    delays(result, f);
    cJSON *over = cJSON_AddObjectToObject(result, "emulator");
    bool bad = bench_overcommit_json(over, &s->from, &s->till);
    cJSON_AddBoolToObject(result, "overcommitted", bad);
    cJSON *t = cJSON_AddObjectToObject(result, "target");
    double difference =
        bench_sample_quantile(&f->online_ms, 0.99) - bench_sample_quantile(&f->offline_ms, 0.99);
    cJSON_AddBoolToObject(t, "delivered_within_half_a_percent", fabs(ratio - 1) < delivered_target);
    cJSON_AddBoolToObject(t, "timing_error_p99_under_1_ms",
        bench_sample_quantile(&f->error_ms, 0.99) < 1e-6 * (double)timing_target_ns);
    cJSON_AddBoolToObject(
        t, "queue_delay_p99_within_1_ms", fabs(difference) < 1e-6 * (double)timing_target_ns);
}

static void source_free(struct source *s)
{
    free(s->planned);
    free(s->came);
    free(s->fetched_ns);
    free(s->memory);
    free(s->unused);
}

int bench_link_run(
    const struct bench_link_run *r, const struct bench_link_model *m, cJSON *result, char *err, size_t cap)
{
    struct source s = {0};
    struct figures f = {0};
    double mean = r->experiment == NULL
                      ? bench_link_model_mean_mbps(m)
                      : bench_link_virtual_mbps(r->experiment, &addresses, sl_clock_ns(), r->seconds);
    double mbps = r->offered_mbps > 0 ? r->offered_mbps : offered_share * mean;
    if (!(mbps > 0)) {
        snprintf(err, cap, "what this link carries depends on its cell: give --offered MBIT/S");
        return BENCH_FAILED;
    }
    int ret = plan(&s, r, mbps);

    cJSON_AddNumberToObject(result, "offered_mbps", mbps);
    if (ret == 0)
        ret = emulate(&s, r, m, err, cap);
    else
        snprintf(err, cap, "out of memory");
    if (ret == 0) {
        ret = r->experiment == NULL
                  ? bench_link_exact(m, s.came, s.n_came)
                  : bench_link_virtual(r->experiment, &addresses, s.start_ns, s.came, s.n_came, err, cap);
        ret |= bench_sample_init(&f.error_ms, s.n) | bench_sample_init(&f.online_ms, s.n) |
               bench_sample_init(&f.offline_ms, s.n);
        if (ret == 0) {
            compare(&s, m, &f);
            report(result, &s, m, &f);
        }
        bench_sample_free(&f.error_ms);
        bench_sample_free(&f.online_ms);
        bench_sample_free(&f.offline_ms);
    }
    source_free(&s);
    return ret == 0 ? BENCH_OK : BENCH_FAILED;
}
