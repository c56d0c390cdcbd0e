#include "dataplane/wire/lz4_block.h"

#include "dataplane/wire/packet.h"

#include <lz4.h>

enum { WORTH = 16 }; /* a saving below 1/16 does not pay for the receiver's second pass */

size_t sl_lz4_state_bytes(void)
{
    return (size_t)LZ4_sizeofState();
}

uint16_t sl_lz4_compress(void *state, const uint8_t *units, uint32_t n_units, uint8_t *out)
{
    const int bytes = (int)(n_units * SL_UNIT_BYTES);
    if (n_units > SL_DATAGRAM_MAX_BYTES / SL_UNIT_BYTES)
        return 0;
    int n =
        LZ4_compress_fast_extState(state, (const char *)units, (char *)out, bytes, bytes - bytes / WORTH, 1);
    return (uint16_t)(n > 0 ? n : 0);
}

bool sl_lz4_expand(const uint8_t *block, size_t len, uint8_t *units, uint32_t n_units)
{
    if (len == 0 || len > SL_DATAGRAM_MAX_BYTES || n_units > SL_DATAGRAM_MAX_BYTES / SL_UNIT_BYTES)
        return false;
    const int bytes = (int)(n_units * SL_UNIT_BYTES);
    return LZ4_decompress_safe((const char *)block, (char *)units, (int)len, bytes) == bytes;
}
