/* Frames from the network: a datagram that is taken lies inside of the frame, is not a fragment, and has
 * addresses. */
#include "dataplane/io/dpdk/headers.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

/* IPv4 and IPv6, with and without a tag. */
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const uint8_t mac[6] = {2};
    struct sl_dgram d = {.len = (uint16_t)(index * 40)};
    bool four = index % 2 == 0;
    uint64_t to = sl_neighbour(mac, index & 2 ? 5 : 0);
    size_t len = sl_headers_bytes(four, to) + d.len;
    if (index > 3 || cap < len)
        return 0;
    d.src = d.dst = (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7000};
    if (!four)
        d.src.ip[0] = d.dst.ip[0] = 0xfd;
    memset(buf, 0, len);
    d.data = buf + sl_headers_bytes(four, to);
    sl_headers_write(&d, mac, to, SL_UDP_SUM_SOFTWARE);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_dgram d;
    uint64_t from;
    uint8_t *frame = malloc(size != 0 ? size : 1); /* its own bounds, for the sanitizer */
    if (frame == NULL)
        abort();
    memcpy(frame, data, size);
    enum sl_port_drop why = sl_headers_read(frame, (uint32_t)size, &d, &from);
    if (why > SL_PORT_DROP_COUNT)
        abort();
    if (why == SL_PORT_DROP_COUNT) {
        if (d.data < frame + SL_UDP4_BYTES || d.len > size || d.data + d.len > frame + size || d.ecn > 3)
            abort();
        if (sl_addr_is_ipv4(&d.src) != sl_addr_is_ipv4(&d.dst) || d.src.hop != 0 || (from & 0xf000) != 0)
            abort();
    }
    free(frame);
    return 0;
}
