#include "dataplane/io/lcore/port.h"

static const char *const drop_names[SL_PORT_DROP_COUNT] = {
    [SL_PORT_NOT_UDP] = "not_udp",
    [SL_PORT_IP_FRAGMENT] = "ip_fragment",
    [SL_PORT_BAD_LENGTH] = "bad_length",
    [SL_PORT_BAD_CHECKSUM] = "bad_checksum",
    [SL_PORT_TX_FULL] = "tx_full",
    [SL_PORT_LINK_DOWN] = "link_down",
    [SL_PORT_NO_BUFFER] = "no_buffer",
    [SL_PORT_RX_FULL] = "rx_full",
    [SL_PORT_TRUNCATED] = "truncated",
    [SL_PORT_UNREACHABLE] = "unreachable",
    [SL_PORT_STEER_FULL] = "steer_full",
    [SL_PORT_BAD_ADDRESS] = "bad_address",
    [SL_PORT_NOT_OURS] = "not_ours",
    [SL_PORT_ANSWERED] = "answered",
    [SL_PORT_ANSWER_LIMIT] = "answer_limit",
};

const char *sl_port_drop_name(enum sl_port_drop d)
{
    return (unsigned)d < SL_PORT_DROP_COUNT ? drop_names[d] : "unknown";
}

uint64_t sl_port_wait_quantile(const uint64_t rx_wait[SL_PORT_WAIT_BUCKETS], double share)
{
    uint64_t all = 0, seen = 0;
    unsigned i = 0;
    for (unsigned k = 0; k < SL_PORT_WAIT_BUCKETS; k++)
        all += rx_wait[k];
    if (all == 0)
        return 0;
    for (; i < SL_PORT_WAIT_BUCKETS - 1; i++) {
        seen += rx_wait[i];
        if ((double)seen >= share * (double)all)
            break;
    }
    return UINT64_C(1) << i;
}
