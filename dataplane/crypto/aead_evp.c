/* The portable twin: OpenSSL EVP. A key is its 16 bytes; the two cipher contexts belong to the thread's
 * struct sl_aead and remember which key they hold, so that setting up a session allocates nothing and cannot
 * fail, and a run of packets of one session expands its key once. */
#include "dataplane/crypto/aead_backend.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct evp_direction {
    EVP_CIPHER_CTX *ctx;
    uint8_t key[SL_AEAD_KEY_BYTES]; /* that ctx is set up with */
    bool keyed;
};

struct evp_aead {
    struct sl_aead base;
    struct evp_direction seal, open;
};

static void dispose(struct evp_aead *a)
{
    EVP_CIPHER_CTX_free(a->seal.ctx);
    EVP_CIPHER_CTX_free(a->open.ctx);
    explicit_bzero(a, sizeof(*a));
    free(a);
}

static void evp_free(struct sl_aead *base)
{
    dispose((struct evp_aead *)base);
}

static struct sl_aead *evp_create(void)
{
    struct evp_aead *a = calloc(1, sizeof(*a));

    if (!a)
        return NULL;
    a->base = (struct sl_aead){.backend = &sl_aead_evp, .name = "openssl"};
    a->seal.ctx = EVP_CIPHER_CTX_new();
    a->open.ctx = EVP_CIPHER_CTX_new();
    if (!a->seal.ctx || !a->open.ctx ||
        EVP_CipherInit_ex(a->seal.ctx, EVP_aes_128_gcm(), NULL, NULL, NULL, 1) != 1 ||
        EVP_CipherInit_ex(a->open.ctx, EVP_aes_128_gcm(), NULL, NULL, NULL, 0) != 1) {
        dispose(a);
        return NULL;
    }
    return &a->base;
}

static void evp_key_init(struct sl_aead *base, struct sl_aead_key *expanded, const uint8_t *key)
{
    memcpy(expanded->bytes, key, SL_AEAD_KEY_BYTES);
}

/* Starts a message: key (if another than the last), nonce, associated data, text. */
static bool evp_run(struct evp_direction *d, const struct sl_aead_key *key, const uint8_t *nonce,
    const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out)
{
    bool same = d->keyed && memcmp(d->key, key->bytes, sizeof(d->key)) == 0;
    int n = 0;

    if (EVP_CipherInit_ex(d->ctx, NULL, NULL, same ? NULL : key->bytes, nonce, -1) != 1)
        return false;
    memcpy(d->key, key->bytes, sizeof(d->key));
    d->keyed = true;
    if (aad_len && EVP_CipherUpdate(d->ctx, NULL, &n, aad, (int)aad_len) != 1)
        return false;
    return !len || EVP_CipherUpdate(d->ctx, out, &n, in, (int)len) == 1;
}

static void evp_encrypt(struct sl_aead *base, const struct sl_aead_key *key, const uint8_t *nonce,
    const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, uint8_t *tag)
{
    struct evp_aead *a = (struct evp_aead *)base;
    uint8_t none[SL_AEAD_TAG_BYTES];
    int n = 0;

    /* Nothing here can fail but for a broken library; then no plaintext may leave. */
    if (!evp_run(&a->seal, key, nonce, aad, aad_len, in, len, out) ||
        EVP_CipherFinal_ex(a->seal.ctx, none, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(a->seal.ctx, EVP_CTRL_AEAD_GET_TAG, SL_AEAD_TAG_BYTES, tag) != 1)
        abort();
}

static bool evp_decrypt(struct sl_aead *base, const struct sl_aead_key *key, const uint8_t *nonce,
    const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, const uint8_t *tag)
{
    struct evp_aead *a = (struct evp_aead *)base;
    uint8_t wanted[SL_AEAD_TAG_BYTES], none[SL_AEAD_TAG_BYTES];
    int n = 0;

    memcpy(wanted, tag, sizeof(wanted)); /* the control call takes a writable pointer */
    return evp_run(&a->open, key, nonce, aad, aad_len, in, len, out) &&
           EVP_CIPHER_CTX_ctrl(a->open.ctx, EVP_CTRL_AEAD_SET_TAG, SL_AEAD_TAG_BYTES, wanted) == 1 &&
           EVP_CipherFinal_ex(a->open.ctx, none, &n) == 1;
}

const struct sl_aead_backend sl_aead_evp = {
    .create = evp_create,
    .free = evp_free,
    .key_init = evp_key_init,
    .encrypt = evp_encrypt,
    .decrypt = evp_decrypt,
};
