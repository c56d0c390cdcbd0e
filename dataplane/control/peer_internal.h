/* What the files of dataplane/control share; the fuzzers feed plaintext through it. */
#pragma once

#include "dataplane/control/peer.h"

enum sl_control_state {
    SL_CONTROL_HANDSHAKE, /* TLS */
    SL_CONTROL_HELLO,     /* Hello is due, from the device */
    SL_CONTROL_WELCOME,   /* Welcome is due, from the edge's application */
    SL_CONTROL_OPEN,
    SL_CONTROL_CLOSING, /* nothing more is taken in; what is queued still goes out */
    SL_CONTROL_CLOSED,
};

/* Something to send: a framed message, or an adapter of which [at, bytes) is still to be cut into chunks. */
struct sl_control_item {
    struct sl_control_item *next;
    bool is_adapter;
    size_t bytes, at;
    struct sl_adapter_transfer transfer;
    _Alignas(16) uint8_t data[];
};

/* A frame as it comes in: 4 bytes of length, then the body in a buffer that grows with what has really
 * arrived. */
struct sl_control_frame {
    uint8_t head[4];
    size_t head_have, need, have, cap;
    uint8_t *body;
};

/* An adapter as it comes in. data == NULL: none under way. */
struct sl_control_assembly {
    struct sl_adapter_transfer transfer;
    uint64_t total;
    size_t have;
    uint8_t *data;
};

struct sl_control {
    struct sl_control_config config;
    const struct sl_control_ops *ops;
    void *app, *user, *transport;
    struct sl_tls *tls;
    enum sl_control_state state;
    uint64_t now_ns;      /* the newest that a caller told */
    uint64_t deadline_ns; /* of the present state; 0 while closing: the next tick sets it */
    bool gave_up;         /* closing took too long: close with bytes unsent */
    Sluice__ErrorCode code;
    char text[SL_CONTROL_TEXT_MAX + 1]; /* why it closes */

    struct sl_control_frame frame;
    struct sl_control_assembly assembly;
    uint64_t allowance_ns, allowance_at_ns; /* token bucket: a message costs a second / messages_per_s */

    struct sl_control_item *head, **tail;
    size_t queued;   /* bytes of the queue */
    bool tls_closed; /* close_notify is written */
};

/* Starts to close: what was not given to TLS is dropped unless keep_queue. The first reason stays. */
void sl_control_closing(struct sl_control *, Sluice__ErrorCode, const char *text, bool keep_queue);
/* Plaintext of the connection, in any pieces. */
void sl_control_input(struct sl_control *, const uint8_t *in, size_t len);
/* Moves the queue into TLS as far as its buffer's bound allows, then close_notify if closing. */
void sl_control_pump(struct sl_control *);
void sl_control_drop_queue(struct sl_control *);
/* Error or Bye to the end of the queue. */
void sl_control_queue_last(struct sl_control *, const Sluice__Envelope *);
void sl_control_receive_free(struct sl_control *);
/* Copies text as one printable line. */
void sl_control_one_line(const char *text, char out[SL_CONTROL_TEXT_MAX + 1]);
