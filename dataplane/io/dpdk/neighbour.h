/* Who packets came from, on the link: a small table of MAC address and VLAN, whose entries are named by
 * sl_addr.hop. So an answer goes to where its packet came from, over routed subnets and tagged links alike,
 * and nothing needs to be looked up for it.
 *
 * Anybody on the link can make entries, by sending from as many addresses as he likes. What he gains is
 * little:
 *  - The table does not grow. A new entry takes a free place of its set of eight, or a random one of those
 * that are not in use; which set, he cannot know (a keyed hash).
 *  - In use is an entry that we sent to within the last minute. We send by a hop only after the transport has
 *    taken it from an authentic packet, so a stranger's entries are never in use, and he displaces none that
 * is.
 *  - A hop carries its entry's generation. An entry that was replaced is not found by its old hop, and the
 *    packet takes the way of one without a hop (resolve.h): it does not go to another's MAC. The generation
 *    comes round after 15 replacements; an authentic session that was silent for a minute under such a flood
 * may have one in 15 packets sent to a wrong place, sealed as all are, until its peer is heard again.
 *  - Where all eight are in use a newcomer gets hop 0.
 *
 * An entry is one 64-bit word, read and replaced whole, so all queues of a port share the table without a
 * lock; in the steady state nobody writes to it but for one mark per entry and tick. */
#pragma once

#include <stdint.h>

/* A neighbour is its MAC address in the upper 48 bits, and the VLAN's number (0: untagged) in the lower 12.
 */
static inline uint64_t sl_neighbour(const uint8_t mac[6], uint16_t vlan)
{
    return (uint64_t)mac[0] << 56 | (uint64_t)mac[1] << 48 | (uint64_t)mac[2] << 40 | (uint64_t)mac[3] << 32 |
           (uint64_t)mac[4] << 24 | (uint64_t)mac[5] << 16 | (vlan & 0xfffu);
}
static inline uint16_t sl_neighbour_vlan(uint64_t n)
{
    return n & 0xfff;
}
#define SL_NEIGHBOUR_ALL UINT64_C(0xffffffffffff0000) /* broadcast, untagged */

enum {
    SL_NEIGHBOURS = 4096,    /* as many as 12 bits of a hop name; the other four are the generation */
    SL_NEIGHBOUR_KEPT = 600, /* ticks of 100 ms after the last use */
};

struct sl_neighbours {
    uint64_t word[SL_NEIGHBOURS]; /* atomic: neighbour, with the generation in bits 12 to 15; 0: free */
    uint32_t used[SL_NEIGHBOURS]; /* atomic: tick of the last use; 0: never */
    uint64_t key;
    uint32_t next; /* atomic: which place of a set to take first */
    uint64_t full; /* atomic counter: newcomers without a place */
};

void sl_neighbours_init(struct sl_neighbours *, uint64_t key);
/* Any queue's thread: the hop of who sent a packet; 0: no place. */
uint16_t sl_neighbours_put(struct sl_neighbours *, uint64_t neighbour, uint32_t tick);
/* Any queue's thread: whom a hop names; 0: nobody any more. Marks the entry as used. tick > 0. */
uint64_t sl_neighbours_get(struct sl_neighbours *, uint16_t hop, uint32_t tick);
