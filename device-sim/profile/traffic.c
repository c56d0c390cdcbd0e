#include "device-sim/profile/traffic.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sample of 32 phones is some 3 KiB; 17 numbers a phone of at most 20 characters are far below this. */
enum { LINE_BYTES = 16384 };
static const uint64_t ms_ns = 1000000;

struct sl_traffic {
    int fd;
    uint32_t n, n_fleet;
    uint64_t start_ns, last_ns, next_ns, interval_ns;
    uint64_t samples, totals_every; /* totals with each so many samples */
    struct sl_traffic_phone before[SL_TRAFFIC_PHONES];
    struct sl_traffic_totals totals_before;
    bool cells; /* some phone's link is a cell's */
    size_t used;
    char line[LINE_BYTES];
};

uint32_t sl_traffic_watched(uint32_t n_fleet, uint32_t n, uint32_t k)
{
    return (uint32_t)((uint64_t)k * n_fleet / n);
}

static int write_line(struct sl_traffic *t)
{
    if (t->used + 1 >= LINE_BYTES)
        return -EMSGSIZE;
    t->line[t->used++] = '\n';
    ssize_t w = write(t->fd, t->line, t->used);
    int rc = w == (ssize_t)t->used ? 0 : w < 0 ? -errno : -ENOSPC;
    t->used = 0;
    return rc;
}

static void add(struct sl_traffic *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct sl_traffic *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(t->line + t->used, LINE_BYTES - t->used, format, args);
    va_end(args);
    t->used = n < 0 || t->used + (size_t)n >= LINE_BYTES ? LINE_BYTES - 1 : t->used + (size_t)n;
}

static cJSON *text_list(const char *const *names, unsigned n)
{
    cJSON *a = cJSON_CreateArray();

    for (unsigned i = 0; i < n; i++)
        cJSON_AddItemToArray(a, cJSON_CreateString(names[i]));
    return a;
}

static int write_start(
    struct sl_traffic *t, const struct sl_traffic_phone *phones, const struct sl_traffic_names *names)
{
    cJSON *o = cJSON_CreateObject(), *watched = cJSON_AddArrayToObject(o, "phones");
    int rc = -ENOMEM;

    cJSON_AddStringToObject(o, "event", "start");
    cJSON_AddNumberToObject(o, "fleet", t->n_fleet);
    cJSON_AddNumberToObject(o, "interval_ms", SL_TRAFFIC_INTERVAL_MS);
    cJSON_AddItemToObject(o, "states", text_list(names->states, names->n_states));
    cJSON_AddItemToObject(o, "radios", text_list(names->radios, names->n_radios));
    for (uint32_t i = 0; i < t->n; i++) {
        cJSON *p = cJSON_CreateObject();
        cJSON_AddNumberToObject(p, "index", phones[i].index);
        cJSON_AddStringToObject(p, "class", phones[i].class_name);
        cJSON_AddStringToObject(p, "link", phones[i].service);
        t->cells |= strcmp(phones[i].service, "granted") == 0;
        cJSON_AddItemToArray(watched, p);
    }
    char *text = cJSON_PrintUnformatted(o);
    if (text) {
        add(t, "%s", text);
        rc = write_line(t);
    }
    cJSON_free(text);
    cJSON_Delete(o);
    return rc;
}

int sl_traffic_open(const char *path, uint32_t n_fleet, const struct sl_traffic_phone *phones, uint32_t n,
    const struct sl_traffic_names *names, uint64_t start_ns, struct sl_traffic **out, char *err,
    size_t err_cap)
{
    struct sl_traffic *t = n <= SL_TRAFFIC_PHONES ? calloc(1, sizeof(*t)) : NULL;
    int rc = -ENOMEM;

    if (t) {
        t->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        rc = t->fd < 0 ? -errno : 0;
    }
    if (!rc) {
        t->n = n;
        t->n_fleet = n_fleet;
        t->start_ns = t->last_ns = start_ns;
        t->interval_ns = SL_TRAFFIC_INTERVAL_MS * ms_ns;
        t->next_ns = start_ns + t->interval_ns;
        t->totals_every = 1 + (uint64_t)n_fleet * (1000 / SL_TRAFFIC_INTERVAL_MS) / SL_TRAFFIC_TOTALS_PER_S;
        rc = write_start(t, phones, names);
    }
    if (rc) {
        snprintf(err, err_cap, "%s: cannot be written: %s", path, strerror(-rc));
        sl_traffic_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void sl_traffic_close(struct sl_traffic *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}

uint64_t sl_traffic_deadline(const struct sl_traffic *t)
{
    return t->next_ns;
}

bool sl_traffic_wants_totals(const struct sl_traffic *t)
{
    return t->samples % t->totals_every == 0;
}

typedef double (*getter)(const struct sl_traffic_link *now, const struct sl_traffic_link *before);

static double offered(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    return (double)(now->offered - before->offered);
}
static double carried(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    return (double)(now->carried - before->carried);
}
static double dropped(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    return (double)(now->dropped - before->dropped);
}
static double allowed(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    return now->allowed < 0 ? -1 : now->allowed - before->allowed;
}
static double queued(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    return (double)now->queued;
}
static double served(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    return (double)(now->served - before->served);
}
/* Mean time in the queue, in units of 10 us, of those that left it since the last sample. */
static double wait_ms(const struct sl_traffic_link *now, const struct sl_traffic_link *before)
{
    uint64_t n = now->served - before->served;

    return n ? round((double)(now->wait_ns - before->wait_ns) / (double)n * 1e-4) / 100 : -1;
}

static void add_link(struct sl_traffic *t, const char *name, const struct sl_traffic_phone *phones, bool up)
{
    static const struct {
        const char *name;
        getter get;
    } columns[] = {{"offered", offered}, {"carried", carried}, {"dropped", dropped}, {"allowed", allowed},
        {"queued", queued}, {"served", served}, {"wait_ms", wait_ms}};

    add(t, ",\"%s\":{", name);
    for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); c++) {
        add(t, "%s\"%s\":[", c ? "," : "", columns[c].name);
        for (uint32_t i = 0; i < t->n; i++) {
            double v = up ? columns[c].get(&phones[i].up, &t->before[i].up)
                          : columns[c].get(&phones[i].down, &t->before[i].down);
            add(t, "%s%.10g", i ? "," : "", columns[c].get == wait_ms ? v : round(v));
        }
        add(t, "]");
    }
    add(t, "}");
}

static void add_cells(struct sl_traffic *t, const struct sl_traffic_phone *phones)
{
    add(t, ",\"cells\":{\"cell\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%u", i ? "," : "", phones[i].cell.cell);
    add(t, "],\"handovers\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%llu", i ? "," : "",
            (unsigned long long)(phones[i].cell.handovers - t->before[i].cell.handovers));
    add(t, "],\"snr_up_db\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%.4g", i ? "," : "", phones[i].cell.snr_up_db);
    add(t, "],\"snr_down_db\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%.4g", i ? "," : "", phones[i].cell.snr_down_db);
    add(t, "]}");
}

static void add_phones(struct sl_traffic *t, const struct sl_traffic_phone *phones)
{
    add(t, ",\"rtt_ms\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%.5g", i ? "," : "", (double)phones[i].rtt_ns * 1e-6);
    add(t, "],\"battery\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%.6f", i ? "," : "", phones[i].battery);
    add(t, "],\"temp_c\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%.4g", i ? "," : "", phones[i].temperature_c);
    add(t, "],\"clock\":[");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%s%.3g", i ? "," : "", phones[i].clock);
    add(t, "],\"state\":\"");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%c", '0' + phones[i].state);
    add(t, "\",\"radio\":\"");
    for (uint32_t i = 0; i < t->n; i++)
        add(t, "%c", '0' + phones[i].radio);
    add(t, "\"");
}

int sl_traffic_sample(struct sl_traffic *t, uint64_t now_ns, uint64_t taken_ns,
    const struct sl_traffic_phone *phones, const struct sl_traffic_totals *totals)
{
    t->next_ns += t->interval_ns;
    if (now_ns >= t->next_ns) /* the host was late: what is missing is not made up */
        t->next_ns = now_ns + t->interval_ns;
    add(t, "{\"t\":%.4f,\"dt\":%.4f", (double)(now_ns - t->start_ns) * 1e-9,
        taken_ns > t->last_ns ? (double)(taken_ns - t->last_ns) * 1e-9 : 0);
    add_link(t, "up", phones, true);
    add_link(t, "down", phones, false);
    add_phones(t, phones);
    if (t->cells)
        add_cells(t, phones);
    if (totals) {
        add(t, ",\"all\":{\"sent_up\":%llu,\"arrived_down\":%llu}",
            (unsigned long long)(totals->sent_up - t->totals_before.sent_up),
            (unsigned long long)(totals->arrived_down - t->totals_before.arrived_down));
        t->totals_before = *totals;
    }
    add(t, "}");
    memcpy(t->before, phones, t->n * sizeof(*phones));
    t->last_ns = taken_ns > t->last_ns ? taken_ns : t->last_ns;
    if (++t->samples % SL_TRAFFIC_SAMPLES == 0)
        t->interval_ns *= 2;
    int rc = write_line(t);
    if (rc)
        t->next_ns = UINT64_MAX;
    return rc;
}
