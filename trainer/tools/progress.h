/* What a long subcommand tells while it runs, and how it hears Ctrl-C. Of the only thread that reports. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line on stderr that is rewritten on a terminal, and repeated now and then where it is none; nothing in
 * the first two seconds. */
struct sl_progress {
    const char *what, *unit;
    uint64_t start_ns, shown_ns;
    bool terminal, shown;
};
void sl_progress_start(struct sl_progress *, const char *what, const char *unit);
void sl_progress_show(struct sl_progress *, size_t done, size_t all, double value, const char *value_name);
void sl_progress_end(struct sl_progress *);
double sl_progress_seconds(const struct sl_progress *);

/* For work that cannot tell how far it is, in a program of one thread: a line on stderr after two seconds,
 * and then every half minute (SIGALRM), until it is ended. `what`: under 64 characters, copied. */
void sl_progress_wait(const char *what);
void sl_progress_waited(void);

/* From here on Ctrl-C (and SIGTERM) only sets a flag; a second one kills. */
void sl_interrupt_catch(void);
bool sl_interrupted(void);
