#include "trainer/model/footprint.h"

enum { BYTES_PER_PARAMETER = 4, MOMENTS = 2 };

static size_t frozen_parameters(const struct sl_model_config *c, uint32_t cut)
{
    size_t d = c->d_model, q = (size_t)c->n_heads * c->head_dim, kv = (size_t)c->n_kv_heads * c->head_dim;
    bool llama = c->family == SL_FAMILY_LLAMA;
    size_t matrices = d * (q + 2 * kv) + q * d + (llama ? 3 : 2) * d * c->d_ff;
    size_t vectors = llama ? 2 * d : 4 * d + (q + 2 * kv) + d + c->d_ff + d; /* norms; GPT-2's biases */

    return cut * (matrices + vectors) + (c->vocab + (llama ? 0 : (size_t)c->max_positions)) * d;
}

size_t sl_model_footprint(const struct sl_model_config *shape, const struct sl_footprint *f)
{
    size_t adapter = f->cut * sl_adapter_block_size(shape, &f->lora) * sizeof(float);
    size_t moments = f->moments ? MOMENTS * adapter : 0;
    struct sl_half_config train = {.last = f->cut,
        .max_rows = f->train_windows * (f->seq - 1),
        .max_seqs = f->train_windows,
        .precision = f->precision};
    struct sl_half_config eval = train;

    eval.max_rows = f->eval_windows * (f->seq - 1);
    eval.max_seqs = f->eval_windows;
    eval.inference = true;
    return frozen_parameters(shape, f->cut) * BYTES_PER_PARAMETER + 2 * adapter + moments +
           f->snapshots * (adapter + moments) + sl_half_arena_bytes(shape, &f->lora, &train) +
           sl_half_arena_bytes(shape, &f->lora, &eval);
}
