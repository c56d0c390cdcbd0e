/* Files made by hand after the format's description, not by our writer. */
#include "tests/model/files.h"
#include "trainer/model/safetensors.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void refused(const char *header, uint64_t data_len, const char *why)
{
    struct sl_st_header h;
    char err[400] = "";
    if (sl_st_header_parse(header, strlen(header), data_len, "f.safetensors", &h, err, sizeof err) != -EINVAL)
        fail_msg("%s: not refused", header);
    if (!strstr(err, why) || !strstr(err, "f.safetensors") || strchr(err, '\n'))
        fail_msg("%s: \"%s\" does not say \"%s\"", header, err, why);
}

#define T(name, dtype, shape, range)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static void header_parse__refuses(void **state)
{
    refused("", 0, "not a safetensors");
    refused("[]", 0, "not a safetensors");
    refused(" {}", 0, "not a safetensors");
    refused("{", 0, "not JSON");
    refused("{\"x\":1}", 0, "x: not an object");
    refused("{\"x\":{}}", 0, "x: unknown dtype");
    refused("{" T("x", "F31", "[1]", "[0,4]") "}", 4, "x: unknown dtype");
    refused("{" T("x", "F32", "[2]", "[0,4]") "}", 4, "x: data_offsets do not fit");
    refused("{" T("x", "F32", "[1]", "[0,8]") "}", 8, "x: data_offsets do not fit");
    refused("{" T("x", "F32", "[1]", "[4,0]") "}", 8, "x: data_offsets do not fit");
    refused("{" T("x", "F32", "[1]", "[-4,0]") "}", 8, "x: data_offsets do not fit");
    refused("{" T("x", "F32", "[1]", "[0.5,4.5]") "}", 8, "x: data_offsets do not fit");
    refused("{" T("x", "F32", "[1]", "[0,4,8]") "}", 8, "x: data_offsets do not fit");
    refused("{" T("x", "F32", "1", "[0,4]") "}", 4, "x: bad shape");
    refused("{" T("x", "F32", "[-1]", "[0,4]") "}", 4, "x: bad shape");
    refused("{" T("x", "F32", "[1.5]", "[0,4]") "}", 4, "x: bad shape");
    refused("{" T("x", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "x: bad shape");
    refused("{" T("x", "F32", "[4503599627370496,1024]", "[0,0]") "}", 0, "x: bad shape");
    refused("{" T("x", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "x: bad shape");
    refused("{" T("x", "F32", "[1]", "[0,4]") "}", 3, "truncated");
    refused("{" T("x", "F32", "[1]", "[0,4]") "}", 5, "behind the last tensor");
    refused("{" T("x", "F32", "[1]", "[0,4]") "," T("y", "F32", "[1]", "[2,6]") "}", 6, "overlap");
    refused("{" T("x", "F32", "[1]", "[0,4]") "," T("y", "F32", "[1]", "[0,4]") "}", 4, "overlap");
    refused("{" T("x", "F32", "[1]", "[0,4]") "," T("y", "F32", "[1]", "[8,12]") "}", 12,
        "y: its data follow a hole");
    refused("{" T("x", "F32", "[1]", "[4,8]") "}", 8, "x: its data follow a hole");
    refused(
        "{" T("x", "F32", "[1]", "[0,4]") "," T("x", "F32", "[1]", "[4,8]") "}", 8, "\"x\" is there twice");
    refused("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "more");
}

static void header_parse__accepts(void **state)
{
    static const char text[] = "{\"__metadata__\":{\"format\":\"pt\"}," T("b", "BF16", "[2,3]",
        "[4,16]") "," T("s", "F32", "[]", "[0,4]") "," T("none", "F32", "[0,5]", "[16,16]") "}   ";
    struct sl_st_header h;
    char err[256] = "";
    if (sl_st_header_parse(text, strlen(text), 16, "f", &h, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(h.n, 3);
    assert_string_equal(h.tensors[0].name, "b");
    assert_int_equal(h.tensors[0].n, 6);
    assert_int_equal(h.tensors[1].n, 1);
    assert_int_equal(h.tensors[1].n_dims, 0);
    assert_int_equal(h.tensors[2].n, 0);
    sl_st_header_free(&h);
}

static void write_by_hand(const char *dir, const char *header, const void *data, size_t len)
{
    uint8_t file[512] = {(uint8_t)strlen(header)}; /* headers here are shorter than 256 bytes */
    memcpy(file + 8, header, strlen(header));
    memcpy(file + 8 + strlen(header), data, len);
    files_write(dir, "f", file, 8 + strlen(header) + len);
}

static void read__three_dtypes(void **state)
{
    static const uint8_t data[] = {0x00, 0x00, 0xc0, 0x3f, 0x00, 0x00, 0x00, 0x80, /* f32 1.5, -0 */
        0x00, 0x3e, 0x01, 0x00, 0xff, 0xfb, /* f16 1.5, 2^-24, -65504 */
        0xc0, 0x3f, 0x01, 0x00};            /* bf16 1.5, 2^-133 */
    char *dir = files_dir(), *path = files_path(dir, "f"), err[400] = "";
    write_by_hand(dir,
        "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F16", "[3]", "[8,14]") "," T(
            "c", "BF16", "[2]", "[14,18]") "}",
        data, sizeof data);
    struct sl_st_file f;
    float v[3];
    if (sl_st_open(path, &f, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(sl_st_read(&f, &f.header.tensors[0], v, err, sizeof err), 0);
    assert_true(v[0] == 1.5f && v[1] == 0 && signbit(v[1]));
    assert_int_equal(sl_st_read(&f, &f.header.tensors[1], v, err, sizeof err), 0);
    assert_true(v[0] == 1.5f && v[1] == 0x1p-24f && v[2] == -65504.0f);
    assert_int_equal(sl_st_read(&f, &f.header.tensors[2], v, err, sizeof err), 0);
    assert_true(v[0] == 1.5f && v[1] == 0x1p-133f);
    /* cut short while it is open */
    assert_int_equal(truncate(path, (off_t)(f.data_start + 5)), 0);
    assert_int_equal(sl_st_read(&f, &f.header.tensors[0], v, err, sizeof err), -EIO);
    assert_non_null(strstr(err, "truncated"));
    sl_st_close(&f);
    free(path);
    files_dir_remove(dir);
}

static void read__refuses_values_and_dtypes(void **state)
{
    static const uint8_t data[8] = {0x00, 0x7c, 0xc0, 0x7f, 0, 0, 0, 0}; /* f16 infinity, bf16 NaN */
    char *dir = files_dir(), *path = files_path(dir, "f"), err[400] = "";
    write_by_hand(dir,
        "{" T("inf", "F16", "[1]", "[0,2]") "," T("nan", "BF16", "[1]", "[2,4]") "," T(
            "int", "I32", "[1]", "[4,8]") "}",
        data, sizeof data);
    struct sl_st_file f;
    float v;
    if (sl_st_open(path, &f, err, sizeof err))
        fail_msg("%s", err);
    static const char *const why[] = {
        "inf: a value is not finite", "nan: a value is not finite", "int: dtype I32"};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sl_st_read(&f, &f.header.tensors[i], &v, err, sizeof err), -EINVAL);
        if (!strstr(err, why[i]))
            fail_msg("%s", err);
    }
    sl_st_close(&f);
    free(path);
    files_dir_remove(dir);
}

static void open__refuses(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *why;
    } cases[] = {{"", 0, "prefix"}, {"\2\0\0\0\0\0\0", 7, "prefix"}, {"\3\0\0\0\0\0\0\0{}", 10, "truncated"},
        {"\377\377\377\377\377\377\377\377{}", 10, "not a safetensors"},
        {"\2\0\0\0\0\0\0\0{}x", 11, "behind"}};
    char *dir = files_dir(), *path = files_path(dir, "f"), err[400] = "";
    struct sl_st_file f;
    assert_int_equal(sl_st_open(path, &f, err, sizeof err), -ENOENT);
    assert_int_equal(sl_st_open(dir, &f, err, sizeof err), -EINVAL);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        files_write(dir, "f", cases[i].bytes, cases[i].len);
        assert_int_equal(sl_st_open(path, &f, err, sizeof err), -EINVAL);
        if (!strstr(err, cases[i].why))
            fail_msg("%s", err);
    }
    free(path);
    files_dir_remove(dir);
}

/* Value of a half by the definition of IEEE 754. */
static double half_value(unsigned bits)
{
    int exponent = (int)(bits >> 10 & 0x1f), fraction = (int)(bits & 0x3ff);
    double v = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -v : v;
}

static unsigned encode_half(float v)
{
    uint8_t p[2];
    assert_int_equal(sl_st_encode(&v, 1, SL_DTYPE_F16, p), 0);
    return p[0] | (unsigned)p[1] << 8;
}

/* Every half, and the middle between it and the next, which goes to the even one; a hair more or less goes
 * that way. */
static void encode__half_rounds_to_nearest_even(void **state)
{
    for (unsigned bits = 0; bits < 0x7c00; bits++) {
        float v = (float)half_value(bits);
        assert_int_equal(encode_half(v), bits);
        assert_int_equal(encode_half(-v), bits | 0x8000);
        if (bits == 0x7bff)
            break;
        float middle = (float)((half_value(bits) + half_value(bits + 1)) / 2);
        assert_int_equal(encode_half(middle), bits & 1 ? bits + 1 : bits);
        assert_int_equal(encode_half(nextafterf(middle, 1e9f)), bits + 1);
        assert_int_equal(encode_half(nextafterf(middle, 0)), bits);
    }
}

static void encode__bfloat_rounds_to_nearest_even(void **state)
{
    for (uint32_t bits = 0; bits < 0x7f7f; bits++) {
        for (uint32_t low = 0x7fff; low <= 0x8001; low++) {
            uint32_t all = bits << 16 | low, want = low == 0x7fff   ? bits
                                                    : low == 0x8000 ? bits + (bits & 1)
                                                                    : bits + 1;
            float v;
            uint8_t p[2];
            memcpy(&v, &all, 4);
            assert_int_equal(sl_st_encode(&v, 1, SL_DTYPE_BF16, p), 0);
            assert_int_equal(p[0] | (unsigned)p[1] << 8, want);
        }
    }
}

static void encode__refuses_what_would_not_be_finite(void **state)
{
    uint8_t p[4];
    assert_int_equal(sl_st_encode(&(float){65519.0f}, 1, SL_DTYPE_F16, p), 0);
    assert_int_equal(sl_st_encode(&(float){65520.0f}, 1, SL_DTYPE_F16, p), -ERANGE);
    assert_int_equal(sl_st_encode(&(float){FLT_MAX}, 1, SL_DTYPE_BF16, p), -ERANGE);
    assert_int_equal(sl_st_encode(&(float){FLT_MAX}, 1, SL_DTYPE_F32, p), 0);
    assert_int_equal(sl_st_encode(&(float){NAN}, 1, SL_DTYPE_F32, p), -ERANGE);
    assert_int_equal(sl_st_encode(&(float){-INFINITY}, 1, SL_DTYPE_BF16, p), -ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_parse__refuses),
        cmocka_unit_test(header_parse__accepts),
        cmocka_unit_test(read__three_dtypes),
        cmocka_unit_test(read__refuses_values_and_dtypes),
        cmocka_unit_test(open__refuses),
        cmocka_unit_test(encode__half_rounds_to_nearest_even),
        cmocka_unit_test(encode__bfloat_rounds_to_nearest_even),
        cmocka_unit_test(encode__refuses_what_would_not_be_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
