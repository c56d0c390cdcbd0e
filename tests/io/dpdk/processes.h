/* Two peers as processes: started, watched and killed by a test. */
#pragma once

#include "tests/io/dpdk/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct process {
    const char *role; /* "server" or "client" */
    pid_t pid;        /* 0: not running */
    struct peer_report *report;
    char report_path[128];
    int err_fd; /* its stderr */
};

/* A fresh run directory below $TMPDIR; its path stays in place until processes_end. */
const char *processes_begin(const char *peer_program);
void processes_end(void);
void process_start(struct process *, const char *role, const char *give_up_ms);
/* Sends sig (0: none) and waits. Returns the status of waitpid. */
int process_end(struct process *, int sig);
bool process_runs(const struct process *);
size_t process_stderr(struct process *, char *out, size_t cap); /* after its end */
void sleep_ms(unsigned ms);
double now_s(void);
