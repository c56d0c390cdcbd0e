/* The memory of the weights: what is loaded, packed and given back. */
#include "tests/model/fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = FIXTURE_LAYERS, FIRST = 2, ROWS = 9 };

static const struct sl_model_config *const families[] = {&fixture_llama, &fixture_gpt2};

/* Loss of a batch through blocks [FIRST, L) and the head. */
static double loss(struct sl_model *m)
{
    static float x[ROWS * FIXTURE_D];
    static const uint32_t targets[ROWS] = {3, 1, 4, 1, 5, 9, 2, 6, 5};
    struct sl_half_config c = {.first = FIRST, .last = LAYERS, .max_rows = ROWS, .max_seqs = 1};
    struct sl_seq s = {.len = ROWS, .enter = FIRST, .x = x, .targets = targets};
    struct sl_half *h = NULL;
    for (int i = 0; i < ROWS * FIXTURE_D; i++)
        x[i] = (float)(i % 7) - 3;
    assert_int_equal(sl_half_create(m, NULL, &c, &h), 0);
    assert_int_equal(sl_half_forward(h, &s, 1, NULL), 0);
    sl_half_free(h);
    return s.nll;
}

static struct sl_model *keep(const struct sl_model_config *config, enum sl_precision precision)
{
    struct sl_model *m = fixture_model(config, 1);
    sl_model_keep(m, FIRST, UINT32_MAX);
    assert_int_equal(sl_model_pack(m, precision, true), 0);
    return m;
}

static void model_keep__the_back_half_is_what_it_was(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        struct sl_model *whole = fixture_model(families[f], 1), *part = keep(families[f], SL_PRECISION_F32);
        size_t all = sl_model_bytes(whole);
        assert_int_equal(sl_model_pack(whole, SL_PRECISION_F32, true), 0);
        assert_true(loss(part) == loss(whole));
        assert_true(sl_model_bytes(part) < sl_model_bytes(whole));
        if (sl_precision_supported(SL_PRECISION_BF16)) {
            struct sl_model *narrow = keep(families[f], SL_PRECISION_BF16);
            assert_true(sl_model_bytes(narrow) < all);
            sl_model_free(narrow);
        }
        sl_model_free(whole);
        sl_model_free(part);
    }
}

static void half_create__refuses_blocks_that_are_not_there(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        struct sl_model *back = keep(families[f], SL_PRECISION_F32), *front = fixture_model(families[f], 1);
        struct sl_half_config c = {.first = 0, .last = LAYERS, .max_rows = ROWS, .max_seqs = 1};
        struct sl_half *h = NULL;
        assert_int_equal(sl_half_create(back, NULL, &c, &h), -EINVAL);
        c.first = 1;
        assert_int_equal(sl_half_create(back, NULL, &c, &h), -EINVAL);
        sl_model_keep(front, 0, FIRST);
        assert_int_equal(sl_half_create(front, NULL, &c, &h), -EINVAL);
        c = (struct sl_half_config){.first = 0, .last = FIRST, .max_rows = ROWS, .max_seqs = 1};
        assert_int_equal(sl_half_create(front, NULL, &c, &h), 0);
        sl_half_free(h);
        sl_model_free(back);
        sl_model_free(front);
    }
}

static void model_pack__happens_once_and_ends_saving(void **state)
{
    char err[256] = "";
    struct sl_model *m = keep(&fixture_gpt2, SL_PRECISION_F32), *full = fixture_model(&fixture_gpt2, 1);
    assert_int_equal(sl_model_pack(m, SL_PRECISION_F32, true), -EINVAL);
    assert_int_equal(sl_model_enable_grads(m), -EINVAL);
    assert_int_equal(sl_model_save(m, "/nonexistent", SL_DTYPE_F32, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "is not in memory in f32"));
    assert_int_equal(sl_model_enable_grads(full), 0);
    assert_int_equal(sl_model_pack(full, SL_PRECISION_F32, true), -EINVAL);
    sl_model_free(m);
    sl_model_free(full);
}

/* What a file holds, loaded in two parts: each computes what the whole does. */
static void model_load_blocks__reads_what_a_half_needs(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        char dir[] = "/tmp/sluice-test-pack-XXXXXX", err[256] = "", path[96];
        struct sl_model *m = fixture_model(families[f], 1), *back = NULL, *front = NULL;
        assert_non_null(mkdtemp(dir));
        assert_int_equal(sl_model_save(m, dir, SL_DTYPE_F32, err, sizeof err), 0);
        assert_int_equal(sl_model_load_blocks(dir, FIRST, UINT32_MAX, &back, err, sizeof err), 0);
        assert_int_equal(sl_model_load_packed(dir, 0, FIRST, SL_PRECISION_F32, &front, err, sizeof err), 0);
        assert_true(loss(back) == loss(m));
        assert_true(sl_model_bytes(back) < sl_model_bytes(m));
        assert_null(sl_model_param(front, sl_model_param_count(front) - 1)->data); /* the final norm */
        for (unsigned i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "%s/%s", dir, i ? "config.json" : "model.safetensors");
            remove(path);
        }
        remove(dir);
        sl_model_free(m);
        sl_model_free(back);
        sl_model_free(front);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_keep__the_back_half_is_what_it_was),
        cmocka_unit_test(half_create__refuses_blocks_that_are_not_there),
        cmocka_unit_test(model_pack__happens_once_and_ends_saving),
        cmocka_unit_test(model_load_blocks__reads_what_a_half_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
