/* Two ends in one process, bytes carried by hand. */
#include "dataplane/crypto/keys.h"
#include "dataplane/crypto/tls_internal.h"
#include "tests/crypto/certs.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct certs *certs;

static const struct cert_spec specs[] = {
    {.file = "edge", .name = "edge-0", .role = "serverAuth"},
    {.file = "device", .name = "device-00003", .role = "clientAuth"},
    {.file = "rsa", .name = "device-00004", .role = "clientAuth", .rsa = true},
    {.file = "rsa-edge", .name = "edge-1", .role = "serverAuth", .rsa = true},
    {.file = "expired", .name = "device-00005", .role = "clientAuth", .from_day = -9, .to_day = -2},
    {.file = "expired-edge", .name = "edge-2", .role = "serverAuth", .from_day = -9, .to_day = -2},
    {.file = "early", .name = "device-00006", .role = "clientAuth", .from_day = 2, .to_day = 9},
    {.file = "stranger", .name = "device-00003", .role = "clientAuth", .other_ca = true},
    {.file = "strange-edge", .name = "edge-0", .role = "serverAuth", .other_ca = true},
    {.file = "no-role", .name = "device-00007"},
    {.file = "no-name", .role = "clientAuth"},
    {.file = "bad-name", .name = "../../etc/passwd", .role = "clientAuth"},
};

static int make_certs(void **state)
{
    certs = certs_create();
    for (unsigned i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
        certs_issue(certs, &specs[i]);
    return 0;
}

static int remove_certs(void **state)
{
    certs_free(certs);
    return 0;
}

static struct sl_tls_ctx *context(enum sl_tls_role role, const char *ca, const char *name)
{
    struct sl_tls_ctx *ctx;
    char cert[64], key[64], err[200] = "";

    snprintf(cert, sizeof(cert), "%s.pem", name);
    snprintf(key, sizeof(key), "%s.key", name);
    if (sl_tls_ctx_create(role, certs_path(certs, ca), certs_path(certs, cert), certs_path(certs, key), &ctx,
            err, sizeof(err)))
        fail_msg("%s", err);
    return ctx;
}

struct pair {
    struct sl_tls_ctx *edge_ctx, *device_ctx;
    struct sl_tls *edge, *device;
    int edge_err, device_err;
};

static void pair_init(struct pair *p, const char *edge, const char *device, const char *device_ca)
{
    memset(p, 0, sizeof(*p));
    p->edge_ctx = context(SL_TLS_SERVER, "ca.pem", edge);
    p->device_ctx = context(SL_TLS_CLIENT, device_ca, device);
    assert_int_equal(sl_tls_create(p->edge_ctx, &p->edge), 0);
    assert_int_equal(sl_tls_create(p->device_ctx, &p->device), 0);
}

static void pair_free(struct pair *p)
{
    sl_tls_free(p->edge);
    sl_tls_free(p->device);
    sl_tls_ctx_free(p->edge_ctx);
    sl_tls_ctx_free(p->device_ctx);
}

/* Carries `step` bytes at a time; returns whether any moved. Keeps the first error. */
static bool carry(struct sl_tls *from, struct sl_tls *to, size_t step, int *to_err)
{
    uint8_t buf[4096];
    bool any = false;
    size_t n;

    while ((n = sl_tls_drain(from, buf, step))) {
        int err = sl_tls_feed(to, buf, n);

        any = true;
        if (err && !*to_err)
            *to_err = err;
    }
    return any;
}

static void run(struct pair *p, size_t step)
{
    for (bool any = true; any;) {
        any = carry(p->device, p->edge, step, &p->edge_err);
        any |= carry(p->edge, p->device, step, &p->device_err);
    }
}

/* A client learns of a refusal of its certificate only when it reads. */
static void read_verdict(struct pair *p)
{
    uint8_t byte;
    long n = sl_tls_read(p->device, &byte, 1);

    if (n < 0 && !p->device_err)
        p->device_err = (int)n;
}

static void assert_says(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("\"%s\" lacks \"%s\"", text ? text : "(nothing)", part);
    assert_null(strchr(text, '\n'));
}

static void handshake__both_sides_verified(void **state)
{
    const size_t steps[] = {1, 7, 4096};

    for (unsigned i = 0; i < 3; i++) {
        struct pair p;
        char name[65];
        uint8_t hash[32], again[32];

        pair_init(&p, "edge", "device", "ca.pem");
        assert_int_equal(sl_tls_peer_name(p.edge, name), -ENOTCONN);
        assert_false(sl_tls_established(p.edge));
        run(&p, steps[i]);
        assert_int_equal(p.edge_err, 0);
        assert_int_equal(p.device_err, 0);
        assert_true(sl_tls_established(p.edge));
        assert_true(sl_tls_established(p.device));
        assert_int_equal(sl_tls_peer_name(p.edge, name), 0);
        assert_string_equal(name, "device-00003");
        assert_int_equal(sl_tls_peer_name(p.device, name), 0);
        assert_string_equal(name, "edge-0");
        assert_int_equal(sl_tls_peer_key_hash(p.edge, hash), 0);
        assert_int_equal(sl_tls_peer_key_hash(p.device, again), 0);
        assert_memory_not_equal(hash, again, 32);
        assert_string_equal(SSL_get_version(p.edge->ssl), "TLSv1.3");
        assert_false(SSL_SESSION_has_ticket(SSL_get_session(p.device->ssl)));
        pair_free(&p);
    }
}

static void handshake__rsa_certificates(void **state)
{
    struct pair p;
    char name[65];

    pair_init(&p, "rsa-edge", "rsa", "ca.pem");
    run(&p, 4096);
    assert_int_equal(sl_tls_peer_name(p.edge, name), 0);
    assert_string_equal(name, "device-00004");
    assert_true(sl_tls_established(p.device));
    pair_free(&p);
}

/* Same certificate, same hash; another certificate, another: one live session per certificate (rules T7). */
static void peer_key_hash__follows_the_key(void **state)
{
    uint8_t hash[3][32];
    const char *names[] = {"device", "device", "rsa"};

    for (unsigned i = 0; i < 3; i++) {
        struct pair p;

        pair_init(&p, "edge", names[i], "ca.pem");
        run(&p, 4096);
        assert_int_equal(sl_tls_peer_key_hash(p.edge, hash[i]), 0);
        pair_free(&p);
    }
    assert_memory_equal(hash[0], hash[1], 32);
    assert_memory_not_equal(hash[0], hash[2], 32);
}

static void handshake__edge_refuses_device(void **state)
{
    static const struct {
        const char *device, *edge_says, *device_says;
    } cases[] = {
        {"stranger", "not of this fleet's CA", "not of the peer's CA"},
        {"expired", "has expired", "has expired"},
        {"early", "not valid yet", "does not verify"},
        {"edge", "not a device's role", "has not the role"},
        {"no-role", "not a device's role", "has not the role"},
        {"no-name", "common name", "alert"},
        {"bad-name", "common name", "alert"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pair p;
        char name[65];

        pair_init(&p, "edge", cases[i].device, "ca.pem");
        run(&p, 4096);
        read_verdict(&p);
        assert_false(sl_tls_established(p.edge));
        assert_int_equal(p.edge_err, -EACCES);
        assert_says(sl_tls_error(p.edge), cases[i].edge_says);
        assert_int_equal(sl_tls_peer_name(p.edge, name), -ENOTCONN);
        assert_false(sl_tls_established(p.device));
        assert_true(p.device_err == -EACCES || p.device_err == -EPROTO);
        assert_says(sl_tls_error(p.device), cases[i].device_says);
        if (p.device_err == -EACCES)
            assert_says(sl_tls_error(p.device), "the edge refused our certificate: ");
        pair_free(&p);
    }
}

static void handshake__device_refuses_edge(void **state)
{
    static const struct {
        const char *edge, *device_says, *edge_says;
    } cases[] = {
        {"strange-edge", "not of this fleet's CA", "not of the peer's CA"},
        {"expired-edge", "has expired", "has expired"},
        {"device", "not the edge's role", "has not the role"}, /* a device posing as the edge */
        {"no-role", "not the edge's role", "has not the role"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pair p;

        pair_init(&p, cases[i].edge, "device", "ca.pem");
        run(&p, 4096);
        assert_int_equal(p.device_err, -EACCES);
        assert_says(sl_tls_error(p.device), "the edge's certificate");
        assert_says(sl_tls_error(p.device), cases[i].device_says);
        assert_int_equal(p.edge_err, -EACCES);
        assert_says(sl_tls_error(p.edge), "the device refused our certificate: ");
        assert_says(sl_tls_error(p.edge), cases[i].edge_says);
        assert_false(sl_tls_established(p.device));
        assert_false(sl_tls_established(p.edge));
        pair_free(&p);
    }
}

/* A client that OpenSSL drives directly, so that it may do what ours never does. */
static SSL *foreign_client(int max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;

    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(ctx, max_version);
    ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    return ssl;
}

static int exchange(SSL *client, struct sl_tls *edge)
{
    uint8_t buf[16384];
    int err = 0;

    for (int turn = 0; turn < 10 && !err; turn++) {
        int n;

        SSL_do_handshake(client);
        while ((n = BIO_read(SSL_get_wbio(client), buf, sizeof(buf))) > 0 && !err)
            err = sl_tls_feed(edge, buf, (size_t)n);
        while ((n = (int)sl_tls_drain(edge, buf, sizeof(buf))) > 0)
            BIO_write(SSL_get_rbio(client), buf, n);
    }
    return err;
}

static void handshake__no_client_certificate(void **state)
{
    struct sl_tls_ctx *ctx = context(SL_TLS_SERVER, "ca.pem", "edge");
    SSL *client = foreign_client(TLS1_3_VERSION);
    struct sl_tls *edge;

    assert_int_equal(sl_tls_create(ctx, &edge), 0);
    assert_int_equal(exchange(client, edge), -EACCES);
    assert_string_equal(sl_tls_error(edge), "the device sent no certificate");
    assert_false(sl_tls_established(edge));
    sl_tls_free(edge);
    sl_tls_ctx_free(ctx);
    SSL_free(client);
}

static void handshake__tls_1_2_is_refused(void **state)
{
    struct sl_tls_ctx *ctx = context(SL_TLS_SERVER, "ca.pem", "edge");
    SSL *client = foreign_client(TLS1_2_VERSION);
    struct sl_tls *edge;

    assert_int_equal(sl_tls_create(ctx, &edge), 0);
    assert_int_equal(exchange(client, edge), -EPROTO);
    assert_says(sl_tls_error(edge), "TLS 1.3");
    sl_tls_free(edge);
    sl_tls_ctx_free(ctx);
    SSL_free(client);
}

static void write__both_ways(void **state)
{
    enum { LEN = 300000 };
    uint8_t *sent = malloc(LEN), *got = malloc(LEN);
    struct pair p;

    pair_init(&p, "edge", "device", "ca.pem");
    assert_int_equal(sl_tls_write(p.device, (const uint8_t *)"x", 1), -ENOTCONN);
    run(&p, 4096);
    for (int i = 0; i < LEN; i++)
        sent[i] = (uint8_t)(i * 31 >> 3);
    for (int way = 0; way < 2; way++) {
        struct sl_tls *from = way ? p.edge : p.device, *to = way ? p.device : p.edge;
        size_t have = 0;
        long n;

        assert_int_equal(sl_tls_write(from, sent, LEN), 0);
        assert_true(sl_tls_pending_out(from) > LEN);
        run(&p, 1000);
        while ((n = sl_tls_read(to, got + have, LEN - have)) > 0)
            have += (size_t)n;
        assert_int_equal(have, LEN);
        assert_memory_equal(got, sent, LEN);
        assert_int_equal(sl_tls_pending_out(from), 0);
    }
    free(sent);
    free(got);
    pair_free(&p);
}

static void close__is_seen_after_the_data(void **state)
{
    struct pair p;
    uint8_t buf[8];

    pair_init(&p, "edge", "device", "ca.pem");
    assert_int_equal(sl_tls_close(p.edge), -ENOTCONN);
    run(&p, 4096);
    assert_int_equal(sl_tls_write(p.edge, (const uint8_t *)"last", 4), 0);
    assert_int_equal(sl_tls_close(p.edge), 0);
    assert_int_equal(sl_tls_close(p.edge), 0);
    assert_int_equal(sl_tls_write(p.edge, (const uint8_t *)"x", 1), -EPIPE);
    run(&p, 4096);
    assert_int_equal(sl_tls_read(p.device, buf, sizeof(buf)), 4);
    assert_int_equal(sl_tls_read(p.device, buf, sizeof(buf)), -EPIPE);
    assert_int_equal(sl_tls_read(p.device, buf, sizeof(buf)), -EPIPE);
    pair_free(&p);
}

static void export__equal_on_both_sides(void **state)
{
    struct pair p;
    uint8_t context[12], device[32], edge[32], other[32];

    pair_init(&p, "edge", "device", "ca.pem");
    sl_exporter_context(0x1122334455667788, 1, context);
    assert_int_equal(sl_tls_export(p.edge, SL_EXPORTER_LABEL, context, 12, edge, 32), -ENOTCONN);
    run(&p, 4096);
    assert_int_equal(sl_tls_export(p.edge, SL_EXPORTER_LABEL, context, 12, edge, 32), 0);
    assert_int_equal(sl_tls_export(p.device, SL_EXPORTER_LABEL, context, 12, device, 32), 0);
    assert_memory_equal(edge, device, 32);
    sl_exporter_context(0x1122334455667788, 2, context);
    assert_int_equal(sl_tls_export(p.edge, SL_EXPORTER_LABEL, context, 12, other, 32), 0);
    assert_memory_not_equal(edge, other, 32);
    pair_free(&p);
}

static void export__another_connection_another_secret(void **state)
{
    uint8_t secret[2][32], context[12] = {0};

    for (int i = 0; i < 2; i++) {
        struct pair p;

        pair_init(&p, "edge", "device", "ca.pem");
        run(&p, 4096);
        assert_int_equal(sl_tls_export(p.edge, SL_EXPORTER_LABEL, context, 12, secret[i], 32), 0);
        pair_free(&p);
    }
    assert_memory_not_equal(secret[0], secret[1], 32);
}

static long key_updates(struct pair *p, int count, int type)
{
    uint8_t buf[64];

    for (int i = 0; i < count; i++) {
        assert_int_equal(SSL_key_update(p->device->ssl, type), 1);
        SSL_do_handshake(p->device->ssl); /* writes it */
    }
    run(p, 4096);
    return sl_tls_read(p->edge, buf, sizeof(buf));
}

static void read__a_few_key_updates_are_fine(void **state)
{
    struct pair p;
    uint8_t buf[8];

    pair_init(&p, "edge", "device", "ca.pem");
    run(&p, 4096);
    assert_int_equal(key_updates(&p, 10, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
    assert_int_equal(sl_tls_write(p.device, (const uint8_t *)"hello", 5), 0);
    run(&p, 4096);
    assert_int_equal(sl_tls_read(p.edge, buf, sizeof(buf)), 5);
    pair_free(&p);
}

static void read__a_flood_of_key_updates_ends_it(void **state)
{
    const int types[] = {SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED};

    for (int i = 0; i < 2; i++) {
        struct pair p;
        long n = 0;

        pair_init(&p, "edge", "device", "ca.pem");
        run(&p, 4096);
        for (int k = 0; k < 100 && n == 0; k++)
            n = key_updates(&p, 10, types[i]);
        assert_int_equal(n, -EPROTO);
        assert_says(sl_tls_error(p.edge), "KeyUpdate");
        assert_false(sl_tls_established(p.edge));
        assert_true(p.edge->post_handshake < 30); /* the rest was not worked on */
        pair_free(&p);
    }
}

static void feed__garbage(void **state)
{
    struct sl_tls_ctx *ctx = context(SL_TLS_SERVER, "ca.pem", "edge");
    const char *garbage[] = {
        "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", "\0\0\0\0\0\0\0\0\0\0", "SSH-2.0-OpenSSH_9\r\n"};

    for (unsigned i = 0; i < 4; i++) {
        struct sl_tls *edge;
        int err;

        assert_int_equal(sl_tls_create(ctx, &edge), 0);
        err = sl_tls_feed(edge, (const uint8_t *)garbage[i], i == 1 ? 5 : i == 2 ? 10 : strlen(garbage[i]));
        assert_int_equal(err, -EPROTO);
        assert_true(strlen(sl_tls_error(edge)) > 10);
        assert_int_equal(sl_tls_feed(edge, (const uint8_t *)"x", 1), -EPROTO);
        sl_tls_free(edge);
    }
    sl_tls_ctx_free(ctx);
}

static void feed__corrupted_record(void **state)
{
    struct pair p;
    uint8_t buf[100];
    size_t n;

    pair_init(&p, "edge", "device", "ca.pem");
    run(&p, 4096);
    assert_int_equal(sl_tls_write(p.device, (const uint8_t *)"hello", 5), 0);
    n = sl_tls_drain(p.device, buf, sizeof(buf));
    buf[n - 1] ^= 1;
    assert_int_equal(sl_tls_feed(p.edge, buf, n), 0);
    assert_int_equal(sl_tls_read(p.edge, buf, sizeof(buf)), -EPROTO);
    pair_free(&p);
}

static void ctx_create__says_which_file(void **state)
{
    struct sl_tls_ctx *ctx;
    char err[300];
    const char *ca = certs_path(certs, "ca.pem"), *cert = certs_path(certs, "edge.pem"),
               *key = certs_path(certs, "edge.key"), *missing = certs_path(certs, "missing.pem"),
               *other_key = certs_path(certs, "device.key");

    assert_int_equal(sl_tls_ctx_create(SL_TLS_SERVER, missing, cert, key, &ctx, err, sizeof(err)), -ENOENT);
    assert_says(err, "missing.pem: cannot read the CA's certificate: No such file");
    assert_int_equal(sl_tls_ctx_create(SL_TLS_SERVER, ca, missing, key, &ctx, err, sizeof(err)), -ENOENT);
    assert_says(err, "missing.pem: cannot read our certificate");
    assert_int_equal(sl_tls_ctx_create(SL_TLS_CLIENT, ca, cert, missing, &ctx, err, sizeof(err)), -ENOENT);
    assert_says(err, "missing.pem");
    assert_true(sl_tls_ctx_create(SL_TLS_CLIENT, ca, cert, other_key, &ctx, err, sizeof(err)) < 0);
    assert_says(err, "device.key");
    assert_null(ctx);
}

/* Each of them shows its own certificate, also when the one that it shares with is gone. */
static void ctx_share__own_certificate_over_a_shared_context(void **state)
{
    struct sl_tls_ctx *base = context(SL_TLS_CLIENT, "ca.pem", "device"), *shared, *none;
    struct pair p = {.edge_ctx = context(SL_TLS_SERVER, "ca.pem", "edge")};
    const char *cert = certs_path(certs, "rsa.pem"), *key = certs_path(certs, "rsa.key");
    char err[300], name[65];

    assert_int_equal(sl_tls_ctx_share(base, cert, key, &shared, err, sizeof(err)), 0);
    assert_int_equal(
        sl_tls_ctx_share(base, certs_path(certs, "no.pem"), key, &none, err, sizeof(err)), -ENOENT);
    assert_says(err, "no.pem: cannot read our certificate");
    assert_int_equal(
        sl_tls_ctx_share(base, cert, certs_path(certs, "device.key"), &none, err, sizeof(err)), -EINVAL);
    assert_says(err, "device.key: is not the private key of our certificate");
    assert_null(none);
    for (unsigned i = 0; i < 2; i++) {
        p.device_ctx = i ? shared : base;
        assert_int_equal(sl_tls_create(p.edge_ctx, &p.edge), 0);
        assert_int_equal(sl_tls_create(p.device_ctx, &p.device), 0);
        run(&p, 4096);
        assert_int_equal(p.edge_err | p.device_err, 0);
        assert_int_equal(sl_tls_peer_name(p.edge, name), 0);
        assert_string_equal(name, i ? "device-00004" : "device-00003");
        sl_tls_free(p.edge);
        sl_tls_free(p.device);
        sl_tls_ctx_free(p.device_ctx);
    }
    sl_tls_ctx_free(p.edge_ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctx_share__own_certificate_over_a_shared_context),
        cmocka_unit_test(ctx_create__says_which_file),
        cmocka_unit_test(handshake__both_sides_verified),
        cmocka_unit_test(handshake__rsa_certificates),
        cmocka_unit_test(handshake__edge_refuses_device),
        cmocka_unit_test(handshake__device_refuses_edge),
        cmocka_unit_test(handshake__no_client_certificate),
        cmocka_unit_test(handshake__tls_1_2_is_refused),
        cmocka_unit_test(feed__garbage),
        cmocka_unit_test(feed__corrupted_record),
        cmocka_unit_test(write__both_ways),
        cmocka_unit_test(close__is_seen_after_the_data),
        cmocka_unit_test(read__a_few_key_updates_are_fine),
        cmocka_unit_test(read__a_flood_of_key_updates_ends_it),
        cmocka_unit_test(peer_key_hash__follows_the_key),
        cmocka_unit_test(export__equal_on_both_sides),
        cmocka_unit_test(export__another_connection_another_secret),
    };

    return cmocka_run_group_tests_name("crypto/tls", tests, make_certs, remove_certs);
}
