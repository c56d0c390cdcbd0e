/* Any bytes as a datagram: the header is refused, or is exactly what encoding it again gives. */
#include "dataplane/wire/packet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_header h = {0};
    uint8_t again[SL_HEADER_DATA_BYTES];
    size_t header_len;
    enum sl_drop why = sl_header_decode(data, size, &h, &header_len);
    if (why >= SL_DROP_COUNT)
        abort();
    if (why != SL_DROP_NONE)
        return 0;
    if (sl_header_encode(&h, again) != header_len || memcmp(again, data, header_len) != 0)
        abort();
    size_t plain = h.coded != 0 ? h.coded : h.n_units * (size_t)SL_UNIT_BYTES;
    if (h.type == SL_PACKET_DATA && header_len + plain + SL_TAG_BYTES != size)
        abort();
    struct sl_header inlined = {0};
    bool common = size >= SL_HEADER_DATA_BYTES && sl_header_decode_data(data, size, &inlined);
    if (common != (h.type == SL_PACKET_DATA && h.coded == 0) ||
        (common && memcmp(&inlined, &h, sizeof(h)) != 0))
        abort();
    return 0;
}

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    struct sl_header h = {.type = index % 2 ? SL_PACKET_DATA : SL_PACKET_FRAMES, .session = 42, .pn = index};
    if (index >= 8)
        return 0;
    size_t body = 1 + index;
    if (h.type == SL_PACKET_DATA) {
        h.grant = index;
        h.unit0 = 22 * index;
        h.n_units = (uint16_t)(index * 3);
        body = h.n_units * (size_t)SL_UNIT_BYTES;
    }
    size_t len = sl_header_encode(&h, buf);
    memset(buf + len, 0x5a, body + SL_TAG_BYTES);
    return len + body + SL_TAG_BYTES;
}
