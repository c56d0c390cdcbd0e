/* What a phone's half takes of the phone's memory. */
#include "device-sim/device/front_internal.h"

#include "trainer/model/footprint.h"

size_t sl_front_memory(const struct sl_front_config *cfg)
{
    const struct sl_footprint f = {.lora = cfg->lora,
        .cut = cfg->cut,
        .seq = cfg->seq,
        .train_windows = cfg->train_windows,
        .eval_windows = cfg->eval_windows,
        .moments = !cfg->gradients && cfg->optim.kind == SL_ADAMW,
        .snapshots = SL_FRONT_SNAPSHOTS,
        .precision = sl_model_precision(cfg->model)};

    return sl_model_footprint(sl_model_config(cfg->model), &f);
}
