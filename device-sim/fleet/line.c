/* A phone's line to the edge: TLS connection, data session, back-off, and the ops of its state machine. */
#include "dataplane/crypto/keys.h"
#include "device-sim/fleet/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const uint64_t ms_ns = 1000000, second_ns = 1000000000;
enum {
    BACKOFF_FIRST_MS = 200,
    BACKOFF_LAST_MS = 5000,
    GIVE_UP_S = 120, /* rules T11 */
};

static struct sl_line *line_of(struct sl_fleet *f, const struct sl_phone *p)
{
    return &f->line[p->cfg.index];
}

static void end_line(struct sl_fleet *f, uint32_t i)
{
    struct sl_line *l = &f->line[i];

    if (l->over)
        return;
    l->over = true;
    l->retry_ns = 0;
    l->asleep_ns = sl_loop_now_ns();
    f->n_over++;
    if (strcmp(f->phone[i].reason, "done") == 0 || f->interrupted)
        return;
    /* What ends many phones is said once. */
    if (strcmp(f->said, f->phone[i].reason))
        fprintf(stderr, "sluice-sim: device-%05u: %s\n", i, f->phone[i].reason);
    snprintf(f->said, sizeof(f->said), "%s", f->phone[i].reason);
    if (!f->failure[0])
        snprintf(f->failure, sizeof(f->failure), "device-%05u: %s", i, f->phone[i].reason);
}

/* ---- the session on the data lcore ---- */

static void close_session(struct sl_fleet *f, uint32_t i)
{
    struct sl_line *l = &f->line[i];

    if (l->session == SL_SESSION_OPENING) {
        l->close_wanted = true;
    } else if (l->session == SL_SESSION_OPEN) {
        l->session = SL_SESSION_CLOSING;
        l->close_wanted =
            sl_plane_close_session(f->plane, i) != 0; /* the ring is full: again at the next poll */
        if (l->close_wanted)
            l->session = SL_SESSION_OPEN;
    }
}

void sl_line_confirmed(struct sl_fleet *f, const struct sl_lcore_confirm *c, uint64_t now_ns)
{
    struct sl_line *l = &f->line[c->session];

    if (c->closed) {
        l->session = SL_SESSION_NONE;
        return;
    }
    l->session = c->status ? SL_SESSION_NONE : SL_SESSION_OPEN;
    if (c->status) {
        if (l->control)
            sl_control_bye(l->control, "no data session could be opened");
    } else if (l->close_wanted || !l->control) {
        l->close_wanted = false;
        close_session(f, c->session);
    } else {
        sl_phone_installed(&f->phone[c->session], now_ns);
    }
}

/* ---- control connection ---- */

static void established(void *app, struct sl_control *c)
{
    struct sl_fleet *f = app;
    struct sl_phone *p = sl_control_user(c);
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        sl_control_bye(c, "no random numbers");
        return;
    }
    f->line[p->cfg.index].control = c;
    sl_phone_established(p, sl_session_id(0, p->cfg.index, random));
}

static uint64_t real_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void message(void *app, struct sl_control *c, const Sluice__Envelope *e)
{
    struct sl_fleet *f = app;

    if (e->body_case == SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK)
        sl_clock_offset_add(&f->clock_offset, e->heartbeat_ack->sent_ns, e->heartbeat_ack->received_ns,
            e->heartbeat_ack->answered_ns, real_ns());
    sl_phone_message(sl_control_user(c), e, sl_loop_now_ns());
}

static void adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
    sl_phone_adapter(sl_control_user(c), t, sl_loop_now_ns());
}

static void schedule_retry(struct sl_fleet *f, uint32_t i, const char *text)
{
    struct sl_line *l = &f->line[i];
    uint64_t now = sl_loop_now_ns();
    uint64_t patience_s = l->joined ? GIVE_UP_S : f->material.experiment->edge.data.peer_timeout_s;

    if (!l->lost_ns)
        l->lost_ns = now;
    if (now - l->lost_ns >= patience_s * second_ns) {
        snprintf(f->phone[i].reason, sizeof(f->phone[i].reason),
            "gave up after %llu s without the edge at %.120s; start sluice-edge with the same file and --run",
            (unsigned long long)patience_s, sl_fleet_edge(f));
        f->phone[i].state = SL_PHONE_ENDED;
        end_line(f, i);
        return;
    }
    if (!f->said_waiting && !f->interrupted)
        fprintf(stderr, "sluice-sim: waiting for the edge at %s (%s); gives up after %llu s\n",
            sl_fleet_edge(f), text, (unsigned long long)patience_s);
    f->said_waiting = true;
    l->backoff_ns = l->backoff_ns ? 2 * l->backoff_ns : BACKOFF_FIRST_MS * ms_ns;
    if (l->backoff_ns > BACKOFF_LAST_MS * ms_ns)
        l->backoff_ns = BACKOFF_LAST_MS * ms_ns;
    l->retry_ns = now + l->backoff_ns;
}

static void closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    struct sl_fleet *f = app;
    struct sl_phone *p = sl_control_user(c);
    uint32_t i = p->cfg.index;
    struct sl_line *l = &f->line[i];
    bool again;

    l->control = NULL;
    close_session(f, i);
    sl_phone_closed(p, code, text, &again);
    if (again && !l->over && !f->stopping_ns)
        schedule_retry(f, i, text);
    else
        end_line(f, i);
    sl_control_free(c); /* last: the text is its own */
}

static const struct sl_control_ops control_ops = {
    .established = established, .message = message, .adapter = adapter, .closed = closed};

static void connect_phone(struct sl_fleet *f, uint32_t i)
{
    struct sl_line *l = &f->line[i];
    int rc = sl_loop_connect(
        f->loop, sl_fleet_edge(f), l->tls, &f->control_config, &control_ops, f, &f->phone[i], &l->control);

    l->retry_ns = 0;
    if (rc) {
        l->control = NULL;
        schedule_retry(f, i, strerror(-rc));
    }
}

void sl_line_bye(struct sl_fleet *f, uint32_t i, const char *text)
{
    struct sl_line *l = &f->line[i];

    if (f->phone[i].state != SL_PHONE_ENDED) {
        snprintf(f->phone[i].reason, sizeof(f->phone[i].reason), "%s", text);
        f->phone[i].state = SL_PHONE_ENDED;
    }
    if (!l->control) {
        end_line(f, i);
        return;
    }
    sl_control_bye(l->control, text);
    sl_loop_flush(f->loop, l->control);
}

/* ---- time ---- */

static void heartbeat(struct sl_fleet *f, uint32_t i, uint64_t now_ns)
{
    Sluice__Heartbeat h = SLUICE__HEARTBEAT__INIT;
    const struct sl_link_config *link = &sl_fleet_class(f, i)->link;
    struct sl_plane_phone data;
    struct sl_energy energy;

    sl_plane_phone(f->plane, i, &data);
    sl_report_energy(f, i, now_ns, &energy);
    h.sent_ns = real_ns();
    h.battery = energy.battery;
    h.energy_j = energy.total_j;
    h.bytes_up = data.bytes_up;
    h.bytes_down = data.bytes_down;
    h.retransmits = data.retransmits;
    h.rtt_ms = (double)data.rtt_ns * 1e-6;
    h.rate_up_bps = link->up_mbps * 1e6;
    h.rate_down_bps = link->down_mbps * 1e6;
    sl_phone_heartbeat(&f->phone[i], &h);
    f->line[i].heartbeat_ns = now_ns + f->phone[i].heartbeat_ms * ms_ns;
    if (energy.battery <= 0)
        sl_line_bye(f, i, "battery empty");
}

static bool online(const struct sl_fleet *f, uint32_t i)
{
    return f->line[i].control && f->phone[i].session_open && f->phone[i].heartbeat_ms;
}

void sl_line_poll(struct sl_fleet *f, uint32_t i, uint64_t now_ns)
{
    struct sl_line *l = &f->line[i];

    if (l->close_wanted && l->session == SL_SESSION_OPEN) {
        l->close_wanted = false;
        close_session(f, i);
    }
    if (l->die_ns && now_ns >= l->die_ns) {
        l->die_ns = 0;
        close_session(f, i);
        sl_line_bye(f, i, "died (fault injection)");
    }
    if (l->retry_ns && now_ns >= l->retry_ns && l->session == SL_SESSION_NONE &&
        f->phone[i].job == SL_JOB_NONE)
        connect_phone(f, i);
    if (online(f, i) && now_ns >= l->heartbeat_ns)
        heartbeat(f, i, now_ns);
    if (now_ns >= sl_phone_deadline(&f->phone[i]))
        sl_phone_tick(&f->phone[i], now_ns);
}

uint64_t sl_line_deadline(const struct sl_fleet *f, uint32_t i)
{
    const struct sl_line *l = &f->line[i];
    uint64_t d = sl_phone_deadline(&f->phone[i]);

    if (l->die_ns && l->die_ns < d)
        d = l->die_ns;
    if (l->retry_ns && l->retry_ns < d)
        d = l->retry_ns;
    if (online(f, i) && l->heartbeat_ns < d)
        d = l->heartbeat_ns;
    return d;
}

/* ---- what the state machine asks for ---- */

static int op_control(void *app, struct sl_phone *p, const Sluice__Envelope *e)
{
    struct sl_fleet *f = app;
    struct sl_line *l = line_of(f, p);
    int rc = l->control ? sl_control_send(l->control, e) : -ENOTCONN;

    if (!rc)
        sl_loop_flush(f->loop, l->control);
    return rc;
}

static int op_push(void *app, struct sl_phone *p, const struct sl_adapter_transfer *t)
{
    struct sl_fleet *f = app;
    struct sl_line *l = line_of(f, p);
    int rc = l->control ? sl_control_send_adapter(l->control, t) : -ENOTCONN;

    if (!rc)
        sl_loop_flush(f->loop, l->control);
    return rc;
}

static void op_install(void *app, struct sl_phone *p, const Sluice__Welcome *w)
{
    struct sl_fleet *f = app;
    struct sl_line *l = line_of(f, p);
    uint8_t context[12];
    struct sl_session_config c = {.local_id = p->receive_id,
        .peer_id = w->session,
        .fragment_units = p->fragment_units,
        .mtu = p->cfg.mtu,
        .local = sl_plane_phone_address(f->plane, p->cfg.index),
        .remote = {.port = (uint16_t)w->data_port}};

    if (w->data_ip.len == sizeof(c.remote.ip))
        memcpy(c.remote.ip, w->data_ip.data, sizeof(c.remote.ip));
    sl_exporter_context(w->session, w->epoch, context);
    int rc = sl_tls_export(
        sl_control_tls(l->control), SL_EXPORTER_LABEL, context, sizeof(context), c.secret, sizeof(c.secret));
    if (!rc)
        rc = sl_plane_open_session(f->plane, p->cfg.index, &c);
    explicit_bzero(&c, sizeof(c));
    if (rc) {
        sl_control_bye(l->control, "no data session could be opened");
        return;
    }
    l->session = SL_SESSION_OPENING;
    l->close_wanted = false;
    l->lost_ns = l->backoff_ns = 0;
    l->heartbeat_ns = sl_loop_now_ns();
    if (!l->joined)
        l->awake_ns = sl_loop_now_ns();
    l->joined = true;
}

static void op_request(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;

    sl_plane_request(f->plane, p->cfg.index, &p->request, &p->grid);
}

static void op_send(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;
    struct sl_line *l = line_of(f, p);
    double rate_bps = sl_fleet_class(f, p->cfg.index)->link.up_mbps * 1e6;

    sl_plane_send(f->plane, p->cfg.index);
    /* Half of the message's time on the air, with its lower bound: the unit bytes alone. */
    if (l->dies && !p->batch.eval && p->train_begun == l->die_step)
        l->die_ns =
            sl_loop_now_ns() + (uint64_t)((double)p->grid.n_units * SL_UNIT_BYTES * 8 / rate_bps / 2 * 1e9);
}

static void op_drop(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;

    sl_plane_drop(f->plane, p->cfg.index);
}

static void op_compute(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;

    sl_compute_post(f->compute, p->cfg.index);
}

static double op_modelled_s(void *app, struct sl_phone *p, const struct sl_request *r, bool backward)
{
    struct sl_fleet *f = app;

    return sl_material_pass_s(
        &f->material, sl_fleet_class(f, p->cfg.index), r->len, r->n_seqs, p->cut, backward);
}

static void op_leave(void *app, struct sl_phone *p, const char *text)
{
    sl_line_bye(app, p->cfg.index, text);
}

const struct sl_phone_ops sl_fleet_phone_ops = {.control = op_control,
    .push = op_push,
    .install = op_install,
    .request = op_request,
    .send = op_send,
    .drop = op_drop,
    .compute = op_compute,
    .modelled_s = op_modelled_s,
    .leave = op_leave};

/* ---- all of them ---- */

static int open_tls(struct sl_fleet *f, uint32_t i, char *err, size_t err_cap)
{
    char ca[SL_PATH_BYTES + 64], cert[SL_PATH_BYTES + 64], key[SL_PATH_BYTES + 64], dir[SL_PATH_BYTES + 8];

    if (f->options.pki)
        snprintf(dir, sizeof(dir), "%s", f->options.pki);
    else
        snprintf(dir, sizeof(dir), "%s/pki", f->options.run);
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    snprintf(cert, sizeof(cert), "%s/device-%05u.pem", dir, i);
    snprintf(key, sizeof(key), "%s/device-%05u.key", dir, i);
    if (access(ca, R_OK) || access(cert, R_OK) || access(key, R_OK)) {
        snprintf(err, err_cap,
            "%s: no readable ca.pem, device-%05u.pem and device-%05u.key there; make them with scripts/pki "
            "(ca, then issue)",
            dir, i, i);
        return -ENOENT;
    }
    return sl_tls_ctx_create(SL_TLS_CLIENT, ca, cert, key, &f->line[i].tls, err, err_cap);
}

int sl_lines_open(struct sl_fleet *f, char *err, size_t err_cap)
{
    uint64_t now = sl_loop_now_ns();

    for (uint32_t i = 0; i < f->n; i++) {
        int rc = open_tls(f, i, err, err_cap);
        if (rc)
            return rc;
        f->line[i].retry_ns = now;
    }
    return 0;
}

void sl_lines_free(struct sl_fleet *f)
{
    for (uint32_t i = 0; f->line && i < f->n; i++) {
        if (f->line[i].tls)
            sl_tls_ctx_free(f->line[i].tls);
    }
}
