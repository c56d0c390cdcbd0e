/* A packet as a bare loop makes it: a header as the protocol's, and one AES-128-GCM seal or open; no session,
 * no window, no acknowledgement. */
#pragma once

#include "dataplane/crypto/aead.h"
#include "dataplane/wire/packet.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct bench_sealed {
    struct sl_aead *aead;
    struct sl_aead_key *key;
    uint8_t iv[SL_AEAD_IV_BYTES];
    uint8_t *plain; /* a datagram's room */
};

static inline bool bench_sealed_init(struct bench_sealed *s)
{
    static const uint8_t key[SL_AEAD_KEY_BYTES] = {1, 2, 3};
    s->aead = sl_aead_create();
    s->key = aligned_alloc(64, (sl_aead_key_size() + 63) / 64 * 64);
    s->plain = aligned_alloc(64, (SL_DATAGRAM_MAX_BYTES + 63) / 64 * 64);
    if (s->aead == NULL || s->key == NULL || s->plain == NULL)
        return false;
    memset(s->iv, 9, sizeof(s->iv));
    memset(s->plain, 5, SL_DATAGRAM_MAX_BYTES);
    sl_aead_key_init(s->aead, s->key, key);
    return true;
}

static inline size_t bench_sealed_bytes(size_t plain)
{
    return SL_HEADER_DATA_BYTES + plain + SL_TAG_BYTES;
}

static inline void bench_seal(struct bench_sealed *s, uint64_t pn, size_t plain, uint8_t *out)
{
    memset(out, 0, SL_HEADER_DATA_BYTES);
    memcpy(out, &pn, sizeof(pn));
    sl_aead_seal(s->aead, s->key, s->iv, pn, out, SL_HEADER_DATA_BYTES, s->plain, plain,
        out + SL_HEADER_DATA_BYTES, out + SL_HEADER_DATA_BYTES + plain);
}

static inline bool bench_open(struct bench_sealed *s, const uint8_t *in, size_t len)
{
    uint64_t pn;
    if (len < bench_sealed_bytes(0))
        return false;
    size_t plain = len - bench_sealed_bytes(0);
    memcpy(&pn, in, sizeof(pn));
    return sl_aead_open(s->aead, s->key, s->iv, pn, in, SL_HEADER_DATA_BYTES, in + SL_HEADER_DATA_BYTES,
        plain, s->plain, in + SL_HEADER_DATA_BYTES + plain);
}
