/* A port in ordinary memory: what its queues receive is put there by the test, what they send is kept for it.
 * Every buffer belongs to one queue, and only that queue may be given it. */
#pragma once

#include "dataplane/io/lcore/port.h"

#include <semaphore.h>

enum { FAKE_QUEUES = 4, FAKE_BUFFERS = 2048, FAKE_BYTES = 128 };

struct fake_buffer {
    struct fake_queue *of;
    bool out; /* the queue's user has it */
    uint8_t bytes[FAKE_BYTES];
};
struct fake_queue {
    struct sl_queue queue; /* first */
    struct fake_buffer buffer[FAKE_BUFFERS];
    uint32_t free[FAKE_BUFFERS], n_free;
    struct sl_dgram arrived[FAKE_BUFFERS];
    uint32_t n_arrived, at;
    uint64_t received, sent, freed;
    uint64_t sent_value; /* sum of the last bytes of what was sent */
    bool rests;
    sem_t woken;
};
struct fake_port {
    struct sl_port port; /* first */
    struct fake_queue *fake[FAKE_QUEUES];
    bool closed; /* its memory stays the test's */
    uint32_t out_at_close;
};

struct fake_port *fake_port_open(unsigned n_queues);
void fake_port_free(struct fake_port *);
/* A datagram for `lcore` arrives at a queue: as long as the header of a packet, with `value` as its last
 * byte. */
void fake_arrive(struct fake_queue *, uint8_t lcore, uint8_t value);
uint32_t fake_out(
    const struct fake_port *); /* buffers that are neither with their queues nor yet to be received */
