/* A model of the edge node, for virtual time. Real: the transport's endpoint, ingestion with its slots and
 * grants (every packet is sealed and opened), the gangs' rules (pipeline/gang.h), phases, boundaries and who
 * pushes when. Modelled: the trainer's time, from FLOPs (plan/cost.h) and edge.compute_gflops. Left out:
 * TLS (secrets follow from the seed), arithmetic, so losses and weights (adapters have their size and hold
 * zeros), files, telemetry.
 *
 * One thread; the owner gives turns and delivers what control messages there are. A device's number is its
 * phone's. */
#pragma once

#include "dataplane/io/lcore/port.h"
#include "device-sim/device/access.h"
#include "trainer/experiment/experiment.h"
#include "trainer/model/lora.h"
#include "trainer/plan/cost.h"

/* What the edge asks of its owner. None of these calls back before it returns. */
struct sl_model_edge_ops {
    void (*send)(void *app, uint32_t device, const Sluice__Envelope *);
    void (*give)(void *app, uint32_t device, const struct sl_adapter_transfer *);
    void (*close)(void *app, uint32_t device, Sluice__ErrorCode, const char *text);
    /* Events for the log: a name, and numbers under names. */
    void (*event)(void *app, const char *name, const char *const *keys, const uint64_t *values, unsigned n);
};

struct sl_model_edge_config {
    const struct sl_experiment *experiment;
    const struct sl_model_config *shape;
    struct sl_cost_shape cost;
    const uint8_t *model_hash; /* [32] */
    enum sl_codec codec;
    struct sl_queue *queue;
    double compute_gflops;
    bool compressible; /* messages hold what phones would send, so that LZ4 saves what it would */
};

struct sl_model_edge_stats {
    uint64_t gangs, steps, versions, tokens; /* steps: messages whose gradient was returned */
    uint64_t compute_ns, wait_ns;            /* of all gangs: computing; from opening to start */
    uint64_t training_ns;
};

struct sl_model_edge;
/* -EINVAL with a line in err: what an experiment may ask for and this model does not have. */
int sl_model_edge_create(const struct sl_model_edge_config *, const struct sl_model_edge_ops *, void *app,
    struct sl_model_edge **, char *err, size_t err_cap);
void sl_model_edge_free(struct sl_model_edge *);

/* From a device. gone: its connection has ended. */
void sl_model_edge_message(
    struct sl_model_edge *, uint32_t device, const Sluice__Envelope *, uint64_t now_ns);
void sl_model_edge_pushed(
    struct sl_model_edge *, uint32_t device, const struct sl_adapter_transfer *, uint64_t now_ns);
void sl_model_edge_gone(struct sl_model_edge *, uint32_t device, const char *text, uint64_t now_ns);

/* Does what is due; returns whether there was anything. */
bool sl_model_edge_turn(struct sl_model_edge *, uint64_t now_ns);
uint64_t sl_model_edge_deadline(const struct sl_model_edge *, uint64_t now_ns); /* the next after now */
/* NULL while the run goes on; then "done", or why it was given up. */
const char *sl_model_edge_over(const struct sl_model_edge *);
void sl_model_edge_stats(const struct sl_model_edge *, struct sl_model_edge_stats *);

/* The secret of a session, which both sides derive (in the place of the TLS exporter). */
void sl_model_secret(uint64_t seed, uint64_t session_id, uint32_t epoch, uint8_t secret[32]);
