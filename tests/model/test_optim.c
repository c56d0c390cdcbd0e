/* Optimisers against their closed forms, computed in double. PyTorch is test_parity's. */
#include "trainer/model/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { N = 37 };

static void fill(float *w, float *g)
{
    for (int i = 0; i < N; i++) {
        w[i] = (float)sin(i + 1);
        g[i] = (float)(100 * cos(3 * i));
    }
}

static void optim_step__sgd_divides_the_sum_by_the_tokens(void **state)
{
    struct sl_optim_config c = {.kind = SL_SGD, .weight_decay = 0.25f};
    struct sl_moments m;
    float w[N], g[N], w0[N];
    fill(w, g);
    fill(w0, g);
    assert_int_equal(sl_moments_create(&c, N, &m), 0);
    assert_null(m.m);
    sl_optim_step(&c, &m, w, g, N, 50, 0.1f);
    for (int i = 0; i < N; i++)
        assert_true(fabs(w[i] - (w0[i] - 0.1 * (g[i] / 50.0 + 0.25 * w0[i]))) < 1e-6);
    sl_moments_free(&m);
}

/* A constant gradient g makes every bias-corrected moment g and g², so each step moves by lr g/(|g| + eps).
 */
static void optim_step__adamw_of_a_constant_gradient(void **state)
{
    struct sl_optim_config c = {
        .kind = SL_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-3f, .weight_decay = 0.1f};
    struct sl_moments m;
    float w[N], g[N];
    double exact[N], lr = 0.01f;
    fill(w, g);
    for (int i = 0; i < N; i++)
        exact[i] = w[i];
    assert_int_equal(sl_moments_create(&c, N, &m), 0);
    for (int s = 0; s < 10; s++) {
        sl_optim_step(&c, &m, w, g, N, 1000, (float)lr);
        for (int i = 0; i < N; i++) {
            double mean = g[i] / 1000.0;
            exact[i] = exact[i] * (1 - lr * 0.1) - lr * mean / (fabs(mean) + 1e-3);
        }
    }
    assert_int_equal(m.t, 10);
    for (int i = 0; i < N; i++)
        assert_true(fabs(w[i] - exact[i]) < 2e-6);
    sl_moments_free(&m);
}

/* A gradient that changes tells the two decay rates apart. */
static void optim_step__adamw_follows_its_recurrences(void **state)
{
    struct sl_optim_config c = {.kind = SL_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    struct sl_moments m;
    float w = 1, lr = 0.01f;
    double exact = 1, m1 = 0, m2 = 0, b1 = c.beta1, b2 = c.beta2;
    assert_int_equal(sl_moments_create(&c, 1, &m), 0);
    for (int s = 1; s <= 50; s++) {
        float g = (float)sin(s) * (float)s;
        sl_optim_step(&c, &m, &w, &g, 1, 4, lr);
        m1 = b1 * m1 + (1 - b1) * g / 4;
        m2 = b2 * m2 + (1 - b2) * g / 4 * g / 4;
        exact -= lr * (m1 / (1 - pow(b1, s))) / (sqrt(m2 / (1 - pow(b2, s))) + 1e-8);
    }
    assert_true(fabs(w - exact) < 3e-6);
    sl_moments_free(&m);
}

/* Two copies of a layer may lie at different addresses on the two sides of a cut. */
static void optim_step__does_not_depend_on_the_address(void **state)
{
    const enum sl_optim_kind kinds[] = {SL_ADAMW, SL_SGD};
    for (int kind = 0; kind < 2; kind++) {
        struct sl_optim_config c = {
            .kind = kinds[kind], .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.1f};
        float first[N], room[N + 16], g[N];
        for (int offset = 0; offset < 16; offset++) {
            struct sl_moments m;
            float *w = room + offset;
            fill(w, g);
            assert_int_equal(sl_moments_create(&c, N, &m), 0);
            for (int s = 0; s < 5; s++)
                sl_optim_step(&c, &m, w, g, N, 100, 0.01f);
            if (offset == 0)
                memcpy(first, w, sizeof first);
            assert_memory_equal(first, w, sizeof first);
            sl_moments_free(&m);
        }
    }
}

/* Rules L2: the norm of the mean gradient is what is bounded, whatever the tokens. */
static void optim_apply__clips_a_block_by_its_mean_gradient(void **state)
{
    struct sl_optim_config c = {.kind = SL_SGD, .lr = 1, .clip = 0.5};
    struct sl_moments m;
    float w[2] = {0, 0}, g[2] = {30, 40}; /* mean over 10 tokens: norm 5 */
    assert_int_equal(sl_moments_create(&c, 2, &m), 0);
    sl_optim_apply(&c, &m, w, g, 2, 10, 1);
    assert_true(fabsf(w[0] + 0.3f) < 1e-6f && fabsf(w[1] + 0.4f) < 1e-6f);
    memcpy(g, (float[2]){3, 4}, sizeof g); /* norm 0.5: stays */
    sl_optim_apply(&c, &m, w, g, 2, 10, 1);
    assert_true(fabsf(w[0] + 0.6f) < 1e-6f && fabsf(w[1] + 0.8f) < 1e-6f);
    assert_true(g[0] == 3 && g[1] == 4);
}

static void optim_apply__takes_the_rate_of_the_global_step(void **state)
{
    struct sl_optim_config c = {
        .kind = SL_SGD, .lr = 2, .schedule = {.kind = SL_SCHEDULE_LINEAR, .steps = 4, .warmup = 2}};
    struct sl_moments m;
    static const float rate[] = {1, 2, 2, 1, 0, 0}; /* of steps 1, 2, ... */
    assert_int_equal(sl_moments_create(&c, 1, &m), 0);
    for (uint64_t step = 1; step <= 6; step++) {
        float w = 0, g = 8;
        sl_optim_apply(&c, &m, &w, &g, 1, 8, step);
        assert_true(w == -rate[step - 1]);
    }
}

static void moments_reset__is_as_created(void **state)
{
    struct sl_optim_config c = {.kind = SL_ADAMW, .lr = 1, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    struct sl_moments m;
    float w[N], g[N], first[N];
    assert_int_equal(sl_moments_create(&c, N, &m), 0);
    for (int round = 0; round < 2; round++) {
        fill(w, g);
        sl_optim_apply(&c, &m, w, g, N, 10, 1);
        if (round == 0)
            memcpy(first, w, sizeof first);
        assert_memory_equal(first, w, sizeof first);
        sl_moments_reset(&m, N);
    }
    sl_moments_free(&m);
}

/* torch.optim on sum_i c_i w_i^3 / tokens + mu/2 |w - anchor|^2, four steps of lr 0.1 and decay 0.01, in
 * double: w = tensor([.5, -1, 2]), c = [1, 2, -3], anchor = [.25, -1.5, 2], mu 0.3, tokens 7. */
static void optim_prox__is_pytorchs_gradient_of_the_proximal_term(void **state)
{
    static const double expected[2][3] = {{0.432854035854616, -1.5069939638556615, 7.386105919220073},
        {0.14005609522325219, -1.3964840329627917, 2.392555145850038}};
    static const float c[3] = {1, 2, -3}, anchor[3] = {0.25f, -1.5f, 2};
    for (unsigned adamw = 0; adamw < 2; adamw++) {
        struct sl_optim_config k = {.kind = adamw ? SL_ADAMW : SL_SGD,
            .lr = 0.1f,
            .beta1 = 0.9f,
            .beta2 = 0.999f,
            .eps = 1e-8f,
            .weight_decay = 0.01f,
            .fedprox_mu = 0.3};
        struct sl_moments m;
        float w[3] = {0.5f, -1, 2}, sum[3];
        assert_int_equal(sl_moments_create(&k, 3, &m), 0);
        for (uint64_t s = 1; s <= 4; s++) {
            for (unsigned i = 0; i < 3; i++)
                sum[i] = 3 * c[i] * w[i] * w[i];
            sl_optim_prox(&k, sum, w, anchor, 3, 7);
            sl_optim_apply(&k, &m, w, sum, 3, 7, s);
        }
        for (unsigned i = 0; i < 3; i++)
            assert_true(fabs(w[i] - expected[adamw][i]) < 5e-6);
        sl_moments_free(&m);
    }
}

static void optim_prox__without_mu_does_not_look(void **state)
{
    struct sl_optim_config k = {.kind = SL_SGD};
    float sum[1] = {3}, w[1] = {1};
    sl_optim_prox(&k, sum, w, NULL, 1, 7);
    assert_true(sum[0] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optim_step__sgd_divides_the_sum_by_the_tokens),
        cmocka_unit_test(optim_step__adamw_of_a_constant_gradient),
        cmocka_unit_test(optim_step__adamw_follows_its_recurrences),
        cmocka_unit_test(optim_step__does_not_depend_on_the_address),
        cmocka_unit_test(optim_apply__clips_a_block_by_its_mean_gradient),
        cmocka_unit_test(optim_apply__takes_the_rate_of_the_global_step),
        cmocka_unit_test(optim_prox__is_pytorchs_gradient_of_the_proximal_term),
        cmocka_unit_test(optim_prox__without_mu_does_not_look),
        cmocka_unit_test(moments_reset__is_as_created),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
