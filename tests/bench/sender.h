/* The sending process: real sessions on a real data lcore (FULL), or the bare loop's packets (BARE). */
#pragma once

#include "tests/bench/load.h"
#include "tests/bench/pair.h"

/* bench_pair_start's `sender`; arg: the struct bench_load. */
int bench_sender(struct bench_shared *, void *load);
