/* Frozen base weights of one model with their names: in f32, and packed for the arithmetic (sl_model_pack).
 * One thread builds it; after that any number may read. Linear weights are stored the way the file has them:
 * Llama [out, in]; GPT-2 (Conv1D) [in, out]. */
#pragma once

#include "trainer/model/config.h"
#include "trainer/tensor/packed.h"

struct sl_model;

/* One parameter tensor by its canonical Hugging Face name ("model.layers.3.self_attn.q_proj.weight",
 * "transformer.h.3.attn.c_attn.bias"). `grad` is NULL unless sl_model_enable_grads was called. */
struct sl_param {
    const char *name;
    uint32_t n_dims, dims[2];
    size_t n;
    float *data, *grad; /* data: NULL where it was not loaded, or was packed and its f32 copy given back */
};

/* Loads config.json and model.safetensors (single, or sharded with model.safetensors.index.json; F32, F16,
 * BF16; names with or without the "model."/"transformer." prefix; either tied name, or both where they are
 * equal). Refuses missing, misshapen, truncated, duplicate, unknown or non-finite tensors by name; only
 * buffers that follow from the config (attn.bias, attn.masked_bias, rotary_emb.inv_freq) are passed over. */
int sl_model_load(const char *dir, struct sl_model **, char *err, size_t err_cap);
/* The same, but reads only what halves within blocks [first, last) need: the embedding where first is 0, the
 * final norm and the head where last is the last block (UINT32_MAX: it is). The other tensors are checked by
 * name and shape, and take no memory. */
int sl_model_load_blocks(
    const char *dir, uint32_t first, uint32_t last, struct sl_model **, char *err, size_t err_cap);
/* Random initialisation (GPT-2's scheme: N(0, 0.02), residual projections divided by sqrt(2 L)), a function
 * of (seed, tensor name) only. */
int sl_model_create(const struct sl_model_config *, uint64_t seed, struct sl_model **);
/* The same values, but only what halves within blocks [first, last) need, as sl_model_load_blocks. */
int sl_model_create_blocks(
    const struct sl_model_config *, uint64_t seed, uint32_t first, uint32_t last, struct sl_model **);
void sl_model_free(struct sl_model *);

/* Gives back the memory of what no half within blocks [first, last) needs, as if sl_model_load_blocks had made the model. */
void sl_model_keep(struct sl_model *, uint32_t first, uint32_t last);
/* Packs the linear layers and the head, where present, for products in this precision; without `backward`
 * only forward passes will run. In bf16 the f32 copies of what was packed are given back to the system (the
 * embedding stays f32), so that the model cannot be saved or trained in full afterwards. Once, before the
 * first half is made. -EINVAL: packed before, or gradients are enabled; -ENOTSUP: not on this CPU; -ENOMEM.
 */
int sl_model_pack(struct sl_model *, enum sl_precision, bool backward);
enum sl_precision sl_model_precision(const struct sl_model *); /* F32 until packed */
/* sl_model_load_blocks and sl_model_pack for training: in `wanted`, or in F32 where this CPU has no such
 * arithmetic (sl_model_precision says which it became). */
int sl_model_load_packed(const char *dir, uint32_t first, uint32_t last, enum sl_precision wanted,
    struct sl_model **, char *err, size_t err_cap);
/* "f32", "bf16". */
const char *sl_precision_name(enum sl_precision);
/* What became of the precision that was asked for, for whoever runs the program: "bf16", or "f32 (bf16 was
 * asked for, ...)". */
const char *sl_precision_told(enum sl_precision wanted, enum sl_precision got);
/* Bytes of weights in memory now, f32 and packed (pages that were given back not counted). */
size_t sl_model_bytes(const struct sl_model *);

const struct sl_model_config *sl_model_config(const struct sl_model *);
uint32_t sl_model_param_count(const struct sl_model *);
struct sl_param *sl_model_param(struct sl_model *, uint32_t i);
struct sl_param *sl_model_find(struct sl_model *, const char *name); /* NULL: no such tensor */

/* Allocates a gradient for every parameter (pre-training, parity tests). */
int sl_model_enable_grads(struct sl_model *);
void sl_model_zero_grads(struct sl_model *);

enum sl_dtype { SL_DTYPE_F32, SL_DTYPE_F16, SL_DTYPE_BF16 };
/* Writes DIR/config.json and DIR/model.safetensors (tied embeddings once, under the embedding's name), each
 * to a temporary name, both synced before either replaces the old one: after an error the old files are there
 * unchanged. */
int sl_model_save(const struct sl_model *, const char *dir, enum sl_dtype, char *err, size_t err_cap);

/* SHA-256 over config.json and then the safetensors files in the order in which the index first names them
 * (the bytes of the files, one after another). */
int sl_model_hash(const char *dir, uint8_t hash[32], char *err, size_t err_cap);
