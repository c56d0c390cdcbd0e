/* Command line of sluice-sim. */
#pragma once

#include "device-sim/device/front.h"

#include <stdbool.h>
#include <stddef.h>

enum sl_sim_fault_kind { SL_SIM_FAULT_NONE, SL_SIM_FAULT_NAN, SL_SIM_FAULT_ABSURD, SL_SIM_FAULT_DIE };
struct sl_sim_fault {
    enum sl_sim_fault_kind kind;
    uint64_t step;
    uint32_t device;
};

enum { SL_SIM_FAULTS_MAX = 16 };
struct sl_sim_options {
    const char *record;                        /* NULL: sim.record of the experiment */
    const char *experiment, *run, *pki, *user; /* pki NULL: RUN/pki */
    const char *edge;                          /* NULL: edge.control of the experiment */
    bool json, calibrate, help;
    bool is_virtual;
    enum { SL_SIM_EVENTS_STEPS, SL_SIM_EVENTS_PACKETS, SL_SIM_EVENTS_NONE } events;
    struct sl_sim_fault fault[SL_SIM_FAULTS_MAX];
    unsigned n_faults;
    /* plain UDP flows (to_sink.h) */
    const char *profile; /* a run directory */
    const char *sink, *pcap;
    double seconds, rate_mbps;
    bool force, down;
};

extern const char sl_sim_help[];
/* -EINVAL with one line in err. */
int sl_sim_options_parse(int argc, char **argv, struct sl_sim_options *, char *err, size_t err_cap);
