/* Two control connections, or one and a bare TLS end that may misbehave, joined in memory on a virtual clock.
 */
#pragma once

#include "dataplane/control/peer.h"
#include "tests/crypto/certs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t second = 1000000000;

/* What the application of one end saw. */
struct seen {
    struct sl_control *control;
    unsigned established, messages, adapters, closed;
    unsigned kinds[16]; /* by body_case */
    Sluice__ErrorCode code;
    char text[SL_CONTROL_TEXT_MAX + 1];
    struct sl_adapter_transfer transfer; /* of the last adapter; its data is a copy to be freed */
    float *floats;
    void (*on_established)(struct seen *);
    void (*on_message)(struct seen *, const Sluice__Envelope *);
    bool free_in_closed;
};

static void on_established(void *app, struct sl_control *c)
{
    struct seen *s = app;

    s->established++;
    s->control = c;
    if (s->on_established)
        s->on_established(s);
}

static void on_message(void *app, struct sl_control *c, const Sluice__Envelope *e)
{
    struct seen *s = app;

    s->messages++;
    s->kinds[e->body_case]++;
    if (s->on_message)
        s->on_message(s, e);
}

static void on_adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
    struct seen *s = app;

    s->adapters++;
    free(s->floats);
    s->floats = malloc(t->n * sizeof(float));
    memcpy(s->floats, t->data, t->n * sizeof(float));
    s->transfer = *t;
    s->transfer.data = s->floats;
}

static void on_closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    struct seen *s = app;

    s->closed++;
    s->code = code;
    snprintf(s->text, sizeof(s->text), "%s", text);
    if (s->free_in_closed) {
        sl_control_free(c);
        s->control = NULL;
    }
}

static const struct sl_control_ops seen_ops = {on_established, on_message, on_adapter, on_closed};

static struct certs *certs;
static struct sl_tls_ctx *edge_ctx, *device_ctx, *stranger_ctx;

static struct sl_tls_ctx *load(enum sl_tls_role role, const char *ca, const char *cert, const char *key)
{
    struct sl_tls_ctx *ctx;
    char err[300];

    if (sl_tls_ctx_create(role, certs_path(certs, ca), certs_path(certs, cert), certs_path(certs, key), &ctx,
            err, sizeof(err)))
        fail_msg("%s", err);
    return ctx;
}

static int contexts_create(void **state)
{
    certs = certs_create();
    certs_issue(certs, &(struct cert_spec){.file = "edge", .name = "edge-0", .role = "serverAuth"});
    certs_issue(certs, &(struct cert_spec){.file = "device", .name = "device-00001", .role = "clientAuth"});
    certs_issue(
        certs, &(struct cert_spec){
                   .file = "stranger", .name = "device-00001", .role = "clientAuth", .other_ca = true});
    edge_ctx = load(SL_TLS_SERVER, "ca.pem", "edge.pem", "edge.key");
    device_ctx = load(SL_TLS_CLIENT, "ca.pem", "device.pem", "device.key");
    stranger_ctx = load(SL_TLS_CLIENT, "ca.pem", "stranger.pem", "stranger.key");
    return 0;
}

static int contexts_free(void **state)
{
    sl_tls_ctx_free(edge_ctx);
    sl_tls_ctx_free(device_ctx);
    sl_tls_ctx_free(stranger_ctx);
    certs_free(certs);
    return 0;
}

static inline struct sl_control *control_create(enum sl_control_role role, struct seen *s, uint64_t now)
{
    struct sl_control_config config = {.role = role, .adapter_bytes_max = 8 << 20};
    struct sl_control *c;

    assert_int_equal(
        sl_control_create(&config, role == SL_CONTROL_EDGE ? edge_ctx : device_ctx, &seen_ops, s, now, &c),
        0);
    s->control = c;
    return c;
}

/* What stands for the socket. */
static inline bool carry_control(struct sl_control *from, struct sl_control *to, size_t step, uint64_t now)
{
    uint8_t buf[16384];
    bool any = false;
    size_t n;

    while ((n = sl_control_drain(from, buf, step < sizeof(buf) ? step : sizeof(buf)))) {
        sl_control_feed(to, buf, n, now);
        any = true;
    }
    return any;
}

static inline void run_controls(struct sl_control *a, struct sl_control *b, size_t step, uint64_t now)
{
    for (bool any = true; any;) {
        any = carry_control(a, b, step, now);
        any |= carry_control(b, a, step, now);
    }
}

static inline int send_hello(struct sl_control *c)
{
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    hello.protocol = SL_CONTROL_PROTOCOL;
    hello.receive_id = 77;
    hello.device_class = (char *)"midrange";
    e.body_case = SLUICE__ENVELOPE__BODY_HELLO;
    e.hello = &hello;
    return sl_control_send(c, &e);
}

static inline int send_welcome(struct sl_control *c)
{
    Sluice__Welcome welcome = SLUICE__WELCOME__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    welcome.session = 88;
    e.body_case = SLUICE__ENVELOPE__BODY_WELCOME;
    e.welcome = &welcome;
    return sl_control_send(c, &e);
}

static inline int send_heartbeat(struct sl_control *c, uint64_t seq_no)
{
    Sluice__Heartbeat beat = SLUICE__HEARTBEAT__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    beat.seq_no = seq_no;
    beat.battery = 0.5;
    e.body_case = SLUICE__ENVELOPE__BODY_HEARTBEAT;
    e.heartbeat = &beat;
    return sl_control_send(c, &e);
}

static inline void hello_when_established(struct seen *s)
{
    assert_int_equal(send_hello(s->control), 0);
}

static inline void welcome_after_hello(struct seen *s, const Sluice__Envelope *e)
{
    if (e->body_case == SLUICE__ENVELOPE__BODY_HELLO)
        assert_int_equal(send_welcome(s->control), 0);
}
