#include "trainer/edge/counters.h"

#include "dataplane/ingest/ingest.h"
#include "dataplane/io/lcore/lcore.h"

/* clang-format off */
#define INGEST(field) {#field, offsetof(struct sl_ingest_stats, field)}
#define LCORE(field) {#field, offsetof(struct sl_lcore_stats, field)}
#define STEER(field) {#field, offsetof(struct sl_lcore_stats, steer.field)}
#define SESSION(field) {#field, offsetof(struct sl_session_stats, field)}
/* clang-format on */

const struct edge_counter edge_ingest_counters[] = {INGEST(requests), INGEST(requests_repeated),
    INGEST(requests_refused), INGEST(requests_no_room), INGEST(granted), INGEST(ready),
    INGEST(grants_expired), INGEST(grants_cancelled), INGEST(returned_gradient), INGEST(returned_eval),
    INGEST(returned_refused), INGEST(returned_session_gone), INGEST(gradients_acked), INGEST(parked),
    INGEST(park_dropped), INGEST(units_placed), INGEST(units_scratch), INGEST(units_released), {NULL, 0}};
const struct edge_counter edge_lcore_counters[] = {LCORE(polls_empty), LCORE(polls_busy), LCORE(cycles_busy),
    LCORE(cycles_total), LCORE(packets_rx), LCORE(packets_tx), LCORE(sleeps), STEER(steered),
    STEER(passed_on), STEER(passed_in), STEER(steer_full), STEER(tx_passed), {NULL, 0}};
const struct edge_counter edge_session_counters[] = {SESSION(packets_tx), SESSION(packets_rx),
    SESSION(bytes_tx), SESSION(bytes_rx), SESSION(retransmits), SESSION(duplicates), SESSION(ptos),
    SESSION(smoothed_rtt_ns), SESSION(min_rtt_ns), SESSION(last_rx_ns), SESSION(last_ack_ns),
    SESSION(in_flight_packets), SESSION(window_packets), SESSION(in_flight_bytes), SESSION(key_updates_tx),
    SESSION(key_updates_rx), {NULL, 0}};
