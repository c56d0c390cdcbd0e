/* Sans-IO control connection, either role: TLS 1.3 bytes in and out, framed protobuf messages, and the order
 * in which they may come. What moves the bytes (dataplane/io/uring, a test) drives it; one thread. The
 * application frees it, inside its `closed` callback or later, and never in another callback. `closed` comes
 * exactly once, from sl_control_eof.
 *
 * The machine refuses by itself what is wrong whatever the run's policy: framing, size, protobuf, order
 * (Hello first and once; nothing but Error/Bye before Welcome; chunks in order, within bounds), too many
 * messages per second. Such a refusal sends Error with a code and a sentence, then closes. Policy (model
 * hash, codec, capacity, class) is the application's, which answers with sl_control_send(Welcome) or
 * sl_control_refuse. */
#pragma once

#include "dataplane/crypto/tls.h"
#include "dataplane/wire/control.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

enum sl_control_role { SL_CONTROL_EDGE, SL_CONTROL_DEVICE };

enum {
    SL_CONTROL_PROTOCOL = 1,
    SL_CONTROL_MESSAGE_MAX = 512 * 1024,
    SL_CONTROL_CHUNK_MAX = 256 * 1024,
    SL_CONTROL_CHUNK_MIN = 16 * 1024, /* of every chunk but an adapter's last */
    SL_CONTROL_TEXT_MAX = 255,        /* of an Error or Bye; what is longer is cut */
    SL_CONTROL_CLOSE_TIMEOUT_S = 5,   /* for a peer that does not read what is left for it */
};

struct sl_control;

/* A whole adapter (or gradient sums, or moments), assembled from its chunks. `data` is valid during the call.
 */
struct sl_adapter_transfer {
    Sluice__AdapterKind kind;
    uint64_t version, tokens, step;
    uint32_t first, last;
    const float *data;
    size_t n; /* floats */
};

struct sl_control_ops {
    void (*established)(void *app, struct sl_control *); /* handshake done, certificate verified */
    /* A legal message other than AdapterChunk (also the peer's Error and Bye, before `closed`). Valid during
     * the call. */
    void (*message)(void *app, struct sl_control *, const Sluice__Envelope *);
    void (*adapter)(void *app, struct sl_control *, const struct sl_adapter_transfer *);
    /* Last call: in it or after it the object may be freed. `code` as sent or received: ERROR_NONE after a
     * Bye or when the connection was lost, ERROR_PROTOCOL when TLS failed (a refused certificate, say); text:
     * one line. */
    void (*closed)(void *app, struct sl_control *, Sluice__ErrorCode code, const char *text);
};

struct sl_control_config {
    enum sl_control_role role;
    size_t adapter_bytes_max;      /* bound on an incoming adapter */
    uint64_t handshake_timeout_ns; /* until Hello/Welcome: default 10 s (rules T16) */
    uint64_t idle_timeout_ns;      /* without any message; default 60 s */
    uint32_t messages_per_s;       /* default 200; of an adapter's chunks only the first counts */
};

int sl_control_create(const struct sl_control_config *, struct sl_tls_ctx *, const struct sl_control_ops *,
    void *app, uint64_t now_ns, struct sl_control **);
void sl_control_free(struct sl_control *);

/* Bytes from and for the network. feed() calls the ops; -EPIPE: closing, the bytes were discarded. drain: up
 * to cap bytes, 0 none (with cap 0 only pending_out becomes what there is to send). When
 * sl_control_wants_close() says so, or the transport ends by itself, call sl_control_eof(). */
int sl_control_feed(struct sl_control *, const uint8_t *in, size_t len, uint64_t now_ns);
size_t sl_control_drain(struct sl_control *, uint8_t *out, size_t cap);
size_t sl_control_pending_out(const struct sl_control *);
uint64_t sl_control_deadline(const struct sl_control *); /* next time-out; then call _tick */
void sl_control_tick(struct sl_control *, uint64_t now_ns);
void sl_control_eof(
    struct sl_control *, const char *why); /* the transport ended; why may be NULL. Calls `closed` */
bool sl_control_wants_close(const struct sl_control *); /* all sent: close the socket now */

/* -ENOTCONN: before `established`; -EPIPE: closing; -EPROTO: not this role's, or not its time; -EMSGSIZE;
 * -ENOBUFS: the peer does not read (more than 4 MiB + 4 adapter_bytes_max queued). Messages and adapters
 * leave in the order of the calls. */
int sl_control_send(struct sl_control *, const Sluice__Envelope *);
/* An adapter in chunks of at most SL_CONTROL_CHUNK_MAX; `data` is copied. */
int sl_control_send_adapter(struct sl_control *, const struct sl_adapter_transfer *);
void sl_control_refuse(struct sl_control *, Sluice__ErrorCode, const char *text); /* Error, then close */
void sl_control_bye(struct sl_control *, const char *text);                       /* Bye, then close */

struct sl_tls *sl_control_tls(struct sl_control *); /* peer name, key hash, exporter */
void sl_control_set_user(struct sl_control *, void *);
void *sl_control_user(const struct sl_control *);
void sl_control_set_transport(
    struct sl_control *, void *); /* what moves the bytes keeps its own state here */
void *sl_control_transport(const struct sl_control *);
