/* Aggregation by truncated SVD, devices of different ranks (rules L5), and the server's optimiser. */
#include "trainer/pipeline/trainer_internal.h"

#include "trainer/pipeline/refactor.h"

size_t sl_trainer_push_size(const struct sl_trainer *t, const struct device *d)
{
    struct sl_lora_config lora = t->config.lora;
    if (d->rank)
        lora.rank = d->rank;
    return d->cut * sl_adapter_block_size(t->model, &lora);
}

int sl_trainer_refactor(struct sl_trainer *t, uint32_t n_copies, double *error)
{
    struct sl_refactor_config config = {.model = t->model,
        .lora = &t->config.lora,
        .mixed_ranks = t->config.mixed_ranks,
        .compare = !t->config.mixed_ranks};
    struct sl_refactor_errors errors;
    int status = sl_refactor(&config, t->next, t->copies, n_copies, t->changed, &errors);
    *error = errors.svd;
    t->mean_error = errors.factors;
    return status;
}

void sl_trainer_step_server(struct sl_trainer *t, uint32_t n_copies)
{
    const float *g = sl_trainer_g(t, t->version);
    for (uint32_t l = 0; t->server && l < t->n_layers; l++) {
        bool trained = false;
        for (uint32_t c = 0; c < n_copies; c++)
            trained = trained || sl_copy_tokens(&t->copies[c], l) > 0;
        if (trained)
            sl_server_step(t->server, l, g + l * t->block, t->next + l * t->block);
    }
}

void sl_trainer_reset_changed(struct sl_trainer *t)
{
    for (uint32_t l = t->config.min_cut; l < t->n_layers; l++)
        if (t->changed[l])
            sl_moments_reset(&t->moments[l], t->block);
}
