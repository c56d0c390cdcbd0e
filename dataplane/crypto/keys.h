/* Packet keys of a session (rules T8): from S = TLS-Exporter("EXPORTER-Sluice data v1", edge session id ||
 * epoch, 32) come the two direction secrets, and from each its key, IV and next secret by HKDF-Expand-Label
 * with SHA-256 (RFC 8446 7.1, RFC 9001 5.1). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SL_EXPORTER_LABEL "EXPORTER-Sluice data v1"
enum { SL_SECRET_BYTES = 32 };

struct sl_direction_keys {
    uint8_t secret[SL_SECRET_BYTES], key[16], iv[12];
};
struct sl_packet_keys {
    struct sl_direction_keys device_to_edge, edge_to_device;
};

int sl_packet_keys_derive(const uint8_t session_secret[SL_SECRET_BYTES], struct sl_packet_keys *);
int sl_direction_keys_next(
    const struct sl_direction_keys *, struct sl_direction_keys *next); /* key update chain, "sl ku" */
/* The exporter's context: edge session id (8 bytes) || epoch (4 bytes), big-endian. */
void sl_exporter_context(uint64_t edge_session_id, uint32_t epoch, uint8_t context[12]);
/* -EINVAL: a secret above 64 bytes, a label or context above 255, too much asked for. -ENOMEM. */
int sl_hkdf_expand_label(const uint8_t *secret, size_t secret_len, const char *label, const uint8_t *context,
    size_t context_len, uint8_t *out, size_t out_len);
