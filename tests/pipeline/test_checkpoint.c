#include "tests/pipeline/test.h"
#include "trainer/pipeline/checkpoint.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, FIRST = 1, BLOCK = 5, EDGE = LAYERS - FIRST };

static uint8_t *image_of(bool moments, size_t *len)
{
    float g[LAYERS * BLOCK], m[EDGE * BLOCK], v[EDGE * BLOCK];
    uint64_t t[EDGE] = {41, 42};
    struct sl_checkpoint_device devices[2] = {
        {.id = "device-00000", .last_step = 9}, {.id = "device-00007", .last_step = UINT64_MAX}};
    for (unsigned i = 0; i < LAYERS * BLOCK; i++)
        g[i] = (float)i - 3.5f;
    for (unsigned i = 0; i < EDGE * BLOCK; i++) {
        m[i] = 0.25f * (float)i;
        v[i] = 1e-9f * (float)i;
    }
    struct sl_checkpoint c = {.model_hash = {1, 2, 3},
        .run = 0x1122334455667788,
        .incarnation = 3,
        .version = 4,
        .global_step = 32,
        .tokens = 65536,
        .train_ns = 123456789,
        .lora = {.rank = 8, .alpha = 16, .targets = 5, .freeze_a = true, .seed = 99},
        .optim = moments ? SL_ADAMW : SL_SGD,
        .n_layers = LAYERS,
        .first = FIRST,
        .block = BLOCK,
        .g = g,
        .t = t,
        .m = moments ? m : NULL,
        .v = moments ? v : NULL,
        .devices = devices,
        .n_devices = 2};
    uint8_t *image;
    assert_int_equal(sl_checkpoint_encode(&c, &image, len), 0);
    return image;
}

static void decode__gives_back_what_was_encoded(void **state)
{
    for (unsigned moments = 0; moments < 2; moments++) {
        struct sl_checkpoint c;
        char err[200];
        size_t len, len2;
        uint8_t *image = image_of(moments, &len), *again;
        assert_int_equal(sl_checkpoint_decode(image, len, &c, err, sizeof err), 0);
        assert_true(c.run == 0x1122334455667788 && c.version == 4 && c.global_step == 32 && c.lora.freeze_a);
        assert_true(c.lora.alpha == 16 && c.t[1] == 42 && c.g[14] == 10.5f && c.n_devices == 2);
        assert_string_equal(c.devices[1].id, "device-00007");
        assert_true(c.devices[1].last_step == UINT64_MAX);
        assert_int_equal(c.m != NULL, moments);
        assert_int_equal(sl_checkpoint_encode(&c, &again, &len2), 0);
        assert_int_equal(len, len2);
        assert_memory_equal(image, again, len);
        sl_checkpoint_clear(&c);
        free(image);
        free(again);
    }
}

static void refused(const uint8_t *image, size_t len, const char *what)
{
    struct sl_checkpoint c;
    char err[200] = "";
    assert_int_equal(sl_checkpoint_decode(image, len, &c, err, sizeof err), -EINVAL);
    if (!strstr(err, what))
        fail_msg("\"%s\" does not say \"%s\"", err, what);
    assert_null(c.g);
}

static void decode__any_flipped_bit_is_noticed(void **state)
{
    size_t len;
    uint8_t *image = image_of(true, &len);
    for (size_t i = 0; i < len; i++) {
        image[i] ^= 0x10;
        refused(image, len, i < 8 ? "not one of Sluice's" : i < 12 ? "format" : "damaged");
        image[i] ^= 0x10;
    }
    free(image);
}

static void decode__truncated_is_refused(void **state)
{
    size_t len;
    uint8_t *image = image_of(true, &len);
    for (size_t n = 0; n < len; n++)
        refused(image, n, n < 144 + 32 ? "cut short" : "damaged");
    free(image);
}

static void sign(uint8_t *image, size_t len)
{
    SHA256(image, len - SHA256_DIGEST_LENGTH, image + len - SHA256_DIGEST_LENGTH);
}

/* With a digest that is right, so that the parser itself has to see it. */
static void decode__sizes_that_the_bytes_do_not_have_are_refused(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } fields[] = {{120, 4}, {120, 0}, {123, 255}, {124, 3}, {124, 0}, {128, 3}, {131, 255}, {132, 0},
        {132, 2}, {136, 4}, {136, 0}, {143, 255}};
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        size_t len;
        uint8_t *image = image_of(true, &len);
        image[fields[i].at] = fields[i].value;
        sign(image, len);
        refused(image, len, "length");
        free(image);
    }
}

static void decode__contents_that_cannot_be_are_refused(void **state)
{
    size_t len;
    uint8_t *image = image_of(true, &len);
    memcpy(image + 144 + 8, (const uint8_t[]){0, 0, 0xc0, 0x7f}, 4); /* a NaN */
    sign(image, len);
    refused(image, len, "not finite");
    free(image);
    image = image_of(true, &len);
    memset(image + len - 32 - 73, 'x', 65);
    sign(image, len);
    refused(image, len, "without an end");
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode__gives_back_what_was_encoded),
        cmocka_unit_test(decode__any_flipped_bit_is_noticed),
        cmocka_unit_test(decode__truncated_is_refused),
        cmocka_unit_test(decode__sizes_that_the_bytes_do_not_have_are_refused),
        cmocka_unit_test(decode__contents_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests_name("pipeline/checkpoint", tests, NULL, NULL);
}
