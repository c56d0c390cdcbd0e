/* What the simulator leaves in the run directory: sim.jsonl and central.ids. */
#include "device-sim/fleet/fleet.h"

#include "device-sim/fleet/id_file.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/isa/isa.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ns = 1e-9;
static const double host_bound_above = 0.05; /* of the modelled compute time: rules L13 */

void sl_report_start(struct sl_fleet *f)
{
    cJSON *o = cJSON_CreateObject();
    const struct sl_experiment *e = f->material.experiment;

    cJSON_AddStringToObject(o, "name", e->name);
    cJSON_AddNumberToObject(o, "devices", f->n);
    cJSON_AddNumberToObject(o, "seed", (double)e->seed);
    cJSON_AddStringToObject(o, "codec", sl_codec_name(f->material.codec));
    cJSON_AddStringToObject(o, "compute", f->material.replay ? "replay" : "real");
    cJSON_AddStringToObject(o, "eal_args", sl_plane_eal_args(f->plane));
    cJSON_AddStringToObject(o, "precision", f->material.precision);
    cJSON_AddStringToObject(o, "gemm_kernel", sl_gemm_kernel_name());
    cJSON_AddStringToObject(o, "kernel_level", sl_isa_name(sl_isa_current()));
    sl_metrics_write(f->metrics, "start", o);
}

static cJSON *energy_json(const struct sl_energy *e)
{
    cJSON *o = cJSON_CreateObject();

    for (int c = 0; c < SL_CAUSE_COUNT; c++)
        cJSON_AddNumberToObject(o, sl_cause_name((enum sl_cause)c), e->by_cause_j[c]);
    return o;
}

static void report_body(cJSON *o, const struct sl_body *body)
{
    struct sl_energy energy;
    struct sl_body_state state;

    sl_body_energy(body, &energy);
    sl_body_state(body, &state);
    cJSON_AddNumberToObject(o, "energy_j", energy.total_j);
    cJSON_AddItemToObject(o, "energy", energy_json(&energy));
    cJSON_AddNumberToObject(o, "charged_j", energy.charged_j);
    cJSON_AddNumberToObject(o, "battery_start", body->cfg->battery_start);
    cJSON_AddNumberToObject(o, "battery_start_j", body->cfg->battery_start * body->cfg->battery_j);
    cJSON_AddNumberToObject(o, "battery", state.battery);
    cJSON_AddNumberToObject(o, "temperature_c", state.temperature_c);
    cJSON_AddNumberToObject(o, "clock_ghz", state.clock_hz * 1e-9);
}

static void report_visits(cJSON *o, const struct sl_fleet *f, uint32_t i)
{
    const struct sl_visit_counts *c = &f->visits.counts[i];
    uint64_t away_ns = c->away_ns;

    if (strcmp(f->phone[i].reason, "done") && f->line[i].away)
        away_ns += sl_fleet_now_ns(f) - c->since_ns;
    cJSON_AddNumberToObject(o, "arrivals", (double)c->events[SL_LIFE_ARRIVE]);
    cJSON_AddNumberToObject(o, "departures", (double)c->events[SL_LIFE_DEPART]);
    cJSON_AddNumberToObject(o, "crashes", (double)c->events[SL_LIFE_CRASH]);
    cJSON_AddNumberToObject(o, "kills", (double)c->events[SL_LIFE_KILL]);
    cJSON_AddNumberToObject(o, "rests", (double)c->rests);
    cJSON_AddNumberToObject(o, "away_s", (double)away_ns * ns);
}

static void report_phone(struct sl_fleet *f, uint32_t i)
{
    const struct sl_phone *p = &f->phone[i];
    struct sl_plane_phone data;
    char id[32];
    cJSON *o = cJSON_CreateObject();

    sl_plane_phone(f->plane, i, &data);
    snprintf(id, sizeof(id), "device-%05u", i);
    cJSON_AddStringToObject(o, "id", id);
    cJSON_AddNumberToObject(o, "index", i);
    cJSON_AddStringToObject(o, "class", p->cfg.device_class);
    cJSON_AddNumberToObject(o, "cut", p->cut);
    cJSON_AddNumberToObject(o, "shard_bytes", (double)f->material.shards[i].bytes);
    report_body(o, sl_body_of(&f->bodies, f->plane, i, sl_fleet_now_ns(f)));
    cJSON_AddNumberToObject(o, "promotions", (double)data.promotions);
    cJSON_AddNumberToObject(o, "promotion_s", (double)data.radio.promotion_ns * ns);
    if (data.cell) {
        cJSON_AddNumberToObject(o, "handovers", (double)data.handovers);
        cJSON_AddNumberToObject(o, "cell", (double)data.cell);
    }
    cJSON_AddNumberToObject(o, "bytes_up", (double)data.bytes_up);
    cJSON_AddNumberToObject(o, "bytes_down", (double)data.bytes_down);
    cJSON_AddNumberToObject(o, "retransmits", (double)data.retransmits);
    cJSON_AddNumberToObject(o, "steps", (double)p->totals.steps);
    cJSON_AddNumberToObject(o, "steps_lost", (double)p->totals.steps_lost);
    cJSON_AddNumberToObject(o, "steps_refused", (double)p->totals.steps_refused);
    cJSON_AddNumberToObject(o, "rollbacks", (double)p->totals.rollbacks);
    cJSON_AddNumberToObject(o, "modelled_compute_s", p->totals.modelled_s);
    cJSON_AddNumberToObject(o, "host_excess_s", p->totals.host_excess_s);
    if (sl_visits_on(&f->visits))
        report_visits(o, f, i);
    cJSON_AddStringToObject(o, "end", p->reason);
    sl_metrics_write(f->metrics, "phone", o);
}

void sl_report_totals(struct sl_fleet *f, uint64_t now_ns)
{
    double up = 0, down = 0, joules = 0;
    cJSON *o = cJSON_CreateObject();

    for (uint32_t i = 0; i < f->n; i++) {
        struct sl_plane_phone data;
        struct sl_energy energy;
        sl_plane_phone(f->plane, i, &data);
        sl_body_energy(sl_body_of(&f->bodies, f->plane, i, now_ns), &energy);
        up += (double)data.bytes_up;
        down += (double)data.bytes_down;
        joules += energy.total_j;
    }
    cJSON_AddNumberToObject(o, "bytes_up", up);
    cJSON_AddNumberToObject(o, "bytes_down", down);
    cJSON_AddNumberToObject(o, "energy_j", joules);
    sl_metrics_write(f->metrics, "totals", o);
}

/* A direction of all links together: offered = delivered + under_way + the drops. */
static cJSON *link_json(const struct sl_link_stats *s)
{
    cJSON *o = cJSON_CreateObject(), *drops = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "offered", (double)s->offered);
    cJSON_AddNumberToObject(o, "delivered", (double)s->delivered);
    cJSON_AddNumberToObject(o, "delivered_bytes", (double)s->delivered_bytes);
    cJSON_AddNumberToObject(o, "under_way", (double)s->under_way);
    for (int v = SL_LINK_TAKEN + 1; v < SL_LINK_VERDICT_COUNT; v++)
        cJSON_AddNumberToObject(drops, sl_link_verdict_name((enum sl_link_verdict)v), (double)s->drops[v]);
    cJSON_AddItemToObject(o, "drops", drops);
    cJSON_AddNumberToObject(
        o, "late_mean_us", s->delivered ? (double)s->late_sum_ns / (double)s->delivered * 1e-3 : 0);
    cJSON_AddNumberToObject(o, "late_max_us", (double)s->late_max_ns * 1e-3);
    return o;
}

static cJSON *endpoint_json(const struct sl_endpoint_stats *s)
{
    cJSON *o = cJSON_CreateObject(), *drops = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "packets_rx", (double)s->packets_rx);
    cJSON_AddNumberToObject(o, "packets_tx", (double)s->packets_tx);
    cJSON_AddNumberToObject(o, "bytes_rx", (double)s->bytes_rx);
    cJSON_AddNumberToObject(o, "bytes_tx", (double)s->bytes_tx);
    cJSON_AddNumberToObject(o, "delivered_data", (double)s->delivered_data);
    cJSON_AddNumberToObject(o, "delivered_frames", (double)s->delivered_frames);
    cJSON_AddNumberToObject(o, "scratch", (double)s->scratch);
    for (int d = SL_DROP_NONE + 1; d < SL_DROP_COUNT; d++)
        cJSON_AddNumberToObject(drops, sl_drop_name((enum sl_drop)d), (double)s->drops[d]);
    cJSON_AddItemToObject(o, "drops", drops);
    return o;
}

void sl_report_link(struct sl_fleet *f, bool up, uint64_t now_ns)
{
    cJSON *o = cJSON_CreateObject();
    double down_s = (double)(now_ns - f->link_down_ns) * ns;

    cJSON_AddBoolToObject(o, "up", up);
    if (up)
        cJSON_AddNumberToObject(o, "down_s", down_s);
    sl_metrics_write(f->metrics, "link", o);
    if (up)
        fprintf(stderr, "sluice-sim: the data port is up again after %.1f s\n", down_s);
    else
        fprintf(stderr, "sluice-sim: the data port's link is down\n");
}

static uint64_t dropped(const struct sl_link_stats *s)
{
    uint64_t n = 0;

    for (int v = SL_LINK_TAKEN + 1; v < SL_LINK_VERDICT_COUNT; v++)
        n += s->drops[v];
    return n;
}

/* What a time of the edge's log has to be set back by to be compared with ours. */
static void report_clock(const struct sl_fleet *f, cJSON *end)
{
    int64_t offset;
    uint64_t uncertainty;

    if (!sl_clock_offset_best(&f->clock_offset, &offset, &uncertainty))
        return;
    cJSON *o = cJSON_AddObjectToObject(end, "edge_clock");
    cJSON_AddNumberToObject(o, "ahead_ms", (double)offset * 1e-6);
    cJSON_AddNumberToObject(o, "uncertainty_ms", (double)uncertainty * 1e-6);
    cJSON_AddNumberToObject(o, "samples", (double)f->clock_offset.n);
}

static void report_world(const struct sl_fleet *f, cJSON *end)
{
    struct sl_model_edge_stats edge;
    cJSON *o = cJSON_AddObjectToObject(end, "model_edge");

    sl_model_edge_stats(sl_world_edge(f->world), &edge);
    cJSON_AddNumberToObject(o, "gangs", (double)edge.gangs);
    cJSON_AddNumberToObject(o, "steps", (double)edge.steps);
    cJSON_AddNumberToObject(o, "versions", (double)edge.versions);
    cJSON_AddNumberToObject(o, "tokens", (double)edge.tokens);
    cJSON_AddNumberToObject(o, "compute_s", (double)edge.compute_ns * ns);
    cJSON_AddNumberToObject(o, "wait_s", (double)edge.wait_ns * ns);
    cJSON_AddNumberToObject(o, "training_s", (double)edge.training_ns * ns);
    cJSON_AddNumberToObject(end, "host_s", f->shown.host_s);
}

cJSON *sl_report_end(struct sl_fleet *f)
{
    struct sl_plane_totals t;
    double modelled_s = 0, excess_s = 0;
    uint64_t steps = 0;
    cJSON *o = cJSON_CreateObject(), *copy;

    for (uint32_t i = 0; i < f->n; i++) {
        report_phone(f, i);
        modelled_s += f->phone[i].totals.modelled_s;
        excess_s += f->phone[i].totals.host_excess_s;
        steps += f->phone[i].totals.steps;
    }
    sl_plane_totals(f->plane, &t);
    cJSON_AddBoolToObject(o, "host_bound", excess_s > host_bound_above * modelled_s);
    cJSON_AddNumberToObject(o, "modelled_compute_s", modelled_s);
    cJSON_AddNumberToObject(o, "host_excess_s", excess_s);
    cJSON_AddNumberToObject(o, "excess_p50_ms", (double)sl_histogram_quantile(f->excess, 0.5) * 1e-6);
    cJSON_AddNumberToObject(o, "excess_p99_ms", (double)sl_histogram_quantile(f->excess, 0.99) * 1e-6);
    cJSON_AddNumberToObject(o, "steps", (double)steps);
    cJSON_AddNumberToObject(o, "link_drops", (double)(dropped(&t.up) + dropped(&t.down) + t.strays));
    cJSON_AddNumberToObject(o, "retransmits", (double)t.endpoint.retransmits);
    cJSON_AddNumberToObject(o, "fragments_compressed", (double)t.store.fragments_compressed);
    cJSON_AddNumberToObject(o, "bytes_saved", (double)t.store.bytes_saved);
    cJSON_AddItemToObject(o, "up", link_json(&t.up));
    cJSON_AddItemToObject(o, "down", link_json(&t.down));
    cJSON_AddItemToObject(o, "endpoint", endpoint_json(&t.endpoint));
    if (f->recorded + f->recording_left_out) {
        cJSON_AddNumberToObject(o, "recorded", (double)f->recorded);
        cJSON_AddNumberToObject(o, "recording_left_out", (double)f->recording_left_out);
    }
    if (!sl_report_lag(f, o))
        fprintf(stderr,
            "sluice-sim: this host could not keep the schedule (lag in sim.jsonl): the run is not valid\n");
    report_clock(f, o);
    cJSON_AddNumberToObject(o, "wall_s", (double)(sl_fleet_now_ns(f) - f->start_ns) * ns);
    cJSON_AddBoolToObject(o, "virtual", f->world != NULL); /* then wall_s is virtual, too */
    if (f->world)
        report_world(f, o);
    cJSON_AddStringToObject(o, "reason",
        f->interrupted  ? "interrupted"
        : f->failure[0] ? f->failure
                        : "done");
    copy = cJSON_Duplicate(o, 1);
    sl_metrics_write(f->metrics, "end", o);
    return copy;
}

/* ---- central.ids ---- */

struct row {
    uint64_t global_step;
    uint32_t device, phone;
    const struct sl_trained *step;
};

static int by_gang(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    if (x->global_step != y->global_step)
        return x->global_step < y->global_step ? -1 : 1;
    return x->device < y->device ? -1 : x->device > y->device;
}

/* A line per trained window, in gang and device order, and beside it the phone that trained it: the
 * baselines train on exactly these. */
int sl_report_central(const struct sl_fleet *f, char *err, size_t err_cap)
{
    struct sl_id_file file, whose;
    size_t n = 0, k = 0;

    for (uint32_t i = 0; i < f->n; i++)
        n += f->phone[i].n_trained;
    if (f->material.replay) /* nobody trained on any window */
        return 0;
    struct row *rows = malloc((n + 1) * sizeof(*rows));
    if (!rows) {
        snprintf(err, err_cap, "out of memory for central.ids");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < f->n; i++) {
        const struct sl_phone *p = &f->phone[i];
        for (size_t s = 0; s < p->n_trained; s++)
            rows[k++] = (struct row){p->trained[s].global_step, p->device_index, i, &p->trained[s]};
    }
    qsort(rows, n, sizeof(*rows), by_gang);
    int rc = sl_id_file_open(&file, f->options.run, "central.ids", err, err_cap);
    if (rc)
        goto out;
    rc = sl_id_file_open(&whose, f->options.run, "central.phones", err, err_cap);
    if (rc) {
        sl_id_file_close(&file, err, err_cap);
        goto out;
    }
    for (size_t r = 0; r < n && !rc; r++) {
        const struct sl_stream *text = &f->material.shards[rows[r].phone].train;
        uint32_t seq = sl_material_seq(&f->material, rows[r].phone);
        for (uint32_t w = 0; w < rows[r].step->n; w++) {
            sl_id_file_line(&whose, &rows[r].phone, 1);
            sl_id_file_line(
                &file, sl_window(text, seq, (rows[r].step->cursor + w) % sl_windows(text, seq)), seq);
        }
    }
    if (!rc)
        rc = sl_id_file_close(&file, err, err_cap);
    if (!rc)
        rc = sl_id_file_close(&whose, err, err_cap);
out:
    free(rows);
    return rc;
}
