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

/* The nonce, read by the cipher as one vector right after it was made: so it is stored as one, else the read
 * would wait for its parts to leave the store buffer. The last four bytes are no part of it. */
typedef uint64_t nonce_vector __attribute__((vector_size(16)));
_Static_assert(
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the nonce is put together from little-endian words");

/* RFC 9001 5.3: the packet number, left-padded to the length of the IV, exclusive-or the IV. */
static inline nonce_vector packet_nonce(const uint8_t iv[SL_AEAD_IV_BYTES], uint64_t pn)
{
    uint64_t first, number = __builtin_bswap64(pn);
    uint32_t last;

    memcpy(&first, iv, sizeof(first));
    memcpy(&last, iv + sizeof(first), sizeof(last));
    return (nonce_vector){first ^ number << 32, last ^ number >> 32};
}

void sl_aead_seal(struct sl_aead *aead, const struct sl_aead_key *key, const uint8_t iv[SL_AEAD_IV_BYTES],
    uint64_t pn, const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out,
    uint8_t *tag)
{
    nonce_vector nonce = packet_nonce(iv, pn);

    aead->backend->encrypt(aead, key, (const uint8_t *)&nonce, aad, aad_len, in, len, out, tag);
}

bool sl_aead_open(struct sl_aead *aead, const struct sl_aead_key *key, const uint8_t iv[SL_AEAD_IV_BYTES],
    uint64_t pn, const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out,
    const uint8_t *tag)
{
    nonce_vector nonce = packet_nonce(iv, pn);

    return aead->backend->decrypt(aead, key, (const uint8_t *)&nonce, aad, aad_len, in, len, out, tag);
}
