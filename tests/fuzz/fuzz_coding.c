/* What a valid device may put into a compressed fragment: whatever it is, expanding writes exactly the units
 * of the grid or says no, and any units decode. What is compressed here comes back. */
#include "dataplane/wire/int8.h"
#include "dataplane/wire/lz4_block.h"
#include "dataplane/wire/packet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

enum { UNITS_MAX = 24 };

static void *state;

/* Buffers of exactly the size that is promised, so that a sanitizer sees a byte beyond it. */
static void expand(const uint8_t *block, size_t len, uint32_t n_units)
{
    uint8_t *copy = malloc(len + 1), *units = malloc((size_t)n_units * SL_UNIT_BYTES);
    uint64_t n = (uint64_t)n_units * SL_INT8_PER_UNIT;
    uint16_t *half = malloc(n * sizeof(*half));
    if (copy == NULL || units == NULL || half == NULL)
        abort();
    memcpy(copy, block, len);
    copy = realloc(copy, len == 0 ? 1 : len);
    if (sl_lz4_expand(copy, len, units, n_units))
        sl_int8_decode_bf16(units, half, n);
    free(copy);
    free(units);
    free(half);
}

static void come_back(const uint8_t *data, uint32_t n_units)
{
    uint8_t block[UNITS_MAX * SL_UNIT_BYTES], units[UNITS_MAX * SL_UNIT_BYTES];
    uint16_t n = sl_lz4_compress(state, data, n_units, block);
    if (n == 0)
        return;
    if (n >= n_units * SL_UNIT_BYTES || !sl_lz4_expand(block, n, units, n_units) ||
        memcmp(units, data, n_units * SL_UNIT_BYTES) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (state == NULL && (state = malloc(sl_lz4_state_bytes())) == NULL)
        abort();
    if (size == 0)
        return 0;
    expand(data + 1, size - 1, 1 + data[0] % UNITS_MAX);
    uint32_t whole = (uint32_t)((size - 1) / SL_UNIT_BYTES);
    if (whole != 0)
        come_back(data + 1, whole < UNITS_MAX ? whole : UNITS_MAX);
    return 0;
}

/* Blocks that expand, of units with ever more different bytes; and the units themselves. */
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    if (index >= 16 || cap < 1 + UNITS_MAX * SL_UNIT_BYTES)
        return 0;
    if (state == NULL && (state = malloc(sl_lz4_state_bytes())) == NULL)
        abort();
    uint32_t n_units = 1 + index * 3 % UNITS_MAX, r = index;
    uint8_t units[UNITS_MAX * SL_UNIT_BYTES];
    for (uint32_t i = 0; i < n_units * SL_UNIT_BYTES; i++) {
        r = r * 1664525 + 1013904223;
        units[i] = (uint8_t)((r >> 24) % (1 + index / 2));
    }
    buf[0] = (uint8_t)(n_units - 1);
    if (index % 4 == 3) {
        memcpy(buf + 1, units, n_units * SL_UNIT_BYTES);
        return 1 + n_units * SL_UNIT_BYTES;
    }
    return 1 + (size_t)sl_lz4_compress(state, units, n_units, buf + 1);
}
