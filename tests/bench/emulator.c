/* sluice-bench emulator: what a packet costs the link engine, on a clock of its own. */
#include "device-sim/link/link.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD = 1400, UNDER_WAY = 1 << 18, ROUNDS = 10, TRACE_MS = 1000, STEPS = 60 };
static const uint64_t turn_ns = 100000; /* of modelled time: what a busy data lcore's turn is about */
static const uint64_t delay_ns = 20000000;
static const double rate_bps = 20e6, step_s = 1;

static double seconds = 5;
static uint64_t n_links = 10000, pps = 200000, train = 1;
static const char *service = "rate", *queue = "droptail";
static const char *const services[] = {"rate", "trace", "series", NULL};
static const char *const queues[] = {"droptail", "codel", "pie", "none", NULL};

static const struct bench_option options[] = {
    {"seconds", BENCH_REAL, &seconds, "S", "how long", 0.1, 3600, NULL},
    {"links", BENCH_NUMBER, &n_links, "N", "", 1, 1 << 20, NULL},
    {"pps", BENCH_NUMBER, &pps, "N", "packets a modelled second, all links together", 1000, 100000000, NULL},
    {"train", BENCH_NUMBER, &train, "N", "packets that come to a link at once", 1, 10000, NULL},
    {"service", BENCH_TEXT, &service, "KIND", "20 Mbit/s as a constant rate, a trace, a series of steps", 0,
        0, services},
    {"queue", BENCH_TEXT, &queue, "KIND", "256 KiB each", 0, 0, queues},
    {0},
};

/* 20 Mbit/s on average: 5 opportunities every 3 ms; steps of 10, 20 and 30 Mbit/s. */
static uint32_t at_ms[TRACE_MS * 3 * 5 / 3];
static uint64_t at_ns[STEPS + 1];
static double step_bps[STEPS + 1];
static struct sl_trace trace = {at_ms, sizeof(at_ms) / sizeof(at_ms[0])};
static struct sl_series series = {at_ns, step_bps, STEPS + 1};

static struct sl_service_params service_of(uint32_t link)
{
    uint64_t phase_ns = sl_rng_u64(2, link) % UINT64_C(1000000000);

    if (strcmp(service, "trace") == 0)
        return (struct sl_service_params){
            .kind = SL_SERVICE_TRACE, .trace = &trace, .phase_ns = phase_ns / 1000000 * 1000000};
    if (strcmp(service, "series") == 0)
        return (struct sl_service_params){
            .kind = SL_SERVICE_SERIES, .series = &series, .phase_ns = phase_ns * STEPS};
    return (struct sl_service_params){.kind = SL_SERVICE_RATE, .rate_bps = rate_bps};
}

static void make_records(void)
{
    for (uint32_t i = 0; i < trace.n; i++)
        at_ms[i] = i / 5 * 3 + 3;
    for (uint32_t i = 0; i <= STEPS; i++) {
        at_ns[i] = (uint64_t)(i * step_s * 1e9);
        step_bps[i] = (1 + i % 3) * rate_bps / 2;
    }
}

static int make_links(struct sl_links **out)
{
    struct sl_link_params p = {
        .queue = {.bytes = 256 << 10}, .delay_ns = delay_ns, .impairment.loss.good = 0.001};
    int rc = sl_links_create((uint32_t)n_links, UNDER_WAY, out);

    while (strcmp(queues[p.queue.kind], queue) != 0)
        p.queue.kind++;
    for (uint32_t i = 0; i < n_links && rc == 0; i++) {
        p.service = service_of(i);
        rc = sl_links_set(*out, i, &p, sl_rng_u64(1, i));
    }
    return rc;
}

struct load {
    struct sl_links *links;
    uint64_t now_ns, owed; /* modelled time; packets times 1e9 */
    uint64_t drawn, offered, fetched;
};

/* Of this thread's own processor time, so that others on the host cost it their caches only. */
static uint64_t own_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Offers what has come due and fetches what has arrived, turn by turn, for so much of own_ns. */
static uint64_t turn_for(struct load *l, uint64_t ns)
{
    uint64_t start = own_ns(), now = start;
    struct sl_link_out out;

    while ((now = own_ns()) - start < ns) {
        for (int k = 0; k < 32; k++) {
            l->now_ns += turn_ns;
            for (l->owed += pps * turn_ns; l->owed >= train * UINT64_C(1000000000);
                 l->owed -= train * UINT64_C(1000000000)) {
                uint32_t link = (uint32_t)(sl_rng_u64(3, l->drawn++) % n_links);
                for (uint64_t i = 0; i < train; i++)
                    sl_links_offer(l->links, link, (uint32_t)i, PAYLOAD, l->now_ns);
                l->offered += train;
            }
            while (sl_link_next(l->links, l->now_ns, &out))
                l->fetched++;
        }
    }
    return now - start;
}

static int run(cJSON *result, char *err, size_t cap)
{
    struct load l = {.now_ns = 1000000000};
    struct sl_link_stats st;
    uint64_t delivered = 0, dropped = 0, no_room = 0;
    struct bench_sample ns;

    make_records();
    int rc = bench_sample_init(&ns, ROUNDS);
    if (rc == 0)
        rc = make_links(&l.links);
    if (rc != 0) {
        snprintf(err, cap, "links: %s", strerror(-rc));
        return BENCH_FAILED;
    }
    turn_for(&l, (uint64_t)(seconds * 1e8)); /* until packets are under way as later on, and memory is warm */
    for (int i = 0; i < ROUNDS && !bench_stopping(); i++) {
        uint64_t before = l.offered, took = turn_for(&l, (uint64_t)(seconds * 1e9 / ROUNDS));
        bench_sample_add(&ns, (double)took / (double)(l.offered - before));
        bench_progress("emulator: %llu packets", (unsigned long long)l.offered);
    }
    for (uint32_t i = 0; i < n_links; i++) {
        sl_links_stats(l.links, i, &st);
        delivered += st.delivered;
        no_room += st.drops[SL_LINK_NO_ROOM];
        for (int v = 1; v < SL_LINK_VERDICT_COUNT; v++)
            dropped += st.drops[v];
    }
    double ns_a_packet = bench_sample_median(&ns);
    cJSON_AddNumberToObject(result, "ns_per_packet", ns_a_packet);
    cJSON_AddItemToObject(result, "ns_per_packet_rounds", bench_sample_json(&ns));
    cJSON_AddNumberToObject(result, "packets_per_s", 1e9 / ns_a_packet);
    cJSON_AddNumberToObject(result, "share_of_core", ns_a_packet * (double)pps / 1e9);
    cJSON_AddNumberToObject(result, "offered", (double)l.offered);
    cJSON_AddNumberToObject(result, "delivered", (double)delivered);
    cJSON_AddNumberToObject(result, "dropped", (double)dropped);
    cJSON_AddNumberToObject(result, "no_room", (double)no_room);
    uint32_t handle;
    uint64_t under_way = 0;
    while (sl_links_evict(l.links, &handle))
        under_way++;
    cJSON_AddNumberToObject(result, "under_way", (double)under_way);
    sl_links_free(l.links);
    bench_sample_free(&ns);
    snprintf(err, cap, "%llu packets offered, %llu accounted for", (unsigned long long)l.offered,
        (unsigned long long)(delivered + dropped + under_way));
    return l.offered == delivered + dropped + under_way ? BENCH_OK : BENCH_UNCOUNTED;
}

const struct bench_verb bench_emulator = {
    .name = "emulator",
    .summary = "what a packet costs the link engine",
    .about = "One thread, 10,000 links of 20 Mbit/s and 20 ms, packets of 1400 bytes to links at random; "
             "time is the\n"
             "model's own and goes as fast as it can. A packet's cost is processor time, and holds all of "
             "its way: offered, queued, "
             "served,\n"
             "lost or delayed, fetched. share_of_core: of one core, at --pps in real time.\n",
    .examples = "  sluice-bench emulator\n"
                "  sluice-bench emulator --service trace --train 140 --json\n",
    .options = options,
    .run = run,
};
