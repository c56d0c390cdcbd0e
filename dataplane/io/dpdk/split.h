/* Buffer split, where a port reports it (in DPDK 22.11 mlx5 and ice): the 42 bytes of headers go to small
 * buffers that stay in the cache, the rest to where it begins on a cache line. The packet is put together
 * again before anybody looks at it: 42 bytes are copied, since whoever opens a packet wants header,
 * ciphertext and tag in one piece.
 *
 * Not tested on such a port: there was none. The joining is. Where the setup with it fails, the port is set
 * up without. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rte_eth_dev_info;
struct rte_mbuf;
struct rte_mempool;

bool sl_split_offered(const struct rte_eth_dev_info *);
/* A pool for the headers of n packets, or NULL. */
struct rte_mempool *sl_split_heads(uint16_t port, unsigned queue, uint32_t n);
/* As rte_eth_rx_queue_setup. */
int sl_split_setup(uint16_t port, uint16_t ring, uint16_t n_desc, unsigned socket, struct rte_mempool *heads,
    struct rte_mempool *bodies);
/* Both parts of a packet in the second one's buffer; what is in one piece stays as it is. */
struct rte_mbuf *sl_split_join(struct rte_mbuf *);
