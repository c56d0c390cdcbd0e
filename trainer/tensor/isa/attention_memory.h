/* Where one thread's attention keeps its tiles: the layout of its scratch. Units are explained in
 * attention_pack.h; a unit is a float's size, and bf16 needs no more of them than f32. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    ATTEND_ROWS = 64,   /* query rows packed at a time */
    ATTEND_CHUNK = 512, /* keys whose scores are at hand in the forward pass */
    ATTEND_KEYS = 128,  /* keys of a tile of the backward pass */
    /* Floats from row to row of these: rows a power of two apart would share a few sets of the cache. */
    ATTEND_LD_CHUNK = ATTEND_CHUNK + 16,
    ATTEND_LD_KEYS = ATTEND_KEYS + 16,
    ATTEND_GROUP = 8,  /* query rows computed together */
    ATTEND_WIDEST = 16 /* floats of the widest vector */
};

struct attend_memory {
    /* One pair of key and value heads, all positions. */
    float *k_t, *v_t; /* transposed */
    float *k_p, *v_p; /* panels over the head */
    float *dk, *dv;   /* [positions, width] */
    /* A tile of query rows. */
    float *q, *g;     /* by rows: queries, gradients of the output */
    float *q_p, *g_p; /* panels */
    float *out;       /* [rows, width]: outputs, or the queries' gradient */
    /* Scores: of a group in f32; probabilities and gradients of scores as operands. */
    float *s, *dp;
    float *p, *ds; /* by rows */
    float *p_pairs, *ds_pairs;
    float *block, *block_pairs;
};

static inline uint32_t attend_padded(uint32_t len)
{
    return (len + ATTEND_ROWS - 1) / ATTEND_ROWS * ATTEND_ROWS;
}

/* Returns the floats used; base may be NULL. width: head_dim up to whole vectors. */
static inline size_t attend_carve(
    float *base, uint32_t len, uint32_t width, int backward, struct attend_memory *m)
{
    size_t used = 0, all = (size_t)attend_padded(len) * width, tile = (size_t)ATTEND_ROWS * width;
    size_t scores = ATTEND_GROUP * (size_t)(backward ? ATTEND_LD_KEYS : ATTEND_LD_CHUNK);
    size_t square = (size_t)ATTEND_ROWS * ATTEND_LD_KEYS;
    size_t back = backward ? 1 : 0;
    struct {
        float **at;
        size_t n;
    } parts[] = {{&m->k_t, all}, {&m->v_p, back ? 0 : all}, {&m->v_t, back * all}, {&m->k_p, back * all},
        {&m->dk, back * all}, {&m->dv, back * all}, {&m->q, tile}, {&m->g, back * tile},
        {&m->q_p, back * tile}, {&m->g_p, back * tile}, {&m->out, tile}, {&m->s, scores},
        {&m->dp, back * scores}, {&m->p, back ? square : scores}, {&m->ds, back * square},
        {&m->p_pairs, back * square / 2}, {&m->ds_pairs, back * square / 2},
        {&m->block, (size_t)ATTEND_WIDEST * width}, {&m->block_pairs, (size_t)ATTEND_WIDEST * width}};
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = base ? base + used : NULL;
        used += (parts[i].n + ATTEND_WIDEST - 1) / ATTEND_WIDEST * ATTEND_WIDEST;
    }
    return used;
}
