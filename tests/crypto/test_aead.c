/* Every back end of this build against published vectors, against each other, and against tampering. */
#include "dataplane/crypto/aead_backend.h"
#include "tests/crypto/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX = 9000 };

static const struct sl_aead_backend *const backends[] = {
    &sl_aead_evp,
#ifdef SL_USE_IPSEC_MB
    &sl_aead_ipsec_mb,
#endif
};
enum { BACKENDS = sizeof(backends) / sizeof(backends[0]) };

struct unit { /* one back end, with a key */
    struct sl_aead *aead;
    struct sl_aead_key *key;
};

static bool unit_init(struct unit *u, unsigned which, const uint8_t key[16])
{
    u->aead = backends[which]->create();
    if (!u->aead)
        return false; /* this CPU has no AES-NI */
    u->key = aligned_alloc(64, sl_aead_key_size());
    assert_non_null(u->key);
    sl_aead_key_init(u->aead, u->key, key);
    return true;
}

static void unit_free(struct unit *u)
{
    sl_aead_key_clear(u->key);
    free(u->key);
    sl_aead_free(u->aead);
}

struct vector {
    const char *key, *iv, *aad, *plain, *cipher, *tag;
    uint64_t pn;
};
static const struct vector vectors[] = {
    /* McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 1 to 4 */
    {"00000000000000000000000000000000", "000000000000000000000000", "", "", "",
        "58e2fccefa7e3061367f1d57a4e7455a", 0},
    {"00000000000000000000000000000000", "000000000000000000000000", "", "00000000000000000000000000000000",
        "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf", 0},
    {"feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16a"
        "edf5aa0de657"
        "ba637b391aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba3"
        "0b396a0aac97"
        "3d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4", 0},
    {"feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16a"
        "edf5aa0de657"
        "ba637b39",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba3"
        "0b396a0aac97"
        "3d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47", 0},
    /* RFC 9001 A.3: a server's Initial packet, packet number 1: the nonce construction */
    {"cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e",
        "c1000000010008f067a5502a4262b50040750001",
        "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a12001301"
        "00002e003300"
        "24001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304",
        "5a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46"
        "c5b7684df354"
        "8e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456"
        "cb",
        "c42158407dd074ee", 1},
};

static void seal__published_vectors(void **state)
{
    for (unsigned b = 0; b < BACKENDS; b++)
        for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
            const struct vector *v = &vectors[i];
            uint8_t key[16], iv[12], aad[64], plain[256], sealed[256 + 16], out[256], opened[256], tag[16];
            size_t aad_len = unhex(v->aad, aad), len = unhex(v->plain, plain), n = unhex(v->cipher, sealed);
            struct unit u;

            unhex(v->key, key);
            unhex(v->iv, iv);
            n += unhex(v->tag, sealed + n); /* the RFC prints both as one string */
            assert_int_equal(n, len + 16);
            if (!unit_init(&u, b, key))
                continue;
            sl_aead_seal(u.aead, u.key, iv, v->pn, aad, aad_len, plain, len, out, tag);
            assert_memory_equal(out, sealed, len);
            assert_memory_equal(tag, sealed + len, 16);
            assert_true(
                sl_aead_open(u.aead, u.key, iv, v->pn, aad, aad_len, sealed, len, opened, sealed + len));
            assert_memory_equal(opened, plain, len);
            unit_free(&u);
        }
}

static void fill(uint8_t *p, size_t n, uint32_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        p[i] = (uint8_t)(*seed >> 24);
    }
}

static void seal__back_ends_agree(void **state)
{
    static uint8_t plain[MAX], sealed[BACKENDS][MAX], opened[MAX];
    const size_t lengths[] = {0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1408, 1409, 4096, 8900};
    uint32_t seed = 1;
    unsigned ran = 0;

    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t key[16], iv[12], aad[32], tag[BACKENDS][16];
        uint64_t pn = (uint64_t)0x0123456789abcdef * i;
        size_t len = lengths[i], aad_len = i % 2 ? 24 : 32;
        struct unit u[BACKENDS];

        fill(key, sizeof(key), &seed);
        fill(iv, sizeof(iv), &seed);
        fill(aad, sizeof(aad), &seed);
        fill(plain, len, &seed);
        for (unsigned b = 0; b < BACKENDS; b++) {
            if (!unit_init(&u[b], b, key))
                continue;
            sl_aead_seal(u[b].aead, u[b].key, iv, pn, aad, aad_len, plain, len, sealed[b], tag[b]);
            assert_memory_equal(sealed[b], sealed[0], len);
            assert_memory_equal(tag[b], tag[0], 16);
            memset(opened, 0, len);
            assert_true(
                sl_aead_open(u[b].aead, u[b].key, iv, pn, aad, aad_len, sealed[0], len, opened, tag[0]));
            assert_memory_equal(opened, plain, len);
            unit_free(&u[b]);
            ran++;
        }
    }
    assert_true(ran > 0);
}

static void seal__in_place(void **state)
{
    static uint8_t plain[1408], apart[1408], same[1408];
    uint8_t key[16], iv[12], aad[32], tag[16], tag_same[16];
    uint32_t seed = 2;

    fill(key, sizeof(key), &seed);
    fill(iv, sizeof(iv), &seed);
    fill(aad, sizeof(aad), &seed);
    fill(plain, sizeof(plain), &seed);
    for (unsigned b = 0; b < BACKENDS; b++) {
        struct unit u;

        if (!unit_init(&u, b, key))
            continue;
        memcpy(same, plain, sizeof(same));
        sl_aead_seal(u.aead, u.key, iv, 9, aad, sizeof(aad), plain, sizeof(plain), apart, tag);
        sl_aead_seal(u.aead, u.key, iv, 9, aad, sizeof(aad), same, sizeof(same), same, tag_same);
        assert_memory_equal(same, apart, sizeof(same));
        assert_memory_equal(tag, tag_same, sizeof(tag));
        assert_true(sl_aead_open(u.aead, u.key, iv, 9, aad, sizeof(aad), same, sizeof(same), same, tag));
        assert_memory_equal(same, plain, sizeof(same));
        unit_free(&u);
    }
}

/* Every single bit of the tag, and a bit of each other input, must matter. */
static void open__refuses_what_was_changed(void **state)
{
    static uint8_t plain[1408], sealed[1408], opened[1408];
    uint8_t key[16], iv[12], aad[32], tag[16];
    uint32_t seed = 3;

    fill(key, sizeof(key), &seed);
    fill(iv, sizeof(iv), &seed);
    fill(aad, sizeof(aad), &seed);
    fill(plain, sizeof(plain), &seed);
    for (unsigned b = 0; b < BACKENDS; b++) {
        struct unit u;

        if (!unit_init(&u, b, key))
            continue;
        sl_aead_seal(u.aead, u.key, iv, 5, aad, sizeof(aad), plain, sizeof(plain), sealed, tag);
        for (unsigned bit = 0; bit < 128; bit++) {
            tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(
                sl_aead_open(u.aead, u.key, iv, 5, aad, sizeof(aad), sealed, sizeof(sealed), opened, tag));
            tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (unsigned i = 0; i < sizeof(aad); i++) {
            aad[i] ^= 0x10;
            assert_false(
                sl_aead_open(u.aead, u.key, iv, 5, aad, sizeof(aad), sealed, sizeof(sealed), opened, tag));
            aad[i] ^= 0x10;
        }
        sealed[700] ^= 1;
        assert_false(
            sl_aead_open(u.aead, u.key, iv, 5, aad, sizeof(aad), sealed, sizeof(sealed), opened, tag));
        sealed[700] ^= 1;
        assert_false(
            sl_aead_open(u.aead, u.key, iv, 6, aad, sizeof(aad), sealed, sizeof(sealed), opened, tag));
        assert_false(
            sl_aead_open(u.aead, u.key, iv, 5, aad, sizeof(aad), sealed, sizeof(sealed) - 1, opened, tag));
        assert_true(
            sl_aead_open(u.aead, u.key, iv, 5, aad, sizeof(aad), sealed, sizeof(sealed), opened, tag));
        unit_free(&u);
    }
}

/* Packets of many sessions take turns on one thread: no key may stick. */
static void seal__keys_take_turns(void **state)
{
    enum { KEYS = 3 };
    uint8_t key[KEYS][16], iv[12] = {0}, plain[64] = "turns", sealed[KEYS][64], tag[KEYS][16], opened[64];
    uint32_t seed = 4;

    fill(key[0], sizeof(key), &seed);
    for (unsigned b = 0; b < BACKENDS; b++) {
        struct sl_aead_key *keys[KEYS];
        struct unit u;

        if (!unit_init(&u, b, key[0]))
            continue;
        for (unsigned k = 0; k < KEYS; k++) {
            keys[k] = aligned_alloc(64, sl_aead_key_size());
            sl_aead_key_init(u.aead, keys[k], key[k]);
        }
        for (unsigned k = 0; k < KEYS; k++)
            sl_aead_seal(u.aead, keys[k], iv, 0, NULL, 0, plain, sizeof(plain), sealed[k], tag[k]);
        for (unsigned i = 0; i < 4 * KEYS; i++) {
            unsigned k = i % KEYS, other = (i + 1) % KEYS;

            assert_true(
                sl_aead_open(u.aead, keys[k], iv, 0, NULL, 0, sealed[k], sizeof(plain), opened, tag[k]));
            assert_memory_equal(opened, plain, sizeof(plain));
            assert_false(
                sl_aead_open(u.aead, keys[other], iv, 0, NULL, 0, sealed[k], sizeof(plain), opened, tag[k]));
        }
        for (unsigned k = 0; k < KEYS; k++) {
            sl_aead_key_clear(keys[k]);
            free(keys[k]);
        }
        unit_free(&u);
    }
}

static void create__names_the_back_end(void **state)
{
    struct sl_aead *aead = sl_aead_create();

    assert_non_null(aead);
    assert_true(strlen(sl_aead_name(aead)) > 0);
    print_message("AEAD here: %s\n", sl_aead_name(aead));
    sl_aead_free(aead);
}

static void key_clear__leaves_nothing(void **state)
{
    uint8_t key[16], zero[64] = {0};
    uint32_t seed = 5;

    fill(key, sizeof(key), &seed);
    for (unsigned b = 0; b < BACKENDS; b++) {
        struct unit u;

        if (!unit_init(&u, b, key))
            continue;
        assert_memory_not_equal(u.key->bytes, zero, sizeof(zero));
        sl_aead_key_clear(u.key);
        for (size_t i = 0; i < sl_aead_key_size(); i++)
            assert_int_equal(u.key->bytes[i], 0);
        unit_free(&u);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create__names_the_back_end),
        cmocka_unit_test(key_clear__leaves_nothing),
        cmocka_unit_test(seal__published_vectors),
        cmocka_unit_test(seal__back_ends_agree),
        cmocka_unit_test(seal__in_place),
        cmocka_unit_test(seal__keys_take_turns),
        cmocka_unit_test(open__refuses_what_was_changed),
    };

    return cmocka_run_group_tests_name("crypto/aead", tests, NULL, NULL);
}
