/* When the edge answers: the gangs of rules L8, without any arithmetic. Messages that are complete wait; a
 * synchronous gang starts when all phones are there, or at its deadline with a quorum; an asynchronous one
 * whenever the edge is free. It computes for the sum of its members' times, and then all of them are answered
 * at once. No clock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_rounds_config {
    uint32_t n; /* phones */
    bool sync;
    double quorum;           /* share of n */
    uint64_t deadline_ns;    /* after the last gang's end; 0: three times the median gang time */
    const uint64_t *edge_ns; /* [n]: what the edge computes for a phone's message; copied */
};

struct sl_rounds;
int sl_rounds_create(const struct sl_rounds_config *, struct sl_rounds **); /* -ENOMEM */
void sl_rounds_free(struct sl_rounds *);
void sl_rounds_ready(struct sl_rounds *, uint32_t phone); /* its message is complete */
/* The next phone that is answered by now; false: none. */
bool sl_rounds_next(struct sl_rounds *, uint64_t now_ns, uint32_t *phone);
uint64_t sl_rounds_deadline(const struct sl_rounds *);
uint64_t sl_rounds_count(const struct sl_rounds *); /* gangs that have started */
