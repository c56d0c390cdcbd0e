/* From root to an ordinary user, once what only root may open is open. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_privileges {
    const char *user;    /* whom to become; NULL: SUDO_UID and SUDO_GID, else the run directory's owner */
    const char *run_dir; /* given to that user, with what lies in it, where it is root's; may be NULL */
    bool keep_net_admin; /* the calling thread keeps CAP_NET_ADMIN: AF_XDP takes its program off at the end.
                          * Threads that it starts inherit it: see sl_privileges_drop_thread */
};

/* Whether root has any use in opening a port of that name (edge.data.backend): only then are privileges
 * dropped after it is open, else before. */
bool sl_privileges_for_port(const char *backend);

/* Does nothing for an ordinary user. Becomes the user for all threads, without supplementary groups, and
 * without a way back: no capabilities, and no programs that would give any (no_new_privs). Where there is
 * nobody to become it stays root, says so, and only forbids the programs. `said`: one line of what was done,
 * empty where nothing was. 0, or -errno and one line in err: then the program must not go on. */
int sl_privileges_drop(const struct sl_privileges *, char *said, size_t said_cap, char *err, size_t err_cap);
/* First thing in a thread that is started after a drop: gives up what the starting thread has kept. For any
 * other it changes nothing. */
void sl_privileges_drop_thread(void);
