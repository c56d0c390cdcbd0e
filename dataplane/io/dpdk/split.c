#include "dataplane/io/dpdk/split.h"

#include "dataplane/io/dpdk/headers.h"

#include <rte_ethdev.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_BYTES = 128, CACHE = 256 };

bool sl_split_offered(const struct rte_eth_dev_info *info)
{
    const struct rte_eth_rxseg_capa *c = &info->rx_seg_capa;
    return (info->rx_queue_offload_capa & RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT) != 0 && c->max_nseg >= 2 &&
           c->multi_pools && c->offset_allowed;
}

struct rte_mempool *sl_split_heads(uint16_t port, unsigned queue, uint32_t n)
{
    char name[32];
    snprintf(name, sizeof(name), "sl_heads_%u_%u", port, queue);
    return rte_pktmbuf_pool_create(
        name, n, n >= 4 * CACHE ? CACHE : n / 4, 0, RTE_PKTMBUF_HEADROOM + HEAD_BYTES, SOCKET_ID_ANY);
}

/* The second part leaves room for the first (its offset is from the buffer's beginning). */
int sl_split_setup(uint16_t port, uint16_t ring, uint16_t n_desc, unsigned socket, struct rte_mempool *heads,
    struct rte_mempool *bodies)
{
    union rte_eth_rxseg parts[2] = {
        {.split = {.mp = heads, .length = SL_UDP4_BYTES}},
        {.split = {.mp = bodies, .offset = RTE_PKTMBUF_HEADROOM}},
    };
    struct rte_eth_rxconf c = {.offloads = RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT, .rx_seg = parts, .rx_nseg = 2};
    return rte_eth_rx_queue_setup(port, ring, n_desc, socket, &c, NULL);
}

struct rte_mbuf *sl_split_join(struct rte_mbuf *head)
{
    struct rte_mbuf *body = head->next;
    uint16_t n = head->data_len;
    if (head->nb_segs != 2 || body == NULL || body->data_off < n)
        return head;
    body->data_off = (uint16_t)(body->data_off - n);
    memcpy(rte_pktmbuf_mtod(body, void *), rte_pktmbuf_mtod(head, void *), n);
    body->data_len = (uint16_t)(body->data_len + n);
    body->pkt_len = body->data_len;
    body->port = head->port;
    body->ol_flags = head->ol_flags;
    head->next = NULL;
    head->nb_segs = 1;
    rte_pktmbuf_free(head);
    return body;
}
