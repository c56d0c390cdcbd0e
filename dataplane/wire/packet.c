#include "dataplane/wire/packet.h"

#include "dataplane/wire/bytes.h"

#include <string.h>

_Static_assert(SL_HEADER_FRAMES_BYTES == 1 + 1 + 1 + 1 + 4 + 8 + 8, "the drawing in packet.h");
_Static_assert(SL_HEADER_DATA_BYTES == SL_HEADER_FRAMES_BYTES + 4 + 2 + 2, "the drawing in packet.h");

enum { IPV4_BYTES = 20, IPV6_BYTES = 40, UDP_BYTES = 8 };

static const char *const drop_names[SL_DROP_COUNT] = {
    [SL_DROP_NONE] = "none",
    [SL_DROP_TOO_SHORT] = "too_short",
    [SL_DROP_TOO_LONG] = "too_long",
    [SL_DROP_VERSION] = "version",
    [SL_DROP_TYPE] = "type",
    [SL_DROP_RESERVED_BITS] = "reserved_bits",
    [SL_DROP_LENGTH_MISMATCH] = "length_mismatch",
    [SL_DROP_UNKNOWN_SESSION] = "unknown_session",
    [SL_DROP_REPLAYED] = "replayed",
    [SL_DROP_BAD_TAG] = "bad_tag",
    [SL_DROP_NO_GRANT] = "no_grant",
    [SL_DROP_OFF_GRID] = "off_grid",
    [SL_DROP_BAD_FRAME] = "bad_frame",
    [SL_DROP_KEY_EXHAUSTED] = "key_exhausted",
    [SL_DROP_NO_MEMORY] = "no_memory",
    [SL_DROP_BAD_CODING] = "bad_coding",
    [SL_DROP_NO_KEY] = "no_key",
};

const char *sl_drop_name(enum sl_drop drop)
{
    return (unsigned)drop < SL_DROP_COUNT ? drop_names[drop] : "unknown";
}

enum sl_drop sl_header_decode(const uint8_t *p, size_t len, struct sl_header *h, size_t *header_len)
{
    if (len < SL_DATAGRAM_MIN_BYTES)
        return SL_DROP_TOO_SHORT;
    if (len > SL_DATAGRAM_MAX_BYTES)
        return SL_DROP_TOO_LONG;
    if (p[0] != SL_PACKET_VERSION)
        return SL_DROP_VERSION;
    if (p[1] != SL_PACKET_FRAMES && p[1] != SL_PACKET_DATA)
        return SL_DROP_TYPE;
    const uint8_t known = SL_FLAG_KEY_PHASE | (p[1] == SL_PACKET_DATA ? SL_FLAG_COMPRESSED : 0);
    if ((p[SL_HEADER_FLAGS_AT] & ~known) != 0 || p[3] != 0)
        return SL_DROP_RESERVED_BITS;

    h->type = p[1];
    h->flags = p[SL_HEADER_FLAGS_AT];
    h->grant = sl_get32(p + 4);
    h->session = sl_get64(p + 8);
    h->pn = sl_get64(p + 16);
    if (h->type == SL_PACKET_FRAMES) {
        if (h->grant != 0)
            return SL_DROP_RESERVED_BITS;
        h->unit0 = 0;
        h->n_units = h->coded = 0;
        *header_len = SL_HEADER_FRAMES_BYTES;
        return SL_DROP_NONE;
    }
    h->unit0 = sl_get32(p + 24);
    h->n_units = sl_get16(p + 28);
    h->coded = sl_get16(p + 30);
    const bool compressed = h->flags & SL_FLAG_COMPRESSED;
    const size_t units = (size_t)h->n_units * SL_UNIT_BYTES, plain = compressed ? h->coded : units;
    if (!compressed && h->coded != 0)
        return SL_DROP_RESERVED_BITS;
    if (plain == 0 || (compressed && plain >= units) || len != SL_HEADER_DATA_BYTES + plain + SL_TAG_BYTES)
        return SL_DROP_LENGTH_MISMATCH;
    *header_len = SL_HEADER_DATA_BYTES;
    return SL_DROP_NONE;
}

size_t sl_header_encode(const struct sl_header *h, uint8_t *out)
{
    out[0] = SL_PACKET_VERSION;
    out[1] = h->type;
    out[SL_HEADER_FLAGS_AT] = h->flags;
    out[3] = 0;
    sl_put32(out + 4, h->grant);
    sl_put64(out + 8, h->session);
    sl_put64(out + 16, h->pn);
    if (h->type != SL_PACKET_DATA)
        return SL_HEADER_FRAMES_BYTES;
    sl_put32(out + 24, h->unit0);
    sl_put16(out + 28, h->n_units);
    sl_put16(out + 30, h->coded);
    return SL_HEADER_DATA_BYTES;
}

uint16_t sl_fragment_units(uint32_t mtu, bool ipv6)
{
    uint32_t below = (ipv6 ? IPV6_BYTES : IPV4_BYTES) + UDP_BYTES;
    if (mtu < below + SL_HEADER_DATA_BYTES + SL_TAG_BYTES)
        return 0;
    uint32_t payload = mtu - below;
    if (payload > SL_DATAGRAM_MAX_BYTES)
        payload = SL_DATAGRAM_MAX_BYTES;
    return (uint16_t)((payload - SL_HEADER_DATA_BYTES - SL_TAG_BYTES) / SL_UNIT_BYTES);
}
