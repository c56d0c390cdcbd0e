/* One-way links, packet by packet, on opaque handles and sizes: no clock of its own (every call takes
 * now_ns), no I/O, no allocation after creation. One thread owns a set.
 *
 *   offer -> [queue: discipline.h] -> [service: service.h] -> [loss, delay, jitter: impairment.h] -> next
 *
 * A link serves one packet at a time, first in first out. Its service begins when the last one's has ended,
 * no earlier than it arrived, and no earlier than the link's hold is over; the discipline is asked as a
 * packet arrives and as its service begins. All these times are the model's: that a call comes late does not
 * move what follows, it is only recorded (lag). Bytes are those of the IP packet: UDP payload + 28. What a
 * queue holds is what is not yet served; the packet in service counts by what is left of it where the rate is
 * known (RATE, SERIES), whole otherwise. Loss strikes after service, so a lost packet has used its share of
 * the rate. All random numbers are functions of the link's key and the packet's number. */
#pragma once

#include "device-sim/link/discipline.h"
#include "device-sim/link/impairment.h"
#include "device-sim/link/outage.h"
#include "device-sim/link/service.h"
#include "trainer/experiment/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_LINK_IP_UDP_BYTES = 28 }; /* IPv4 20 (RFC 791) + UDP 8 (RFC 768) */

struct sl_link_params {
    struct sl_service_params service;
    struct sl_discipline_params queue;
    struct sl_impairment_params impairment;
    struct sl_outage_params outage;
    uint64_t outage_key; /* the same for both directions of a phone; 0: the link's */
    uint64_t delay_ns;   /* propagation */
};

/* What becomes of an offered packet. All but TAKEN are drops. */
enum sl_link_verdict {
    SL_LINK_TAKEN,
    SL_LINK_QUEUE_FULL,  /* at its arrival */
    SL_LINK_QUEUE_EARLY, /* at its arrival, though there was room: PIE */
    SL_LINK_QUEUE_DELAY, /* at the head of the queue: CoDel */
    SL_LINK_LOST,        /* on the air */
    SL_LINK_NO_ROOM,     /* more packets under way than the set was made for, or a link that is not set up */
    SL_LINK_VERDICT_COUNT
};
const char *sl_link_verdict_name(enum sl_link_verdict); /* "taken", "queue_full", ... */

/* packets: offered = delivered + under way + all drops; bytes likewise. */
struct sl_link_stats {
    uint64_t offered, offered_bytes;
    uint64_t delivered, delivered_bytes;
    uint64_t drops[SL_LINK_VERDICT_COUNT];
    uint64_t drop_bytes[SL_LINK_VERDICT_COUNT];
    uint64_t under_way, under_way_bytes;
    uint64_t served, served_bytes; /* left the queue by service, lost ones included */
    uint64_t airtime_ns;  /* serving, lost packets included; GRANTED: what sl_links_airtime was told */
    uint64_t wait_sum_ns; /* of served packets, from arrival to the end of service */
    /* Faithfulness: how much later than modelled packets were fetched. */
    uint64_t late_sum_ns, late_max_ns;
};

/* Who serves the links of kind SL_SERVICE_GRANTED. Its turns come in order of time with everything else. */
struct sl_granter {
    void *ctx;
    uint64_t (*deadline)(void *ctx);                              /* of its next turn; UINT64_MAX: none */
    void (*run)(void *ctx, uint64_t at_ns);                       /* at its deadline; calls sl_links_grant */
    void (*backlogged)(void *ctx, uint32_t link, uint64_t at_ns); /* an empty queue has got a packet */
};

struct sl_links;
/* n links, at most max_packets under way in all. -EINVAL, -ENOMEM. Until sl_links_set, a link takes nothing.
 */
int sl_links_create(uint32_t n, uint32_t max_packets, struct sl_links **);
void sl_links_free(struct sl_links *);
/* `key`: sl_rng_key(seed, name of phone and direction). What the link holds stays as it is; its queue begins
 * anew with the new service. -EINVAL. */
int sl_links_set(struct sl_links *, uint32_t link, const struct sl_link_params *, uint64_t key);
void sl_links_set_granter(struct sl_links *, const struct sl_granter *); /* copied */

/* TAKEN: the handle comes back by sl_link_next, delivered or dropped. Otherwise the caller keeps it. */
enum sl_link_verdict sl_links_offer(
    struct sl_links *, uint32_t link, uint32_t handle, uint32_t payload_bytes, uint64_t now_ns);

struct sl_link_out {
    uint32_t link, handle;
    enum sl_link_verdict verdict; /* TAKEN: it has arrived; else it was dropped on the way */
    uint64_t due_ns;              /* when, by the model */
};
/* The next packet that has arrived by now_ns, over all links in order of arrival, or that was dropped. */
bool sl_link_next(struct sl_links *, uint64_t now_ns, struct sl_link_out *);
/* At the end: any packet that is still under way; false: none is left. Time stands still, nothing is counted.
 */
bool sl_links_evict(struct sl_links *, uint32_t *handle);
/* When sl_link_next, or the granter, has something to do; UINT64_MAX: never, by time alone. */
uint64_t sl_links_deadline(struct sl_links *);

/* No service begins before until_ns (a radio that wakes, a handover, an outage); what is being served is
 * served to its end. A later hold prolongs, none shortens. */
void sl_links_hold(struct sl_links *, uint32_t link, uint64_t until_ns);

/* From the granter: serves a link's queue with so many bytes at that time; returns the bytes used. What a
 * packet still needs waits for the next grant. */
uint32_t sl_links_grant(struct sl_links *, uint32_t link, uint32_t bytes, uint64_t at_ns);
void sl_links_airtime(struct sl_links *, uint32_t link, uint64_t ns);
uint64_t sl_links_backlog_bytes(
    const struct sl_links *, uint32_t link); /* at the time of the last event or call */

void sl_links_stats(const struct sl_links *, uint32_t link, struct sl_link_stats *);
const struct sl_service *sl_links_service(const struct sl_links *, uint32_t link); /* for its capacity */
/* How late packets were fetched, ns, of all links together. */
const struct sl_histogram *sl_links_lag(const struct sl_links *);
