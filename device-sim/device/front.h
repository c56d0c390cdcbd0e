/* A phone's half of the model: blocks [0, cut) with the embedding, its adapter, the optimiser's moments, and
 * snapshots of the last two aggregation boundaries (rules T12).
 *
 * Every phone has halves of its own, because activations must live from a message's forward pass until its
 * gradient comes back; the frozen weights are one model that all phones read. Recomputing the forward pass
 * instead would need one arena for all phones and twice the host's time.
 *
 * One owner at a time: the compute thread during a job, the phone's state machine otherwise. */
#pragma once

#include "dataplane/wire/grid.h"
#include "trainer/model/half.h"
#include "trainer/model/optim.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_FRONT_SNAPSHOTS = 2 };

/* A phone that only replays messages has a hollow front half: no activations, moments or gradients, nothing
 * is computed. The adapter of all such phones is one: the last G that any of them was sent, which is also
 * what they push, for they do not learn. The owner's memory, for all blocks that a cut can bring; one thread
 * uses it. */
struct sl_front_common {
    float *g;
    size_t floats;
};

struct sl_front_config {
    struct sl_model *model;
    struct sl_lora_config lora;
    struct sl_optim_config optim;
    uint32_t cut;
    uint32_t seq;                         /* tokens of a window: seq - 1 rows */
    uint32_t train_windows, eval_windows; /* at most, in one message */
    bool gradients;                 /* the edge steps: sums are pushed, no moments are kept (rules L4) */
    uint32_t accumulate;            /* gangs whose gradients make one step; 0: one */
    struct sl_front_common *common; /* hollow; it outlives the front half. NULL: a real one */
};

/* What a step trains on: windows of seq tokens each; the ids outlive the step. */
struct sl_front_batch {
    uint32_t n;
    const uint32_t *window[64]; /* SL_SEQS_MAX */
    bool eval;
};

/* For tests of what a broken phone does to the others. */
enum sl_fault { SL_FAULT_NONE, SL_FAULT_NAN, SL_FAULT_ABSURD };

/* Counters that go with an adapter version. */
struct sl_front_mark {
    uint64_t version, step, cursor;
};

struct sl_front;
/* -EINVAL: cut outside [1, L-1], or targets the model does not have; -ENOMEM. */
int sl_front_create(const struct sl_front_config *, struct sl_front **);
void sl_front_free(struct sl_front *);
/* Bytes that such a half takes of a phone that holds nothing else of the model: frozen weights, adapter with
 * gradient, moments and snapshots, activations. (Here the frozen weights are shared by all phones.) */
size_t sl_front_memory(const struct sl_front_config *);
size_t sl_front_workspace_floats(
    const struct sl_front *); /* for the calls below; one per compute thread will do */

/* Forward: writes the tensor in the codec, and the target ids, to `message` as the grid says (padding
 * zeroed). */
int sl_front_forward(struct sl_front *, const struct sl_front_batch *, enum sl_codec, const struct sl_grid *,
    enum sl_fault, float *workspace, uint8_t *message);
/* What came with a gradient. */
struct sl_front_step {
    uint64_t global_step; /* of its gang: the learning rate follows it (rules L2) */
    bool boundary;        /* what is accumulated makes a step now */
};

/* Backward of the last forward, from the gradient's units. Gradients are of the sum of the token losses. They
 * are added up over `accumulate` gangs; then the optimiser steps with them, divided by the phone's own
 * predicted tokens (rules L2), unless the edge does that. -EDOM: the gradient is not finite; nothing was
 * changed. */
int sl_front_backward(struct sl_front *, enum sl_codec, const uint8_t *gradient, const struct sl_front_step *,
    float *workspace);
/* The gradient sums of [0, cut) since they were forgotten last, one after another. */
void sl_front_get_gradients(const struct sl_front *, float *out);
void sl_front_forget_gradients(struct sl_front *);
bool sl_front_pushes_gradients(const struct sl_front *);

/* The trainable vectors of [0, cut), one after another. */
size_t sl_front_floats(const struct sl_front *);
void sl_front_get(struct sl_front *, float *out);
void sl_front_set(struct sl_front *, const float *in);
/* As sl_front_set; a block that changes by it begins with fresh moments (rules L5, svd). */
void sl_front_set_fresh(struct sl_front *, const float *in);
void sl_front_fresh_moments(struct sl_front *);

/* Another cut (rules L9), with no step under way. What both cuts have stays, further blocks are as the seed
 * makes them, with the moments that were offered for them or fresh ones; gradients are forgotten. Snapshots
 * stay those of their own cut. After -EINVAL or -ENOMEM all is as before. */
int sl_front_recut(struct sl_front *, uint32_t cut);
size_t sl_front_block_floats(const struct sl_front *);
/* Moments of a block, m_v [2, block]: for the next change of cut; and those that it has now (false: none). */
int sl_front_offer_moments(struct sl_front *, uint32_t block, uint64_t t, const float *m_v, size_t n);
bool sl_front_moments(const struct sl_front *, uint32_t block, uint64_t *t, float *m_v);

/* Keeps adapter and moments as they are now; the oldest of two snapshots goes. */
void sl_front_snapshot(struct sl_front *, const struct sl_front_mark *);
/* Back to the snapshot of that version; false: there is none with the present cut. */
bool sl_front_restore(struct sl_front *, uint64_t version, struct sl_front_mark *);
bool sl_front_restore_last(struct sl_front *, struct sl_front_mark *); /* to the newest */
