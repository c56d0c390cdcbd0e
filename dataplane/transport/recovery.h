/* Loss detection and RTT after RFC 9002, for one session's one packet number space. */
#pragma once

#include "dataplane/wire/frame.h"

#include <stdbool.h>
#include <stdint.h>

#define SL_INITIAL_RTT_NS UINT64_C(333000000) /* RFC 9002 6.2.2 */
#define SL_GRANULARITY_NS UINT64_C(1000000)   /* 6.1.2 */
#define SL_PTO_MAX_NS                                                                                        \
    UINT64_C(8000000000) /* ours: a phone that comes out of a tunnel is found within 8 s                     \
                          */
enum {
    SL_PACKET_THRESHOLD = 3, /* 6.1.1; the time threshold is 9/8 (6.1.2) */
    SL_PTO_PROBES = 2,       /* 6.2.4: one or two */
};

struct sl_rtt { /* RFC 9002 5 */
    uint64_t latest_ns, smoothed_ns, var_ns, min_ns;
    bool sampled;
};
void sl_rtt_init(struct sl_rtt *, uint64_t initial_ns);
void sl_rtt_sample(struct sl_rtt *, uint64_t latest_ns, uint64_t ack_delay_ns, uint64_t max_ack_delay_ns);

/* One ack-eliciting packet. Packets with nothing but an ACK leave no record: nothing of them is ever sent
 * again. */
struct sl_sent {
    uint64_t time_ns, pn;
    uint16_t bytes;
    uint8_t is_data, settled; /* settled: acknowledged or lost */
    union {
        struct {
            uint32_t send, generation, fragment; /* DATA */
        };
        uint32_t frames; /* FRAMES: slots of the outbox, as bits */
    };
};

/* The records lie in a ring in the order of sending, so by rising pn. All below the highest acknowledged
 * number are acknowledged, lost, or within the packet threshold, so an ACK looks at each record once and a
 * few twice. */
struct sl_recovery {
    struct sl_sent *ring; /* NULL while nothing is in flight */
    uint32_t mask;        /* capacity - 1 */
    uint32_t head, tail;  /* free-running; tail - head records */
    uint32_t in_flight;
    uint32_t pto_count;
    uint64_t next_above_acked; /* highest acknowledged pn + 1; 0: none yet */
    uint64_t last_sent_ns;     /* of the newest record */
    uint64_t loss_ns;          /* when the time threshold next finds a loss; UINT64_MAX: never */
    struct sl_rtt rtt;
};

/* Called for each record that an ACK or loss detection settles; may start or cancel sends, not push records.
 */
struct sl_recovery_ops {
    void (*acked)(void *, const struct sl_sent *);
    void (*lost)(void *, const struct sl_sent *);
};
struct sl_recovery_result {
    uint32_t acked_packets, lost_packets;
    uint64_t acked_bytes, lost_bytes, lost_last_sent_ns;
};

void sl_recovery_init(struct sl_recovery *, uint64_t initial_rtt_ns);
static inline bool sl_recovery_full(const struct sl_recovery *r)
{
    return r->tail - r->head > r->mask;
}
/* Adds a record and returns it, for its owner to say what the packet carried. A ring must be attached, and
 * not full. */
struct sl_sent *sl_recovery_push(struct sl_recovery *, uint64_t pn, uint16_t bytes, uint64_t now_ns);
/* OnAckReceived of RFC 9002 A.7. No range may lie above what was sent. */
struct sl_recovery_result sl_recovery_on_ack(struct sl_recovery *, const struct sl_ack *, uint64_t now_ns,
    const struct sl_recovery_ops *, void *owner);
/* The time threshold's timer. */
struct sl_recovery_result sl_recovery_on_loss_timer(
    struct sl_recovery *, uint64_t now_ns, const struct sl_recovery_ops *, void *owner);
/* Gives the oldest record up as lost, to make room in a full ring. */
struct sl_recovery_result sl_recovery_drop_oldest(
    struct sl_recovery *, const struct sl_recovery_ops *, void *owner);

/* RFC 9002 6.2.1 */
uint64_t sl_recovery_base_pto_ns(const struct sl_recovery *);
/* The same with the back-off, at most SL_PTO_MAX_NS. */
uint64_t sl_recovery_pto_ns(const struct sl_recovery *);
/* The earlier of loss timer and probe timer; UINT64_MAX with nothing in flight. */
uint64_t sl_recovery_deadline_ns(const struct sl_recovery *);
