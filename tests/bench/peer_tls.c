/* The peer: a TCP stream with TLS 1.3 by OpenSSL (TLS_AES_128_GCM_SHA256), as a gRPC or an HTTPS upload would
 * carry activations. The kernel's segmentation offloads stay on. */
#include "tests/bench/machine.h"
#include "tests/bench/netns.h"
#include "tests/bench/peers.h"
#include "tests/bench/verb.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT = 7446,
    MESSAGE_BYTES = 192 << 10,
    SLOTS = 8,
    READ_AHEAD = 256 << 10,
    CONNECT_TRIES = 500,
    TRY_MS = 2,
    SERIAL = 1,
    VALID_S = 86400
};

struct tls {
    struct bench_twin *side;
    struct bench_peer_run *p;
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    uint8_t *slots;
};

/* A key and a certificate for this run alone: the peer does not look at it. */
static int make_identity(SSL_CTX *ctx)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    int ok = key != NULL && x != NULL && ASN1_INTEGER_set(X509_get_serialNumber(x), SERIAL) == 1 &&
             X509_gmtime_adj(X509_getm_notBefore(x), 0) != NULL &&
             X509_gmtime_adj(X509_getm_notAfter(x), VALID_S) != NULL && X509_set_pubkey(x, key) == 1 &&
             X509_sign(x, key, EVP_sha256()) != 0 && SSL_CTX_use_certificate(ctx, x) == 1 &&
             SSL_CTX_use_PrivateKey(ctx, key) == 1;
    X509_free(x);
    EVP_PKEY_free(key);
    return ok ? 0 : -EINVAL;
}

static int fail(struct tls *t, const char *what)
{
    snprintf(t->side->err, t->side->err_cap, "TLS over TCP: %s: %s", what, strerror(errno));
    return -EIO;
}

static int accept_one(struct tls *t)
{
    struct sockaddr_in own = bench_netns_address(t->side->index, PORT);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof(own)) != 0 || listen(listener, 1) != 0)
        return fail(t, "listen");
    t->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    return t->fd < 0 ? fail(t, "accept") : 0;
}

static int connect_one(struct tls *t)
{
    struct sockaddr_in other = bench_netns_address(1 - t->side->index, PORT);
    for (unsigned i = 0; i < CONNECT_TRIES; i++) {
        t->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (t->fd >= 0 && connect(t->fd, (struct sockaddr *)&other, sizeof(other)) == 0)
            return 0;
        close(t->fd);
        if (bench_twin_cancelled(t->side))
            break;
        nanosleep(&(struct timespec){.tv_nsec = TRY_MS * 1000000}, NULL);
    }
    return fail(t, "connect");
}

static int shake_hands(struct tls *t)
{
    bool server = t->side->index == 0;
    t->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (t->ctx == NULL || SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(t->ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        (server && make_identity(t->ctx) != 0))
        return fail(t, "context");
    SSL_CTX_set_read_ahead(t->ctx, 1); /* many records a system call */
    SSL_CTX_set_default_read_buffer_len(t->ctx, READ_AHEAD);
    t->ssl = SSL_new(t->ctx);
    if (t->ssl == NULL || SSL_set_fd(t->ssl, t->fd) != 1 ||
        (server ? SSL_accept(t->ssl) : SSL_connect(t->ssl)) != 1)
        return fail(t, "handshake");
    return 0;
}

static void send_side(struct tls *t)
{
    while (__atomic_load_n(&t->p->over, __ATOMIC_ACQUIRE) == 0 && !bench_twin_cancelled(t->side))
        if (SSL_write(t->ssl, t->slots, MESSAGE_BYTES) <= 0)
            return;
}

static void receive_side(struct tls *t)
{
    struct bench_peer_clock clock;
    size_t at = 0, n = 0;
    bench_peer_clock_start(&clock, t->p->seconds);
    while (bench_peer_clock_count(&clock, t->p, n, n > 0) && !bench_twin_cancelled(t->side)) {
        if (SSL_read_ex(t->ssl, t->slots + at, (size_t)SLOTS * MESSAGE_BYTES - at, &n) != 1)
            return;
        at = at + n < (size_t)SLOTS * MESSAGE_BYTES ? at + n : 0;
    }
}

int bench_peer_tls(struct bench_twin *side)
{
    static struct tls t;
    t = (struct tls){.side = side, .p = side->shared, .fd = -1};
    bench_pin(side->cpu);
    int ret = bench_netns_join(side, t.p->mtu);
    if (ret == -EPERM)
        return BENCH_SKIPPED;
    t.slots = aligned_alloc(64, (size_t)SLOTS * MESSAGE_BYTES);
    if (ret != 0 || t.slots == NULL)
        return BENCH_FAILED;
    memset(t.slots, 7, (size_t)SLOTS * MESSAGE_BYTES);
    if ((side->index == 0 ? accept_one(&t) : connect_one(&t)) != 0 || shake_hands(&t) != 0)
        return BENCH_FAILED;
    if (side->index == 1) {
        send_side(&t);
        return BENCH_OK;
    }
    receive_side(&t);
    __atomic_store_n(&t.p->over, 1, __ATOMIC_RELEASE);
    close(t.fd);
    bench_twin_outlive(side);
    return BENCH_OK;
}
