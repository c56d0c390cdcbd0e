#include "tests/pipeline/test.h"
#include "trainer/pipeline/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, FIRST = 1, BLOCK = 5, EDGE = LAYERS - FIRST };

static uint8_t *finish(struct sl_image *im, size_t *len)
{
    uint8_t *bytes;
    assert_int_equal(sl_image_finish(im, &bytes, len), 0);
    sl_image_sign(bytes, *len);
    return bytes;
}

/* With a part of 3 numbers, where asked for. */
static uint8_t *image_of(bool moments, bool part, size_t *len)
{
    float g[LAYERS * BLOCK], m[EDGE][BLOCK], v[EDGE][BLOCK];
    struct sl_moments edge[EDGE] = {{.t = 41}, {.t = 42}};
    struct sl_checkpoint_device devices[2] = {
        {.id = "device-00000", .last_step = 9, .cut = 2}, {.id = "device-00007", .last_step = UINT64_MAX}};
    for (unsigned i = 0; i < LAYERS * BLOCK; i++)
        g[i] = (float)i - 3.5f;
    for (unsigned i = 0; i < EDGE; i++) {
        for (unsigned k = 0; k < BLOCK; k++) {
            m[i][k] = 0.25f * (float)(BLOCK * i + k);
            v[i][k] = 1e-9f * (float)(BLOCK * i + k);
        }
        edge[i].m = moments ? m[i] : NULL;
        edge[i].v = moments ? v[i] : NULL;
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
        .moments = edge,
        .devices = devices,
        .n_devices = 2};
    struct sl_image im;
    sl_checkpoint_encode(&c, 0, &im);
    if (part) {
        sl_image_section(&im, SL_PART_PERSONAL);
        for (uint32_t i = 0; i < 3; i++)
            sl_image_u32(&im, 100 + i);
    }
    return finish(&im, len);
}

static void decode__gives_back_what_was_encoded(void **state)
{
    for (unsigned k = 0; k < 4; k++) {
        bool moments = k & 1, part = k & 2;
        struct sl_checkpoint c;
        struct sl_image im;
        char err[200];
        size_t len, len2;
        uint8_t *image = image_of(moments, part, &len), *again;
        assert_int_equal(sl_checkpoint_decode(image, len, &c, err, sizeof err), 0);
        assert_true(c.run == 0x1122334455667788 && c.version == 4 && c.global_step == 32 && c.lora.freeze_a);
        assert_true(c.lora.alpha == 16 && c.moments[1].t == 42 && c.g[14] == 10.5f && c.n_devices == 2);
        assert_string_equal(c.devices[1].id, "device-00007");
        assert_true(c.devices[1].last_step == UINT64_MAX && c.devices[0].cut == 2);
        assert_int_equal(c.moments[0].m != NULL, moments);
        assert_true(!moments || (c.moments[1].m[4] == 2.25f && c.moments[1].v[4] == 9e-9f));
        sl_checkpoint_encode(&c, 0, &im);
        again = finish(&im, &len2);
        assert_int_equal(len, len2);
        assert_memory_equal(image, again, len);
        sl_checkpoint_clear(&c);
        free(image);
        free(again);
    }
}

static void part__is_kept_for_its_owner(void **state)
{
    struct sl_checkpoint c;
    char err[200];
    size_t len;
    uint8_t *image = image_of(true, true, &len);
    assert_int_equal(sl_checkpoint_decode(image, len, &c, err, sizeof err), 0);
    free(image);
    assert_null(sl_checkpoint_part(&c, SL_PART_SERVER));
    const struct sl_section *part = sl_checkpoint_part(&c, SL_PART_PERSONAL);
    assert_non_null(part);
    struct sl_section s = *part;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(sl_section_u32(&s), 100 + i);
    assert_true(sl_section_ended(&s));
    assert_int_equal(sl_section_u32(&s), 0); /* nothing is left: noticed, and not read */
    assert_true(s.bad && !sl_section_ended(&s));
    sl_checkpoint_clear(&c);
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
    uint8_t *image = image_of(true, true, &len);
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
    uint8_t *image = image_of(true, true, &len);
    for (size_t n = 0; n < len; n++)
        refused(image, n, n < 16 + 32 ? "cut short" : "damaged");
    free(image);
}

/* Format 1 had no sections. */
static void decode__of_the_older_format_is_refused(void **state)
{
    size_t len;
    uint8_t *image = image_of(true, false, &len);
    image[8] = 1;
    sl_image_sign(image, len);
    refused(image, len, "of another format version, written by another release; move it away");
    free(image);
}

/* Every byte of the frame changed, with a digest that is right, so that the parser itself has to see it:
 * refused, or taken for what it says, never read beyond. */
static void decode__no_size_makes_it_read_what_is_not_there(void **state)
{
    static const uint8_t values[] = {0, 1, 3, 0x7f, 0xff};
    size_t len;
    uint8_t *image = image_of(true, true, &len);
    uint32_t taken = 0;
    for (size_t i = 12; i < len - SL_IMAGE_DIGEST; i++) {
        for (unsigned k = 0; k < sizeof values; k++) {
            struct sl_checkpoint c;
            char err[200];
            uint8_t before = image[i];
            image[i] = values[k];
            sl_image_sign(image, len);
            if (!sl_checkpoint_decode(image, len, &c, err, sizeof err)) {
                struct sl_image im;
                size_t len2;
                sl_checkpoint_encode(&c, 0, &im);
                uint8_t *again = finish(&im, &len2);
                assert_int_equal(len2, len);
                assert_memory_equal(again, image, len); /* what it takes, it understood */
                free(again);
                sl_checkpoint_clear(&c);
                taken++;
            }
            image[i] = before;
        }
    }
    assert_true(taken > 0);
    free(image);
}

static size_t find(const uint8_t *image, size_t len, const char *tag)
{
    uint8_t *at = memmem(image, len, tag, 4);
    assert_non_null(at);
    return (size_t)(at - image);
}

static void decode__sizes_that_the_bytes_do_not_have_are_refused(void **state)
{
    static const struct {
        const char *tag;
        size_t at;
        uint8_t value;
    } fields[] = {{"RUN ", 8, 79}, {"RUN ", 8, 88}, {"RUN ", 15, 255}, {"GLOB", 8, 56}, {"LORA", 16 + 20, 4},
        {"LORA", 16 + 20, 0}, {"LORA", 16 + 24, 3}, {"LORA", 16 + 24, 0}, {"LORA", 16 + 40, 4},
        {"LORA", 16 + 40, 0}, {"LORA", 16 + 47, 255}, {"EDGE", 16, 0}, {"EDGE", 16, 2}, {"DEVS", 16, 3},
        {"DEVS", 19, 255}};
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        size_t len;
        uint8_t *image = image_of(true, false, &len);
        image[find(image, len, fields[i].tag) + fields[i].at] = fields[i].value;
        sl_image_sign(image, len);
        refused(image, len, "length");
        free(image);
    }
}

static void decode__contents_that_cannot_be_are_refused(void **state)
{
    static const uint8_t nan[] = {0, 0, 0xc0, 0x7f};
    size_t len;
    uint8_t *image = image_of(true, false, &len);
    memcpy(image + find(image, len, "GLOB") + 16 + 8, nan, 4);
    sl_image_sign(image, len);
    refused(image, len, "not finite");
    free(image);
    image = image_of(true, false, &len);
    memcpy(image + find(image, len, "EDGE") + 16 + 8 + 8, nan, 4);
    sl_image_sign(image, len);
    refused(image, len, "not finite");
    free(image);
    image = image_of(true, false, &len);
    memset(image + find(image, len, "DEVS") + 16 + 8, 'x', 65);
    sl_image_sign(image, len);
    refused(image, len, "device that cannot be");
    free(image);
    image = image_of(true, true, &len);
    memcpy(image + find(image, len, "PERS"), "NEWS", 4);
    sl_image_sign(image, len);
    refused(image, len, "does not know");
    memcpy(image + find(image, len, "NEWS"), "RUN ", 4);
    sl_image_sign(image, len);
    refused(image, len, "twice");
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode__gives_back_what_was_encoded),
        cmocka_unit_test(part__is_kept_for_its_owner),
        cmocka_unit_test(decode__any_flipped_bit_is_noticed),
        cmocka_unit_test(decode__truncated_is_refused),
        cmocka_unit_test(decode__of_the_older_format_is_refused),
        cmocka_unit_test(decode__no_size_makes_it_read_what_is_not_there),
        cmocka_unit_test(decode__sizes_that_the_bytes_do_not_have_are_refused),
        cmocka_unit_test(decode__contents_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests_name("pipeline/checkpoint", tests, NULL, NULL);
}
