/* Where bytes go and come from on the device side: the sink of the endpoint that serves all phones of one
 * simulator thread. Per phone it holds one message on its way up and the gradient of the same step on its way
 * down: a phone does one step at a time, and asking for a step commits it to hold room for the gradient
 * (rules T2).
 *
 * A grid is fixed by the grant, so a unit belongs to exactly one fragment and the bitmaps count fragments.
 * Semantics as in rules T2-T4: an open writes straight to the gradient's place; a fragment claimed earlier in
 * the same burst waits for the serial pass; what has been received, or belongs to a step that is over, is
 * opened into scratch and acknowledged.
 *
 * Runs on the data lcore only. The two buffers of a phone belong to the lcore from sl_store_request to the
 * outcome's event, and to the caller otherwise (the message's until sl_store_send). A session's handle is its
 * phone's number. */
#pragma once

#include "dataplane/transport/endpoint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_store_event {
    enum sl_store_kind {
        SL_STORE_GRANTED, /* a slot is reserved: the message may go */
        SL_STORE_RESULT,  /* the step is over; its gradient, where there is one, is complete */
        SL_STORE_LOST,    /* the step never made it: STEP_LOST */
    } kind;
    struct sl_result result; /* SL_STORE_RESULT */
    uint8_t reason;          /* SL_STORE_LOST: enum sl_lost_reason */
    uint64_t step;
};

struct sl_store_stats {
    uint64_t requests, granted, sent, results, lost, dropped;
    uint64_t fragments_placed, fragments_scratch, fragments_released; /* released: claimed, tag wrong */
    uint64_t fragments_compressed, bytes_saved;                       /* codec int8+lz4, repeats included */
};

struct sl_store_config {
    uint32_t n_phones;
    size_t message_bytes, gradient_bytes; /* of each phone's buffers; rounded up to units */
    /* Replay: phones have no buffers. The message of a step is what this returns, n_units units that stay
     * where they are (NULL: the step is refused for its shape); gradients are opened, checked and counted
     * like any other, all into the same place, and nobody reads them. NULL: each phone has its own two
     * buffers for messages, and one for a gradient. */
    const uint8_t *(*message)(void *app, uint32_t phone, const struct sl_request *, const struct sl_grid *);
    bool compress; /* codec int8+lz4: fragments of the tensor leave as LZ4 blocks where that makes them
                      smaller */
    void (*event)(void *app, uint32_t phone, const struct sl_store_event *);
    void *app;
};

struct sl_store;
int sl_store_create(const struct sl_store_config *, struct sl_store **); /* -EINVAL, -ENOMEM */
void sl_store_free(struct sl_store *);
void sl_store_bind(struct sl_store *, struct sl_endpoint *); /* before the first packet */
extern const struct sl_sink_ops sl_store_sink;               /* its `sink` argument is the struct sl_store */

/* Any thread; see ownership above. A phone has two message buffers, one after another, of
 * sl_store_message_bytes each: a step's is the one at step % 2, so that a step may be prepared while the one
 * before it, given up, is still being sent. */
uint8_t *sl_store_message(struct sl_store *, uint32_t phone, uint64_t step);
uint8_t *sl_store_gradient(struct sl_store *, uint32_t phone);
size_t sl_store_message_bytes(const struct sl_store *);

void sl_store_session_opened(struct sl_store *, uint32_t phone);
void sl_store_session_closed(struct sl_store *, uint32_t phone);

/* Asks for room for a step. `grid` is that of the message; the gradient has its tensor units in fragments of
 * the same size. -EINVAL: does not fit the buffers; -EBUSY: the last one is not over; or the endpoint's
 * error. */
int sl_store_request(
    struct sl_store *, uint32_t phone, const struct sl_request *, const struct sl_grid *, uint64_t now_ns);
/* Sends the message under the grant that came. -EINVAL: there is none. */
int sl_store_send(struct sl_store *, uint32_t phone, uint64_t now_ns);
/* Gives up the step under way; no event follows. */
void sl_store_drop(struct sl_store *, uint32_t phone);
void sl_store_stats(const struct sl_store *, struct sl_store_stats *);
