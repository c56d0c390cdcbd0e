#include "device-sim/fleet/fleet.h"

#include "dataplane/io/lcore/privileges.h"
#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All phones are asked: less often where there are many. */
static uint64_t totals_every_ns(uint32_t n)
{
    return 250000000 * (UINT64_C(1) + n / 500);
}

static const uint64_t poll_ns = 250000, bye_wait_ns = 2000000000, publish_wait_ns = 50000000;
enum { ADAPTER_SLACK_BYTES = 4096 };

const struct sl_class_config *sl_fleet_class(const struct sl_fleet *f, uint32_t phone)
{
    return &f->material.experiment->fleet[sl_experiment_class_of(f->material.experiment, phone)];
}

const char *sl_fleet_edge(const struct sl_fleet *f)
{
    return f->options.edge ? f->options.edge : f->material.experiment->edge.control;
}

static void set_fault(struct sl_fleet *f, uint32_t i, struct sl_phone_config *c)
{
    for (unsigned k = 0; k < f->options.n_faults; k++) {
        const struct sl_sim_fault *fault = &f->options.fault[k];
        if (fault->device != i)
            continue;
        if (fault->kind == SL_SIM_FAULT_DIE) {
            f->line[i].dies = true;
            f->line[i].die_step = fault->step;
        } else {
            c->fault = fault->kind == SL_SIM_FAULT_NAN ? SL_FAULT_NAN : SL_FAULT_ABSURD;
            c->fault_step = fault->step;
        }
    }
}

static int make_phone(struct sl_fleet *f, uint32_t i)
{
    const struct sl_experiment *e = f->material.experiment;
    struct sl_store *store = sl_plane_store(f->plane);
    struct sl_phone_config c = {.index = i,
        .device_class = sl_fleet_class(f, i)->name,
        .model = f->material.model,
        .codec = f->material.codec,
        .mtu = e->edge.data.mtu,
        .seq = sl_material_seq(&f->material, i),
        .batch = e->training.batch,
        .train = f->material.shards[i].train,
        .held_out = f->material.shards[i].held_out,
        .held_out_windows = f->material.held_out_windows[i],
        .messages = sl_store_message(store, i, 0),
        .gradient = sl_store_gradient(store, i),
        .message_bytes = sl_store_message_bytes(store),
        .common = f->material.replay || f->world ? &f->material.common : NULL};

    memcpy(c.model_hash, f->material.model_hash, sizeof(c.model_hash));
    set_fault(f, i, &c);
    return sl_phone_init(&f->phone[i], &c, &sl_fleet_phone_ops, f);
}

static size_t adapter_bytes(const struct sl_material *m)
{
    const struct sl_model_config *shape = sl_model_config(m->model);
    struct sl_lora_config lora = {.rank = m->experiment->training.lora.rank};

    for (uint32_t i = 0; i < m->experiment->training.lora.n_targets; i++)
        lora.targets |= sl_target_bits(shape->family, m->experiment->training.lora.targets[i]);
    return sl_adapter_block_size(shape, &lora) * sizeof(float) * shape->n_layers + ADAPTER_SLACK_BYTES;
}

static int make_tables(struct sl_fleet *f, char *err, size_t err_cap)
{
    f->n = f->material.experiment->n_devices;
    f->phone = calloc(f->n, sizeof(*f->phone));
    f->line = calloc(f->n, sizeof(*f->line));
    f->excess = calloc(1, sizeof(*f->excess));
    f->lag = calloc(1, sizeof(*f->lag));
    if (f->phone && f->line && f->excess && f->lag && sl_timers_create(f->n, &f->timers) == 0) {
        sl_histogram_reset(f->excess);
        sl_histogram_reset(f->lag);
        return 0;
    }
    snprintf(err, err_cap, "out of memory for %u phones", f->n);
    return -ENOMEM;
}

static int drop_privileges(struct sl_fleet *f, char *err, size_t err_cap)
{
    struct sl_privileges p = {.user = f->options.user,
        .run_dir = f->options.run,
        .keep_net_admin = !strncmp(f->material.experiment->edge.data.fleet_backend, "af_xdp:", 7)};
    char said[160];
    int rc = sl_privileges_drop(&p, said, sizeof(said), err, err_cap);

    if (!rc && said[0])
        fprintf(stderr, "sluice-sim: %s\n", said);
    return rc;
}

static void see(void *app, const struct sl_emulator_seen *s)
{
    struct sl_fleet *f = app;

    sl_events_sight(f->events, s, f->start_ns);
}

static int make_phones(struct sl_fleet *f, char *err, size_t err_cap)
{
    struct sl_plane_config plane = {
        .experiment = f->material.experiment, .run_dir = f->options.run, .start_ns = sl_fleet_now_ns(f)};
    size_t workspace = 0, floats;
    int rc;

    sl_material_sizes(&f->material, &plane.message_bytes, &plane.gradient_bytes);
    plane.replay = f->material.replay;
    plane.port = f->world ? sl_world_port(f->world) : NULL;
    plane.watch = f->options.events == SL_SIM_EVENTS_PACKETS ? SL_PLANE_WATCH_PACKETS
                  : f->options.events == SL_SIM_EVENTS_STEPS ? SL_PLANE_WATCH_DROPS
                                                             : SL_PLANE_WATCH_NOTHING;
    plane.seen = f->world ? see : NULL;
    plane.app = f;
    bool port_first = !f->world && sl_privileges_for_port(plane.experiment->edge.data.fleet_backend);
    rc = port_first || f->world ? 0 : drop_privileges(f, err, err_cap);
    if (!rc)
        rc = sl_plane_open(&plane, &f->plane, err, err_cap);
    if (!rc && port_first)
        rc = drop_privileges(f, err, err_cap);
    for (uint32_t i = 0; i < f->n && !rc; i++) {
        rc = make_phone(f, i);
        if (rc)
            snprintf(err, err_cap, "phone %u cannot be set up: %s", i, strerror(-rc));
        floats = sl_phone_workspace_floats(&f->phone[i].cfg, f->material.shape.d_model);
        workspace = floats > workspace ? floats : workspace;
    }
    if (!rc)
        rc = f->world || f->material.replay
                 ? sl_compute_pretend(f->phone, f->n, &f->compute, err, err_cap)
                 : sl_compute_start(f->phone, f->n, workspace, f->recorder, &f->compute, err, err_cap);
    return rc;
}

static int open_access(struct sl_fleet *f, char *err, size_t err_cap)
{
    char pki[SL_PATH_BYTES + 8];
    struct sl_tls_access_config c = {.pki = f->options.pki ? f->options.pki : pki,
        .edge = sl_fleet_edge(f),
        .n_phones = f->n,
        .adapter_bytes_max = adapter_bytes(&f->material)};

    if (snprintf(pki, sizeof(pki), "%s/pki", f->options.run) >= (int)sizeof(pki)) {
        snprintf(err, err_cap, "%.200s...: too long a name for a directory", f->options.run);
        return -ENAMETOOLONG;
    }
    f->access = &sl_tls_access_ops;
    int rc = sl_tls_access_create(&c, &sl_line_events, f, &f->tls, err, err_cap);
    f->access_ctx = f->tls;
    return rc;
}

static int open_recorder(struct sl_fleet *f, char *err, size_t err_cap)
{
    const char *file = f->options.record ? f->options.record : f->material.experiment->sim.record;
    struct sl_replay_model model;

    if (!file[0] || f->world)
        return 0;
    if (f->material.replay) {
        snprintf(err, err_cap, "--record: records what real phones send; remove it, or sim.compute: replay");
        return -EINVAL;
    }
    sl_material_replay_model(&f->material, &model);
    return sl_recorder_open(file, &model, 0, &f->recorder, err, err_cap);
}

static int close_recorder(struct sl_fleet *f, char *err, size_t err_cap)
{
    if (!f->recorder)
        return 0;
    int rc = sl_recorder_close(f->recorder, &f->recorded, &f->recording_left_out, err, err_cap);
    f->recorder = NULL;
    return rc;
}

static int open_events(struct sl_fleet *f, char *err, size_t err_cap)
{
    char path[SL_PATH_BYTES + 16];

    if (f->options.events == SL_SIM_EVENTS_NONE)
        return 0;
    if (snprintf(path, sizeof(path), "%s/events.jsonl", f->options.run) >= (int)sizeof(path)) {
        snprintf(err, err_cap, "%.200s...: too long a name for a directory", f->options.run);
        return -ENAMETOOLONG;
    }
    return sl_events_open(path, f->start_ns, SL_EVENTS_MAX_LINES, &f->events, err, err_cap);
}

int sl_fleet_start(struct sl_fleet *f, char *err, size_t err_cap)
{
    int rc = make_tables(f, err, err_cap);

    if (!rc)
        rc = sl_visits_create(f->material.experiment, &f->visits, err, err_cap);
    if (!rc)
        rc = sl_material_write_held_out(&f->material, f->options.run, err, err_cap);
    if (!rc)
        rc = f->options.is_virtual ? sl_fleet_open_world(f, err, err_cap) : open_access(f, err, err_cap);
    if (!rc)
        rc = open_recorder(f, err, err_cap);
    if (!rc)
        rc = make_phones(f, err, err_cap);
    if (rc)
        return rc;
    rc = sl_bodies_create(f->material.experiment, sl_fleet_now_ns(f), &f->bodies);
    if (rc) {
        snprintf(err, err_cap, "the phones' clocks and batteries cannot be set up: %s", strerror(-rc));
        return rc;
    }
    f->start_ns = sl_fleet_now_ns(f);
    sl_visits_begin(f->material.experiment, f->start_ns, &f->visits);
    sl_lines_open(f);
    rc = open_events(f, err, err_cap);
    if (!rc)
        rc = sl_fleet_traffic_open(f, err, err_cap);
    if (rc)
        return rc;
    sl_report_start(f);
    return 0;
}

void sl_fleet_free(struct sl_fleet *f)
{
    sl_events_close(f->events, f->access ? sl_fleet_now_ns(f) : 0, 0);
    f->events = NULL;
    if (f->compute)
        sl_compute_stop(f->compute);
    char ignored[SL_ERR_BYTES];
    close_recorder(f, ignored, sizeof(ignored)); /* of a run that did not begin */
    sl_tls_access_free(f->tls);
    if (f->plane)
        sl_plane_close(f->plane);
    sl_world_free(f->world);
    for (uint32_t i = 0; f->phone && i < f->n; i++)
        sl_phone_fini(&f->phone[i]);
    sl_visits_free(&f->visits);
    sl_bodies_free(&f->bodies);
    free(f->phone);
    free(f->line);
    free(f->excess);
    free(f->lag);
    sl_timers_free(f->timers);
    sl_traffic_close(f->traffic);
    if (f->metrics)
        sl_metrics_close(f->metrics);
    sl_material_free(&f->material);
}

/* ---- the control thread's turn ---- */

static void take_computed(struct sl_fleet *f, uint64_t now_ns)
{
    uint64_t excess_ns;
    uint32_t i;

    while (sl_compute_done(f->compute, &i)) {
        bool counts = !f->phone[i].batch.eval;
        sl_line_computed(f, i, now_ns, &excess_ns);
        if (counts)
            sl_histogram_record(f->excess, excess_ns);
    }
}

static void take_all(struct sl_fleet *f, uint64_t now_ns)
{
    struct sl_lcore_confirm confirm;
    struct sl_store_event event;
    struct sl_emulator_seen seen;
    uint32_t i;

    while (sl_plane_confirmed(f->plane, &confirm))
        sl_line_confirmed(f, &confirm, now_ns);
    while (sl_plane_seen(f->plane, &seen))
        see(f, &seen);
    while (sl_plane_event(f->plane, &i, &event))
        sl_line_event(f, i, &event, now_ns);
    take_computed(f, now_ns);
}

static void begin_stop(struct sl_fleet *f, uint64_t now_ns)
{
    f->stopping_ns = now_ns;
    f->interrupted = true;
    for (uint32_t i = 0; i < f->n; i++)
        sl_line_bye(f, i, "interrupted");
}

/* An edge that is never seen at the port, although control may stand, ends the run. Later losses are told,
 * and are the phones' affair. */
static void watch_link(struct sl_fleet *f, uint64_t now_ns)
{
    char text[SL_CONTROL_TEXT_MAX + 1];

    if (f->stopping_ns)
        return;
    int rc = sl_plane_wait(f->plane, text, sizeof(text));
    if (f->link_seen && (rc == 0) != (f->link_down_ns == 0)) {
        sl_report_link(f, rc == 0, now_ns);
        f->link_down_ns = rc == 0 ? 0 : now_ns;
    }
    for (uint32_t i = 0; !f->link_seen && rc == -ETIMEDOUT && i < f->n; i++)
        sl_line_bye(f, i, text);
    f->link_seen |= rc == 0;
}

/* A phone whose time has come, and that has nothing to do yet, waits for something else: it is looked at
 * again with that, and in real time now and then. */
static void poll_phone(struct sl_fleet *f, uint32_t i, uint64_t due_ns, uint64_t now_ns)
{
    if (due_ns && due_ns == sl_phone_deadline(&f->phone[i]) && f->phone[i].state != SL_PHONE_IDLE)
        sl_histogram_record(f->lag, now_ns - due_ns);
    sl_line_poll(f, i, now_ns);
    if (!f->line[i].close_wanted && sl_line_deadline(f, i) <= now_ns)
        sl_line_poll(f, i, now_ns);
    if (f->line[i].close_wanted || sl_line_deadline(f, i) <= now_ns)
        sl_timers_set(f->timers, i, f->world && !f->line[i].close_wanted ? UINT64_MAX : now_ns + poll_ns);
}

static void poll_fleet(void *app, uint64_t now_ns)
{
    struct sl_fleet *f = app;

    take_all(f, now_ns);
    watch_link(f, now_ns);
    if (now_ns >= f->totals_ns) {
        sl_report_totals(f, now_ns);
        f->totals_ns = now_ns + totals_every_ns(f->n);
    }
    sl_fleet_traffic_poll(f, now_ns);
    if (*f->signals && !f->stopping_ns)
        begin_stop(f, now_ns);
    sl_lines_begin(f, now_ns);
    uint64_t due_ns = sl_timers_deadline(f->timers);
    for (int64_t i; (i = sl_timers_next(f->timers, now_ns)) >= 0; due_ns = sl_timers_deadline(f->timers))
        poll_phone(f, (uint32_t)i, due_ns, now_ns);
    if (f->run_over && sl_visits_on(&f->visits))
        sl_visits_run_over(f);
    if (f->n_over == f->n && !f->stopping_ns)
        f->stopping_ns = now_ns;
    /* What is left: goodbyes on their way out, and the last figures of the lcore. */
    if (f->stopping_ns &&
        ((f->access->connections(f->access_ctx) == 0 && now_ns - f->stopping_ns > publish_wait_ns) ||
            now_ns - f->stopping_ns > bye_wait_ns))
        f->access->stop(f->access_ctx);
}

/* When the turn has something to do by time alone; what has come already waits for something else. */
static uint64_t next_poll(void *app, uint64_t now_ns)
{
    const struct sl_fleet *f = app;
    uint64_t at = f->totals_ns, d = sl_traffic_deadline(f->traffic);

    at = d < at ? d : at;
    if (f->stopping_ns) {
        d = f->stopping_ns + publish_wait_ns + 1;
        at = d > now_ns && d < at ? d : at;
        d = f->stopping_ns + bye_wait_ns + 1;
        at = d > now_ns && d < at ? d : at;
    }
    d = sl_timers_deadline(f->timers);
    return d < at ? d : at;
}

static int finish(struct sl_fleet *f)
{
    char err[SL_ERR_BYTES];
    uint32_t done = 0;

    sl_plane_stop(f->plane);
    if (f->compute)
        sl_compute_stop(f->compute);
    f->compute = NULL;
    int recorded = close_recorder(f, err, sizeof(err));
    if (recorded)
        fprintf(stderr, "sluice-sim: %s\n", err);
    for (uint32_t i = 0; i < f->n; i++)
        done += strcmp(f->phone[i].reason, "done") == 0;
    int rc = sl_report_central(f, err, sizeof(err));
    int logged = sl_events_close(f->events, sl_fleet_now_ns(f), sl_plane_unseen(f->plane));
    f->events = NULL;
    if (!rc && logged)
        snprintf(
            err, sizeof(err), "%.300s/events.jsonl cannot be written: %s", f->options.run, strerror(-logged));
    rc = rc ? rc : logged;
    cJSON *end = sl_report_end(f);
    if (f->options.json && end) {
        char *text = cJSON_PrintUnformatted(end);
        printf("%s\n", text ? text : "{}");
        cJSON_free(text);
    }
    cJSON_Delete(end);
    if (rc) {
        fprintf(stderr, "sluice-sim: %s\n", err);
        return EXIT_FAILURE;
    }
    if (recorded)
        return EXIT_FAILURE;
    if (f->interrupted)
        return 130;
    if (done == 0) {
        fprintf(stderr, "sluice-sim: no phone finished the run; %s\n", f->failure);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

int sl_fleet_run(struct sl_fleet *f, const volatile sig_atomic_t *signals)
{
    f->signals = signals;
    int rc = f->world ? sl_fleet_run_world(f, poll_fleet, next_poll)
                      : sl_tls_access_run(f->tls, poll_fleet, f, poll_ns);

    if (rc) {
        fprintf(stderr, "sluice-sim: the control loop failed: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    return finish(f);
}
