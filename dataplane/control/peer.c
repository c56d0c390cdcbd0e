/* Life of a control connection: creation, time, the way out. */
#include "dataplane/control/peer.h"

#include "dataplane/control/peer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t second_ns = 1000000000;
enum { DEFAULT_HANDSHAKE_S = 10, DEFAULT_IDLE_S = 60, DEFAULT_MESSAGES_PER_S = 200 };

void sl_control_one_line(const char *text, char out[SL_CONTROL_TEXT_MAX + 1])
{
    size_t n = 0;

    for (; text && *text && n < SL_CONTROL_TEXT_MAX; text++)
        out[n++] = *text < ' ' || *text > '~' ? (*text == '\n' || *text == '\t' ? ' ' : '?') : *text;
    out[n] = 0;
}

int sl_control_create(const struct sl_control_config *config, struct sl_tls_ctx *tls_ctx,
    const struct sl_control_ops *ops, void *app, uint64_t now_ns, struct sl_control **out)
{
    struct sl_control *c = calloc(1, sizeof(*c));
    int err;

    *out = NULL;
    if (!c)
        return -ENOMEM;
    c->config = *config;
    if (!c->config.handshake_timeout_ns)
        c->config.handshake_timeout_ns = DEFAULT_HANDSHAKE_S * second_ns;
    if (!c->config.idle_timeout_ns)
        c->config.idle_timeout_ns = DEFAULT_IDLE_S * second_ns;
    if (!c->config.messages_per_s)
        c->config.messages_per_s = DEFAULT_MESSAGES_PER_S;
    c->ops = ops;
    c->app = app;
    c->now_ns = now_ns;
    c->deadline_ns = now_ns + c->config.handshake_timeout_ns;
    c->allowance_ns = second_ns;
    c->allowance_at_ns = now_ns;
    c->tail = &c->head;
    err = sl_tls_create(tls_ctx, &c->tls);
    if (err) {
        free(c);
        return err;
    }
    *out = c;
    return 0;
}

void sl_control_free(struct sl_control *c)
{
    if (!c)
        return;
    sl_control_drop_queue(c);
    sl_control_receive_free(c);
    sl_tls_free(c->tls);
    free(c);
}

void sl_control_closing(struct sl_control *c, Sluice__ErrorCode code, const char *text, bool keep_queue)
{
    if (c->state >= SL_CONTROL_CLOSING)
        return;
    c->state = SL_CONTROL_CLOSING;
    c->deadline_ns = 0;
    c->code = code;
    sl_control_one_line(text, c->text);
    if (!keep_queue)
        sl_control_drop_queue(c);
    sl_control_receive_free(c);
}

void sl_control_refuse(struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    Sluice__Error error = SLUICE__ERROR__INIT;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;

    if (c->state >= SL_CONTROL_CLOSING)
        return;
    sl_control_closing(c, code, text, false);
    error.code = code;
    error.text = c->text;
    envelope.body_case = SLUICE__ENVELOPE__BODY_ERROR;
    envelope.error = &error;
    sl_control_queue_last(c, &envelope);
    sl_control_pump(c);
}

void sl_control_bye(struct sl_control *c, const char *text)
{
    Sluice__Bye bye = SLUICE__BYE__INIT;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;

    if (c->state >= SL_CONTROL_CLOSING)
        return;
    sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_NONE, text, true);
    bye.text = c->text;
    envelope.body_case = SLUICE__ENVELOPE__BODY_BYE;
    envelope.bye = &bye;
    sl_control_queue_last(c, &envelope);
    sl_control_pump(c);
}

/* The reason TLS gives, at the handshake or later. */
static void tls_failed(struct sl_control *c)
{
    const char *why = sl_tls_error(c->tls);

    sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_PROTOCOL, *why ? why : "TLS failed", false);
}

static void read_plaintext(struct sl_control *c)
{
    uint8_t plain[16384]; /* RFC 8446 5.1: the most that a record holds */
    long n;

    while (c->state < SL_CONTROL_CLOSING && (n = sl_tls_read(c->tls, plain, sizeof(plain))) != 0) {
        if (n > 0)
            sl_control_input(c, plain, (size_t)n);
        else if (n == -EPIPE)
            sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_NONE, "the peer closed the connection", false);
        else
            tls_failed(c);
    }
    explicit_bzero(plain, sizeof(plain));
}

int sl_control_feed(struct sl_control *c, const uint8_t *in, size_t len, uint64_t now_ns)
{
    c->now_ns = now_ns;
    if (c->state >= SL_CONTROL_CLOSING)
        return -EPIPE;
    if (sl_tls_feed(c->tls, in, len) != 0)
        tls_failed(c);
    if (c->state == SL_CONTROL_HANDSHAKE && sl_tls_established(c->tls)) {
        c->state = SL_CONTROL_HELLO; /* the deadline stands: it is that of Hello and Welcome, too */
        c->ops->established(c->app, c);
    }
    if (c->state < SL_CONTROL_CLOSING)
        read_plaintext(c);
    sl_control_pump(c);
    return 0;
}

size_t sl_control_drain(struct sl_control *c, uint8_t *out, size_t cap)
{
    sl_control_pump(c);
    return sl_tls_drain(c->tls, out, cap);
}

size_t sl_control_pending_out(const struct sl_control *c)
{
    return c->queued + sl_tls_pending_out(c->tls);
}

uint64_t sl_control_deadline(const struct sl_control *c)
{
    if (c->state == SL_CONTROL_CLOSED || c->gave_up)
        return UINT64_MAX;
    return c->deadline_ns ? c->deadline_ns : c->now_ns;
}

void sl_control_tick(struct sl_control *c, uint64_t now_ns)
{
    char text[80];

    c->now_ns = now_ns;
    if (c->state == SL_CONTROL_CLOSED)
        return;
    if (c->state == SL_CONTROL_CLOSING) {
        if (!c->deadline_ns)
            c->deadline_ns = now_ns + SL_CONTROL_CLOSE_TIMEOUT_S * second_ns;
        c->gave_up |= now_ns >= c->deadline_ns;
        return;
    }
    if (now_ns < c->deadline_ns)
        return;
    if (c->state == SL_CONTROL_OPEN)
        snprintf(text, sizeof(text), "no message for %.0f s", (double)c->config.idle_timeout_ns / 1e9);
    else
        snprintf(text, sizeof(text), "no %s within %.0f s",
            c->state == SL_CONTROL_HANDSHAKE ? "TLS handshake"
            : c->state == SL_CONTROL_HELLO   ? "Hello"
                                             : "Welcome",
            (double)c->config.handshake_timeout_ns / 1e9);
    sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_TIMEOUT, text);
}

void sl_control_eof(struct sl_control *c, const char *why)
{
    if (c->state == SL_CONTROL_CLOSED)
        return;
    if (c->state == SL_CONTROL_HANDSHAKE)
        sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_NONE,
            why ? why : "the peer closed the connection in the TLS handshake", false);
    else
        sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_NONE, why ? why : "the connection was lost", false);
    c->state = SL_CONTROL_CLOSED;
    c->ops->closed(c->app, c, c->code, c->text); /* may free c */
}

bool sl_control_wants_close(const struct sl_control *c)
{
    return c->state == SL_CONTROL_CLOSING && (c->gave_up || sl_control_pending_out(c) == 0);
}

struct sl_tls *sl_control_tls(struct sl_control *c)
{
    return c->tls;
}

void sl_control_set_user(struct sl_control *c, void *user)
{
    c->user = user;
}

void *sl_control_user(const struct sl_control *c)
{
    return c->user;
}

void sl_control_set_transport(struct sl_control *c, void *transport)
{
    c->transport = transport;
}

void *sl_control_transport(const struct sl_control *c)
{
    return c->transport;
}
