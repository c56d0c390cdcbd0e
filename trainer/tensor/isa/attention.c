/* Causal attention of one key/value head and the query heads that share it, over one sequence, by tiles
 * (arXiv 2205.14135, with the products in registers): groups of eight query rows against the keys that they
 * may see. What lies above the diagonal is not computed, but for what a group or a vector sticks out.
 * Compiled per instruction set. */
#include "trainer/tensor/attention.h"
#include "trainer/tensor/isa/attention_memory.h"
#include "trainer/tensor/isa/attention_pack.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/isa/mm.h"

#include <math.h>

_Static_assert((int)ATTEND_GROUP == (int)MM_ROWS, "a group is a product's rows");

/* What the passes share. */
struct attend {
    const struct sl_attention *dims;
    uint32_t len, padded, kv_head;
    uint32_t ld, ld_out;   /* elements per row of qkv and out */
    uint32_t width, units; /* floats of a padded head; depth of a product over the head */
    float scale, scale2;   /* of the scores; with log2(e), for powers of 2 */
    struct attend_memory m;
    struct pack_block block;
};

static struct attend prepare(
    const struct sl_attention *dims, uint32_t len, uint32_t kv_head, bool bf16, bool backward, float *scratch)
{
    uint32_t hd = dims->head_dim;
    struct attend a = {.dims = dims,
        .len = len,
        .padded = attend_padded(len),
        .kv_head = kv_head,
        .ld = (dims->n_heads + 2 * dims->n_kv_heads) * hd,
        .ld_out = dims->n_heads * hd,
        .width = (hd + VL - 1) / VL * VL,
        .units = bf16 ? (hd + 1) / 2 : hd,
        .scale = 1.0f / sqrtf((float)hd)};
    a.scale2 = a.scale * v_log2e;
    attend_carve(scratch, len, a.width, backward, &a.m);
    a.block = (struct pack_block){a.width, a.m.block, (uint32_t *)a.m.block_pairs};
    return a;
}

/* Loads VL rows of a head into the block. */
SL_INLINE void load(struct attend *a, bool bf16, struct sl_src head, uint32_t ld, uint32_t first, bool turned)
{
    block_load(&a->block, head, ld, a->dims->head_dim, first, a->len, turned ? a->dims->rope : NULL);
    if (bf16)
        block_pair(&a->block);
}

/* Keys and values of all positions. */
SL_INLINE void pack_keys(struct attend *a, bool bf16, bool backward, struct sl_src qkv)
{
    uint32_t hd = a->dims->head_dim, heads = a->dims->n_heads, kv = a->dims->n_kv_heads;
    struct sl_src k = sl_src_at(qkv, (size_t)(heads + a->kv_head) * hd), v = sl_src_at(k, (size_t)kv * hd);
    for (uint32_t j = 0; j < a->padded; j += VL) {
        load(a, bf16, k, a->ld, j, true);
        block_transposed(&a->block, bf16, a->units, j, a->m.k_t);
        if (backward)
            block_panels(&a->block, bf16, j, a->padded, a->m.k_p);
        load(a, bf16, v, a->ld, j, false);
        if (backward)
            block_transposed(&a->block, bf16, a->units, j, a->m.v_t);
        else
            block_panels(&a->block, bf16, j, a->padded, a->m.v_p);
    }
}

/* ATTEND_ROWS rows from `first` on, as the broadcast operand and, where asked for, as panels. */
SL_INLINE void pack_tile(struct attend *a, bool bf16, struct sl_src head, uint32_t ld, uint32_t first,
    bool turned, float *by_rows, float *panels)
{
    uint32_t end = (a->len + MM_ROWS - 1) / MM_ROWS * MM_ROWS; /* whole groups, zero behind the sequence */
    for (uint32_t i = 0; i < ATTEND_ROWS && first + i < end; i += VL) {
        load(a, bf16, head, ld, first + i, turned);
        block_by_rows(&a->block, bf16, i, by_rows);
        if (panels)
            block_panels(&a->block, bf16, i, ATTEND_ROWS, panels);
    }
}

/* Row's scores [n vectors] of which `seen` keys count: probabilities under the running
 * maximum, which is of scores times scale2. */
SL_INLINE void softmax_row(
    float *s, uint32_t vectors, uint32_t seen, float scale2, bool bf16, float *p, float *max, float *sum)
{
    uint32_t whole = seen / VL;
    if (whole < vectors) {
        vi lanes = v_lanes();
        for (uint32_t v = whole; v < vectors; v++)
            v_store(s + v * VL,
                v_select(lanes < (int)seen - (int)(v * VL), v_load(s + v * VL, VL), v_set(-INFINITY)), VL);
    }
    vf top = v_load(s, VL);
    for (uint32_t v = 1; v < vectors; v++)
        top = v_max(top, v_load(s + v * VL, VL));
    float high = v_highest(top) * scale2;
    if (high > *max) {
        *sum *= exp2f(*max - high);
        *max = high;
    }
    vf total = {0};
    for (uint32_t v = 0; v < vectors; v++) {
        vf e = v_exp2(v_load(s + v * VL, VL) * scale2 - *max, bf16);
        total += e;
        v_put(p, bf16, (size_t)v * VL, e, VL);
    }
    *sum += v_sum(total);
}

/* Eight query rows from `first` on (row `at` of the packed tile) against all keys that they see. */
SL_INLINE void forward_group(
    struct attend *a, bool bf16, uint32_t first, uint32_t at, struct sl_dst out, float *lse)
{
    struct attend_memory *m = &a->m;
    uint32_t per = bf16 ? 2 : 1; /* keys per unit */
    float max[MM_ROWS], sum[MM_ROWS];
    for (uint32_t i = 0; i < MM_ROWS; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    for (uint32_t j = 0; j < first + MM_ROWS; j += ATTEND_CHUNK) {
        uint32_t keys = first + MM_ROWS - j < ATTEND_CHUNK ? first + MM_ROWS - j : ATTEND_CHUNK;
        uint32_t vectors = (keys + VL - 1) / VL;
        float *p = bf16 ? m->p : m->s;
        mm(bf16, false, false, vectors, a->units, m->q + (size_t)at * a->width, a->width,
            m->k_t + (size_t)j * a->units, (size_t)a->units * VL, m->s, ATTEND_LD_CHUNK);
        for (uint32_t i = 0; i < MM_ROWS; i++) {
            uint32_t seen = first + i + 1 - j < keys ? first + i + 1 - j : keys;
            float before = max[i];
            softmax_row(m->s + i * ATTEND_LD_CHUNK, vectors, seen, a->scale2, bf16,
                p + (size_t)i * (ATTEND_LD_CHUNK / per), &max[i], &sum[i]);
            if (!j || before == max[i])
                continue;
            float *o = m->out + (size_t)i * a->width, factor = exp2f(before - max[i]);
            for (uint32_t e = 0; e < a->width; e += VL)
                v_store(o + e, v_load(o + e, VL) * factor, VL);
        }
        size_t panel = (size_t)a->padded / per * VL;
        const float *v = m->v_p + (size_t)j / per * VL;
        if (j)
            mm(bf16, false, true, a->width / VL, keys / per, p, ATTEND_LD_CHUNK / per, v, panel, m->out,
                a->width);
        else
            mm(bf16, false, false, a->width / VL, keys / per, p, ATTEND_LD_CHUNK / per, v, panel, m->out,
                a->width);
    }
    uint32_t hd = a->dims->head_dim;
    for (uint32_t i = 0; i < MM_ROWS && first + i < a->len; i++) {
        float inverse = 1.0f / sum[i];
        for (uint32_t e = 0; e < hd; e += VL) {
            size_t to = (size_t)(first + i) * a->ld_out + e;
            v_put(out.p, out.precision == SL_PRECISION_BF16, to,
                v_load(m->out + (size_t)i * a->width + e, VL) * inverse, hd - e < VL ? hd - e : VL);
            fetch_next_to_write(out, to + hd);
        }
        lse[(size_t)(first + i) * a->dims->n_heads] = max[i] / v_log2e + logf(sum[i]);
    }
}

SL_INLINE void forward(const struct sl_attention *dims, bool bf16, struct sl_src qkv, uint32_t len,
    uint32_t kv_head, struct sl_dst out, float *lse, float *scratch)
{
    struct attend a = prepare(dims, len, kv_head, bf16, false, scratch);
    uint32_t group = dims->n_heads / dims->n_kv_heads, hd = dims->head_dim;
    pack_keys(&a, bf16, false, qkv);
    for (uint32_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        for (uint32_t i = 0; i < len; i += ATTEND_ROWS) {
            pack_tile(&a, bf16, sl_src_at(qkv, (size_t)h * hd), a.ld, i, true, a.m.q, NULL);
            for (uint32_t g = 0; g < ATTEND_ROWS && i + g < len; g += MM_ROWS)
                forward_group(&a, bf16, i + g, g, sl_dst_at(out, (size_t)h * hd), lse + h);
        }
    }
}

/* A tile of the backward pass: query rows [row0, row0 + rows) of head h (rows: up to whole groups, delta and
 * lse zero beyond the sequence), keys from key0 on. */
struct tile {
    uint32_t row0, rows, key0;
    float delta[ATTEND_ROWS], lse2[ATTEND_ROWS]; /* lse2: in powers of 2 */
};

/* Two rows' scores and gradients of probabilities become probabilities and gradients of scores, stored as
 * the operands that the products want: by rows, and in pairs of rows in bf16. */
SL_INLINE void gradient_rows(
    struct attend *a, bool bf16, const struct tile *t, uint32_t row, uint32_t vectors)
{
    struct attend_memory *m = &a->m;
    uint32_t in_group = row % MM_ROWS;
    vi lanes = v_lanes();
    for (uint32_t v = 0; v < vectors; v++) {
        vf p[2], ds[2];
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t at = t->row0 + row + i;
            int seen = at < a->len ? (int)(at + 1) - (int)(t->key0 + v * VL) : 0;
            size_t from = (size_t)(in_group + i) * ATTEND_LD_KEYS + v * VL;
            p[i] = v_exp2(v_load(m->s + from, VL) * a->scale2 - t->lse2[row + i], bf16);
            if (seen < VL)
                p[i] = v_select(lanes < seen, p[i], (vf){0});
            ds[i] = p[i] * (v_load(m->dp + from, VL) - t->delta[row + i]) * a->scale;
            size_t to = (size_t)(row + i) * ATTEND_LD_KEYS + v * VL;
            if (bf16) {
                v_store_bf16((sl_bf16 *)m->ds + to, ds[i], VL);
            } else {
                v_store(m->p + to, p[i], VL);
                v_store(m->ds + to, ds[i], VL);
            }
        }
        if (!bf16)
            continue;
        size_t to = (size_t)row / 2 * ATTEND_LD_KEYS + v * VL;
        vu pair = __builtin_convertvector(v_round(p[0]), vu) | __builtin_convertvector(v_round(p[1]), vu)
                                                                   << 16;
        v_store(m->p_pairs + to, (vf)pair, VL);
        pair = __builtin_convertvector(v_round(ds[0]), vu) | __builtin_convertvector(v_round(ds[1]), vu)
                                                                 << 16;
        v_store(m->ds_pairs + to, (vf)pair, VL);
    }
}

/* Probabilities, gradients of scores and the queries' gradient of a tile. */
SL_INLINE void tile_rows(struct attend *a, bool bf16, const struct tile *t)
{
    struct attend_memory *m = &a->m;
    uint32_t per = bf16 ? 2 : 1;
    for (uint32_t g = 0; g < t->rows; g += MM_ROWS) {
        if (t->row0 + g + MM_ROWS <= t->key0)
            continue;
        uint32_t keys = t->row0 + g + MM_ROWS - t->key0;
        keys = keys < ATTEND_KEYS ? keys : ATTEND_KEYS;
        uint32_t vectors = (keys + VL - 1) / VL;
        size_t at = (size_t)g * a->width, panel = (size_t)a->units * VL, key = (size_t)t->key0 * a->units;
        mm(bf16, false, false, vectors, a->units, m->q + at, a->width, m->k_t + key, panel, m->s,
            ATTEND_LD_KEYS);
        mm(bf16, false, false, vectors, a->units, m->g + at, a->width, m->v_t + key, panel, m->dp,
            ATTEND_LD_KEYS);
        for (uint32_t i = 0; i < MM_ROWS; i += 2)
            gradient_rows(a, bf16, t, g + i, vectors);
        mm(bf16, false, true, a->width / VL, keys / per, m->ds + (size_t)g * ATTEND_LD_KEYS / per,
            ATTEND_LD_KEYS / per, m->k_p + (size_t)t->key0 / per * VL, (size_t)a->padded / per * VL,
            m->out + at, a->width);
    }
}

/* What a tile adds to the gradients of its keys and values. */
SL_INLINE void tile_keys(struct attend *a, bool bf16, const struct tile *t)
{
    struct attend_memory *m = &a->m;
    uint32_t per = bf16 ? 2 : 1;
    const float *p = bf16 ? m->p_pairs : m->p, *ds = bf16 ? m->ds_pairs : m->ds;
    for (uint32_t j = 0; j < ATTEND_KEYS && t->key0 + j < t->row0 + t->rows; j += MM_ROWS) {
        uint32_t key = t->key0 + j, from = key > t->row0 ? key - t->row0 : 0; /* rows before see none of it */
        uint32_t depth = (t->rows - from) / per;
        size_t at = (size_t)from / per * ATTEND_LD_KEYS + j, row = (size_t)from / per * VL,
               panel = (size_t)ATTEND_ROWS / per * VL, to = (size_t)key * a->width;
        mm(bf16, true, true, a->width / VL, depth, p + at, ATTEND_LD_KEYS, m->g_p + row, panel, m->dv + to,
            a->width);
        mm(bf16, true, true, a->width / VL, depth, ds + at, ATTEND_LD_KEYS, m->q_p + row, panel, m->dk + to,
            a->width);
    }
}

/* delta: the dot product of output and its gradient = the sum over keys of p·dp (appendix B of the paper). */
static void tile_statistics(
    const struct attend *a, struct sl_src out, struct sl_src dout, const float *lse, struct tile *t)
{
    uint32_t hd = a->dims->head_dim;
    memset(t->delta, 0, sizeof t->delta);
    memset(t->lse2, 0, sizeof t->lse2);
    for (uint32_t i = 0; i < t->rows && t->row0 + i < a->len; i++) {
        size_t at = (size_t)(t->row0 + i) * a->ld_out;
        vf sum = {0};
        for (uint32_t e = 0; e < hd; e += VL) {
            uint32_t n = hd - e < VL ? hd - e : VL;
            fetch_next(out, at + e + hd);
            fetch_next(dout, at + e + hd);
            sum += v_get(out.p, out.precision == SL_PRECISION_BF16, at + e, n) *
                   v_get(dout.p, dout.precision == SL_PRECISION_BF16, at + e, n);
        }
        t->delta[i] = v_sum(sum);
        t->lse2[i] = lse[(size_t)(t->row0 + i) * a->dims->n_heads] * v_log2e;
    }
}

SL_INLINE void backward(const struct sl_attention *dims, bool bf16, struct sl_src qkv, struct sl_src out,
    const float *lse, struct sl_src dout, uint32_t len, uint32_t kv_head, struct sl_dst dqkv, float *scratch)
{
    struct attend a = prepare(dims, len, kv_head, bf16, true, scratch);
    uint32_t group = dims->n_heads / dims->n_kv_heads, hd = dims->head_dim;
    size_t k_at = (size_t)(dims->n_heads + kv_head) * hd, v_at = k_at + (size_t)dims->n_kv_heads * hd;
    pack_keys(&a, bf16, true, qkv);
    memset(a.m.dk, 0, (size_t)a.padded * a.width * sizeof *a.m.dk);
    memset(a.m.dv, 0, (size_t)a.padded * a.width * sizeof *a.m.dv);
    for (uint32_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        size_t head = (size_t)h * hd;
        for (uint32_t i = 0; i < len; i += ATTEND_ROWS) {
            struct tile t = {.row0 = i};
            t.rows = len - i < ATTEND_ROWS ? (len - i + MM_ROWS - 1) / MM_ROWS * MM_ROWS : ATTEND_ROWS;
            tile_statistics(&a, sl_src_at(out, head), sl_src_at(dout, head), lse + h, &t);
            pack_tile(&a, bf16, sl_src_at(qkv, head), a.ld, i, true, a.m.q, a.m.q_p);
            pack_tile(&a, bf16, sl_src_at(dout, head), a.ld_out, i, false, a.m.g, a.m.g_p);
            memset(a.m.out, 0, (size_t)ATTEND_ROWS * a.width * sizeof *a.m.out);
            for (t.key0 = 0; t.key0 < i + t.rows; t.key0 += ATTEND_KEYS) {
                tile_rows(&a, bf16, &t);
                tile_keys(&a, bf16, &t);
            }
            rows_store(a.m.out, a.width, len - i < ATTEND_ROWS ? len - i : ATTEND_ROWS, sl_dst_at(dqkv, head),
                a.ld, hd, i, dims->rope);
        }
    }
    rows_store(a.m.dk, a.width, len, sl_dst_at(dqkv, k_at), a.ld, hd, 0, dims->rope);
    rows_store(a.m.dv, a.width, len, sl_dst_at(dqkv, v_at), a.ld, hd, 0, NULL);
}

/* bf16 products only of bf16 values, and where the CPU has them. */
static bool in_bf16(struct sl_src qkv)
{
#ifdef __AVX512BF16__
    return qkv.precision == SL_PRECISION_BF16;
#else
    return false;
#endif
}

static void attend_forward(const struct sl_attention *dims, struct sl_src qkv, uint32_t len, uint32_t kv_head,
    struct sl_dst out, float *lse, float *scratch)
{
    if (in_bf16(qkv))
        forward(dims, true, qkv, len, kv_head, out, lse, scratch);
    else
        forward(dims, false, qkv, len, kv_head, out, lse, scratch);
}

static void attend_backward(const struct sl_attention *dims, struct sl_src qkv, struct sl_src out,
    const float *lse, struct sl_src dout, uint32_t len, uint32_t kv_head, struct sl_dst dqkv, float *scratch)
{
    if (in_bf16(qkv))
        backward(dims, true, qkv, out, lse, dout, len, kv_head, dqkv, scratch);
    else
        backward(dims, false, qkv, out, lse, dout, len, kv_head, dqkv, scratch);
}

extern const struct sl_attention_kernels SL_ISA_NAME(sl_attention_kernels);
const struct sl_attention_kernels SL_ISA_NAME(sl_attention_kernels) = {
    .forward = attend_forward,
    .backward = attend_backward,
};
