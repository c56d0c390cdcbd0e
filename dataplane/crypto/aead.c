#include "dataplane/crypto/aead.h"

#include "dataplane/crypto/aead_backend.h"

#include <string.h>

struct sl_aead *sl_aead_create(void)
{
    struct sl_aead *aead = NULL;

#ifdef SL_USE_IPSEC_MB
    aead = sl_aead_ipsec_mb.create();
#endif
    return aead ? aead : sl_aead_evp.create();
}

void sl_aead_free(struct sl_aead *aead)
{
    if (aead)
        aead->backend->free(aead);
}

const char *sl_aead_name(const struct sl_aead *aead)
{
    return aead->name;
}

size_t sl_aead_key_size(void)
{
    return sizeof(struct sl_aead_key);
}

void sl_aead_key_init(
    struct sl_aead *aead, struct sl_aead_key *expanded, const uint8_t key[SL_AEAD_KEY_BYTES])
{
    aead->backend->key_init(aead, expanded, key);
}

void sl_aead_key_clear(struct sl_aead_key *key)
{
    explicit_bzero(key, sizeof(*key));
}

/* RFC 9001 5.3: the packet number, left-padded to the length of the IV, exclusive-or the IV. */
static void packet_nonce(const uint8_t iv[SL_AEAD_IV_BYTES], uint64_t pn, uint8_t nonce[SL_AEAD_IV_BYTES])
{
    uint64_t tail;

    memcpy(nonce, iv, SL_AEAD_IV_BYTES);
    memcpy(&tail, nonce + 4, sizeof(tail));
    tail ^= __builtin_bswap64(pn);
    memcpy(nonce + 4, &tail, sizeof(tail));
}

void sl_aead_seal(struct sl_aead *aead, const struct sl_aead_key *key, const uint8_t iv[SL_AEAD_IV_BYTES],
    uint64_t pn, const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out,
    uint8_t *tag)
{
    uint8_t nonce[SL_AEAD_IV_BYTES];

    packet_nonce(iv, pn, nonce);
    aead->backend->encrypt(aead, key, nonce, aad, aad_len, in, len, out, tag);
}

bool sl_aead_open(struct sl_aead *aead, const struct sl_aead_key *key, const uint8_t iv[SL_AEAD_IV_BYTES],
    uint64_t pn, const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out,
    const uint8_t *tag)
{
    uint8_t nonce[SL_AEAD_IV_BYTES];

    packet_nonce(iv, pn, nonce);
    return aead->backend->decrypt(aead, key, nonce, aad, aad_len, in, len, out, tag);
}
