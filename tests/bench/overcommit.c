#include "tests/bench/overcommit.h"

#include "tests/bench/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const double waited_most = 0.001, stolen_most = 0.01;

static uint64_t waited(void)
{
    unsigned long long ran = 0, wait = 0;
    FILE *f = fopen("/proc/thread-self/schedstat", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu %llu", &ran, &wait) != 2)
        wait = 0;
    fclose(f);
    return wait;
}

void bench_overcommit_look(struct bench_overcommit *o)
{
    struct rusage r;
    struct bench_noise n;

    getrusage(RUSAGE_THREAD, &r);
    bench_noise_look(&n);
    *o = (struct bench_overcommit){.at_ns = bench_now_ns(),
        .waited_ns = waited(),
        .switches = (uint64_t)r.ru_nivcsw,
        .steal_ticks = n.steal_ticks};
}

bool bench_overcommit_json(
    cJSON *to, const struct bench_overcommit *from, const struct bench_overcommit *till)
{
    double took = 1e-9 * (double)(till->at_ns - from->at_ns),
           wait = 1e-9 * (double)(till->waited_ns - from->waited_ns);
    double stolen = (double)(till->steal_ticks - from->steal_ticks) / (double)sysconf(_SC_CLK_TCK);
    double cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    bool over = wait > waited_most * took || stolen > stolen_most * took * cpus;

    cJSON_AddNumberToObject(to, "seconds", took);
    cJSON_AddNumberToObject(to, "waited_ms", 1e3 * wait);
    cJSON_AddNumberToObject(to, "waited_share", took > 0 ? wait / took : 0);
    cJSON_AddNumberToObject(to, "involuntary_switches", (double)(till->switches - from->switches));
    cJSON_AddNumberToObject(to, "steal_ticks", (double)(till->steal_ticks - from->steal_ticks));
    cJSON_AddBoolToObject(to, "overcommitted", over);
    return over;
}
