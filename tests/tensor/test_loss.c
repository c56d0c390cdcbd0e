#include "tests/tensor/twin.h"
#include "trainer/tensor/loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 7, VOCAB = 129, N = ROWS * VOCAB };
static const uint32_t targets[ROWS] = {0, 128, 5, 5, 64, 1, 99};

static void cross_entropy__agrees_with_its_definition(void **state)
{
    float *logits = twin_data("logits", N, 9), kept[N];
    double nll[ROWS], nll_again[ROWS], grad[N];
    memcpy(kept, logits, sizeof kept);
    sl_cross_entropy(logits, targets, ROWS, VOCAB, 0, nll);
    assert_memory_equal(kept, logits, sizeof kept);
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        for (int j = 0; j < VOCAB; j++)
            sum += exp((double)kept[i * VOCAB + j]);
        double exact = log(sum) - kept[i * VOCAB + targets[i]];
        assert_true(fabs(nll[i] - exact) < 1e-6 * (1 + exact));
        for (int j = 0; j < VOCAB; j++)
            grad[i * VOCAB + j] = exp((double)kept[i * VOCAB + j]) / sum - (j == (int)targets[i]);
    }
    sl_cross_entropy(logits, targets, ROWS, VOCAB, 1, nll_again);
    assert_memory_equal(nll, nll_again, sizeof nll);
    twin_close(logits, grad, N, 1e-6, "gradient");
    free(logits);
}

/* Shifting all logits of a row changes nothing, however far. */
static void cross_entropy__does_not_overflow(void **state)
{
    float logits[] = {5000, 5001, 4000};
    double nll;
    sl_cross_entropy(logits, &(uint32_t){0}, 1, 3, 1, &nll);
    assert_true(fabs(nll - log1p(exp(1))) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy__agrees_with_its_definition),
        cmocka_unit_test(cross_entropy__does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
