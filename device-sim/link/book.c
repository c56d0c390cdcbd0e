#include "device-sim/link/book.h"

#include "device-sim/link/record.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ms_ns = 1000000;

struct record {
    const char *file, *column; /* column NULL: a trace */
    struct sl_trace trace;
    struct sl_series series;
};

struct sl_link_book {
    const struct sl_experiment *e;
    struct {
        const struct record *up, *down; /* NULL: a constant rate */
    } class[SL_CLASSES_MAX];
    uint32_t n;
    struct record record[2 * SL_CLASSES_MAX];
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

/* The record of a file, read if it was not before. */
static int read_once(struct sl_link_book *b, const char *file, const char *column, const struct record **out,
    char *err, size_t err_cap)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct record *r = &b->record[i];
        if (strcmp(r->file, file) == 0 &&
            (column ? r->column && strcmp(r->column, column) == 0 : !r->column)) {
            *out = r;
            return 0;
        }
    }
    struct record *r = &b->record[b->n];
    int rc = column ? sl_series_load(file, column, &r->series, err, err_cap)
                    : sl_trace_load(file, &r->trace, err, err_cap);
    if (rc)
        return rc;
    r->file = file;
    r->column = column;
    b->n++;
    *out = r;
    return 0;
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
        bool trace = c->trace_up[0];
        if (!trace && !c->rates[0])
            continue;
        rc = read_once(
            b, trace ? c->trace_up : c->rates, trace ? NULL : c->rates_up, &b->class[i].up, err, err_cap);
        if (!rc)
            rc = read_once(b, trace ? c->trace_down : c->rates, trace ? NULL : c->rates_down,
                &b->class[i].down, err, err_cap);
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
    }
    free(b);
}

static uint64_t period_ns(const struct record *r)
{
    return r->column ? r->series.at_ns[r->series.n - 1] : r->trace.at_ms[r->trace.n - 1] * ms_ns;
}

/* The link's clock shows start_ns when the record is at offset_ns. */
static uint64_t phase(const struct record *r, uint64_t offset_ns, uint64_t start_ns)
{
    uint64_t period = period_ns(r);

    return (offset_ns % period + period - start_ns % period) % period;
}

static struct sl_service_params service(
    const struct record *r, double mbps, uint64_t offset_ns, uint64_t start_ns)
{
    if (!r)
        return (struct sl_service_params){.kind = SL_SERVICE_RATE, .rate_bps = mbps * 1e6};
    if (r->column)
        return (struct sl_service_params){
            .kind = SL_SERVICE_SERIES, .series = &r->series, .phase_ns = phase(r, offset_ns, start_ns)};
    return (struct sl_service_params){
        .kind = SL_SERVICE_TRACE, .trace = &r->trace, .phase_ns = phase(r, offset_ns, start_ns)};
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
    const struct record *up = b->class[i].up, *down = b->class[i].down;
    uint64_t offset = start_offset(b, phone, up, down, c->phase_s);
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
    out->up.service = service(up, c->up_mbps, offset, start_ns);
    out->down.service = service(down, c->down_mbps, offset, start_ns);
}
