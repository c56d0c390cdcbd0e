/* What a half keeps: recomputation against keeping everything, and the stated size of the arena. */
#include "tests/model/fixture.h"

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

/* docs/architecture.md, "What a half keeps": bytes of one block's activations without its input, for `rows`
 * rows. */
static size_t block_bytes(const struct sl_model_config *m, size_t rows, uint32_t rank)
{
    size_t q = m->n_heads * m->head_dim, qkv = q + 2 * (size_t)m->n_kv_heads * m->head_dim, d = m->d_model,
           ff = m->d_ff;
    bool llama = m->family == SL_FAMILY_LLAMA;
    size_t n = 3 * pad(rows * d * 4); /* norm1, x2, norm2 */
    n += pad(rows * qkv * 4) + pad(rows * q * 4) + pad(rows * m->n_heads * 4);
    n += pad(rows * (llama ? 2 : 1) * ff * 4) + pad(rows * ff * 4);
    n += 4 * pad(rows * 4); /* means and deviations of both norms */
    n += pad(rows * (llama ? 3 : 1) * rank * 4) + pad(rows * rank * 4) +
         pad(rows * (llama ? 2 : 1) * rank * 4) + pad(rows * rank * 4);
    return n;
}

static void arena_bytes__a_block_costs_what_is_stated(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        struct sl_model_config m = *families[f];
        struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = fixture_all_targets(m.family)};
        struct sl_half_config one = {.last = 1, .max_rows = 131, .max_seqs = 5};
        size_t index = sizeof(uint32_t), x = pad(131 * m.d_model * 4),
               block = block_bytes(&m, 131, lora.rank);
        m.n_layers = 40; /* no head, and enough blocks for the index to be a multiple of a cache line */
        one.first = 1;
        one.last = 17;
        struct sl_half_config two = one, less = one, infer = one, thrift = one;
        two.last = 33;
        size_t layers16 = sl_half_arena_bytes(&m, &lora, &two) - sl_half_arena_bytes(&m, &lora, &one);
        size_t pointers = layers16 - 16 * (x + block) - 16 * index;
        assert_int_equal(pointers % 16, 0); /* the block's table of pointers alone is left */
        assert_in_range(pointers / 16, 1, 256);
        infer.inference = true;
        less.recompute = thrift.recompute = true;
        assert_int_equal(
            sl_half_arena_bytes(&m, &lora, &one) - sl_half_arena_bytes(&m, &lora, &less), 15 * block);
        thrift.last = 33;
        assert_int_equal(sl_half_arena_bytes(&m, &lora, &thrift) - sl_half_arena_bytes(&m, &lora, &less),
            16 * x + 16 * index + pointers);
        assert_true(sl_half_arena_bytes(&m, &lora, &infer) < sl_half_arena_bytes(&m, &lora, &less));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_backward__recomputing_equals_keeping),
        cmocka_unit_test(arena_bytes__a_block_costs_what_is_stated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
