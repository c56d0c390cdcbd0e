/* Certificates for tests, made in memory and written as PEM into a fresh directory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct certs;
/* A new directory with ca.pem (the fleet's) and other-ca.pem. */
struct certs *certs_create(void);
void certs_free(struct certs *); /* removes the directory */

struct cert_spec {
    const char *file;     /* FILE.pem and FILE.key in the directory */
    const char *name;     /* common name; NULL: none */
    const char *role;     /* "serverAuth", "clientAuth", NULL: no extended key usage */
    int from_day, to_day; /* validity relative to today; both 0: yesterday to tomorrow */
    bool other_ca, rsa;
};
void certs_issue(struct certs *, const struct cert_spec *);
/* DIR/FILE, in one of a few buffers that take turns. */
const char *certs_path(const struct certs *, const char *file);
