/* The linear layers of both families: their PEFT names, module paths and shapes. */
#include "trainer/model/model_internal.h"

#include <string.h>

static const struct {
    const char *name, *path;
} targets[SL_TARGET_COUNT] = {
    [SL_Q_PROJ] = {"q_proj", "self_attn.q_proj"},
    [SL_K_PROJ] = {"k_proj", "self_attn.k_proj"},
    [SL_V_PROJ] = {"v_proj", "self_attn.v_proj"},
    [SL_O_PROJ] = {"o_proj", "self_attn.o_proj"},
    [SL_GATE_PROJ] = {"gate_proj", "mlp.gate_proj"},
    [SL_UP_PROJ] = {"up_proj", "mlp.up_proj"},
    [SL_DOWN_PROJ] = {"down_proj", "mlp.down_proj"},
    [SL_C_ATTN] = {"c_attn", "attn.c_attn"},
    [SL_ATTN_C_PROJ] = {"c_proj", "attn.c_proj"},
    [SL_C_FC] = {"c_fc", "mlp.c_fc"},
    [SL_MLP_C_PROJ] = {"c_proj", "mlp.c_proj"},
};

enum sl_target sl_family_first_target(enum sl_family family)
{
    return family == SL_FAMILY_LLAMA ? SL_Q_PROJ : SL_C_ATTN;
}

enum sl_target sl_family_end_target(enum sl_family family)
{
    return family == SL_FAMILY_LLAMA ? SL_C_ATTN : SL_TARGET_COUNT;
}

const char *sl_target_path(enum sl_target target)
{
    return targets[target].path;
}

const char *sl_target_name(enum sl_target target)
{
    return targets[target].name;
}

const char *sl_family_block_prefix(enum sl_family family)
{
    return family == SL_FAMILY_LLAMA ? "model.layers." : "transformer.h.";
}

uint32_t sl_target_bits(enum sl_family family, const char *name)
{
    uint32_t bits = 0;
    for (unsigned t = sl_family_first_target(family); t < sl_family_end_target(family); t++)
        if (strcmp(targets[t].name, name) == 0)
            bits |= 1u << t;
    return bits;
}

void sl_target_dims(const struct sl_model_config *config, enum sl_target target, uint32_t *in, uint32_t *out)
{
    uint32_t d = config->d_model, heads = config->n_heads * config->head_dim;
    uint32_t kv = config->n_kv_heads * config->head_dim;
    *in = d;
    *out = d;
    switch (target) {
    case SL_Q_PROJ:
        *out = heads;
        break;
    case SL_K_PROJ:
    case SL_V_PROJ:
        *out = kv;
        break;
    case SL_O_PROJ:
        *in = heads;
        break;
    case SL_GATE_PROJ:
    case SL_UP_PROJ:
    case SL_C_FC:
        *out = config->d_ff;
        break;
    case SL_DOWN_PROJ:
    case SL_MLP_C_PROJ:
        *in = config->d_ff;
        break;
    case SL_C_ATTN:
        *out = 3 * d;
        break;
    case SL_ATTN_C_PROJ:
    case SL_TARGET_COUNT:
        break;
    }
}
