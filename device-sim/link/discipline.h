/* What a link's queue takes and what it drops: drop-tail in bytes or packets, CoDel, PIE, or no limit but the
 * packet pool's. The engine keeps the packets; a discipline is asked about each as it arrives and as its
 * service begins. Sans-IO: times are the link's own. */
#pragma once

#include "device-sim/link/codel.h"
#include "device-sim/link/pie.h"

enum sl_discipline_kind {
    SL_DISCIPLINE_DROPTAIL,
    SL_DISCIPLINE_CODEL,
    SL_DISCIPLINE_PIE,
    SL_DISCIPLINE_NONE,
    SL_DISCIPLINE_COUNT
};
const char *sl_discipline_name(enum sl_discipline_kind); /* "droptail", "codel", "pie", "none" */

struct sl_discipline_params {
    enum sl_discipline_kind kind;
    uint64_t bytes;     /* limit in IP bytes of what waits, the packet in service by what is left; 0: none */
    uint32_t packets;   /* limit in packets; 0: none. One of the two, but for SL_DISCIPLINE_NONE */
    uint64_t target_ns; /* 0: CoDel 5 ms, PIE 15 ms */
    uint64_t interval_ns; /* CoDel; 0: 100 ms */
};

struct sl_discipline {
    enum sl_discipline_kind kind;
    uint32_t packets;
    uint64_t bytes;
    union {
        struct sl_codel codel;
        struct sl_pie pie;
    };
};

enum sl_admission {
    SL_ADMIT,
    SL_ADMIT_FULL,  /* no room */
    SL_ADMIT_EARLY, /* there was room: PIE */
};

/* `key`: of the link's random numbers. -EINVAL: a kind that is none, no limit, an interval below the target.
 */
int sl_discipline_init(struct sl_discipline *, const struct sl_discipline_params *, uint64_t key);
/* Whether a packet of `bytes` may join a queue that holds so much. An empty queue takes any. */
enum sl_admission sl_discipline_admit(
    struct sl_discipline *, uint64_t queued_bytes, uint32_t queued_packets, uint32_t bytes, uint64_t now_ns);
/* A packet's service would begin at now_ns, after it waited sojourn_ns, with left_bytes behind it. True: it
 * is dropped instead (CoDel); there is a next one then, to be asked about at the same time. */
bool sl_discipline_drops_head(
    struct sl_discipline *, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns);
