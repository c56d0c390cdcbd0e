#include "device-sim/fleet/tls_access.h"

#include "dataplane/crypto/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { OWN_FILES = 256, PATH_BYTES = 1200, CONNECTIONS_MIN = 8 };

struct phone_access {
    struct sl_tls_ctx *tls;
    struct sl_control *control; /* NULL: none */
};

struct sl_tls_access {
    struct sl_tls_access_config cfg;
    const struct sl_access_events *events;
    void *app;
    struct sl_loop *loop;
    struct sl_control_config control_config;
    struct phone_access phone[];
};

/* ---- the connection's events ---- */

static uint32_t phone_of(const struct sl_tls_access *a, const struct sl_control *c)
{
    return (uint32_t)((struct phone_access *)sl_control_user(c) - a->phone);
}

static void established(void *app, struct sl_control *c)
{
    struct sl_tls_access *a = app;
    uint32_t i = phone_of(a, c);

    a->phone[i].control = c;
    a->events->established(a->app, i);
}

static void message(void *app, struct sl_control *c, const Sluice__Envelope *e)
{
    struct sl_tls_access *a = app;

    a->events->message(a->app, phone_of(a, c), e);
}

static void adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
    struct sl_tls_access *a = app;

    a->events->adapter(a->app, phone_of(a, c), t);
}

static void closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    struct sl_tls_access *a = app;
    uint32_t i = phone_of(a, c);

    a->phone[i].control = NULL;
    a->events->closed(a->app, i, code, text);
    sl_control_free(c); /* last: the text is its own */
}

static const struct sl_control_ops control_ops = {
    .established = established, .message = message, .adapter = adapter, .closed = closed};

/* ---- what phones ask for ---- */

static uint64_t now_ns(const void *access)
{
    return sl_loop_now_ns();
}

static uint64_t calendar_ns(const void *access)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int random_id(void *access, uint32_t phone, uint32_t *out)
{
    return getrandom(out, sizeof(*out), 0) == sizeof(*out) ? 0 : -EIO;
}

static int connect_phone(void *access, uint32_t i)
{
    struct sl_tls_access *a = access;
    struct phone_access *p = &a->phone[i];
    int rc =
        sl_loop_connect(a->loop, a->cfg.edge, p->tls, &a->control_config, &control_ops, a, p, &p->control);

    if (rc)
        p->control = NULL;
    return rc;
}

static int send_envelope(void *access, uint32_t i, const Sluice__Envelope *e)
{
    struct sl_tls_access *a = access;
    struct sl_control *c = a->phone[i].control;
    int rc = c ? sl_control_send(c, e) : -ENOTCONN;

    if (!rc)
        sl_loop_flush(a->loop, c);
    return rc;
}

static int push(void *access, uint32_t i, const struct sl_adapter_transfer *t)
{
    struct sl_tls_access *a = access;
    struct sl_control *c = a->phone[i].control;
    int rc = c ? sl_control_send_adapter(c, t) : -ENOTCONN;

    if (!rc)
        sl_loop_flush(a->loop, c);
    return rc;
}

static void bye(void *access, uint32_t i, const char *text)
{
    struct sl_tls_access *a = access;
    struct sl_control *c = a->phone[i].control;

    if (!c)
        return;
    sl_control_bye(c, text);
    sl_loop_flush(a->loop, c);
}

static void drop(void *access, uint32_t i)
{
    struct sl_tls_access *a = access;

    if (a->phone[i].control)
        sl_loop_drop(a->loop, a->phone[i].control);
}

static int secret(void *access, uint32_t i, const Sluice__Welcome *w, uint8_t out[32])
{
    struct sl_tls_access *a = access;
    struct sl_control *c = a->phone[i].control;
    uint8_t context[12];

    if (!c)
        return -ENOTCONN;
    sl_exporter_context(w->session, w->epoch, context);
    return sl_tls_export(sl_control_tls(c), SL_EXPORTER_LABEL, context, sizeof(context), out, 32);
}

static uint32_t connections(const void *access)
{
    const struct sl_tls_access *a = access;

    return sl_loop_connections(a->loop);
}

static void stop(void *access)
{
    struct sl_tls_access *a = access;

    sl_loop_stop(a->loop);
}

const struct sl_access_ops sl_tls_access_ops = {.now_ns = now_ns,
    .calendar_ns = calendar_ns,
    .random = random_id,
    .connect = connect_phone,
    .send = send_envelope,
    .push = push,
    .bye = bye,
    .drop = drop,
    .secret = secret,
    .connections = connections,
    .stop = stop};

/* ---- all of them ---- */

static int open_tls(struct sl_tls_access *a, uint32_t i, char *err, size_t err_cap)
{
    char ca[PATH_BYTES], cert[PATH_BYTES], key[PATH_BYTES];
    const char *dir = a->cfg.pki;
    bool fits = snprintf(ca, sizeof(ca), "%s/ca.pem", dir) < PATH_BYTES;

    fits &= snprintf(cert, sizeof(cert), "%s/device-%05u.pem", dir, i) < PATH_BYTES;
    fits &= snprintf(key, sizeof(key), "%s/device-%05u.key", dir, i) < PATH_BYTES;
    if (!fits || access(ca, R_OK) || access(cert, R_OK) || access(key, R_OK)) {
        snprintf(err, err_cap,
            "%s: no readable ca.pem, device-%05u.pem and device-%05u.key there; make them with scripts/pki "
            "(ca, then issue)",
            dir, i, i);
        return -ENOENT;
    }
    return i ? sl_tls_ctx_share(a->phone[0].tls, cert, key, &a->phone[i].tls, err, err_cap)
             : sl_tls_ctx_create(SL_TLS_CLIENT, ca, cert, key, &a->phone[i].tls, err, err_cap);
}

/* A descriptor for every phone, beside our own files. */
static int allow_connections(uint32_t n, char *err, size_t err_cap)
{
    struct rlimit limit;
    rlim_t want = n + OWN_FILES;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
        return 0;
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    if (limit.rlim_cur >= want && setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    snprintf(err, err_cap,
        "%u phones take %lu open files, and %lu are allowed: raise the limit (ulimit -n %lu) or take fewer "
        "phones",
        n, (unsigned long)want, (unsigned long)limit.rlim_max, (unsigned long)want);
    return -EMFILE;
}

int sl_tls_access_create(const struct sl_tls_access_config *cfg, const struct sl_access_events *events,
    void *app, struct sl_tls_access **out, char *err, size_t err_cap)
{
    struct sl_tls_access *a = calloc(1, sizeof(*a) + cfg->n_phones * sizeof(a->phone[0]));
    int rc = a ? 0 : -ENOMEM;

    *out = a;
    if (rc) {
        snprintf(err, err_cap, "out of memory");
        return rc;
    }
    a->cfg = *cfg;
    a->events = events;
    a->app = app;
    a->control_config =
        (struct sl_control_config){.role = SL_CONTROL_DEVICE, .adapter_bytes_max = cfg->adapter_bytes_max};
    rc = allow_connections(cfg->n_phones, err, err_cap);
    for (uint32_t i = 0; i < cfg->n_phones && !rc; i++)
        rc = open_tls(a, i, err, err_cap);
    if (!rc)
        rc = sl_loop_create(
            cfg->n_phones < CONNECTIONS_MIN ? CONNECTIONS_MIN : cfg->n_phones, &a->loop, err, err_cap);
    return rc;
}

void sl_tls_access_free(struct sl_tls_access *a)
{
    if (!a)
        return;
    if (a->loop)
        sl_loop_free(a->loop);
    for (uint32_t i = 0; i < a->cfg.n_phones; i++) {
        if (a->phone[i].tls)
            sl_tls_ctx_free(a->phone[i].tls);
    }
    free(a);
}

int sl_tls_access_run(
    struct sl_tls_access *a, void (*poll)(void *app, uint64_t now_ns), void *app, uint64_t poll_interval_ns)
{
    return sl_loop_run(a->loop, poll, app, poll_interval_ns);
}
