/* Virtual time: one thread, no socket, no clock. The phones' side (any program's: device-sim/fleet here) and
 * a model of the edge node (edge.h) are joined by a cable (cable.h) for packets and by the control messages
 * kept here. Time stands still while anything has work to do, and then goes to the next deadline of all.
 *
 *   deliver what is due -> edge's turn -> phones' lcore -> phones' control ... until nobody works -> next
 * time
 *
 * Everything that happens follows from the experiment, the seed and the code: session ids and secrets come
 * from the seed, and of messages that are due at one time the one sent first is delivered first.
 *
 * A control message takes half of its phone's round trip each way, a new connection two round trips (TCP and
 * TLS 1.3), whatever their size; adapters likewise. */
#pragma once

#include "device-sim/device/access.h"
#include "device-sim/virtual/edge.h"

#include <signal.h>

struct sl_world_config {
    struct sl_model_edge_config edge; /* its queue is the world's */
    uint32_t max_buffers;             /* datagrams under way, both directions */
    /* Events of the edge node, for a log; may be NULL. */
    void (*event)(void *app, const char *name, const char *const *keys, const uint64_t *values, unsigned n);
};

/* The phones' side. */
struct sl_world_side {
    struct sl_lcore *lcore;
    void (*poll)(void *app, uint64_t now_ns);
    bool (*pending)(void *app);                       /* something for poll, whatever the time */
    uint64_t (*deadline)(void *app, uint64_t now_ns); /* of poll: the next after now */
    void (*progress)(void *app, uint64_t now_ns);     /* now and then, in the host's time */
    void *app;
};

struct sl_world;
int sl_world_create(const struct sl_world_config *, const struct sl_access_events *, void *app,
    struct sl_world **, char *err, size_t err_cap);
void sl_world_free(struct sl_world *);
struct sl_port *sl_world_port(struct sl_world *); /* the phones' end of the cable */
/* Until access->stop. -EDEADLK: nothing will ever happen any more. */
int sl_world_run(struct sl_world *, const struct sl_world_side *);
const struct sl_model_edge *sl_world_edge(const struct sl_world *);
extern const struct sl_access_ops sl_world_access; /* its `access` is the struct sl_world */
