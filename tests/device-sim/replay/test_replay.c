#include "tests/device-sim/replay/recordings.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/sluice-test-replay-XXXXXX";

static void record(enum sl_codec codec, uint32_t n)
{
    struct sl_replay_model m = recording_model(codec);
    struct sl_recorder *r;
    char err[200];
    uint64_t kept, left;

    assert_int_equal(sl_recorder_open(path, &m, 0, &r, err, sizeof(err)), 0);
    for (uint32_t i = 0; i < n; i++) {
        struct sl_recording_entry e = recording_entry(codec, 10 + i % 2, 1 + i % 2, i);
        assert_int_equal(sl_recorder_add(r, &e), 0);
        free((void *)(uintptr_t)e.units);
    }
    assert_int_equal(sl_recorder_close(r, &kept, &left, err, sizeof(err)), 0);
}

static struct sl_grid grid_of(enum sl_codec codec, uint32_t rows)
{
    struct sl_grid g;
    assert_int_equal(sl_grid_make(&g, rows, RECORDING_D, codec, 1, 20), 0);
    return g;
}

static void pick__recorded__one_of_its_shape_and_cut_by_phone_and_step(void **state)
{
    struct sl_replay_model m = recording_model(SL_CODEC_INT8);
    struct sl_replay_shape even = {.n_seqs = 1, .rows = 10, .cut = 1},
                           odd = {.n_seqs = 1, .rows = 11, .cut = 2};
    struct sl_grid g = grid_of(SL_CODEC_INT8, 10);
    struct sl_replay *a, *b;
    char err[200];

    record(SL_CODEC_INT8, 20);
    assert_int_equal(sl_replay_open(path, &m, 7, &a, err, sizeof(err)), 0);
    assert_int_equal(sl_replay_open(path, &m, 7, &b, err, sizeof(err)), 0);
    assert_int_equal(sl_replay_count(a, &even), 10);
    assert_int_equal(sl_replay_count(a, &odd), 10);
    unsigned seen = 0;
    for (uint32_t step = 200; step-- > 0;) { /* backwards: the order of calls plays no part */
        const uint8_t *pick = sl_replay_pick(a, &even, 3, step, &g);
        size_t n = 0;
        for (uint32_t i = 0; i < 20; i += 2) {
            struct sl_recording_entry e = recording_entry(SL_CODEC_INT8, 10, 1, i);
            if (memcmp(pick, e.units, (size_t)g.n_units * SL_UNIT_BYTES) == 0) {
                n++;
                seen |= 1u << i;
            }
            free((void *)(uintptr_t)e.units);
        }
        assert_int_equal(n, 1);
    }
    assert_int_equal(seen, 0x55555); /* every one of them */
    for (uint32_t step = 0; step < 200; step++)
        assert_memory_equal(sl_replay_pick(a, &even, 3, step, &g), sl_replay_pick(b, &even, 3, step, &g),
            (size_t)g.n_units * SL_UNIT_BYTES);
    struct sl_replay_shape none = {.n_seqs = 1, .rows = 10, .cut = 2};
    assert_null(sl_replay_pick(a, &none, 3, 1, &g));
    sl_replay_free(a);
    sl_replay_free(b);
}

static void open__recording_of_something_else__says_of_what(void **state)
{
    struct sl_replay_model m = recording_model(SL_CODEC_BF16), other = m;
    struct sl_replay *r;
    char err[200];

    record(SL_CODEC_BF16, 2);
    other.hash[5] ^= 1;
    assert_int_equal(sl_replay_open(path, &other, 7, &r, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "another model"));
    other = m;
    other.codec = SL_CODEC_F32;
    assert_int_equal(sl_replay_open(path, &other, 7, &r, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "another codec"));
    assert_int_equal(sl_replay_open("/nowhere", &m, 7, &r, err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, "/nowhere: "));
    assert_int_equal(truncate(path, 200), 0);
    assert_int_equal(sl_replay_open(path, &m, 7, &r, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "cut off"));
    record(SL_CODEC_BF16, 0);
    assert_int_equal(sl_replay_open(path, &m, 7, &r, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "empty"));
}

/* Finite in every codec, targets in the vocabulary, and the outliers are where they are said to be: the ratio
 * of the largest channel's scale to the median one's. */
static void generate__every_codec__what_the_header_says(void **state)
{
    enum { D = 512, ROWS = 64 };
    struct sl_replay_shape s[2] = {
        {.n_seqs = 2, .rows = ROWS, .cut = 1}, {.n_seqs = 2, .rows = ROWS, .cut = 3}};

    for (enum sl_codec codec = 0; codec < SL_CODEC_COUNT; codec++) {
        struct sl_replay_model m = recording_model(codec);
        struct sl_replay *r;
        struct sl_grid g;
        m.d_model = D;
        assert_int_equal(sl_replay_generate(&m, s, 2, 7, &r), 0);
        assert_int_equal(sl_grid_make(&g, ROWS, D, codec, 1, 20), 0);
        assert_int_equal(sl_replay_count(r, &s[1]), SL_REPLAY_GENERATED); /* shared by both cuts */
        assert_int_equal(sl_replay_bytes(r), (size_t)SL_REPLAY_GENERATED * g.n_units * SL_UNIT_BYTES);
        const uint8_t *units = sl_replay_pick(r, &s[0], 11, 2, &g);
        static float x[ROWS * D];
        sl_codec_decode(codec, units, x, ROWS * D);
        uint32_t large = 0;
        for (uint32_t c = 0; c < D; c++) {
            double sum = 0;
            for (uint32_t i = 0; i < ROWS; i++) {
                assert_true(isfinite(x[i * D + c]));
                sum += (double)x[i * D + c] * (double)x[i * D + c];
            }
            large += sqrt(sum / ROWS) > 6; /* an ordinary scale is above 6 at 3.6 sigma: 0.08 of 512 */
        }
        assert_in_range(large, 1, 25); /* binomial of 512 at 1/64: mean 8, and above 25 at 1e-6 */
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t id;
            memcpy(&id, units + (size_t)g.tensor_units * SL_UNIT_BYTES + 4 * (size_t)i, sizeof(id));
            assert_true(id < RECORDING_VOCAB);
        }
        sl_replay_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pick__recorded__one_of_its_shape_and_cut_by_phone_and_step),
        cmocka_unit_test(open__recording_of_something_else__says_of_what),
        cmocka_unit_test(generate__every_codec__what_the_header_says)};
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
