/* The inside of a model, for the files of this folder only: the loader fills `params[i].data`, the halves
 * read `blocks`. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/model.h"

/* The linear slots of a block: products over all rows. Llama's q, k, v (and gate, up) lie one after another,
 * so a slot is one matrix. */
enum slot { SLOT_QKV, SLOT_O, SLOT_UP, SLOT_DOWN, SLOT_COUNT };
/* First and last target of a slot. */
void sl_slot_targets(enum sl_family, enum slot, enum sl_target *first, enum sl_target *last);

/* The parameters of one block by role; NULL where the family has none. The weight of a linear layer lies at
 * `w[target]`. */
struct sl_block_params {
    struct sl_param *norm1_w, *norm1_b; /* before attention */
    struct sl_param *norm2_w, *norm2_b; /* before the MLP */
    struct sl_param *w[SL_TARGET_COUNT], *bias[SL_TARGET_COUNT];
    struct sl_packed *packed[SLOT_COUNT]; /* NULL: products read w */
};

struct sl_model {
    struct sl_model_config config;
    uint32_t n_params;
    struct sl_param *params; /* in the order of the network; a tied lm_head has no entry of its own */
    struct sl_block_params *blocks;
    struct sl_param *embed, *positions; /* positions: GPT-2 only */
    struct sl_param *norm_w, *norm_b;   /* final norm */
    struct sl_param *head;              /* [vocab, d_model]; == embed where tied */
    struct sl_packed *packed_head;      /* NULL: products read head */
    enum sl_precision precision;
    bool packed;
    size_t n_floats, n_released; /* released: not loaded, or packed */
    float *data;  /* one mapping of n_floats; parameters lie one after another in table order, without gaps */
    float *grads; /* the same layout */
    char *names;
};

/* Builds the table for a config: names, shapes, data zeroed, no gradients. -EINVAL: a dimension is zero or
 * does not divide; -ENOMEM. */
int sl_model_alloc(const struct sl_model_config *, struct sl_model **);
/* Is parameter p needed by halves within blocks [first, last)? */
bool sl_model_needs(const struct sl_model *, const struct sl_param *p, uint32_t first, uint32_t last);
void sl_model_unpack(struct sl_model *); /* frees what sl_model_pack made */
/* Gives the memory of neighbouring parameters [p, p + n) back to the system; their data is NULL from here on.
 */
void sl_model_release(struct sl_model *, struct sl_param *p, uint32_t n);

/* Linear layers of a family as a contiguous run of enum sl_target. */
enum sl_target sl_family_first_target(enum sl_family);
enum sl_target sl_family_end_target(enum sl_family);

/* For proximal.c: the adapter's model, and work space for two [rank, rank] matrices. */
const struct sl_model_config *sl_adapter_shape(const struct sl_adapter *);
double *sl_adapter_grams(struct sl_adapter *);
/* Module path inside a block ("self_attn.q_proj", "attn.c_attn"). */
const char *sl_target_path(enum sl_target);
/* Name of a block's module tree: "model.layers." or "transformer.h." (followed by the layer's number). */
const char *sl_family_block_prefix(enum sl_family);
