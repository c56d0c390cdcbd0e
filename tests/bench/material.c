#include "tests/bench/material.h"

#include "dataplane/wire/int8.h"
#include "dataplane/wire/lz4_block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LOUD_EVERY = 29, VOCABULARY = 2048 };

/* A channel in LOUD_EVERY is a hundred times louder, as in trained transformers (Dettmers et al.,
 * "LLM.int8()", 2022); the others' noise is the sum of four uniform numbers. */
static void fill(float *x, uint64_t n, uint32_t d_model)
{
    uint64_t state = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
    for (uint64_t i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        float sum = 0;
        for (unsigned k = 0; k < 4; k++)
            sum += (float)(state >> (16 * k) & 0xffff) / 65536.0f - 0.5f;
        x[i] = i % d_model % LOUD_EVERY == 0 ? 100 * sum : sum;
    }
}

static int compress(struct bench_material *m)
{
    const struct bench_load *l = m->load;
    uint64_t *state = malloc(sl_lz4_state_bytes());
    m->blocks = malloc((size_t)l->grid.n_fragments * l->fragment_units * SL_UNIT_BYTES);
    m->coded = calloc(l->grid.n_fragments, sizeof(*m->coded));
    if (state == NULL || m->blocks == NULL || m->coded == NULL) {
        free(state);
        return -ENOMEM;
    }
    for (uint32_t f = 0; f < l->grid.n_fragments; f++) {
        uint32_t unit0 = f * l->fragment_units;
        if (unit0 + l->fragment_units <= l->grid.tensor_units) /* target ids are never coded */
            m->coded[f] = sl_lz4_compress(state, m->units + (size_t)unit0 * SL_UNIT_BYTES, l->fragment_units,
                m->blocks + (size_t)unit0 * SL_UNIT_BYTES);
    }
    free(state);
    return 0;
}

static int make(struct bench_material *m)
{
    const struct sl_grid *g = &m->load->grid;
    uint64_t n = (uint64_t)g->rows * m->load->d_model;
    size_t slot = (size_t)sl_grid_slot_units(g) * SL_UNIT_BYTES;
    float *x = malloc(n * sizeof(*x));
    m->units = aligned_alloc(SL_UNIT_BYTES, (size_t)g->n_units * SL_UNIT_BYTES);
    m->stored = aligned_alloc(SL_UNIT_BYTES, slot);
    if (x == NULL || m->units == NULL || m->stored == NULL) {
        free(x);
        return -ENOMEM;
    }
    fill(x, n, m->load->d_model);
    memset(m->units, 0, (size_t)g->n_units * SL_UNIT_BYTES);
    memset(m->stored, 0, slot);
    sl_codec_encode(m->load->codec, x, m->units, n);
    free(x);
    uint32_t *ids = (uint32_t *)(void *)(m->units + (size_t)g->tensor_units * SL_UNIT_BYTES);
    for (uint32_t i = 0; i < g->rows; i++)
        ids[i] = i % VOCABULARY;
    if (sl_codec_is_coded(m->load->codec))
        sl_int8_decode_bf16(m->units, (uint16_t *)(void *)m->stored, n);
    else
        memcpy(m->stored, m->units, (size_t)g->tensor_units * SL_UNIT_BYTES);
    memcpy(m->stored + (size_t)g->stored_units * SL_UNIT_BYTES, ids, g->rows * sizeof(*ids));
    return m->load->codec == SL_CODEC_INT8_LZ4 ? compress(m) : 0;
}

int bench_material_make(struct bench_material *m, const struct bench_load *l)
{
    *m = (struct bench_material){.load = l};
    int err = make(m);
    if (err != 0)
        bench_material_free(m);
    return err;
}

void bench_material_free(struct bench_material *m)
{
    free(m->units);
    free(m->stored);
    free(m->blocks);
    free(m->coded);
    *m = (struct bench_material){0};
}

const uint8_t *bench_material_fragment(
    const struct bench_material *m, uint32_t fragment, uint32_t *n_units, size_t *len, uint16_t *coded)
{
    const struct bench_load *l = m->load;
    uint32_t unit0 = fragment * l->fragment_units, rest = l->grid.n_units - unit0;
    *n_units = rest < l->fragment_units ? rest : l->fragment_units;
    *coded = m->coded != NULL ? m->coded[fragment] : 0;
    *len = *coded != 0 ? *coded : (size_t)*n_units * SL_UNIT_BYTES;
    return (*coded != 0 ? m->blocks : m->units) + (size_t)unit0 * SL_UNIT_BYTES;
}
