#include "device-sim/virtual/world.h"

#include "dataplane/io/lcore/lcore.h"
#include "device-sim/virtual/cable.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    A_PASS = 4, /* deliveries before the lcores' turn: as many sessions as a turn of theirs opens */
    PROGRESS_EVERY = 4096, /* times between two looks at the host's clock */
};
/* Not 0, which stands for "never" in many a deadline. */
static const uint64_t first_ns = 1000000000;

enum mail_kind {
    MAIL_ESTABLISHED, /* to the phone */
    MAIL_TO_PHONE,
    MAIL_GIVEN,
    MAIL_CLOSED,
    MAIL_TO_EDGE, /* to the edge */
    MAIL_PUSHED,
    MAIL_GONE,
};

struct mail {
    uint64_t at_ns, number;
    enum mail_kind kind;
    uint32_t phone, connection;
    Sluice__ErrorCode code;
    Sluice__Envelope *envelope;
    struct sl_adapter_transfer transfer; /* data: the edge's zeros, which outlive it; to the edge: none */
    char text[SL_CONTROL_TEXT_MAX + 1];
};

struct line {
    bool up;
    uint32_t connection; /* its number: mail of earlier ones is not delivered */
    uint64_t half_rtt_ns;
};

struct sl_world {
    const struct sl_experiment *x;
    const struct sl_access_events *events;
    void *app;
    struct sl_world_config cfg;
    struct sl_cable *cable;
    struct sl_model_edge *edge;
    uint64_t now_ns, sent;
    bool stopped;
    uint32_t n_up;
    struct mail **heap; /* the earliest first */
    uint32_t n_mail, cap_mail;
    uint32_t failed; /* mail that could not be kept: no memory */
    struct line line[];
};

/* ---- mail ---- */

static bool before(const struct mail *a, const struct mail *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->number < b->number;
}

static void free_mail(struct mail *m)
{
    if (m->envelope)
        sluice__envelope__free_unpacked(m->envelope, NULL);
    free(m);
}

static void push_mail(struct sl_world *w, struct mail *m)
{
    uint32_t i = w->n_mail++;

    for (; i && before(m, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = m;
}

static struct mail *pop_mail(struct sl_world *w)
{
    struct mail *first = w->heap[0], *last = w->heap[--w->n_mail];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < w->n_mail) {
        if (child + 1 < w->n_mail && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static struct mail *post(struct sl_world *w, enum mail_kind kind, uint32_t phone, uint64_t delay_ns)
{
    if (w->n_mail == w->cap_mail) {
        uint32_t cap = w->cap_mail ? 2 * w->cap_mail : 256;
        struct mail **heap = realloc(w->heap, cap * sizeof(*heap));
        if (!heap) {
            w->failed++;
            return NULL;
        }
        w->heap = heap;
        w->cap_mail = cap;
    }
    struct mail *m = calloc(1, sizeof(*m));
    if (!m) {
        w->failed++;
        return NULL;
    }
    m->at_ns = w->now_ns + delay_ns;
    m->number = w->sent++;
    m->kind = kind;
    m->phone = phone;
    m->connection = w->line[phone].connection;
    push_mail(w, m);
    return m;
}

/* A copy, through the bytes that would travel. */
static Sluice__Envelope *copy(const Sluice__Envelope *e)
{
    size_t n = sluice__envelope__get_packed_size(e);
    uint8_t *bytes = malloc(n + 1);
    Sluice__Envelope *out = NULL;

    if (bytes)
        out = sluice__envelope__unpack(NULL, sluice__envelope__pack(e, bytes), bytes);
    free(bytes);
    return out;
}

static int post_envelope(struct sl_world *w, enum mail_kind kind, uint32_t phone, const Sluice__Envelope *e)
{
    Sluice__Envelope *own = copy(e);
    struct mail *m = own ? post(w, kind, phone, w->line[phone].half_rtt_ns) : NULL;

    if (!m) {
        w->failed++;
        if (own)
            sluice__envelope__free_unpacked(own, NULL);
        return -ENOMEM;
    }
    m->envelope = own;
    return 0;
}

static void deliver(struct sl_world *w, struct mail *m)
{
    struct line *l = &w->line[m->phone];
    uint32_t i = m->phone;

    switch (m->kind) {
    case MAIL_TO_EDGE:
        sl_model_edge_message(w->edge, i, m->envelope, w->now_ns);
        return;
    case MAIL_PUSHED:
        sl_model_edge_pushed(w->edge, i, &m->transfer, w->now_ns);
        return;
    case MAIL_GONE:
        sl_model_edge_gone(w->edge, i, m->text, w->now_ns);
        return;
    default:
        break;
    }
    if (m->kind == MAIL_CLOSED && m->connection == l->connection) {
        l->connection++;
        w->n_up--;
        l->up = false;
        w->events->closed(w->app, i, m->code, m->text);
    }
    if (!l->up || m->connection != l->connection)
        return;
    if (m->kind == MAIL_ESTABLISHED)
        w->events->established(w->app, i);
    else if (m->kind == MAIL_TO_PHONE)
        w->events->message(w->app, i, m->envelope);
    else if (m->kind == MAIL_GIVEN)
        w->events->adapter(w->app, i, &m->transfer);
}

static unsigned deliver_due(struct sl_world *w)
{
    unsigned n = 0;

    for (; n < A_PASS && w->n_mail && w->heap[0]->at_ns <= w->now_ns; n++) {
        struct mail *m = pop_mail(w);
        deliver(w, m);
        free_mail(m);
    }
    return n;
}

/* ---- what the edge asks for ---- */

static void edge_send(void *app, uint32_t i, const Sluice__Envelope *e)
{
    post_envelope(app, MAIL_TO_PHONE, i, e);
}

static void edge_give(void *app, uint32_t i, const struct sl_adapter_transfer *t)
{
    struct sl_world *w = app;
    struct mail *m = post(w, MAIL_GIVEN, i, w->line[i].half_rtt_ns);

    if (m)
        m->transfer = *t;
}

static void edge_close(void *app, uint32_t i, Sluice__ErrorCode code, const char *text)
{
    struct sl_world *w = app;
    struct mail *m = post(w, MAIL_CLOSED, i, w->line[i].half_rtt_ns);

    if (!m)
        return;
    m->code = code;
    snprintf(m->text, sizeof(m->text), "%s", text);
}

static void edge_event(
    void *app, const char *name, const char *const *keys, const uint64_t *values, unsigned n)
{
    struct sl_world *w = app;

    if (w->cfg.event)
        w->cfg.event(w->app, name, keys, values, n);
}

static const struct sl_model_edge_ops edge_ops = {
    .send = edge_send, .give = edge_give, .close = edge_close, .event = edge_event};

/* ---- what phones ask for ---- */

static uint64_t now_ns(const void *access)
{
    return ((const struct sl_world *)access)->now_ns;
}

static int random_id(void *access, uint32_t i, uint32_t *out)
{
    const struct sl_world *w = access;

    *out = (uint32_t)sl_rng_u64(
        sl_rng_key(w->x->seed, "phone session"), (uint64_t)i << 32 | w->line[i].connection);
    return 0;
}

static int connect_phone(void *access, uint32_t i)
{
    struct sl_world *w = access;

    if (!post(w, MAIL_ESTABLISHED, i, 4 * w->line[i].half_rtt_ns))
        return -ENOMEM;
    w->line[i].up = true;
    w->n_up++;
    return 0;
}

static int send_envelope(void *access, uint32_t i, const Sluice__Envelope *e)
{
    struct sl_world *w = access;

    return w->line[i].up ? post_envelope(w, MAIL_TO_EDGE, i, e) : -ENOTCONN;
}

static int push(void *access, uint32_t i, const struct sl_adapter_transfer *t)
{
    struct sl_world *w = access;
    struct mail *m = w->line[i].up ? post(w, MAIL_PUSHED, i, w->line[i].half_rtt_ns) : NULL;

    if (!m)
        return -ENOTCONN;
    m->transfer = *t;
    m->transfer.data = NULL;
    return 0;
}

/* The edge hears of it half a round trip later, the phone itself at once, but not from in here. */
static void bye(void *access, uint32_t i, const char *text)
{
    struct sl_world *w = access;
    struct mail *gone, *closed;

    if (!w->line[i].up)
        return;
    gone = post(w, MAIL_GONE, i, w->line[i].half_rtt_ns);
    closed = post(w, MAIL_CLOSED, i, 0);
    if (gone)
        snprintf(gone->text, sizeof(gone->text), "%s", text);
    if (closed)
        snprintf(closed->text, sizeof(closed->text), "%s", text);
}

static void drop(void *access, uint32_t i)
{
    bye(access, i, "connection lost");
}

static int secret(void *access, uint32_t i, const Sluice__Welcome *welcome, uint8_t out[32])
{
    const struct sl_world *w = access;

    sl_model_secret(w->x->seed, welcome->session, welcome->epoch, out);
    return 0;
}

static uint32_t connections(const void *access)
{
    return ((const struct sl_world *)access)->n_up;
}

static void stop(void *access)
{
    ((struct sl_world *)access)->stopped = true;
}

const struct sl_access_ops sl_world_access = {.now_ns = now_ns,
    .calendar_ns = now_ns,
    .random = random_id,
    .connect = connect_phone,
    .send = send_envelope,
    .push = push,
    .bye = bye,
    .drop = drop,
    .secret = secret,
    .connections = connections,
    .stop = stop};

/* ---- creation ---- */

int sl_world_create(const struct sl_world_config *c, const struct sl_access_events *events, void *app,
    struct sl_world **out, char *err, size_t err_cap)
{
    const struct sl_experiment *x = c->edge.experiment;
    struct sl_world *w = calloc(1, sizeof(*w) + x->n_devices * sizeof(w->line[0]));
    struct sl_model_edge_config edge = c->edge;

    *out = w;
    if (!w || sl_cable_create(x->edge.data.mtu, c->max_buffers, &w->cable)) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    w->x = x;
    w->cfg = *c;
    w->events = events;
    w->app = app;
    w->now_ns = first_ns;
    for (uint32_t i = 0; i < x->n_devices; i++)
        w->line[i].half_rtt_ns = (uint64_t)(x->fleet[sl_experiment_class_of(x, i)].link.rtt_ms / 2 * 1e6);
    edge.queue = sl_port_queue(sl_cable_port(w->cable, SL_CABLE_EDGE), 0);
    return sl_model_edge_create(&edge, &edge_ops, w, &w->edge, err, err_cap);
}

void sl_world_free(struct sl_world *w)
{
    if (!w)
        return;
    sl_model_edge_free(w->edge);
    sl_cable_free(w->cable);
    for (uint32_t i = 0; i < w->n_mail; i++)
        free_mail(w->heap[i]);
    free(w->heap);
    free(w);
}

struct sl_port *sl_world_port(struct sl_world *w)
{
    return sl_cable_port(w->cable, SL_CABLE_PHONES);
}

const struct sl_model_edge *sl_world_edge(const struct sl_world *w)
{
    return w->edge;
}

/* ---- time ---- */

static uint64_t sooner(uint64_t at, uint64_t t, uint64_t now)
{
    return t > now && t < at ? t : at;
}

/* All that is to be done now. */
static void settle(struct sl_world *w, const struct sl_world_side *s, uint64_t *poll_ns)
{
    unsigned work;

    do {
        unsigned delivered = deliver_due(w);
        work = delivered + sl_model_edge_turn(w->edge, w->now_ns);
        work += sl_lcore_turn(s->lcore, w->now_ns);
        if (delivered || w->now_ns >= *poll_ns || s->pending(s->app)) {
            s->poll(s->app, w->now_ns);
            *poll_ns = s->deadline(s->app, w->now_ns);
            work++; /* it may have asked something of the lcore, or of the edge */
        }
    } while (work && !w->stopped);
}

int sl_world_run(struct sl_world *w, const struct sl_world_side *s)
{
    uint64_t poll_ns = 0;

    for (uint64_t times = 1; !w->stopped; times++) {
        settle(w, s, &poll_ns);
        if (w->failed)
            return -ENOMEM;
        uint64_t at = sooner(UINT64_MAX, poll_ns, w->now_ns);
        at = sooner(at, sl_lcore_deadline(s->lcore), w->now_ns);
        at = sooner(at, sl_model_edge_deadline(w->edge, w->now_ns), w->now_ns);
        if (w->n_mail)
            at = sooner(at, w->heap[0]->at_ns, w->now_ns);
        if (w->stopped)
            break;
        if (at == UINT64_MAX)
            return -EDEADLK;
        w->now_ns = at;
        if (times % PROGRESS_EVERY == 0)
            s->progress(s->app, w->now_ns);
    }
    return 0;
}
