/* What the files of TLS share: private to dataplane/crypto. */
#pragma once

#include "dataplane/crypto/tls.h"

#include <openssl/ssl.h>

enum { SL_TLS_NAME_MAX = 64 /* ub-common-name, RFC 5280 appendix A */, SL_TLS_ERROR_MAX = 320 };

struct sl_tls_ctx {
    enum sl_tls_role role;
    SSL_CTX *ssl_ctx;
    X509 *cert; /* in place of the SSL_CTX's; NULL: that */
    EVP_PKEY *key;
};

struct sl_tls {
    enum sl_tls_role role;
    SSL *ssl;
    BIO *in, *out;       /* of ssl */
    int failed;          /* the -errno that ended it, or 0 */
    bool handshake_done; /* OpenSSL's own flag falls again while it works on a later handshake message */
    bool peer_closed;    /* close_notify received */
    bool own_closed;     /* close_notify sent */
    int verify_error;    /* X509_V_ERR_* of the peer's certificate, recorded by sl_tls_verify */
    uint64_t post_handshake, bytes_read;
    char peer_text[SL_TLS_NAME_MAX + 1]; /* common name, printable, for messages only: may be unverified */
    char error[SL_TLS_ERROR_MAX];
};

/* SSL_set_verify's callback: chain as OpenSSL judges it, and the leaf must say its role and a name fit for a
 * device id. */
int sl_tls_verify(int preverified, X509_STORE_CTX *);
/* 0, or -EINVAL: not exactly one common name of 1..64 characters out of [A-Za-z0-9._-], the first a letter or
 * digit. */
int sl_tls_common_name(X509 *, char name[SL_TLS_NAME_MAX + 1]);

/* Empties OpenSSL's error queue into t->error and returns -EACCES (a certificate was refused, by either side)
 * or -EPROTO. */
int sl_tls_explain(struct sl_tls *);
