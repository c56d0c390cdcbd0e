#include "device-sim/profile/profile.h"

#include "device-sim/profile/spread.h"
#include "device-sim/profile/traffic.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS_MAX = 256, CLASSES_MAX = 32, NAMES_MAX = 16, NAME_BYTES = 64, PATH_MAX_BYTES = 1100 };
static const double mbit = 8e-6;
/* A sample with less than two full packets holds acknowledgements and requests: no burst, and no load. */
static const double busy_bytes = 3000;

struct side {
    double offered, carried, allowed, dropped; /* bytes; allowed below 0: not known */
    struct sl_spread rate, wait, queued;
};

struct cells {
    bool used[CELLS_MAX + 1]; /* by number, from 1 */
    double handovers;
    struct sl_spread snr_up, snr_down;
};

struct class
{
    char name[NAME_BYTES];
    unsigned watched;
    double seconds; /* phones x time */
    struct side up, down;
    struct cells cells;
    struct sl_spread rtt, burst, on, off;
    double state_s[NAMES_MAX], radio_s[NAMES_MAX];
    double battery_min, temperature_max, clock_min;
    unsigned phones; /* of sim.jsonl */
    cJSON *energy;   /* sums by cause */
};

struct phone {
    struct class *class;
    bool sends;                /* in a burst */
    double burst_bytes, since; /* of the burst, or of the pause */
    bool paused;               /* a burst came before the pause */
};

struct reader {
    struct class *class;
    unsigned n_classes, n_phones;
    struct phone phone[SL_TRAFFIC_PHONES];
    char states[NAMES_MAX][NAME_BYTES], radios[NAMES_MAX][NAME_BYTES];
    unsigned n_states, n_radios;
    double t, seconds;
    unsigned long samples;
    double fleet, sent_up, arrived_down;
};

static struct class *class_named(struct reader *r, const char *name)
{
    for (unsigned i = 0; i < r->n_classes; i++)
        if (strcmp(r->class[i].name, name) == 0)
            return &r->class[i];
    if (r->n_classes == CLASSES_MAX || strlen(name) >= NAME_BYTES)
        return NULL;
    struct class *c = &r->class[r->n_classes++];
    snprintf(c->name, sizeof(c->name), "%s", name);
    c->battery_min = c->clock_min = INFINITY;
    c->temperature_max = -INFINITY;
    c->energy = cJSON_CreateObject();
    return c;
}

static void free_class(struct class *c)
{
    struct sl_spread *all[] = {&c->up.rate, &c->up.wait, &c->up.queued, &c->down.rate, &c->down.wait,
        &c->down.queued, &c->rtt, &c->burst, &c->on, &c->off, &c->cells.snr_up, &c->cells.snr_down};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        sl_spread_free(all[i]);
    cJSON_Delete(c->energy);
    memset(c, 0, sizeof(*c));
}

static void forget(struct reader *r)
{
    for (unsigned i = 0; i < r->n_classes; i++)
        free_class(&r->class[i]);
    r->n_classes = r->n_phones = 0;
    r->t = r->seconds = r->sent_up = r->arrived_down = 0;
    r->samples = 0;
}

static int read_names(const cJSON *list, char names[NAMES_MAX][NAME_BYTES], unsigned *n)
{
    const cJSON *o;

    *n = 0;
    cJSON_ArrayForEach(o, list)
    {
        if (!cJSON_IsString(o) || *n == NAMES_MAX)
            return -EINVAL;
        snprintf(names[(*n)++], NAME_BYTES, "%s", o->valuestring);
    }
    return *n ? 0 : -EINVAL;
}

static int take_start(struct reader *r, const cJSON *o)
{
    const cJSON *p, *fleet = cJSON_GetObjectItem(o, "fleet");

    forget(r);
    if (!cJSON_IsNumber(fleet) || read_names(cJSON_GetObjectItem(o, "states"), r->states, &r->n_states) ||
        read_names(cJSON_GetObjectItem(o, "radios"), r->radios, &r->n_radios))
        return -EINVAL;
    r->fleet = fleet->valuedouble;
    cJSON_ArrayForEach(p, cJSON_GetObjectItem(o, "phones"))
    {
        const cJSON *name = cJSON_GetObjectItem(p, "class");
        struct class *c = cJSON_IsString(name) ? class_named(r, name->valuestring) : NULL;
        if (!c || r->n_phones == SL_TRAFFIC_PHONES)
            return -EINVAL;
        c->watched++;
        r->phone[r->n_phones++] = (struct phone){.class = c};
    }
    return r->n_phones ? 0 : -EINVAL;
}

/* A column of numbers, one for each watched phone. */
static int column(const struct reader *r, const cJSON *o, const char *name, double out[SL_TRAFFIC_PHONES])
{
    const cJSON *v;
    unsigned n = 0;

    cJSON_ArrayForEach(v, cJSON_GetObjectItem(o, name))
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || n == r->n_phones)
            return -EINVAL;
        out[n++] = v->valuedouble;
    }
    return n == r->n_phones ? 0 : -EINVAL;
}

struct link_columns {
    double offered[SL_TRAFFIC_PHONES], carried[SL_TRAFFIC_PHONES], dropped[SL_TRAFFIC_PHONES],
        allowed[SL_TRAFFIC_PHONES], queued[SL_TRAFFIC_PHONES], wait[SL_TRAFFIC_PHONES];
};

static int link_columns(const struct reader *r, const cJSON *o, const char *name, struct link_columns *c)
{
    const cJSON *l = cJSON_GetObjectItem(o, name);

    return column(r, l, "offered", c->offered) || column(r, l, "carried", c->carried) ||
                   column(r, l, "dropped", c->dropped) || column(r, l, "allowed", c->allowed) ||
                   column(r, l, "queued", c->queued) || column(r, l, "wait_ms", c->wait)
               ? -EINVAL
               : 0;
}

static int add_side(struct side *s, const struct link_columns *c, unsigned i, double dt)
{
    int rc = 0;

    s->offered += c->offered[i];
    s->carried += c->carried[i];
    s->dropped += c->dropped[i];
    s->allowed = c->allowed[i] < 0 || s->allowed < 0 ? -1 : s->allowed + c->allowed[i];
    if (c->carried[i] >= busy_bytes && dt > 0)
        rc = sl_spread_add(&s->rate, c->carried[i] * mbit / dt);
    if (!rc && c->wait[i] >= 0 && c->carried[i] >= busy_bytes)
        rc = sl_spread_add(&s->wait, c->wait[i]);
    if (!rc && (c->carried[i] >= busy_bytes || c->queued[i] > 0))
        rc = sl_spread_add(&s->queued, c->queued[i] / 1024);
    return rc;
}

struct cell_columns {
    double cell[SL_TRAFFIC_PHONES], handovers[SL_TRAFFIC_PHONES], snr_up[SL_TRAFFIC_PHONES],
        snr_down[SL_TRAFFIC_PHONES];
};

/* A run without cells says nothing of them. */
static int cell_columns(const struct reader *r, const cJSON *o, struct cell_columns *c)
{
    const cJSON *cells = cJSON_GetObjectItem(o, "cells");

    *c = (struct cell_columns){0};
    if (!cells)
        return 0;
    if (column(r, cells, "cell", c->cell) || column(r, cells, "handovers", c->handovers) ||
        column(r, cells, "snr_up_db", c->snr_up) || column(r, cells, "snr_down_db", c->snr_down))
        return -EINVAL;
    for (unsigned i = 0; i < r->n_phones; i++)
        if (c->cell[i] < 0 || c->cell[i] > CELLS_MAX)
            return -EINVAL;
    return 0;
}

static int add_cell(struct cells *s, const struct cell_columns *c, unsigned i, bool busy)
{
    if (c->cell[i] < 1)
        return 0;
    s->handovers += c->handovers[i];
    if (!busy)
        return 0;
    s->used[(unsigned)c->cell[i]] = true;
    int rc = sl_spread_add(&s->snr_up, c->snr_up[i]);
    return rc ? rc : sl_spread_add(&s->snr_down, c->snr_down[i]);
}

/* Bursts and the pauses between them; those that the run's ends cut are left out. */
static int add_burst(struct phone *p, double offered, double t)
{
    struct class *c = p->class;
    bool sends = offered >= busy_bytes;
    int rc = 0;

    if (p->sends == sends) {
        p->burst_bytes += offered;
        return 0;
    }
    if (p->sends) {
        rc = sl_spread_add(&c->burst, p->burst_bytes / 1024);
        rc = rc ? rc : sl_spread_add(&c->on, t - p->since);
        p->paused = true;
    } else if (p->paused) {
        rc = sl_spread_add(&c->off, t - p->since);
    }
    p->sends = sends;
    p->burst_bytes = offered;
    p->since = t;
    return rc;
}

static int take_sample(struct reader *r, const cJSON *o)
{
    double dt, t, rtt[SL_TRAFFIC_PHONES], battery[SL_TRAFFIC_PHONES], temp[SL_TRAFFIC_PHONES],
        clock[SL_TRAFFIC_PHONES];
    const cJSON *jt = cJSON_GetObjectItem(o, "t"), *jdt = cJSON_GetObjectItem(o, "dt"),
                *state = cJSON_GetObjectItem(o, "state"), *radio = cJSON_GetObjectItem(o, "radio"),
                *all = cJSON_GetObjectItem(o, "all");
    struct link_columns up, down;
    struct cell_columns cells;
    int rc = 0;

    if (!cJSON_IsNumber(jt) || !cJSON_IsNumber(jdt) || !cJSON_IsString(state) || !cJSON_IsString(radio) ||
        strlen(state->valuestring) != r->n_phones || strlen(radio->valuestring) != r->n_phones ||
        link_columns(r, o, "up", &up) || link_columns(r, o, "down", &down) || column(r, o, "rtt_ms", rtt) ||
        column(r, o, "battery", battery) || column(r, o, "temp_c", temp) || column(r, o, "clock", clock) ||
        cell_columns(r, o, &cells))
        return -EINVAL;
    t = jt->valuedouble;
    dt = jdt->valuedouble;
    for (unsigned i = 0; i < r->n_phones && !rc; i++) {
        struct class *c = r->phone[i].class;
        unsigned s = (unsigned)(state->valuestring[i] - '0'), a = (unsigned)(radio->valuestring[i] - '0');
        if (s >= r->n_states || a >= r->n_radios)
            return -EINVAL;
        c->seconds += t - r->t;
        c->state_s[s] += t - r->t;
        c->radio_s[a] += t - r->t;
        c->battery_min = fmin(c->battery_min, battery[i]);
        c->temperature_max = fmax(c->temperature_max, temp[i]);
        c->clock_min = fmin(c->clock_min, clock[i]);
        rc = add_side(&c->up, &up, i, dt);
        rc = rc ? rc : add_side(&c->down, &down, i, dt);
        rc =
            rc ? rc
               : add_cell(&c->cells, &cells, i, up.carried[i] >= busy_bytes || down.carried[i] >= busy_bytes);
        rc = rc ? rc : add_burst(&r->phone[i], up.offered[i], t);
        if (!rc && rtt[i] > 0 && up.offered[i] >= busy_bytes)
            rc = sl_spread_add(&c->rtt, rtt[i]);
    }
    if (cJSON_IsNumber(cJSON_GetObjectItem(all, "sent_up")))
        r->sent_up += cJSON_GetObjectItem(all, "sent_up")->valuedouble;
    if (cJSON_IsNumber(cJSON_GetObjectItem(all, "arrived_down")))
        r->arrived_down += cJSON_GetObjectItem(all, "arrived_down")->valuedouble;
    r->t = r->seconds = t;
    r->samples++;
    return rc;
}

static int take_traffic(struct reader *r, const cJSON *o)
{
    const cJSON *event = cJSON_GetObjectItem(o, "event");

    if (cJSON_IsString(event))
        return strcmp(event->valuestring, "start") == 0 ? take_start(r, o) : -EINVAL;
    return r->n_phones ? take_sample(r, o) : -EINVAL;
}

/* Joules by cause, of all phones: the last event of each run of the program is the one that counts. */
static int take_events(struct reader *r, const cJSON *o)
{
    const cJSON *event = cJSON_GetObjectItem(o, "event"), *name = cJSON_GetObjectItem(o, "class"), *cause;

    if (!cJSON_IsString(event) || strcmp(event->valuestring, "phone") || !cJSON_IsString(name))
        return 0;
    struct class *c = class_named(r, name->valuestring);
    if (!c)
        return -EINVAL;
    c->phones++;
    cJSON_ArrayForEach(cause, cJSON_GetObjectItem(o, "energy"))
    {
        cJSON *sum = cJSON_GetObjectItem(c->energy, cause->string);
        if (sum)
            cJSON_SetNumberValue(sum, sum->valuedouble + cause->valuedouble);
        else
            cJSON_AddNumberToObject(c->energy, cause->string, cause->valuedouble);
    }
    return 0;
}

static int read_lines(struct reader *r, FILE *f, const char *name,
    int (*take)(struct reader *, const cJSON *), char *err, size_t err_cap)
{
    unsigned long number = 0;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc = 0;

    while (!rc && (n = getline(&line, &cap, f)) >= 0) {
        number++;
        if (n == 0 || line[n - 1] != '\n') /* torn by a kill */
            break;
        cJSON *o = cJSON_Parse(line);
        rc = o ? take(r, o) : -EINVAL;
        cJSON_Delete(o);
    }
    if (rc)
        snprintf(err, err_cap, "%s:%lu: %s", name, number,
            rc == -ENOMEM ? "out of memory" : "not a line that sluice-sim writes");
    free(line);
    return rc;
}

/* ---- what is told ---- */

static void add_number(cJSON *o, const char *name, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(o, name, round(v * 1e4) / 1e4);
    else
        cJSON_AddNullToObject(o, name);
}

static void add_spread(cJSON *o, const char *name, struct sl_spread *s)
{
    cJSON *q = cJSON_AddObjectToObject(o, name);

    add_number(q, "p10", sl_spread_quantile(s, 0.1));
    add_number(q, "p50", sl_spread_quantile(s, 0.5));
    add_number(q, "p90", sl_spread_quantile(s, 0.9));
    add_number(q, "p99", sl_spread_quantile(s, 0.99));
    add_number(q, "mean", sl_spread_mean(s));
    add_number(q, "n", (double)s->n);
}

static void add_side_json(cJSON *o, const char *name, struct side *s, double seconds)
{
    cJSON *l = cJSON_AddObjectToObject(o, name);

    add_number(l, "offered_mbit_s", s->offered * mbit / seconds);
    add_number(l, "carried_mbit_s", s->carried * mbit / seconds);
    add_number(l, "allowed_mbit_s", s->allowed < 0 ? NAN : s->allowed * mbit / seconds);
    add_number(l, "dropped", s->dropped);
    add_spread(l, "busy_mbit_s", &s->rate);
    add_spread(l, "wait_ms", &s->wait);
    add_spread(l, "queued_kib", &s->queued);
}

static void add_shares(
    cJSON *o, const char *name, const double *s, char names[][NAME_BYTES], unsigned n, double seconds)
{
    cJSON *shares = cJSON_AddObjectToObject(o, name);

    for (unsigned i = 0; i < n; i++)
        if (s[i] > 0)
            add_number(shares, names[i], s[i] / seconds);
}

static void add_cells_json(cJSON *o, struct cells *s, unsigned phones)
{
    unsigned used = 0;

    for (unsigned i = 1; i <= CELLS_MAX; i++)
        used += s->used[i];
    if (used == 0)
        return;
    cJSON *l = cJSON_AddObjectToObject(o, "cell");
    add_number(l, "used", used);
    add_number(l, "handovers", s->handovers / phones);
    add_spread(l, "snr_up_db", &s->snr_up);
    add_spread(l, "snr_down_db", &s->snr_down);
}

static cJSON *class_json(struct reader *r, struct class *c)
{
    cJSON *o = cJSON_CreateObject(), *cause, *energy, *burst;

    cJSON_AddStringToObject(o, "class", c->name);
    cJSON_AddNumberToObject(o, "phones", c->phones);
    cJSON_AddNumberToObject(o, "watched", c->watched);
    add_side_json(o, "up", &c->up, c->seconds);
    add_side_json(o, "down", &c->down, c->seconds);
    add_cells_json(o, &c->cells, c->watched);
    burst = cJSON_AddObjectToObject(o, "bursts");
    add_spread(burst, "kib", &c->burst);
    add_spread(burst, "on_s", &c->on);
    add_spread(burst, "off_s", &c->off);
    add_spread(o, "rtt_ms", &c->rtt);
    add_shares(o, "states", c->state_s, r->states, r->n_states, c->seconds);
    add_shares(o, "radios", c->radio_s, r->radios, r->n_radios, c->seconds);
    add_number(o, "battery_min", c->battery_min);
    add_number(o, "temp_max_c", c->temperature_max);
    add_number(o, "clock_min", c->clock_min);
    energy = cJSON_AddObjectToObject(o, "energy_j");
    cJSON_ArrayForEach(cause, c->energy) add_number(energy, cause->string, cause->valuedouble / c->phones);
    return o;
}

static cJSON *profile_json(struct reader *r)
{
    cJSON *o = cJSON_CreateObject(), *classes;

    add_number(o, "seconds", r->seconds);
    add_number(o, "samples", (double)r->samples);
    add_number(o, "fleet", r->fleet);
    add_number(o, "watched", r->n_phones);
    add_number(o, "sent_up_mbit_s", r->sent_up * mbit / r->seconds);
    add_number(o, "arrived_down_mbit_s", r->arrived_down * mbit / r->seconds);
    classes = cJSON_AddArrayToObject(o, "classes");
    for (unsigned i = 0; i < r->n_classes; i++)
        if (r->class[i].watched)
            cJSON_AddItemToArray(classes, class_json(r, &r->class[i]));
    return o;
}

cJSON *sl_profile_read(const struct sl_profile_source *s, char *err, size_t err_cap)
{
    struct reader r = {.class = calloc(CLASSES_MAX, sizeof(struct class))};
    cJSON *o = NULL;
    int rc = r.class ? 0 : -ENOMEM;

    if (rc)
        snprintf(err, err_cap, "out of memory");
    if (!rc)
        rc = read_lines(&r, s->traffic, s->traffic_name, take_traffic, err, err_cap);
    if (!rc && r.samples == 0) {
        snprintf(err, err_cap, "%s: no samples; the run ended before the first one", s->traffic_name);
        rc = -EINVAL;
    }
    if (!rc)
        rc = read_lines(&r, s->events, s->events_name, take_events, err, err_cap);
    if (!rc)
        o = profile_json(&r);
    if (r.class)
        forget(&r);
    free(r.class);
    return o;
}

static FILE *open_in(
    const char *run_dir, const char *name, char path[PATH_MAX_BYTES], char *err, size_t err_cap)
{
    if ((size_t)snprintf(path, PATH_MAX_BYTES, "%s/%s", run_dir, name) >= PATH_MAX_BYTES) {
        snprintf(err, err_cap, "%.200s...: the path is too long", run_dir);
        return NULL;
    }
    FILE *f = fopen(path, "r");
    if (!f)
        snprintf(err, err_cap, "%s: %s; give the directory of a run that sluice-sim has written", path,
            strerror(errno));
    return f;
}

cJSON *sl_profile(const char *run_dir, char *err, size_t err_cap)
{
    char traffic[PATH_MAX_BYTES], events[PATH_MAX_BYTES];
    struct sl_profile_source s = {.traffic_name = traffic, .events_name = events};
    cJSON *o = NULL;

    s.traffic = open_in(run_dir, "traffic.jsonl", traffic, err, err_cap);
    s.events = s.traffic ? open_in(run_dir, "sim.jsonl", events, err, err_cap) : NULL;
    if (s.events)
        o = sl_profile_read(&s, err, err_cap);
    if (s.events)
        fclose(s.events);
    if (s.traffic)
        fclose(s.traffic);
    return o;
}
