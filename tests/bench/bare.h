/* The bare loop: packets of the load's layout sealed without an endpoint, received and opened into slots, and
 * nothing else. What the full data path is compared with. */
#pragma once

#include "dataplane/crypto/aead.h"
#include "tests/bench/material.h"

struct bench_bare_key {
    struct sl_aead_key *key;
    uint8_t iv[SL_AEAD_IV_BYTES];
};
struct bench_bare {
    const struct bench_load *load;
    struct sl_aead *aead;
    struct bench_bare_key *keys; /* of each session, device to edge */
    uint8_t *key_memory;
    uint64_t *pn;       /* of each session */
    uint32_t *fragment; /* next of its message */
    uint32_t *grant;
    uint32_t turn, left; /* which session's train, and how much of it */
};

int bench_bare_init(struct bench_bare *, const struct bench_load *);
void bench_bare_free(struct bench_bare *);
/* Seals the next packet, trains of 32 by session as the transport sends; returns its length, and whose it is.
 */
uint16_t bench_bare_seal(struct bench_bare *, const struct bench_material *, uint8_t *out, uint32_t *session);
/* Opens n datagrams, each to its units of its session's slot; returns how many tags were right. */
unsigned bench_bare_open(
    struct bench_bare *, const struct sl_dgram *, unsigned n, uint8_t *const *slot_of_session);
