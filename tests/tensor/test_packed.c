/* Packed products against sums in double of the operands as they were rounded. */
#include "tests/tensor/twin.h"
#include "trainer/tensor/packed.h"
#include "trainer/tensor/parallel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 600 };
static const float beyond = -12345.0f; /* what lies in y after the product's rows */

static float rounded(enum sl_precision p, float x)
{
    return p == SL_PRECISION_BF16 ? sl_bf16_widen(sl_bf16_round(x)) : x;
}

/* n floats as a malloc'ed array of the precision. */
static void *as(enum sl_precision p, const float *x, size_t n)
{
    void *y = malloc(n * sl_precision_size(p));
    if (p == SL_PRECISION_BF16)
        sl_bf16_from_f32(x, n, y);
    else
        memcpy(y, x, n * sizeof *x);
    return y;
}

static float at(enum sl_precision p, const void *x, size_t i)
{
    return p == SL_PRECISION_BF16 ? sl_bf16_widen(((const sl_bf16 *)x)[i]) : ((const float *)x)[i];
}

struct shape {
    enum sl_precision precision, y_type;
    uint32_t rows, in, out, tile, x_gap, y_gap, room;
    bool out_in, stream, backward, bias, residual, accumulate;
};

/* Element (i, j) of W [in, out]. */
static float weight(const struct shape *s, const float *w, uint32_t i, uint32_t j)
{
    return rounded(s->precision, s->out_in ? w[(size_t)j * s->in + i] : w[(size_t)i * s->out + j]);
}

static void one_tile(
    const struct shape *s, const struct sl_packed *p, const float *w, uint32_t tile, void *scratch)
{
    uint32_t first, width;
    sl_packed_tile(p, tile, &first, &width);
    uint32_t k = s->backward ? width : s->in, n = s->backward ? s->in : width;
    uint32_t ld_x = k + s->x_gap, ld_y = n + s->y_gap, room = s->rows > s->room ? s->rows : s->room;
    float *xf = twin_data("x", (size_t)room * ld_x, 1), *bias = twin_data("bias", n, 1);
    float *yf = twin_data("y", (size_t)room * ld_y, 1), *rf = twin_data("residual", (size_t)room * ld_y, 1);
    for (size_t i = (size_t)s->rows * ld_y; i < (size_t)room * ld_y; i++)
        yf[i] = beyond;
    void *x = as(s->precision, xf, (size_t)room * ld_x), *y = as(s->y_type, yf, (size_t)room * ld_y);
    void *residual = as(s->y_type, rf, (size_t)room * ld_y);
    struct sl_product call = {.rows = s->rows,
        .room = s->room,
        .x = x,
        .ld_x = ld_x,
        .y = y,
        .ld_y = ld_y,
        .y_type = s->y_type,
        .bias = s->bias ? bias : NULL,
        .residual = s->residual ? residual : NULL,
        .accumulate = s->accumulate};
    int err = s->backward ? sl_packed_backward_tile(p, tile, &call, scratch)
                          : sl_packed_forward_tile(p, tile, &call, scratch);
    assert_int_equal(err, 0);

    double *twin = malloc((size_t)s->rows * n * sizeof *twin);
    float *ours = malloc((size_t)s->rows * n * sizeof *ours);
    for (uint32_t i = 0; i < s->rows; i++) {
        for (uint32_t j = 0; j < n; j++) {
            size_t here = (size_t)i * ld_y + j;
            double sum = s->bias ? bias[j] : 0;
            if (s->residual)
                sum += rounded(s->y_type, rf[here]);
            if (s->accumulate)
                sum += rounded(s->y_type, yf[here]);
            for (uint32_t c = 0; c < k; c++)
                sum += (double)at(s->precision, x, (size_t)i * ld_x + c) *
                       (s->backward ? weight(s, w, j, first + c) : weight(s, w, c, first + j));
            twin[(size_t)i * n + j] = sum;
            ours[(size_t)i * n + j] = at(s->y_type, y, here);
        }
    }
    twin_close(ours, twin, (size_t)s->rows * n, s->y_type == SL_PRECISION_BF16 ? 4e-3 : 1e-6, "product");
    for (size_t i = 0; i < (size_t)room; i++)
        for (uint32_t j = i < s->rows ? n : 0; j < ld_y; j++)
            assert_true(at(s->y_type, y, i * ld_y + j) == rounded(s->y_type, yf[i * ld_y + j]));
    free(xf), free(yf), free(rf), free(bias), free(x), free(y), free(residual), free(twin), free(ours);
}

static void check(struct shape s)
{
    float *w = twin_data("w", (size_t)s.in * s.out, 0.1f);
    struct sl_packed_config config = {.w = w,
        .in = s.in,
        .out = s.out,
        .out_in = s.out_in,
        .precision = s.precision,
        .backward = true,
        .tile = s.tile,
        .stream = s.stream};
    struct sl_packed *p;
    assert_int_equal(sl_packed_create(&config, &p), 0);
    size_t scratch_bytes = sl_packed_scratch(p, MAX_ROWS);
    void *scratch = aligned_alloc(64, (scratch_bytes + 64) / 64 * 64);
    uint64_t before = sl_packed_count(s.precision);
    for (unsigned way = 0; way < 2; way++) {
        s.backward = way;
        for (uint32_t t = 0; t < sl_packed_tiles(p); t++)
            one_tile(&s, p, w, t, scratch);
    }
    void *column = malloc(s.in * sl_precision_size(s.precision));
    for (uint32_t j = 0; j < s.out; j += 1 + s.out / 9) {
        sl_packed_column(p, j, column);
        for (uint32_t i = 0; i < s.in; i++)
            assert_true(at(s.precision, column, i) == weight(&s, w, i, j));
    }
    free(column);
    assert_int_equal(sl_packed_count(s.precision) - before, 2 * sl_packed_tiles(p));
    sl_packed_free(p);
    free(scratch);
    free(w);
}

/* Every extra with odd and even shapes, in place and through copies. */
static void all_shapes(enum sl_precision precision)
{
    if (!sl_precision_supported(precision)) {
        printf("SKIP: no bf16 arithmetic in this CPU\n");
        return;
    }
    static const uint32_t rows[] = {1, 7, 16, 129, 300, 513},
                          sizes[][2] = {{32, 64}, {37, 129}, {1, 5}, {200, 97}};
    unsigned turn = 0;
    for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++)
        for (unsigned z = 0; z < sizeof sizes / sizeof *sizes; z++)
            for (unsigned extra = 0; extra < 6; extra++, turn++) {
                bool wide = precision == SL_PRECISION_BF16 && turn % 3 == 0;
                check((struct shape){.precision = precision,
                    .y_type = wide ? SL_PRECISION_BF16 : SL_PRECISION_F32,
                    .rows = rows[r],
                    .in = sizes[z][0],
                    .out = sizes[z][1],
                    .out_in = turn & 1,
                    .stream = turn / 2 & 1,
                    .tile = turn % 4 == 3 ? 50 : 0,
                    .bias = extra & 1,
                    .residual = extra / 2 == 1,
                    .accumulate = extra / 2 == 2,
                    .x_gap = turn % 7 == 0 ? 3 : 0,
                    .y_gap = turn % 5 == 0 ? 9 : 0,
                    .room = turn % 2 ? (rows[r] + 15) / 16 * 16 : 0});
            }
}

static void packed_f32__agrees_with_sums_in_double(void **state)
{
    all_shapes(SL_PRECISION_F32);
}

static void packed_bf16__agrees_with_sums_in_double(void **state)
{
    all_shapes(SL_PRECISION_BF16);
}

static void packed__is_right_with_more_threads_too(void **state)
{
    sl_parallel_set_threads(3);
    for (unsigned p = 0; p < 2; p++)
        if (sl_precision_supported(p))
            check((struct shape){.precision = p,
                .stream = true,
                .rows = 129,
                .in = 96,
                .out = 80,
                .bias = true,
                .accumulate = true});
    sl_parallel_set_threads(1);
}

/* A row's result is the same in whatever company it is computed: gangs may be regrouped (rules L6). */
static void packed__gives_a_row_the_same_bits_in_any_batch(void **state)
{
    enum { IN = 1600, OUT = 200 };
    float *w = twin_data("w", IN * OUT, 0.1f), *xf = twin_data("x", (size_t)MAX_ROWS * IN, 1);
    float *y = malloc(MAX_ROWS * OUT * sizeof *y), *part = malloc(MAX_ROWS * OUT * sizeof *part);
    for (enum sl_precision p = 0; p < 2; p++) {
        if (!sl_precision_supported(p))
            continue;
        struct sl_packed_config config = {.w = w, .in = IN, .out = OUT, .precision = p};
        struct sl_packed *packed;
        assert_int_equal(sl_packed_create(&config, &packed), 0);
        if (strstr(sl_packed_kernel_name(p), "OpenBLAS")) { /* OpenBLAS does not promise it */
            sl_packed_free(packed);
            continue;
        }
        void *scratch = aligned_alloc(64, sl_packed_scratch(packed, MAX_ROWS)),
             *x = as(p, xf, (size_t)MAX_ROWS * IN);
        struct sl_product all = {.rows = MAX_ROWS, .x = x, .ld_x = IN, .y = y, .ld_y = OUT};
        assert_int_equal(sl_packed_forward(packed, &all, scratch), 0);
        static const uint32_t sizes[] = {1, 7, 16, 40, 100, 129, 255, 333};
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            uint32_t row = 11 * i;
            struct sl_product some = {.rows = sizes[i],
                .x = (char *)x + row * IN * sl_precision_size(p),
                .ld_x = IN,
                .y = part,
                .ld_y = OUT};
            assert_int_equal(sl_packed_forward(packed, &some, scratch), 0);
            assert_memory_equal(part, y + row * OUT, sizes[i] * OUT * sizeof *y);
        }
        sl_packed_free(packed);
        free(scratch), free(x);
    }
    free(w), free(xf), free(y), free(part);
}

static void packed_kernel_name__is_told(void **state)
{
    assert_true(strstr(sl_packed_kernel_name(SL_PRECISION_F32), "one") ||
                strstr(sl_packed_kernel_name(SL_PRECISION_F32), "Open"));
    if (sl_precision_supported(SL_PRECISION_BF16))
        assert_non_null(strstr(sl_packed_kernel_name(SL_PRECISION_BF16), "brg"));
}

static void packed_create__refuses_an_empty_matrix(void **state)
{
    struct sl_packed *p;
    float w = 1;
    assert_int_equal(sl_packed_create(&(struct sl_packed_config){.w = &w, .in = 0, .out = 1}, &p), -EINVAL);
    assert_int_equal(sl_packed_create(&(struct sl_packed_config){.w = &w, .in = 1, .out = 0}, &p), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_f32__agrees_with_sums_in_double),
        cmocka_unit_test(packed_bf16__agrees_with_sums_in_double),
        cmocka_unit_test(packed__is_right_with_more_threads_too),
        cmocka_unit_test(packed__gives_a_row_the_same_bits_in_any_batch),
        cmocka_unit_test(packed_kernel_name__is_told),
        cmocka_unit_test(packed_create__refuses_an_empty_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
