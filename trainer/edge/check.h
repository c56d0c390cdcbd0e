/* What on this host spoils latency or throughput, each with the command that mends it. Everything is read
 * from sysfs and procfs below a root directory, so that tests can give it a host of their own; what only
 * ioctls know (an interface's rings and offloads) comes in by a function. Nothing is changed, nothing
 * printed. */
#pragma once

#include "trainer/experiment/experiment.h"

#include <stdbool.h>
#include <stdint.h>

enum { SL_CHECK_FINDINGS = 64, SL_CHECK_NAME = 24, SL_CHECK_TEXT = 320, SL_CHECK_CPUS = 1024 };

enum sl_check_level {
    SL_CHECK_OK,
    SL_CHECK_NOTE, /* a fact worth knowing; nothing to mend, or nothing that can be */
    SL_CHECK_WARN, /* costs latency or throughput */
    SL_CHECK_BAD,  /* the experiment cannot run like this */
    SL_CHECK_LEVELS
};
const char *sl_check_level_name(enum sl_check_level);

struct sl_check_finding {
    enum sl_check_level level;
    char name[SL_CHECK_NAME];                      /* of the check: "governor" */
    char text[SL_CHECK_TEXT], cure[SL_CHECK_TEXT]; /* cure: a command or an edit; empty where there is none */
};

struct sl_check_interface {
    bool known; /* the kernel answered */
    uint32_t rx_ring, rx_ring_max, tx_ring, tx_ring_max;
    bool gro, lro;
};

struct sl_check_config {
    const char *root;              /* "" for this host */
    const struct sl_experiment *x; /* NULL: what the defaults would need */
    const char *blas_kernel;       /* OPENBLAS_CORETYPE of the environment; NULL: unset */
    void (*interface)(const char *name, struct sl_check_interface *);
};

struct sl_check {
    struct sl_check_finding finding[SL_CHECK_FINDINGS];
    uint32_t n, count[SL_CHECK_LEVELS];
    uint32_t cpus[SL_CHECK_CPUS], n_cpus; /* that the process may use, ascending */
    uint32_t data[SL_CHECK_CPUS],
        n_data; /* those that data lcores are pinned to; none: the scheduler places them */
};

/* Always answers: what cannot be read is a note. */
void sl_check_host(const struct sl_check_config *, struct sl_check *);

/* "0-3,7" into numbers; returns how many, at most cap. Stops at what is not a list. */
uint32_t sl_check_cpu_list(const char *text, uint32_t *out, uint32_t cap);

/* The verb `sluice-edge check`: argv[0] is "check". Returns the exit status. */
int sl_check_main(int argc, char **argv);
