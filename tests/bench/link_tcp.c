#include "tests/bench/link_tcp.h"

#include "tests/bench/link_flow.h"
#include "tests/bench/link_tun.h"
#include "tests/bench/machine.h"
#include "tests/bench/overcommit.h"
#include "tests/bench/tun.h"
#include "tests/bench/twins.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MTU = 1500, LOOK_MS = 20 };
/* TCP's slow start, and its window's tuning, are over after that share of the time, at least two seconds. */
static const double warm_up_share = 0.2, warm_up_least_s = 2;

struct outcome {
    int status;
    char err[256];
    double goodput_mbps, capacity_mbps;
    struct sl_histogram rtt, queue;
    double sent_again;
    bool overcommitted;
    char json[2048]; /* links and overcommit */
};

static void wait_and_look(
    struct bench_flow *f, struct bench_tun_bridge *b, uint64_t until, struct sl_histogram *rtt)
{
    while (bench_now_ns() < until && !bench_flow_over(f) && !bench_stopping()) {
        uint64_t next = bench_now_ns() + LOOK_MS * UINT64_C(1000000);
        bench_tun_bridge_run(b, next < until ? next : until);
        uint64_t ns = __atomic_load_n(&f->rtt_ns, __ATOMIC_ACQUIRE);
        if (rtt != NULL && ns != 0)
            sl_histogram_record(rtt, ns);
    }
}

static void report(struct outcome *o, const struct bench_tun_bridge *b, const struct bench_overcommit *from)
{
    struct bench_overcommit till;
    cJSON *j = cJSON_CreateObject();

    bench_overcommit_look(&till);
    bench_tun_bridge_json(cJSON_AddObjectToObject(j, "links"), b);
    o->overcommitted = bench_overcommit_json(cJSON_AddObjectToObject(j, "emulator"), from, &till);
    cJSON_PrintPreallocated(j, o->json, sizeof(o->json), false);
    cJSON_Delete(j);
}

/* The bridge is made anew for each flow, so that its clock and its queue begin where the other's did. */
static void measure(
    const struct bench_link_tcp *t, const struct bench_link_model *m, struct bench_flow *f, struct outcome *o)
{
    struct bench_tun_bridge *b = NULL;
    struct bench_overcommit from;

    o->status = BENCH_FAILED;
    if (bench_tun_prepare(o->err, sizeof(o->err)) != 0) {
        o->status = BENCH_SKIPPED;
        return;
    }
    int ret = bench_flow_start(f);
    if (ret != 0) {
        o->status = ret == -EPERM || ret == -EACCES || ret == -ENOSYS ? BENCH_SKIPPED : BENCH_FAILED;
        snprintf(o->err, sizeof(o->err), "%s", f->err);
        return;
    }
    ret = bench_tun_bridge_create(m, MTU, f->tun, &b);
    if (ret != 0) {
        snprintf(o->err, sizeof(o->err), "the emulator: %s", strerror(-ret));
        bench_flow_stop(f);
        return;
    }
    double warm = warm_up_share * t->seconds > warm_up_least_s ? warm_up_share * t->seconds : warm_up_least_s;
    uint64_t begin = bench_now_ns() + (uint64_t)(warm * 1e9), end = begin + (uint64_t)(t->seconds * 1e9);
    wait_and_look(f, b, begin, NULL);
    uint64_t before = __atomic_load_n(&f->received, __ATOMIC_ACQUIRE), again = f->sent_again;
    bench_tun_bridge_mark(b);
    bench_overcommit_look(&from);
    begin = bench_now_ns();
    wait_and_look(f, b, end, &o->rtt);
    double took = 1e-9 * (double)(bench_now_ns() - begin);
    uint64_t start = bench_tun_bridge_start(b);
    o->goodput_mbps = (double)(__atomic_load_n(&f->received, __ATOMIC_ACQUIRE) - before) * 8e-6 / took;
    o->capacity_mbps =
        bench_link_model_capacity(m, begin - start, begin - start + (uint64_t)(took * 1e9)) * 8e-6 / took;
    o->sent_again = (double)(f->sent_again - again);
    o->queue = *bench_tun_bridge_queue(b);
    report(o, b, &from);
    o->status = f->failed ? BENCH_FAILED : BENCH_OK;
    snprintf(o->err, sizeof(o->err), "%s", f->err);
    bench_flow_stop(f);
    bench_tun_bridge_free(b);
}

/* In a process of its own: a namespace is not left again, and a user namespace is entered without threads. */
static int run_alone(
    const struct bench_link_tcp *t, const struct bench_link_model *m, struct bench_flow *f, struct outcome *o)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        measure(t, m, f, o);
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        snprintf(o->err, sizeof(o->err), "the emulator's process did not end well");
        return BENCH_FAILED;
    }
    return o->status;
}

static void milliseconds(cJSON *to, const char *name, const struct sl_histogram *h)
{
    cJSON *j = cJSON_AddObjectToObject(to, name);

    cJSON_AddNumberToObject(j, "p50", 1e-6 * (double)sl_histogram_quantile(h, 0.5));
    cJSON_AddNumberToObject(j, "p99", 1e-6 * (double)sl_histogram_quantile(h, 0.99));
    cJSON_AddNumberToObject(j, "max", 1e-6 * (double)h->max);
}

static void outcome_json(cJSON *to, const char *name, const struct outcome *o)
{
    cJSON *parts = cJSON_Parse(o->json), *j = parts != NULL ? parts : cJSON_CreateObject();

    cJSON_AddItemToObject(to, name, j);
    cJSON_AddNumberToObject(j, "goodput_mbps", o->goodput_mbps);
    cJSON_AddNumberToObject(j, "capacity_mbps", o->capacity_mbps);
    cJSON_AddNumberToObject(
        j, "goodput_of_capacity", o->capacity_mbps > 0 ? o->goodput_mbps / o->capacity_mbps : 0);
    milliseconds(j, "smoothed_rtt_ms", &o->rtt);
    milliseconds(j, "queue_ms", &o->queue);
    cJSON_AddNumberToObject(j, "sent_again", o->sent_again);
}

int bench_link_tcp(
    const struct bench_link_tcp *t, const struct bench_link_model *m, cJSON *result, char *err, size_t cap)
{
    static const char *const names[] = {"kernel_tcp", "sluice"};
    struct outcome *o = bench_shared_map(2 * sizeof(*o));
    int status = o != NULL ? BENCH_OK : BENCH_FAILED;
    bool over = false;

    cJSON_AddStringToObject(result, "congestion", t->congestion);
    cJSON_AddNumberToObject(result, "window_packets", (double)t->window);
    for (unsigned i = 0; i < 2 && status == BENCH_OK && !bench_stopping(); i++) {
        struct bench_flow f = {.kind = i == 0 ? BENCH_FLOW_TCP : BENCH_FLOW_SLUICE,
            .congestion = t->congestion,
            .window = (uint32_t)t->window,
            .mtu = MTU};
        bench_progress("link: %s through the emulator", names[i]);
        sl_histogram_reset(&o[i].rtt);
        sl_histogram_reset(&o[i].queue);
        status = run_alone(t, m, &f, &o[i]);
        over |= o[i].overcommitted;
        if (status == BENCH_OK)
            outcome_json(result, names[i], &o[i]);
        else
            snprintf(err, cap, "%s", o[i].err);
    }
    cJSON_AddBoolToObject(result, "overcommitted", over);
    bench_shared_unmap(o, 2 * sizeof(*o));
    return status;
}
