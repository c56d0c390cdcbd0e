/* Layout of a datagram. All integers big-endian. docs/protocol.md is the specification; sizes here are derived from it.
 *
 *   0      1      2      3      4             8                    16                   24
 *  +------+------+------+------+-------------+--------------------+--------------------+
 *  | ver  | type | flags| 0    | grant       | receiver's session | packet number      |   FRAMES: 24 bytes, grant = 0
 *  +------+------+------+------+-------------+--------------------+--------------------+
 *  | unit0       | n_units |coded|                                                         DATA: 8 more, 32 bytes
 *  +-------------+---------+---+
 *
 * The whole header is the AEAD's associated data; ciphertext and a 16-byte tag follow. The plaintext of a FRAMES packet is a
 * sequence of frames (frame.h); that of a DATA packet is exactly n_units units of 64 bytes of the granted message, so that the
 * open can write them to their final place; with SL_FLAG_COMPRESSED it is `coded` bytes, fewer than those units, of which an LZ4
 * block makes them (lz4_block.h). Without the flag `coded` is 0. */
#pragma once

#include "dataplane/wire/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SL_PACKET_VERSION = 1,
    SL_UNIT_BYTES = 64,          /* rules T1 */
    SL_TAG_BYTES = 16,           /* AES-128-GCM, RFC 5116 */
    SL_HEADER_FLAGS_AT = 2,
    SL_HEADER_FRAMES_BYTES = 24,
    SL_HEADER_DATA_BYTES = 32,
    SL_DATAGRAM_MIN_BYTES = SL_HEADER_FRAMES_BYTES + 1 + SL_TAG_BYTES,
    SL_DATAGRAM_MAX_BYTES = 9000 - 28, /* a jumbo frame's UDP payload */
    SL_DEFAULT_MTU = 1500,
    SL_HEADER_LCORE_AT = 8,      /* the data lcore of the receiver: first byte of its session id (rules T7) */
    SL_LCORES_MAX = 16,          /* data lcores of an edge node; a session id has eight bits for the number (rules T7) */
};

enum {
    SL_FLAG_KEY_PHASE = 0x01,  /* rules T8 */
    SL_FLAG_COMPRESSED = 0x02, /* DATA only */
};
enum sl_packet_type { SL_PACKET_FRAMES = 0, SL_PACKET_DATA = 1 };

struct sl_header {
    uint8_t type, flags;
    uint32_t grant; /* DATA */
    uint64_t session, pn;
    uint32_t unit0;   /* DATA */
    uint16_t n_units; /* DATA */
    uint16_t coded;   /* DATA with SL_FLAG_COMPRESSED: bytes of the plaintext, below n_units * 64; else 0 */
};

/* Why a datagram was not taken up; every one has a counter. */
enum sl_drop {
    SL_DROP_NONE,
    SL_DROP_TOO_SHORT, SL_DROP_TOO_LONG, SL_DROP_VERSION, SL_DROP_TYPE, SL_DROP_RESERVED_BITS, SL_DROP_LENGTH_MISMATCH,
    SL_DROP_UNKNOWN_SESSION, SL_DROP_REPLAYED, SL_DROP_BAD_TAG, SL_DROP_NO_GRANT, SL_DROP_OFF_GRID, SL_DROP_BAD_FRAME,
    SL_DROP_KEY_EXHAUSTED, SL_DROP_NO_MEMORY, SL_DROP_BAD_CODING, SL_DROP_NO_KEY,
    SL_DROP_COUNT
};
const char *sl_drop_name(enum sl_drop); /* "too_short", ... : the key in logs and JSON */

/* Checks and reads a header: length, version, type, reserved bits, and for DATA that the length is header + n_units * 64 + tag, or
 * header + coded + tag.
 * Returns SL_DROP_NONE and *header_len, or the reason. No other input than the bytes. */
enum sl_drop sl_header_decode(const uint8_t *datagram, size_t len, struct sl_header *, size_t *header_len);
/* The same, inline and for the common case alone: a DATA packet with nothing wrong and not compressed. At least
 * SL_HEADER_DATA_BYTES must be there. False: ask sl_header_decode. */
static inline bool sl_header_decode_data(const uint8_t *p, size_t len, struct sl_header *h)
{
    const uint32_t first = sl_get32(p); /* version, type, flags, 0 */
    h->n_units = sl_get16(p + 28);
    if ((first & ~((uint32_t)SL_FLAG_KEY_PHASE << 8)) != (SL_PACKET_VERSION << 24 | SL_PACKET_DATA << 16) ||
        sl_get16(p + 30) != 0 || h->n_units == 0 || len > SL_DATAGRAM_MAX_BYTES ||
        len != SL_HEADER_DATA_BYTES + (size_t)h->n_units * SL_UNIT_BYTES + SL_TAG_BYTES)
        return false;
    h->type = SL_PACKET_DATA;
    h->flags = (uint8_t)(first >> 8);
    h->grant = sl_get32(p + 4);
    h->session = sl_get64(p + 8);
    h->pn = sl_get64(p + 16);
    h->unit0 = sl_get32(p + 24);
    h->coded = 0;
    return true;
}
/* Returns the header's length. */
size_t sl_header_encode(const struct sl_header *, uint8_t *out);
/* Units of a DATA packet that fill an IP packet of `mtu` bytes (IPv4 20 + UDP 8, or IPv6 40 + 8): 22 at 1500. */
uint16_t sl_fragment_units(uint32_t mtu, bool ipv6);
