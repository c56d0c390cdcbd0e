/* The inside of a model, for the files of this folder only: the loader fills `params[i].data`, the halves
 * read `blocks`. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/model.h"

/* The parameters of one block by role; NULL where the family has none. The weight of a linear layer lies at
 * `w[target]`. */
struct sl_block_params {
    struct sl_param *norm1_w, *norm1_b; /* before attention */
    struct sl_param *norm2_w, *norm2_b; /* before the MLP */
    struct sl_param *w[SL_TARGET_COUNT], *bias[SL_TARGET_COUNT];
};

struct sl_model {
    struct sl_model_config config;
    uint32_t n_params;
    struct sl_param *params; /* in the order of the network; a tied lm_head has no entry of its own */
    struct sl_block_params *blocks;
    struct sl_param *embed, *positions; /* positions: GPT-2 only */
    struct sl_param *norm_w, *norm_b;   /* final norm */
    struct sl_param *head;              /* [vocab, d_model]; == embed where tied */
    size_t n_floats;
    float *data,
        *grads; /* one allocation each; parameters lie one after another in table order, without gaps */
    char *names;
};

/* Builds the table for a config: names, shapes, data zeroed, no gradients. -EINVAL: a dimension is zero or
 * does not divide; -ENOMEM. */
int sl_model_alloc(const struct sl_model_config *, struct sl_model **);

/* Linear layers of a family as a contiguous run of enum sl_target. */
enum sl_target sl_family_first_target(enum sl_family);
enum sl_target sl_family_end_target(enum sl_family);
/* Module path inside a block ("self_attn.q_proj", "attn.c_attn"). */
const char *sl_target_path(enum sl_target);
/* Name of a block's module tree: "model.layers." or "transformer.h." (followed by the layer's number). */
const char *sl_family_block_prefix(enum sl_family);
