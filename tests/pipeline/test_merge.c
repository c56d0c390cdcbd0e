#include "tests/pipeline/test.h"
#include "trainer/pipeline/merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, BLOCK = 5, N = LAYERS * BLOCK };

static void fill(float *w, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        w[i] = sinf((float)(seed * 31 + i * 7));
}

static void merge__a_single_copy_is_taken_unchanged(void **state)
{
    float g[N], w[N], before[N];
    double sum[BLOCK];
    fill(g, N, 1);
    fill(w, N, 2);
    memcpy(before, g, sizeof g);
    const struct sl_copy copy = {.last = 2, .weights = w, .tokens = 300};
    const uint64_t of[] = {300};
    sl_merge(g, LAYERS, BLOCK, &copy, of, 1, sum);
    assert_memory_equal(g, w, 2 * BLOCK * sizeof *g);
    assert_memory_equal(g + 2 * BLOCK, before + 2 * BLOCK, BLOCK * sizeof *g); /* not its block */
}

/* Three devices and the edge, all from one version and each with its own tokens, merged one after another:
 * the mean that a boundary would have made of them. */
static void merge__copies_in_step_give_what_the_aggregation_does(void **state)
{
    static const uint64_t tokens[] = {300, 100, 200};
    float g[N], base[N], expected[N], w[3][N], edge[N];
    double sum[BLOCK];
    uint64_t edge_tokens[LAYERS] = {
        0, 300, 600}; /* cuts 3, 1 ... of the devices below: what they left to it */
    struct sl_copy copies[4];
    static const uint32_t last[] = {2, 1, 1};
    fill(base, N, 1);
    fill(edge, N, 9);
    for (uint32_t c = 0; c < 3; c++) {
        fill(w[c], N, 2 + c);
        copies[c] = (struct sl_copy){.last = last[c], .weights = w[c], .tokens = tokens[c]};
    }
    copies[3] = (struct sl_copy){.first = 1, .last = LAYERS, .weights = edge, .tokens_at = edge_tokens};
    memcpy(expected, base, sizeof base);
    sl_aggregate(expected, LAYERS, BLOCK, copies, 4, sum);

    memcpy(g, base, sizeof base);
    const uint64_t of[] = {600, 600};
    struct sl_copy first[2] = {copies[0], copies[3]};
    sl_merge(g, LAYERS, BLOCK, first, of, 2, sum);
    for (uint32_t c = 1; c < 3; c++) { /* G has moved on: these started from the version before */
        copies[c].base = base;
        sl_merge(g, LAYERS, BLOCK, &copies[c], of, 1, sum);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_true(fabsf(g[i] - expected[i]) < 1e-6f);
}

/* The same work counts for less the longer the others have trained meanwhile. */
static void merge__a_late_copy_has_less_of_a_say(void **state)
{
    float base[N], w[N], moved[2];
    double sum[BLOCK];
    fill(base, N, 1);
    fill(w, N, 2);
    for (unsigned late = 0; late < 2; late++) {
        float g[N];
        memcpy(g, base, sizeof g);
        const struct sl_copy copy = {.last = 3, .weights = w, .base = base, .tokens = 100};
        const uint64_t of[] = {late ? 1600 : 400};
        sl_merge(g, LAYERS, BLOCK, &copy, of, 1, sum);
        moved[late] = (g[3] - base[3]) / (w[3] - base[3]);
    }
    assert_true(fabsf(moved[0] - 0.25f) < 1e-6f);
    assert_true(fabsf(moved[1] - 0.0625f) < 1e-6f);
}

static void merge__nobody_has_more_than_everything(void **state)
{
    float base[N], g[N], w[N];
    double sum[BLOCK];
    fill(base, N, 1);
    fill(w, N, 2);
    memcpy(g, base, sizeof g);
    const struct sl_copy copies[] = {{.last = 3, .weights = w, .base = base, .tokens = 900},
        {.last = 3, .weights = w, .base = base, .tokens = 0}};
    const uint64_t of[] = {300, 0};
    sl_merge(g, LAYERS, BLOCK, copies, of, 2, sum);
    for (uint32_t i = 0; i < N; i++)
        assert_true(fabsf(g[i] - w[i]) < 1e-6f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge__a_single_copy_is_taken_unchanged),
        cmocka_unit_test(merge__copies_in_step_give_what_the_aggregation_does),
        cmocka_unit_test(merge__a_late_copy_has_less_of_a_say),
        cmocka_unit_test(merge__nobody_has_more_than_everything),
    };
    return cmocka_run_group_tests_name("pipeline/merge", tests, NULL, NULL);
}
