/* The trainer without a network: slots in ordinary memory, and devices that compute their front halves in the
 * test. */
#pragma once

#include "trainer/pipeline/trainer.h"

enum { LAYERS = 4, WIDTH = 32, VOCAB = 97, POSITIONS = 64 };

struct sl_slots {
    uint32_t n;
    struct sl_slot *slot;
};
struct sl_slots *fake_slots(uint32_t n, uint32_t max_rows);
void fake_slots_free(struct sl_slots *);

struct sl_model_config tiny_config(enum sl_family);
struct sl_lora_config tiny_lora(enum sl_family, bool freeze_a);

/* A phone: its half, its copy of the adapter, its windows. */
struct phone {
    struct sl_model *model;
    struct sl_adapter *adapter;
    struct sl_moments moments[LAYERS];
    struct sl_half *half;
    struct sl_optim_config optim;
    enum sl_codec codec;
    bool gradients;      /* pushes their sums instead of stepping */
    uint32_t accumulate; /* gangs in a step */
    float *sum;          /* [LAYERS, block] */
    uint64_t sum_tokens;
    uint32_t index, lcore, class, cut, rank, max_rows;
    uint32_t next_cut; /* with the next G; 0: the same */
    bool give_moments;
    struct sl_given_moments *given; /* of blocks [cut, next_cut) */
    bool fresh_moments;             /* of blocks that a version changes */
    uint64_t step, version, tokens_since;
    struct sl_slot *slot; /* of the message under way */
    double loss;          /* of the message that came back last */
    uint64_t returned, pushes;
    struct sl_seq seqs[8];
    uint32_t n_seqs, rows;
    float *x, *dx;
};
void phone_init(struct phone *, struct sl_model *, const struct sl_lora_config *,
    const struct sl_optim_config *, enum sl_codec, uint32_t index, uint32_t cut, uint32_t max_rows);
void phone_free(struct phone *);
/* Front forward of n windows of `len` tokens each (rows len - 1), into a free slot of the phone's lcore,
 * which is handed to the trainer. */
void phone_send(struct phone *, const struct sl_trainer_lcore lcores[], const uint32_t *const *windows,
    const uint32_t *len, uint32_t n, enum sl_request_kind);
bool phone_can_send(const struct phone *, const struct sl_trainer_lcore lcores[]); /* a slot is free */
/* Takes the returned slot: backward and optimiser step where it is a gradient. The slot is free again. */
void phone_receive(struct phone *);
/* Another half, [0, cut): what both have stays, further blocks have fresh moments. */
void phone_recut(struct phone *, uint32_t cut);
void phone_forget(struct phone *);                     /* its connection is gone, and the message under way */
size_t phone_weights(struct phone *, float **weights); /* of its blocks; malloc'ed */
void phone_install(struct phone *, const float *g, uint64_t version);

/* A trainer with its rings and n phones, and the control side's part. */
struct world {
    struct sl_model *model;
    struct sl_trainer *trainer;
    struct sl_trainer_config config; /* as it was made */
    struct sl_trainer_lcore lcore[SL_LCORES_MAX];
    uint32_t n_lcores;
    struct phone phones[8];
    uint32_t n_phones;
    float *g;
    uint64_t version, finished, refused, skipped, diverged, push_refused, installs, stale;
    uint64_t kept, checkpoints;
    bool (*disk)(struct world *); /* personal: does something for the trainer's store; false: nothing to do */
    struct sl_personal_stats stats;
    double loss, factor_error;
    uint32_t left_out; /* of all aggregations */
    uint32_t cuts, moments_to_phones, moments_to_edge, old_cuts;
    bool keep_moments; /* phones do not give theirs, though asked */
    uint64_t global_step, step_tokens;
    uint32_t step_devices, n_evals;
    double eval_nll[64];
    bool keep_pushes; /* pushes[]: what each phone pushed last; of its rank */
    float *pushes[8];
};
struct world_config {
    enum sl_family family;
    enum sl_codec codec;
    struct sl_optim_config optim;
    bool gradients;
    uint32_t accumulate; /* 0: one */
    const struct sl_cut_change *changes;
    uint32_t n_changes, min_cut /* 0: the smallest of cut */, class[8] /* of each phone */;
    uint32_t n_phones, cut[8], aggregate_every, slots /* of each lcore */, max_rows;
    uint32_t n_lcores /* 0: one */, lcore[8] /* of each phone */;
    double quorum; /* 0: 0.75 */
    uint64_t steps;
    bool freeze_a, deterministic, async, svd;
    struct sl_server_config server;
    uint32_t rank[8]; /* of each phone; 0: tiny_lora's */
    uint32_t staleness;
    uint32_t resident; /* personal adapters */
    bool (*disk)(struct world *);
    uint32_t gang_rows; /* 0: as many as there can be */
    uint32_t gang_max;  /* asynchronous: messages; 0: likewise */
    const struct sl_checkpoint *resume;
    uint8_t *checkpoint;
};
extern uint64_t fake_now_ns;
void world_open(struct world *, const struct world_config *);
void world_close(struct world *);
void world_phase(struct world *, enum sl_trainer_phase);
void world_join(struct world *, uint32_t device);
void world_push(struct world *, struct phone *);
/* Turns the trainer until it has nothing to do, takes events (installs new versions), gives returned slots to
 * their phones; phones whose result says BOUNDARY push. */
bool world_turn(struct world *); /* one turn of that; whether there was anything to do */
void world_run(struct world *);
struct sl_checkpoint *world_checkpoint(struct world *); /* of the last VERSION event, decoded; NULL: none */
/* The trainer and its phones end, and begin again from that checkpoint, which is cleared and freed; the
 * phones' next step is `step`. */
void world_restart(struct world *, struct world_config *, struct sl_checkpoint *, uint64_t step);
float *world_g(struct world *, size_t *n); /* a copy of G of all blocks, malloc'ed; n floats */

/* Central training of the same adapter: one whole half. */
struct central {
    struct sl_half *half;
    struct sl_adapter *adapter;
    struct sl_moments moments[LAYERS];
    struct sl_optim_config optim;
    uint32_t accumulate; /* steps in an update; 0: one */
    float *sum;
    uint64_t steps, sum_tokens;
};
void central_init(struct central *, struct sl_model *, const struct sl_lora_config *,
    const struct sl_optim_config *, uint32_t max_rows);
double central_step(struct central *, const uint32_t *const *windows, const uint32_t *len, uint32_t n);
void central_free(struct central *);

/* Window number i of a deterministic text. */
const uint32_t *text_window(uint32_t i, uint32_t len);
struct sl_optim_config sgd(float lr);
struct sl_optim_config adamw(float lr);
