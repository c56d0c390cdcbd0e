#include "trainer/model/fold.h"

#include "trainer/model/model_internal.h"
#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_CAP = 128 };

static void matrix_name(enum sl_family family, uint32_t layer, enum sl_target target, char name[NAME_CAP])
{
    snprintf(name, NAME_CAP, "%s%u.%s.weight", sl_family_block_prefix(family), layer, sl_target_path(target));
}

bool sl_fold_touches(const struct sl_model_config *config, const struct sl_adapter *adapter, const char *name)
{
    char own[NAME_CAP];
    for (uint32_t l = sl_adapter_first(adapter); l < sl_adapter_last(adapter); l++) {
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
            if (!(sl_adapter_lora(adapter)->targets >> t & 1))
                continue;
            matrix_name(config->family, l, (enum sl_target)t, own);
            if (strcmp(own, name) == 0)
                return true;
        }
    }
    return false;
}

/* What is added, in the layout of the file: [out, in], or [in, out] of Conv1D. `at` holds A transposed. */
static void product(const struct sl_lora_config *lora, bool conv1d, uint32_t in, uint32_t out, const float *a,
    const float *b, float *at, float *change)
{
    uint32_t r = lora->rank;
    float scale = lora->alpha / (float)r;
    if (!conv1d) {
        sl_gemm(false, out, in, r, scale, b, r, a, in, 0, change, in);
        return;
    }
    for (uint32_t j = 0; j < r; j++)
        for (uint32_t i = 0; i < in; i++)
            at[(size_t)i * r + j] = a[(size_t)j * in + i];
    sl_gemm(true, in, out, r, scale, at, r, b, r, 0, change, out);
}

static int add(struct sl_param *p, const float *change, struct sl_fold *fold)
{
    bool finite = true;
    for (size_t i = 0; i < p->n; i++) {
        p->data[i] += change[i];
        finite = finite && isfinite(p->data[i]);
        fold->change += (double)change[i] * change[i];
        fold->weights += (double)p->data[i] * p->data[i];
    }
    fold->matrices++;
    return finite ? 0 : -ERANGE;
}

int sl_model_fold(struct sl_model *m, struct sl_adapter *adapter, struct sl_fold *fold)
{
    const struct sl_model_config *config = sl_model_config(m);
    const struct sl_lora_config *lora = sl_adapter_lora(adapter);
    bool conv1d = config->family == SL_FAMILY_GPT2;
    char name[NAME_CAP];
    int err = 0;
    *fold = (struct sl_fold){0};
    for (uint32_t l = sl_adapter_first(adapter); l < sl_adapter_last(adapter) && !err; l++) {
        for (unsigned t = 0; t < SL_TARGET_COUNT && !err; t++) {
            uint32_t in, out;
            const float *a = sl_adapter_a(adapter, l, (enum sl_target)t);
            if (!a)
                continue;
            matrix_name(config->family, l, (enum sl_target)t, name);
            struct sl_param *p = sl_model_find(m, name);
            if (!p || !p->data)
                return -EINVAL;
            sl_target_dims(config, (enum sl_target)t, &in, &out);
            float *change = malloc((size_t)in * out * sizeof *change);
            float *at = malloc((size_t)in * lora->rank * sizeof *at);
            err = change && at ? 0 : -ENOMEM;
            if (!err) {
                product(lora, conv1d, in, out, a, sl_adapter_b(adapter, l, (enum sl_target)t), at, change);
                err = add(p, change, fold);
            }
            free(change);
            free(at);
        }
    }
    return err;
}
