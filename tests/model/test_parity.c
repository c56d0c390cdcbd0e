/* Losses, logits, gradients and twenty steps of training against PyTorch's (rules L6), from golden files that
 * tests/model/reference.py wrote. */
#include "tests/model/fixture.h"
#include "tests/tensor/golden.h"
#include "trainer/model/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEED = 11, RANK = 4, STEPS = 20, MAX_ROWS = 200, MAX_SEQS = 4, VOCAB = 61, STEP_SEQS = 2 };
static const uint32_t step_lens[STEP_SEQS] = {7, 61};
/* L6's tolerances. */
static const double loss_tolerance = 1e-6, logits_tolerance = 1e-5, grad_tolerance = 1e-5,
                    step_tolerance = 1e-5;

#define LLAMA                                                                                                \
    .family = SL_FAMILY_LLAMA, .rope_theta = 10000, .norm_eps = 1e-5f, .vocab = VOCAB, .max_positions = 160
#define GPT2 .family = SL_FAMILY_GPT2, .norm_eps = 1e-5f, .vocab = VOCAB, .max_positions = 160

/* The same table is in reference.py. */
static const struct parity_case {
    const char *name;
    struct sl_model_config config;
    uint32_t n_seqs, lens[MAX_SEQS], targets;
} cases[] = {
    {"llama_8_4_untied",
        {LLAMA, .n_layers = 2, .d_model = 56, .n_heads = 8, .n_kv_heads = 4, .head_dim = 14, .d_ff = 80}, 4,
        {1, 7, 61, 129}, 0x7F},
    {"llama_6_2_tied",
        {LLAMA, .n_layers = 3, .d_model = 48, .n_heads = 6, .n_kv_heads = 2, .head_dim = 16, .d_ff = 64,
            .tied_embeddings = true},
        2, {129, 7}, 0x7F},
    {"llama_wide_heads",
        {LLAMA, .n_layers = 2, .d_model = 64, .n_heads = 2, .n_kv_heads = 1, .head_dim = 64, .d_ff = 96,
            .tied_embeddings = true},
        2, {61, 1}, 1u << SL_Q_PROJ | 1u << SL_V_PROJ | 1u << SL_DOWN_PROJ},
    {"gpt2_tied",
        {GPT2, .n_layers = 2, .d_model = 56, .n_heads = 4, .n_kv_heads = 4, .head_dim = 14, .d_ff = 224,
            .tied_embeddings = true},
        4, {1, 7, 61, 129}, 0x780},
    {"gpt2_untied",
        {GPT2, .n_layers = 2, .d_model = 64, .n_heads = 1, .n_kv_heads = 1, .head_dim = 64, .d_ff = 256}, 2,
        {61, 7}, 1u << SL_C_ATTN | 1u << SL_MLP_C_PROJ},
};

/* The worst seen of each kind, printed: the margin below the tolerances. */
struct worst {
    double loss, logits, grad, steps;
};

static void note(double *worst, double value, double limit, const char *what)
{
    if (!(value <= limit))
        fail_msg("%s: %g is above %g", what, value, limit);
    if (value > *worst)
        *worst = value;
}

struct run {
    const struct parity_case *c;
    const struct golden *golden;
    const char *kind; /* "full" or "lora" */
    struct sl_model *model;
    struct sl_adapter *adapter; /* NULL for full */
    struct sl_half *half;
};

static void run_open(struct run *r, const struct parity_case *c, const struct golden *golden, bool full)
{
    *r = (struct run){.c = c, .golden = golden, .kind = full ? "full" : "lora"};
    struct sl_lora_config lora = {.rank = RANK, .alpha = 8, .targets = c->targets, .seed = SEED};
    r->model = fixture_model(&c->config, SEED);
    if (full)
        assert_int_equal(sl_model_enable_grads(r->model), 0);
    else
        r->adapter = fixture_adapter(&c->config, &lora, 0, c->config.n_layers);
    struct sl_half_config half = {
        .last = c->config.n_layers, .max_rows = MAX_ROWS, .max_seqs = MAX_SEQS, .full = full};
    assert_int_equal(sl_half_create(r->model, r->adapter, &half, &r->half), 0);
}

static void run_close(struct run *r)
{
    sl_half_free(r->half);
    sl_adapter_free(r->adapter);
    sl_model_free(r->model);
}

struct batch {
    uint32_t n, rows, ids[MAX_ROWS], targets[MAX_ROWS];
    struct sl_seq seqs[MAX_SEQS];
};

static void batch_make(struct batch *b, const char *name, const uint32_t *lens, uint32_t n)
{
    char targets[64];
    snprintf(targets, sizeof targets, "%s.targets", name);
    *b = (struct batch){.n = n};
    for (uint32_t i = 0; i < n; i++) {
        b->seqs[i] =
            (struct sl_seq){.len = lens[i], .ids = b->ids + b->rows, .targets = b->targets + b->rows};
        b->rows += lens[i];
    }
    fixture_ids(SEED, name, VOCAB, b->rows, b->ids);
    fixture_ids(SEED, targets, VOCAB, b->rows, b->targets);
}

static void check_losses(struct run *r, struct batch *b, struct worst *worst)
{
    char name[64];
    double nll[MAX_SEQS];
    snprintf(name, sizeof name, "loss.%s", r->kind);
    golden_get(r->golden, name, b->n, sizeof *nll, nll);
    for (uint32_t i = 0; i < b->n; i++)
        note(&worst->loss, fabs(b->seqs[i].nll / nll[i] - 1), loss_tolerance, name);
}

static void check_logits(struct run *r, struct batch *b, struct worst *worst)
{
    char name[64];
    double max;
    static float ours[MAX_ROWS * VOCAB], theirs[4 * VOCAB];
    const uint32_t rows[] = {0, 1, b->rows / 2, b->rows - 1};
    snprintf(name, sizeof name, "max.%s", r->kind);
    golden_get(r->golden, name, 1, sizeof max, &max);
    snprintf(name, sizeof name, "logits.%s", r->kind);
    golden_get(r->golden, name, 4 * VOCAB, sizeof *theirs, theirs);
    assert_int_equal(sl_half_logits(r->half, ours), 0);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < VOCAB; j++)
            note(&worst->logits, fabs(ours[rows[i] * VOCAB + j] - theirs[i * VOCAB + j]) / max,
                logits_tolerance, name);
}

static void check_gradient(
    struct run *r, const char *tensor, const float *ours, size_t n, struct worst *worst)
{
    char name[128];
    float *theirs = malloc(n * sizeof *theirs);
    snprintf(name, sizeof name, "grad.%s.%s", r->kind, tensor);
    golden_get(r->golden, name, n, sizeof *theirs, theirs);
    note(&worst->grad, fixture_distance(ours, theirs, n), grad_tolerance, name);
    free(theirs);
}

static void check_gradients(struct run *r, struct worst *worst)
{
    const struct sl_model_config *config = &r->c->config;
    for (uint32_t i = 0; !r->adapter && i < sl_model_param_count(r->model); i++) {
        struct sl_param *p = sl_model_param(r->model, i);
        check_gradient(r, p->name, p->grad, p->n, worst);
    }
    for (uint32_t l = 0; r->adapter && l < config->n_layers; l++) {
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
            char name[32];
            uint32_t in, out;
            if (!(r->c->targets >> t & 1))
                continue;
            sl_target_dims(config, t, &in, &out);
            snprintf(name, sizeof name, "A.%u.%u", l, t);
            check_gradient(r, name, sl_adapter_grad_a(r->adapter, l, t), (size_t)RANK * in, worst);
            snprintf(name, sizeof name, "B.%u.%u", l, t);
            check_gradient(r, name, sl_adapter_grad_b(r->adapter, l, t), (size_t)RANK * out, worst);
        }
    }
}

/* What is trained: the adapter's blocks, or the base's tensors. */
static uint32_t n_vectors(struct run *r)
{
    return r->adapter ? r->c->config.n_layers : sl_model_param_count(r->model);
}

static struct sl_block vector(struct run *r, uint32_t i)
{
    if (r->adapter)
        return sl_adapter_block(r->adapter, i);
    struct sl_param *p = sl_model_param(r->model, i);
    return (struct sl_block){p->data, p->grad, p->n};
}

static void check_training(const struct parity_case *c, const struct golden *golden, bool full,
    enum sl_optim_kind kind, struct worst *worst)
{
    struct run r;
    char name[64];
    double expected[STEPS];
    struct sl_optim_config optim = {.kind = kind, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    optim.lr = kind == SL_ADAMW ? 4e-4f : 0.02f;
    optim.weight_decay = kind == SL_ADAMW ? 0.1f : 0;
    run_open(&r, c, golden, full);
    snprintf(name, sizeof name, "loss.%s.%s", r.kind, kind == SL_ADAMW ? "adamw" : "sgd");
    golden_get(golden, name, STEPS, sizeof *expected, expected);
    uint32_t n = n_vectors(&r);
    struct sl_moments *moments = calloc(n, sizeof *moments);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(sl_moments_create(&optim, vector(&r, i).n, &moments[i]), 0);
    for (unsigned s = 0; s < STEPS; s++) {
        struct batch b;
        char step[32];
        double sum = 0;
        snprintf(step, sizeof step, "step.%u", s);
        batch_make(&b, step, step_lens, STEP_SEQS);
        if (full)
            sl_model_zero_grads(r.model);
        else
            sl_adapter_zero_grads(r.adapter);
        assert_int_equal(sl_half_forward(r.half, b.seqs, b.n, NULL), 0);
        assert_int_equal(sl_half_backward(r.half, b.seqs, b.n, NULL), 0);
        for (uint32_t i = 0; i < b.n; i++)
            sum += b.seqs[i].nll;
        note(&worst->steps, fabs(sum / b.rows / expected[s] - 1), step_tolerance, name);
        for (uint32_t i = 0; i < n; i++) {
            struct sl_block v = vector(&r, i);
            sl_optim_step(&optim, &moments[i], v.data, v.grad, v.n, b.rows, optim.lr);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        sl_moments_free(&moments[i]);
    free(moments);
    run_close(&r);
}

static void check_case(const struct parity_case *c)
{
    struct worst worst = {0};
    struct golden golden = golden_read(GOLDEN_DIR, c->name);
    for (int full = 0; full < 2; full++) {
        struct run r;
        struct batch b;
        run_open(&r, c, &golden, full);
        batch_make(&b, "batch", c->lens, c->n_seqs);
        assert_int_equal(sl_half_forward(r.half, b.seqs, b.n, NULL), 0);
        check_losses(&r, &b, &worst);
        check_logits(&r, &b, &worst);
        assert_int_equal(sl_half_backward(r.half, b.seqs, b.n, NULL), 0);
        check_gradients(&r, &worst);
        run_close(&r);
        check_training(c, &golden, full, SL_ADAMW, &worst);
        check_training(c, &golden, full, SL_SGD, &worst);
    }
    print_message("%s: loss %.1e, logits %.1e, gradients %.1e, steps %.1e\n", c->name, worst.loss,
        worst.logits, worst.grad, worst.steps);
    free(golden.bytes);
}

static void half__llama_agrees_with_pytorch(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        check_case(&cases[i]);
}

static void half__gpt2_agrees_with_pytorch(void **state)
{
    for (unsigned i = 3; i < 5; i++)
        check_case(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half__llama_agrees_with_pytorch),
        cmocka_unit_test(half__gpt2_agrees_with_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
