#include "trainer/tools/tuning.h"

#include "trainer/tools/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *sl_tuning_check(struct sl_tuning_options *o)
{
    if (strcmp(o->optimizer, "adamw") && strcmp(o->optimizer, "sgd"))
        return "--optimizer is adamw or sgd";
    return sl_schedule_check(o->rate, &o->schedule);
}

/* Target bits of "q_proj,v_proj"; NULL: the family's default. */
static int parse_targets(const char *names, enum sl_family family, uint32_t *bits, char *err, size_t err_cap)
{
    if (!names)
        names = family == SL_FAMILY_LLAMA ? "q_proj,v_proj" : "c_attn";
    *bits = 0;
    for (const char *p = names; *p;) {
        char name[32];
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        uint32_t bit = n < sizeof name ? sl_target_bits(family, name) : 0;
        if (!bit) {
            snprintf(err, err_cap, "--targets: the model has no linear layer \"%.*s\" (it has %s)", (int)n, p,
                family == SL_FAMILY_LLAMA ? "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
                                          : "c_attn, c_proj, c_fc");
            return -EINVAL;
        }
        *bits |= bit;
        p += n + (p[n] == ',');
    }
    if (*bits)
        return 0;
    snprintf(err, err_cap, "--targets names no linear layer");
    return -EINVAL;
}

int sl_tuning_adapter(const struct sl_tuning_options *o, const struct sl_model_config *config,
    struct sl_adapter **out, char *err, size_t err_cap)
{
    struct sl_lora_config lora = {
        .rank = o->rank, .alpha = (float)o->alpha, .freeze_a = o->freeze_a, .seed = o->seed};
    int rc = parse_targets(o->targets, config->family, &lora.targets, err, err_cap);
    return rc ? rc : sl_adapter_create(config, &lora, 0, config->n_layers, out);
}

struct sl_optim_config sl_tuning_optimiser(const struct sl_tuning_options *o)
{
    return (struct sl_optim_config){.kind = strcmp(o->optimizer, "sgd") == 0 ? SL_SGD : SL_ADAMW,
        .lr = (float)o->lr,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .eps = 1e-8f,
        .weight_decay = (float)o->weight_decay,
        .schedule = o->schedule,
        .clip = o->clip};
}

cJSON *sl_tuning_losses(const double *v, uint32_t n)
{
    cJSON *array = cJSON_CreateArray();
    for (uint32_t i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.17g", v[i]);
        cJSON_AddItemToArray(array, cJSON_CreateRaw(text));
    }
    return array;
}
