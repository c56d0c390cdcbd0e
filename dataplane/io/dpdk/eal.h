/* DPDK's environment, derived from the configuration. It runs in a thread of its own, because EAL pins the
 * thread that initialises it (rules T17). Once a process. What DPDK logs goes to dpdk-PREFIX.log in the run
 * directory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_eal_config {
    const char *run_dir; /* 0700; XDG_RUNTIME_DIR where that is unset or cannot be written to */
    const char *file_prefix;
    uint32_t memory_mib;      /* without huge pages; 0: 256 */
    bool huge_pages;          /* use them (they must be there) */
    int cpu;                  /* the data lcore's; -1: any of the process's mask */
    const char *pci_device;   /* "0000:02:00.0[,arguments]": the one PCI device to probe; NULL: none at all */
    const char *const *extra; /* eal_extra of the experiment file, NULL-terminated, passed through */
};

/* Whether a port's name is a PCI address, with or without ",arguments" of its driver: then it is what
 * `pci_device` wants, as it stands. */
bool sl_eal_is_pci(const char *device);
/* `args`: the final argument list, for printing. -EALREADY the second time. err: one line with the cure.
 * EAL's threads are started with every signal blocked: signals stay the program's. */
int sl_eal_start(const struct sl_eal_config *, char *args, size_t args_cap, char *err, size_t err_cap);
void sl_eal_stop(void);
/* The interrupt thread is parked for good (gate.h): sl_eal_stop must not wait for it. What EAL holds ends
 * with the process. */
void sl_eal_keep_until_exit(void);
