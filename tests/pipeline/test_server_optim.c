/* FedAdam against algorithm 2 of arXiv 2003.00295 written down in numpy, and in the trainer. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include "trainer/pipeline/server_optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 17, N = 4, ROUNDS = 3 };

static const struct sl_server_config usual = {
    .kind = SL_SERVER_FEDADAM, .lr = 0.03, .beta1 = 0.9, .beta2 = 0.99, .tau = 1e-3};
static const double first[N] = {0.5, -1.25, 0.0, 2.0};
static const double changes[ROUNDS][N] = {
    {0.01, -0.02, 0.0, 3e-4}, {-0.005, -0.01, 0.02, 0.0}, {0.002, 0.03, -0.01, -5e-4}};
/* m = zeros(4); v = full(4, tau**2); for d in changes: m = b1*m + (1-b1)*d; v = b2*v + (1-b2)*d**2;
 * g = g + lr*m/(sqrt(v) + tau); print(g) */
static const double numpy[ROUNDS][N] = {{0.512444654483836, -1.2685538464717123, 0.0, 2.000451028434725},
    {0.5172639315922698, -1.2929921151445019, 0.018566575199599155, 2.000857971609183},
    {0.5239948062755372, -1.290027658306945, 0.025553026239076224, 2.0004699011860954}};

static struct sl_server *server_of(const struct sl_server_config *c, uint32_t layers)
{
    struct sl_server *s;
    assert_int_equal(sl_server_create(c, layers, N, &s), 0);
    return s;
}

static void step__is_algorithm_2(void **state)
{
    struct sl_server *s = server_of(&usual, 2);
    float g[N], next[N];
    for (unsigned i = 0; i < N; i++)
        g[i] = (float)first[i];
    for (unsigned k = 0; k < ROUNDS; k++) {
        for (unsigned i = 0; i < N; i++)
            next[i] = (float)(g[i] + changes[k][i]);
        sl_server_step(s, 1, g, next);
        for (unsigned i = 0; i < N; i++)
            assert_true(fabs(next[i] - numpy[k][i]) < 2e-6);
        memcpy(g, next, sizeof g);
    }
    float other[N] = {1, 2, 3, 4},
          other_next[N] = {1, 2, 3, 4}; /* block 0 has moments of its own, still m = 0 */
    sl_server_step(s, 0, other, other_next);
    assert_memory_equal(other, other_next, sizeof other);
    sl_server_free(s);
}

/* With beta1 = beta2 = 0 a step is lr D / (|D| + tau), and with lr = tau far above every |D| that is D, less
 * a share |D| / tau: the plain mean. */
static void step__with_lr_and_tau_large_is_the_plain_mean(void **state)
{
    const struct sl_server_config c = {.kind = SL_SERVER_FEDADAM, .lr = 1e6, .tau = 1e6};
    struct sl_server *s = server_of(&c, 1);
    const float g[N] = {0.5f, -1.25f, 0, 2};
    float next[N] = {0.51f, -1.27f, 0, 2.0003f}, mean[N];
    memcpy(mean, next, sizeof mean);
    sl_server_step(s, 0, g, next);
    for (unsigned i = 0; i < N; i++)
        assert_true(fabsf(next[i] - mean[i]) <= 1.3e-7f * fabsf(mean[i]));
    sl_server_free(s);
}

static void part__gives_back_the_moments(void **state)
{
    struct sl_server *a = server_of(&usual, 2), *b = server_of(&usual, 2), *small = server_of(&usual, 1);
    float g[N] = {0}, next[2][N] = {{1, -1, 0.5f, 0}, {1, -1, 0.5f, 0}};
    struct sl_image im;
    struct sl_section section[1];
    uint8_t *bytes;
    size_t len;
    const char *why;
    sl_server_step(a, 1, g, next[0]);
    sl_image_begin(&im, "TESTTEST", 1, 0);
    sl_server_put(a, &im);
    assert_int_equal(sl_image_finish(&im, &bytes, &len), 0);
    sl_image_sign(bytes, len);
    assert_int_equal(sl_image_open(bytes, len, "TESTTEST", 1, section, 1, &why), 1);
    assert_true(sl_server_get(b, section[0]));
    assert_false(sl_server_get(small, section[0]));
    float one[N] = {2, 2, 2, 2}, two[N] = {2, 2, 2, 2};
    sl_server_step(a, 1, g, one);
    sl_server_step(b, 1, g, two);
    assert_memory_equal(one, two, sizeof one);
    free(bytes);
    sl_server_free(a);
    sl_server_free(b);
    sl_server_free(small);
}

static void step_all(struct world *w, uint32_t s)
{
    for (uint32_t d = 0; d < w->n_phones; d++) {
        const uint32_t *window = text_window(s * w->n_phones + d, WINDOW), len = WINDOW;
        phone_send(&w->phones[d], w->lcore, &window, &len, 1, SL_REQUEST_TRAIN);
    }
    world_run(w);
}

static struct world_config world_of(const struct sl_server_config *server)
{
    struct world_config c = {.optim = sgd(0.3f),
        .n_phones = 2,
        .cut = {1, 2},
        .aggregate_every = 2,
        .deterministic = true,
        .steps = 8};
    if (server)
        c.server = *server;
    fake_now_ns = 1;
    return c;
}

/* Whole runs: the server of the identity above changes nothing beyond rounding; the usual one does. */
static void trainer__with_a_server_that_takes_the_mean_is_one_without(void **state)
{
    static const struct sl_server_config mean = {.kind = SL_SERVER_FEDADAM, .lr = 1e6, .tau = 1e6};
    const struct sl_server_config *servers[3] = {NULL, &mean, &usual};
    float *g[3];
    size_t n = 0;
    for (unsigned k = 0; k < 3; k++) {
        struct world w;
        struct world_config c = world_of(servers[k]);
        world_open(&w, &c);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t s = 0; s < 8; s++)
            step_all(&w, s);
        assert_int_equal(w.finished, 1);
        g[k] = world_g(&w, &n);
        world_close(&w);
    }
    double off = 0, moved = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        off += pow(g[1][i] - (double)g[0][i], 2);
        moved += pow(g[2][i] - (double)g[0][i], 2);
        size += pow(g[0][i], 2);
    }
    assert_true(sqrt(off / size) < 1e-6);
    assert_true(sqrt(moved / size) > 1e-3);
    for (unsigned k = 0; k < 3; k++)
        free(g[k]);
}

/* Killed and resumed after step 4 of 8: the same bytes (rules T12). */
static void checkpoint__with_a_server_resumes_bit_for_bit(void **state)
{
    float *g[2];
    size_t n = 0;
    for (unsigned disturbed = 0; disturbed < 2; disturbed++) {
        struct world w;
        struct world_config c = world_of(&usual);
        world_open(&w, &c);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t s = 0; s < 8; s++) {
            step_all(&w, s);
            if (disturbed && s == 3)
                world_restart(&w, &c, world_checkpoint(&w), 4);
        }
        assert_int_equal(w.finished, 1);
        g[disturbed] = world_g(&w, &n);
        world_close(&w);
    }
    assert_memory_equal(g[0], g[1], n * sizeof(float));
    free(g[0]);
    free(g[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step__is_algorithm_2),
        cmocka_unit_test(step__with_lr_and_tau_large_is_the_plain_mean),
        cmocka_unit_test(part__gives_back_the_moments),
        cmocka_unit_test(trainer__with_a_server_that_takes_the_mean_is_one_without),
        cmocka_unit_test(checkpoint__with_a_server_resumes_bit_for_bit),
    };
    return cmocka_run_group_tests_name("pipeline/server_optim", tests, NULL, NULL);
}
