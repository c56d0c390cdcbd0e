/* The way out: messages are framed when they are sent, adapters cut into chunks as the network takes them. */
#include "dataplane/control/peer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH_BYTES = 4,
    TLS_BUFFER_MAX = 256 * 1024, /* ciphertext that waits for the network before more is made */
    QUEUE_BASE = 4 << 20,        /* beyond the adapters: see sl_control_send */
    QUEUE_ADAPTERS = 4,
};

void sl_control_drop_queue(struct sl_control *c)
{
    while (c->head) {
        struct sl_control_item *item = c->head;

        c->head = item->next;
        free(item);
    }
    c->tail = &c->head;
    c->queued = 0;
}

static struct sl_control_item *new_item(size_t data_bytes)
{
    struct sl_control_item *item = malloc(sizeof(*item) + data_bytes);

    if (item)
        memset(item, 0, sizeof(*item));
    return item;
}

static void append(struct sl_control *c, struct sl_control_item *item)
{
    *c->tail = item;
    c->tail = &item->next;
    c->queued += item->bytes;
}

/* Length, then body, to `out` of LENGTH_BYTES + packed size. */
static void pack_frame(const Sluice__Envelope *envelope, size_t body, uint8_t *out)
{
    uint32_t be = __builtin_bswap32((uint32_t)body);

    memcpy(out, &be, LENGTH_BYTES);
    sluice__envelope__pack(envelope, out + LENGTH_BYTES);
}

static int queue_message(struct sl_control *c, const Sluice__Envelope *envelope)
{
    size_t body = sluice__envelope__get_packed_size(envelope);
    struct sl_control_item *item;

    if (body > SL_CONTROL_MESSAGE_MAX)
        return -EMSGSIZE;
    item = new_item(LENGTH_BYTES + body);
    if (!item)
        return -ENOMEM;
    pack_frame(envelope, body, item->data);
    item->bytes = LENGTH_BYTES + body;
    append(c, item);
    return 0;
}

void sl_control_queue_last(struct sl_control *c, const Sluice__Envelope *envelope)
{
    if (sl_tls_established(c->tls))
        queue_message(c, envelope); /* without memory the peer gets the end of the connection only */
}

/* The next chunk of the adapter at the head of the queue, into TLS. */
static int write_chunk(struct sl_control *c, struct sl_control_item *item)
{
    Sluice__AdapterChunk chunk = SLUICE__ADAPTER_CHUNK__INIT;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    size_t left = item->bytes - item->at, n = left < SL_CONTROL_CHUNK_MAX ? left : SL_CONTROL_CHUNK_MAX, body;
    uint8_t *frame;
    int err;

    chunk.kind = item->transfer.kind;
    chunk.version = item->transfer.version;
    chunk.first = item->transfer.first;
    chunk.last = item->transfer.last;
    chunk.tokens = item->transfer.tokens;
    chunk.step = item->transfer.step;
    chunk.total_bytes = item->bytes;
    chunk.offset = item->at;
    chunk.data.data = item->data + item->at;
    chunk.data.len = n;
    envelope.body_case = SLUICE__ENVELOPE__BODY_ADAPTER_CHUNK;
    envelope.adapter_chunk = &chunk;
    body = sluice__envelope__get_packed_size(&envelope);
    frame = malloc(LENGTH_BYTES + body);
    if (!frame)
        return -ENOMEM;
    pack_frame(&envelope, body, frame);
    err = sl_tls_write(c->tls, frame, LENGTH_BYTES + body);
    free(frame);
    if (!err) {
        item->at += n;
        c->queued -= n;
    }
    return err;
}

static int write_message(struct sl_control *c, struct sl_control_item *item)
{
    int err = sl_tls_write(c->tls, item->data, item->bytes);

    if (!err) {
        item->at = item->bytes;
        c->queued -= item->bytes;
    }
    return err;
}

void sl_control_pump(struct sl_control *c)
{
    if (c->state == SL_CONTROL_CLOSED || !sl_tls_established(c->tls))
        return;
    while (c->head && sl_tls_pending_out(c->tls) < TLS_BUFFER_MAX) {
        struct sl_control_item *item = c->head;
        int err = item->is_adapter ? write_chunk(c, item) : write_message(c, item);

        if (err) { /* memory, or TLS is broken: nothing can be said any more */
            sl_control_drop_queue(c);
            sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_PROTOCOL,
                err == -ENOMEM ? "out of memory for a message" : sl_tls_error(c->tls), false);
            return;
        }
        if (item->at == item->bytes) {
            c->head = item->next;
            if (!c->head)
                c->tail = &c->head;
            free(item);
        }
    }
    if (c->state == SL_CONTROL_CLOSING && !c->head && !c->tls_closed) {
        c->tls_closed = true;
        sl_tls_close(c->tls);
    }
}

/* Whether this role may send that now. */
static bool may_send(const struct sl_control *c, Sluice__Envelope__BodyCase kind)
{
    bool edge = c->config.role == SL_CONTROL_EDGE, open = c->state == SL_CONTROL_OPEN;

    switch (kind) {
    case SLUICE__ENVELOPE__BODY_HELLO:
        return !edge && c->state == SL_CONTROL_HELLO;
    case SLUICE__ENVELOPE__BODY_WELCOME:
        return edge && c->state == SL_CONTROL_WELCOME;
    case SLUICE__ENVELOPE__BODY_PLAN:
    case SLUICE__ENVELOPE__BODY_ADAPTER_KEPT:
    case SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK:
        return edge && open;
    case SLUICE__ENVELOPE__BODY_ADAPTER_PULL:
    case SLUICE__ENVELOPE__BODY_HEARTBEAT:
    case SLUICE__ENVELOPE__BODY_PHASE_DONE:
        return !edge && open;
    default: /* AdapterChunk, Error and Bye have functions of their own */
        return false;
    }
}

static int room_for(const struct sl_control *c, size_t bytes)
{
    if (c->state >= SL_CONTROL_CLOSING)
        return -EPIPE;
    if (c->state == SL_CONTROL_HANDSHAKE)
        return -ENOTCONN;
    return c->queued + bytes > QUEUE_BASE + QUEUE_ADAPTERS * c->config.adapter_bytes_max ? -ENOBUFS : 0;
}

int sl_control_send(struct sl_control *c, const Sluice__Envelope *envelope)
{
    int err = room_for(c, 0);

    if (err)
        return err;
    if (!may_send(c, envelope->body_case))
        return -EPROTO;
    err = queue_message(c, envelope);
    if (err)
        return err;
    if (envelope->body_case == SLUICE__ENVELOPE__BODY_HELLO) {
        c->state = SL_CONTROL_WELCOME;
    } else if (envelope->body_case == SLUICE__ENVELOPE__BODY_WELCOME) {
        c->state = SL_CONTROL_OPEN;
        c->deadline_ns = c->now_ns + c->config.idle_timeout_ns;
    }
    sl_control_pump(c);
    return 0;
}

int sl_control_send_adapter(struct sl_control *c, const struct sl_adapter_transfer *transfer)
{
    size_t bytes = transfer->n * sizeof(float);
    struct sl_control_item *item;
    int err = room_for(c, bytes);

    if (err)
        return err;
    if (c->state != SL_CONTROL_OPEN)
        return -EPROTO;
    if (!transfer->n || transfer->first >= transfer->last)
        return -EINVAL;
    item = new_item(bytes);
    if (!item)
        return -ENOMEM;
    item->is_adapter = true;
    item->bytes = bytes;
    item->transfer = *transfer;
    item->transfer.data = NULL; /* the copy is what counts */
    memcpy(item->data, transfer->data, bytes);
    append(c, item);
    sl_control_pump(c);
    return 0;
}
