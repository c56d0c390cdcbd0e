/* How fast a link serves, packet by packet: at a constant rate, by the opportunities of a recorded trace, at
 * a rate that changes in steps, or as somebody else grants (a radio cell). Times are the model's own. */
#pragma once

#include "device-sim/link/light.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_service_kind {
    SL_SERVICE_RATE,
    SL_SERVICE_TRACE,
    SL_SERVICE_SERIES,
    SL_SERVICE_GRANTED,
    SL_SERVICE_COUNT
};

enum { SL_SERVICE_RATE_MIN_BPS = 1000 }; /* slower ones, on average, would hold a packet for minutes */
enum { SL_OPPORTUNITY_BYTES = 1500 };    /* of Mahimahi's traces (Netravali et al., ATC 2015): IP bytes */

/* A recorded link. One opportunity to deliver 1500 bytes at each time; after the last one it begins again,
 * the last time being its period. A packet may straddle opportunities, small ones share one, what is not used
 * is lost. Many links may use one; it must outlive them. */
struct sl_trace {
    uint32_t *at_ms; /* [n], not falling; the last one above 0 */
    size_t n;
};
/* A rate that holds from its time until the next one's; after the last one's time (an end, whose rate is not
 * used) it begins again. */
struct sl_series {
    uint64_t *at_ns;  /* [n], rising from 0 */
    double *rate_bps; /* [n], not negative; on average at least 1 kbit/s */
    size_t n;         /* at least 2 */
};

struct sl_service_params {
    enum sl_service_kind kind;
    double rate_bps;                /* RATE: 1e3 to 1e12 */
    const struct sl_trace *trace;   /* TRACE */
    const struct sl_series *series; /* SERIES */
    uint64_t phase_ns;              /* TRACE, SERIES: where in the record time 0 lies */
    const struct sl_light *light;   /* TRACE: how trains begin; NULL: as they go on */
    uint64_t light_phase_ns, light_idle_ns;
};

struct sl_service {
    enum sl_service_kind kind;
    uint64_t ns_per_byte_q32; /* RATE: fixed point, 32 fractional bits */
    uint32_t fraction;        /* RATE: of a nanosecond, of the last departure */
    uint64_t free_at_ns;      /* end of the last service */
    const struct sl_trace *trace;
    const struct sl_series *series;
    uint64_t phase_ns, period_ns;
    uint64_t cycle;                /* TRACE: how often the record has been through */
    size_t i;                      /* TRACE: the opportunity in use, or the next one */
    uint32_t left;                 /* TRACE: of opportunity i's bytes */
    double bits_a_cycle;           /* SERIES */
    struct sl_light_service light; /* TRACE */
};

int sl_service_init(struct sl_service *, const struct sl_service_params *); /* -EINVAL */
/* When a packet that is there from now_ns on would begin to be served: no earlier than the last one's end.
 * Not for GRANTED. */
uint64_t sl_service_begin(struct sl_service *, uint64_t now_ns);
/* Serves a packet from begin_ns (as sl_service_begin said); when it has left. */
uint64_t sl_service_end(struct sl_service *, uint64_t begin_ns, uint32_t bytes);
/* When a packet that left at end_ns is through, but for the link's propagation. Packets in order. */
uint64_t sl_service_arrival(struct sl_service *, uint64_t end_ns);
/* What the model could have delivered in [from, until): bytes. RATE, TRACE (of a link that never rests, where
 * there is a light record), SERIES. */
double sl_service_capacity(const struct sl_service *, uint64_t from_ns, uint64_t until_ns);
