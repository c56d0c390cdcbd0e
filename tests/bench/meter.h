/* A queue between the data lcore and the port's own that counts cycles: those of the turns that moved
 * anything, and on wish those of the stages within a turn. A turn runs from one rx to the next. Turns far
 * longer than any burst takes were interrupted (another program, the hypervisor): they are kept apart and
 * reported.
 *
 * Where the sender is the limit, a receiver that asks without a pause finds one or two packets at a time,
 * which is not what a fully busy core would find. So before an rx the meter waits, outside of any turn, about
 * as long as `gather` packets take to come. */
#pragma once

#include "dataplane/io/lcore/port.h"
#include "tests/bench/sample.h"

enum bench_stage {
    BENCH_RECEIVE,     /* the port's rx */
    BENCH_CHECK,       /* header, session, replay window, up to place() */
    BENCH_PLACE,       /* grant, grid, claim */
    BENCH_OPEN,        /* AEAD into the slot */
    BENCH_MARK,        /* units marked, message completed, ready ring */
    BENCH_ACKNOWLEDGE, /* replay window, ACK state, FRAMES packets */
    BENCH_RECYCLE,     /* buffers back to the port */
    BENCH_HAND_OFF,    /* return ring, slots recycled, grants */
    BENCH_SEND,        /* ACKs and GRANTs sealed and sent; the loop's clock */
    BENCH_STAGES
};
const char *bench_stage_name(enum bench_stage);

struct bench_turns {
    uint64_t packets_rx, packets_tx, cycles, turns; /* of turns with a packet in or out, uninterrupted */
    uint64_t empty;
    uint64_t interrupted, interrupted_cycles, interrupted_packets;
    uint64_t stage[BENCH_STAGES]; /* cycles; only while `staged` */
};

struct bench_meter {
    struct sl_queue queue; /* first: give &queue to the lcore */
    struct sl_queue *inner;
    bool staged;
    bool polled;     /* in this turn the application has had its poll: what follows is sending */
    unsigned gather; /* packets; 0: never waits */
    uint64_t slow;   /* cycles to burn for each received packet, in its turn: overload */
    uint64_t wait;   /* cycles before the next rx; found out while running */
    uint64_t began, last;
    unsigned rx, tx; /* in this turn */
    uint64_t stage[BENCH_STAGES];
    struct bench_turns turns; /* read it while the lcore does not run */
    /* Cycles a packet of successive windows of BENCH_WINDOW_PACKETS: long enough to hold whole messages and
     * their acknowledgements, short enough that most are undisturbed on a busy host. */
    struct bench_sample windows;
    uint64_t window_cycles, window_packets;
};
enum { BENCH_WINDOW_PACKETS = 4096 };

int bench_meter_init(struct bench_meter *, struct sl_queue *inner); /* -ENOMEM */
void bench_meter_free(struct bench_meter *);
void bench_meter_begin(struct bench_meter *); /* counts from zero; on no turn */
void bench_meter_end(struct bench_meter *);   /* closes the last turn */
/* The time since the last mark belongs to `stage`. */
void bench_meter_mark(struct bench_meter *, enum bench_stage);
