/* What the two processes of the verb `scale` share: devices (side 0) and edge (side 1). */
#pragma once

#include "dataplane/io/lcore/port.h"
#include "dataplane/wire/frame.h"
#include "tests/bench/twins.h"
#include "trainer/experiment/histogram.h"

enum {
    SCALE_LEVELS = 5, /* 1, 10, 100, 1,000, 10,000 sessions */
    SCALE_ROUNDS_MAX = 16,
    SCALE_PARTS_MAX = 2 * SCALE_LEVELS + 4 * SCALE_ROUNDS_MAX,
    SCALE_D_MODEL = 192,
    SCALE_SEQS = 4,
    SCALE_ROWS_EACH = 128, /* 192 KiB of bf16 in a message */
    SCALE_FRAGMENT_UNITS = 22,
    SCALE_IN_FLIGHT = 256, /* DATA packets of all sessions: half a ring */
    SCALE_CERTIFICATES = 16,
};

/* What the devices ask the edge to be in; they lead. */
enum scale_phase { SCALE_IDLE, SCALE_JOIN, SCALE_MEMORY, SCALE_MEASURE, SCALE_QUIT };

/* One measurement of the data path. */
struct scale_part {
    uint32_t sessions, train;
    double seconds, cycles_per_packet, packets_per_turn, train_mean;
    uint64_t packets, bytes, messages;
};

struct scale_level {
    uint32_t sessions;
    double join_s;          /* from the first connect of this level to its last session */
    uint64_t heap_bytes[2]; /* of the devices' process, of the edge's: allocated in all */
    uint64_t resident_bytes[2];
};

struct scale_shared {
    /* the plan */
    uint32_t n_levels, level_sessions[SCALE_LEVELS], max_sessions, active, rounds, heartbeat_ms;
    double seconds;
    char certificates[128]; /* directory: ca, edge, device-NNNNN */
    /* between the two; atomic */
    uint32_t port, phase, at; /* `at`: the phase that the edge is in */
    uint64_t taken;           /* DATA packets that the edge has taken */
    struct scale_part
        part; /* the measurement under way: sessions and train by the devices, the rest by the edge */
    /* results */
    struct scale_level level[SCALE_LEVELS];
    uint32_t n_parts;
    struct scale_part parts[SCALE_PARTS_MAX];
    /* Heartbeats, counted from when they were due until the edge's application had them: while devices
     * joined, and while none did. lag: of the device's side, until it was handed to TLS. */
    struct sl_histogram beat_joining, beat_otherwise, beat_lag;
    struct sl_histogram join; /* one device, from its connect to its session */
    uint64_t beats_sent, beats_heard, joined, refused, messages_asked, messages_done, messages_lost;
    uint64_t messages_wrong; /* messages whose ends are not what was sent */
    size_t session_bytes, ingest_session_bytes, hot_bytes;
    struct sl_endpoint_stats endpoint[2];
    struct sl_port_stats port_stats[2];
};

int scale_devices_side(struct bench_twin *);
int scale_edge_side(struct bench_twin *);

uint32_t scale_units(void); /* of a message */
struct sl_request scale_request(uint64_t step);
struct sl_addr scale_address(unsigned side);
/* This process: bytes allocated, bytes resident. */
void scale_memory(uint64_t *heap, uint64_t *resident);
