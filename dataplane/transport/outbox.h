/* A session's frames that are repeated until acknowledged: REQUEST, GRANT, RESULT, STEP_LOST. */
#pragma once

#include "dataplane/wire/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SL_OUTBOX_SLOTS = 32,                   /* a bit of a word each */
    SL_OUTBOX_BYTES = 16 + 2 * SL_SEQS_MAX, /* the longest: a REQUEST */
};

/* A session holds one only while it has frames outstanding. */
struct sl_outbox {
    uint32_t used, due; /* bits; due: to be put into the next packet */
    uint32_t oldest;    /* where the next search for a free slot starts: sending goes round in the order of
                           queueing */
    struct {
        uint64_t first_pn, last_pn; /* packets that carried it: first_pn UINT64_MAX before the first */
        uint8_t len;
        uint8_t bytes[SL_OUTBOX_BYTES];
    } slot[SL_OUTBOX_SLOTS];
};

void sl_outbox_init(struct sl_outbox *);
/* 0; -ENOBUFS: all slots wait for acknowledgement; -EINVAL: not a frame of these kinds, or not a valid one.
 */
int sl_outbox_add(struct sl_outbox *, const struct sl_frame *);
/* Copies due frames to `out` for packet `pn`; returns the bytes and, in *slots, which. */
size_t sl_outbox_take(struct sl_outbox *, uint64_t pn, uint8_t *out, size_t cap, uint32_t *slots);
/* What became of packet `pn`, which carried `slots`. Slots given to another frame since are left alone. */
void sl_outbox_acked(struct sl_outbox *, uint64_t pn, uint32_t slots);
void sl_outbox_lost(struct sl_outbox *, uint64_t pn, uint32_t slots);
/* For a probe: makes those still unacknowledged due again. Returns whether there is any. */
bool sl_outbox_repeat(struct sl_outbox *, uint64_t pn, uint32_t slots);
