#include "dataplane/wire/lz4_block.h"

#include "dataplane/wire/packet.h"
#include "tests/wire/test.h"

#include <stdlib.h>

enum { UNITS = 22, BYTES = UNITS * SL_UNIT_BYTES };
static void *state_of;

static int setup(void **state)
{
    state_of = malloc(sl_lz4_state_bytes());
    return state_of == NULL;
}

static int teardown(void **state)
{
    free(state_of);
    return 0;
}

static void fill(uint8_t *p, size_t n, unsigned values)
{
    uint32_t r = 1;
    for (size_t i = 0; i < n; i++) {
        r = r * 1664525 + 1013904223; /* Numerical Recipes' */
        p[i] = (uint8_t)((r >> 24) % values);
    }
}

static void compress__comes_back(void **state)
{
    uint8_t in[BYTES], block[BYTES], out[BYTES + 1];
    for (unsigned values = 1; values <= 4; values++) {
        fill(in, BYTES, values);
        uint16_t n = sl_lz4_compress(state_of, in, UNITS, block);
        assert_in_range(n, 1, BYTES - 1);
        memset(out, 0xee, sizeof(out));
        assert_true(sl_lz4_expand(block, n, out, UNITS));
        assert_memory_equal(out, in, BYTES);
        assert_int_equal(out[BYTES], 0xee);
    }
}

/* The block format's specification: a token of 15 literals, a length byte, the literals, no match. */
static void expand__golden_block(void **state)
{
    uint8_t block[2 + SL_UNIT_BYTES] = {0xf0, SL_UNIT_BYTES - 15}, out[SL_UNIT_BYTES];
    for (unsigned i = 0; i < SL_UNIT_BYTES; i++)
        block[2 + i] = (uint8_t)i;
    assert_true(sl_lz4_expand(block, sizeof(block), out, 1));
    assert_memory_equal(out, block + 2, SL_UNIT_BYTES);
    /* one literal, then 58 times the same (offset 1), then 5 literals, the least that may end a block */
    const uint8_t run[] = {0x1f, 0x07, 0x01, 0x00, 58 - 19, 0x50, 1, 2, 3, 4, 5};
    assert_true(sl_lz4_expand(run, sizeof(run), out, 1));
    for (unsigned i = 0; i < 59; i++)
        assert_int_equal(out[i], 7);
    assert_int_equal(out[63], 5);
}

static void compress__not_worth_it(void **state)
{
    uint8_t in[BYTES], block[BYTES];
    fill(in, BYTES, 256);
    assert_int_equal(sl_lz4_compress(state_of, in, UNITS, block), 0);
    memset(in, 0, BYTES / 20); /* shrinks, but by less than a sixteenth */
    assert_int_equal(sl_lz4_compress(state_of, in, UNITS, block), 0);
    assert_int_equal(sl_lz4_compress(state_of, in, SL_DATAGRAM_MAX_BYTES, block), 0);
}

static void expand__not_what_the_grid_says(void **state)
{
    uint8_t in[BYTES], block[BYTES], out[BYTES + SL_UNIT_BYTES];
    fill(in, BYTES, 2);
    uint16_t n = sl_lz4_compress(state_of, in, UNITS, block);
    assert_false(sl_lz4_expand(block, n, out, UNITS - 1));
    assert_false(sl_lz4_expand(block, n, out, UNITS + 1));
    assert_false(sl_lz4_expand(block, 0, out, UNITS));
    for (uint16_t cut = 1; cut < n; cut++)
        assert_false(sl_lz4_expand(block, cut, out, UNITS));
    const uint8_t before_the_start[] = {0x1f, 0x07, 0x02, 0x00, 58 - 19, 0x50, 1, 2, 3, 4, 5};
    assert_false(sl_lz4_expand(before_the_start, sizeof(before_the_start), out, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compress__comes_back),
        cmocka_unit_test(compress__not_worth_it),
        cmocka_unit_test(expand__golden_block),
        cmocka_unit_test(expand__not_what_the_grid_says),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
