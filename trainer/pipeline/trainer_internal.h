/* The inside of the trainer, for the files trainer*.c, gradient_round.c and cut.c only. */
#pragma once

#include "dataplane/ingest/share.h"
#include "trainer/pipeline/aggregate.h"
#include "trainer/pipeline/batch.h"
#include "trainer/pipeline/mailbox.h"
#include "trainer/pipeline/merge.h"
#include "trainer/pipeline/trainer.h"
#include "trainer/pipeline/trainer_personal.h"

enum { POP_BURST = 64 }; /* messages of one lcore in a turn */

/* A push that waits for the next aggregation. */
struct pending_push {
    float *weights; /* NULL: none */
    uint64_t version, tokens;
    uint32_t last; /* blocks [0, last) */
};

struct device {
    bool live;
    bool awaited;  /* its push is wanted for the aggregation that goes on */
    bool in_round; /* and has come */
    bool parked;   /* pushed although nobody asked: trains again once there is a new G */
    char id[SL_CHECKPOINT_ID_BYTES];
    uint32_t lcore, session, class, cut;
    uint32_t next_cut;     /* from the next G that it is given; 0: it stays */
    uint32_t rank;         /* 0: G's own */
    uint64_t version;      /* of G that it was last sent, as far as is known here */
    uint64_t applied;      /* newest step applied here (rules T12) */
    uint64_t held_ns;      /* what sl_trainer_held_ns says */
    uint64_t tokens_since; /* predicted tokens of its gradients since that version: bounds what its push may
                              claim */
    struct sl_slot *slot;  /* of its waiting message; NULL: none */
    uint64_t served, tag; /* its service so far, and the tag of the waiting message (share.h), in the units of
                             sl_trainer_cost */
    double share;         /* of the edge's work, by a plan; 0: none */
    uint64_t message_ns, usable_ns; /* personal: when the waiting message came, and its adapter was there */
    bool adapter_awaited;           /* personal: the message waits for it */
    uint32_t steps_since;           /* asynchronous: gradients since that version */
    struct pending_push push;
};

struct sl_trainer {
    struct sl_trainer_config config;
    enum sl_trainer_phase phase;
    const struct sl_model_config *model;
    uint32_t n_layers;
    size_t block; /* trainable floats of one */

    struct sl_adapter *edge;    /* the edge's copy, blocks [min_cut, L) */
    struct sl_adapter *whole;   /* shapes and the frozen A of all blocks, for the stability term of G; NULL without one */
    struct sl_moments *moments; /* [L], those below `owned` unused */
    uint32_t owned;             /* blocks [owned, L) have their moments here: rules L4 */
    float *grad_sum;        /* [L - min_cut, block]: the edge's gradients since the last optimiser step, */
    uint64_t *grad_tokens;  /* [L]: and the tokens that they sum over */
    float *grad;            /* [block]: scratch */
    uint64_t boundary_step; /* global step of the present version */
    uint32_t *giver;        /* [L]: 1 + the device whose moments of that layer are on their way here */
    uint32_t n_givers;
    bool *edge_trained;  /* [L]: scratch */
    bool exchanging;     /* no gang before the moments are there */
    uint64_t *tokens_at; /* [L]: the edge's own since the last aggregation */
    struct sl_gang *gang;
    struct sl_batch *batch, *eval;

    uint64_t version, global_step, tokens;
    uint64_t train_ns, train_from_ns; /* spent training before train_from_ns; 0: not training */
    float **history;                  /* [n_history] of [L, block] each; version v at v % n_history */
    uint64_t *tokens_then;            /* [n_history]: trained on when that version came */
    uint32_t n_history;
    uint64_t oldest;            /* version in it */
    double *sum;                /* [block] */
    float *next, *edge_weights; /* [L, block] */
    struct sl_copy *copies;     /* [max_devices + 1] */
    bool *changed;              /* [L]: blocks that svd re-factored */
    double mean_error;          /* of the last aggregation */
    struct sl_server *server;   /* NULL: none */
    uint64_t *of;               /* [max_devices + 1]: what sl_merge asks for each copy */

    uint32_t gangs_since; /* the last aggregation */
    uint32_t skips;       /* gangs in a row without a finite gradient */
    bool aggregating, finishing, finished;
    bool boundary;          /* of the gang that is being computed */
    uint32_t n_left;        /* its members whose gradient has left, */
    uint64_t gang_ns;       /* when it began */
    uint64_t left_ns;       /* the sum of when they left */
    uint64_t rows_left;     /* and their tokens */
    uint32_t n_pushes;      /* asynchronous: that wait to be merged */
    uint64_t checkpoint_ns; /* when the last checkpoint was made */
    struct sl_share share;
    uint32_t n_shares; /* devices that a plan gives one */
    struct sl_load *load, own_load;
    uint64_t
        ready_since_ns; /* when the oldest message that came in this turn was READY; UINT64_MAX: none did */
    uint64_t stall_reported_ns;
    uint32_t n_awaited, n_parked, left_out; /* left_out: of the last aggregation, waited for in vain */
    uint64_t push_deadline_ns, finish_deadline_ns;

    struct device *devices;      /* [max_devices] */
    uint32_t *order;             /* [max_devices]: scratch */
    struct sl_slot **eval_queue; /* [n_slots] */
    uint32_t n_eval, n_slots;    /* slots: of all lcores */
    uint32_t n_resumed;
    struct sl_checkpoint_device
        *resumed; /* devices of the checkpoint that have not joined again yet are in here */

    struct sl_personal personal;
    struct sl_mailbox *commands, *events;
};

static inline void sl_trainer_set_applied(struct device *d, uint64_t step)
{
    __atomic_store_n(&d->applied, step, __ATOMIC_RELAXED); /* sl_trainer_applied reads it */
}

static inline void sl_trainer_add_held(struct device *d, uint64_t ns)
{
    __atomic_store_n(&d->held_ns, d->held_ns + ns, __ATOMIC_RELAXED); /* sl_trainer_held_ns reads it */
}

/* trainer_step.c */
void sl_trainer_return(struct sl_trainer *, struct sl_slot *, uint8_t status, uint8_t flags);
void sl_trainer_leave(void *trainer, const struct sl_batch_member *, bool finite);
void sl_trainer_run_gang(struct sl_trainer *, uint64_t now_ns);
bool sl_trainer_run_eval(struct sl_trainer *); /* false: nothing that could be computed now */

/* trainer_share.c: a plan's share, and what a message of so many rows costs its device. */
void sl_trainer_set_share(struct sl_trainer *, uint32_t device, double share);
uint64_t sl_trainer_cost(const struct sl_trainer *, const struct device *, uint32_t rows);

/* trainer_checkpoint.c */
uint8_t *sl_trainer_checkpoint(struct sl_trainer *, size_t *len); /* NULL: no memory */
int sl_trainer_restore(struct sl_trainer *, const struct sl_checkpoint *, char *err, size_t err_cap);

/* cut.c */
void sl_trainer_join_cut(struct sl_trainer *, struct device *, const struct sl_command *, bool known);
void sl_trainer_command_cut(struct sl_trainer *, const struct sl_command *);
void sl_trainer_plan_cuts(struct sl_trainer *); /* at a boundary: what the schedule says */
/* Those devices are about to be sent G. */
void sl_trainer_change_cuts(struct sl_trainer *, const uint32_t *devices, uint32_t n);
void sl_trainer_change_absent(struct sl_trainer *);
void sl_trainer_refuse_old_cut(struct sl_trainer *, struct sl_slot *);
void sl_trainer_take_moments(struct sl_trainer *, const struct sl_command *);
void sl_trainer_no_more_moments(struct sl_trainer *, const struct device *); /* NULL: of nobody */
bool sl_trainer_moments_missing(struct sl_trainer *, uint64_t now_ns);

/* gradient_round.c */
uint32_t sl_trainer_owned(const struct sl_trainer_config *);
int sl_trainer_create_sums(struct sl_trainer *);
void sl_trainer_free_sums(struct sl_trainer *);
bool sl_trainer_ends_round(const struct sl_trainer *); /* the gang that makes the present global step */
/* From the batch's gradients, where they are finite, and those before it. */
void sl_trainer_learn(struct sl_trainer *, bool finite);
/* One optimiser step on t->next, which holds G; returns how many gradients of a block could meet. */
uint32_t sl_trainer_step_master(struct sl_trainer *);
enum sl_push_kind sl_trainer_push_kind(const struct sl_trainer *);
const char *sl_trainer_check_gradients(const struct sl_trainer *, const struct sl_command *push);

/* trainer_round.c */
/* While pushes are awaited, devices that have none to make may form a gang, where there are more devices than
 * slots: for them and for the edge's copy it is as if that gang had come a moment before the boundary. */
bool sl_trainer_may_overlap(const struct sl_trainer *);
void sl_trainer_begin_aggregation(struct sl_trainer *, uint64_t now_ns);
void sl_trainer_unpark(struct sl_trainer *, struct device *);
void sl_trainer_take_push(struct sl_trainer *, const struct sl_command *);
void sl_trainer_no_longer_awaited(struct sl_trainer *, struct device *);
bool sl_trainer_maybe_aggregate(struct sl_trainer *, uint64_t now_ns);
/* The VERSION event of the present G, to the devices in order[0 .. n). */
void sl_trainer_announce(struct sl_trainer *, uint32_t n, uint32_t copies, double factor_error, uint64_t ns);
void sl_trainer_finish(struct sl_trainer *, uint64_t now_ns);
void sl_trainer_end_training(struct sl_trainer *, uint64_t now_ns);
uint32_t sl_trainer_close_round(
    struct sl_trainer *); /* who gets the new version is in order[0 .. returned) */
void sl_trainer_tell(struct sl_trainer *, enum sl_event_kind, uint32_t device, bool stale, const char *why);
/* NULL, or why these blocks are not taken (rules T15). */
/* rank: of the factors; 0: G's. NULL: nothing is wrong with them. */
const char *sl_trainer_check_weights(
    const struct sl_trainer *, const float *weights, uint32_t n_blocks, uint32_t rank);
void sl_trainer_aggregate(struct sl_trainer *); /* what has been pushed so far */
static inline float *sl_trainer_g(struct sl_trainer *t, uint64_t version)
{
    return t->history[version % t->n_history];
}
void sl_trainer_install_g(struct sl_trainer *); /* edge's copy := G */

/* trainer_refactor.c */
size_t sl_trainer_push_size(const struct sl_trainer *, const struct device *); /* floats of its blocks */
/* The copies that collect() found, into `next`; *error: what was lost. -EDOM, -ENOMEM. */
int sl_trainer_refactor(struct sl_trainer *, uint32_t n_copies, double *error);
/* What the server's optimiser, where there is one, makes of `next`. */
void sl_trainer_step_server(struct sl_trainer *, uint32_t n_copies);
void sl_trainer_reset_changed(struct sl_trainer *); /* the edge's moments of blocks that it re-factored */

/* trainer_async.c */
/* Whether the device is too far behind for its message to be of use; then the message goes back (rules L8).
 */
bool sl_trainer_refuse_stale(struct sl_trainer *, struct device *, struct sl_slot *);
/* Whether the device is to push after the step that is being answered. */
bool sl_trainer_push_due(const struct sl_trainer *, const struct device *);
/* The run ends: whoever has trained since its version pushes, and that is merged once more. */
void sl_trainer_end_async(struct sl_trainer *, uint64_t now_ns);
/* The copies that collect() found, into `next`. */
void sl_trainer_merge(struct sl_trainer *, uint32_t n_copies);
bool sl_trainer_checkpoint_due(struct sl_trainer *, uint64_t now_ns);
