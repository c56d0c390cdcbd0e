#include "trainer/pipeline/gang.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { LIVE = 1, READY = 2 }; /* in device.state */

struct sl_gang {
    struct sl_gang_config config;
    bool open;
    uint64_t opened_ns;
    uint32_t live, ready;
    uint32_t lcore_live[SL_LCORES_MAX];
    uint64_t times[SL_GANG_TIMES]; /* of the last gangs, in a ring */
    uint32_t n_times, next_time;
    uint64_t median_ns;
    struct {
        uint8_t state, lcore;
    } device[];
};

int sl_gang_create(const struct sl_gang_config *config, struct sl_gang **out)
{
    *out = NULL;
    struct sl_gang *g;
    if (!config->max_devices || !config->capacity || !(config->quorum > 0) || config->quorum > 1 ||
        config->n_lcores > SL_LCORES_MAX)
        return -EINVAL;
    g = calloc(1, sizeof *g + config->max_devices * sizeof g->device[0]);
    if (!g)
        return -ENOMEM;
    g->config = *config;
    if (!config->n_lcores) {
        g->config.n_lcores = 1;
        g->config.lcore_slots[0] = config->capacity;
    }
    *out = g;
    return 0;
}

void sl_gang_free(struct sl_gang *g)
{
    free(g);
}

void sl_gang_set_ready(struct sl_gang *g, uint32_t device, bool ready)
{
    uint8_t *s = &g->device[device].state;
    if (!(*s & LIVE) || ready == !!(*s & READY))
        return;
    *s ^= READY;
    g->ready += ready ? 1 : -1u;
}

void sl_gang_set_live(struct sl_gang *g, uint32_t device, bool live)
{
    uint8_t *s = &g->device[device].state;
    if (live == !!(*s & LIVE))
        return;
    if (!live)
        sl_gang_set_ready(g, device, false);
    *s ^= LIVE;
    g->live += live ? 1 : -1u;
    g->lcore_live[g->device[device].lcore] += live ? 1 : -1u;
}

void sl_gang_set_lcore(struct sl_gang *g, uint32_t device, uint32_t lcore)
{
    if (lcore < g->config.n_lcores && !(g->device[device].state & LIVE))
        g->device[device].lcore = (uint8_t)lcore;
}

bool sl_gang_crowded(const struct sl_gang *g)
{
    for (uint32_t i = 0; i < g->config.n_lcores; i++)
        if (g->lcore_live[i] > g->config.lcore_slots[i])
            return true;
    return false;
}

uint32_t sl_gang_live(const struct sl_gang *g)
{
    return g->live;
}

uint32_t sl_gang_ready(const struct sl_gang *g)
{
    return g->ready;
}

void sl_gang_open(struct sl_gang *g, uint64_t now_ns)
{
    g->open = true;
    g->opened_ns = now_ns;
}

void sl_gang_close(struct sl_gang *g)
{
    g->open = false;
}

uint64_t sl_gang_opened_ns(const struct sl_gang *g)
{
    return g->opened_ns;
}

uint64_t sl_gang_median_ns(const struct sl_gang *g)
{
    return g->median_ns;
}

uint64_t sl_gang_deadline_ns(const struct sl_gang *g)
{
    if (g->config.deterministic)
        return UINT64_MAX;
    if (g->config.deadline_ns)
        return g->config.deadline_ns;
    if (g->n_times < SL_GANG_TIMES_MIN)
        return SL_GANG_FIRST_DEADLINE_NS;
    uint64_t ns = g->median_ns * SL_GANG_DEADLINE_GANGS;
    return ns < SL_GANG_DEADLINE_MIN_NS ? SL_GANG_DEADLINE_MIN_NS : ns;
}

/* Messages that a gang waits for. */
static uint32_t room_of(const struct sl_gang *g)
{
    uint32_t room = 0;
    for (uint32_t i = 0; i < g->config.n_lcores; i++) {
        uint32_t live = g->lcore_live[i], slots = g->config.lcore_slots[i];
        room += live <= slots ? live : (slots + 1) / 2;
    }
    return room < g->config.capacity ? room : g->config.capacity;
}

bool sl_gang_should_start(const struct sl_gang *g, uint64_t now_ns)
{
    if (!g->open || !g->ready)
        return false;
    if (g->config.async)
        return true;
    if (g->config.deterministic)
        return g->ready >= g->config.n_devices;
    uint32_t room = room_of(g);
    if (g->ready >= room)
        return true;
    /* The epsilon keeps 0.75 of 4 from becoming 4 by rounding. */
    uint32_t quorum = (uint32_t)ceil(g->config.quorum * room - 1e-9);
    return now_ns - g->opened_ns >= sl_gang_deadline_ns(g) && g->ready >= quorum;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void sl_gang_done(struct sl_gang *g, uint64_t now_ns)
{
    uint64_t sorted[SL_GANG_TIMES];
    g->times[g->next_time] = now_ns - g->opened_ns;
    g->next_time = (g->next_time + 1) % SL_GANG_TIMES;
    if (g->n_times < SL_GANG_TIMES)
        g->n_times++;
    for (uint32_t i = 0; i < g->n_times; i++)
        sorted[i] = g->times[i];
    qsort(sorted, g->n_times, sizeof *sorted, by_size);
    g->median_ns = sorted[g->n_times / 2];
    g->opened_ns = now_ns;
}
