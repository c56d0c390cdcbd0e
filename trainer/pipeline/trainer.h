/* The trainer thread's object: the back half with the edge's copy of the adapter, the global adapter G,
 * gangs, aggregation.
 *
 *   data lcore i --ready[i]--> [gang, batch, loss, backward, step] --returned[i]--> data lcore i
 *   control      --commands-->                                     --events------>  control
 *
 * All rings are SPSC: 32-bit slot handles with each data lcore, indices of table entries with control.
 * sl_trainer_turn runs on the trainer thread; commands and events are for one control thread. No lock on any
 * of the paths. Losses do not depend on how devices are spread over lcores: a gang's rows are in device
 * order. */
#pragma once

#include "dataplane/ingest/slot.h"
#include "dataplane/ring/ring.h"
#include "dataplane/wire/packet.h"
#include "trainer/model/half.h"
#include "trainer/model/optim.h"
#include "trainer/pipeline/adapter_store.h"
#include "trainer/pipeline/checkpoint.h"
#include "trainer/pipeline/gang.h"
#include "trainer/pipeline/load.h"
#include "trainer/pipeline/server_optim.h"

enum {
    SL_TRAINER_HISTORY = 4,    /* versions of G kept for pushes that started from them: synchronous gangs */
    SL_TRAINER_SKIPS_MAX = 10, /* steps in a row without a finite gradient: the training has diverged */
};
#define SL_PUSH_RMS_MAX 1e3                        /* rules T15: of each factor of a pushed adapter */
#define SL_PUSH_TIMEOUT_NS UINT64_C(30000000000)   /* default wait for a live device's push at a boundary */
#define SL_FINISH_TIMEOUT_NS UINT64_C(60000000000) /* for the last gang of a run */

/* One data lcore's part: slots go back by the ring beside the one that they came by. */
struct sl_trainer_lcore {
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_ring_spsc
        *granted; /* devices that were given a slot: their adapters will be wanted; may be NULL */
};

/* Rules L4: every copy steps by itself and G is their mean; or G steps by the sum of all gradients. */
enum sl_aggregation { SL_AGGREGATE_WEIGHTS, SL_AGGREGATE_GRADIENTS };

/* Rules L9: at the first aggregation boundary at or after global step `step`. */
struct sl_cut_change {
    uint64_t step;
    const uint32_t *cut; /* by class of device; in [min_cut, L) */
};

struct sl_trainer_config {
    struct sl_model *model;
    struct sl_lora_config lora;
    struct sl_optim_config optim;
    enum sl_codec codec;
    bool recompute;                     /* see struct sl_half_config */
    const struct sl_modelled *modelled; /* modelled.h; NULL: real. It outlives the trainer */
    const struct sl_modelled *pace; /* a real gang takes no less time than that; NULL: its own. Likewise */
    struct sl_trainer_lcore lcore[SL_LCORES_MAX];
    uint32_t n_lcores;
    struct sl_ring_spsc *latency; /* out, may be NULL: first packet of a message to READY, in units of 100 ns;
                                     drops when full */
    struct sl_gang_config gang;   /* its lcore_slots are set from `lcore` */
    enum sl_aggregation aggregation;
    uint32_t aggregate_every; /* gangs; asynchronous: steps of a device; where gradients are aggregated:
                                 versions of G between two checkpoints */
    uint32_t accumulate;      /* gangs whose gradients make one optimiser step; 0: one */
    uint32_t staleness; /* asynchronous: versions of G that a message or push may be behind (rules L8); 1.. */
    uint64_t steps;     /* global steps after which training finishes; 0: until told */
    bool svd;           /* aggregation re-factors the mean product (refactor.h); not asynchronous */
    struct sl_server_config server;      /* weights, neither svd nor asynchronous */
    bool mixed_ranks;                    /* svd: some devices have a lower rank than `lora` */
    uint32_t min_cut;                    /* the edge computes [min_cut, L) */
    const struct sl_cut_change *changes; /* in the order of their steps; they outlive the trainer */
    uint32_t n_changes;
    uint32_t max_rows;        /* of a gang */
    uint32_t max_members;     /* asynchronous: messages that a gang takes at most; 0: all that are READY */
    uint32_t eval_rows;       /* of an evaluation batch */
    uint64_t push_timeout_ns; /* 0: the default */
    struct {                  /* personal adapters; resident 0: one shared adapter */
        uint32_t resident, max_cut;
        /* Number of a device that the checkpoint names; UINT32_MAX: no place for it. Creation only. */
        uint32_t (*index)(void *app, const char *id);
    } personal;
    uint8_t model_hash[32];
    uint64_t run, incarnation;
    const struct sl_checkpoint *resume; /* read during creation only; NULL: begin anew */
    uint64_t (*now_ns)(void);
    struct sl_load
        *load; /* how the trainer's time goes, for any thread to read; outlives the trainer; may be NULL */
    void *app; /* of the next two, which may be NULL; they are called on the trainer's thread */
    uint64_t (*waiting)(void *app);          /* requests that wait because no slot is free */
    void (*wake)(void *app, uint32_t lcore); /* something is on its return ring while the trainer works on */
};

enum sl_trainer_phase { SL_TRAINER_WAIT, SL_TRAINER_EVAL, SL_TRAINER_TRAIN };

enum sl_push_kind { SL_PUSH_WEIGHTS, SL_PUSH_GRADIENTS, SL_PUSH_MOMENTS };

enum sl_command_kind {
    SL_COMMAND_JOIN,         /* device, lcore, session, class, cut, rank, id: before its Welcome is sent */
    SL_COMMAND_LEAVE,        /* device */
    SL_COMMAND_PHASE,        /* phase */
    SL_COMMAND_FINISH,       /* train on to the next boundary, aggregate, then FINISHED */
    SL_COMMAND_SENT,         /* device, version: it was sent that G on its own request */
    SL_COMMAND_PULL,         /* device, what: personal: a FETCH of its last boundary, for `what` */
    SL_COMMAND_CHECKPOINTED, /* on_disk: personal: the last checkpoint is written, or cannot be */
    SL_COMMAND_PUSH,         /* device, push: `weights` is malloc'ed and passes to the trainer */
    SL_COMMAND_SHARE, /* device, share: of the trainer's work where gangs choose; 0: as without one. JOIN
                         keeps it */
    SL_COMMAND_CUT,   /* device, cut: from the next aggregation boundary on; ignored outside [min_cut, L) */
};
struct sl_command {
    enum sl_command_kind kind;
    uint32_t device, lcore, session, class, cut, rank; /* rank: 0 is the trainer's own */
    char id[SL_CHECKPOINT_ID_BYTES];
    enum sl_trainer_phase phase;
    uint64_t version;
    bool anew;      /* JOIN: it holds nothing of this run; */
    uint64_t holds; /* else this version of its adapter (personal) */
    uint32_t what;
    bool on_disk;
    double share;
    struct {
        enum sl_push_kind kind;
        uint64_t version, tokens, step;
        uint32_t first, last;
        size_t n;
        float *weights;
    } push;
};

/* Personal adapters: what became of them so far. */
struct sl_personal_stats {
    struct sl_adapter_store_stats store;
    uint64_t gangs, gangs_waited, waited_ns; /* those that waited for an adapter alone, and how long */
};

enum sl_event_kind {
    SL_EVENT_STEP,         /* a gang is computed */
    SL_EVENT_EVAL,         /* an evaluation message is */
    SL_EVENT_VERSION,      /* G changed, or (at creation) is first known */
    SL_EVENT_INSTALL,      /* send the present G to `device`: its push came between two aggregations */
    SL_EVENT_STALE,        /* a message of `device` was refused for its age (rules L8): the device pulls */
    SL_EVENT_KEPT,         /* personal: what `device` pushed is its new version */
    SL_EVENT_CHECKPOINT,   /* personal: an image to be written once the records are on disk */
    SL_EVENT_CUT,          /* the cut of `device` changes with the G that it is sent next */
    SL_EVENT_OLD_CUT,      /* a message of `device` was taken at a cut that it no longer has: skipped */
    SL_EVENT_REFUSED,      /* a message of `device` was refused for its content (rules T15) */
    SL_EVENT_PUSH_REFUSED, /* its push; `stale`: send it the present G, otherwise it is broken */
    SL_EVENT_SKIPPED,      /* a gang's gradient was not finite */
    SL_EVENT_DIVERGED,     /* too many of those in a row, or an adapter that is not finite */
    SL_EVENT_FINISHED,     /* training is over and G is at a boundary */
};
/* Optimiser moments of a block on their way to a device; m_v [2, block]: m, then v; NULL: fresh ones. */
struct sl_given_moments {
    uint64_t t;
    float *m_v;
};
void sl_given_moments_free(struct sl_given_moments *, uint32_t n);

struct sl_event {
    enum sl_event_kind kind;
    uint32_t device;
    const char *why; /* static text */
    union {
        struct {
            uint64_t global_step, tokens, version;
            double nll; /* summed over sequences in batch order; the loss is nll / tokens */
            uint32_t devices;
            bool boundary;
            uint64_t wait_ns, compute_ns; /* since the gang opened; forward to the end of the backward pass */
            uint64_t early_ns; /* by which gradients left before the gang and the optimiser's step were done:
                                  the mean of its members */
            uint64_t stall_ns; /* stalled since the step before (load.h) */
        } step;
        struct {
            uint64_t step;
            uint32_t n;
            double nll[SL_SEQS_MAX]; /* by window, in the message's order */
            uint16_t tokens[SL_SEQS_MAX];
        } eval;
        struct {
            uint64_t version, global_step;
            uint32_t copies;     /* that went into it, the edge's own included */
            uint32_t left_out;   /* devices whose push was waited for in vain */
            double factor_error; /* rules L5 */
            double mean_error;   /* svd: what averaging the factors would have lost; 0: not known */
            double proximal;     /* the stability term of this version; 0: none, or personal adapters */
            uint64_t ns;
            float *g;          /* [n_layers, block]; malloc'ed, passes to the receiver */
            uint32_t *devices; /* to whom it is to be sent; malloc'ed, passes to the receiver */
            uint32_t n_devices;
            uint64_t *steps;     /* [max_devices] newest step in it, 0: none; malloc'ed, passes likewise */
            uint8_t *checkpoint; /* an image without its digest (sl_image_sign); malloc'ed, passes likewise */
            size_t checkpoint_bytes;
            uint64_t checkpoint_ns; /* that the trainer thread spent on it */
        } version;
        struct {
            uint64_t version;
            bool tell_device;
        } kept;
        struct {
            uint8_t *image; /* as version.checkpoint; NULL: no memory */
            size_t bytes;
            struct sl_personal_stats stats;
        } checkpoint;
        struct {
            bool live; /* else: it is away, and is told when it joins */
            uint32_t lcore, session;
            uint32_t from, to;
            uint64_t version, step;
            bool give_moments;                /* those of blocks [to, from) are wanted of it */
            struct sl_given_moments *moments; /* of blocks [from, to), or NULL; passes to the receiver */
        } cut;
        bool stale;
    };
};

struct sl_trainer;
/* The first event is VERSION with the G that training begins with. err: one line. */
int sl_trainer_create(const struct sl_trainer_config *, struct sl_trainer **, char *err, size_t err_cap);
void sl_trainer_free(struct sl_trainer *); /* when no thread uses it any more */

/* Trainer thread: does what there is to do; false: nothing, sleep a little. */
bool sl_trainer_turn(struct sl_trainer *);

/* Control thread. command: NULL when the table is full (retry on the next turn); event: NULL when there is
 * none. */
struct sl_command *sl_trainer_command(struct sl_trainer *);
void sl_trainer_post(struct sl_trainer *, struct sl_command *);
struct sl_event *sl_trainer_event(struct sl_trainer *);
void sl_trainer_release(
    struct sl_trainer *, struct sl_event *); /* frees nothing that the event handed over */

/* Any thread: the newest step of a device that this incarnation has applied; 0: none yet (rules T12). */
uint64_t sl_trainer_applied(const struct sl_trainer *, uint32_t device);
/* Any thread: how long its messages were here in this incarnation, from the last byte's coming to the
 * gradient's handing over, in all: what of a step is neither the device's nor the link's. */
uint64_t sl_trainer_held_ns(const struct sl_trainer *, uint32_t device);

/* Personal: the thread that carries out the disk's operations uses its take and done, and its shape; NULL
 * with a shared adapter. asked: of the trainer's thread: there is something new to take. */
struct sl_adapter_store *sl_trainer_store(struct sl_trainer *);
bool sl_trainer_asked_disk(struct sl_trainer *);

/* Of the trainer thread, for tests: GEMMs of the last gang, the edge's own adapter. */
uint64_t sl_trainer_gemms(const struct sl_trainer *);
struct sl_adapter *sl_trainer_adapter(struct sl_trainer *);
