/* A back half that trains on random rows: what the edge computes for a gang, without the network. */
#pragma once

#include "tests/bench/train_shape.h"
#include "trainer/model/half.h"

enum { BENCH_CUTS_MAX = 16 };

struct bench_work {
    uint32_t devices, batch, seq;  /* each device brings `batch` sequences of `seq` rows */
    uint32_t cuts[BENCH_CUTS_MAX]; /* device i enters at cuts[i % n_cuts]: blocks of `model` */
    uint32_t n_cuts;
    bool personal; /* an adapter for each device */
    int threads;
    enum sl_precision precision; /* as `model` was packed */
    struct sl_lora_config lora;
};

struct bench_trainee;

/* Blocks [lowest cut, n_layers) and the head of `model`, which outlives it; rows come in and gradients go out
 * in `precision`, as they would lie in a slot. One line in err. */
int bench_trainee_create(
    struct sl_model *, const struct bench_work *, struct bench_trainee **, char *err, size_t err_cap);
void bench_trainee_free(struct bench_trainee *);
/* Gradients to zero, forward, backward, optimiser. Mean loss in nats per token; negative where the half
 * refused. */
double bench_trainee_step(struct bench_trainee *);
uint64_t bench_trainee_tokens(const struct bench_trainee *); /* of a step */
const struct bench_flop *bench_trainee_flop(const struct bench_trainee *);
struct sl_profile *bench_trainee_profile(struct bench_trainee *);
size_t bench_trainee_arena_bytes(const struct bench_trainee *);
