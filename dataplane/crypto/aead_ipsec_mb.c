/* intel-ipsec-mb's direct (single-buffer, synchronous) API. A manager is only a table of functions chosen for
 * this CPU. */
#include "dataplane/crypto/aead_backend.h"

#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct gcm_key_data) <= SL_AEAD_KEY_ROOM, "room for an expanded key");
_Static_assert(_Alignof(struct gcm_key_data) <= 64, "alignment of an expanded key");

struct ipsec_mb_aead {
    struct sl_aead base;
    IMB_MGR *mgr;
};

static const char *arch_name(IMB_ARCH arch)
{
    switch (arch) {
    case IMB_ARCH_SSE:
        return "ipsec-mb sse";
    case IMB_ARCH_AVX:
        return "ipsec-mb avx";
    case IMB_ARCH_AVX2:
        return "ipsec-mb avx2";
    case IMB_ARCH_AVX512:
        return "ipsec-mb avx512";
    default:
        return "ipsec-mb";
    }
}

static void ipsec_mb_free(struct sl_aead *base)
{
    struct ipsec_mb_aead *a = (struct ipsec_mb_aead *)base;

    free_mb_mgr(a->mgr);
    free(a);
}

static struct sl_aead *ipsec_mb_create(void)
{
    const uint64_t needed =
        IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ; /* without them the library emulates AES: use OpenSSL */
    struct ipsec_mb_aead *a = calloc(1, sizeof(*a));
    IMB_ARCH arch = IMB_ARCH_NONE;

    if (!a)
        return NULL;
    a->mgr = alloc_mb_mgr(0);
    if (a->mgr && (a->mgr->features & needed) == needed)
        init_mb_mgr_auto(a->mgr, &arch);
    if (arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI || imb_get_errno(a->mgr) != 0) {
        if (a->mgr)
            free_mb_mgr(a->mgr);
        free(a);
        return NULL;
    }
    a->base = (struct sl_aead){.backend = &sl_aead_ipsec_mb, .name = arch_name(arch)};
    return &a->base;
}

static void ipsec_mb_key_init(struct sl_aead *base, struct sl_aead_key *expanded, const uint8_t *key)
{
    IMB_AES128_GCM_PRE(((struct ipsec_mb_aead *)base)->mgr, key, (struct gcm_key_data *)expanded->bytes);
}

static void ipsec_mb_encrypt(struct sl_aead *base, const struct sl_aead_key *key, const uint8_t *nonce,
    const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, uint8_t *tag)
{
    struct gcm_context_data ctx;

    IMB_AES128_GCM_ENC(((struct ipsec_mb_aead *)base)->mgr, (const struct gcm_key_data *)key->bytes, &ctx,
        out, in, len, nonce, aad, aad_len, tag, SL_AEAD_TAG_BYTES);
}

/* Without a branch on the bytes: how many are right must not show in the time. */
static inline bool same_tag(const uint8_t a[SL_AEAD_TAG_BYTES], const uint8_t b[SL_AEAD_TAG_BYTES])
{
    uint64_t x[2], y[2];

    memcpy(x, a, sizeof(x));
    memcpy(y, b, sizeof(y));
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

static bool ipsec_mb_decrypt(struct sl_aead *base, const struct sl_aead_key *key, const uint8_t *nonce,
    const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, const uint8_t *tag)
{
    struct gcm_context_data ctx;
    uint8_t ours[SL_AEAD_TAG_BYTES];

    IMB_AES128_GCM_DEC(((struct ipsec_mb_aead *)base)->mgr, (const struct gcm_key_data *)key->bytes, &ctx,
        out, in, len, nonce, aad, aad_len, ours, SL_AEAD_TAG_BYTES);
    return same_tag(ours, tag);
}

const struct sl_aead_backend sl_aead_ipsec_mb = {
    .create = ipsec_mb_create,
    .free = ipsec_mb_free,
    .key_init = ipsec_mb_key_init,
    .encrypt = ipsec_mb_encrypt,
    .decrypt = ipsec_mb_decrypt,
};
