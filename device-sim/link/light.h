/* How a link serves a sender that was quiet: a train of packets gets the opportunities and the delay that a
 * recorded train got, until it is longer than that one was; the rest is served as under saturation (heavy
 * load: SL_SERVICE_TRACE's own record).
 *
 * After CellReplay (Sentosa, Chandrasekaran, Godfrey, Hassanieh, NSDI 2025), whose files it reads: packet
 * trains were sent one after the other beside a saturating sender on a second phone; of each train a record
 * keeps when it was sent, how long its first packet took, and how long after that each of its packets came.
 * What is as there: a train begins with the first packet after the link had nothing to serve for longer than
 * idle_ns (0 there, too, unless it is asked for); its record is the last one before, its base delay a
 * straight line between two records; an opportunity that has passed before a packet came (in whole
 * milliseconds) is lost. What is not: a packet may straddle opportunities, as in a trace, where there it
 * waits for the next one; the base delay follows service, where there it comes before the heavy record's
 * opportunities, so these are used that much earlier in the record; it does not depend on a packet's size. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Many links may use one; it must outlive them. */
struct sl_light {
    uint32_t *at_ms;     /* [n], not falling; the last one, above 0, is the period: only its delay is used */
    uint32_t *delay_ms;  /* [n] */
    uint32_t *first;     /* [n + 1]: a train's opportunities are offset_ms[first[i] .. first[i + 1]) */
    uint32_t *offset_ms; /* since the train's first packet was due, not falling within a train */
    size_t n;            /* at least 2 */
};

struct sl_light_service {
    const struct sl_light *record;
    uint64_t phase_ns, period_ns, idle_ns;
    bool open;             /* a train is under way, since */
    uint64_t start_ns;     /* then */
    uint64_t busy_ns;      /* until when the link is known to have something to serve */
    uint64_t delay_ns;     /* of the train */
    uint64_t arrived_ns;   /* the latest arrival: a later train does not overtake an earlier one */
    uint32_t k, end, left; /* opportunities: in hand, the train's end, bytes left of the one in hand */
};

/* -EINVAL: no record as described above. */
int sl_light_init(struct sl_light_service *, const struct sl_light *, uint64_t phase_ns, uint64_t idle_ns);
/* A packet that may be served from now_ns on, the link being free since free_ns. True: at begin_ns, by the
 * light record. False: the record says no more about this train. */
bool sl_light_begin(struct sl_light_service *, uint64_t now_ns, uint64_t free_ns, uint64_t *begin_ns);
/* The link is occupied until then by what the record says nothing about. */
void sl_light_busy(struct sl_light_service *, uint64_t until_ns);
/* Serves a packet from begin_ns on; end_ns: when the last of these bytes left. Returns the bytes that are
 * left for the heavy record. */
uint32_t sl_light_serve(struct sl_light_service *, uint64_t begin_ns, uint32_t bytes, uint64_t *end_ns);
/* When a packet arrives that left at end_ns. Packets in order of departure. */
uint64_t sl_light_arrival(struct sl_light_service *, uint64_t end_ns);
