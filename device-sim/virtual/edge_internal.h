/* The inside of the model edge node, for the files edge*.c only. edge.c: sessions, joins and phases, as
 * trainer/edge has them; edge_trainer.c: gangs, boundaries and pushes, as trainer/pipeline has them. */
#pragma once

#include "dataplane/ingest/ingest.h"
#include "dataplane/ingest/share.h"
#include "dataplane/io/lcore/lcore.h"
#include "device-sim/virtual/edge.h"
#include "trainer/pipeline/gang.h"

#define SECOND_NS UINT64_C(1000000000)

enum { SESSIONS_PER_DEVICE = 2 }; /* one that is closed drains while its successor opens */

/* As trainer/edge names them. */
enum model_session { SESSION_NONE, SESSION_CLOSING, SESSION_CLOSE_OWED }; /* none: or in use */
enum device_state { DEVICE_ABSENT, DEVICE_OPENING, DEVICE_JOINED };

struct model_device {
    /* joining */
    enum device_state state;
    uint32_t session; /* handle */
    uint64_t session_id, receive_id;
    uint32_t epoch, cut, class;
    uint64_t held_run;
    bool phase_done;
    /* training: as struct device of trainer/pipeline */
    uint64_t version, applied, tokens_since, last_step;
    uint32_t steps_since;
    bool awaited, in_round, parked;
    bool has_push;
    uint64_t push_version;
    uint32_t slot; /* handle of the message that waits */
    bool waits;
    uint64_t served, tag; /* share.h */
};

/* A message in the gang that is being computed. */
struct member {
    uint32_t slot, device, cut;
    uint64_t leave_ns;
    uint64_t rows;
};

enum trainer_work { TRAINER_IDLE, TRAINER_GANG, TRAINER_EVAL };

struct sl_model_edge {
    struct sl_model_edge_config cfg;
    const struct sl_experiment *x;
    const struct sl_model_edge_ops *ops;
    void *app;
    uint32_t n;
    struct model_device *device; /* [n] */
    enum model_session *session; /* [SESSIONS_PER_DEVICE * n] */
    uint32_t n_owed;             /* SESSION_CLOSE_OWED */

    /* data plane */
    struct sl_addr address;
    uint16_t fragment_units;
    size_t slot_bytes;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_ingest *ingest;
    struct sl_endpoint *endpoint;
    struct sl_lcore *lcore;

    /* phases */
    uint64_t run;
    Sluice__Phase phase;
    uint64_t phase_ns, first_join_ns, alone_ns, train_from_ns;
    uint32_t n_joined;
    bool finish_sent;
    const char *over;

    /* trainer */
    struct sl_gang *gang;
    struct sl_share share;
    bool shares; /* some class has one by plan.fixed */
    enum trainer_work work;
    struct member *member; /* [slots] */
    uint32_t n_members, n_left;
    uint64_t work_from_ns, work_until_ns;
    uint32_t *eval; /* [slots]: handles that wait */
    uint32_t n_eval;
    uint64_t version, global_step, oldest;
    uint32_t n_history;
    bool aggregating, finishing, finished, boundary;
    uint32_t gangs_since, n_awaited, n_pushes, n_parked;
    uint64_t push_deadline_ns, finish_deadline_ns;
    float *zeros; /* an adapter of all blocks, at the highest rank */
    struct sl_model_edge_stats stats;
};

/* edge_trainer.c */
int sl_model_trainer_create(struct sl_model_edge *, uint32_t slots);
void sl_model_trainer_free(struct sl_model_edge *);
void sl_model_trainer_join(struct sl_model_edge *, uint32_t device);
void sl_model_trainer_leave(struct sl_model_edge *, uint32_t device);
void sl_model_trainer_phase(struct sl_model_edge *, Sluice__Phase, uint64_t now_ns);
void sl_model_trainer_finish(struct sl_model_edge *, uint64_t now_ns);
void sl_model_trainer_sent(struct sl_model_edge *, uint32_t device); /* the present G, at its own request */
void sl_model_trainer_push(
    struct sl_model_edge *, uint32_t device, const struct sl_adapter_transfer *, uint64_t now_ns);
bool sl_model_trainer_turn(struct sl_model_edge *, uint64_t now_ns);
uint64_t sl_model_trainer_deadline(const struct sl_model_edge *, uint64_t now_ns);
/* A deadline that has passed waits for something else than time. */
static inline uint64_t sl_model_sooner(uint64_t at, uint64_t t, uint64_t now)
{
    return t > now && t < at ? t : at;
}

/* edge.c */
void sl_model_edge_give(struct sl_model_edge *, uint32_t device);    /* the present G */
void sl_model_edge_trained(struct sl_model_edge *, uint64_t now_ns); /* training is over, at a boundary */
