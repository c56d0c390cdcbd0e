/* Times without service: a tunnel, a lift, a core network that fails. Lengths and the gaps between them are
 * exponential (a Poisson process of outages), or regular: one of for_ns every every_ns. Outage i is a
 * function of (key, i). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_outage_params {
    uint64_t every_ns, for_ns; /* mean gap from one's end to the next one's start, mean length; every_ns 0:
                                  none. regular: from start to start, and length */
    bool regular;              /* then every_ns > for_ns */
    uint64_t zero_ns;          /* when the first gap begins */
};

struct sl_outage {
    struct sl_outage_params params;
    uint64_t key, i;
    uint64_t start_ns, end_ns; /* of the present one, or of the next */
};

int sl_outage_init(struct sl_outage *, const struct sl_outage_params *, uint64_t key); /* -EINVAL */
/* The first moment from now_ns on that is in no outage. now_ns does not fall from call to call. */
uint64_t sl_outage_clear(struct sl_outage *, uint64_t now_ns);
