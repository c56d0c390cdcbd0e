/* A port whose every queue gets the datagrams of its own data lcore's sessions, whatever queue they came by.
 *
 * The wire's session id names its lcore in its first byte (rules T7), so that one byte is looked at before
 * anything else. What is another lcore's is passed on to it by an SPSC ring, and its buffer comes back by
 * another to the queue that it belongs to; a full ring is the named drop `steer_full`. Where the port below
 * has fewer queues than there are lcores, those without one are lent room to write into by their home lcore
 * (number modulo queues), which also sends for them. So buffers are only ever touched by the lcore whose
 * queue they are of, and lcores share nothing but these rings.
 *
 *   queue 0 ──► lcore 0 ──arrivals──► lcore 1        lcore 0 ──room──► lcore 1     (1 has no queue)
 *                  ▲──used buffers───────┘              ▲──to be sent────┘
 */
#pragma once

#include "dataplane/io/lcore/port.h"

/* The port below belongs to the new one from here on, also where this fails: closed with it. Its queues are
 * not to be used beside it. n_lcores: 1 to SL_LCORES_MAX, and at least the queues of the port below. */
int sl_steer_open(struct sl_port *below, unsigned n_lcores, struct sl_port **, char *err, size_t err_cap);
