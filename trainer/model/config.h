/* A model's shape, read from a Hugging Face config.json.
 *
 * Errors: functions that can fail for a reason a person should read take `err, err_cap` and leave one line
 * there that names the culprit and the cure; they return -EINVAL (content), -ENOENT, -EIO or -ENOMEM. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_family { SL_FAMILY_LLAMA, SL_FAMILY_GPT2 };

struct sl_model_config {
    enum sl_family family;
    uint32_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab;
    uint32_t max_positions;
    float norm_eps;
    float rope_theta;      /* Llama only */
    bool tied_embeddings;  /* lm_head shares the embedding matrix */
    int32_t bos_id, eos_id; /* -1: none */
};

/* Parses config.json text. Anything that the library does not compute (rope scaling, sliding window, projection
 * biases that the family does not have, other activations, ...) is refused by its key's name. */
int sl_model_config_parse(const char *json, size_t len, struct sl_model_config *, char *err, size_t err_cap);

/* The same as a Hugging Face config.json, which sl_model_config_parse reads back to the same shape. `dtype` is what torch calls
 * it ("float32", "float16", "bfloat16"). *out is malloc'ed. -ENOMEM. */
int sl_model_config_json(const struct sl_model_config *, const char *dtype, char **out, size_t *len);
