/* sluice-train stability from the outside, on a tiny model. */
#include "tests/data/scratch.h"
#include "tests/tools/program.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct scratch dir;

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_act\": \"silu\","
    " \"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 4, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": "
    "10000.0,"
    " \"attention_bias\": false, \"mlp_bias\": false, \"vocab_size\": 300, \"tie_word_embeddings\": true,"
    " \"bos_token_id\": 0, \"eos_token_id\": 0, \"torch_dtype\": \"float32\"}";

/* 40 windows of 8 tokens. */
static int make_model(void **state)
{
    dir = scratch_make();
    char text[8000], ids[8000];
    int n = 0, m = 0;
    for (int i = 0; i < 150; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "the number %d of the list is %s\n%%\n",
            i * 37 % 101, i % 2 ? "odd" : "even");
    for (int i = 0; i < 320; i++)
        m += snprintf(ids + m, sizeof ids - (size_t)m, "%d ", 1 + (i * i * 7 + i * 13) % 299);
    scratch_write(&dir, "text", text);
    scratch_write(&dir, "ids", ids);
    scratch_write(&dir, "config.json", config);
    struct outcome o =
        program_run(NULL, "tokenizer --vocab 300 --text %1$s/text --out %1$s/tokenizer.json", dir.path);
    assert_int_equal(o.code, 0);
    program_free(&o);
    o = program_run(NULL,
        "pretrain --config %1$s/config.json --tokenizer %1$s/tokenizer.json --text %1$s/text --batch 4 --seq "
        "16 --lr 1e-2 --seed 5 --dtype f32 --steps 20 --out %1$s/model --log %1$s/log",
        dir.path);
    assert_int_equal(o.code, 0);
    program_free(&o);
    return 0;
}

static int remove_model(void **state)
{
    scratch_remove(&dir);
    return 0;
}

#define STABILITY "stability --model %1$s/model --ids %1$s/ids --seq 8 --batch 2 --lr 1e-2 "

static cJSON *measure(const char *more)
{
    struct outcome o = program_run(NULL, STABILITY "--json %2$s", dir.path, more);
    if (o.code)
        fail_msg("exit code %d: %s", o.code, o.err);
    cJSON *json = cJSON_Parse(o.out);
    assert_non_null(json);
    program_free(&o);
    return json;
}

static const cJSON *item(const cJSON *json, const char *key)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(json, key);
    if (!found)
        fail_msg("no key %s", key);
    return found;
}

static double number(const cJSON *json, const char *key)
{
    assert_true(cJSON_IsNumber(item(json, key)));
    return item(json, key)->valuedouble;
}

static double beta(const cJSON *json, int cell)
{
    return number(cJSON_GetArrayItem(item(json, "cells"), cell), "beta");
}

static void stability__cells_slopes_and_checks(void **state)
{
    cJSON *json = measure("--k 4,8,16 --fraction 0.25,0.5,1 --repeats 20 --steps 20");
    assert_int_equal(cJSON_GetArraySize(item(json, "cells")), 9);
    for (int c = 0; c < 9; c++) {
        const cJSON *cell = cJSON_GetArrayItem(item(json, "cells"), c);
        assert_int_equal((int)number(cell, "k"), 4 << c % 3);
        assert_int_equal((int)number(cell, "blocks"), 1 << c / 3);
        assert_int_equal((int)number(cell, "pairs"), 20);
        assert_int_equal((int)number(cell, "sets"), 10);
        assert_true(number(cell, "beta_low") < number(cell, "beta"));
        assert_true(number(cell, "beta") < number(cell, "beta_high"));
    }
    assert_true(beta(json, 0) > beta(json, 2)); /* one of 4 samples matters more than one of 16 */
    const cJSON *slopes = item(json, "slopes"), *k = item(slopes, "log_k");
    assert_int_equal((int)number(slopes, "cells_used"), 6); /* not those of alpha = 1 */
    assert_true(number(k, "low") < number(k, "slope") && number(k, "slope") < number(k, "high"));
    assert_true(number(k, "slope") < 0);
    assert_int_equal((int)number(k, "bound"), -1);
    assert_true(cJSON_IsNumber(item(item(slopes, "log_one_minus_alpha"), "slope")));
    assert_int_equal((int)number(item(json, "self_check"), "runs"), 9);
    assert_true(number(item(json, "self_check"), "largest_difference") == 0);
    const cJSON *cuts = item(json, "cut_check");
    assert_int_equal(cJSON_GetArraySize(item(cuts, "cuts")), 3);
    assert_true(number(cuts, "largest_loss_difference") <= 1e-6);
    assert_true(number(cuts, "largest_beta_difference") <= 1e-6);
    assert_true(cJSON_IsFalse(item(json, "interrupted")));
    cJSON_Delete(json);
}

static void stability__repeats_itself_and_follows_its_seed(void **state)
{
    cJSON *one = measure("--k 4,8 --fraction 0.5 --repeats 10 --steps 8 --seed 3");
    cJSON *two = measure("--k 4,8 --fraction 0.5 --repeats 10 --steps 8 --seed 3");
    cJSON *other = measure("--k 4,8 --fraction 0.5 --repeats 10 --steps 8 --seed 4");
    assert_true(cJSON_Compare(item(one, "cells"), item(two, "cells"), true));
    assert_true(cJSON_Compare(item(one, "slopes"), item(two, "slopes"), true));
    assert_true(beta(one, 0) != beta(other, 0));
    cJSON_Delete(one);
    cJSON_Delete(two);
    cJSON_Delete(other);
}

static void stability__batching_and_threads_change_nothing(void **state)
{
    cJSON *many = measure("--k 6 --fraction 0.5,1 --repeats 30 --steps 10");
    cJSON *one = measure("--k 6 --fraction 0.5,1 --repeats 30 --steps 10 --together 1");
    cJSON *threads = measure("--k 6 --fraction 0.5,1 --repeats 30 --steps 10 --threads 2");
    for (int c = 0; c < 2; c++) {
        assert_true(fabs(beta(one, c) - beta(many, c)) <= 1e-6);
        assert_true(fabs(beta(threads, c) - beta(many, c)) <= 1e-6);
    }
    cJSON_Delete(many);
    cJSON_Delete(one);
    cJSON_Delete(threads);
}

static void stability__csv_has_a_row_per_swap(void **state)
{
    char path[300], more[500];
    snprintf(path, sizeof path, "%s/swaps.csv", dir.path);
    snprintf(
        more, sizeof more, "--k 4,8 --fraction 0.5 --repeats 25 --steps 8 --optimizer sgd --csv %s", path);
    cJSON *json = measure(more);
    double sum[2] = {0};
    int rows[2] = {0};
    char line[300];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    assert_ptr_equal(strstr(line, "k,fraction,blocks,set,place,"), line);
    while (fgets(line, sizeof line, file)) {
        unsigned k, set, place;
        double share, loss[4];
        assert_int_equal(sscanf(line, "%u,%lf,2,%u,%u,%lf,%lf,%lf,%lf", &k, &share, &set, &place, &loss[0],
                             &loss[1], &loss[2], &loss[3]),
            8);
        sum[k == 8] += (fabs(loss[0] - loss[1]) + fabs(loss[2] - loss[3])) / 2;
        rows[k == 8]++;
    }
    fclose(file);
    for (int c = 0; c < 2; c++) {
        assert_int_equal(rows[c], 25);
        assert_true(fabs(sum[c] / 25 - beta(json, c)) < 1e-6);
    }
    cJSON_Delete(json);
}

static void stability__bf16_measures_the_same(void **state)
{
    cJSON *f32 = measure("--k 4 --fraction 0.5 --repeats 10 --steps 20");
    cJSON *bf16 = measure("--k 4 --fraction 0.5 --repeats 10 --steps 20 --precision bf16");
    assert_true(fabs(beta(bf16, 0) / beta(f32, 0) - 1) < 0.2);
    cJSON_Delete(f32);
    cJSON_Delete(bf16);
}

static void stability__ctrl_c_tells_the_sets_that_are_through(void **state)
{
    struct outcome o = program_run(
        "of 200000 trainings", STABILITY "--k 4 --fraction 0.5 --repeats 1000000 --steps 2 --json", dir.path);
    assert_int_equal(o.code, 130);
    cJSON *json = cJSON_Parse(o.out);
    assert_non_null(json);
    assert_true(cJSON_IsTrue(item(json, "interrupted")));
    assert_true(number(cJSON_GetArrayItem(item(json, "cells"), 0), "sets") >= 1);
    cJSON_Delete(json);
    program_free(&o);
}

static void stability__text_output_names_the_bound(void **state)
{
    struct outcome o = program_run(NULL, STABILITY "--k 4,8 --fraction 0.5 --repeats 10 --steps 4", dir.path);
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out, "slope of log beta on log k: "));
    assert_non_null(strstr(o.out, "(the bound's: -1)"));
    assert_non_null(strstr(o.out, "slope of log beta on log(1 - alpha): not to be had"));
    assert_non_null(strstr(o.out, "S against S: difference 0 in 2 trainings"));
    program_free(&o);
    o = program_run(NULL, "stability --help");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out, "Examples:"));
    program_free(&o);
}

static void errors__one_line_that_says_what(void **state)
{
    static const struct {
        int code;
        const char *more, *words;
    } cases[] = {
        {2, "--k 0 --fraction 0.5", "--k takes whole numbers from 1"},
        {2, "--k 4.5 --fraction 0.5", "--k takes whole numbers from 1"},
        {2, "--k 4, --fraction 0.5", "--k takes whole numbers from 1"},
        {2, "--k 4;8 --fraction 0.5", "--k takes whole numbers from 1"},
        {2, "--k nan --fraction 0.5", "--k takes whole numbers from 1"},
        {2, "--k 4,8,4 --fraction 0.5", "names the same number twice"},
        {2, "--k 4 --fraction 1.01", "--fraction takes shares"},
        {2, "--k 4 --fraction 0", "--fraction takes shares"},
        {2, "--k 4 --fraction half", "--fraction takes shares"},
        {2, "--k 4 --fraction 0.5 --repeats 9", "--repeats must lie between 10"},
        {2, "--k 4 --fraction 0.5 --optimizer adam", "adamw or sgd"},
        {2, "--k 4 --fraction 0.5 --text x", "not both"},
        {2, "--k 4", "missing option --fraction"},
        {2, "--fraction 0.5", "missing option --k"},
        {1, "--k 4 --fraction 0.26,0.5", "are both 2 of the model's 4 blocks"},
        {1, "--k 4,40 --fraction 0.5 --repeats 30", "--k can be 37 at most"},
        {1, "--k 4 --fraction 0.5 --targets c_attn", "no linear layer"},
        {1, "--k 4 --fraction 0.5 --precision f64", "--precision is f32 or bf16"},
        {1, "--k 4 --fraction 0.5 --csv /nothing/x.csv", "/nothing/x.csv: No such file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome o = program_run(NULL, STABILITY "%2$s", dir.path, cases[i].more);
        if (o.code != cases[i].code || !strstr(o.err, cases[i].words))
            fail_msg("%s: exit code %d: %s", cases[i].more, o.code, o.err);
        assert_int_equal(program_lines(o.err), 1);
        assert_string_equal(o.out, "");
        program_free(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stability__cells_slopes_and_checks),
        cmocka_unit_test(stability__repeats_itself_and_follows_its_seed),
        cmocka_unit_test(stability__batching_and_threads_change_nothing),
        cmocka_unit_test(stability__csv_has_a_row_per_swap),
        cmocka_unit_test(stability__bf16_measures_the_same),
        cmocka_unit_test(stability__ctrl_c_tells_the_sets_that_are_through),
        cmocka_unit_test(stability__text_output_names_the_bound),
        cmocka_unit_test(errors__one_line_that_says_what),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
