/* sluice-bench latency: round trips through the data path at several loads, beside a bare ping-pong and the
 * kernel's UDP. */
#include "tests/bench/latency.h"

#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <stdio.h>
#include <string.h>

enum {
    LARGE_ROWS = 192 * 1024 / SL_UNIT_BYTES, /* 192 KiB */
    ROUNDS_MAX = 32,
    IN_FLIGHT = 8,
    URING_RATE = 10000,
    START_S = 40, /* for two processes to come up on a busy host */
};
static const double loads[] = {0.1, 0.5, 0.8, 0.95};
enum { N_LOADS = sizeof(loads) / sizeof(loads[0]) };

static const char *backend = "memif";
static const char *const backends[] = {"memif", "uring_udp", NULL};
static uint64_t payload = 1400, rounds = 5, key_update_packets;
static double rate, seconds = 0.5;
static bool poisson, no_peers, no_loads;

static const struct bench_option options[] = {
    {"backend", BENCH_TEXT, &backend, "NAME", "what moves the datagrams", 0, 0, backends},
    {"payload", BENCH_NUMBER, &payload, "BYTES", "of a one-fragment message, target ids included", 64, 1472,
        NULL},
    {"rate", BENCH_REAL, &rate, "N", "messages a second at low load; 0: a tenth of capacity", 0, 0, NULL},
    {"rounds", BENCH_NUMBER, &rounds, "N", "bare and full in turn, so often", 1, ROUNDS_MAX, NULL},
    {"seconds", BENCH_REAL, &seconds, "S", "each measurement", 0.01, 600, NULL},
    {"poisson", BENCH_FLAG, &poisson, NULL, "arrivals at random instead of evenly spaced", 0, 0, NULL},
    {"key-update-packets", BENCH_NUMBER, &key_update_packets, "N",
        "measure again with a key update every N packets", 0, 0, NULL},
    {"no-loads", BENCH_FLAG, &no_loads, NULL, "low load only", 0, 0, NULL},
    {"no-peers", BENCH_FLAG, &no_peers, NULL, "leave the kernel's UDP out", 0, 0, NULL},
    {0},
};

struct bench {
    struct latency_full *full;
    struct latency_ping *ping;
    cJSON *result;
    char *err;
    size_t err_cap;
    enum latency_backend backend;
    uint32_t rows; /* of the small message */
    bool uncounted;
};

/* ---- one measurement ---- */

static int measure_full(struct bench *b, uint32_t rows, bool echo, double messages_per_s, uint64_t key_update)
{
    struct latency_full *f = b->full;
    memset(f, 0, sizeof(*f));
    f->backend = b->backend;
    f->rows = rows;
    f->n_units = latency_units(rows);
    f->echo = echo;
    f->poisson = poisson;
    f->in_flight = IN_FLIGHT;
    f->rate = messages_per_s;
    f->seconds = seconds;
    f->warm_up_seconds = seconds / 5;
    f->key_update_packets = key_update;
    sl_histogram_reset(&f->planned);
    sl_histogram_reset(&f->sent);
    sl_histogram_reset(&f->lag);
    return bench_twins_run(
        latency_full_side, latency_full_side, f, 2 * seconds + START_S, b->err, b->err_cap);
}

static int measure_ping(struct bench *b, bench_twin_fn side, bool blocking)
{
    struct latency_ping *p = b->ping;
    memset(p, 0, sizeof(*p));
    p->up_bytes = latency_units(b->rows) * SL_UNIT_BYTES;
    p->down_bytes = b->rows * SL_UNIT_BYTES;
    p->blocking = blocking;
    p->seconds = seconds;
    sl_histogram_reset(&p->rtt);
    int status = bench_twins_run(side, side, p, 2 * seconds + START_S, b->err, b->err_cap);
    if (status == BENCH_OK && p->wrong != 0) {
        snprintf(
            b->err, b->err_cap, "%llu of the bare packets had a wrong tag", (unsigned long long)p->wrong);
        return BENCH_FAILED;
    }
    return status;
}

static uint64_t quantile(const struct sl_histogram *h, double q)
{
    return sl_histogram_quantile(h, q);
}

/* The generator's own lateness counts as latency; where it is more than half of it, the figure says nothing
 * of the data path. */
static bool valid(const struct latency_full *f)
{
    return f->lag.count > 0 && 2 * quantile(&f->lag, 0.5) <= quantile(&f->planned, 0.5) &&
           2 * quantile(&f->lag, 0.99) <= quantile(&f->planned, 0.99);
}

static cJSON *histogram(cJSON *to, const char *name, const struct sl_histogram *h)
{
    cJSON *j = cJSON_AddObjectToObject(to, name);
    bench_histogram_add(j, h);
    return j;
}

static uint64_t drops_of(const struct sl_port_stats *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        n += s->drops[i];
    return n;
}

/* Datagrams of one direction: sent = received + dropped by name at either port + still in the ring. */
static cJSON *conservation(struct bench *b, const struct latency_full *f)
{
    cJSON *j = cJSON_CreateObject();
    for (unsigned from = 0; from < 2; from++) {
        const struct sl_endpoint_stats *tx = &f->endpoint[from], *rx = &f->endpoint[1 - from];
        uint64_t drops = 0;
        for (unsigned i = 0; i < SL_DROP_COUNT; i++)
            drops += rx->drops[i];
        bool whole = rx->packets_rx == rx->delivered_data + rx->delivered_frames + rx->scratch + drops;
        cJSON *d = cJSON_AddObjectToObject(j, from == 0 ? "up" : "down");
        cJSON_AddNumberToObject(d, "packets_sent", (double)tx->packets_tx);
        cJSON_AddNumberToObject(d, "packets_received", (double)rx->packets_rx);
        cJSON_AddNumberToObject(d, "retransmits", (double)tx->retransmits);
        cJSON_AddNumberToObject(d, "endpoint_drops", (double)drops);
        cJSON_AddNumberToObject(d, "port_drops", (double)(drops_of(&f->port[0]) + drops_of(&f->port[1])));
        b->uncounted |= !whole;
    }
    cJSON_AddNumberToObject(j, "messages_planned", (double)f->n_planned);
    cJSON_AddNumberToObject(j, "messages_done", (double)f->n_done);
    cJSON_AddNumberToObject(j, "messages_lost", (double)f->lost_steps);
    cJSON_AddNumberToObject(j, "messages_left", (double)(f->n_planned - f->n_done - f->lost_steps));
    return j;
}

static cJSON *full_json(struct bench *b, double load)
{
    const struct latency_full *f = b->full;
    cJSON *j = cJSON_CreateObject();
    if (load > 0)
        cJSON_AddNumberToObject(j, "load", load);
    cJSON_AddNumberToObject(j, "messages_per_s", f->rate);
    bench_histogram_add(j, &f->planned);
    cJSON_AddBoolToObject(j, "valid", valid(f));
    histogram(j, "since_sent", &f->sent);
    histogram(j, "generator_lag", &f->lag);
    cJSON_AddItemToObject(j, "counted", conservation(b, f));
    return j;
}

/* ---- capacity and loads of one size of message ---- */

static int measure_loads(struct bench *b, cJSON *to, uint32_t rows, bool echo, double *capacity)
{
    int status = measure_full(b, rows, echo, 0, 0);
    if (status != BENCH_OK)
        return status;
    *capacity = (double)b->full->planned.count / b->full->seconds;
    cJSON_AddNumberToObject(to, "message_bytes", latency_units(rows) * SL_UNIT_BYTES);
    cJSON_AddNumberToObject(to, "capacity_messages_per_s", *capacity);
    cJSON_AddNumberToObject(to, "capacity_gbps", *capacity * latency_units(rows) * SL_UNIT_BYTES * 8e-9);
    cJSON *list = cJSON_AddArrayToObject(to, "loads");
    for (unsigned i = 0; i < N_LOADS && !no_loads && !bench_stopping(); i++) {
        bench_progress("latency: %u-byte messages at %.0f %% of capacity",
            latency_units(rows) * SL_UNIT_BYTES, 100 * loads[i]);
        status = measure_full(b, rows, echo, loads[i] * *capacity, 0);
        if (status != BENCH_OK)
            return status;
        cJSON_AddItemToArray(list, full_json(b, loads[i]));
    }
    return BENCH_OK;
}

/* ---- bare and full in turn ---- */

struct series {
    struct bench_sample p50, p99, p999;
    uint64_t count;
};

static bool series_init(struct series *s)
{
    return bench_sample_init(&s->p50, ROUNDS_MAX) == 0 && bench_sample_init(&s->p99, ROUNDS_MAX) == 0 &&
           bench_sample_init(&s->p999, ROUNDS_MAX) == 0;
}

static void series_free(struct series *s)
{
    bench_sample_free(&s->p50);
    bench_sample_free(&s->p99);
    bench_sample_free(&s->p999);
}

static void series_add(struct series *s, const struct sl_histogram *h)
{
    bench_sample_add(&s->p50, (double)quantile(h, 0.5));
    bench_sample_add(&s->p99, (double)quantile(h, 0.99));
    bench_sample_add(&s->p999, (double)quantile(h, 0.999));
    s->count += h->count;
}

/* Medians over the rounds, and the rounds. */
static void series_json(cJSON *to, struct series *s)
{
    cJSON_AddNumberToObject(to, "count", (double)s->count);
    cJSON_AddNumberToObject(to, "p50_ns", bench_sample_median(&s->p50));
    cJSON_AddNumberToObject(to, "p99_ns", bench_sample_median(&s->p99));
    cJSON_AddNumberToObject(to, "p999_ns", bench_sample_median(&s->p999));
    cJSON *list = cJSON_AddObjectToObject(to, "rounds");
    cJSON_AddItemToObject(list, "p50_ns", bench_sample_json(&s->p50));
    cJSON_AddItemToObject(list, "p99_ns", bench_sample_json(&s->p99));
    cJSON_AddItemToObject(list, "p999_ns", bench_sample_json(&s->p999));
}

static void gate_json(cJSON *to, uint64_t passes, uint64_t pass_ns, uint64_t most_ns)
{
    cJSON *j = cJSON_AddObjectToObject(to, "gate"); /* memif's interrupt thread: dataplane/io/dpdk/gate.h */
    cJSON_AddNumberToObject(j, "passes", (double)passes);
    cJSON_AddNumberToObject(j, "mean_ns", passes > 0 ? (double)pass_ns / (double)passes : 0);
    cJSON_AddNumberToObject(j, "max_ns", (double)most_ns);
}

static int measure_rounds(struct bench *b, double low, struct series *full, struct series *bare)
{
    uint64_t passes = 0, pass_ns = 0, most = 0, invalid = 0;
    cJSON *counted = NULL;
    for (uint64_t i = 0; i < rounds && !bench_stopping(); i++) {
        bench_progress("latency: bare and full in turn, round %u of %u", (unsigned)i + 1, (unsigned)rounds);
        int status = measure_ping(b, latency_bare_side, false);
        if (status != BENCH_OK)
            return status;
        series_add(bare, &b->ping->rtt);
        status = measure_full(b, b->rows, true, low, 0);
        if (status != BENCH_OK)
            return status;
        series_add(full, &b->full->planned);
        invalid += !valid(b->full);
        for (unsigned e = 0; e < 2; e++) {
            passes += b->full->port[e].passes;
            pass_ns += b->full->port[e].pass_ns;
            most = b->full->port[e].pass_max_ns > most ? b->full->port[e].pass_max_ns : most;
        }
        cJSON_Delete(counted);
        counted = full_json(b, 0);
    }
    series_json(b->result, full);
    series_json(cJSON_AddObjectToObject(b->result, "bare"), bare);
    cJSON_AddNumberToObject(b->result, "invalid_rounds", (double)invalid);
    cJSON_AddBoolToObject(b->result, "valid", invalid == 0);
    if (counted != NULL)
        cJSON_AddItemToObject(b->result, "last_round", counted);
    gate_json(b->result, passes, pass_ns, most);
    return BENCH_OK;
}

/* ---- peers ---- */

/* A peer that the host cannot run is named, not a failure. */
static int measure_peer(struct bench *b, cJSON *peers, const char *name, bool blocking)
{
    cJSON *j = cJSON_AddObjectToObject(peers, name);
    bench_progress("latency: %s", name);
    int status = measure_ping(b, latency_kernel_udp_side, blocking);
    if (status == BENCH_SKIPPED) {
        cJSON_AddStringToObject(j, "skipped", b->err);
        return BENCH_OK;
    }
    if (status != BENCH_OK)
        return status;
    bench_histogram_add(j, &b->ping->rtt);
    cJSON_AddStringToObject(j, "over", "veth between two network namespaces, MTU 1500, the same cipher");
    return BENCH_OK;
}

/* The whole data path over our io_uring back end, at a rate that it carries with ease. */
static int measure_uring(struct bench *b, cJSON *peers, double low)
{
    cJSON *j = cJSON_AddObjectToObject(peers, "uring_udp");
    enum latency_backend was = b->backend;
    double gentle = low < URING_RATE ? low : URING_RATE;
    bench_progress("latency: uring_udp");
    b->backend = LATENCY_URING_UDP;
    int status = measure_full(b, b->rows, true, gentle, 0);
    b->backend = was;
    if (status == BENCH_SKIPPED) {
        cJSON_AddStringToObject(j, "skipped", b->err);
        return BENCH_OK;
    }
    if (status != BENCH_OK)
        return status;
    cJSON_AddNumberToObject(j, "messages_per_s", gentle);
    bench_histogram_add(j, &b->full->planned);
    cJSON_AddBoolToObject(j, "valid", valid(b->full));
    cJSON_AddStringToObject(j, "over", "veth between two network namespaces, MTU 1500: our whole data path");
    return BENCH_OK;
}

static void ratio(cJSON *to, const char *name, double a, double b)
{
    cJSON_AddNumberToObject(to, name, b > 0 ? a / b : 0);
}

static void judge(struct bench *b, struct series *full, struct series *bare, const cJSON *peers)
{
    double p50 = bench_sample_median(&full->p50), p99 = bench_sample_median(&full->p99);
    double bare50 = bench_sample_median(&bare->p50), bare99 = bench_sample_median(&bare->p99);
    const cJSON *spin = cJSON_GetObjectItem(peers, "kernel_udp_spin");
    const cJSON *k50 = cJSON_GetObjectItem(spin, "p50_ns"), *k99 = cJSON_GetObjectItem(spin, "p99_ns");
    cJSON *r = cJSON_AddObjectToObject(b->result, "ratio");
    ratio(r, "full_to_bare_p50", p50, bare50);
    ratio(r, "full_to_bare_p99", p99, bare99);
    ratio(r, "kernel_udp_spin_to_full_p50", k50 ? k50->valuedouble : 0, p50);
    ratio(r, "kernel_udp_spin_to_full_p99", k99 ? k99->valuedouble : 0, p99);
    cJSON *t = cJSON_AddObjectToObject(b->result, "target");
    cJSON_AddNumberToObject(t, "full_to_bare_at_most", 2);
    cJSON_AddNumberToObject(t, "kernel_udp_spin_to_full_at_least", 4);
    cJSON_AddBoolToObject(t, "bare_met", p50 <= 2 * bare50 && p99 <= 2 * bare99);
    if (k50 != NULL && k99 != NULL)
        cJSON_AddBoolToObject(t, "kernel_met", k50->valuedouble >= 4 * p50 && k99->valuedouble >= 4 * p99);
}

/* ---- key updates ---- */

/* The same load without and with the key changed every so many packets, in turn: no quantile may step (rules
 * T8). */
static int measure_key_updates(struct bench *b, double low)
{
    struct series side[2] = {0};
    uint64_t updates = 0;
    int status = series_init(&side[0]) && series_init(&side[1]) ? BENCH_OK : BENCH_FAILED;
    for (uint64_t i = 0; i < 2 * rounds && status == BENCH_OK && !bench_stopping(); i++) {
        bench_progress("latency: with and without key updates in turn");
        status = measure_full(b, b->rows, true, low, i % 2 ? key_update_packets : 0);
        series_add(&side[i % 2], &b->full->planned);
        updates += i % 2 ? b->full->endpoint[0].key_updates_tx + b->full->endpoint[1].key_updates_tx : 0;
    }
    if (status == BENCH_OK) {
        cJSON *j = cJSON_AddObjectToObject(b->result, "key_update");
        cJSON_AddNumberToObject(j, "every_packets", (double)key_update_packets);
        cJSON_AddNumberToObject(j, "updates", (double)updates);
        series_json(cJSON_AddObjectToObject(j, "without"), &side[0]);
        series_json(cJSON_AddObjectToObject(j, "with"), &side[1]);
        ratio(
            j, "with_over_without_p50", bench_sample_median(&side[1].p50), bench_sample_median(&side[0].p50));
        ratio(
            j, "with_over_without_p99", bench_sample_median(&side[1].p99), bench_sample_median(&side[0].p99));
        ratio(j, "with_over_without_p999", bench_sample_median(&side[1].p999),
            bench_sample_median(&side[0].p999));
    }
    series_free(&side[0]);
    series_free(&side[1]);
    return status;
}

static void through_trainer(cJSON *result)
{
    cJSON *j = cJSON_AddObjectToObject(result, "through_trainer");
    char text[128];
    snprintf(text, sizeof(text),
        "takes 3 cores (device, data lcore, trainer) to say anything; this process may use %u",
        bench_machine()->cpus_usable);
    cJSON_AddStringToObject(j, "skipped", text);
}

static int measure(struct bench *b)
{
    double capacity = 0;
    struct series full = {0}, bare = {0};
    int status = BENCH_FAILED;
    cJSON *peers = NULL;
    if (!series_init(&full) || !series_init(&bare))
        goto out;
    cJSON_AddStringToObject(b->result, "backend", backend);
    cJSON_AddNumberToObject(b->result, "message_bytes", latency_units(b->rows) * SL_UNIT_BYTES);
    cJSON_AddStringToObject(b->result, "arrivals", poisson ? "poisson" : "even");
    cJSON *small = cJSON_CreateObject(), *large = cJSON_CreateObject();
    status = measure_loads(b, small, b->rows, true, &capacity);
    double low = rate > 0 ? rate : capacity * loads[0];
    cJSON_AddNumberToObject(b->result, "low_load_messages_per_s", low);
    if (status == BENCH_OK)
        status = measure_rounds(b, low, &full, &bare);
    cJSON_AddItemToObject(b->result, "one_fragment", small);
    cJSON_AddItemToObject(b->result, "messages_192k", large);
    if (status == BENCH_OK && !bench_stopping())
        status = measure_loads(b, large, LARGE_ROWS, false, &capacity);
    if (status == BENCH_OK && key_update_packets > 0 && !bench_stopping())
        status = measure_key_updates(b, low);
    through_trainer(b->result);
    peers = cJSON_AddObjectToObject(b->result, "peers");
    if (status == BENCH_OK && !no_peers && !bench_stopping())
        status = measure_peer(b, peers, "kernel_udp_spin", false);
    if (status == BENCH_OK && !no_peers && !bench_stopping())
        status = measure_peer(b, peers, "kernel_udp_block", true);
    if (status == BENCH_OK && !no_peers && !bench_stopping())
        status = measure_uring(b, peers, low);
    judge(b, &full, &bare, peers);
out:
    series_free(&full);
    series_free(&bare);
    return status;
}

static int run(cJSON *result, char *err, size_t err_cap)
{
    struct bench b = {.result = result, .err = err, .err_cap = err_cap};
    b.full = bench_shared_map(sizeof(*b.full));
    b.ping = bench_shared_map(sizeof(*b.ping));
    b.backend = strcmp(backend, "memif") == 0 ? LATENCY_MEMIF : LATENCY_URING_UDP;
    b.rows = latency_rows((uint32_t)(payload / SL_UNIT_BYTES));
    int status = BENCH_FAILED;
    if (b.full != NULL && b.ping != NULL)
        status = measure(&b);
    else
        snprintf(err, err_cap, "out of memory");
    bench_shared_unmap(b.full, sizeof(*b.full));
    bench_shared_unmap(b.ping, sizeof(*b.ping));
    if (status == BENCH_OK && b.uncounted) {
        snprintf(err, err_cap, "an endpoint received packets that it neither delivered nor dropped by name");
        return BENCH_UNCOUNTED;
    }
    return status;
}

const struct bench_verb bench_latency = {
    .name = "latency",
    .summary = "round trips through the data path, at several loads",
    .about =
        "Two processes with a data lcore each. Latency counts from the planned send time (open loop); the\n"
        "generator's own lateness is generator_lag, and a run where it is more than half of the latency is\n"
        "not valid. A one-fragment message is opened into its slot, handed over, and its tensor sent back\n"
        "from the data lcore; a 192 KiB message ends with its RESULT. Capacity is measured first. Bare\n"
        "(memif, seal, open) and full take turns at low load; p50_ns, p99_ns and p999_ns are the medians of\n"
        "the rounds.\n",
    .examples = "  sluice-bench latency --json\n"
                "  sluice-bench latency --payload 128 --rounds 9\n"
                "  sluice-bench latency --rate 20000 --no-loads --no-peers\n",
    .options = options,
    .run = run,
};
