/* Who may join, and the life of a session: Hello -> checks -> the lcore installs the keys -> the trainer
 * knows the device -> Welcome (rules T7, T8, T11, T13). */
#include "trainer/edge/edge.h"

#include "dataplane/crypto/keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const char notice[] = "Splitting hides nothing by itself: target token ids are the text, and "
                             "activations can be inverted. Whoever runs the edge "
                             "node can read what your device trains on.";

/* ------------------------------------------------------------------------------------------------- sessions
 */

/* The lcore with the fewest devices: so none ever has more than its share of all that are here at a time,
 * which is as many as it has slots for in a deterministic run (rules T2, L7; edge_lay_out). */
static struct edge_lcore *least_loaded(struct edge *e)
{
    struct edge_lcore *least = &e->lcores[0];
    for (uint32_t i = 1; i < e->n_lcores; i++)
        if (e->lcores[i].n_devices < least->n_devices)
            least = &e->lcores[i];
    return least;
}

/* The free handle that was used longest ago, so that a late packet or slot of an old session meets no new
 * one. */
static int take_session(struct edge_lcore *l, struct device *d)
{
    for (uint32_t i = 0; i < l->max_sessions; i++) {
        uint32_t s = (l->next_session + i) % l->max_sessions;
        if (l->sessions[s].state != SESSION_FREE)
            continue;
        l->sessions[s] = (struct session){.state = SESSION_OPENING, .device = d->index};
        l->next_session = s + 1;
        d->lcore = l->index;
        d->session = s;
        return 0;
    }
    return -ENOBUFS;
}

static void close_session(struct edge_lcore *l, uint32_t handle)
{
    struct session *s = &l->sessions[handle];
    if (s->state == SESSION_OPENING) {
        s->close_owed = true; /* when its opening is confirmed */
        return;
    }
    if (s->state != SESSION_OPEN && !(s->state == SESSION_CLOSING && s->close_owed))
        return;
    s->state = SESSION_CLOSING;
    s->close_owed = sl_lcore_close_session(l->lcore, handle) != 0;
}

static int open_session(struct edge *e, struct device *d)
{
    uint32_t random;
    uint8_t context[12], secret[SL_SECRET_BYTES];
    struct edge_lcore *l = least_loaded(e);
    int status = take_session(l, d);
    if (status)
        return status;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        status = -EIO;
    d->session_id = sl_session_id((uint8_t)l->index, d->session, random);
    d->epoch++;
    sl_exporter_context(d->session_id, d->epoch, context);
    if (!status)
        status = sl_tls_export(
            sl_control_tls(d->control), SL_EXPORTER_LABEL, context, sizeof context, secret, sizeof secret);
    if (!status) {
        struct sl_session_config c = {.local_id = d->session_id,
            .peer_id = d->receive_id,
            .fragment_units = e->fragment_units,
            .mtu = e->x->edge.data.mtu,
            .local = e->data_addr};
        c.local.port = (uint16_t)(c.local.port + l->index);
        memcpy(c.secret, secret, sizeof c.secret);
        status = sl_lcore_open_session(l->lcore, &c, d->index);
        if (!status)
            edge_log_key(e, d->session_id, d->receive_id, secret);
        explicit_bzero(&c, sizeof c);
    }
    explicit_bzero(secret, sizeof secret);
    if (status)
        l->sessions[d->session].state = SESSION_FREE;
    else
        l->n_devices++;
    return status;
}

/* --------------------------------------------------------------------------------------------------- leaving
 */

/* Ends what the device has here, but not its connection. */
static void detach(struct edge *e, struct device *d, const char *why)
{
    if (d->state == DEVICE_ABSENT)
        return;
    if (d->state == DEVICE_JOINED) {
        struct sl_command c = {.kind = SL_COMMAND_LEAVE, .device = d->index};
        edge_command(e, &c);
        e->n_joined--;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "device", d->id);
        cJSON_AddStringToObject(o, "why", why);
        edge_event_caused(e, EDGE_CAUSE_LEAVE, o);
        if (!e->ending)
            edge_say(e, "%s left: %s", d->id, why);
    }
    close_session(&e->lcores[d->lcore], d->session);
    e->lcores[d->lcore].n_devices--;
    d->state = DEVICE_ABSENT;
    d->left_ns = sl_loop_now_ns();
    edge_plan_members(e, d);
    if (d->control)
        sl_control_set_user(d->control, NULL);
    d->control = NULL;
}

void edge_drop_device(struct edge *e, struct device *d, Sluice__ErrorCode code, const char *why)
{
    struct sl_control *control = d->control;
    detach(e, d, why);
    if (!control)
        return;
    sl_control_refuse(control, code, why);
    sl_loop_flush(e->loop, control);
}

/* ------------------------------------------------------------------------------------------------------
 * Hello */

/* "device-NNNNN" is device number NNNNN (rules L7 need numbers that do not depend on who is first); others
 * get numbers behind the experiment's own. */
struct device *edge_find_device(struct edge *e, const char *id)
{
    unsigned number;
    int end = 0;
    for (uint32_t i = 0; i < e->max_devices; i++)
        if (!strcmp(e->devices[i].id, id))
            return &e->devices[i];
    struct device *d = NULL;
    if (sscanf(id, "device-%5u%n", &number, &end) == 1 && !id[end] && end == 12 && number < e->max_devices) {
        if (!e->devices[number].id[0])
            d = &e->devices[number];
    }
    for (uint32_t i = e->x->n_devices; !d && i < e->max_devices; i++)
        if (!e->devices[i].id[0])
            d = &e->devices[i];
    if (d)
        snprintf(d->id, sizeof d->id, "%s", id);
    return d;
}

static const struct sl_class_config *find_class(const struct edge *e, const char *name)
{
    for (uint32_t i = 0; i < e->x->n_classes; i++)
        if (!strcmp(e->x->fleet[i].name, name))
            return &e->x->fleet[i];
    return NULL;
}

static bool speaks_codec(const struct edge *e, const Sluice__Hello *h)
{
    for (size_t i = 0; i < h->n_codecs; i++)
        if ((int)h->codecs[i] == (int)e->codec)
            return true;
    return false;
}

/* The code and the sentence of what is wrong with a Hello, or ERROR_NONE. */
static Sluice__ErrorCode check_hello(const struct edge *e, const Sluice__Hello *h, char *text, size_t cap)
{
    if (e->ending || e->phase == SLUICE__PHASE__PHASE_DONE) {
        snprintf(text, cap, "the run is over; there is nothing to join");
        return SLUICE__ERROR_CODE__ERROR_SHUTTING_DOWN;
    }
    if (h->protocol != SL_CONTROL_PROTOCOL) {
        snprintf(text, cap, "protocol version %u is not spoken here, only %d; use programs of one release",
            h->protocol, SL_CONTROL_PROTOCOL);
        return SLUICE__ERROR_CODE__ERROR_VERSION;
    }
    if (h->model_hash.len != sizeof e->model_hash ||
        memcmp(h->model_hash.data, e->model_hash, sizeof e->model_hash)) {
        snprintf(
            text, cap, "the device has another base model; this edge node trains %.120s", e->x->model.path);
        return SLUICE__ERROR_CODE__ERROR_MODEL_HASH;
    }
    if (!speaks_codec(e, h)) {
        snprintf(text, cap, "no codec in common; this run uses %s", sl_codec_name(e->codec));
        return SLUICE__ERROR_CODE__ERROR_CODEC;
    }
    if (!find_class(e, h->device_class)) {
        snprintf(
            text, cap, "the experiment has no device class '%.40s'; its fleet lists them", h->device_class);
        return SLUICE__ERROR_CODE__ERROR_CLASS;
    }
    if (h->mtu && h->mtu < e->x->edge.data.mtu) {
        snprintf(text, cap, "the device's MTU of %u is below this edge node's %u; lower edge.data.mtu",
            h->mtu, e->x->edge.data.mtu);
        return SLUICE__ERROR_CODE__ERROR_LIMIT;
    }
    return SLUICE__ERROR_CODE__ERROR_NONE;
}

static void take_hello(struct edge *e, struct sl_control *control, const Sluice__Hello *h)
{
    char name[65], text[256];
    Sluice__ErrorCode code = check_hello(e, h, text, sizeof text);
    struct device *d = NULL;
    if (sl_tls_peer_name(sl_control_tls(control), name))
        name[0] = '\0';
    if (code == SLUICE__ERROR_CODE__ERROR_NONE) {
        d = edge_find_device(e, name);
        if (!d) {
            code = SLUICE__ERROR_CODE__ERROR_FULL;
            snprintf(text, sizeof text, "this edge node is full: it takes %u devices; raise edge.max_devices",
                e->max_devices);
        }
    }
    if (d && d->state != DEVICE_ABSENT)
        edge_drop_device(e, d, SLUICE__ERROR_CODE__ERROR_SUPERSEDED,
            "a newer connection with the same certificate took over");
    if (d) {
        d->control = control;
        const struct sl_class_config *class = find_class(e, h->device_class);
        bool same_class = d->class == class;
        d->class = class;
        edge_choose_cut(e, d, same_class);
        if (!same_class)
            edge_plan_as_fixed(d);
        d->receive_id = h->receive_id;
        d->held_run = h->run;
        d->held_version = h->adapter_version;
        d->phase_done = false;
        d->refusals = 0;
        int status = open_session(e, d);
        if (status) {
            d->control = NULL;
            code = SLUICE__ERROR_CODE__ERROR_FULL;
            snprintf(text, sizeof text, "no session is free (%s); try again in a moment", strerror(-status));
        }
    }
    if (code != SLUICE__ERROR_CODE__ERROR_NONE) {
        edge_say(e, "refused %s: %s", name[0] ? name : "a device", text);
        sl_control_refuse(control, code, text);
        return;
    }
    d->state = DEVICE_OPENING;
    sl_control_set_user(control, d);
}

/* ----------------------------------------------------------------------------------------------------
 * Welcome */

static void send_welcome(struct edge *e, struct device *d)
{
    const struct sl_experiment *x = e->x;
    char *targets[SL_TARGETS_MAX];
    for (uint32_t i = 0; i < x->training.lora.n_targets; i++)
        targets[i] = e->x->training.lora.targets[i];
    Sluice__LoraConfig lora = SLUICE__LORA_CONFIG__INIT;
    lora.rank = d->class->rank;
    lora.alpha = e->lora.alpha * (float)lora.rank / (float)e->lora.rank; /* every device's scale is G's */
    lora.fresh_moments = x->training.lora.svd;
    lora.n_targets = x->training.lora.n_targets;
    lora.targets = targets;
    lora.freeze_a = e->lora.freeze_a;
    lora.seed = e->lora.seed;
    Sluice__OptimizerConfig optimizer = SLUICE__OPTIMIZER_CONFIG__INIT;
    optimizer.kind = (char *)x->training.optimizer.kind;
    optimizer.lr = e->optim.lr;
    optimizer.beta1 = e->optim.beta1;
    optimizer.beta2 = e->optim.beta2;
    optimizer.eps = e->optim.eps;
    optimizer.weight_decay = e->optim.weight_decay;
    optimizer.fedprox_mu = e->optim.fedprox_mu;
    optimizer.proximal = e->optim.proximal;
    optimizer.schedule = (char *)(uintptr_t)sl_schedule_name(e->optim.schedule.kind);
    optimizer.schedule_steps = e->optim.schedule.steps;
    optimizer.warmup = e->optim.schedule.warmup;
    optimizer.floor = e->optim.schedule.floor;
    optimizer.clip = e->optim.clip;
    optimizer.accumulate = x->training.accumulate;
    Sluice__Welcome w = SLUICE__WELCOME__INIT;
    w.run = e->run;
    w.incarnation = e->incarnation;
    w.session = d->session_id;
    w.epoch = d->epoch;
    /* A device that only lost its connection goes on from what this incarnation has applied of it. */
    uint64_t applied = sl_trainer_applied(e->trainer, d->index);
    w.last_step = applied > d->last_step ? applied : d->last_step;
    w.adapter_version = e->personal ? d->version : e->version;
    w.personal = e->personal;
    w.cut = d->cut;
    w.codec = (Sluice__Codec)e->codec;
    w.fragment_units = e->fragment_units;
    w.slot_bytes = sl_slots_bytes(e->lcores[d->lcore].slots);
    w.data_ip.data = e->data_addr.ip;
    w.data_ip.len = sizeof e->data_addr.ip;
    w.data_port = e->data_addr.port + d->lcore;
    w.lora = &lora;
    w.optimizer = &optimizer;
    w.seq = d->class->seq;
    w.batch = x->training.batch;
    w.aggregate_every = x->training.aggregate_every;
    w.heartbeat_ms = x->edge.heartbeat_ms;
    w.phase = e->phase;
    w.global_step = e->global_step;
    w.notice = (char *)notice;
    w.device_index = d->index;
    w.aggregation = strcmp(x->training.aggregation, "gradients") ? SLUICE__AGGREGATION__AGGREGATION_WEIGHTS
                                                                 : SLUICE__AGGREGATION__AGGREGATION_GRADIENTS;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    envelope.body_case = SLUICE__ENVELOPE__BODY_WELCOME;
    envelope.welcome = &w;
    if (sl_control_send(d->control, &envelope) == 0)
        sl_loop_flush(e->loop, d->control);
}

static void complete_join(struct edge *e, struct device *d)
{
    struct sl_command c = {.kind = SL_COMMAND_JOIN,
        .device = d->index,
        .lcore = d->lcore,
        .session = d->session,
        .class = edge_class_index(e, d),
        .cut = d->cut,
        .rank = d->class->rank,
        .anew = d->held_run != e->run,
        .holds = d->held_version};
    memcpy(c.id, d->id, sizeof c.id);
    edge_command(e, &c);
    d->state = DEVICE_JOINED;
    e->n_joined++;
    if (!e->first_join_ns)
        e->first_join_ns = sl_loop_now_ns();
    send_welcome(e, d);
    if (d->planned.clock_hz > 0 || d->planned.power_w > 0 || d->planned.rate_up_bps > 0)
        edge_send_bounds(e, d);
    edge_command_share(e, d);
    edge_plan_members(e, d);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddNumberToObject(o, "index", d->index);
    cJSON_AddStringToObject(o, "class", d->class->name);
    cJSON_AddNumberToObject(o, "cut", d->cut);
    cJSON_AddNumberToObject(o, "lcore", d->lcore);
    edge_event_caused(e, EDGE_CAUSE_JOIN, o);
}

static void confirmed(struct edge *e, struct edge_lcore *l, const struct sl_lcore_confirm *c)
{
    struct session *s = &l->sessions[c->session];
    struct device *d = &e->devices[s->device];
    if (c->closed) {
        s->state = SESSION_FREE;
        return;
    }
    if (s->state != SESSION_OPENING)
        return;
    bool wanted =
        d->state == DEVICE_OPENING && d->lcore == l->index && d->session == c->session && !s->close_owed;
    if (c->status) {
        s->state = SESSION_FREE;
        if (wanted)
            edge_drop_device(e, d, SLUICE__ERROR_CODE__ERROR_FULL,
                "the data plane cannot open a session; try again in a moment");
        return;
    }
    s->state = SESSION_OPEN;
    s->close_owed = false;
    if (wanted)
        complete_join(e, d);
    else
        close_session(l, c->session);
}

static void poll_lcore(struct edge *e, struct edge_lcore *l)
{
    struct sl_lcore_confirm c;
    while (sl_lcore_confirmed(l->lcore, &c))
        if (c.session < l->max_sessions)
            confirmed(e, l, &c);
    for (uint32_t s = 0; s < l->max_sessions; s++)
        if (l->sessions[s].state == SESSION_CLOSING && l->sessions[s].close_owed)
            close_session(l, s);
}

void edge_poll_sessions(struct edge *e)
{
    for (uint32_t i = 0; i < e->n_lcores; i++)
        poll_lcore(e, &e->lcores[i]);
}

/* -------------------------------------------------------------------------------------- the connection's
 * calls */

static void established(void *app, struct sl_control *control)
{
    (void)app;
    (void)control; /* Hello comes next; the machine itself limits how long that takes */
}

static uint64_t real_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static void take_heartbeat(
    struct edge *e, struct device *d, struct sl_control *control, const Sluice__Heartbeat *h)
{
    d->battery = h->battery;
    d->energy_j = h->energy_j;
    edge_take_profile(e, d, h);
    edge_plan_beat(e, d, h);
    Sluice__HeartbeatAck ack = SLUICE__HEARTBEAT_ACK__INIT;
    ack.seq_no = h->seq_no;
    ack.sent_ns = h->sent_ns;
    ack.received_ns = ack.answered_ns = real_ns(); /* answered at once */
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    envelope.body_case = SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK;
    envelope.heartbeat_ack = &ack;
    sl_control_send(control, &envelope); /* -ENOBUFS: it does not read, and will time out */
}

/* The trainer learns first which version the device is going to have. */
static void answer_pull(struct edge *e, struct device *d)
{
    if (e->personal) {
        edge_pull_personal(e, d);
        return;
    }
    struct sl_command c = {.kind = SL_COMMAND_SENT, .device = d->index, .version = e->version};
    edge_command(e, &c);
    edge_send_g(e, d);
}

static void message(void *app, struct sl_control *control, const Sluice__Envelope *m)
{
    struct edge *e = app;
    struct device *d = sl_control_user(control);
    if (m->body_case == SLUICE__ENVELOPE__BODY_HELLO) {
        take_hello(e, control, m->hello);
        return;
    }
    if (!d || d->state != DEVICE_JOINED)
        return; /* Error or Bye of a device on its way out */
    if (m->body_case == SLUICE__ENVELOPE__BODY_HEARTBEAT)
        take_heartbeat(e, d, control, m->heartbeat);
    else if (m->body_case == SLUICE__ENVELOPE__BODY_ADAPTER_PULL)
        answer_pull(e, d);
    else if (m->body_case == SLUICE__ENVELOPE__BODY_PHASE_DONE)
        edge_phase_done(e, d, m->phase_done->phase);
}

static void adapter(void *app, struct sl_control *control, const struct sl_adapter_transfer *t)
{
    struct device *d = sl_control_user(control);
    if (d && d->state == DEVICE_JOINED)
        edge_take_push(app, d, t);
}

static void connection_closed(void *app, struct sl_control *control, Sluice__ErrorCode code, const char *text)
{
    struct edge *e = app;
    struct device *d = sl_control_user(control);
    if (d && d->control == control)
        detach(e, d, text && text[0] ? text : "connection lost");
    else if (!d && code != SLUICE__ERROR_CODE__ERROR_NONE && !e->ending &&
             code != SLUICE__ERROR_CODE__ERROR_SUPERSEDED)
        edge_say(e, "connection from %s ended: %s", sl_loop_peer(control), text ? text : "");
    sl_control_free(control);
}

const struct sl_control_ops edge_control_ops = {
    .established = established, .message = message, .adapter = adapter, .closed = connection_closed};
