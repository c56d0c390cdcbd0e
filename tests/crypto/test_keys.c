#include "dataplane/crypto/keys.h"
#include "tests/crypto/hex.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect(const uint8_t *secret, const char *label, const char *hex)
{
    uint8_t want[64], got[64];
    size_t n = unhex(hex, want);

    assert_int_equal(sl_hkdf_expand_label(secret, 32, label, NULL, 0, got, n), 0);
    assert_memory_equal(got, want, n);
}

/* RFC 9001 A.1 */
static void expand_label__rfc9001_initial_keys(void **state)
{
    uint8_t initial[32], client[32], server[32];

    unhex("7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44", initial);
    expect(initial, "client in", "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea");
    expect(initial, "server in", "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b");
    unhex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea", client);
    unhex("3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b", server);
    expect(client, "quic key", "1f369613dd76d5467730efcbe3b1a22d");
    expect(client, "quic iv", "fa044b2f42a3fd3b46fb255c");
    expect(client, "quic hp", "9f50449e04a0e810283a1e9933adedd2");
    expect(server, "quic key", "cf3a5331653c364c88f0f379b6067e37");
    expect(server, "quic iv", "0ac1493ca1905853b0bba03e");
    expect(server, "quic hp", "c206b8d9b9f0f37644430b490eeaa314");
}

/* OpenSSL's own HKDF, fed with the HkdfLabel structure written out here. */
static void openssl_expand(const uint8_t *secret, const char *label, const uint8_t *context,
    uint8_t context_len, uint8_t *out, size_t out_len)
{
    uint8_t info[600];
    size_t label_len = strlen(label), n = 0;
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

    info[n++] = (uint8_t)(out_len / 256);
    info[n++] = (uint8_t)(out_len % 256);
    info[n++] = (uint8_t)(6 + label_len);
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, label_len);
    n += 6 + label_len;
    info[n++] = context_len;
    memcpy(info + n, context, context_len);
    n += context_len;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, n),
        OSSL_PARAM_construct_end(),
    };
    assert_int_equal(EVP_KDF_derive(ctx, out, out_len, params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

static void expand_label__any_length_and_context(void **state)
{
    const size_t lengths[] = {1, 12, 16, 31, 32, 33, 64, 65, 1000};
    uint8_t secret[32], context[255], want[1000], got[1000];

    for (unsigned i = 0; i < 32; i++)
        secret[i] = (uint8_t)(i * 7);
    memset(context, 0x5a, sizeof(context));
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t context_len = (uint8_t)(i * 31);

        openssl_expand(secret, "sl test", context, context_len, want, lengths[i]);
        assert_int_equal(
            sl_hkdf_expand_label(secret, 32, "sl test", context, context_len, got, lengths[i]), 0);
        assert_memory_equal(got, want, lengths[i]);
    }
}

static void expand_label__refuses_what_does_not_fit(void **state)
{
    uint8_t secret[32] = {0}, context[256] = {0}, out[16];
    char label[300];

    memset(label, 'a', sizeof(label) - 1);
    label[sizeof(label) - 1] = 0;
    assert_int_equal(sl_hkdf_expand_label(secret, 32, label, NULL, 0, out, 16), -EINVAL);
    assert_int_equal(sl_hkdf_expand_label(secret, 32, "a", context, 256, out, 16), -EINVAL);
}

/* The whole schedule for one secret, from OpenSSL's HKDF: golden values of docs/protocol.md come from here.
 */
static void packet_keys_derive__by_the_schedule(void **state)
{
    uint8_t s[32], device[32], edge[32], key[16], iv[12], next[32];
    struct sl_packet_keys k;
    struct sl_direction_keys after;

    for (unsigned i = 0; i < 32; i++)
        s[i] = (uint8_t)i;
    assert_int_equal(sl_packet_keys_derive(s, &k), 0);
    openssl_expand(s, "sl device", s, 0, device, 32);
    openssl_expand(s, "sl edge", s, 0, edge, 32);
    assert_memory_equal(k.device_to_edge.secret, device, 32);
    assert_memory_equal(k.edge_to_device.secret, edge, 32);
    openssl_expand(device, "sl key", s, 0, key, 16);
    openssl_expand(device, "sl iv", s, 0, iv, 12);
    assert_memory_equal(k.device_to_edge.key, key, 16);
    assert_memory_equal(k.device_to_edge.iv, iv, 12);
    openssl_expand(edge, "sl key", s, 0, key, 16);
    assert_memory_equal(k.edge_to_device.key, key, 16);

    openssl_expand(device, "sl ku", s, 0, next, 32);
    assert_int_equal(sl_direction_keys_next(&k.device_to_edge, &after), 0);
    assert_memory_equal(after.secret, next, 32);
    openssl_expand(next, "sl key", s, 0, key, 16);
    assert_memory_equal(after.key, key, 16);
    assert_int_equal(sl_direction_keys_next(&after, &after), 0); /* in place */
    assert_memory_not_equal(after.secret, next, 32);
}

/* The test vector of docs/protocol.md. */
static void packet_keys_derive__documented_vector(void **state)
{
    uint8_t s[32], want[32];
    struct sl_packet_keys k;

    for (unsigned i = 0; i < 32; i++)
        s[i] = (uint8_t)i;
    assert_int_equal(sl_packet_keys_derive(s, &k), 0);
    unhex("7e2aec94dee3812ee2c4a834311c8fea", want);
    assert_memory_equal(k.device_to_edge.key, want, 16);
    unhex("574d624c9cefda4d52e6858c", want);
    assert_memory_equal(k.device_to_edge.iv, want, 12);
    unhex("7441068876adcee7f4525787746cd01f", want);
    assert_memory_equal(k.edge_to_device.key, want, 16);
    unhex("63bc48d2ded25c9da7c7d0f3", want);
    assert_memory_equal(k.edge_to_device.iv, want, 12);
}

static void exporter_context__big_endian(void **state)
{
    const uint8_t want[12] = {1, 2, 3, 4, 5, 6, 7, 8, 0xa, 0xb, 0xc, 0xd};
    uint8_t got[12];

    sl_exporter_context(0x0102030405060708, 0x0a0b0c0d, got);
    assert_memory_equal(got, want, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packet_keys_derive__by_the_schedule),
        cmocka_unit_test(packet_keys_derive__documented_vector),
        cmocka_unit_test(exporter_context__big_endian),
        cmocka_unit_test(expand_label__rfc9001_initial_keys),
        cmocka_unit_test(expand_label__any_length_and_context),
        cmocka_unit_test(expand_label__refuses_what_does_not_fit),
    };

    return cmocka_run_group_tests_name("crypto/keys", tests, NULL, NULL);
}
