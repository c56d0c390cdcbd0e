#include "dataplane/crypto/keys.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum {
    SHA256_BYTES = 32,
    SHA256_BLOCK_BYTES = 64,
    LABEL_MAX = 255, /* RFC 8446 7.1: opaque label<7..255>, context<0..255> */
};
static const char label_prefix[] = "tls13 ";

/* Fetched once: OpenSSL's HMAC() looks the digest up by name each time, which costs five times the hashing.
 */
static EVP_MD *sha256;
static pthread_once_t fetched = PTHREAD_ONCE_INIT;

static void fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static bool digest(
    EVP_MD_CTX *ctx, const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out)
{
    return EVP_DigestInit_ex2(ctx, sha256, NULL) == 1 && EVP_DigestUpdate(ctx, a, a_len) == 1 &&
           EVP_DigestUpdate(ctx, b, b_len) == 1 && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
}

/* RFC 2104 with SHA-256; a key of at most a block, as all of RFC 8446 7.1's secrets are. */
static bool hmac(EVP_MD_CTX *ctx, const uint8_t *key, size_t key_len, const uint8_t *text, size_t text_len,
    uint8_t mac[SHA256_BYTES])
{
    uint8_t pad[SHA256_BLOCK_BYTES] = {0}, inner[SHA256_BYTES];
    bool ok;

    memcpy(pad, key, key_len);
    for (size_t i = 0; i < sizeof(pad); i++)
        pad[i] ^= 0x36;
    ok = digest(ctx, pad, sizeof(pad), text, text_len, inner);
    for (size_t i = 0; i < sizeof(pad); i++)
        pad[i] ^= 0x36 ^ 0x5c;
    ok = ok && digest(ctx, pad, sizeof(pad), inner, sizeof(inner), mac);
    explicit_bzero(pad, sizeof(pad));
    explicit_bzero(inner, sizeof(inner));
    return ok;
}

/* RFC 5869 2.3 with SHA-256. */
static int hkdf_expand(
    const uint8_t *prk, size_t prk_len, const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len)
{
    uint8_t block[SHA256_BYTES + 2 + 2 * (1 + LABEL_MAX) + 1], mac[SHA256_BYTES];
    size_t mac_len = 0, done = 0;
    EVP_MD_CTX *ctx;
    int err = 0;

    pthread_once(&fetched, fetch);
    ctx = sha256 ? EVP_MD_CTX_new() : NULL;
    if (!ctx)
        return -ENOMEM;
    for (uint8_t counter = 1; done < out_len; counter++) {
        size_t n = out_len - done < sizeof(mac) ? out_len - done : sizeof(mac);

        memcpy(block, mac, mac_len);
        memcpy(block + mac_len, info, info_len);
        block[mac_len + info_len] = counter;
        if (!hmac(ctx, prk, prk_len, block, mac_len + info_len + 1, mac)) {
            err = -ENOMEM;
            break;
        }
        mac_len = sizeof(mac);
        memcpy(out + done, mac, n);
        done += n;
    }
    EVP_MD_CTX_free(ctx); /* wipes what it holds */
    explicit_bzero(block, sizeof(block));
    explicit_bzero(mac, sizeof(mac));
    return err;
}

int sl_hkdf_expand_label(const uint8_t *secret, size_t secret_len, const char *label, const uint8_t *context,
    size_t context_len, uint8_t *out, size_t out_len)
{
    uint8_t info[2 + 2 * (1 + LABEL_MAX)];
    size_t prefix_len = sizeof(label_prefix) - 1, label_len = strlen(label), n = 0;

    if (secret_len > SHA256_BLOCK_BYTES || prefix_len + label_len > LABEL_MAX || context_len > LABEL_MAX ||
        out_len > 255 * SHA256_BYTES)
        return -EINVAL;
    info[n++] = (uint8_t)(out_len >> 8);
    info[n++] = (uint8_t)out_len;
    info[n++] = (uint8_t)(prefix_len + label_len);
    memcpy(info + n, label_prefix, prefix_len);
    n += prefix_len;
    memcpy(info + n, label, label_len);
    n += label_len;
    info[n++] = (uint8_t)context_len;
    if (context_len)
        memcpy(info + n, context, context_len);
    n += context_len;
    return hkdf_expand(secret, secret_len, info, n, out, out_len);
}

/* Key and IV from k->secret. */
static int direction_keys(struct sl_direction_keys *k)
{
    int err = sl_hkdf_expand_label(k->secret, sizeof(k->secret), "sl key", NULL, 0, k->key, sizeof(k->key));

    return err ? err
               : sl_hkdf_expand_label(k->secret, sizeof(k->secret), "sl iv", NULL, 0, k->iv, sizeof(k->iv));
}

static int direction_from(const uint8_t *secret, const char *label, struct sl_direction_keys *k)
{
    int err = sl_hkdf_expand_label(secret, SL_SECRET_BYTES, label, NULL, 0, k->secret, sizeof(k->secret));

    return err ? err : direction_keys(k);
}

int sl_packet_keys_derive(const uint8_t session_secret[SL_SECRET_BYTES], struct sl_packet_keys *keys)
{
    int err = direction_from(session_secret, "sl device", &keys->device_to_edge);

    return err ? err : direction_from(session_secret, "sl edge", &keys->edge_to_device);
}

int sl_direction_keys_next(const struct sl_direction_keys *now, struct sl_direction_keys *next)
{
    struct sl_direction_keys k;
    int err = direction_from(now->secret, "sl ku", &k);

    if (!err)
        *next = k;
    explicit_bzero(&k, sizeof(k));
    return err;
}

void sl_exporter_context(uint64_t edge_session_id, uint32_t epoch, uint8_t context[12])
{
    uint64_t id = __builtin_bswap64(edge_session_id);
    uint32_t e = __builtin_bswap32(epoch);

    memcpy(context, &id, sizeof(id));
    memcpy(context + sizeof(id), &e, sizeof(e));
}
