/* `link`: packets on schedule through the fleet's emulator on a data lcore, in real time, and what became of
 * them beside what the model says (link_exact.h,
 * link_virtual.h). */
#pragma once

#include "tests/bench/link_model.h"
#include "trainer/experiment/experiment.h"

struct bench_link_run {
    double seconds;
    double offered_mbps;                    /* 0: 1.25 times what the link carries on average */
    uint64_t packet;                        /* IP bytes; 0: of many sizes */
    bool busy;                              /* poll mode of the lcore */
    const struct sl_experiment *experiment; /* NULL: the model's link; else the link to its phone 0 */
};

/* Fills result; a status of verb.h. */
int bench_link_run(
    const struct bench_link_run *, const struct bench_link_model *, cJSON *result, char *err, size_t cap);
