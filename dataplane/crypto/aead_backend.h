/* What an AEAD back end provides. Private to dataplane/crypto and its tests. */
#pragma once

#include "dataplane/crypto/aead.h"

struct sl_aead_backend {
    /* Returns NULL where the CPU or the library cannot do it; the state's first member is the struct sl_aead.
     */
    struct sl_aead *(*create)(void);
    void (*free)(struct sl_aead *);
    void (*key_init)(struct sl_aead *, struct sl_aead_key *, const uint8_t *key);
    /* Both write the 16-byte tag that belongs to the data; the caller of decrypt compares. */
    void (*encrypt)(struct sl_aead *, const struct sl_aead_key *, const uint8_t *nonce, const uint8_t *aad,
        size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, uint8_t *tag);
    bool (*decrypt)(struct sl_aead *, const struct sl_aead_key *, const uint8_t *nonce, const uint8_t *aad,
        size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, const uint8_t *tag);
};

struct sl_aead {
    const struct sl_aead_backend *backend;
    const char *name;
};

enum {
    SL_AEAD_TAG_BYTES = 16,
    /* Room for the larger back end: ipsec-mb's expanded AES-128 key with its 48 hash-key powers, 1,008 bytes.
       Checked at build time. */
    SL_AEAD_KEY_ROOM = 1024,
};

struct sl_aead_key {
    _Alignas(64) uint8_t bytes[SL_AEAD_KEY_ROOM];
};

extern const struct sl_aead_backend sl_aead_evp;
#ifdef SL_USE_IPSEC_MB
extern const struct sl_aead_backend sl_aead_ipsec_mb;
#endif
