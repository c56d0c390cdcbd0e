/* A cable in virtual time: two ports of one queue each; what one sends lies at the other at the same instant,
 * in order, none lost. One pool of buffers for both, so a datagram changes hands without being copied. One
 * thread. */
#pragma once

#include "dataplane/io/lcore/port.h"

struct sl_cable;
enum { SL_CABLE_PHONES, SL_CABLE_EDGE, SL_CABLE_ENDS };

/* max_buffers: datagrams at both ends, and under way in an emulator, at a time. They are made as needed. */
int sl_cable_create(uint32_t mtu, uint32_t max_buffers, struct sl_cable **); /* -ENOMEM */
void sl_cable_free(struct sl_cable *);                                       /* with all its buffers */
struct sl_port *sl_cable_port(struct sl_cable *, unsigned end); /* closing it does nothing: the cable's */
