/* AES-128-GCM on packets: intel-ipsec-mb's direct API, or its OpenSSL EVP twin (sanitizer builds, CPUs
 * without AES-NI). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_AEAD_KEY_BYTES = 16, SL_AEAD_IV_BYTES = 12 };

struct sl_aead;                       /* one per thread */
struct sl_aead *sl_aead_create(void); /* NULL: out of memory or no usable CPU feature */
void sl_aead_free(struct sl_aead *);
const char *sl_aead_name(const struct sl_aead *); /* "ipsec-mb avx512", "openssl" */

/* An expanded key. The caller provides sl_aead_key_size() bytes, 64-byte aligned, in memory outside EAL
 * (rules T14). */
struct sl_aead_key;
size_t sl_aead_key_size(void);
void sl_aead_key_init(struct sl_aead *, struct sl_aead_key *, const uint8_t key[SL_AEAD_KEY_BYTES]);
void sl_aead_key_clear(struct sl_aead_key *); /* frees what the twin holds, wipes */

/* out may equal in. nonce = iv xor packet number (RFC 9001 5.3). */
void sl_aead_seal(struct sl_aead *, const struct sl_aead_key *, const uint8_t iv[SL_AEAD_IV_BYTES],
    uint64_t pn, const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out,
    uint8_t *tag);
/* Returns whether the tag is right (compared in constant time). `out` is written either way. */
bool sl_aead_open(struct sl_aead *, const struct sl_aead_key *, const uint8_t iv[SL_AEAD_IV_BYTES],
    uint64_t pn, const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out,
    const uint8_t *tag);
