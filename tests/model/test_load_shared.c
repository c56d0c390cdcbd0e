/* A real model that is not in the tree. The sum was made by numpy over the file's bytes, in the order of the
 * file; the hash by sha256sum. */
#include "trainer/model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define DIR SHARED_DIR "/models/TinyStories-656K"

static void load__tinystories(void **state)
{
    struct sl_model *m;
    char err[300] = "";
    double sum = 0;
    if (sl_model_load(DIR, &m, err, sizeof err))
        fail_msg("%s", err);
    for (uint32_t i = 0; i < sl_model_param_count(m); i++) {
        const struct sl_param *p = sl_model_param(m, i);
        for (size_t j = 0; j < p->n; j++)
            sum += (double)p->data[j] * (double)(j % 7);
    }
    assert_true(fabs(sum - 8765.788939118385) < 1e-6);
    assert_int_equal(sl_model_param_count(m), 20);
    assert_non_null(sl_model_find(m, "model.embed_tokens.weight")); /* in the file only as lm_head.weight */
    sl_model_free(m);
}

static void hash__tinystories(void **state)
{
    static const char want[] = "0cf9d371e82923d3818d94d217081217c8ebbe075aff53db5d415cbd05b2d5a6";
    uint8_t hash[32];
    char err[300] = "", text[65];
    if (sl_model_hash(DIR, hash, err, sizeof err))
        fail_msg("%s", err);
    for (unsigned i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(text, want);
}

int main(void)
{
    if (access(DIR "/model.safetensors", R_OK)) {
        printf("SKIP: %s is not there\n", DIR);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load__tinystories), cmocka_unit_test(hash__tinystories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
