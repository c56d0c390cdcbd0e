#include "dataplane/io/dpdk/spread.h"

#include <rte_flow.h>

void sl_dpdk_spread_configure(
    struct sl_dpdk_port *p, const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
    uint64_t hash =
        info->flow_type_rss_offloads & (RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP);
    if (hash == 0) /* older cards know TCP's ports alone: then the addresses have to do */
        hash = info->flow_type_rss_offloads & (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6);
    if (hash == 0)
        return;
    conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf->rx_adv_conf.rss_conf.rss_hf = hash;
    p->port.spread = "RSS";
}

/* Datagrams over IPv4 or IPv6 to one UDP port go to one queue. */
static int add_rule(uint16_t id, bool ipv6, uint16_t udp_port, uint16_t queue, bool only_validate)
{
    const struct rte_flow_attr attr = {.ingress = 1};
    const struct rte_flow_item_udp udp = {.hdr.dst_port = rte_cpu_to_be_16(udp_port)};
    const struct rte_flow_item_udp mask = {.hdr.dst_port = 0xffff};
    const struct rte_flow_item pattern[] = {{.type = RTE_FLOW_ITEM_TYPE_ETH},
        {.type = ipv6 ? RTE_FLOW_ITEM_TYPE_IPV6 : RTE_FLOW_ITEM_TYPE_IPV4},
        {.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .mask = &mask}, {.type = RTE_FLOW_ITEM_TYPE_END}};
    const struct rte_flow_action_queue to = {.index = queue};
    const struct rte_flow_action actions[] = {
        {.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &to}, {.type = RTE_FLOW_ACTION_TYPE_END}};
    struct rte_flow_error error;
    if (only_validate)
        return rte_flow_validate(id, &attr, pattern, actions, &error);
    return rte_flow_create(id, &attr, pattern, actions, &error) != NULL ? 0 : -1;
}

static bool add_rules(const struct sl_dpdk_port *p, bool ipv6, bool only_validate)
{
    for (unsigned i = 0; i < p->port.n_queues; i++)
        if (add_rule(p->id, ipv6, (uint16_t)(p->udp_port + i), p->queue[i].ring, only_validate) != 0)
            return false;
    return true;
}

/* Half a set of rules would put one family's packets right and be in the way of nothing: IPv4 is enough to be
 * told, IPv6 is added where it goes. */
void sl_dpdk_spread_start(struct sl_dpdk_port *p)
{
    if (p->memif) {
        p->port.spread = "memif rings";
        return;
    }
    if (p->udp_port == 0 || !add_rules(p, false, true))
        return;
    if (add_rules(p, false, false)) {
        p->port.spread = "rte_flow";
        if (add_rules(p, true, true))
            add_rules(p, true, false);
    } else {
        struct rte_flow_error error;
        rte_flow_flush(p->id, &error); /* the device's hash alone spreads better than half of the rules */
    }
}
