#include "tests/bench/peers.h"

#include "tests/bench/machine.h"
#include "tests/bench/receiver.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MTU = 1500, JUMBO_MTU = 9000, LIMIT_S = 30, KINDS = 4, SESSIONS = 16, MESSAGES = 8 };
static const double warm_up_share = 0.25;

/* ---- the receiver's time ---- */

static double cpu_s(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

void bench_peer_clock_start(struct bench_peer_clock *c, double seconds)
{
    uint64_t now = bench_now_ns();
    *c = (struct bench_peer_clock){.from_ns = now + (uint64_t)(seconds * warm_up_share * 1e9)};
    c->until_ns = c->from_ns + (uint64_t)(seconds * 1e9);
}

bool bench_peer_clock_count(
    struct bench_peer_clock *c, struct bench_peer_run *p, uint64_t bytes, uint64_t packets)
{
    uint64_t now = bench_now_ns();
    if (!c->running) {
        c->running = now >= c->from_ns;
        c->from_ns = c->running ? now : c->from_ns;
        c->cpu_s = c->running ? cpu_s() : 0;
        return true;
    }
    p->bytes += bytes;
    p->packets += packets;
    if (now < c->until_ns)
        return true;
    p->took_s = 1e-9 * (double)(now - c->from_ns);
    p->cpu_s = cpu_s() - c->cpu_s;
    return false;
}

/* ---- ours over the same veth ---- */

struct own_run {
    struct bench_round round;
    char err[512];
};
static struct own_run *own;
static double own_seconds;

static int measure_own(struct bench_receiver *r, cJSON *result, char *err, size_t cap)
{
    return bench_receiver_full(r, own_seconds, false, &own->round, err, cap) == 0 ? BENCH_OK : BENCH_FAILED;
}

/* In a process of its own: EAL starts once in a process, and a namespace is not left again. */
static int run_own(
    const char *backend, uint64_t payload, double seconds, struct bench_peer_run *p, char *err, size_t cap)
{
    own = bench_shared_map(sizeof(*own));
    own_seconds = seconds;
    fflush(NULL);
    pid_t child = own != NULL ? fork() : -1;
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct bench_load l = {
            .link.backend = backend, .sessions = SESSIONS, .slots = MESSAGES, .codec = SL_CODEC_BF16};
        cJSON *ignored = cJSON_CreateObject();
        _exit(bench_receiver_run(&l, payload, measure_own, ignored, own->err, sizeof(own->err)));
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        snprintf(err, cap, "%s: its process did not end well", backend);
        bench_shared_unmap(own, sizeof(*own));
        return BENCH_FAILED;
    }
    p->bytes = own->round.bytes;
    p->packets = own->round.packets;
    p->took_s = p->cpu_s = own->round.seconds;
    if (WEXITSTATUS(status) != BENCH_OK)
        snprintf(err, cap, "%s: %.400s", backend, own->err);
    bench_shared_unmap(own, sizeof(*own));
    return WEXITSTATUS(status);
}

/* ---- all of them, in turn ---- */

struct kind {
    const char *name;
    bench_twin_fn side; /* NULL: ours */
    bool offload;
};
static const struct kind kinds[KINDS] = {
    {"kernel_udp_recvmmsg", bench_peer_udp, false},
    {"kernel_udp_gso_gro", bench_peer_udp, true},
    {"tcp_tls13_openssl", bench_peer_tls, true},
    {"sluice_af_xdp", NULL, false},
};

static int run_one(const struct kind *k, struct bench_peer_run *p, uint64_t payload, char *err, size_t cap)
{
    uint32_t mtu = p->mtu, plain = p->plain;
    double seconds = p->seconds;
    memset(p, 0, sizeof(*p));
    p->mtu = mtu;
    p->plain = plain;
    p->seconds = seconds;
    p->offload = k->offload;
    if (k->side == NULL)
        return run_own("af_xdp", payload, seconds, p, err, cap);
    return bench_twins_run(k->side, k->side, p, LIMIT_S + 2 * seconds, err, cap);
}

struct series {
    struct bench_sample gbps, cpu;
    uint64_t wrong;
};

static int series_init(struct series *s, unsigned rounds)
{
    int ret = bench_sample_init(&s->gbps, rounds);
    return ret != 0 ? ret : bench_sample_init(&s->cpu, rounds);
}

static void series_add(struct series *s, const struct bench_peer_run *p)
{
    if (p->took_s <= 0)
        return;
    bench_sample_add(&s->gbps, (double)p->bytes * 8e-9 / p->took_s);
    bench_sample_add(&s->cpu, p->cpu_s / p->took_s);
    s->wrong += p->wrong;
}

static void series_json(cJSON *to, const char *name, struct series *s)
{
    cJSON *j = cJSON_AddObjectToObject(to, name);
    cJSON_AddNumberToObject(j, "gbps", bench_sample_median(&s->gbps));
    cJSON_AddNumberToObject(j, "gbps_p10", bench_sample_quantile(&s->gbps, 0.1));
    cJSON_AddNumberToObject(j, "gbps_p90", bench_sample_quantile(&s->gbps, 0.9));
    cJSON_AddNumberToObject(j, "receiver_cpu_share", bench_sample_median(&s->cpu));
    cJSON_AddNumberToObject(j, "runs", (double)s->gbps.n);
    cJSON_AddNumberToObject(j, "wrong", (double)s->wrong);
}

int bench_peers_measure(uint64_t payload, double seconds, unsigned rounds, cJSON *to, struct bench_peers *out,
    char *err, size_t cap)
{
    static struct series s[KINDS];
    struct bench_peer_run *p = bench_shared_map(sizeof(*p));
    int status = p == NULL ? BENCH_FAILED : BENCH_OK;
    for (unsigned k = 0; k < KINDS && status == BENCH_OK; k++)
        status = series_init(&s[k], rounds) == 0 ? BENCH_OK : BENCH_FAILED;
    if (status != BENCH_OK) {
        snprintf(err, cap, "out of memory");
        return status;
    }
    uint32_t plain = (uint32_t)((payload + SL_UNIT_BYTES / 2) / SL_UNIT_BYTES * SL_UNIT_BYTES);
    p->plain = plain;
    p->mtu = plain + 76 > MTU ? JUMBO_MTU : MTU;
    p->seconds = seconds / (KINDS * rounds * (1 + warm_up_share));
    cJSON_AddNumberToObject(to, "mtu", p->mtu);
    for (unsigned i = 0; i < rounds && status == BENCH_OK && !bench_stopping(); i++) {
        for (unsigned k = 0; k < KINDS && status == BENCH_OK && !bench_stopping(); k++) {
            bench_progress("peers: %s, %u of %u", kinds[k].name, i + 1, rounds);
            if (kinds[k].side == NULL && p->mtu > MTU)
                continue; /* AF_XDP takes no jumbo frames */
            status = run_one(&kinds[k], p, payload, err, cap);
            if (status == BENCH_OK)
                series_add(&s[k], p);
        }
    }
    for (unsigned k = 0; k < KINDS; k++)
        series_json(to, kinds[k].name, &s[k]);
    *out = (struct bench_peers){.udp_gbps = bench_sample_median(&s[0].gbps),
        .udp_offload_gbps = bench_sample_median(&s[1].gbps),
        .tls_gbps = bench_sample_median(&s[2].gbps),
        .af_xdp_gbps = bench_sample_median(&s[3].gbps)};
    if (status == BENCH_SKIPPED || status == BENCH_FAILED)
        cJSON_AddStringToObject(to, status == BENCH_SKIPPED ? "skipped" : "failed", err);
    for (unsigned k = 0; k < KINDS; k++) {
        bench_sample_free(&s[k].gbps);
        bench_sample_free(&s[k].cpu);
    }
    bench_shared_unmap(p, sizeof(*p));
    return status;
}
