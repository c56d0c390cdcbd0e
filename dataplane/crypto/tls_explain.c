/* Why a handshake failed, in words for the one who has to mend it. */
#include "dataplane/crypto/tls_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static const char *peer_word(const struct sl_tls *t)
{
    return t->role == SL_TLS_SERVER ? "device" : "edge";
}

/* What is wrong with the certificate of `of`, whom the sentence speaks of as "it". */
static void explain_certificate(int verify_error, bool is_edge, char *out, size_t cap)
{
    switch (verify_error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        snprintf(out, cap, "it is not of this fleet's CA; issue one with scripts/pki");
        break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        snprintf(out, cap, "it has expired; issue a new one with scripts/pki, or set the clock");
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        snprintf(out, cap, "it is not valid yet; is the clock right?");
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        if (is_edge)
            snprintf(out, cap,
                "it has not the edge's role (extended key usage serverAuth); issue it with scripts/pki edge");
        else
            snprintf(out, cap,
                "it has not a device's role (extended key usage clientAuth); issue it with scripts/pki "
                "issue");
        break;
    case X509_V_ERR_APPLICATION_VERIFICATION:
        snprintf(out, cap, "its common name is not a device id (1 to 64 of A-Z a-z 0-9 . _ -)");
        break;
    default:
        snprintf(out, cap, "%s", X509_verify_cert_error_string(verify_error));
    }
}

/* TLS alerts (RFC 8446 6.2) that speak of a certificate, as the peer's judgement on ours. NULL: not one of
 * them. */
static const char *certificate_alert(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
        return "it does not verify";
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
        return "it has not the role for this end (device: clientAuth, edge: serverAuth)";
    case SSL_AD_CERTIFICATE_REVOKED:
        return "it is revoked";
    case SSL_AD_CERTIFICATE_EXPIRED:
        return "it has expired or is not valid yet";
    case SSL_AD_CERTIFICATE_UNKNOWN:
        return "it is not acceptable";
    case SSL_AD_UNKNOWN_CA:
        return "it is not of the peer's CA";
    case SSL_AD_DECRYPT_ERROR:
        return "its signature is wrong";
    case SSL_AD_CERTIFICATE_REQUIRED:
        return "we sent none";
    case SSL_AD_ACCESS_DENIED:
        return "access denied";
    default:
        return NULL;
    }
}

int sl_tls_explain(struct sl_tls *t)
{
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e), err = -EPROTO;
    const char *peer = peer_word(t), *text;
    char why[160];

    if (t->verify_error != X509_V_OK) {
        explain_certificate(t->verify_error, t->role == SL_TLS_CLIENT, why, sizeof(why));
        snprintf(t->error, sizeof(t->error), "the %s's certificate%s%s is refused: %s", peer,
            t->peer_text[0] ? " " : "", t->peer_text, why);
        err = -EACCES;
    } else if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        snprintf(t->error, sizeof(t->error), "the %s sent no certificate", peer);
        err = -EACCES;
    } else if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET &&
               reason < SSL_AD_REASON_OFFSET + 256) {
        text = certificate_alert(reason - SSL_AD_REASON_OFFSET);
        if (text) {
            snprintf(t->error, sizeof(t->error), "the %s refused our certificate: %s", peer, text);
            err = -EACCES;
        } else {
            snprintf(t->error, sizeof(t->error), "the %s ended TLS with the alert \"%s\"", peer,
                SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
        }
    } else {
        text = e ? ERR_reason_error_string(e) : NULL;
        snprintf(t->error, sizeof(t->error), "TLS 1.3 with the %s failed: %s", peer,
            text ? text : "unknown error");
    }
    ERR_clear_error();
    return err;
}
