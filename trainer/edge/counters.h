/* Names of the data path's counters, as edge.jsonl and telemetry say them. */
#pragma once

#include <stddef.h>

/* A uint64_t at `offset` of its struct; a NULL name ends a table. */
struct edge_counter {
    const char *name;
    size_t offset;
};
extern const struct edge_counter edge_ingest_counters[];  /* of struct sl_ingest_stats */
extern const struct edge_counter edge_lcore_counters[];   /* of struct sl_lcore_stats */
extern const struct edge_counter edge_session_counters[]; /* of struct sl_session_stats */
