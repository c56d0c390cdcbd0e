/* One-way links, packet by packet, on opaque handles and sizes: no clock of its own (every call takes
 * now_ns), no I/O, no allocation after creation. One thread owns a set.
 *
 *   offer -> [drop-tail queue, bytes] -> [serialised at rate] -> [loss] -> [propagation delay] -> next
 *
 * A packet departs at max(now, last departure) + bits / rate and arrives `delay` later. Bytes are those of
 * the IP packet: UDP payload + 28. The queue's length is what is not yet serialised (the packet in service
 * counts by what is left of it); a packet that would take it beyond the limit is dropped, except that an
 * empty queue takes any. Loss strikes after the queue, so a lost packet has used its share of the rate.
 * Whether packet i of a link is lost is a function of (seed, link's key, i) only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_LINK_IP_UDP_BYTES = 28 }; /* IPv4 20 (RFC 791) + UDP 8 (RFC 768) */

struct sl_link_params {
    double rate_bps;      /* above 0 */
    uint64_t delay_ns;    /* propagation */
    double loss;          /* probability, [0, 1] */
    uint64_t queue_bytes; /* IP bytes */
};

/* What becomes of an offered packet. All but TAKEN are drops: the caller keeps the handle. */
enum sl_link_verdict {
    SL_LINK_TAKEN,
    SL_LINK_QUEUE_FULL,
    SL_LINK_LOST,
    SL_LINK_NO_ROOM, /* more packets under way than the set was made for */
    SL_LINK_VERDICT_COUNT
};
const char *sl_link_verdict_name(enum sl_link_verdict); /* "taken", "queue_full", ... */

/* packets: offered = delivered + under way + queue_full + lost + no_room; bytes likewise. */
struct sl_link_stats {
    uint64_t offered, offered_bytes;
    uint64_t delivered, delivered_bytes;
    uint64_t drops[SL_LINK_VERDICT_COUNT];
    uint64_t drop_bytes[SL_LINK_VERDICT_COUNT];
    uint64_t under_way, under_way_bytes;
    uint64_t airtime_ns; /* spent serialising, lost packets included */
    /* Faithfulness: how much later than modelled packets were fetched. */
    uint64_t late_sum_ns, late_max_ns;
};

struct sl_links;
/* n links, at most max_packets under way in all. -EINVAL, -ENOMEM. Until sl_links_set, a link takes nothing.
 */
int sl_links_create(uint32_t n, uint32_t max_packets, struct sl_links **);
void sl_links_free(struct sl_links *);
/* `key`: sl_rng_key(seed, name of phone and direction). Packets that are under way stay as they are. -EINVAL.
 */
int sl_links_set(struct sl_links *, uint32_t link, const struct sl_link_params *, uint64_t key);

enum sl_link_verdict sl_links_offer(
    struct sl_links *, uint32_t link, uint32_t handle, uint32_t payload_bytes, uint64_t now_ns);
/* The next packet that has arrived by now_ns, over all links in order of arrival; false: none. */
bool sl_link_next(struct sl_links *, uint64_t now_ns, uint32_t *link, uint32_t *handle);
uint64_t sl_links_deadline(const struct sl_links *); /* when the next one arrives; UINT64_MAX: none */
void sl_links_stats(const struct sl_links *, uint32_t link, struct sl_link_stats *);
