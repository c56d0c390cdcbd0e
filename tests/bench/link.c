/* sluice-bench link: whether the link emulator does what its model says, and what it is like to be a TCP
 * behind it. */
#include "tests/bench/link_run.h"
#include "tests/bench/link_tcp.h"
#include "tests/bench/verb.h"

#include <stdio.h>
#include <string.h>

static struct bench_link_model model = {.queue = "droptail", .queue_kib = 256, .rtt_ms = 40};
static struct bench_link_run online = {.seconds = 30};
static struct bench_link_tcp tcp = {.congestion = "cubic", .window = 128};
static const char *poll_mode = "adaptive", *trace = "", *radio = "";
static bool with_tcp;
static const char *const queues[] = {"droptail", "codel", "pie", "none", NULL};
static const char *const polls[] = {"adaptive", "busy", NULL};

static const struct bench_option options[] = {
    {"trace", BENCH_TEXT, &trace, "FILE", "Mahimahi's format: a 1500-byte opportunity a line, in ms", 0, 0,
        NULL},
    {"rate", BENCH_REAL, &model.rate_mbps, "MBIT/S", "instead of a trace: a constant rate", 0, 1e6, NULL},
    {"radio", BENCH_TEXT, &radio, "FILE", "instead: the link to phone 0 of an experiment file, with its cell",
        0, 0, NULL},
    {"seconds", BENCH_REAL, &online.seconds, "S", "how long", 0.1, 3600, NULL},
    {"offered", BENCH_REAL, &online.offered_mbps, "MBIT/S", "load; 0: 1.25 times the link's mean", 0, 1e6,
        NULL},
    {"packet", BENCH_NUMBER, &online.packet, "BYTES", "of IP; 0: 100 to 1500, mixed", 0, 1500, NULL},
    {"rtt-ms", BENCH_REAL, &model.rtt_ms, "MS", "propagation, both ways together", 0, 10000, NULL},
    {"queue", BENCH_TEXT, &model.queue, "KIND", "what the link's queue does", 0, 0, queues},
    {"queue-kib", BENCH_NUMBER, &model.queue_kib, "N", "its limit", 4, 1 << 20, NULL},
    {"queue-packets", BENCH_NUMBER, &model.queue_packets, "N", "its limit in packets instead", 0, 1 << 20,
        NULL},
    {"target-ms", BENCH_REAL, &model.target_ms, "MS", "CoDel's (0: 5) or PIE's (0: 15)", 0, 10000, NULL},
    {"interval-ms", BENCH_REAL, &model.interval_ms, "MS", "CoDel's (0: 100)", 0, 10000, NULL},
    {"poll", BENCH_TEXT, &poll_mode, "MODE", "of the data lcore", 0, 0, polls},
    {"tcp", BENCH_FLAG, &with_tcp, NULL, "the kernel's TCP and our transport through it instead", 0, 0, NULL},
    {"congestion", BENCH_TEXT, &tcp.congestion, "NAME", "with --tcp: the kernel's congestion control", 0, 0,
        NULL},
    {"window", BENCH_NUMBER, &tcp.window, "N", "with --tcp: our transport's window in packets", 1, 4096,
        NULL},
    {0},
};

/* The whole experiment is read; its links are made for phone 0 and the cells that it is in. */
static int run_experiment(cJSON *result, char *err, size_t err_cap)
{
    static struct sl_experiment e;

    if (*trace != '\0' || model.rate_mbps > 0 || with_tcp) {
        snprintf(err, err_cap, "--radio stands alone: it has its link from its file");
        return BENCH_FAILED;
    }
    if (sl_experiment_load(radio, &e, err, err_cap) != 0)
        return BENCH_FAILED;
    cJSON *j = cJSON_AddObjectToObject(result, "model");
    cJSON_AddStringToObject(j, "experiment", radio);
    cJSON_AddStringToObject(j, "class", e.fleet[0].name);
    cJSON_AddStringToObject(j, "exact", "the same model in virtual time");
    online.experiment = &e;
    model = (struct bench_link_model){.up.delay_ns = (uint64_t)(e.fleet[0].link.rtt_ms * 0.5e6)};
    return bench_link_run(&online, &model, result, err, err_cap);
}

static int run(cJSON *result, char *err, size_t err_cap)
{
    online.busy = strcmp(poll_mode, "busy") == 0;
    if (*radio != '\0')
        return run_experiment(result, err, err_cap);
    if (*trace != '\0')
        model.trace = trace;
    tcp.seconds = online.seconds;
    int status = bench_link_model_make(&model, err, err_cap) == 0 ? BENCH_OK : BENCH_FAILED;
    if (status == BENCH_OK) {
        bench_link_model_json(result, &model);
        status = with_tcp ? bench_link_tcp(&tcp, &model, result, err, err_cap)
                          : bench_link_run(&online, &model, result, err, err_cap);
    }
    bench_link_model_free(&model);
    return status;
}

const struct bench_verb bench_link_verb = {
    .name = "link",
    .summary = "the link emulator against its model; the kernel's TCP through it",
    .about = "Packets go through the fleet's emulator on a data lcore, in real time. Afterwards a plain "
             "simulation\n"
             "computes from the same arrivals what the model says: delivered_ratio compares bytes, "
             "timing_error_ms\n"
             "each packet's arrival, queue_delay_ms the distributions. exact_of_capacity: the model's own "
             "use of what\n"
             "the link offers. `overcommitted` marks figures taken while the lcore waited for a CPU.\n"
             "--radio takes the link of an experiment's phone 0: its cell, mobility, radio states, trace or "
             "rate; beside\n"
             "it stands the same model in virtual time.\n"
             "--tcp puts the emulator between two network namespaces with a tun device each: goodput, RTT "
             "and time in\n"
             "the queue of a kernel TCP stream and of our transport, one after the other over the same "
             "trace. It takes\n"
             "CAP_NET_ADMIN or user namespaces.\n",
    .examples = "  sluice-bench link --rate 50 --seconds 10 --json\n"
                "  sluice-bench link --trace Verizon-LTE-driving.up --queue codel\n"
                "  sluice-bench link --rate 20 --queue-kib 1024 --tcp --seconds 20\n",
    .options = options,
    .run = run,
};
