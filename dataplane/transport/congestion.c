#include "dataplane/transport/congestion.h"

void sl_cc_init(struct sl_cc *cc, uint32_t window_packets)
{
    *cc = (struct sl_cc){.window_packets = window_packets};
}

bool sl_cc_can_send(const struct sl_cc *cc)
{
    return cc->in_flight_packets < cc->window_packets;
}

void sl_cc_on_sent(struct sl_cc *cc, uint32_t bytes, uint64_t now_ns)
{
    cc->in_flight_packets++;
    cc->in_flight_bytes += bytes;
}

void sl_cc_on_ack(
    struct sl_cc *cc, uint32_t packets, uint64_t bytes, const struct sl_rtt *rtt, uint64_t now_ns)
{
    cc->in_flight_packets -= packets;
    cc->in_flight_bytes -= bytes;
}

void sl_cc_on_loss(struct sl_cc *cc, uint32_t packets, uint64_t bytes, uint64_t last_sent_ns, uint64_t now_ns)
{
    cc->in_flight_packets -= packets;
    cc->in_flight_bytes -= bytes;
}
