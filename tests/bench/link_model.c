#include "tests/bench/link_model.h"

#include "device-sim/link/record.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPPORTUNITIES = 1 << 24 };

static int bad(char *err, size_t cap, const char *file, size_t line, const char *what)
{
    snprintf(err, cap, "%s:%zu: %s", file, line, what);
    return -EINVAL;
}

/* One time in ms a line, not falling. */
static int read_trace(struct bench_link_model *m, char *err, size_t cap)
{
    FILE *f = fopen(m->trace, "re");
    size_t room = 0;
    int ret = 0;
    unsigned long ms;

    if (f == NULL) {
        snprintf(err, cap, "%s: %s", m->trace, strerror(errno));
        return -errno;
    }
    for (int got; ret == 0 && (got = fscanf(f, "%lu", &ms)) != EOF;) {
        if (got != 1 || ms > UINT32_MAX)
            ret = bad(err, cap, m->trace, m->n_up + 1, "not a time in ms");
        else if (m->n_up > 0 && ms < m->up_ms[m->n_up - 1])
            ret = bad(err, cap, m->trace, m->n_up + 1, "earlier than the line before");
        else if (m->n_up == MOST_OPPORTUNITIES)
            ret = bad(err, cap, m->trace, m->n_up + 1, "too many lines");
        if (ret == 0 && m->n_up == room) {
            room = room > 0 ? 2 * room : 4096;
            uint32_t *more = realloc(m->up_ms, room * sizeof(*more));
            if (more == NULL)
                ret = bad(err, cap, m->trace, m->n_up + 1, "out of memory");
            else
                m->up_ms = more;
        }
        if (ret == 0)
            m->up_ms[m->n_up++] = (uint32_t)ms;
    }
    fclose(f);
    if (ret == 0 && (m->n_up == 0 || m->up_ms[m->n_up - 1] == 0))
        ret = bad(err, cap, m->trace, m->n_up, "no opportunity after time 0");
    return ret;
}

static enum sl_discipline_kind kind_of(const char *name)
{
    enum sl_discipline_kind k = 0;

    while (k < SL_DISCIPLINE_COUNT && strcmp(sl_discipline_name(k), name) != 0)
        k++;
    return k;
}

int bench_link_model_make(struct bench_link_model *m, char *err, size_t cap)
{
    int ret = 0;

    if ((m->trace == NULL) == (m->rate_mbps <= 0)) {
        snprintf(err, cap, "give --trace FILE or --rate Mbit/s");
        return -EINVAL;
    }
    if (m->trace != NULL)
        ret = read_trace(m, err, cap);
    if (ret == 0 && m->trace != NULL)
        ret = sl_trace_load(m->trace, &m->opportunities, err, cap);
    if (ret != 0)
        return ret;
    m->key = sl_rng_key(1, "link 0 down");
    m->up = (struct sl_link_params){.service = {.kind = m->trace != NULL ? SL_SERVICE_TRACE : SL_SERVICE_RATE,
                                        .rate_bps = m->rate_mbps * 1e6,
                                        .trace = m->trace != NULL ? &m->opportunities : NULL},
        .queue = {.kind = kind_of(m->queue),
            .bytes = m->queue_packets != 0 ? 0 : m->queue_kib * 1024,
            .packets = (uint32_t)m->queue_packets,
            .target_ns = (uint64_t)(m->target_ms * 1e6),
            .interval_ns = (uint64_t)(m->interval_ms * 1e6)},
        .delay_ns = (uint64_t)(m->rtt_ms * 0.5e6)};
    return 0;
}

void bench_link_model_free(struct bench_link_model *m)
{
    sl_trace_free(&m->opportunities);
    free(m->up_ms);
    m->up_ms = NULL;
}

double bench_link_model_mean_mbps(const struct bench_link_model *m)
{
    if (m->up_ms == NULL)
        return m->rate_mbps;
    return (double)m->n_up * SL_OPPORTUNITY_BYTES * 8e-3 / m->up_ms[m->n_up - 1];
}

struct sl_link_params bench_link_model_from(const struct bench_link_model *m, uint64_t start_ns)
{
    struct sl_link_params p = m->up;

    if (m->up_ms != NULL) {
        uint64_t period = m->up_ms[m->n_up - 1] * UINT64_C(1000000);
        p.service.phase_ns = (period - start_ns % period) % period;
    }
    return p;
}

double bench_link_model_capacity(const struct bench_link_model *m, uint64_t from_ns, uint64_t until_ns)
{
    if (m->up_ms == NULL)
        return (double)(until_ns - from_ns) * m->rate_mbps * 1e-3 / 8;
    uint64_t n = 0, period = m->up_ms[m->n_up - 1];
    for (uint64_t cycle = from_ns / 1000000 / period; cycle * period * 1000000 < until_ns; cycle++) {
        for (size_t i = 0; i < m->n_up; i++) {
            uint64_t at = (cycle * period + m->up_ms[i]) * 1000000;
            n += at >= from_ns && at < until_ns;
        }
    }
    return (double)n * SL_OPPORTUNITY_BYTES;
}

void bench_link_model_json(cJSON *to, const struct bench_link_model *m)
{
    cJSON *j = cJSON_AddObjectToObject(to, "model");

    if (m->trace != NULL)
        cJSON_AddStringToObject(j, "trace", m->trace);
    cJSON_AddNumberToObject(j, "mean_mbps", bench_link_model_mean_mbps(m));
    cJSON_AddNumberToObject(j, "rtt_ms", m->rtt_ms);
    cJSON_AddStringToObject(j, "queue", m->queue);
    cJSON_AddNumberToObject(j, "queue_bytes", (double)m->up.queue.bytes);
    cJSON_AddNumberToObject(j, "queue_packets", (double)m->up.queue.packets);
}
