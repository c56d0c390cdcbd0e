/* The few phones whose links are looked at closely (device-sim/profile): the data lcore publishes, the
 * control thread reads. */
#pragma once

#include "device-sim/fleet/emulator.h"
#include "device-sim/profile/traffic.h"

#include <stdatomic.h>

struct sl_watched_link {
    _Atomic uint64_t offered, carried, dropped, served, wait_ns, queued, allowed; /* allowed: bytes */
};
struct sl_watched_cell {
    _Atomic uint64_t cell, handovers; /* cell: from 1; 0: none */
    _Atomic double snr_up_db, snr_down_db;
};
struct sl_watched {
    uint32_t phone;
    struct sl_watched_link up, down;
    struct sl_watched_cell cell;
    _Atomic uint64_t radio;
};
struct sl_watch {
    uint32_t n;
    _Atomic uint64_t taken_ns;
    uint64_t published_ns;
    struct sl_watched phone[SL_TRAFFIC_PHONES];
};

void sl_watch_init(struct sl_watch *, uint32_t n_phones);
/* The lcore, each time that it publishes. */
void sl_watch_publish(struct sl_watch *, const struct sl_emulator *, uint64_t now_ns);
/* Any thread: what the k-th of them did; returns when that was. The rest of *out stays. */
uint64_t sl_watch_read(const struct sl_watch *, uint32_t k, struct sl_traffic_phone *out);
