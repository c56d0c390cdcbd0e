/* The inside of a front half, for the files front*.c only. */
#pragma once

#include "dataplane/wire/frame.h"
#include "device-sim/device/front.h"

struct snapshot {
    bool used;
    uint32_t cut; /* what it has room for */
    struct sl_front_mark mark;
    float *adapter;
    float *m, *v; /* of all blocks, one after another; NULL for SGD */
    uint64_t *t;  /* [cut] */
};

struct sl_front {
    struct sl_front_config cfg;
    struct sl_adapter *adapter;
    struct sl_half *train, *eval;
    struct sl_moments *moments; /* [cut] */
    size_t block_floats;
    uint32_t d_model;
    uint32_t n_seqs; /* of the last forward: seq */
    float *sum;      /* [cut, block]: gradients since the last optimiser step, or of this version's push */
    uint64_t sum_tokens; /* that they sum over */
    uint64_t sum_round;  /* of the first gang in it: (global step - 1) / accumulate */
    float *anchor;       /* [cut, block]: G as it was installed last; NULL without a proximal term */
    struct snapshot snapshot[SL_FRONT_SNAPSHOTS];
    struct { /* [n_layers]: moments of blocks that a larger cut will bring */
        uint64_t t;
        float *m_v; /* NULL: none */
    } * offered;
    struct sl_seq seq[]; /* [SL_SEQS_MAX]; hollow: none */
};

/* front_learn.c */
int sl_front_create_sums(struct sl_front *);
/* From the adapter's gradients, which are finite: into the sums, and perhaps an optimiser step. */
void sl_front_learn(struct sl_front *, uint32_t rows, const struct sl_front_step *);

/* front_snapshot.c */
void sl_front_free_snapshots(struct sl_front *);
/* front_recut.c */
void sl_front_drop_offers(struct sl_front *);
