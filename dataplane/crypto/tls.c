#include "dataplane/crypto/tls.h"

#include "dataplane/crypto/tls_internal.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* KeyUpdates and other handshake messages after the handshake (rules T8). An honest peer sends one in
     * 2^24 records (RFC 8446 5.5), so this bound by volume needs no clock. */
    POST_HANDSHAKE_FREE = 16,
    POST_HANDSHAKE_PER_BYTES = 1 << 20,
};

static int give_up(struct sl_tls *t)
{
    if (!t->failed)
        t->failed = sl_tls_explain(t);
    return t->failed;
}

/* OpenSSL reports each message it has read or written. */
static void on_message(
    int sent, int version, int content_type, const void *buf, size_t len, SSL *ssl, void *user)
{
    struct sl_tls *t = user;

    if (sent || content_type != SSL3_RT_HANDSHAKE || !t->handshake_done || t->failed)
        return;
    t->post_handshake++;
    if (t->post_handshake > POST_HANDSHAKE_FREE + t->bytes_read / POST_HANDSHAKE_PER_BYTES) {
        snprintf(t->error, sizeof(t->error), "the peer floods TLS with KeyUpdates (%llu)",
            (unsigned long long)t->post_handshake);
        t->failed = -EPROTO;
        (void)BIO_reset(t->in); /* the rest of the flood is not read */
    }
}

int sl_tls_create(struct sl_tls_ctx *ctx, struct sl_tls **out)
{
    struct sl_tls *t = calloc(1, sizeof(*t));

    *out = NULL;
    if (!t)
        return -ENOMEM;
    t->role = ctx->role;
    t->ssl = SSL_new(ctx->ssl_ctx);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (t->ssl && ctx->cert)
        SSL_certs_clear(t->ssl); /* a key of another type would stand beside ours */
    bool own = !ctx->cert || (t->ssl && SSL_use_certificate(t->ssl, ctx->cert) == 1 &&
                                 SSL_use_PrivateKey(t->ssl, ctx->key) == 1);
    if (!t->ssl || !t->in || !t->out || !own) {
        BIO_free(t->in);
        BIO_free(t->out);
        SSL_free(t->ssl);
        free(t);
        return -ENOMEM;
    }
    SSL_set_bio(t->ssl, t->in, t->out); /* now the SSL's */
    SSL_set_app_data(t->ssl, t);
    SSL_set_msg_callback(t->ssl, on_message);
    SSL_set_msg_callback_arg(t->ssl, t);
    if (t->role == SL_TLS_SERVER) {
        SSL_set_accept_state(t->ssl);
    } else {
        SSL_set_connect_state(t->ssl);
        ERR_clear_error();
        SSL_do_handshake(t->ssl); /* writes ClientHello, then wants to read */
        ERR_clear_error();
    }
    *out = t;
    return 0;
}

void sl_tls_free(struct sl_tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    free(t);
}

static bool only_wants_input(struct sl_tls *t, int ret)
{
    return SSL_get_error(t->ssl, ret) == SSL_ERROR_WANT_READ;
}

int sl_tls_feed(struct sl_tls *t, const uint8_t *in, size_t len)
{
    int ret;

    if (t->failed)
        return t->failed;
    if (len > INT_MAX)
        return -EINVAL;
    ERR_clear_error();
    if (len && BIO_write(t->in, in, (int)len) != (int)len)
        return give_up(t);
    if (t->handshake_done)
        return 0; /* read by sl_tls_read */
    ret = SSL_do_handshake(t->ssl);
    t->handshake_done = ret == 1;
    return ret == 1 || only_wants_input(t, ret) ? t->failed : give_up(t);
}

size_t sl_tls_drain(struct sl_tls *t, uint8_t *out, size_t cap)
{
    int n = BIO_read(t->out, out, cap > INT_MAX ? INT_MAX : (int)cap);

    return n > 0 ? (size_t)n : 0;
}

size_t sl_tls_pending_out(const struct sl_tls *t)
{
    return BIO_ctrl_pending(t->out);
}

long sl_tls_read(struct sl_tls *t, uint8_t *out, size_t cap)
{
    size_t n = 0;
    int ret;

    if (t->failed)
        return t->failed;
    if (t->peer_closed)
        return -EPIPE;
    if (!t->handshake_done)
        return 0;
    ERR_clear_error();
    ret = SSL_read_ex(t->ssl, out, cap > INT_MAX ? INT_MAX : cap, &n);
    if (t->failed) /* by on_message */
        return t->failed;
    if (ret == 1) {
        t->bytes_read += n;
        return (long)n;
    }
    if (only_wants_input(t, ret))
        return 0;
    if (SSL_get_error(t->ssl, ret) == SSL_ERROR_ZERO_RETURN) {
        t->peer_closed = true;
        return -EPIPE;
    }
    return give_up(t);
}

int sl_tls_write(struct sl_tls *t, const uint8_t *in, size_t len)
{
    size_t n = 0;

    if (t->failed)
        return t->failed;
    if (!t->handshake_done)
        return -ENOTCONN;
    if (t->own_closed)
        return -EPIPE;
    if (!len)
        return 0;
    ERR_clear_error();
    if (SSL_write_ex(t->ssl, in, len, &n) != 1 || n != len)
        return give_up(t);
    return 0;
}

int sl_tls_close(struct sl_tls *t)
{
    if (t->failed || t->own_closed)
        return t->failed;
    if (!t->handshake_done)
        return -ENOTCONN;
    ERR_clear_error();
    t->own_closed = true;
    return SSL_shutdown(t->ssl) < 0 ? give_up(t) : 0;
}

bool sl_tls_established(const struct sl_tls *t)
{
    return !t->failed && t->handshake_done;
}

const char *sl_tls_error(const struct sl_tls *t)
{
    return t->error;
}

static X509 *verified_peer(const struct sl_tls *t)
{
    if (!t->handshake_done || SSL_get_verify_result(t->ssl) != X509_V_OK)
        return NULL;
    return SSL_get0_peer_certificate(t->ssl);
}

int sl_tls_peer_name(const struct sl_tls *t, char name[65])
{
    X509 *cert = verified_peer(t);

    name[0] = 0;
    return cert ? sl_tls_common_name(cert, name) : -ENOTCONN;
}

int sl_tls_peer_key_hash(const struct sl_tls *t, uint8_t hash[32])
{
    X509 *cert = verified_peer(t);
    unsigned char *der = NULL;
    int len, err = 0;

    if (!cert)
        return -ENOTCONN;
    len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (len <= 0 || EVP_Digest(der, (size_t)len, hash, NULL, EVP_sha256(), NULL) != 1)
        err = -EINVAL;
    OPENSSL_free(der);
    return err;
}

int sl_tls_export(const struct sl_tls *t, const char *label, const uint8_t *context, size_t context_len,
    uint8_t *out, size_t len)
{
    if (!sl_tls_established(t))
        return -ENOTCONN;
    return SSL_export_keying_material(t->ssl, out, len, label, strlen(label), context, context_len, 1) == 1
               ? 0
               : -EINVAL;
}
