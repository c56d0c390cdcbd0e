/* Frames from the network: a datagram that is taken lies inside of the frame, is not a fragment, and has
 * addresses. */
#include "dataplane/io/dpdk/headers.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    struct sl_dgram d = {.len = (uint16_t)(index * 40)};
    size_t len = SL_UDP4_BYTES + d.len;
    if (index > 2 || cap < len)
        return 0;
    d.src = d.dst = (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7000};
    memset(buf, 0, len);
    sl_headers_write(buf, buf, buf, &d);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_dgram d;
    uint8_t *frame = malloc(size != 0 ? size : 1); /* its own bounds, for the sanitizer */
    if (frame == NULL)
        abort();
    memcpy(frame, data, size);
    enum sl_port_drop why = sl_headers_read(frame, (uint32_t)size, &d);
    if (why > SL_PORT_DROP_COUNT)
        abort();
    if (why == SL_PORT_DROP_COUNT) {
        if (d.data < frame + SL_UDP4_BYTES || d.len > size || d.data + d.len > frame + size || d.ecn > 3)
            abort();
        if (!sl_addr_is_ipv4(&d.src) || !sl_addr_is_ipv4(&d.dst) || (frame[SL_ETH_BYTES + 6] & 0x3f) != 0)
            abort();
    }
    free(frame);
    return 0;
}
