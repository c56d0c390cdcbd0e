/* What becomes of gradients: the edge's own copy steps (rules L4, `weights`), or all gradients of a block
 * meet here and G steps (`gradients`).
 *
 *   gang, gang, ... (accumulate)    sums += gradient of the blocks [min_cut, L), with their tokens
 *   weights:     edge's copy of the block steps
 *   gradients:   the devices push the sums of their blocks [0, cut); for each block, in device order,
 *
 *                    g = edge's + sum of the devices' that cover it,  n = their tokens
 *                    G <- optimiser(G, g / n)
 *
 * A block is trained on the devices whose cut lies behind it, and here for the others, so that n is all
 * predicted tokens of the gangs: central training. A device whose sums did not come in time is missing from
 * its own blocks with its tokens; the blocks here have its gradient already, and count its tokens. Late sums
 * count in the next round, as late weights do. */
#include "trainer/model/proximal.h"
#include "trainer/pipeline/trainer_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool master(const struct sl_trainer *t)
{
    return t->config.aggregation == SL_AGGREGATE_GRADIENTS;
}

uint32_t sl_trainer_owned(const struct sl_trainer_config *c)
{
    return c->aggregation == SL_AGGREGATE_GRADIENTS ? 0 : c->min_cut;
}

int sl_trainer_create_sums(struct sl_trainer *t)
{
    t->owned = sl_trainer_owned(&t->config);
    if (t->config.accumulate == 0)
        t->config.accumulate = 1;
    t->grad_sum = calloc((t->n_layers - t->config.min_cut) * t->block, sizeof *t->grad_sum);
    t->grad_tokens = calloc(t->n_layers, sizeof *t->grad_tokens);
    t->grad = malloc(t->block * sizeof *t->grad);
    t->giver = calloc(t->n_layers, sizeof *t->giver);
    t->edge_trained = calloc(t->n_layers, sizeof *t->edge_trained);
    return t->grad_sum && t->grad_tokens && t->grad && t->giver && t->edge_trained ? 0 : -ENOMEM;
}

void sl_trainer_free_sums(struct sl_trainer *t)
{
    free(t->grad_sum);
    free(t->grad_tokens);
    free(t->grad);
    free(t->giver);
    free(t->edge_trained);
}

bool sl_trainer_ends_round(const struct sl_trainer *t)
{
    if (master(t))
        return t->global_step % t->config.accumulate == 0;
    return !t->config.gang.async && t->gangs_since + 1 >= t->config.aggregate_every;
}

static float *sum_of(struct sl_trainer *t, uint32_t layer)
{
    return t->grad_sum + (layer - t->config.min_cut) * t->block;
}

static void forget_sum(struct sl_trainer *t, uint32_t layer)
{
    memset(sum_of(t, layer), 0, t->block * sizeof(float));
    t->grad_tokens[layer] = 0;
}

void sl_trainer_learn(struct sl_trainer *t, bool finite)
{
    bool step = !master(t) && (t->boundary || t->global_step % t->config.accumulate == 0);
    for (uint32_t l = t->config.min_cut; l < t->n_layers; l++) {
        uint64_t tokens = finite ? sl_batch_tokens_at(t->batch, l) : 0;
        struct sl_block block = sl_adapter_block(t->edge, l);
        float *sum = sum_of(t, l);
        for (size_t i = 0; tokens && i < block.n; i++)
            sum[i] += block.grad[i];
        t->grad_tokens[l] += tokens;
        t->tokens_at[l] += tokens;
        if (!step || !t->grad_tokens[l])
            continue;
        sl_optim_prox(&t->config.optim, sum, block.data, sl_trainer_g(t, t->version) + l * t->block, block.n,
            (double)t->grad_tokens[l]);
        sl_proximal_add(t->edge, l, NULL, t->config.optim.proximal, (double)t->grad_tokens[l], sum);
        sl_optim_apply(&t->config.optim, &t->moments[l], block.data, sum, block.n, (double)t->grad_tokens[l],
            t->global_step);
        forget_sum(t, l);
    }
}

/* The block's gradient over all that trained it, in t->grad; returns the tokens that it sums over. */
static uint64_t gather_block(struct sl_trainer *t, uint32_t layer)
{
    uint64_t tokens = 0;
    memset(t->sum, 0, t->block * sizeof *t->sum);
    if (layer >= t->config.min_cut && t->grad_tokens[layer]) {
        const float *own = sum_of(t, layer);
        tokens = t->grad_tokens[layer];
        for (size_t i = 0; i < t->block; i++)
            t->sum[i] = own[i];
    }
    for (uint32_t d = 0; d < t->config.gang.max_devices; d++) {
        const struct pending_push *p = &t->devices[d].push;
        if (!p->weights || !p->tokens || layer >= p->last)
            continue;
        const float *theirs = p->weights + layer * t->block;
        tokens += p->tokens;
        for (size_t i = 0; i < t->block; i++)
            t->sum[i] += theirs[i];
    }
    for (size_t i = 0; i < t->block; i++)
        t->grad[i] = (float)t->sum[i];
    return tokens;
}

uint32_t sl_trainer_step_master(struct sl_trainer *t)
{
    uint32_t copies = 1;
    for (uint32_t d = 0; d < t->config.gang.max_devices; d++)
        copies += t->devices[d].push.weights && t->devices[d].push.tokens;
    for (uint32_t l = 0; l < t->n_layers; l++) {
        uint64_t tokens = gather_block(t, l);
        if (tokens) {
            float *next = t->next + l * t->block;
            if (t->whole)
                sl_proximal_add(t->whole, l, next, t->config.optim.proximal, (double)tokens, t->grad);
            sl_optim_apply(
                &t->config.optim, &t->moments[l], next, t->grad, t->block, (double)tokens, t->global_step);
        }
        if (l >= t->config.min_cut)
            forget_sum(t, l);
    }
    return copies;
}

enum sl_push_kind sl_trainer_push_kind(const struct sl_trainer *t)
{
    return master(t) ? SL_PUSH_GRADIENTS : SL_PUSH_WEIGHTS;
}

/* Rules T15: finite, and the mean gradient's RMS in bounds. */
const char *sl_trainer_check_gradients(const struct sl_trainer *t, const struct sl_command *c)
{
    for (uint32_t l = 0; l < c->push.last; l++) {
        const float *g = c->push.weights + l * t->block;
        double sum = 0, bound = SL_PUSH_RMS_MAX * (double)(c->push.tokens ? c->push.tokens : 1);
        for (size_t i = 0; i < t->block; i++)
            sum += (double)g[i] * g[i];
        if (!isfinite(sum))
            return "the pushed gradients are not finite";
        if (sum > bound * bound * (double)t->block)
            return "the pushed gradients are out of bounds: their mean's RMS is beyond 1000";
    }
    return NULL;
}
