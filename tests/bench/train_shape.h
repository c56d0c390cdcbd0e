/* Shapes that `train` knows, and what a training step of one's back half costs in arithmetic. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/tensor/profile.h"

#include <stdint.h>

struct bench_shape {
    const char *name;
    struct sl_model_config config;
};

/* Ends with a nameless one. */
extern const struct bench_shape bench_shapes[];
const struct bench_shape *bench_shape_find(const char *name); /* NULL: unknown */
/* Every linear layer of a block. */
uint32_t bench_shape_targets(const struct sl_model_config *);

/* Floating-point operations that the mathematics asks for (a multiply-add is two), by kernel: forward, the
 * gradient of the input, LoRA and its gradients. What an implementation recomputes, pads or converts is not
 * counted. docs/measuring.md has the formula. */
struct bench_flop {
    double of[SL_KERNEL_COUNT];
};

/* Adds one block with `rows` rows in sequences of `seq`. */
void bench_flop_block(struct bench_flop *, const struct sl_model_config *, const struct sl_lora_config *,
    double rows, double seq);
/* Adds the logits and the gradient of their input. */
void bench_flop_head(struct bench_flop *, const struct sl_model_config *, double rows);
double bench_flop_sum(const struct bench_flop *);
