/* A queue between a data lcore and its port's own that rests while too many DATA packets are on their way: as
 * many sessions as there are may have full windows, and the ring still never overflows. */
#pragma once

#include "dataplane/io/lcore/port.h"

struct bench_paced_queue {
    struct sl_queue queue; /* first: give &queue to the lcore */
    struct sl_queue *inner;
    uint64_t most;
    uint64_t sent, taken;               /* DATA packets, kept by the lcore's application */
    uint64_t taken_before, lost, stuck; /* what the receiver never took stops counting after a while */
};

void bench_paced_queue_init(struct bench_paced_queue *, struct sl_queue *inner, uint64_t most);
