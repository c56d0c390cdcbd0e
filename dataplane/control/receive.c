/* The way in: frames, protobuf with bounded memory, the order of messages, adapters put together. */
#include "dataplane/control/peer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
    "adapters travel as little-endian floats and are used in place");

static const uint64_t second_ns = 1000000000;
enum {
    BODY_FIRST_CAP = 4096,
    BODY_KEEP_CAP = 64 * 1024, /* larger buffers are given back after their message */
    UNPACK_SLACK = 64 * 1024,
    UNPACK_FACTOR = 2,
};

void sl_control_receive_free(struct sl_control *c)
{
    free(c->frame.body);
    free(c->assembly.data);
    memset(&c->frame, 0, sizeof(c->frame));
    memset(&c->assembly, 0, sizeof(c->assembly));
}

static void refuse_protocol(struct sl_control *c, const char *text)
{
    sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_PROTOCOL, text);
}

/* A message must not unpack to much more than its size: unknown fields and packed enumerations cost many
 * bytes each. */
static void *bounded_alloc(void *left, size_t size)
{
    size_t *bytes = left;

    if (size > *bytes)
        return NULL;
    *bytes -= size;
    return malloc(size);
}

static void bounded_free(void *left, void *p)
{
    free(p);
}

static bool within_rate(struct sl_control *c)
{
    uint64_t cost = second_ns / c->config.messages_per_s, gained = c->now_ns - c->allowance_at_ns;

    c->allowance_ns = gained > second_ns - c->allowance_ns ? second_ns : c->allowance_ns + gained;
    c->allowance_at_ns = c->now_ns;
    if (c->allowance_ns < cost)
        return false;
    c->allowance_ns -= cost;
    return true;
}

static const char *chunk_error(const struct sl_control *c, const Sluice__AdapterChunk *chunk)
{
    const struct sl_control_assembly *a = &c->assembly;
    const struct sl_adapter_transfer *t = &a->transfer;
    bool last = chunk->offset + chunk->data.len == chunk->total_bytes;

    if (chunk->data.len == 0 || chunk->data.len > SL_CONTROL_CHUNK_MAX || chunk->data.len % sizeof(float))
        return "an adapter chunk of a size that is not allowed";
    if (chunk->first >= chunk->last || chunk->total_bytes % sizeof(float))
        return "an adapter chunk with an impossible shape";
    if (chunk->kind != SLUICE__ADAPTER_KIND__ADAPTER_WEIGHTS &&
        chunk->kind != SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS &&
        (chunk->kind != SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS || c->config.role != SL_CONTROL_EDGE))
        return "an adapter chunk of a kind that does not travel this way";
    if (chunk->kind == SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS && chunk->last - chunk->first != 1)
        return "moments of more than one block";
    if (chunk->offset > chunk->total_bytes || chunk->data.len > chunk->total_bytes - chunk->offset)
        return "an adapter chunk beyond the adapter's end";
    if (!last && chunk->data.len < SL_CONTROL_CHUNK_MIN)
        return "an adapter in too small chunks";
    if (chunk->offset != a->have)
        return "an adapter chunk out of order";
    if (a->data && (chunk->total_bytes != a->total || chunk->version != t->version ||
                       chunk->first != t->first || chunk->last != t->last || chunk->kind != t->kind ||
                       chunk->tokens != t->tokens || chunk->step != t->step))
        return "a chunk of another adapter in the middle of one";
    return NULL;
}

static void take_chunk(struct sl_control *c, const Sluice__AdapterChunk *chunk)
{
    struct sl_control_assembly *a = &c->assembly;
    const char *wrong = chunk_error(c, chunk);
    char text[120];

    if (wrong) {
        refuse_protocol(c, wrong);
        return;
    }
    if (chunk->total_bytes > c->config.adapter_bytes_max) {
        snprintf(text, sizeof(text), "an adapter of %llu bytes; at most %zu are taken",
            (unsigned long long)chunk->total_bytes, c->config.adapter_bytes_max);
        sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_LIMIT, text);
        return;
    }
    if (!a->data) {
        a->data = malloc(chunk->total_bytes); /* pages come with the bytes */
        if (!a->data) {
            sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_LIMIT, "out of memory for an adapter");
            return;
        }
        a->total = chunk->total_bytes;
        a->transfer = (struct sl_adapter_transfer){.kind = chunk->kind,
            .version = chunk->version,
            .tokens = chunk->tokens,
            .step = chunk->step,
            .first = chunk->first,
            .last = chunk->last,
            .data = (const float *)a->data,
            .n = chunk->total_bytes / sizeof(float)};
    }
    memcpy(a->data + a->have, chunk->data.data, chunk->data.len);
    a->have += chunk->data.len;
    if (a->have == a->total) {
        struct sl_control_assembly whole = *a;

        memset(a, 0, sizeof(*a)); /* the callback may close the connection */
        c->ops->adapter(c->app, c, &whole.transfer);
        free(whole.data);
    }
}

/* Whether the peer may send that in the present state. */
static bool may_come(const struct sl_control *c, Sluice__Envelope__BodyCase kind)
{
    bool from_device = c->config.role == SL_CONTROL_EDGE, open = c->state == SL_CONTROL_OPEN;

    switch (kind) {
    case SLUICE__ENVELOPE__BODY_ERROR:
    case SLUICE__ENVELOPE__BODY_BYE:
        return true;
    case SLUICE__ENVELOPE__BODY_HELLO:
        return from_device && c->state == SL_CONTROL_HELLO;
    case SLUICE__ENVELOPE__BODY_WELCOME:
        return !from_device && c->state == SL_CONTROL_WELCOME;
    case SLUICE__ENVELOPE__BODY_PLAN:
    case SLUICE__ENVELOPE__BODY_ADAPTER_KEPT:
    case SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK:
        return !from_device && open;
    case SLUICE__ENVELOPE__BODY_ADAPTER_PULL:
    case SLUICE__ENVELOPE__BODY_HEARTBEAT:
    case SLUICE__ENVELOPE__BODY_PHASE_DONE:
        return from_device && open;
    case SLUICE__ENVELOPE__BODY_ADAPTER_CHUNK:
        return open;
    default:
        return false;
    }
}

static const char *kind_name(Sluice__Envelope__BodyCase kind)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&sluice__envelope__descriptor, (unsigned)kind);

    return field ? field->name : "unknown message";
}

static void refuse_order(struct sl_control *c, Sluice__Envelope__BodyCase kind)
{
    static const char *const when[] = {"in the handshake", "before hello", "before welcome", "at this point"};
    char text[120];

    snprintf(text, sizeof(text), "%s is not allowed %s", kind_name(kind), when[c->state]);
    refuse_protocol(c, text);
}

static void dispatch(struct sl_control *c, const Sluice__Envelope *e)
{
    Sluice__Envelope__BodyCase kind = e->body_case;
    bool first_of_many = kind != SLUICE__ENVELOPE__BODY_ADAPTER_CHUNK || e->adapter_chunk->offset == 0;

    if (!may_come(c, kind)) {
        refuse_order(c, kind);
        return;
    }
    if (first_of_many && !within_rate(c)) {
        sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_LIMIT, "too many messages per second");
        return;
    }
    if (kind == SLUICE__ENVELOPE__BODY_HELLO)
        c->state = SL_CONTROL_WELCOME;
    else if (kind == SLUICE__ENVELOPE__BODY_WELCOME)
        c->state = SL_CONTROL_OPEN;
    if (c->state == SL_CONTROL_OPEN)
        c->deadline_ns = c->now_ns + c->config.idle_timeout_ns;
    else if (kind == SLUICE__ENVELOPE__BODY_HELLO)
        c->deadline_ns = c->now_ns + c->config.handshake_timeout_ns;

    if (kind == SLUICE__ENVELOPE__BODY_ADAPTER_CHUNK) {
        take_chunk(c, e->adapter_chunk);
        return;
    }
    c->ops->message(c->app, c, e);
    if (kind == SLUICE__ENVELOPE__BODY_ERROR)
        sl_control_closing(c, e->error->code, e->error->text, false);
    else if (kind == SLUICE__ENVELOPE__BODY_BYE)
        sl_control_closing(c, SLUICE__ERROR_CODE__ERROR_NONE, e->bye->text, false);
}

static void whole_frame(struct sl_control *c)
{
    size_t left = UNPACK_FACTOR * c->frame.need + UNPACK_SLACK;
    ProtobufCAllocator allocator = {.alloc = bounded_alloc, .free = bounded_free, .allocator_data = &left};
    Sluice__Envelope *e = sluice__envelope__unpack(&allocator, c->frame.need, c->frame.body);

    if (!e) {
        refuse_protocol(c, "a malformed message");
        return;
    }
    dispatch(c, e);
    sluice__envelope__free_unpacked(e, &allocator);
}

static bool grow_body(struct sl_control_frame *f)
{
    size_t cap = f->cap ? 2 * f->cap : BODY_FIRST_CAP;
    uint8_t *body;

    if (f->have < f->cap)
        return true;
    body = realloc(f->body, cap);
    if (!body)
        return false;
    f->body = body;
    f->cap = cap;
    return true;
}

/* Takes some of the input, up to a frame's end; returns how much. */
static size_t take(struct sl_control *c, const uint8_t *in, size_t len)
{
    struct sl_control_frame *f = &c->frame;
    size_t n;

    if (f->head_have < sizeof(f->head)) {
        f->head[f->head_have++] = in[0];
        if (f->head_have < sizeof(f->head))
            return 1;
        f->need = (size_t)f->head[0] << 24 | (size_t)f->head[1] << 16 | (size_t)f->head[2] << 8 | f->head[3];
        if (f->need > SL_CONTROL_MESSAGE_MAX)
            refuse_protocol(c, "a message of more than 524288 bytes");
        else if (!f->need)
            refuse_protocol(c, "an empty message");
        return 1;
    }
    if (!grow_body(f)) {
        sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_LIMIT, "out of memory for a message");
        return len;
    }
    n = f->need - f->have;
    n = n < len ? n : len;
    n = n < f->cap - f->have ? n : f->cap - f->have;
    memcpy(f->body + f->have, in, n);
    f->have += n;
    if (f->have < f->need)
        return n;
    whole_frame(c);
    f->head_have = f->have = f->need = 0;
    if (f->cap > BODY_KEEP_CAP && !c->assembly.data) {
        free(f->body);
        f->body = NULL;
        f->cap = 0;
    }
    return n;
}

void sl_control_input(struct sl_control *c, const uint8_t *in, size_t len)
{
    while (len && c->state < SL_CONTROL_CLOSING) {
        size_t n = take(c, in, len);

        in += n;
        len -= n;
    }
}
