/* Runs a program as a user does and keeps what it said. */
#pragma once

#include <stddef.h>

struct outcome {
    int code; /* exit code; -signal where it was killed */
    char *out, *err;
};

/* `line` is split at blanks; a word in '...' is one word. The first word is the program of the environment's
 * SLUICE_TRAIN. `interrupt_at`: the text on stderr at which SIGINT is sent; NULL: never. */
struct outcome program_run(const char *interrupt_at, const char *line, ...)
    __attribute__((format(printf, 2, 3)));
void program_free(struct outcome *);
/* Lines in a text. */
size_t program_lines(const char *text);
