/* sluice-bench overload: twice as many packets as the receiver can take. Nothing may be lost without a name,
 * and what is taken must not fall (receive livelock: Mogul and Ramakrishnan, "Eliminating receive livelock in
 * an interrupt-driven kernel", 1997). */
#include "dataplane/io/lcore/lcore.h"
#include "tests/bench/flood.h"
#include "tests/bench/machine.h"
#include "tests/bench/receiver.h"
#include "tests/bench/sender.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { POP = 32, RING_MOST = 1024, STEPS = 5, FLAT_BYTES = 1 << 20 };
static const double step_of_capacity[STEPS] = {0.5, 0.8, 1.0, 1.2, 1.5}, overload = 2.0;
static const double kept_least = 0.9, steps_share = 0.25, probe_share = 0.05;

static const char *backend = "memif";
static uint64_t payload = 1400, sessions = 16, slow = 20000;
static double seconds = 20;

static const struct bench_option options[] = {
    {"backend", BENCH_TEXT, &backend, "NAME", "what carries the packets", 0, 0, bench_backends},
    {"payload", BENCH_NUMBER, &payload, "BYTES", "tensor bytes in a packet, to the nearest 64", 64, 8896 + 31,
        NULL},
    {"sessions", BENCH_NUMBER, &sessions, "N", "devices", 1, BENCH_FLOOD_SESSIONS, NULL},
    {"slow", BENCH_NUMBER, &slow, "CYCLES", "what the receiver burns for each packet beside its work", 0, 1e9,
        NULL},
    {"seconds", BENCH_REAL, &seconds, "S", "how long, of which three quarters at twice the capacity", 0.2,
        3600, NULL},
    {0},
};

/* ---- the receiver's application, on the data lcore ---- */

struct slowed {
    struct bench_receiver *r;
    uint32_t answered[BENCH_FLOOD_SESSIONS]; /* as in shared->ended: how often a session was opened anew */
    /* A stream's last packets may still be in the ring: it is opened anew once as many packets came as a ring
     * holds, or none. */
    uint64_t taken, clear_at[BENCH_FLOOD_SESSIONS];
    uint64_t renewed;
    int status;
};

/* The stream's messages are asked for here: a REQUEST among packets of which half are lost would be lost,
 * too. */
static void grant_all(struct bench_lane *r, uint32_t session, uint64_t now)
{
    for (uint64_t step = 1; step <= BENCH_FLOOD_MESSAGES; step++) {
        struct sl_frame f = {.type = SL_FRAME_REQUEST, .request = bench_load_request(r->load, step)};
        sl_ingest_sink.frame(r->ingest, session, &f, now);
    }
}

static void open_anew(struct slowed *x, uint32_t session, uint64_t now)
{
    struct bench_lane *r = &x->r->lane[0];
    struct sl_session_config c = bench_load_session(r->load, BENCH_RECEIVER, session);
    sl_endpoint_close(r->endpoint, session);
    sl_ingest_session_closed(r->ingest, session);
    int err = sl_endpoint_open(r->endpoint, &c, now);
    if (err != 0)
        __atomic_store_n(&x->status, err, __ATOMIC_RELAXED);
    sl_ingest_session_opened(r->ingest, session, session);
    grant_all(r, session, now);
    x->renewed++;
}

static void poll(void *app, uint64_t now)
{
    struct slowed *x = app;
    struct bench_lane *r = &x->r->lane[0];
    struct bench_shared *s = x->r->pair->shared;
    uint32_t h[POP];
    unsigned n = sl_ring_spsc_pop(r->ready, h, POP);
    for (unsigned i = 0; i < n; i++)
        sl_slot_get(r->slots, h[i])->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
    r->consumed += n;
    x->taken += r->meter.rx;
    for (unsigned given = 0; given < n;)
        given += sl_ring_spsc_push(r->returned, h + given, n - given);
    for (uint32_t i = 0; i < r->load->sessions; i++) {
        uint32_t ended = __atomic_load_n(&s->ended[i], __ATOMIC_ACQUIRE);
        if (ended == x->answered[i]) {
            x->clear_at[i] = UINT64_MAX;
            continue;
        }
        if (x->clear_at[i] == UINT64_MAX)
            x->clear_at[i] = x->taken + RING_MOST;
        if (r->meter.rx != 0 && x->taken < x->clear_at[i])
            continue;
        open_anew(x, i, now);
        x->answered[i] = ended;
        __atomic_store_n(&s->reopened[i], ended, __ATOMIC_RELEASE);
    }
    sl_ingest_poll(r->ingest, now);
}

static uint64_t deadline(void *app)
{
    return sl_ingest_deadline(((struct slowed *)app)->r->lane[0].ingest);
}

static const struct sl_lcore_ops lcore_ops = {.poll = poll, .deadline = deadline};

/* ---- one rate ---- */

struct point {
    double offered_pps, taken_pps; /* given to the sender's port or refused by it; opened with a right tag */
    double cpu_share;              /* of a CPU that the receiver's threads were given */
    uint64_t tx_full;
};

static uint64_t taken(const struct bench_receiver *r)
{
    struct sl_endpoint_stats e;
    sl_endpoint_stats(r->lane[0].endpoint, &e);
    return e.delivered_data + e.delivered_frames + e.scratch;
}

/* Of this process without the calling thread: the data lcore, in the main. */
static double others_cpu_s(void)
{
    struct rusage all, own;
    getrusage(RUSAGE_SELF, &all);
    getrusage(RUSAGE_THREAD, &own);
    return (double)(all.ru_utime.tv_sec + all.ru_stime.tv_sec - own.ru_utime.tv_sec - own.ru_stime.tv_sec) +
           1e-6 * (double)(all.ru_utime.tv_usec + all.ru_stime.tv_usec - own.ru_utime.tv_usec -
                           own.ru_stime.tv_usec);
}

/* Numbers of the sender are those at the phase's end: a rate is over the whole phase. */
static int flood(struct slowed *n, double rate, double for_s, struct point *out, char *err, size_t cap)
{
    struct bench_receiver *r = n->r;
    struct bench_shared *s = r->pair->shared;
    uint64_t offered = s->offered, full = s->tx_full;
    s->rate = rate;
    int ret = bench_pair_ask(r->pair, BENCH_FLOOD);
    double cpu = others_cpu_s();
    uint64_t from = taken(r), t0 = bench_now_ns(), until = t0 + (uint64_t)(for_s * 1e9);
    while (ret == 0 && bench_now_ns() < until && bench_sleep(0.01))
        continue;
    uint64_t to = taken(r), t1 = bench_now_ns();
    cpu = others_cpu_s() - cpu;
    int idle = bench_pair_ask(r->pair, BENCH_IDLE);
    double took = 1e-9 * (double)(t1 - t0);
    out->taken_pps = (double)(to - from) / took;
    out->cpu_share = cpu / took;
    out->offered_pps = (double)(s->offered - offered) / took;
    out->tx_full = s->tx_full - full;
    bench_receiver_await_rest(r);
    ret = ret != 0 ? ret : idle;
    ret = ret != 0 ? ret : __atomic_load_n(&n->status, __ATOMIC_RELAXED);
    if (ret != 0 && ret != -EINTR)
        snprintf(err, cap, "%s",
            s->err[0] != '\0' ? s->err
            : ret == -ECHILD  ? "the sender died"
                              : strerror(-ret));
    return ret;
}

static cJSON *point_json(const struct point *p, double rate)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "asked_pps", rate);
    cJSON_AddNumberToObject(j, "offered_pps", p->offered_pps);
    cJSON_AddNumberToObject(j, "taken_pps", p->taken_pps);
    cJSON_AddNumberToObject(j, "cpu_share", p->cpu_share);
    cJSON_AddNumberToObject(j, "refused_by_the_full_ring", (double)p->tx_full);
    return j;
}

static double per_cpu(const struct point *p)
{
    return p->cpu_share > 0 ? p->taken_pps / p->cpu_share : 0;
}

static int climb(struct slowed *n, cJSON *result, char *err, size_t cap)
{
    struct point p;
    double peak = 0, peak_cpu = 0, each = seconds * steps_share / STEPS;
    double long_s = seconds * (1 - steps_share - probe_share);
    int ret = flood(n, 0, seconds * probe_share, &p, err, cap); /* as many as go: what can be taken */
    double capacity = p.taken_pps;
    if (ret == 0 && capacity <= 0) {
        snprintf(err, cap, "nothing was taken: the receiver had no CPU, or --slow is too much for --seconds");
        ret = -EAGAIN;
    }
    cJSON *steps = cJSON_AddArrayToObject(result, "steps");
    for (unsigned i = 0; i < STEPS && ret == 0; i++) {
        bench_progress("overload: %.1f times the capacity of %.0f packets/s", step_of_capacity[i], capacity);
        ret = flood(n, capacity * step_of_capacity[i], each, &p, err, cap);
        peak = p.taken_pps > peak ? p.taken_pps : peak;
        peak_cpu = per_cpu(&p) > peak_cpu ? per_cpu(&p) : peak_cpu;
        cJSON_AddItemToArray(steps, point_json(&p, capacity * step_of_capacity[i]));
    }
    bench_progress(
        "overload: %.1f times the capacity of %.0f packets/s for %.0f s", overload, capacity, long_s);
    if (ret == 0)
        ret = flood(n, peak * overload, long_s / 3, &p, err, cap);
    uint64_t resident = bench_resident_bytes(), sender_resident = n->r->pair->shared->resident_bytes;
    if (ret == 0)
        ret = flood(n, peak * overload, long_s * 2 / 3, &p, err, cap);
    double kept = peak > 0 ? p.taken_pps / peak : 0;
    double grown = (double)bench_resident_bytes() - (double)resident;
    double sender_grown = (double)n->r->pair->shared->resident_bytes - (double)sender_resident;
    cJSON_AddItemToObject(result, "overload", point_json(&p, peak * overload));
    cJSON_AddNumberToObject(result, "peak_pps", peak);
    cJSON_AddNumberToObject(result, "taken_over_peak", kept);
    /* what remains of the ratio where others took part of the receiver's CPU */
    cJSON_AddNumberToObject(
        result, "taken_over_peak_per_cpu_second", peak_cpu > 0 ? per_cpu(&p) / peak_cpu : 0);
    cJSON_AddNumberToObject(result, "offered_over_peak", peak > 0 ? p.offered_pps / peak : 0);
    cJSON_AddNumberToObject(result, "memory_growth_bytes", grown);
    cJSON_AddNumberToObject(result, "sender_memory_growth_bytes", sender_grown);
    cJSON_AddNumberToObject(result, "sessions_opened_anew", (double)n->renewed);
    cJSON *t = cJSON_AddObjectToObject(result, "targets"), *j = cJSON_AddObjectToObject(t, "taken_over_peak");
    cJSON_AddNumberToObject(j, "is", kept);
    cJSON_AddNumberToObject(j, "at_least", kept_least);
    cJSON_AddBoolToObject(j, "met", kept >= kept_least);
    j = cJSON_AddObjectToObject(t, "memory_flat");
    cJSON_AddNumberToObject(j, "is", grown);
    cJSON_AddNumberToObject(j, "at_most", FLAT_BYTES);
    cJSON_AddBoolToObject(j, "met", grown <= FLAT_BYTES);
    return ret;
}

static int measure(struct bench_receiver *r, cJSON *result, char *err, size_t cap)
{
    struct slowed x = {.r = r};
    struct bench_lane *l = &r->lane[0];
    struct sl_lcore *lcore;
    struct sl_lcore_config c = {.queue = &l->meter.queue,
        .endpoint = l->endpoint,
        .poll = SL_POLL_BUSY,
        .ops = &lcore_ops,
        .app = &x,
        .cpu = l->cpu};
    l->meter.slow = slow;
    l->meter.gather = 0;
    bench_meter_begin(&l->meter);
    for (uint32_t i = 0; i < r->load->sessions; i++)
        grant_all(l, i, bench_now_ns());
    if (sl_lcore_start(&c, &lcore, err, cap) != 0)
        return BENCH_FAILED;
    int ret = climb(&x, result, err, cap);
    sl_lcore_stop(lcore);
    cJSON_AddNumberToObject(result, "slow_cycles_per_packet", (double)slow);
    uint64_t uncounted = bench_receiver_account(r, result);
    struct sl_ingest_stats s;
    sl_ingest_stats(l->ingest, &s);
    cJSON *slots = cJSON_AddObjectToObject(result, "slots");
    uint64_t left = s.ready + s.grants_expired + s.grants_cancelled + s.grants_outstanding;
    cJSON_AddNumberToObject(slots, "granted", (double)s.granted);
    cJSON_AddNumberToObject(slots, "ready", (double)s.ready);
    cJSON_AddNumberToObject(slots, "expired", (double)s.grants_expired);
    cJSON_AddNumberToObject(slots, "cancelled", (double)s.grants_cancelled);
    cJSON_AddNumberToObject(slots, "outstanding", (double)s.grants_outstanding);
    uncounted += s.granted > left ? s.granted - left : left - s.granted;
    if (bench_stopping())
        return BENCH_STOPPED;
    if (ret != 0)
        return BENCH_FAILED;
    if (uncounted != 0)
        snprintf(err, cap, "%llu packets or slots", (unsigned long long)uncounted);
    return uncounted != 0 ? BENCH_UNCOUNTED : BENCH_OK;
}

static int run(cJSON *result, char *err, size_t cap)
{
    struct bench_load l = {.link.backend = backend,
        .sessions = (uint32_t)sessions,
        .slots = (uint32_t)sessions * BENCH_FLOOD_MESSAGES,
        .grants_per_session = BENCH_FLOOD_MESSAGES,
        .codec = SL_CODEC_BF16};
    return bench_receiver_run(&l, payload, measure, result, err, cap);
}

const struct bench_verb bench_overload = {
    .name = "overload",
    .summary = "twice as many packets as the receiver can take: what becomes of them",
    .about = "The receiver is slowed by --slow cycles for each packet; the sender has sealed its packets "
             "beforehand. A climb\n"
             "finds the peak, then twice the peak is offered. A full ring at the sender is a named drop.\n",
    .examples = "  sluice-bench overload\n"
                "  sluice-bench overload --seconds 60 --slow 5000 --json\n",
    .options = options,
    .run = run,
};
