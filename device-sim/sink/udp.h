/* Plain UDP sockets of this host, one for each phone, all connected to one address: each phone is a flow of
 * its own to whoever looks at ports. Datagrams are gathered and sent by sendmmsg. DF is set. One thread. */
#pragma once

#include "dataplane/transport/endpoint.h"

#include <stddef.h>

struct sl_udp_flows;
struct sl_udp_stats {          /* given = sent + refused + unreachable + too_long + no_room */
    uint64_t sent, sent_bytes; /* IP bytes */
    uint64_t refused;          /* by the host there: nobody listens (ICMP) */
    uint64_t unreachable, too_long, no_room;
};
/* Raises the limit of open files where it has to and may. -EMFILE and others with err. */
int sl_udp_flows_open(
    const struct sl_addr *to, uint32_t n, struct sl_udp_flows **, char *err, size_t err_cap);
void sl_udp_flows_close(struct sl_udp_flows *);
/* `head` is copied; `body` must stay until the flush. */
void sl_udp_flows_send(struct sl_udp_flows *, uint32_t phone, const uint8_t *head, size_t head_bytes,
    const uint8_t *body, size_t body_bytes);
void sl_udp_flows_flush(struct sl_udp_flows *);
void sl_udp_flows_stats(const struct sl_udp_flows *, struct sl_udp_stats *);
