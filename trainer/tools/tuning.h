/* What fine-tuning subcommands share: the adapter's shape, the optimiser, and losses printed to the last bit.
 */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/optim.h"

#include <cjson/cJSON.h>

struct sl_tuning_options {
    const char *optimizer, *targets, *rate; /* rate: the schedule's name */
    uint32_t rank;
    double lr, alpha, weight_decay, clip, proximal_mu;
    uint64_t seed;
    bool freeze_a;
    struct sl_lr_schedule schedule;
};

#define SL_TUNING_DEFAULTS                                                                                   \
    {                                                                                                        \
        .optimizer = "adamw", .rank = 8, .alpha = 16, .rate = "constant"                                     \
    }

/* The rows of the option table that fill it. */
#define SL_TUNING_OPTS(o)                                                                                    \
    {"lr", SL_OPT_NUMBER, &(o).lr, "X", "learning rate", true, 0, 1e6, 0},                                   \
        {"rank", SL_OPT_COUNT, &(o).rank, "R", "rank (default 8)", 0, 1, 4096, 0},                           \
        {"alpha", SL_OPT_NUMBER, &(o).alpha, "X", "scale is alpha/rank (default 16)", 0, 0, 1e6, 0},         \
        {"targets", SL_OPT_WORD, &(o).targets, "A,B", "linear layers (default q_proj,v_proj or c_attn)", 0,  \
            0, 0, 0},                                                                                        \
        {"freeze-a", SL_OPT_FLAG, &(o).freeze_a, NULL, "train B only", 0, 0, 0, 0},                          \
        {"optimizer", SL_OPT_WORD, &(o).optimizer, "NAME", "adamw (beta 0.9, 0.999, eps 1e-8) or sgd", 0, 0, \
            0, 0},                                                                                           \
        {"weight-decay", SL_OPT_NUMBER, &(o).weight_decay, "X", "decoupled (default 0)", 0, 0, 1e6, 0},      \
        {"schedule", SL_OPT_WORD, &(o).rate, "NAME", "constant (default), linear or cosine", 0, 0, 0, 0},    \
        {"warmup", SL_OPT_COUNT, &(o).schedule.warmup, "N", "steps of rising rate (default 0)", 0, 0, 1e8,   \
            0},                                                                                              \
        {"min-lr", SL_OPT_NUMBER, &(o).schedule.floor, "X", "last rate as a share of --lr (default 0)", 0,   \
            0, 1, 0},                                                                                        \
        {"clip", SL_OPT_NUMBER, &(o).clip, "X", "gradient norm per block (default 0: none)", 0, 0, 1e6, 0},  \
    {                                                                                                        \
        "seed", SL_OPT_SEED, &(o).seed, "S", "of the adapter's first values (default 0)", 0, 0, 0, 0         \
    }

/* Of subcommands that have the stability term; sl_proximal_strength makes of it what the optimiser takes. */
#define SL_PROXIMAL_OPT(o)                                                                                   \
    {                                                                                                        \
        "proximal-mu", SL_OPT_NUMBER, &(o).proximal_mu, "MU", "of the stability term (default 0: none)", 0,  \
            0, 1e6, 0                                                                                        \
    }

/* What is wrong with the options, or NULL; reads `rate` into the schedule. */
const char *sl_tuning_check(struct sl_tuning_options *);
/* A new adapter over all blocks. 0, or -errno with a line in err. */
int sl_tuning_adapter(const struct sl_tuning_options *, const struct sl_model_config *, struct sl_adapter **,
    char *err, size_t err_cap);
struct sl_optim_config sl_tuning_optimiser(const struct sl_tuning_options *);

/* All 17 digits: split and central losses are compared to the bit, and cJSON may round the last one off. */
cJSON *sl_tuning_losses(const double *, uint32_t n);
