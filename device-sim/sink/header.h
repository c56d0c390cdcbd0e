/* What stands at the beginning of every datagram of `sluice-sim --sink`, so that a receiver can measure loss
 * and delay (docs/device-sim.md, "Traffic for other systems"). All integers big-endian.
 *
 *   0         4      5      6      8            16         20         24         28         32
 *  +---------+------+------+------+------------+----------+----------+----------+----------+
 *  | "SLSK"  | ver  | flags| bytes| run        | phone    | message  | fragment | of       |
 *  +---------+------+------+------+------------+----------+----------+----------+----------+
 *  | sequence            | offered_ns          | sent_ns              |   to 56; then bytes without meaning
 *  +---------------------+---------------------+----------------------+
 *
 * `sequence` counts the packets that this phone gave to its emulated link, from 0 on, in this direction: a
 * gap is a loss. `offered` is when it did, `sent` when the packet left the emulated link: nanoseconds since
 * the Unix epoch, or since the beginning of a capture. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { SL_FLOW_HEADER_BYTES = 56, SL_FLOW_VERSION = 1 };
enum {
    SL_FLOW_AGAIN = 0x01, /* a fragment whose earlier packet the emulated link lost */
    SL_FLOW_DOWN = 0x02,  /* from the edge to the phone: in captures alone */
};

struct sl_flow_header {
    uint8_t flags;
    uint64_t run;
    uint32_t phone, message, fragment, fragments;
    uint64_t sequence, offered_ns, sent_ns;
};

void sl_flow_header_write(const struct sl_flow_header *, uint8_t out[SL_FLOW_HEADER_BYTES]);
