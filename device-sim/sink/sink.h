/* `sluice-sim --sink` and `--pcap`: the flows of flows.h to a host, on the real clock, or into a capture
 * file, in virtual time. Bounded by rate and time (bounds.h). One thread. */
#pragma once

#include "device-sim/sink/flows.h"

#include <signal.h>

struct sl_sink_config {
    struct sl_flows_config
        flows; /* its packet() and ctx are the sink's; compute_ctx below goes to compute_ns */
    void *compute_ctx;
    struct sl_addr to; /* where UDP goes; not with pcap */
    const char *pcap;  /* file; NULL: UDP */
    bool down;         /* the capture also has the gradients on their way to the phones */
    double seconds, mbps;
    uint64_t run;                         /* in every header */
    const volatile sig_atomic_t *signals; /* ends in order */
};

/* given = sent + the named drops; what the emulated links lost never got so far. */
struct sl_sink_result {
    double seconds;
    struct sl_flow_totals up, down;
    uint64_t gangs, given, sent, sent_bytes; /* IP bytes */
    uint64_t rate_limited, refused, unreachable, too_long, no_room;
    uint64_t late_max_ns; /* on the real clock: how late the loop came to a packet's time, at most */
};

/* In two steps, since the emulator is bound to the flows' queue and the flows call the emulator. */
struct sl_sink;
int sl_sink_open(const struct sl_sink_config *, struct sl_sink **, char *err, size_t err_cap);
struct sl_queue *sl_sink_queue(struct sl_sink *);
int sl_sink_run(struct sl_sink *, struct sl_sink_result *, char *err, size_t err_cap);
void sl_sink_close(struct sl_sink *); /* before the emulator is freed */
void sl_sink_free(struct sl_sink *);  /* after it */
