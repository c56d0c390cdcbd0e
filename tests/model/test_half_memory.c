/* What a half keeps: recomputation against keeping everything, and the stated size of the arena. */
#include "tests/model/fixture.h"

#include "trainer/tensor/lora_gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = FIXTURE_LAYERS, D = FIXTURE_D, SEQS = 3, MAX_ROWS = 200 };

static const struct sl_model_config *const families[] = {&fixture_llama, &fixture_gpt2};
static const uint32_t lens[SEQS] = {61, 7, 129}, cuts[SEQS] = {0, 0, 2};

struct side {
    struct sl_model *model;
    struct sl_adapter *adapter;
    struct sl_half *half;
    struct sl_seq seqs[SEQS];
    float dx[MAX_ROWS * D];
};

static struct side *side_new(const struct sl_model_config *config, uint32_t targets, bool recompute)
{
    static uint32_t ids[MAX_ROWS], next[MAX_ROWS];
    static float x[MAX_ROWS * D];
    struct side *s = calloc(1, sizeof *s);
    struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = targets, .seed = 7};
    struct sl_half_config c = {
        .last = LAYERS, .max_rows = MAX_ROWS, .max_seqs = SEQS, .full = true, .recompute = recompute};
    fixture_ids(3, "ids", FIXTURE_VOCAB, MAX_ROWS, ids);
    fixture_ids(3, "targets", FIXTURE_VOCAB, MAX_ROWS, next);
    for (int i = 0; i < MAX_ROWS * D; i++)
        x[i] = (float)sin(i);
    s->model = fixture_model(config, 1);
    s->adapter = fixture_adapter(config, &lora, 0, LAYERS);
    assert_int_equal(sl_model_enable_grads(s->model), 0);
    assert_int_equal(sl_half_create(s->model, s->adapter, &c, &s->half), 0);
    for (uint32_t i = 0, row = 0; i < SEQS; row += lens[i++])
        s->seqs[i] = (struct sl_seq){.len = lens[i],
            .enter = cuts[i],
            .ids = cuts[i] ? NULL : ids + row,
            .x = cuts[i] ? x + (size_t)row * D : NULL,
            .dx = s->dx + (size_t)row * D,
            .targets = next + row};
    assert_int_equal(sl_half_forward(s->half, s->seqs, SEQS, NULL), 0);
    assert_int_equal(sl_half_backward(s->half, s->seqs, SEQS, NULL), 0);
    return s;
}

static void side_free(struct side *s)
{
    sl_half_free(s->half);
    sl_adapter_free(s->adapter);
    sl_model_free(s->model);
    free(s);
}

/* Ragged cuts, adapters on all targets or on the first alone, gradients of everything: bit for bit. */
static void half_backward__recomputing_equals_keeping(void **state)
{
    for (unsigned f = 0; f < 2; f++)
        for (unsigned t = 0; t < 2; t++) {
            uint32_t all = fixture_all_targets(families[f]->family), targets = t ? all & -all : all;
            struct side *kept = side_new(families[f], targets, false),
                        *again = side_new(families[f], targets, true);
            for (uint32_t i = 0; i < SEQS; i++)
                assert_true(kept->seqs[i].nll == again->seqs[i].nll);
            assert_memory_equal(kept->dx, again->dx, sizeof kept->dx);
            for (uint32_t l = 0; l < LAYERS; l++) {
                struct sl_block p = sl_adapter_block(kept->adapter, l),
                                q = sl_adapter_block(again->adapter, l);
                assert_memory_equal(p.grad, q.grad, p.n * sizeof(float));
            }
            for (uint32_t i = 0; i < sl_model_param_count(kept->model); i++) {
                struct sl_param *p = sl_model_param(kept->model, i), *q = sl_model_param(again->model, i);
                assert_memory_equal(p->grad, q->grad, p->n * sizeof(float));
            }
            side_free(kept);
            side_free(again);
        }
}

static size_t pad(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* The factors of one adapter as products read them. */
static size_t lora_bytes(
    const struct sl_model_config *m, enum sl_precision precision, uint32_t rank, bool all)
{
    static const struct {
        uint32_t first, n;
    } slots[2][4] = {{{SL_Q_PROJ, 3}, {SL_O_PROJ, 1}, {SL_GATE_PROJ, 2}, {SL_DOWN_PROJ, 1}},
        {{SL_C_ATTN, 1}, {SL_ATTN_C_PROJ, 1}, {SL_C_FC, 1}, {SL_MLP_C_PROJ, 1}}};
    size_t bytes = 0;
    for (unsigned s = 0; s < (all ? 4 : 1); s++) {
        uint32_t n = all ? slots[m->family == SL_FAMILY_GPT2][s].n : 1, col = 0;
        struct sl_lora_shape shape = {.precision = precision, .rank = rank, .n = n};
        for (uint32_t t = 0; t < n; t++) {
            sl_target_dims(m, slots[m->family == SL_FAMILY_GPT2][s].first + t, &shape.in, &shape.width[t]);
            shape.col[t] = col;
            col += shape.width[t];
        }
        bytes += pad(sl_lora_packed_size(&shape));
    }
    return bytes;
}

struct kept {
    size_t input, rest; /* bytes of one block */
    size_t shared;      /* of what all blocks share because no gradient needs it */
};

/* docs/architecture.md, "What a half keeps", for `rows` rows. */
static struct kept stated(
    const struct sl_model_config *m, enum sl_precision precision, size_t rows, uint32_t rank, bool all)
{
    size_t q = m->n_heads * m->head_dim, qkv = q + 2 * (size_t)m->n_kv_heads * m->head_dim, d = m->d_model,
           ff = m->d_ff;
    size_t e = sl_precision_size(precision), padded = (rows + 15) / 16 * 16;
    bool llama = m->family == SL_FAMILY_LLAMA;
    size_t targets = !all ? 1 : llama ? 7 : 4, up = (llama ? 2 : 1) * ff;
    size_t norm1 = pad(padded * d * e), norm2 = norm1, act = pad(padded * ff * e);
    struct kept k = {.input = pad(padded * d * 4)};
    k.rest = norm1 + pad(padded * qkv * e) + pad(padded * q * e) + pad(padded * d * 4) + pad(padded * up * e);
    k.rest += pad(rows * m->n_heads * 4) + (llama ? 2 : 4) * pad(rows * 4) + padded * rank * targets * 4;
    k.rest += lora_bytes(m, precision, rank, all);
    if (all)
        k.rest += norm2 + act;
    else
        k.shared = norm2 + act;
    return k;
}

static size_t arena(const struct sl_model_config *m, const struct sl_lora_config *lora,
    struct sl_half_config c, uint32_t blocks, bool recompute, bool inference)
{
    c.first = 1;
    c.last = 1 + blocks;
    c.recompute = recompute;
    c.inference = inference;
    return sl_half_arena_bytes(m, lora, &c);
}

/* By differences between halves of 16 and of 32 blocks, which leave only what a block takes. */
static void arena_bytes__a_block_costs_what_is_stated(void **state)
{
    for (unsigned i = 0; i < 8; i++) {
        bool all = i & 2;
        struct sl_model_config m = *families[i & 1];
        uint32_t bits = fixture_all_targets(m.family);
        struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = all ? bits : bits & -bits};
        struct sl_half_config c = {
            .max_rows = 131, .max_seqs = 5, .precision = i & 4 ? SL_PRECISION_BF16 : SL_PRECISION_F32};
        m.n_layers = 40; /* none of the halves has the head */
        struct kept k = stated(&m, c.precision, 131, lora.rank, all);
        size_t infer = arena(&m, &lora, c, 32, false, true) - arena(&m, &lora, c, 16, false, true);
        size_t index = infer / 16; /* a block's pointers, and its number of rows */
        assert_in_range(index, 1, 512);
        assert_int_equal(arena(&m, &lora, c, 32, false, false) - arena(&m, &lora, c, 16, false, false),
            16 * (k.input + k.rest + index));
        assert_int_equal(arena(&m, &lora, c, 32, true, false) - arena(&m, &lora, c, 16, true, false),
            16 * (k.input + index));
        assert_int_equal(
            arena(&m, &lora, c, 16, false, false) - arena(&m, &lora, c, 16, true, false), 15 * k.rest);
    }
}

/* The whole of a small half, array by array. */
static void arena_bytes__the_rest_costs_what_is_stated(void **state)
{
    struct sl_model_config m = fixture_llama;
    struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = 1u << SL_Q_PROJ | 1u << SL_V_PROJ};
    struct sl_half_config c = {.first = 1, .last = 2, .max_rows = 32, .max_seqs = 16, .max_adapters = 8};
    size_t d = m.d_model, q = m.n_heads * m.head_dim, qkv = q + 2 * m.n_kv_heads * m.head_dim, ff = m.d_ff,
           rows = 32;
    size_t infer, train, mlp = pad(rows * 2 * ff * 4) + pad(rows * ff * 4),
                         att = pad(rows * qkv * 4) + pad(rows * q * 4);
    c.inference = true;
    infer = sl_half_arena_bytes(&m, &lora, &c);
    c.inference = false;
    train = sl_half_arena_bytes(&m, &lora, &c);
    /* dx, du of two targets, and the larger of the gradients within the MLP and within attention */
    assert_int_equal(train - infer, pad(rows * d * 4) + pad(rows * 2 * 4 * 4) + (mlp > att ? mlp : att));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_backward__recomputing_equals_keeping),
        cmocka_unit_test(arena_bytes__the_rest_costs_what_is_stated),
        cmocka_unit_test(arena_bytes__a_block_costs_what_is_stated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
