/* What a device's half of a model takes of its memory: for whoever decides on its cut, without making it. */
#pragma once

#include "trainer/model/half.h"

struct sl_footprint {
    struct sl_lora_config lora;
    uint32_t cut;                         /* blocks [0, cut), with the embedding */
    uint32_t seq;                         /* tokens of a window: seq - 1 rows */
    uint32_t train_windows, eval_windows; /* at most, in one message */
    bool moments;                         /* of AdamW, on the device */
    uint32_t snapshots;                   /* of adapter and moments, beside the present ones */
    enum sl_precision precision;          /* of the arithmetic */
};
/* Bytes: frozen weights (4 a parameter, whatever the arithmetic: docs/architecture.md), adapter with
 * gradient, moments and snapshots, activations. */
size_t sl_model_footprint(const struct sl_model_config *, const struct sl_footprint *);
