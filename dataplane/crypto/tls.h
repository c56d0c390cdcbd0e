/* TLS 1.3 with certificates on both sides, over memory: bytes in, bytes out, no socket (OpenSSL). No tickets,
 * no 0-RTT, no renegotiation; a flood of KeyUpdates (16, and one more for each MiB received: no clock needed)
 * ends the connection (rules T8). The peer's certificate must state its role: extended key usage serverAuth
 * for the edge, clientAuth for a device. The addresses and names of hosts play no part. One thread owns a
 * connection. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_tls_role { SL_TLS_SERVER, SL_TLS_CLIENT };
struct sl_tls_ctx;
struct sl_tls;

/* ca: PEM file that the peer's certificate must chain to; cert and key: our own, PEM. err: one line. */
int sl_tls_ctx_create(enum sl_tls_role, const char *ca, const char *cert, const char *key,
    struct sl_tls_ctx **, char *err, size_t err_cap);
/* Another certificate of the same role and CA: all else is shared with that context, which may be freed
 * before. What a thousand phones of one process have is then a certificate and a key each. */
int sl_tls_ctx_share(const struct sl_tls_ctx *, const char *cert, const char *key, struct sl_tls_ctx **,
    char *err, size_t err_cap);
void sl_tls_ctx_free(struct sl_tls_ctx *);
int sl_tls_create(struct sl_tls_ctx *, struct sl_tls **);
void sl_tls_free(struct sl_tls *);

/* Ciphertext from the peer; all of it is taken. Then read until 0. Returns 0, or -EPROTO / -EACCES
 * (certificate refused; sl_tls_error says why). */
int sl_tls_feed(struct sl_tls *, const uint8_t *in, size_t len);
/* Ciphertext for the peer: up to cap bytes; 0: nothing to send. */
size_t sl_tls_drain(struct sl_tls *, uint8_t *out, size_t cap);
size_t sl_tls_pending_out(const struct sl_tls *);
/* Plaintext: bytes read, 0 (none now), -EPIPE (closed by the peer), -EPROTO, -EACCES (a device learns only
 * here that the edge refused its certificate: in TLS 1.3 the client is through with its handshake before the
 * server has looked). */
long sl_tls_read(struct sl_tls *, uint8_t *out, size_t cap);
int sl_tls_write(struct sl_tls *, const uint8_t *in, size_t len);
int sl_tls_close(struct sl_tls *); /* close_notify */
bool sl_tls_established(const struct sl_tls *);
const char *sl_tls_error(const struct sl_tls *);

/* After the handshake: the certificate's common name (the device id), SHA-256 of its SubjectPublicKeyInfo,
 * and the exporter. */
int sl_tls_peer_name(const struct sl_tls *, char name[65]);
int sl_tls_peer_key_hash(const struct sl_tls *, uint8_t hash[32]);
int sl_tls_export(const struct sl_tls *, const char *label, const uint8_t *context, size_t context_len,
    uint8_t *out, size_t len);
