/* An adapter added to the base weights for good: W' = W + (alpha/rank) B A. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/model.h"

struct sl_fold {
    uint32_t matrices;
    double change;  /* squared norm of all that was added */
    double weights; /* squared norm of the adapted matrices, as they are now */
};

/* Folds every factor of the adapter, whose blocks the model must have in f32 (not packed). GPT-2's Conv1D
 * stores [in, out]: there the transpose is added. -EINVAL: a matrix is not in memory; -ENOMEM; -ERANGE: a
 * result is not finite. After a failure the model is not whole. */
int sl_model_fold(struct sl_model *, struct sl_adapter *, struct sl_fold *);
/* Whether the parameter of that name is one that the adapter changes. */
bool sl_fold_touches(const struct sl_model_config *, const struct sl_adapter *, const char *name);
