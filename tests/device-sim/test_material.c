/* What a fleet is made of, from an experiment file, a model directory and text that the test makes itself. */
#include "device-sim/fleet/material.h"

#include "tests/wire/test.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 3, RECORDS = 1500, PATH_BYTES = 256 };

static char dir[] = "/tmp/sluice-material-XXXXXX";

static void put(const char *name, const char *bytes, size_t n)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Three files of about 75 kB each, records of a line. */
static void make_text(void)
{
    for (int f = 0; f < FILES; f++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "%s/text/file%d", dir, f);
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        for (int i = 0; i < RECORDS; i++)
            fprintf(out, "record %d of file %d has something to say about %d things\n%%\n", i, f, i * 7);
        assert_int_equal(fclose(out), 0);
    }
}

static void make_model(void)
{
    static const char sample[] = "record of file has something to say about things 0123456789";
    const char *texts[] = {sample};
    size_t lens[] = {sizeof(sample) - 1};
    struct sl_model_config shape = {.family = SL_FAMILY_LLAMA,
        .n_layers = 4,
        .d_model = 16,
        .n_heads = 2,
        .n_kv_heads = 1,
        .head_dim = 8,
        .d_ff = 24,
        .vocab = 280,
        .max_positions = 2048,
        .norm_eps = 1e-5f,
        .rope_theta = 1e4f,
        .tied_embeddings = true,
        .bos_id = 0,
        .eos_id = 0};
    char err[256], path[PATH_BYTES], *json;
    struct sl_model *m;
    size_t len;

    assert_int_equal(sl_tokenizer_train(texts, lens, 1, 270, &json, &len, err, sizeof(err)), 0);
    put("model/tokenizer.json", json, len);
    free(json);
    assert_int_equal(sl_model_create(&shape, 1, &m), 0);
    snprintf(path, sizeof(path), "%s/model", dir);
    assert_int_equal(sl_model_save(m, path, SL_DTYPE_F32, err, sizeof(err)), 0);
    sl_model_free(m);
}

struct variant {
    int a, b, held_out_windows, cut, seq;
};
static const struct variant usual = {1, 2, 7, 2, 33};

static void write_experiment(const struct variant *v)
{
    char yaml[2048];
    static const char phone[] =
        "compute_gflops: 2, memory_mib: 4, battery_mah: 3000, compute_w: 2, radio_tx_w: 1, radio_rx_w: 1, "
        "link: {up_mbps: 10, down_mbps: 20, rtt_ms: 60, loss: 0.01, queue_kib: 256}";
    int n = snprintf(yaml, sizeof(yaml),
        "name: material\nseed: 7\nmodel: {path: %s/model}\n"
        "data: {path: %s/text, shards: by-file, seq: %d, held_out: 0.1, held_out_windows: %d}\n"
        "training:\n  lora: {rank: 2, alpha: 4, targets: [q_proj]}\n  optimizer: {kind: sgd, lr: 0.1}\n  "
        "batch: 2\n"
        "edge: {control: \"127.0.0.1:7443\", data: {codec: f32}}\n"
        "fleet:\n  - {class: short, count: %d, seq: 17, %s}\n  - {class: usual, count: %d, %s}\n"
        "plan: {cut: [1, %d]}\nrun: {steps: 5}\n",
        dir, dir, v->seq, v->held_out_windows, v->a, phone, v->b, phone, v->cut);
    put("experiment.yaml", yaml, (size_t)n);
}

static int load(const struct variant *v, struct sl_material *m, char err[512])
{
    char path[PATH_BYTES];

    write_experiment(v);
    snprintf(path, sizeof(path), "%s/experiment.yaml", dir);
    err[0] = 0;
    return sl_material_load(path, m, err, 512);
}

static void load__gives_every_phone_text_of_its_own(void **state)
{
    struct sl_material m;
    char err[512];

    assert_int_equal(load(&usual, &m, err), 0);
    assert_string_equal(err, "");
    assert_int_equal(sl_material_seq(&m, 0), 17);
    assert_int_equal(sl_material_seq(&m, 1), 33);
    uint32_t total = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(m.shards[i].bytes >= 60000);
        assert_true(sl_windows(&m.shards[i].train, sl_material_seq(&m, i)) > 100);
        assert_in_range(m.held_out_windows[i], 2, 3); /* 7 over 3 */
        total += m.held_out_windows[i];
    }
    assert_int_equal(total, 7);
    sl_material_free(&m);
}

static void load__refuses_a_front_half_that_does_not_fit_its_phones(void **state)
{
    struct variant v = usual;
    struct sl_material m;
    char err[512];

    v.seq = 1025; /* activations of 2 x 1024 rows */
    assert_int_equal(load(&v, &m, err), -EINVAL);
    assert_non_null(strstr(err, "class usual: a front half of 2 blocks takes "));
    assert_non_null(strstr(err, "its phones have 4 (memory_mib)"));
    sl_material_free(&m);
}

static void load__takes_no_more_held_out_windows_than_there_are(void **state)
{
    struct variant v = usual;
    struct sl_material m;
    char err[512];

    v.held_out_windows = 10000;
    assert_int_equal(load(&v, &m, err), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(m.held_out_windows[i], sl_windows(&m.shards[i].held_out, sl_material_seq(&m, i)));
    sl_material_free(&m);
}

static void load__errors_say_what_to_do(void **state)
{
    static const struct {
        struct variant v;
        const char *needle;
    } cases[] = {
        {{2, 2, 7, 2, 33}, "3 phones at most"},
        {{1, 2, 7, 4, 33}, "plan.cut is 4"},
        {{1, 2, 7, 2, 2050}, "2048 positions"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_material m;
        char err[512];
        assert_true(load(&cases[i].v, &m, err) < 0);
        assert_non_null(strstr(err, cases[i].needle));
        assert_null(strchr(err, '\n'));
        sl_material_free(&m);
    }
}

/* A line per phone with its windows, nothing else. */
static void held_out__file_has_a_line_per_phone(void **state)
{
    struct sl_material m;
    char err[512], path[PATH_BYTES];
    unsigned long id;

    assert_int_equal(load(&usual, &m, err), 0);
    assert_int_equal(sl_material_write_held_out(&m, dir, err, sizeof(err)), 0);
    snprintf(path, sizeof(path), "%s/heldout.ids", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (uint32_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < (size_t)m.held_out_windows[i] * sl_material_seq(&m, i); k++) {
            assert_int_equal(fscanf(f, "%lu", &id), 1);
            assert_int_equal(id, m.shards[i].held_out.ids[k]);
        }
        assert_int_equal(fgetc(f), '\n');
    }
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    sl_material_free(&m);
}

/* By hand, for one sequence of 16 rows, d 16, 2 heads of 8 over 1, ff 24, gated: matrices 2 * 16 * (256 + 2 *
 * 128 + 256 + 3 * 384) = 61,440; attention 4 * 16 * 17 / 2 * 16 = 8,704; backward has the attention twice. 2 blocks.
 */
static void pass__flop_by_hand(void **state)
{
    struct sl_material m;
    char err[512];
    const uint16_t len[] = {16};

    assert_int_equal(load(&usual, &m, err), 0);
    assert_true(fabs(sl_material_pass_flop(&m, len, 1, 2, false) - 2 * (61440 + 8704)) < 1e-6);
    assert_true(fabs(sl_material_pass_flop(&m, len, 1, 2, true) - 2 * (61440 + 2 * 8704)) < 1e-6);
    sl_material_free(&m);
}

/* f32, d 16: a row is one unit. EVAL: 8 windows of 32 rows, and 4 bytes a row of targets; training: 2
 * windows. */
static void sizes__hold_the_largest_message(void **state)
{
    struct sl_material m;
    char err[512];
    size_t message, gradient;

    assert_int_equal(load(&usual, &m, err), 0);
    sl_material_sizes(&m, &message, &gradient);
    assert_int_equal(message, (8 * 32 + 16) * 64);
    assert_int_equal(gradient, 2 * 32 * 64);
    sl_material_free(&m);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load__gives_every_phone_text_of_its_own),
        cmocka_unit_test(load__refuses_a_front_half_that_does_not_fit_its_phones),
        cmocka_unit_test(load__takes_no_more_held_out_windows_than_there_are),
        cmocka_unit_test(load__errors_say_what_to_do),
        cmocka_unit_test(held_out__file_has_a_line_per_phone),
        cmocka_unit_test(pass__flop_by_hand),
        cmocka_unit_test(sizes__hold_the_largest_message),
    };
    char sub[PATH_BYTES];

    if (!mkdtemp(dir))
        return 1;
    snprintf(sub, sizeof(sub), "%s/text", dir);
    mkdir(sub, 0700);
    snprintf(sub, sizeof(sub), "%s/model", dir);
    mkdir(sub, 0700);
    make_text();
    make_model();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return failed;
}
