/* Codec int8+lz4: the int8 units of one fragment as one LZ4 block ("LZ4 Block Format Description", no frame,
 * no dictionary), so that any packet is expanded alone. The grid says how many bytes it makes; a fragment
 * that does not shrink by a sixteenth is sent as it is. No allocation; one thread per state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of the compressor's state, 8-byte aligned. */
size_t sl_lz4_state_bytes(void);
/* Room for n_units * 64 bytes at `out`. Returns the bytes written; 0: it does not shrink. */
uint16_t sl_lz4_compress(void *state, const uint8_t *units, uint32_t n_units, uint8_t *out);
/* Whether the block makes exactly n_units units, which are then at `units`. Whatever the bytes are, nothing
 * beyond that room is written and nothing beyond the block read. */
bool sl_lz4_expand(const uint8_t *block, size_t len, uint8_t *units, uint32_t n_units);
