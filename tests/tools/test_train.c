/* sluice-train from the outside: a tiny model is pre-trained once, and everything else works on it. */
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
    " \"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"max_position_embeddings\": 256, \"rms_norm_eps\": 1e-5, \"rope_theta\": "
    "10000.0,"
    " \"attention_bias\": false, \"mlp_bias\": false, \"vocab_size\": 300, \"tie_word_embeddings\": true,"
    " \"bos_token_id\": 0, \"eos_token_id\": 0, \"torch_dtype\": \"float32\"}";

/* Options of every pre-training here. */
#define PRETRAIN                                                                                             \
    "pretrain --config %1$s/config.json --tokenizer %1$s/tokenizer.json --text %1$s/text --batch 4 --seq "   \
    "16 --lr 1e-2 "                                                                                          \
    "--schedule cosine --warmup 3 --seed 5 --dtype f32 --steps 30 "

static char *read_file(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir.path, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = NULL;
    size_t cap = 0;
    assert_true(getdelim(&text, &cap, '\0', file) > 0);
    fclose(file);
    return text;
}

static void run_well(struct outcome *o)
{
    if (o->code)
        fail_msg("exit code %d: %s", o->code, o->err);
}

static int make_model(void **state)
{
    dir = scratch_make();
    char text[20000];
    int n = 0;
    for (int i = 0; i < 300; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "the number %d of the list is %s\n%%\n",
            i * 37 % 101, i % 2 ? "odd" : "even");
    scratch_write(&dir, "text", text);
    scratch_write(&dir, "config.json", config);
    struct outcome o =
        program_run(NULL, "tokenizer --vocab 300 --text %1$s/text --out %1$s/tokenizer.json", dir.path);
    run_well(&o);
    program_free(&o);
    o = program_run(NULL, PRETRAIN "--out %1$s/model --log %1$s/log", dir.path);
    run_well(&o);
    program_free(&o);
    return 0;
}

static int remove_model(void **state)
{
    scratch_remove(&dir);
    return 0;
}

/* The JSON that a run prints; the caller deletes it. */
static cJSON *json_of(struct outcome *o)
{
    run_well(o);
    cJSON *json = cJSON_Parse(o->out);
    assert_non_null(json);
    program_free(o);
    return json;
}

static double number(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static double logged_loss(const char *log, unsigned step)
{
    char key[32];
    snprintf(key, sizeof key, "{\"step\": %u, \"loss\": ", step);
    const char *at = strstr(log, key);
    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

static void pretrain__logs_every_step_and_learns(void **state)
{
    char *text = read_file("log");
    assert_int_equal(program_lines(text), 30);
    assert_float_equal(logged_loss(text, 0), log(300), 0.2);
    assert_true(logged_loss(text, 29) < logged_loss(text, 0) - 1);
    free(text);
}

static void pretrain__muon_learns_and_repeats_itself(void **state)
{
    static const char *const logs[] = {"muon.log", "again.log"};
    char *text[2];
    for (int i = 0; i < 2; i++) {
        struct outcome o = program_run(NULL,
            PRETRAIN "--optimizer muon --muon-lr 2e-2 --out %1$s/muon --log %1$s/%2$s", dir.path, logs[i]);
        run_well(&o);
        program_free(&o);
        text[i] = read_file(logs[i]);
    }
    assert_string_equal(text[0], text[1]);
    assert_true(logged_loss(text[0], 29) < logged_loss(text[0], 0) - 1);
    free(text[0]);
    free(text[1]);
}

static void pretrain__stop_after_is_the_beginning_of_the_same_run(void **state)
{
    struct outcome o =
        program_run(NULL, PRETRAIN "--out %1$s/short --log %1$s/short.log --stop-after 7 --json", dir.path);
    cJSON *json = json_of(&o);
    assert_int_equal((int)number(json, "steps"), 7);
    cJSON_Delete(json);
    char *whole = read_file("log"), *beginning = read_file("short.log");
    assert_int_equal(program_lines(beginning), 7);
    assert_memory_equal(whole, beginning, strlen(beginning));
    free(whole);
    free(beginning);
}

static void eval__counts_windows_and_their_tails(void **state)
{
    /* Windows of 4: 4+(1) -> 3; (1) -> 0; 4+4+2 -> 7; 3 -> 2 predicted tokens. */
    scratch_write(&dir, "ids", "1 2 3 4 5\n6\n1 2 3 4 5 6 7 8 9 10\n7 8 9\n");
    struct outcome o = program_run(NULL, "eval --model %1$s/model --ids %1$s/ids --seq 4 --json", dir.path);
    cJSON *json = json_of(&o);
    assert_int_equal((int)number(json, "tokens"), 12);
    cJSON_Delete(json);
}

/* The mean over windows is the mean of each window alone, weighted by its tokens. */
static void eval__windows_are_independent(void **state)
{
    static const char *const lines[] = {"5 9 1 200 17 3", "44 44 2", "250 251 252 253"};
    double sum = 0, tokens = 0;
    for (int i = 0; i < 3; i++) {
        scratch_write(&dir, "one", lines[i]);
        struct outcome o =
            program_run(NULL, "eval --model %1$s/model --ids %1$s/one --seq 8 --json", dir.path);
        cJSON *json = json_of(&o);
        sum += number(json, "nll") * number(json, "tokens");
        tokens += number(json, "tokens");
        cJSON_Delete(json);
    }
    scratch_write(&dir, "all", "5 9 1 200 17 3\n44 44 2\n250 251 252 253\n");
    struct outcome o = program_run(NULL, "eval --model %1$s/model --ids %1$s/all --seq 8 --json", dir.path);
    cJSON *json = json_of(&o);
    assert_float_equal(number(json, "nll"), sum / tokens, 1e-5);
    assert_float_equal(number(json, "tokens"), tokens, 0);
    cJSON_Delete(json);
}

static void eval__text_and_its_encoding_agree(void **state)
{
    struct outcome o = program_run(NULL,
        "encode --tokenizer %1$s/model/tokenizer.json --text %1$s/text --held-out 0.2 --split held-out --out "
        "%1$s/t.ids",
        dir.path);
    run_well(&o);
    program_free(&o);
    o = program_run(NULL, "eval --model %1$s/model --ids %1$s/t.ids --seq 32 --json", dir.path);
    cJSON *ids = json_of(&o);
    o = program_run(NULL,
        "eval --model %1$s/model --text %1$s/text --held-out 0.2 --split held-out --seq 32 --json", dir.path);
    cJSON *text = json_of(&o);
    assert_float_equal(number(ids, "nll"), number(text, "nll"), 0);
    assert_float_equal(number(ids, "tokens"), number(text, "tokens"), 0);
    assert_true(number(text, "bits_per_byte") > 0);
    cJSON_Delete(ids);
    cJSON_Delete(text);
}

static double eval_nll(const char *adapter, const char *ids, unsigned seq)
{
    struct outcome o =
        program_run(NULL, "eval --model %1$s/model --ids %1$s/%2$s --seq %3$u --json %4$s%5$s%6$s", dir.path,
            ids, seq, adapter ? "--adapter " : "", adapter ? dir.path : "", adapter ? adapter : "");
    cJSON *json = json_of(&o);
    double nll = number(json, "nll");
    cJSON_Delete(json);
    return nll;
}

/* Four windows of 8 tokens, so that two steps of two windows wrap around. */
static const char four_windows[] = "10 20 30 40 50 60 70 80 90 100 110 120 130 140 150 160\n"
                                   "15 25 35 45 55 65 75 85 95 105 115 125 135 145 155 165\n";

static cJSON *lora_losses(const char *more)
{
    struct outcome o = program_run(
        NULL, "lora --model %1$s/model --ids %1$s/four --batch 2 --seq 8 --json %2$s", dir.path, more);
    return json_of(&o);
}

static double loss_at(const cJSON *json, int step)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "losses"), step)->valuedouble;
}

static void lora__first_losses_are_those_of_the_base_model(void **state)
{
    scratch_write(&dir, "four", four_windows);
    scratch_write(&dir, "half", "10 20 30 40 50 60 70 80 90 100 110 120 130 140 150 160\n");
    cJSON *json = lora_losses("--steps 3 --lr 0 --optimizer sgd");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(json, "losses")), 3);
    assert_float_equal(loss_at(json, 0), eval_nll(NULL, "half", 8), 1e-5);
    assert_float_equal((loss_at(json, 0) + loss_at(json, 1)) / 2, eval_nll(NULL, "four", 8), 1e-5);
    assert_float_equal(loss_at(json, 2), loss_at(json, 0), 0); /* wrapped */
    cJSON_Delete(json);
}

static void lora__adapter_is_written_read_and_used(void **state)
{
    char more[400];
    scratch_write(&dir, "four", four_windows);
    snprintf(more, sizeof more, "--steps 20 --lr 1e-2 --rank 4 --targets q_proj,down_proj --out %s/adapter",
        dir.path);
    cJSON *json = lora_losses(more);
    assert_true(loss_at(json, 19) < loss_at(json, 0) - 0.05);
    assert_true(eval_nll("/adapter", "four", 8) < eval_nll(NULL, "four", 8) - 0.05);
    cJSON_Delete(json);
}

/* SGD has no state, so 4 steps are 2 steps and 2 more from what they wrote. */
static void lora__goes_on_from_an_adapter(void **state)
{
    char more[400];
    scratch_write(&dir, "four", four_windows);
    cJSON *whole = lora_losses("--steps 4 --lr 0.5 --optimizer sgd --seed 3");
    snprintf(more, sizeof more, "--steps 2 --lr 0.5 --optimizer sgd --seed 3 --out %s/first", dir.path);
    cJSON *first = lora_losses(more);
    snprintf(more, sizeof more, "--steps 2 --lr 0.5 --optimizer sgd --adapter-in %s/first", dir.path);
    cJSON *second = lora_losses(more);
    for (int s = 0; s < 2; s++) {
        assert_float_equal(loss_at(first, s), loss_at(whole, s), 0);
        assert_float_equal(loss_at(second, s), loss_at(whole, s + 2), 0);
    }
    assert_true(fabs(loss_at(whole, 2) - loss_at(whole, 0)) > 1e-6);
    cJSON_Delete(whole);
    cJSON_Delete(first);
    cJSON_Delete(second);
}

static void lora__freeze_a_still_learns(void **state)
{
    scratch_write(&dir, "four", four_windows);
    cJSON *json = lora_losses("--steps 20 --lr 1e-2 --freeze-a --clip 10 --schedule linear --warmup 2");
    assert_true(loss_at(json, 18) < loss_at(json, 0));
    cJSON_Delete(json);
}

/* Two steps of two windows that make one update are one step of four. */
static void lora__accumulated_steps_are_one_larger(void **state)
{
    scratch_write(&dir, "four", four_windows);
    cJSON *halves = lora_losses("--steps 20 --accumulate 2 --lr 1e-2");
    struct outcome o = program_run(NULL,
        "lora --model %1$s/model --ids %1$s/four --batch 4 --seq 8 --json --steps 10 --lr 1e-2", dir.path);
    cJSON *whole = json_of(&o);
    for (int s = 0; s < 10; s++) {
        double mean = (loss_at(halves, 2 * s) + loss_at(halves, 2 * s + 1)) / 2;
        assert_true(fabs(mean - loss_at(whole, s)) <= 1e-6 * mean);
    }
    assert_true(loss_at(whole, 9) < loss_at(whole, 0) - 0.01);
    cJSON_Delete(halves);
    cJSON_Delete(whole);
}

static void lora__ctrl_c_writes_what_it_has(void **state)
{
    scratch_write(&dir, "four", four_windows);
    struct outcome o = program_run("100000000 steps",
        "lora --model %1$s/model --ids %1$s/four --batch 2 --seq 8 --lr 1e-3 --steps 100000000 --out "
        "%1$s/stopped --json",
        dir.path);
    assert_int_equal(o.code, 130);
    cJSON *json = cJSON_Parse(o.out);
    assert_true(number(json, "steps") >= 1);
    cJSON_Delete(json);
    program_free(&o);
    assert_true(isfinite(eval_nll("/stopped", "four", 8)));
}

static void generate__greedy_repeats_itself(void **state)
{
    struct outcome one =
        program_run(NULL, "generate --model %s/model --prompt 'the number' --tokens 10 --greedy", dir.path);
    struct outcome two =
        program_run(NULL, "generate --model %s/model --prompt 'the number' --tokens 10 --greedy", dir.path);
    run_well(&one);
    assert_string_equal(one.out, two.out);
    assert_ptr_equal(strstr(one.out, "the number"), one.out);
    program_free(&one);
    program_free(&two);
    one = program_run(NULL, "generate --model %s/model --prompt '' --tokens 3 --seed 4 --json", dir.path);
    cJSON *json = json_of(&one);
    assert_true(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(json, "text")));
    cJSON_Delete(json);
}

static void overlap__lists_hashes_that_excluded_takes(void **state)
{
    scratch_write(&dir, "read", "a b c d e f g h i j k l\n%\n");
    scratch_write(&dir, "other", "x a b c d e f g h i j y\n%\nquite another text\n%\n");
    struct outcome o = program_run(
        NULL, "overlap --text %1$s/read --against %1$s/other --against-held-out 1 --out %1$s/list", dir.path);
    run_well(&o);
    program_free(&o);
    char *list = read_file("list");
    assert_int_equal(strlen(list), 65);
    free(list);
    o = program_run(NULL,
        "encode --tokenizer %1$s/tokenizer.json --text %1$s/other --excluded %1$s/list --out %1$s/left.ids "
        "--json",
        dir.path);
    cJSON *json = json_of(&o);
    assert_int_equal((int)number(json, "text_bytes"), (int)strlen("quite another text"));
    cJSON_Delete(json);
}

static void help__has_examples(void **state)
{
    static const char *const commands[] = {
        "eval", "lora", "pretrain", "tokenizer", "generate", "encode", "overlap"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct outcome o = program_run(NULL, "%s --help", commands[i]);
        run_well(&o);
        assert_non_null(strstr(o.out, "Examples:"));
        assert_string_equal(o.err, "");
        program_free(&o);
    }
    struct outcome o = program_run(NULL, "--help");
    run_well(&o);
    program_free(&o);
}

/* Each fails with its code and one line that holds the words. */
static void errors__one_line_that_says_what(void **state)
{
    static const struct {
        int code;
        const char *line, *words;
    } cases[] = {
        {2, "", "usage: "},
        {2, "evil", "unknown command"},
        {2, "eval --ids %s/four", "missing option --model"},
        {2, "eval --model %s/model", "--text FILE or --ids FILE"},
        {2, "eval --model %s/model --ids x --text y", "not both"},
        {2, "eval --model %s/model --ids x --split train", "need --text"},
        {2, "eval --model %s/model --text x --split some", "--split is"},
        {2, "eval --model %s/model --ids x --seq 1", "--seq must lie between 2"},
        {2, "eval --model %s/model --ids x --seq 8q", "not \"8q\""},
        {2, "eval --model %s/model --ids x --sequence 8", "unknown option --sequence"},
        {2, "eval --model %s/model --ids x --json --json=1", "takes no value"},
        {2, "eval --model %s/model --model x --ids x", "given twice"},
        {2, "eval --model %s/model --ids %s/four --seq 258", "256 positions"},
        {1, "eval --model %s/nothing --ids %s/four", "nothing"},
        {1, "eval --model %s/model --ids %s/nothing", "No such file"},
        {1, "eval --model %s/model --ids %s/high", "high:1: \"300\" is not a token id below 300"},
        {1, "eval --model %s/model --ids %s/single --seq 8", "too little text"},
        {1, "eval --model %s/mismatch --text %s/text", "does not match the model"},
        {1, "eval --model %s/model --text %s/text --adapter %s/nothing --seq 8", "nothing"},
        {2, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1e-3", "missing option --steps"},
        {2, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr nan --steps 1",
            "--lr takes a number"},
        {2, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1 --steps 1 --optimizer adam",
            "adamw or sgd"},
        {2, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1 --steps 1 --adapter-in x --rank 4",
            "brings its own rank"},
        {2, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1 --steps 1 --warmup 2",
            "longer than --steps"},
        {1, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1 --steps 1 --targets c_attn",
            "no linear layer"},
        {1, "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1 --steps 1 --targets=",
            "--targets names no linear layer"},
        {2, "lora --model %s/model --ids %s/four --batch 65536 --seq 65538 --lr 1 --steps 1",
            "more than 2^32 rows"},
        {1, "lora --model %s/model --ids %s/four --batch 2 --seq 17 --lr 1 --steps 1",
            "not one full window of 17"},
        {1,
            "lora --model %s/model --ids %s/four --batch 2 --seq 8 --lr 1e6 --steps 100 "
            "--weight-decay 1e6",
            "lower --lr"},
        {1,
            "pretrain --config %s/four --tokenizer %s/tokenizer.json --text %s/text --out %s/o --log %s/l "
            "--steps 1 "
            "--batch 1 --seq 8 --lr 1",
            "four: "},
        {1, "tokenizer --vocab 100000 --text %s/four --out %s/o.json", "the text yields only"},
        {1, "tokenizer --vocab 300 --text %s/nothing --out %s/o.json", "No such file"},
        {1, "tokenizer --vocab 300 --text %s/text --out %s/nowhere/o.json", "nowhere/o.json: No such file"},
        {1, "generate --model %s/nothing --prompt x", "nothing"},
        {1, "encode --tokenizer %s/tokenizer.json --end '<x>' --text %s/text --out %s/o", "has no token"},
    };
    scratch_write(&dir, "four", four_windows);
    scratch_write(&dir, "high", "1 2 300\n");
    scratch_write(&dir, "single", "1\n2\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *d = dir.path;
        char line[2000];
        snprintf(line, sizeof line, cases[i].line, d, d, d, d, d);
        struct outcome o = program_run(NULL, "%s", line);
        if (o.code != cases[i].code || !strstr(o.err, cases[i].words))
            fail_msg("%s: exit code %d: %s", line, o.code, o.err);
        bool works_first =
            strstr(cases[i].words, "lower --lr") != NULL; /* says which kernel it uses before that */
        if (i > 0 && !works_first)
            assert_int_equal(program_lines(o.err), 1);
        program_free(&o);
    }
}

/* A model directory with a smaller vocabulary than its tokenizer's. */
static int make_mismatch(void **state)
{
    struct outcome o =
        program_run(NULL, "tokenizer --vocab 280 --text %1$s/text --out %1$s/small.json", dir.path);
    run_well(&o);
    program_free(&o);
    char smaller[sizeof config];
    memcpy(smaller, config, sizeof config);
    memcpy(strstr(smaller, "\"vocab_size\": 300"), "\"vocab_size\": 280", strlen("\"vocab_size\": 280"));
    scratch_write(&dir, "small-config.json", smaller);
    o = program_run(NULL,
        "pretrain --config %1$s/small-config.json --tokenizer %1$s/small.json --text %1$s/text --batch 1 "
        "--seq 8 --lr 0 "
        "--steps 1 --out %1$s/mismatch --log %1$s/mismatch.log",
        dir.path);
    run_well(&o);
    program_free(&o);
    char *json = read_file("tokenizer.json");
    scratch_write(&dir, "mismatch/tokenizer.json", json);
    free(json);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pretrain__logs_every_step_and_learns),
        cmocka_unit_test(pretrain__muon_learns_and_repeats_itself),
        cmocka_unit_test(pretrain__stop_after_is_the_beginning_of_the_same_run),
        cmocka_unit_test(eval__counts_windows_and_their_tails),
        cmocka_unit_test(eval__windows_are_independent),
        cmocka_unit_test(eval__text_and_its_encoding_agree),
        cmocka_unit_test(lora__first_losses_are_those_of_the_base_model),
        cmocka_unit_test(lora__adapter_is_written_read_and_used),
        cmocka_unit_test(lora__goes_on_from_an_adapter),
        cmocka_unit_test(lora__freeze_a_still_learns),
        cmocka_unit_test(lora__accumulated_steps_are_one_larger),
        cmocka_unit_test(lora__ctrl_c_writes_what_it_has),
        cmocka_unit_test(generate__greedy_repeats_itself),
        cmocka_unit_test(overlap__lists_hashes_that_excluded_takes),
        cmocka_unit_test(help__has_examples),
        cmocka_unit_test_setup(errors__one_line_that_says_what, make_mismatch),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
