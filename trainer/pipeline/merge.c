#include "trainer/pipeline/merge.h"

#include <string.h>

/* Its share of the training of a block in its own time; a device cannot have more than all. */
static double share_at(const struct sl_copy *c, uint64_t of, uint32_t layer)
{
    if (layer < c->first || layer >= c->last || !of)
        return 0;
    uint64_t tokens = c->tokens_at ? c->tokens_at[layer] : c->tokens;
    return tokens < of ? (double)tokens / (double)of : 1;
}

static void merge_block(float *g, uint32_t layer, size_t block, const struct sl_copy *copies,
    const uint64_t *of, uint32_t n_copies, double *sum)
{
    const struct sl_copy *only = NULL;
    uint32_t n = 0;
    double share = 0;
    for (uint32_t c = 0; c < n_copies; c++) {
        double s = share_at(&copies[c], of[c], layer);
        if (!(s > 0))
            continue;
        only = &copies[c];
        share = s;
        n++;
    }
    if (n == 0)
        return;
    if (n == 1 && share >= 1 && !only->base) {
        memcpy(g, only->weights + (layer - only->first) * block, block * sizeof *g);
        return;
    }
    memset(sum, 0, block * sizeof *sum);
    for (uint32_t c = 0; c < n_copies; c++) {
        double s = share_at(&copies[c], of[c], layer);
        if (!(s > 0))
            continue;
        const float *w = copies[c].weights + (layer - copies[c].first) * block;
        const float *base = copies[c].base ? copies[c].base + layer * block : g;
        for (size_t i = 0; i < block; i++)
            sum[i] += s * ((double)w[i] - (double)base[i]);
    }
    for (size_t i = 0; i < block; i++)
        g[i] = (float)((double)g[i] + sum[i]);
}

void sl_merge(float *g, uint32_t n_layers, size_t block, const struct sl_copy *copies, const uint64_t *of,
    uint32_t n_copies, double *scratch)
{
    for (uint32_t l = 0; l < n_layers; l++)
        merge_block(g + l * block, l, block, copies, of, n_copies, scratch);
}
