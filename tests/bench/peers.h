/* What others do over a veth pair between two network namespaces, with the same cipher where they can: what
 * `ingest` is compared with. Each peer is written as its users would for throughput: bursts of system calls,
 * large socket buffers, threads pinned, plaintext to its final place. Takes root. */
#pragma once

#include "tests/bench/twins.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct bench_peer_run {
    uint32_t mtu, plain; /* plain: bytes of a packet */
    double seconds;
    bool offload;          /* UDP: GSO and GRO */
    uint32_t over;         /* atomic: the receiver has what it wants */
    uint64_t packets_sent; /* by the sender, warm-up included */
    /* by the receiver, without the warm-up */
    uint64_t bytes, packets, wrong;
    double took_s, cpu_s;
};

/* Both sides; side 0 receives. */
int bench_peer_udp(struct bench_twin *); /* sendmmsg and recvmmsg, AES-128-GCM by our own code */
int bench_peer_tls(struct bench_twin *); /* TCP, TLS 1.3 by OpenSSL, the kernel's segmentation offloads on */

struct bench_peers {
    double udp_gbps, udp_offload_gbps, tls_gbps, af_xdp_gbps; /* medians; 0: not measured */
};
/* Measures all, `rounds` times in turn, for `seconds` together, writes peers{} and the medians. Before EAL or
 * any thread is started. Returns a status of verb.h; BENCH_SKIPPED: err says what is missing. */
int bench_peers_measure(uint64_t payload_bytes, double seconds, unsigned rounds, cJSON *to,
    struct bench_peers *, char *err, size_t cap);

/* The receiver's time: warm-up over? CPU seconds of this process. */
struct bench_peer_clock {
    uint64_t from_ns, until_ns;
    double cpu_s;
    bool running;
};
void bench_peer_clock_start(struct bench_peer_clock *, double seconds);
/* Once a batch: counts it in where it lies in the measured time. False: over. */
bool bench_peer_clock_count(
    struct bench_peer_clock *, struct bench_peer_run *, uint64_t bytes, uint64_t packets);
