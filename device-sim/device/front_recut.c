/* A front half with another cut (rules L9). */
#include "device-sim/device/front_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t sl_front_block_floats(const struct sl_front *f)
{
    return f->block_floats;
}

void sl_front_drop_offers(struct sl_front *f)
{
    uint32_t layers = sl_model_config(f->cfg.model)->n_layers;

    for (uint32_t l = 0; f->offered && l < layers; l++) {
        free(f->offered[l].m_v);
        f->offered[l].m_v = NULL;
    }
}

int sl_front_offer_moments(struct sl_front *f, uint32_t block, uint64_t t, const float *m_v, size_t n)
{
    float *copy;

    if (f->cfg.common)
        return 0; /* it has none */
    if (block >= sl_model_config(f->cfg.model)->n_layers || n != 2 * f->block_floats)
        return -EINVAL;
    copy = malloc(n * sizeof(float));
    if (!copy)
        return -ENOMEM;
    memcpy(copy, m_v, n * sizeof(float));
    free(f->offered[block].m_v);
    f->offered[block].m_v = copy;
    f->offered[block].t = t;
    return 0;
}

bool sl_front_moments(const struct sl_front *f, uint32_t block, uint64_t *t, float *m_v)
{
    if (block >= f->cfg.cut || !f->moments || !f->moments[block].m)
        return false;
    *t = f->moments[block].t;
    memcpy(m_v, f->moments[block].m, f->block_floats * sizeof(float));
    memcpy(m_v + f->block_floats, f->moments[block].v, f->block_floats * sizeof(float));
    return true;
}

static void copy_moments(struct sl_front *f, uint32_t block, uint64_t t, const float *m, const float *v)
{
    f->moments[block].t = t;
    if (!m || !f->moments[block].m)
        return;
    memcpy(f->moments[block].m, m, f->block_floats * sizeof(float));
    memcpy(f->moments[block].v, v, f->block_floats * sizeof(float));
}

int sl_front_recut(struct sl_front *f, uint32_t cut)
{
    struct sl_front_config cfg = f->cfg;
    struct sl_front *next, old = *f;
    uint32_t both = cut < f->cfg.cut ? cut : f->cfg.cut;

    if (f->cfg.common && cut >= 1 && cut < sl_model_config(f->cfg.model)->n_layers) {
        f->cfg.cut = cut;
        return 0;
    }
    cfg.cut = cut;
    int rc = sl_front_create(&cfg, &next);
    if (rc)
        return rc;
    for (uint32_t l = 0; l < both; l++) {
        memcpy(sl_adapter_block(next->adapter, l).data, sl_adapter_block(f->adapter, l).data,
            f->block_floats * sizeof(float));
        copy_moments(next, l, f->moments[l].t, f->moments[l].m, f->moments[l].v);
    }
    for (uint32_t l = both; l < cut; l++)
        if (f->offered[l].m_v)
            copy_moments(next, l, f->offered[l].t, f->offered[l].m_v, f->offered[l].m_v + f->block_floats);
    *f = *next;
    *next = old;
    memcpy(f->snapshot, old.snapshot, sizeof(f->snapshot));
    memset(next->snapshot, 0, sizeof(next->snapshot));
    sl_front_free(next);
    return 0;
}
