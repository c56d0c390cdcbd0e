/* How phones reach the control side of their edge node: the kernel's TCP with TLS (fleet/tls_access.c), or a
 * model edge node in virtual time (virtual/world.c). Which of them it is decides about the clock, too.
 *
 * One thread makes all calls. `phone` is the phone's number; it has one connection at a time. Events come
 * from inside the loop that drives the access, never from inside one of its ops. */
#pragma once

#include "dataplane/control/peer.h"

struct sl_access_events {
    void (*established)(void *app, uint32_t phone);
    void (*message)(void *app, uint32_t phone, const Sluice__Envelope *);
    void (*adapter)(void *app, uint32_t phone, const struct sl_adapter_transfer *);
    /* Exactly once for each connection; there is none any more. As struct sl_control_ops says. */
    void (*closed)(void *app, uint32_t phone, Sluice__ErrorCode, const char *text);
};

struct sl_access_ops {
    uint64_t (*now_ns)(const void *access);
    uint64_t (*calendar_ns)(const void *access);                /* since the epoch: what heartbeats carry */
    int (*random)(void *access, uint32_t phone, uint32_t *out); /* of a receive id (rules T7) */
    int (*connect)(void *access, uint32_t phone);
    int (*send)(void *access, uint32_t phone, const Sluice__Envelope *);
    int (*push)(void *access, uint32_t phone, const struct sl_adapter_transfer *); /* data is copied */
    void (*bye)(void *access, uint32_t phone, const char *text);                   /* closed() follows */
    void (*drop)(void *access, uint32_t phone); /* without a word to the edge; closed() follows */
    /* The secret of the data session that Welcome names (rules T8). */
    int (*secret)(void *access, uint32_t phone, const Sluice__Welcome *, uint8_t secret[32]);
    uint32_t (*connections)(const void *access); /* open, connecting or not yet wholly closed */
    void (*stop)(void *access);                  /* ends the loop */
};
