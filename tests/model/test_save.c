#include "tests/model/files.h"
#include "tests/model/fixture.h"
#include "trainer/model/model.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static const struct sl_model_config config = {.family = SL_FAMILY_LLAMA,
    .n_layers = 1,
    .d_model = 24,
    .n_heads = 4,
    .n_kv_heads = 2,
    .head_dim = 6,
    .d_ff = 40,
    .vocab = 33,
    .max_positions = 16,
    .norm_eps = 1e-5f,
    .rope_theta = 1e4f,
    .tied_embeddings = true,
    .bos_id = 0,
    .eos_id = 0};

/* Saved in 16 bits every value is the nearest there is: within half a unit in the last place. */
static void save__sixteen_bits(void **state)
{
    static const struct {
        enum sl_dtype dtype;
        double ulp;
    } cases[] = {{SL_DTYPE_F16, 0x1p-11}, {SL_DTYPE_BF16, 0x1p-8}};
    struct sl_model *m = fixture_model(&config, 3), *back;
    for (unsigned i = 0; i < 2; i++) {
        char *dir = files_dir(), err[256] = "";
        size_t len;
        assert_int_equal(sl_model_save(m, dir, cases[i].dtype, err, sizeof err), 0);
        assert_int_equal(sl_model_load(dir, &back, err, sizeof err), 0);
        double worst = 0;
        for (uint32_t p = 0; p < sl_model_param_count(m); p++) {
            struct sl_param *a = sl_model_param(m, p), *b = sl_model_param(back, p);
            for (size_t j = 0; j < a->n; j++)
                worst =
                    fmax(worst, fabs((double)b->data[j] - a->data[j]) / (fabs((double)a->data[j]) + 0x1p-13));
        }
        assert_true(worst <= cases[i].ulp && worst > cases[i].ulp / 2);
        /* saved again, the same bytes */
        char *first = files_read(dir, "model.safetensors", &len);
        assert_int_equal(sl_model_save(back, dir, cases[i].dtype, err, sizeof err), 0);
        char *second = files_read(dir, "model.safetensors", NULL);
        assert_memory_equal(first, second, len);
        free(first);
        free(second);
        sl_model_free(back);
        files_dir_remove(dir);
    }
    sl_model_free(m);
}

static void save__tied_matrix_once(void **state)
{
    struct sl_model *m = fixture_model(&config, 3);
    char *dir = files_dir(), err[256] = "";
    assert_int_equal(sl_model_save(m, dir, SL_DTYPE_F32, err, sizeof err), 0);
    struct files_tensors t = files_tensors_read(dir, "model.safetensors");
    assert_non_null(cJSON_GetObjectItem(t.header, "model.embed_tokens.weight"));
    assert_null(cJSON_GetObjectItem(t.header, "lm_head.weight"));
    assert_string_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(t.header, "__metadata__"), "format")->valuestring, "pt");
    files_tensors_write(dir, "model.safetensors", &t);
    files_dir_remove(dir);
    sl_model_free(m);
}

static void old_files_stay(const char *dir, const void *tensors, size_t len, const char *json)
{
    size_t now;
    char *again = files_read(dir, "model.safetensors", &now),
         *config_again = files_read(dir, "config.json", NULL);
    assert_int_equal(now, len);
    assert_memory_equal(again, tensors, len);
    assert_string_equal(config_again, json);
    char *left = files_path(dir, "model.safetensors.tmp");
    assert_int_not_equal(access(left, F_OK), 0);
    free(left);
    free(again);
    free(config_again);
}

/* A limit on the size of files stands for the full disk: write() fails in the middle of the tensors. */
static void save__full_disk_leaves_the_old_files(void **state)
{
    struct sl_model *m = fixture_model(&config, 3);
    char *dir = files_dir(), err[256] = "";
    size_t len;
    assert_int_equal(sl_model_save(m, dir, SL_DTYPE_F32, err, sizeof err), 0);
    char *tensors = files_read(dir, "model.safetensors", &len), *json = files_read(dir, "config.json", NULL);
    sl_model_param(m, 0)->data[0] += 1;

    struct rlimit old, tiny;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tiny = old;
    tiny.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &tiny);
    int code = sl_model_save(m, dir, SL_DTYPE_F32, err, sizeof err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(code, -EFBIG);
    assert_non_null(strstr(err, "old file"));
    old_files_stay(dir, tensors, len, json);

    sl_model_param(m, 0)->data[0] = NAN;
    assert_int_equal(sl_model_save(m, dir, SL_DTYPE_F32, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, sl_model_param(m, 0)->name));
    old_files_stay(dir, tensors, len, json);
    sl_model_param(m, 0)->data[0] = 1e6f; /* above the largest half */
    assert_int_equal(sl_model_save(m, dir, SL_DTYPE_F16, err, sizeof err), -EINVAL);
    old_files_stay(dir, tensors, len, json);
    free(tensors);
    free(json);
    files_dir_remove(dir);
    sl_model_free(m);
}

static void save__no_such_directory(void **state)
{
    struct sl_model *m = fixture_model(&config, 3);
    char *dir = files_dir(), err[256] = "", *path = files_path(dir, "a/b");
    assert_int_equal(sl_model_save(m, path, SL_DTYPE_F32, err, sizeof err), -ENOENT);
    assert_non_null(strstr(err, path));
    files_write(dir, "a", "", 0);
    assert_true(sl_model_save(m, path, SL_DTYPE_F32, err, sizeof err) < 0);
    free(path);
    files_dir_remove(dir);
    sl_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(save__sixteen_bits),
        cmocka_unit_test(save__tied_matrix_once),
        cmocka_unit_test(save__full_disk_leaves_the_old_files),
        cmocka_unit_test(save__no_such_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
