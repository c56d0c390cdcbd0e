/* An edge's TLS context, made once, with a certificate of a CA of its own. */
#pragma once

#include "dataplane/crypto/tls.h"
#include "tests/crypto/certs.h"

#include <stdio.h>
#include <stdlib.h>

static struct sl_tls_ctx *fuzz_tls_context(void)
{
    static struct sl_tls_ctx *ctx;
    struct certs *certs;
    char err[300];

    if (ctx)
        return ctx;
    certs = certs_create();
    certs_issue(certs, &(struct cert_spec){.file = "edge", .name = "edge", .role = "serverAuth"});
    if (sl_tls_ctx_create(SL_TLS_SERVER, certs_path(certs, "ca.pem"), certs_path(certs, "edge.pem"),
            certs_path(certs, "edge.key"), &ctx, err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    certs_free(certs);
    return ctx;
}
