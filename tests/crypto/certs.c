#include "tests/crypto/certs.h"

#include <dirent.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct authority {
    EVP_PKEY *key;
    X509 *cert;
};
struct certs {
    char dir[64];
    struct authority fleet, other;
    long serial;
};

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x)) {                                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                          \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

const char *certs_path(const struct certs *c, const char *file)
{
    static char paths[8][160];
    static unsigned turn;
    char *p = paths[turn++ % 8];

    snprintf(p, sizeof(paths[0]), "%s/%s", c->dir, file);
    return p;
}

static void write_cert(const struct certs *c, const char *file, X509 *cert)
{
    FILE *f = fopen(certs_path(c, file), "w");

    MUST(f && PEM_write_X509(f, cert) == 1 && fclose(f) == 0);
}

static void extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    MUST(ext && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static X509 *build(
    struct certs *c, const char *name, EVP_PKEY *key, int from_day, int to_day, const struct authority *by)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);

    MUST(cert && X509_set_version(cert, 2) == 1);
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(cert), ++c->serial) == 1);
    if (name)
        MUST(X509_NAME_add_entry_by_NID(
                 subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) == 1);
    MUST(X509_set_issuer_name(cert, by ? X509_get_subject_name(by->cert) : subject) == 1);
    MUST(X509_gmtime_adj(X509_getm_notBefore(cert), from_day * 86400L));
    MUST(X509_gmtime_adj(X509_getm_notAfter(cert), to_day * 86400L));
    MUST(X509_set_pubkey(cert, key) == 1);
    return cert;
}

static void authority_create(struct certs *c, struct authority *a, const char *name, const char *file)
{
    a->key = EVP_EC_gen("P-256");
    MUST(a->key);
    a->cert = build(c, name, a->key, -1, 2, NULL);
    extension(a->cert, a->cert, NID_basic_constraints, "critical,CA:TRUE");
    extension(a->cert, a->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    extension(a->cert, a->cert, NID_subject_key_identifier, "hash");
    MUST(X509_sign(a->cert, a->key, EVP_sha256()) > 0);
    write_cert(c, file, a->cert);
}

struct certs *certs_create(void)
{
    struct certs *c = calloc(1, sizeof(*c));

    MUST(c);
    snprintf(c->dir, sizeof(c->dir), "/tmp/sluice-certs-XXXXXX");
    MUST(mkdtemp(c->dir));
    authority_create(c, &c->fleet, "fleet CA", "ca.pem");
    authority_create(c, &c->other, "other CA", "other-ca.pem");
    return c;
}

void certs_issue(struct certs *c, const struct cert_spec *spec)
{
    const struct authority *by = spec->other_ca ? &c->other : &c->fleet;
    bool dated = spec->from_day || spec->to_day;
    EVP_PKEY *key = spec->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    char file[64];
    X509 *cert;
    FILE *f;

    MUST(key);
    cert = build(c, spec->name, key, dated ? spec->from_day : -1, dated ? spec->to_day : 1, by);
    extension(cert, by->cert, NID_basic_constraints, "critical,CA:FALSE");
    if (spec->role)
        extension(cert, by->cert, NID_ext_key_usage, spec->role);
    MUST(X509_sign(cert, by->key, EVP_sha256()) > 0);
    snprintf(file, sizeof(file), "%s.pem", spec->file);
    write_cert(c, file, cert);
    snprintf(file, sizeof(file), "%s.key", spec->file);
    f = fopen(certs_path(c, file), "w");
    MUST(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0);
    X509_free(cert);
    EVP_PKEY_free(key);
}

void certs_free(struct certs *c)
{
    struct authority *const both[] = {&c->fleet, &c->other};
    struct dirent *e;
    DIR *d = opendir(c->dir);

    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.')
            unlink(certs_path(c, e->d_name));
    if (d)
        closedir(d);
    rmdir(c->dir);
    for (unsigned i = 0; i < 2; i++) {
        EVP_PKEY_free(both[i]->key);
        X509_free(both[i]->cert);
    }
    free(c);
}
