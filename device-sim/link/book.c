#include "device-sim/link/book.h"

#include "device-sim/link/record.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ms_ns = 1000000;

enum kind { TRACE, SERIES, LIGHT };

struct record {
    enum kind kind;
    const char *file, *column; /* column: of a series */
    struct sl_trace trace;
    struct sl_series series;
    struct sl_light light;
};

/* Of one direction of a class. */
struct way {
    const struct record *record; /* NULL: a constant rate */
    const struct record *light;  /* NULL: none */
};

struct sl_link_book {
    const struct sl_experiment *e;
    struct {
        struct way up, down;
    } class[SL_CLASSES_MAX];
    uint32_t n;
    struct record record[4 * SL_CLASSES_MAX];
};

static struct sl_discipline_params queue_of(const struct sl_link_config *c)
{
    enum sl_discipline_kind kind = SL_DISCIPLINE_DROPTAIL;

    while (c->queue.kind[0] && strcmp(sl_discipline_name(kind), c->queue.kind) != 0)
        kind++;
    return (struct sl_discipline_params){.kind = kind,
        .bytes = c->queue.packets ? 0 : (uint64_t)c->queue_kib * 1024,
        .packets = c->queue.packets,
        .target_ns = (uint64_t)(c->queue.target_ms * 1e6),
        .interval_ns = (uint64_t)(c->queue.interval_ms * 1e6)};
}

static struct sl_impairment_params impairment_of(const struct sl_link_config *c)
{
    return (struct sl_impairment_params){.loss = {.good = c->loss.good,
                                             .bad = c->loss.bad,
                                             .good_to_bad = c->loss.good_to_bad,
                                             .bad_to_good = c->loss.bad_to_good},
        .jitter = {.mean_ns = (uint64_t)(c->jitter_ms * 1e6),
            .reorder = c->reorder.share,
            .reorder_by_ns = (uint64_t)(c->reorder.by_ms * 1e6)}};
}

static int load(struct record *r, char *err, size_t err_cap)
{
    switch (r->kind) {
    case TRACE:
        return sl_trace_load(r->file, &r->trace, err, err_cap);
    case SERIES:
        return sl_series_load(r->file, r->column, &r->series, err, err_cap);
    default:
        return sl_light_load(r->file, &r->light, err, err_cap);
    }
}

/* The record of a file, read if it was not before; an empty name: none. */
static int read_once(struct sl_link_book *b, enum kind kind, const char *file, const char *column,
    const struct record **out, char *err, size_t err_cap)
{
    if (!file[0])
        return 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct record *r = &b->record[i];
        if (r->kind == kind && strcmp(r->file, file) == 0 && strcmp(r->column, column) == 0) {
            *out = r;
            return 0;
        }
    }
    struct record *r = &b->record[b->n];
    *r = (struct record){.kind = kind, .file = file, .column = column};
    int rc = load(r, err, err_cap);
    if (rc)
        return rc;
    b->n++;
    *out = r;
    return 0;
}

static int read_way(struct sl_link_book *b, const struct sl_link_config *c, const char *trace,
    const char *light, const char *column, struct way *w, char *err, size_t err_cap)
{
    int rc = c->rates[0] ? read_once(b, SERIES, c->rates, column, &w->record, err, err_cap)
                         : read_once(b, TRACE, trace, "", &w->record, err, err_cap);

    return rc ? rc : read_once(b, LIGHT, light, "", &w->light, err, err_cap);
}

int sl_link_book_open(const struct sl_experiment *e, struct sl_link_book **out, char *err, size_t err_cap)
{
    struct sl_link_book *b = calloc(1, sizeof *b);
    int rc = 0;

    if (!b) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    b->e = e;
    for (uint32_t i = 0; i < e->n_classes && !rc; i++) {
        const struct sl_link_config *c = &e->fleet[i].link;
        rc = read_way(b, c, c->trace_up, c->light_up, c->rates_up, &b->class[i].up, err, err_cap);
        if (!rc)
            rc = read_way(b, c, c->trace_down, c->light_down, c->rates_down, &b->class[i].down, err, err_cap);
    }
    if (rc) {
        sl_link_book_close(b);
        return rc;
    }
    *out = b;
    return 0;
}

void sl_link_book_close(struct sl_link_book *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < b->n; i++) {
        sl_trace_free(&b->record[i].trace);
        sl_series_free(&b->record[i].series);
        sl_light_free(&b->record[i].light);
    }
    free(b);
}

static uint64_t period_ns(const struct record *r)
{
    switch (r->kind) {
    case TRACE:
        return r->trace.at_ms[r->trace.n - 1] * ms_ns;
    case SERIES:
        return r->series.at_ns[r->series.n - 1];
    default:
        return r->light.at_ms[r->light.n - 1] * ms_ns;
    }
}

/* The link's clock shows start_ns when the record is at offset_ns. */
static uint64_t phase(const struct record *r, uint64_t offset_ns, uint64_t start_ns)
{
    uint64_t period = period_ns(r);

    return (offset_ns % period + period - start_ns % period) % period;
}

static struct sl_service_params service(
    const struct way *w, double mbps, double idle_ms, uint64_t offset_ns, uint64_t start_ns)
{
    struct sl_service_params p = {.kind = SL_SERVICE_RATE, .rate_bps = mbps * 1e6};

    if (!w->record)
        return p;
    p.kind = w->record->kind == SERIES ? SL_SERVICE_SERIES : SL_SERVICE_TRACE;
    p.trace = &w->record->trace;
    p.series = &w->record->series;
    p.phase_ns = phase(w->record, offset_ns, start_ns);
    if (w->light) {
        p.light = &w->light->light;
        p.light_phase_ns = phase(w->light, offset_ns, start_ns);
        p.light_idle_ns = (uint64_t)(idle_ms * 1e6);
    }
    return p;
}

static uint64_t start_offset(const struct sl_link_book *b, uint32_t phone, const struct record *up,
    const struct record *down, double phase_s)
{
    char name[40];

    if (phase_s >= 0 || !up)
        return phase_s > 0 ? (uint64_t)(phase_s * 1e9) : 0;
    uint64_t longest = period_ns(up) > period_ns(down) ? period_ns(up) : period_ns(down);
    snprintf(name, sizeof name, "link %u phase", phone);
    return sl_rng_u64(sl_rng_key(b->e->seed, name), 0) % (longest / ms_ns ? longest / ms_ns : 1) * ms_ns;
}

void sl_link_book_phone(
    const struct sl_link_book *b, uint32_t phone, uint64_t start_ns, struct sl_link_pair *out)
{
    uint32_t i = sl_experiment_class_of(b->e, phone);
    const struct sl_link_config *c = &b->e->fleet[i].link;
    const struct way *up = &b->class[i].up, *down = &b->class[i].down;
    uint64_t offset = start_offset(b, phone, up->record, down->record, c->phase_s);
    char name[40];
    struct sl_link_params p = {.queue = queue_of(c),
        .impairment = impairment_of(c),
        .delay_ns = (uint64_t)(c->rtt_ms / 2 * 1e6),
        .outage = {.every_ns = (uint64_t)(c->outages.every_s * 1e9),
            .for_ns = (uint64_t)(c->outages.for_s * 1e9),
            .regular = c->outages.regular,
            .zero_ns = start_ns}};

    snprintf(name, sizeof name, "link %u outages", phone);
    p.outage_key = sl_rng_key(b->e->seed, name);
    out->up = out->down = p;
    if (c->radio[0]) { /* its cells serve it (device-sim/radio) */
        out->up.service.kind = out->down.service.kind = SL_SERVICE_GRANTED;
        return;
    }
    out->up.service = service(up, c->up_mbps, c->light_idle_ms, offset, start_ns);
    out->down.service = service(down, c->down_mbps, c->light_idle_ms, offset, start_ns);
}
