#include "device-sim/sink/header.h"

#include "dataplane/wire/bytes.h"

#include <string.h>

void sl_flow_header_write(const struct sl_flow_header *h, uint8_t out[SL_FLOW_HEADER_BYTES])
{
    memcpy(out, "SLSK", 4);
    out[4] = SL_FLOW_VERSION;
    out[5] = h->flags;
    sl_put16(out + 6, SL_FLOW_HEADER_BYTES);
    sl_put64(out + 8, h->run);
    sl_put32(out + 16, h->phone);
    sl_put32(out + 20, h->message);
    sl_put32(out + 24, h->fragment);
    sl_put32(out + 28, h->fragments);
    sl_put64(out + 32, h->sequence);
    sl_put64(out + 40, h->offered_ns);
    sl_put64(out + 48, h->sent_ns);
}
