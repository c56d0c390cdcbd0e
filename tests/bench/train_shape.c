#include "tests/bench/train_shape.h"

#include <string.h>

/* Sizes as the models' own config.json give them. */
const struct bench_shape bench_shapes[] = {
    {"gpt2-small", {.family = SL_FAMILY_GPT2,
                       .n_layers = 12,
                       .d_model = 768,
                       .n_heads = 12,
                       .n_kv_heads = 12,
                       .head_dim = 64,
                       .d_ff = 3072,
                       .vocab = 50257,
                       .max_positions = 1024,
                       .norm_eps = 1e-5f,
                       .tied_embeddings = true,
                       .bos_id = -1,
                       .eos_id = -1}},
    {"gpt2-medium", {.family = SL_FAMILY_GPT2,
                        .n_layers = 24,
                        .d_model = 1024,
                        .n_heads = 16,
                        .n_kv_heads = 16,
                        .head_dim = 64,
                        .d_ff = 4096,
                        .vocab = 50257,
                        .max_positions = 1024,
                        .norm_eps = 1e-5f,
                        .tied_embeddings = true,
                        .bos_id = -1,
                        .eos_id = -1}},
    {"llama-tiny", {.family = SL_FAMILY_LLAMA,
                       .n_layers = 8,
                       .d_model = 192,
                       .n_heads = 6,
                       .n_kv_heads = 2,
                       .head_dim = 32,
                       .d_ff = 512,
                       .vocab = 2048,
                       .max_positions = 1024,
                       .norm_eps = 1e-5f,
                       .rope_theta = 1e4f,
                       .tied_embeddings = true,
                       .bos_id = -1,
                       .eos_id = -1}},
    {"smollm-135m", {.family = SL_FAMILY_LLAMA,
                        .n_layers = 30,
                        .d_model = 576,
                        .n_heads = 9,
                        .n_kv_heads = 3,
                        .head_dim = 64,
                        .d_ff = 1536,
                        .vocab = 49152,
                        .max_positions = 2048,
                        .norm_eps = 1e-5f,
                        .rope_theta = 1e4f,
                        .tied_embeddings = true,
                        .bos_id = -1,
                        .eos_id = -1}},
    {"tinyllama-1b", {.family = SL_FAMILY_LLAMA,
                         .n_layers = 22,
                         .d_model = 2048,
                         .n_heads = 32,
                         .n_kv_heads = 4,
                         .head_dim = 64,
                         .d_ff = 5632,
                         .vocab = 32000,
                         .max_positions = 2048,
                         .norm_eps = 1e-5f,
                         .rope_theta = 1e4f,
                         .tied_embeddings = false,
                         .bos_id = -1,
                         .eos_id = -1}},
    {0},
};

const struct bench_shape *bench_shape_find(const char *name)
{
    for (const struct bench_shape *s = bench_shapes; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

uint32_t bench_shape_targets(const struct sl_model_config *c)
{
    static const char *const llama[] = {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", NULL};
    static const char *const gpt2[] = {"c_attn", "c_proj", "c_fc", NULL};
    uint32_t bits = 0;
    for (const char *const *t = c->family == SL_FAMILY_LLAMA ? llama : gpt2; *t; t++)
        bits |= sl_target_bits(c->family, *t);
    return bits;
}

void bench_flop_block(struct bench_flop *f, const struct sl_model_config *c,
    const struct sl_lora_config *lora, double rows, double seq)
{
    uint32_t all = bench_shape_targets(c);
    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        uint32_t in, out;
        if (!(all >> t & 1))
            continue;
        sl_target_dims(c, t, &in, &out);
        f->of[SL_KERNEL_LINEAR] += 4 * rows * in * out;
        if (lora->targets >> t & 1)
            f->of[SL_KERNEL_LORA] += 6 * rows * lora->rank * ((double)in + out);
    }
    double pairs_per_row = (seq + 1) / 2; /* causal: a row and those before it */
    f->of[SL_KERNEL_ATTENTION] += 12 * rows * pairs_per_row * c->n_heads * c->head_dim;
}

void bench_flop_head(struct bench_flop *f, const struct sl_model_config *c, double rows)
{
    f->of[SL_KERNEL_HEAD] += 4 * rows * c->d_model * c->vocab;
}

double bench_flop_sum(const struct bench_flop *f)
{
    double sum = 0;
    for (unsigned k = 0; k < SL_KERNEL_COUNT; k++)
        sum += f->of[k];
    return sum;
}
