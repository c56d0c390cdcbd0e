/* Packets sealed beforehand for `overload`: of each session a stream of whole messages, grants 1 to
 * BENCH_FLOOD_MESSAGES, packets numbered from 0. Whoever has sent a stream to its end waits until the
 * receiver has opened that session anew, and granted as many: then the same bytes are fresh again. */
#pragma once

#include "tests/bench/material.h"
#include "tests/bench/pair.h"

enum { BENCH_FLOOD_MESSAGES = 8 }; /* as many as ingest lets a session hold */

struct bench_flood {
    const struct bench_load *load;
    uint32_t n_each;  /* packets of a stream */
    uint8_t *packets; /* [sessions][n_each][stride] */
    uint16_t *len;    /* [sessions][n_each] */
    size_t stride;
    uint32_t *at; /* [sessions] */
    uint32_t turn, left;
};

int bench_flood_make(struct bench_flood *, const struct bench_material *);
void bench_flood_free(struct bench_flood *);
/* The next packet; NULL: all sessions wait to be opened. */
const uint8_t *bench_flood_next(struct bench_flood *, struct bench_shared *, uint16_t *len);
