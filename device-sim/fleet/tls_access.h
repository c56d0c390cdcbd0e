/* Phones reach a real edge node: a control connection each, TLS over the kernel's TCP, on one io_uring loop.
 */
#pragma once

#include "dataplane/io/uring/loop.h"
#include "device-sim/device/access.h"

struct sl_tls_access_config {
    const char *pki;  /* ca.pem, device-NNNNN.pem and .key */
    const char *edge; /* "address:port"; outlives the access */
    uint32_t n_phones;
    size_t adapter_bytes_max;
};

struct sl_tls_access;
int sl_tls_access_create(const struct sl_tls_access_config *, const struct sl_access_events *, void *app,
    struct sl_tls_access **, char *err, size_t err_cap);
void sl_tls_access_free(struct sl_tls_access *);
/* As sl_loop_run. */
int sl_tls_access_run(
    struct sl_tls_access *, void (*poll)(void *app, uint64_t now_ns), void *app, uint64_t poll_interval_ns);
extern const struct sl_access_ops sl_tls_access_ops; /* its `access` is the struct sl_tls_access */
