/* The context: versions, certificates, and who may be whom. */
#include "dataplane/crypto/tls_internal.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CERT_LIST_MAX = 32 * 1024, /* bytes of certificates that a stranger may make us read (rules T16) */
    CHAIN_DEPTH_MAX = 4,
};

static bool name_char(unsigned char c, bool first)
{
    return isalnum(c) || (!first && (c == '.' || c == '_' || c == '-'));
}

int sl_tls_common_name(X509 *cert, char name[SL_TLS_NAME_MAX + 1])
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), err = -EINVAL, len;
    unsigned char *text = NULL;

    name[0] = 0;
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return -EINVAL;
    len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (len > 0 && len <= SL_TLS_NAME_MAX) {
        err = 0;
        for (int i = 0; i < len; i++)
            if (!name_char(text[i], i == 0))
                err = -EINVAL;
    }
    if (!err) {
        memcpy(name, text, (size_t)len);
        name[len] = 0;
    }
    OPENSSL_free(text);
    return err;
}

int sl_tls_verify(int preverified, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct sl_tls *t = SSL_get_app_data(ssl);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    bool leaf = X509_STORE_CTX_get_error_depth(store) == 0;

    if (leaf && cert && sl_tls_common_name(cert, t->peer_text) && preverified) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
        preverified = 0;
    }
    /* OpenSSL takes a certificate without extended key usage for any purpose; here a role must be stated. */
    if (preverified && leaf) {
        uint32_t role = t->role == SL_TLS_SERVER ? XKU_SSL_CLIENT : XKU_SSL_SERVER,
                 use = X509_get_extended_key_usage(cert);

        if (use == UINT32_MAX || !(use & role)) {
            X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE);
            preverified = 0;
        }
    }
    if (!preverified)
        t->verify_error = X509_STORE_CTX_get_error(store);
    return preverified;
}

/* Never ask a terminal. */
static int no_passphrase(char *buf, int size, int writing, void *user)
{
    return -1;
}

static int fail(char *err, size_t err_cap, int code, const char *file, const char *what)
{
    unsigned long e = ERR_peek_error();
    const char *why = access(file, R_OK) != 0 ? strerror(errno) : e ? ERR_reason_error_string(e) : NULL;

    snprintf(err, err_cap, "%s: %s%s%s (scripts/pki makes certificates)", file, what, why ? ": " : "",
        why ? why : "");
    ERR_clear_error();
    return code;
}

static int load(
    struct sl_tls_ctx *c, const char *ca, const char *cert, const char *key, char *err, size_t err_cap)
{
    SSL_CTX *ctx = c->ssl_ctx;
    STACK_OF(X509_NAME) * names;

    if (SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
        return fail(err, err_cap, -ENOENT, ca, "cannot read the CA's certificate");
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return fail(err, err_cap, -ENOENT, cert, "cannot read our certificate");
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return fail(err, err_cap, -ENOENT, key, "cannot use it as the private key of our certificate");
    if (SSL_CTX_check_private_key(ctx) != 1)
        return fail(err, err_cap, -EINVAL, key, "is not the private key of our certificate");
    if (c->role == SL_TLS_SERVER) {
        names = SSL_load_client_CA_file(ca);
        if (!names)
            return fail(err, err_cap, -ENOENT, ca, "cannot read the CA's certificate");
        SSL_CTX_set_client_CA_list(ctx, names);
    }
    return 0;
}

int sl_tls_ctx_create(enum sl_tls_role role, const char *ca, const char *cert, const char *key,
    struct sl_tls_ctx **out, char *err, size_t err_cap)
{
    struct sl_tls_ctx *c = calloc(1, sizeof(*c));
    int status = -ENOMEM;

    *out = NULL;
    ERR_clear_error();
    if (c)
        c->ssl_ctx = SSL_CTX_new(role == SL_TLS_SERVER ? TLS_server_method() : TLS_client_method());
    if (!c || !c->ssl_ctx || SSL_CTX_set_min_proto_version(c->ssl_ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(c->ssl_ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_num_tickets(c->ssl_ctx, 0) != 1) {
        snprintf(err, err_cap, "cannot set up TLS 1.3: %s",
            ERR_reason_error_string(ERR_peek_error()) ?: "out of memory");
        sl_tls_ctx_free(c);
        return status;
    }
    c->role = role;
    SSL_CTX_set_security_level(c->ssl_ctx, 2);
    SSL_CTX_set_options(c->ssl_ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(c->ssl_ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_early_data(c->ssl_ctx, 0);
    SSL_CTX_set_mode(c->ssl_ctx, SSL_MODE_RELEASE_BUFFERS); /* thousands of idle connections */
    SSL_CTX_set_max_cert_list(c->ssl_ctx, CERT_LIST_MAX);
    SSL_CTX_set_verify(c->ssl_ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, sl_tls_verify);
    SSL_CTX_set_verify_depth(c->ssl_ctx, CHAIN_DEPTH_MAX);
    SSL_CTX_set_default_passwd_cb(c->ssl_ctx, no_passphrase);
    status = load(c, ca, cert, key, err, err_cap);
    if (status) {
        sl_tls_ctx_free(c);
        return status;
    }
    *out = c;
    return 0;
}

static int read_pem(struct sl_tls_ctx *c, const char *cert, const char *key, char *err, size_t err_cap)
{
    BIO *b = BIO_new_file(cert, "r");
    c->cert = b ? PEM_read_bio_X509(b, NULL, no_passphrase, NULL) : NULL;
    BIO_free(b);
    if (!c->cert)
        return fail(err, err_cap, -ENOENT, cert, "cannot read our certificate");
    b = BIO_new_file(key, "r");
    c->key = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
    BIO_free(b);
    if (!c->key)
        return fail(err, err_cap, -ENOENT, key, "cannot use it as the private key of our certificate");
    if (X509_check_private_key(c->cert, c->key) != 1)
        return fail(err, err_cap, -EINVAL, key, "is not the private key of our certificate");
    return 0;
}

int sl_tls_ctx_share(const struct sl_tls_ctx *base, const char *cert, const char *key,
    struct sl_tls_ctx **out, char *err, size_t err_cap)
{
    struct sl_tls_ctx *c = calloc(1, sizeof(*c));

    *out = NULL;
    ERR_clear_error();
    if (!c || SSL_CTX_up_ref(base->ssl_ctx) != 1) {
        free(c);
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    c->ssl_ctx = base->ssl_ctx;
    c->role = base->role;
    int status = read_pem(c, cert, key, err, err_cap);
    if (status) {
        sl_tls_ctx_free(c);
        return status;
    }
    *out = c;
    return 0;
}

void sl_tls_ctx_free(struct sl_tls_ctx *c)
{
    if (!c)
        return;
    SSL_CTX_free(c->ssl_ctx);
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
    free(c);
}
