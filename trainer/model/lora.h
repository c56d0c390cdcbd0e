/* LoRA (arXiv 2106.09685): W x + (alpha/rank) B A x on chosen linear layers of a contiguous run of blocks.
 *
 * A is [rank, in], B is [out, rank], row-major f32. A block's parameters lie in one array: first the A of every target
 * (in the order of enum sl_target), then the B of every target: so that a block is one vector for the optimiser,
 * for aggregation and for the wire, and `freeze_a` is its tail. Not thread-safe: one owner. */
#pragma once

#include "trainer/model/config.h"

enum sl_target { /* Llama, then GPT-2; c_attn and the two c_proj of GPT-2 as PEFT matches them ("c_proj" names both) */
    SL_Q_PROJ, SL_K_PROJ, SL_V_PROJ, SL_O_PROJ, SL_GATE_PROJ, SL_UP_PROJ, SL_DOWN_PROJ,
    SL_C_ATTN, SL_ATTN_C_PROJ, SL_C_FC, SL_MLP_C_PROJ,
    SL_TARGET_COUNT
};

struct sl_lora_config {
    uint32_t rank;
    float alpha;
    uint32_t targets; /* bit per enum sl_target */
    bool freeze_a;    /* A stays what the seed makes it; only B is trained (rules L5) */
    uint64_t seed;    /* A ~ Kaiming-uniform as PEFT does, from a counter-based RNG keyed by (seed, tensor name); B = 0 */
};

struct sl_adapter;

/* Parses one PEFT target name ("q_proj", "c_proj") to bits of the family; 0: the family has no such layer. */
uint32_t sl_target_bits(enum sl_family, const char *name);
const char *sl_target_name(enum sl_target); /* "q_proj", ..., "c_proj" */

/* Adapter over blocks [first, last) of the model, initialised as lora->seed says. */
int sl_adapter_create(const struct sl_model_config *, const struct sl_lora_config *, uint32_t first, uint32_t last,
    struct sl_adapter **);
void sl_adapter_free(struct sl_adapter *);
const struct sl_lora_config *sl_adapter_lora(const struct sl_adapter *);
uint32_t sl_adapter_first(const struct sl_adapter *);
uint32_t sl_adapter_last(const struct sl_adapter *);

/* What of a block is trained: its whole vector, or the B tail under freeze_a. `grad` is the gradient of the SUM of
 * token losses (rules L2), accumulated by sl_half_backward. */
struct sl_block {
    float *data, *grad;
    size_t n;
};
struct sl_block sl_adapter_block(struct sl_adapter *, uint32_t layer);     /* the trainable part */
struct sl_block sl_adapter_block_all(struct sl_adapter *, uint32_t layer); /* A and B */
size_t sl_adapter_block_size(const struct sl_model_config *, const struct sl_lora_config *); /* trainable floats per block */
void sl_adapter_zero_grads(struct sl_adapter *);

/* One factor: NULL where the target is not adapted (and the gradient of A under freeze_a). */
float *sl_adapter_a(struct sl_adapter *, uint32_t layer, enum sl_target);
float *sl_adapter_b(struct sl_adapter *, uint32_t layer, enum sl_target);
float *sl_adapter_grad_a(struct sl_adapter *, uint32_t layer, enum sl_target);
float *sl_adapter_grad_b(struct sl_adapter *, uint32_t layer, enum sl_target);
void sl_target_dims(const struct sl_model_config *, enum sl_target, uint32_t *in, uint32_t *out);
