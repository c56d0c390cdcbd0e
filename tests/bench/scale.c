/* sluice-bench scale: thousands of devices joined over real TLS connections, and what their number costs. */
#include "tests/bench/scale.h"

#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "tests/crypto/certs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    OTHER_FILES = 256,
    LIMIT_S = 900,
    ACTIVE = 64,
    TARGET_SESSION_BYTES = 4096,
    TARGET_CONTROL_BYTES = 64 * 1024,
    LATE_MS = 100,
};

static uint64_t sessions = 10000, rounds = 5, heartbeat_ms = 5000;
static double seconds = 0.5;

static const struct bench_option options[] = {
    {"sessions", BENCH_NUMBER, &sessions, "N", "the most; 1, 10, 100, ... below it are measured too", 1,
        10000, NULL},
    {"rounds", BENCH_NUMBER, &rounds, "N", "10 sessions and all of them in turn, so often", 1,
        SCALE_ROUNDS_MAX, NULL},
    {"seconds", BENCH_REAL, &seconds, "S", "each measurement of the data path", 0.05, 60, NULL},
    {"heartbeat-ms", BENCH_NUMBER, &heartbeat_ms, "MS", "between two heartbeats of a device", 100, 60000,
        NULL},
    {0},
};

static void issue(struct certs *c, const char *name, const char *role)
{
    certs_issue(c, &(struct cert_spec){.file = name, .name = name, .role = role});
}

static struct certs *make_certificates(char *dir, size_t cap)
{
    struct certs *c = certs_create();
    char name[32];
    issue(c, "edge", "serverAuth");
    for (unsigned i = 0; i < SCALE_CERTIFICATES; i++) {
        snprintf(name, sizeof(name), "device-%05u", i);
        issue(c, name, "clientAuth");
    }
    snprintf(dir, cap, "%s", certs_path(c, "ca.pem"));
    *strrchr(dir, '/') = '\0';
    return c;
}

/* A connection takes a descriptor at either end. Returns how many sessions the limit allows. */
static uint64_t allowed(uint64_t wanted)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0)
        return wanted;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
    return l.rlim_cur >= wanted + OTHER_FILES ? wanted
           : l.rlim_cur > OTHER_FILES         ? l.rlim_cur - OTHER_FILES
                                              : 1;
}

/* 1, 10, 100, ... and the most itself. */
static void lay_out(struct scale_shared *sh, uint64_t most)
{
    for (uint64_t n = 1; n < most && sh->n_levels < SCALE_LEVELS - 1; n *= 10)
        sh->level_sessions[sh->n_levels++] = (uint32_t)n;
    sh->level_sessions[sh->n_levels++] = (uint32_t)most;
    sh->max_sessions = (uint32_t)most;
    sh->active = most < ACTIVE ? (uint32_t)most : ACTIVE;
    sh->rounds = (uint32_t)rounds;
    sh->seconds = seconds;
    sh->heartbeat_ms = (uint32_t)heartbeat_ms;
}

/* ---- results ---- */

static cJSON *part_json(const struct scale_part *p)
{
    cJSON *j = cJSON_CreateObject();
    double hz = (double)bench_tsc_hz();
    cJSON_AddNumberToObject(j, "sessions", p->sessions);
    cJSON_AddNumberToObject(j, "train", p->train);
    cJSON_AddNumberToObject(j, "train_seen_mean", p->train_mean);
    cJSON_AddNumberToObject(j, "cycles_per_packet", p->cycles_per_packet);
    double bytes = p->packets > 0 ? (double)p->bytes / (double)p->packets : 0;
    cJSON_AddNumberToObject(
        j, "gbps_per_core", p->cycles_per_packet > 0 ? bytes * 8e-9 * hz / p->cycles_per_packet : 0);
    cJSON_AddNumberToObject(j, "gbps", p->seconds > 0 ? (double)p->bytes * 8e-9 / p->seconds : 0);
    cJSON_AddNumberToObject(j, "packets", (double)p->packets);
    cJSON_AddNumberToObject(j, "packets_per_turn", p->packets_per_turn);
    cJSON_AddNumberToObject(j, "messages", (double)p->messages);
    return j;
}

static double median_of(const struct scale_shared *sh, uint32_t first, uint32_t sessions_of, uint32_t train,
    double (*value)(const struct scale_part *))
{
    struct bench_sample s;
    double median = 0;
    if (bench_sample_init(&s, SCALE_PARTS_MAX) != 0)
        return 0;
    for (uint32_t i = first; i < sh->n_parts; i++)
        if (sh->parts[i].sessions == sessions_of && sh->parts[i].train == train && sh->parts[i].packets > 0)
            bench_sample_add(&s, value(&sh->parts[i]));
    median = bench_sample_median(&s);
    bench_sample_free(&s);
    return median;
}

static double of_cycles(const struct scale_part *p)
{
    return p->cycles_per_packet > 0 ? 1 / p->cycles_per_packet : 0;
}

static double of_wall(const struct scale_part *p)
{
    return p->seconds > 0 ? (double)p->bytes / p->seconds : 0;
}

/* Throughput of all sessions over that of ten, trains alike; of the data lcore (its busy cycles), and by the
 * wall, where the sender may be the limit. */
static void ratios(cJSON *result, const struct scale_shared *sh)
{
    uint32_t first = 2 * sh->n_levels;
    cJSON *j = cJSON_AddObjectToObject(result, "throughput_of_all_over_10");
    if (sh->max_sessions <= 10) {
        cJSON_AddStringToObject(j, "skipped", "takes more than 10 sessions");
        return;
    }
    static const struct {
        const char *name;
        uint32_t train, base;
    } rows[] = {{"train_8", 8, 8}, {"train_1", 1, 1}, {"train_1_over_10_with_train_8", 1, 8}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cJSON *r = cJSON_AddObjectToObject(j, rows[i].name);
        double many = median_of(sh, first, sh->max_sessions, rows[i].train, of_cycles),
               ten = median_of(sh, first, 10, rows[i].base, of_cycles);
        cJSON_AddNumberToObject(r, "lcore", ten > 0 ? many / ten : 0);
        many = median_of(sh, first, sh->max_sessions, rows[i].train, of_wall);
        ten = median_of(sh, first, 10, rows[i].base, of_wall);
        cJSON_AddNumberToObject(r, "wall", ten > 0 ? many / ten : 0);
    }
}

static double number(const cJSON *j, const char *a, const char *b)
{
    const cJSON *n = cJSON_GetObjectItem(cJSON_GetObjectItem(j, a), b);
    return n != NULL ? n->valuedouble : 0;
}

/* What a connection takes: the difference between the first level and the last, divided. */
static double a_connection(const struct scale_shared *sh, unsigned side, bool resident)
{
    const struct scale_level *a = &sh->level[0], *b = &sh->level[sh->n_levels - 1];
    double n = (double)b->sessions - a->sessions;
    double bytes = resident ? (double)b->resident_bytes[side] - (double)a->resident_bytes[side]
                            : (double)b->heap_bytes[side] - (double)a->heap_bytes[side];
    return n > 0 ? bytes / n : 0;
}

static void memory(cJSON *result, const struct scale_shared *sh)
{
    cJSON *j = cJSON_AddObjectToObject(result, "memory");
    cJSON_AddNumberToObject(j, "transport_session_bytes", (double)sh->session_bytes);
    cJSON_AddNumberToObject(j, "ingest_session_bytes", (double)sh->ingest_session_bytes);
    cJSON_AddNumberToObject(
        j, "data_plane_session_bytes", (double)(sh->session_bytes + sh->ingest_session_bytes));
    cJSON_AddNumberToObject(j, "hot_session_bytes", (double)sh->hot_bytes);
    cJSON_AddNumberToObject(j, "edge_control_connection_bytes", a_connection(sh, 1, false));
    cJSON_AddNumberToObject(j, "edge_resident_bytes_a_device", a_connection(sh, 1, true));
    cJSON_AddNumberToObject(j, "device_control_connection_bytes", a_connection(sh, 0, false));
}

static void joining(cJSON *result, const struct scale_shared *sh)
{
    cJSON *list = cJSON_AddArrayToObject(result, "joins");
    for (uint32_t i = 0; i < sh->n_levels; i++) {
        const struct scale_level *l = &sh->level[i];
        uint32_t new = l->sessions - (i > 0 ? sh->level[i - 1].sessions : 0);
        cJSON *j = cJSON_CreateObject();
        cJSON_AddNumberToObject(j, "sessions", l->sessions);
        cJSON_AddNumberToObject(j, "joined", new);
        cJSON_AddNumberToObject(j, "seconds", l->join_s);
        cJSON_AddNumberToObject(j, "joins_per_s", l->join_s > 0 ? new / l->join_s : 0);
        cJSON_AddItemToArray(list, j);
    }
    bench_histogram_add(cJSON_AddObjectToObject(result, "join_time"), &sh->join);
    cJSON_AddNumberToObject(result, "certificates", SCALE_CERTIFICATES);
    cJSON *h = cJSON_AddObjectToObject(result, "heartbeat_lateness");
    cJSON_AddNumberToObject(h, "every_ms", sh->heartbeat_ms);
    cJSON_AddNumberToObject(h, "sent", (double)sh->beats_sent);
    cJSON_AddNumberToObject(h, "heard", (double)sh->beats_heard);
    bench_histogram_add(cJSON_AddObjectToObject(h, "while_joining"), &sh->beat_joining);
    bench_histogram_add(cJSON_AddObjectToObject(h, "otherwise"), &sh->beat_otherwise);
    bench_histogram_add(cJSON_AddObjectToObject(h, "of_which_devices_side"), &sh->beat_lag);
}

static uint64_t endpoint_drops(const struct sl_endpoint_stats *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < SL_DROP_COUNT; i++)
        n += s->drops[i];
    return n;
}

/* Returns whether something was lost under no name. */
static bool conservation(cJSON *result, const struct scale_shared *sh)
{
    const struct sl_endpoint_stats *d = &sh->endpoint[0], *e = &sh->endpoint[1];
    const struct sl_port_stats *pd = &sh->port_stats[0], *pe = &sh->port_stats[1];
    uint64_t named = endpoint_drops(e);
    cJSON *j = cJSON_AddObjectToObject(result, "counted");
    cJSON_AddNumberToObject(j, "packets_sent", (double)d->packets_tx);
    cJSON_AddNumberToObject(j, "packets_received", (double)e->packets_rx);
    cJSON_AddNumberToObject(j, "retransmits", (double)d->retransmits);
    cJSON_AddNumberToObject(j, "endpoint_drops", (double)named);
    cJSON *drops = cJSON_AddObjectToObject(j, "port_drops");
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        cJSON_AddNumberToObject(drops, sl_port_drop_name(i), (double)(pd->drops[i] + pe->drops[i]));
    cJSON_AddNumberToObject(j, "messages_asked", (double)sh->messages_asked);
    cJSON_AddNumberToObject(j, "messages_done", (double)sh->messages_done);
    cJSON_AddNumberToObject(j, "messages_lost", (double)sh->messages_lost);
    cJSON_AddNumberToObject(j, "messages_wrong", (double)sh->messages_wrong);
    cJSON_AddNumberToObject(j, "devices_joined", (double)sh->joined);
    cJSON_AddNumberToObject(j, "devices_refused", (double)sh->refused);
    return e->packets_rx != e->delivered_data + e->delivered_frames + e->scratch + named ||
           sh->messages_asked != sh->messages_done + sh->messages_lost || sh->messages_wrong != 0;
}

static void judge(cJSON *result, const struct scale_shared *sh)
{
    const cJSON *r = cJSON_GetObjectItem(result, "throughput_of_all_over_10");
    cJSON *t = cJSON_AddObjectToObject(result, "target");
    if (sh->max_sessions > 10) {
        cJSON_AddBoolToObject(t, "train_8_at_least_80_percent", number(r, "train_8", "lcore") >= 0.8);
        cJSON_AddBoolToObject(
            t, "train_1_at_least_50_percent", number(r, "train_1_over_10_with_train_8", "lcore") >= 0.5);
    }
    cJSON_AddBoolToObject(
        t, "data_plane_at_most_4_kib", sh->session_bytes + sh->ingest_session_bytes <= TARGET_SESSION_BYTES);
    cJSON_AddBoolToObject(t, "control_at_most_64_kib", a_connection(sh, 1, false) <= TARGET_CONTROL_BYTES);
    cJSON_AddBoolToObject(t, "heartbeats_within_100_ms_at_p99",
        sl_histogram_quantile(&sh->beat_joining, 0.99) <= LATE_MS * UINT64_C(1000000));
}

static int run(cJSON *result, char *err, size_t err_cap)
{
    struct scale_shared *sh = bench_shared_map(sizeof(*sh));
    if (sh == NULL) {
        snprintf(err, err_cap, "out of memory");
        return BENCH_FAILED;
    }
    uint64_t most = allowed(sessions);
    if (most < sessions) {
        char text[160];
        snprintf(text, sizeof(text), "%llu sessions take as many open files, and %llu are allowed: ulimit -n",
            (unsigned long long)sessions, (unsigned long long)most);
        cJSON_AddStringToObject(result, "skipped", text);
    }
    lay_out(sh, most);
    sl_histogram_reset(&sh->beat_joining);
    sl_histogram_reset(&sh->beat_otherwise);
    sl_histogram_reset(&sh->beat_lag);
    sl_histogram_reset(&sh->join);
    struct certs *c = make_certificates(sh->certificates, sizeof(sh->certificates));
    bench_progress("scale: %u devices join", sh->max_sessions);
    int status = bench_twins_run(scale_devices_side, scale_edge_side, sh, LIMIT_S, err, err_cap);
    certs_free(c);
    if (status == BENCH_OK) {
        cJSON *parts = cJSON_AddArrayToObject(result, "levels");
        for (uint32_t i = 0; i < sh->n_parts && i < 2 * sh->n_levels; i++)
            cJSON_AddItemToArray(parts, part_json(&sh->parts[i]));
        cJSON *turns = cJSON_AddArrayToObject(result, "in_turn");
        for (uint32_t i = 2 * sh->n_levels; i < sh->n_parts; i++)
            cJSON_AddItemToArray(turns, part_json(&sh->parts[i]));
        ratios(result, sh);
        memory(result, sh);
        joining(result, sh);
        judge(result, sh);
        if (conservation(result, sh)) {
            snprintf(err, err_cap, "see counted");
            status = BENCH_UNCOUNTED;
        }
    }
    bench_shared_unmap(sh, sizeof(*sh));
    return status;
}

const struct bench_verb bench_scale = {
    .name = "scale",
    .summary = "1 to 10,000 devices joined over TLS, 64 of them sending at a time",
    .about =
        "Devices in one process, the edge's control loop and data lcore in the other. Every device joins "
        "over\n"
        "a TLS 1.3 connection of its own (few certificates, taken in turn) and keeps its heartbeats. 64 of\n"
        "them are in mid-message at a time, messages of 192 KiB, sent in trains of 8 packets of one "
        "session,\n"
        "then in trains of one. At the end 10 sessions and all of them take turns.\n",
    .examples = "  sluice-bench scale --json\n"
                "  sluice-bench scale --sessions 100 --rounds 1 --seconds 0.1\n",
    .options = options,
    .run = run,
};
