/* Sessions, joins and phases: what trainer/edge's join.c, phases.c and dataplane.c decide. */
#include "device-sim/virtual/edge_internal.h"

#include "dataplane/io/lcore/address.h"
#include "trainer/model/schedule.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As trainer/edge has them (edge.h, dataplane.c). */
static const uint64_t eval_ns = 600 * SECOND_NS;
static const uint64_t park_after_ns = 5 * SECOND_NS;
enum { GRANTS_RING_MIN = 64, LAYERS_MAX = 64 };

void sl_model_secret(uint64_t seed, uint64_t session_id, uint32_t epoch, uint8_t secret[32])
{
    uint64_t key = sl_rng_mix(sl_rng_key(seed, "session secret") ^ session_id);

    for (uint32_t i = 0; i < 4; i++) {
        uint64_t word = sl_rng_u64(key, (uint64_t)epoch * 4 + i);
        for (uint32_t k = 0; k < 8; k++)
            secret[8 * i + k] = (uint8_t)(word >> 8 * k);
    }
}

/* ---- creation ---- */

/* What this model does not have is refused, not passed over. */
static int check(const struct sl_model_edge_config *c, char *err, size_t err_cap)
{
    const struct sl_experiment *x = c->experiment;
    const char *what = NULL;

    if (strcmp(x->training.adapters, "personal") == 0)
        what = "training.adapters: personal";
    else if (x->plan.live)
        what = "plan.cut: auto";
    else if (x->n_changes)
        what = "plan.changes";
    else if (c->codec == SL_CODEC_INT8_LZ4 && !c->compressible)
        what = "edge.data.codec: int8+lz4 (what it saves depends on activations; give sim.compute: replay)";
    else if (c->shape->n_layers > LAYERS_MAX)
        what = "a model of more than 64 layers";
    if (!what)
        return 0;
    snprintf(err, err_cap, "--virtual has no %s; run it in real time, or change that", what);
    return -EINVAL;
}

static uint32_t ring_for(uint32_t n)
{
    uint32_t capacity = GRANTS_RING_MIN;

    while (capacity <= n)
        capacity *= 2;
    return capacity;
}

static void opened(void *app, uint32_t session, uint64_t user)
{
    struct sl_model_edge *e = app;

    sl_ingest_session_opened(e->ingest, session, user);
}

static void closed(void *app, uint32_t session)
{
    struct sl_model_edge *e = app;

    sl_ingest_session_closed(e->ingest, session);
}

static void poll(void *app, uint64_t now_ns)
{
    struct sl_model_edge *e = app;

    sl_ingest_poll(e->ingest, now_ns);
}

static uint64_t deadline(void *app)
{
    const struct sl_model_edge *e = app;

    return sl_ingest_deadline(e->ingest);
}

static const struct sl_lcore_ops lcore_ops = {
    .opened = opened, .closed = closed, .poll = poll, .deadline = deadline};

static int open_data_plane(struct sl_model_edge *e, char *err, size_t err_cap)
{
    const struct sl_experiment *x = e->x;
    uint32_t sessions = SESSIONS_PER_DEVICE * e->n;

    e->ready = sl_ring_spsc_create(ring_for(x->edge.slots));
    e->returned = sl_ring_spsc_create(ring_for(x->edge.slots));
    if (!e->ready || !e->returned)
        return -ENOMEM;
    int rc = sl_slots_create(x->edge.slots, e->slot_bytes, &e->slots);
    if (rc)
        return rc;
    struct sl_ingest_config ingest = {.slots = e->slots,
        .ready = e->ready,
        .returned = e->returned,
        .max_sessions = sessions,
        .d_model = e->cfg.shape->d_model,
        .codec = e->cfg.codec,
        .fragment_units = e->fragment_units,
        .grants_per_session = x->edge.limits.grants_per_device,
        .grant_expiry_ns = x->edge.limits.grant_s * SECOND_NS,
        .grant_margin_ns = x->edge.limits.grant_margin_s * SECOND_NS,
        .grant_factor = x->edge.limits.grant_factor,
        .park_after_ns = park_after_ns,
        .park_bytes = (size_t)x->edge.limits.park_mib << 20};
    struct sl_endpoint_config endpoint = {.max_sessions = sessions,
        .max_sends = 4 * x->edge.slots + 64,
        .max_message_units = (uint32_t)(sl_slots_bytes(e->slots) / SL_UNIT_BYTES),
        .is_edge = true};
    rc = sl_ingest_create(&ingest, &e->ingest);
    if (!rc)
        rc = sl_endpoint_create(&endpoint, &sl_ingest_sink, e->ingest, &e->endpoint);
    if (rc)
        return rc;
    sl_ingest_bind(e->ingest, e->endpoint);
    struct sl_lcore_config lcore = {
        .queue = e->cfg.queue, .endpoint = e->endpoint, .ops = &lcore_ops, .app = e, .cpu = -1};
    return sl_lcore_create(&lcore, &e->lcore, err, err_cap);
}

/* Fragments and slots, as trainer/edge/layout.c lays them out. */
static int lay_out(struct sl_model_edge *e, char *err, size_t err_cap)
{
    const struct sl_experiment *x = e->x;
    struct sl_grid grid;
    uint32_t rows = 1;

    if (sl_addr_parse(x->edge.data.address, &e->address) || !e->address.port) {
        snprintf(err, err_cap, "edge.data.address: '%s' is not an address and port", x->edge.data.address);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < x->n_classes; i++)
        rows = x->fleet[i].seq - 1 > rows ? x->fleet[i].seq - 1 : rows;
    rows *= x->training.batch;
    e->fragment_units = sl_fragment_units(x->edge.data.mtu, !sl_addr_is_mapped(&e->address));
    if (sl_grid_make(&grid, rows, e->cfg.shape->d_model, e->cfg.codec, 1, e->fragment_units)) {
        snprintf(err, err_cap, "training.batch and data.seq: a message of %u rows is too large", rows);
        return -EINVAL;
    }
    size_t need = (size_t)sl_grid_slot_units(&grid) * SL_UNIT_BYTES;
    e->slot_bytes = x->edge.slot_kib ? (size_t)x->edge.slot_kib * 1024 : (need + 1023) / 1024 * 1024;
    if (e->slot_bytes >= need)
        return 0;
    snprintf(err, err_cap, "edge.slot_kib: a message of %u windows needs %zu KiB; raise it, or leave it out",
        x->training.batch, (need + 1023) / 1024);
    return -ERANGE;
}

int sl_model_edge_create(const struct sl_model_edge_config *c, const struct sl_model_edge_ops *ops, void *app,
    struct sl_model_edge **out, char *err, size_t err_cap)
{
    struct sl_model_edge *e;
    int rc = check(c, err, err_cap);

    *out = NULL;
    if (rc)
        return rc;
    e = calloc(1, sizeof(*e));
    if (!e) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    e->cfg = *c;
    e->x = c->experiment;
    e->ops = ops;
    e->app = app;
    e->n = e->x->n_devices;
    e->run = sl_rng_u64(sl_rng_key(e->x->seed, "run"), 0) | 1;
    e->device = calloc(e->n, sizeof(*e->device));
    e->session = calloc((size_t)SESSIONS_PER_DEVICE * e->n, sizeof(*e->session));
    err[0] = '\0';
    rc = e->device && e->session ? lay_out(e, err, err_cap) : -ENOMEM;
    if (!rc)
        rc = open_data_plane(e, err, err_cap);
    if (!rc)
        rc = sl_model_trainer_create(e, e->x->edge.slots);
    if (!rc) {
        *out = e;
        return 0;
    }
    if (!err[0])
        snprintf(err, err_cap, "cannot make a model edge node of %u slots: %s; lower edge.slots",
            e->x->edge.slots, strerror(-rc));
    sl_model_edge_free(e);
    return rc;
}

void sl_model_edge_free(struct sl_model_edge *e)
{
    if (!e)
        return;
    if (e->lcore)
        sl_lcore_stop(e->lcore);
    if (e->endpoint)
        sl_endpoint_free(e->endpoint);
    if (e->ingest)
        sl_ingest_free(e->ingest);
    if (e->slots)
        sl_slots_free(e->slots);
    if (e->ready)
        sl_ring_spsc_free(e->ready);
    if (e->returned)
        sl_ring_spsc_free(e->returned);
    sl_model_trainer_free(e);
    free(e->device);
    free(e->session);
    free(e);
}

/* ---- joining ---- */

static void send(struct sl_model_edge *e, uint32_t i, Sluice__Envelope__BodyCase kind, void *body)
{
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;

    envelope.body_case = kind;
    envelope.welcome = body; /* the members of the union are pointers all */
    e->ops->send(e->app, i, &envelope);
}

/* The ring to the lcore may be full: then again at a later turn. */
static void close_session(struct sl_model_edge *e, uint32_t handle)
{
    bool owed = sl_lcore_close_session(e->lcore, handle) != 0;

    e->n_owed += owed;
    e->session[handle] = owed ? SESSION_CLOSE_OWED : SESSION_CLOSING;
}

static void close_owed(struct sl_model_edge *e)
{
    for (uint32_t s = 0; e->n_owed && s < SESSIONS_PER_DEVICE * e->n; s++) {
        if (e->session[s] != SESSION_CLOSE_OWED)
            continue;
        if (sl_lcore_close_session(e->lcore, s))
            return;
        e->session[s] = SESSION_CLOSING;
        e->n_owed--;
    }
}

static void detach(struct sl_model_edge *e, uint32_t i)
{
    struct model_device *d = &e->device[i];

    if (d->state == DEVICE_JOINED) {
        e->n_joined--;
        sl_model_trainer_leave(e, i);
    }
    if (d->state != DEVICE_ABSENT)
        close_session(e, d->session);
    d->state = DEVICE_ABSENT;
}

static void take_hello(struct sl_model_edge *e, uint32_t i, const Sluice__Hello *h)
{
    struct model_device *d = &e->device[i];
    struct sl_session_config c = {
        .peer_id = h->receive_id, .fragment_units = e->fragment_units, .mtu = e->x->edge.data.mtu};

    if (e->over) {
        e->ops->close(
            e->app, i, SLUICE__ERROR_CODE__ERROR_SHUTTING_DOWN, "the run is over; there is nothing to join");
        return;
    }
    detach(e, i);
    d->session = SESSIONS_PER_DEVICE * i + (d->epoch & 1);
    d->epoch++;
    d->class = sl_experiment_class_of(e->x, i);
    d->cut = sl_experiment_device_cut(e->x, d->class, i, 0);
    d->receive_id = h->receive_id;
    d->held_run = h->run;
    d->phase_done = false;
    uint64_t random = sl_rng_u64(sl_rng_key(e->x->seed, "edge session"), (uint64_t)i << 32 | d->epoch);
    d->session_id = c.local_id = sl_session_id(0, d->session, (uint32_t)random);
    c.local = e->address;
    sl_model_secret(e->x->seed, d->session_id, d->epoch, c.secret);
    if (e->session[d->session] != SESSION_NONE || sl_lcore_open_session(e->lcore, &c, i)) {
        e->ops->close(
            e->app, i, SLUICE__ERROR_CODE__ERROR_TIMEOUT, "no session is free; try again in a moment");
        return;
    }
    d->state = DEVICE_OPENING;
}

static void send_plan(struct sl_model_edge *e, uint32_t i)
{
    const struct sl_experiment *x = e->x;
    Sluice__Plan plan = SLUICE__PLAN__INIT;

    plan.phase = e->phase;
    plan.adapter_version = e->version;
    plan.cut = e->device[i].cut;
    plan.fragment_units = e->fragment_units;
    plan.codec = (Sluice__Codec)e->cfg.codec;
    plan.clock_hz = x->fleet[e->device[i].class].fixed.clock_hz;
    plan.power_w = x->fleet[e->device[i].class].fixed.power_w;
    plan.rate_up_bps = x->fleet[e->device[i].class].fixed.rate_up_bps;
    send(e, i, SLUICE__ENVELOPE__BODY_PLAN, &plan);
}

static bool is_bounded(const struct sl_class_config *c)
{
    return c->fixed.clock_hz > 0 || c->fixed.power_w > 0 || c->fixed.rate_up_bps > 0;
}

static void send_welcome(struct sl_model_edge *e, uint32_t i)
{
    const struct sl_experiment *x = e->x;
    const struct model_device *d = &e->device[i];
    const struct sl_class_config *class = &x->fleet[d->class];
    char *targets[SL_TARGETS_MAX];
    Sluice__LoraConfig lora = SLUICE__LORA_CONFIG__INIT;
    Sluice__OptimizerConfig optimizer = SLUICE__OPTIMIZER_CONFIG__INIT;
    Sluice__Welcome w = SLUICE__WELCOME__INIT;

    for (uint32_t t = 0; t < x->training.lora.n_targets; t++)
        targets[t] = (char *)(uintptr_t)x->training.lora.targets[t];
    lora.rank = class->rank;
    lora.alpha = (float)x->training.lora.alpha * (float)class->rank / (float)x->training.lora.rank;
    lora.fresh_moments = x->training.lora.svd;
    lora.n_targets = x->training.lora.n_targets;
    lora.targets = targets;
    lora.freeze_a = x->training.lora.freeze_a;
    lora.seed = x->seed;
    optimizer.kind = (char *)(uintptr_t)x->training.optimizer.kind;
    optimizer.lr = (float)x->training.optimizer.lr;
    optimizer.schedule = (char *)(uintptr_t)x->training.optimizer.schedule;
    optimizer.schedule_steps = x->run.steps;
    optimizer.accumulate = x->training.accumulate;
    w.run = e->run;
    w.incarnation = 1;
    w.session = d->session_id;
    w.epoch = d->epoch;
    w.last_step = d->applied > d->last_step ? d->applied : d->last_step;
    w.adapter_version = e->version;
    w.cut = d->cut;
    w.codec = (Sluice__Codec)e->cfg.codec;
    w.fragment_units = e->fragment_units;
    w.slot_bytes = sl_slots_bytes(e->slots);
    w.data_ip.data = e->address.ip;
    w.data_ip.len = sizeof(e->address.ip);
    w.data_port = e->address.port;
    w.lora = &lora;
    w.optimizer = &optimizer;
    w.seq = class->seq;
    w.batch = x->training.batch;
    w.aggregate_every = x->training.aggregate_every;
    w.heartbeat_ms = x->edge.heartbeat_ms;
    w.phase = e->phase;
    w.global_step = e->global_step;
    w.notice = (char *)(uintptr_t) "a model of an edge node";
    w.device_index = i;
    w.aggregation = strcmp(x->training.aggregation, "gradients") ? SLUICE__AGGREGATION__AGGREGATION_WEIGHTS
                                                                 : SLUICE__AGGREGATION__AGGREGATION_GRADIENTS;
    send(e, i, SLUICE__ENVELOPE__BODY_WELCOME, &w);
}

static bool take_confirmations(struct sl_model_edge *e, uint64_t now)
{
    struct sl_lcore_confirm c;
    bool any = false;

    for (; sl_lcore_confirmed(e->lcore, &c); any = true) {
        uint32_t i = c.session / SESSIONS_PER_DEVICE;
        struct model_device *d = &e->device[i];
        if (c.closed) {
            e->session[c.session] = SESSION_NONE;
            continue;
        }
        if (d->state != DEVICE_OPENING || d->session != c.session)
            continue;
        if (c.status) {
            d->state = DEVICE_ABSENT;
            e->ops->close(e->app, i, SLUICE__ERROR_CODE__ERROR_FULL, "the data plane cannot open a session");
            continue;
        }
        d->state = DEVICE_JOINED;
        e->n_joined++;
        if (!e->first_join_ns)
            e->first_join_ns = now;
        sl_model_trainer_join(e, i);
        send_welcome(e, i);
        if (is_bounded(&e->x->fleet[d->class]))
            send_plan(e, i);
    }
    return any;
}

/* ---- messages ---- */

void sl_model_edge_give(struct sl_model_edge *e, uint32_t i)
{
    const struct model_device *d = &e->device[i];
    const struct sl_experiment *x = e->x;
    struct sl_lora_config lora = {.rank = x->fleet[d->class].rank, .freeze_a = x->training.lora.freeze_a};

    for (uint32_t t = 0; t < x->training.lora.n_targets; t++)
        lora.targets |= sl_target_bits(e->cfg.shape->family, x->training.lora.targets[t]);
    struct sl_adapter_transfer transfer = {.kind = SLUICE__ADAPTER_KIND__ADAPTER_WEIGHTS,
        .version = e->version,
        .step = d->last_step,
        .last = d->cut,
        .data = e->zeros,
        .n = d->cut * sl_adapter_block_size(e->cfg.shape, &lora)};
    if (d->state == DEVICE_JOINED)
        e->ops->give(e->app, i, &transfer);
}

void sl_model_edge_message(struct sl_model_edge *e, uint32_t i, const Sluice__Envelope *m, uint64_t now)
{
    struct model_device *d = &e->device[i];
    Sluice__HeartbeatAck ack = SLUICE__HEARTBEAT_ACK__INIT;

    if (m->body_case == SLUICE__ENVELOPE__BODY_HELLO) {
        take_hello(e, i, m->hello);
        return;
    }
    if (d->state != DEVICE_JOINED)
        return;
    switch (m->body_case) {
    case SLUICE__ENVELOPE__BODY_HEARTBEAT:
        ack.seq_no = m->heartbeat->seq_no;
        ack.sent_ns = m->heartbeat->sent_ns;
        ack.received_ns = ack.answered_ns = now;
        send(e, i, SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK, &ack);
        break;
    case SLUICE__ENVELOPE__BODY_ADAPTER_PULL:
        sl_model_trainer_sent(e, i);
        sl_model_edge_give(e, i);
        break;
    case SLUICE__ENVELOPE__BODY_PHASE_DONE:
        if (m->phase_done->phase == e->phase)
            d->phase_done = true;
        break;
    default:
        break;
    }
}

void sl_model_edge_pushed(
    struct sl_model_edge *e, uint32_t i, const struct sl_adapter_transfer *t, uint64_t now)
{
    if (e->device[i].state == DEVICE_JOINED)
        sl_model_trainer_push(e, i, t, now);
}

void sl_model_edge_gone(struct sl_model_edge *e, uint32_t i, const char *text, uint64_t now)
{
    detach(e, i);
}

/* ---- phases ---- */

static void enter(struct sl_model_edge *e, Sluice__Phase phase, uint64_t now)
{
    static const char *const keys[] = {"phase", "version", "devices"};

    e->phase = phase;
    e->phase_ns = now;
    e->alone_ns = 0;
    if (phase == SLUICE__PHASE__PHASE_TRAIN)
        e->train_from_ns = now;
    sl_model_trainer_phase(e, phase, now);
    for (uint32_t i = 0; i < e->n; i++) {
        e->device[i].phase_done = false;
        if (e->device[i].state == DEVICE_JOINED)
            send_plan(e, i);
    }
    e->ops->event(e->app, "phase", keys, (const uint64_t[]){phase, e->version, e->n_joined}, 3);
}

static void end(struct sl_model_edge *e, const char *why, uint64_t now)
{
    if (e->over)
        return;
    e->over = why;
    if (e->train_from_ns)
        e->stats.training_ns += now - e->train_from_ns;
    e->train_from_ns = 0;
    e->phase = SLUICE__PHASE__PHASE_DONE;
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->device[i].state == DEVICE_ABSENT)
            continue;
        if (strcmp(why, "done") == 0 && e->device[i].state == DEVICE_JOINED)
            send_plan(e, i);
        e->ops->close(e->app, i, SLUICE__ERROR_CODE__ERROR_NONE, why);
        detach(e, i);
    }
}

void sl_model_edge_trained(struct sl_model_edge *e, uint64_t now)
{
    e->stats.training_ns += e->train_from_ns ? now - e->train_from_ns : 0;
    e->train_from_ns = 0;
    enter(e, SLUICE__PHASE__PHASE_EVAL_AFTER, now);
}

/* How long the first to join wait for the others: of a fleet whose phones come and go nobody knows how many
 * will be there at a time. */
static uint64_t gather_ns(const struct sl_model_edge *e)
{
    return (sl_experiment_comes_and_goes(e->x) ? 5 : 20) * SECOND_NS;
}

static uint64_t patience_ns(const struct sl_model_edge *e)
{
    return e->x->edge.limits.alone_s * SECOND_NS;
}

static bool wait_for_devices(struct sl_model_edge *e, uint64_t now)
{
    double share = sl_experiment_comes_and_goes(e->x) ? 0 : e->x->training.gang.quorum;
    uint32_t quorum = (uint32_t)ceil(share * e->n - 1e-9);

    if (!e->first_join_ns)
        return false;
    bool enough =
        !e->x->training.deterministic && e->n_joined >= quorum && now - e->first_join_ns >= gather_ns(e);
    if (e->n_joined >= e->n || enough) {
        enter(e, SLUICE__PHASE__PHASE_EVAL_BEFORE, now);
        return true;
    }
    if (now - e->first_join_ns <= patience_ns(e))
        return false;
    end(e, "gave up: too few devices have joined", now);
    return true;
}

static bool all_done(const struct sl_model_edge *e)
{
    for (uint32_t i = 0; i < e->n; i++)
        if (e->device[i].state != DEVICE_ABSENT && !e->device[i].phase_done)
            return false;
    return e->n_joined > 0;
}

static bool mind_the_fleet(struct sl_model_edge *e, uint64_t now)
{
    if (e->n_joined >= (e->x->training.deterministic ? e->n : 1)) {
        if (e->alone_ns && e->phase != SLUICE__PHASE__PHASE_TRAIN)
            e->phase_ns = now;
        e->alone_ns = 0;
        return false;
    }
    if (!e->alone_ns)
        e->alone_ns = now;
    if (now - e->alone_ns <= patience_ns(e))
        return false;
    end(e, "gave up: its devices have left and did not come back within edge.limits.alone_s", now);
    return true;
}

static uint64_t training_ends_ns(const struct sl_model_edge *e)
{
    if (e->x->run.seconds <= 0 || e->finish_sent || !e->train_from_ns)
        return UINT64_MAX;
    return e->train_from_ns + (uint64_t)(e->x->run.seconds * 1e9);
}

static bool poll_phases(struct sl_model_edge *e, uint64_t now)
{
    if (e->over)
        return false;
    if (e->phase == SLUICE__PHASE__PHASE_WAIT)
        return wait_for_devices(e, now);
    if (mind_the_fleet(e, now))
        return true;
    if (e->phase == SLUICE__PHASE__PHASE_TRAIN) {
        if (now < training_ends_ns(e))
            return false;
        e->finish_sent = true;
        sl_model_trainer_finish(e, now);
        return true;
    }
    if (!all_done(e) && (e->n_joined == 0 || now - e->phase_ns < eval_ns))
        return false;
    if (e->phase == SLUICE__PHASE__PHASE_EVAL_BEFORE)
        enter(e, SLUICE__PHASE__PHASE_TRAIN, now);
    else
        end(e, "done", now);
    return true;
}

/* ---- the turn ---- */

bool sl_model_edge_turn(struct sl_model_edge *e, uint64_t now)
{
    bool worked = sl_lcore_turn(e->lcore, now) > 0;

    close_owed(e);
    worked |= take_confirmations(e, now);
    worked |= sl_model_trainer_turn(e, now);
    worked |= poll_phases(e, now);
    return worked;
}

uint64_t sl_model_edge_deadline(const struct sl_model_edge *e, uint64_t now)
{
    uint64_t at = UINT64_MAX;

    at = sl_model_sooner(at, sl_lcore_deadline(e->lcore), now);
    at = sl_model_sooner(at, sl_model_trainer_deadline(e, now), now);
    if (e->over)
        return at;
    if (e->phase == SLUICE__PHASE__PHASE_WAIT) {
        if (!e->first_join_ns)
            return at;
        at = sl_model_sooner(at, e->first_join_ns + gather_ns(e), now);
        return sl_model_sooner(at, e->first_join_ns + patience_ns(e) + 1, now);
    }
    if (e->alone_ns)
        at = sl_model_sooner(at, e->alone_ns + patience_ns(e) + 1, now);
    if (e->phase == SLUICE__PHASE__PHASE_TRAIN)
        return sl_model_sooner(at, training_ends_ns(e), now);
    return sl_model_sooner(at, e->phase_ns + eval_ns, now);
}

const char *sl_model_edge_over(const struct sl_model_edge *e)
{
    return e->over;
}

void sl_model_edge_stats(const struct sl_model_edge *e, struct sl_model_edge_stats *out)
{
    *out = e->stats;
}
