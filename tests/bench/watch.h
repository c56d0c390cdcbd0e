/* Whoever watches: Ctrl-C, and progress on stderr once a verb has run for more than two seconds. */
#pragma once

#include <stdbool.h>

void bench_watch_signals(void); /* INT and TERM ask to stop; a second one ends the program */
bool bench_stopping(void);
/* One line, overwritten on a terminal; nothing within the first two seconds. */
void bench_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bench_progress_end(void);
/* Sleeps in small steps; returns false where it was asked to stop. */
bool bench_sleep(double seconds);
