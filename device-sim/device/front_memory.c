/* What a phone's half takes of the phone's memory. */
#include "device-sim/device/front_internal.h"

enum { BYTES_PER_PARAMETER = 4 /* of frozen weights, whatever the arithmetic (docs/architecture.md) */ };

static size_t frozen_parameters(const struct sl_model_config *c, uint32_t cut)
{
    size_t d = c->d_model, q = (size_t)c->n_heads * c->head_dim, kv = (size_t)c->n_kv_heads * c->head_dim;
    bool llama = c->family == SL_FAMILY_LLAMA;
    size_t matrices = d * (q + 2 * kv) + q * d + (llama ? 3 : 2) * d * c->d_ff;
    size_t vectors = llama ? 2 * d : 4 * d + (q + 2 * kv) + d + c->d_ff + d; /* norms; GPT-2's biases */

    return cut * (matrices + vectors) + (c->vocab + (llama ? 0 : (size_t)c->max_positions)) * d;
}

size_t sl_front_memory(const struct sl_front_config *cfg)
{
    const struct sl_model_config *shape = sl_model_config(cfg->model);
    size_t adapter = cfg->cut * sl_adapter_block_size(shape, &cfg->lora) * sizeof(float);
    size_t moments = cfg->gradients || cfg->optim.kind != SL_ADAMW ? 0 : 2 * adapter;
    struct sl_half_config train = {.last = cfg->cut,
        .max_rows = cfg->train_windows * (cfg->seq - 1),
        .max_seqs = cfg->train_windows,
        .precision = sl_model_precision(cfg->model)};
    struct sl_half_config eval = train;

    eval.max_rows = cfg->eval_windows * (cfg->seq - 1);
    eval.max_seqs = cfg->eval_windows;
    eval.inference = true;
    return frozen_parameters(shape, cfg->cut) * BYTES_PER_PARAMETER + 2 * adapter + moments +
           SL_FRONT_SNAPSHOTS * (adapter + moments) + sl_half_arena_bytes(shape, &cfg->lora, &train) +
           sl_half_arena_bytes(shape, &cfg->lora, &eval);
}
