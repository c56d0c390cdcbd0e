/* `link --tcp`: the kernel's TCP and our transport, one after the other, each alone through the emulator. */
#pragma once

#include "tests/bench/link_model.h"

struct bench_link_tcp {
    const char *congestion;
    double seconds;
    uint64_t window;
};

/* Fills result; a status of verb.h. */
int bench_link_tcp(
    const struct bench_link_tcp *, const struct bench_link_model *, cJSON *result, char *err, size_t cap);
