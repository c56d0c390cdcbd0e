/* One phone as a sans-IO state machine: what it says over control and data, what it computes when, what it
 * has trained. No clock (every call takes now_ns), no socket, no thread; the owner carries out what the ops
 * ask for and reports back.
 *
 *   ASLEEP -> JOINING -> IDLE -> COMPUTING -> SENDING -> WAITING -> UPDATING -> IDLE ... -> ENDED
 *                                                            boundary: -> MERGING (pushed, waits for G) ->
 * IDLE
 *
 * Time is the modelled phone's: a message leaves at start + max(modelled, host compute time), and the host's
 * excess is reported (rules L13). One thread owns a phone; during a job (ops->compute until
 * sl_phone_computed) its front half, and the job's description, belong to the thread that computes. */
#pragma once

#include "dataplane/control/peer.h"
#include "dataplane/transport/endpoint.h"
#include "device-sim/device/bounds.h"
#include "device-sim/device/front.h"
#include "device-sim/device/store.h"
#include "trainer/data/stream.h"

enum { SL_PHONE_EVAL_WINDOWS = 8 }; /* in one EVAL message, at most */

enum sl_phone_state {
    SL_PHONE_ASLEEP,
    SL_PHONE_JOINING,
    SL_PHONE_IDLE,
    SL_PHONE_COMPUTING,
    SL_PHONE_SENDING,
    SL_PHONE_WAITING,
    SL_PHONE_UPDATING,
    SL_PHONE_MERGING,
    SL_PHONE_ENDED,
};
const char *sl_phone_state_name(enum sl_phone_state); /* "asleep", ... */

enum sl_phone_job { SL_JOB_NONE, SL_JOB_FORWARD, SL_JOB_BACKWARD };

struct sl_phone;
struct sl_phone_ops {
    int (*control)(void *app, struct sl_phone *, const Sluice__Envelope *);
    int (*push)(void *app, struct sl_phone *, const struct sl_adapter_transfer *); /* data is copied */
    /* Welcome came, and sl_phone_welcomed has taken it up: open the data session (keys from the exporter with
     * its session id and epoch), then sl_phone_installed. */
    void (*install)(void *app, struct sl_phone *, const Sluice__Welcome *);
    void (*request)(void *app, struct sl_phone *); /* phone->request, phone->grid; then sl_phone_event */
    void (*send)(void *app, struct sl_phone *);
    void (*drop)(void *app, struct sl_phone *);
    void (*compute)(
        void *app, struct sl_phone *); /* sl_phone_compute on some thread, then sl_phone_computed */
    double (*modelled_s)(void *app, struct sl_phone *, const struct sl_request *, bool backward);
    /* phone->bounds are new; the name of one that was left out, or NULL. May be NULL: nothing is bounded. */
    void (*bound)(void *app, struct sl_phone *, const char *left_out);
    /* Nothing more to do with this edge: leave with that sentence. */
    void (*leave)(void *app, struct sl_phone *, const char *text);
};

struct sl_phone_config {
    uint32_t index;
    const char *device_class;
    struct sl_model *model;
    uint8_t model_hash[32];
    enum sl_codec codec;
    uint32_t mtu;
    uint32_t seq, batch; /* what the experiment says; Welcome must agree */
    struct sl_stream train, held_out;
    uint32_t held_out_windows; /* of held_out, the first ones */
    uint8_t *messages;         /* the store's two */
    const uint8_t *gradient;
    size_t message_bytes; /* of each */
    /* Replay: the phone has no text and no front half of its own, and what it sends is the store's affair
     * (front.h, store.h). Its steps have their modelled times. NULL: it computes. */
    struct sl_front_common *common;
    enum sl_fault fault; /* fault injection: at that step */
    uint64_t fault_step;
};

/* A step whose gradient was applied. */
struct sl_trained {
    uint64_t global_step, step;
    uint64_t cursor; /* of its first window */
    uint32_t n;
};

struct sl_phone_totals {
    uint64_t steps, messages_eval, steps_lost, steps_refused, rollbacks;
    double modelled_s; /* of training jobs */
    double host_excess_s;
    double turn_s; /* of training steps: from a message's first byte up to its gradient's last byte down */
    double last_step_s; /* modelled compute of the last step counted above, forward and backward */
};

struct sl_phone {
    struct sl_phone_config cfg;
    const struct sl_phone_ops *ops;
    void *app;
    enum sl_phone_state state;
    struct sl_front *front;
    struct sl_phone_totals totals;

    /* the edge's */
    uint64_t run, incarnation, receive_id;
    uint32_t cut;
    uint32_t planned_cut;          /* comes with an adapter of so many blocks; 0: the cut stays */
    bool give_moments;             /* of the blocks that it takes away */
    struct sl_phone_bounds bounds; /* the last Plan's */
    uint32_t rank, device_index, aggregate_every, heartbeat_ms;
    uint16_t fragment_units;
    size_t slot_bytes;
    Sluice__Phase phase, phase_done; /* phase_done: the last one reported */
    char reason[SL_CONTROL_TEXT_MAX + 1];

    bool leaving; /* the owner's: no further step is begun */

    /* adapter */
    bool session_open, have_adapter, wants_adapter;
    bool fresh_moments; /* where a new version changes a block */
    bool personal; /* nobody else's training comes in: versions are this phone's, and no weights come back */
    uint64_t version, wanted_version;
    uint64_t tokens_since; /* predicted tokens trained on since `version` was installed, not yet pushed */
    bool pushed;
    float *incoming; /* an adapter that came while a step was under way: installed when nothing is in flight
                        (rules L8) */
    bool has_incoming;
    uint32_t incoming_cut;
    uint64_t incoming_version, pull_again_ns;
    float *outgoing;

    /* the step under way */
    enum sl_phone_job job;
    int job_status;
    bool granted, computed, abandoned, boundary;
    struct sl_request request;
    struct sl_grid grid;
    struct sl_front_batch batch;
    enum sl_fault fault;
    uint64_t step, cursor, eval_cursor; /* step: number of the last one begun; cursor: windows consumed */
    uint64_t applied_step, train_begun;
    uint64_t job_start_ns, job_modelled_ns,
        due_ns;                   /* due: when the message may leave, or the update is over */
    uint64_t sent_ns;             /* when it left, the first time */
    double forward_s, backward_s; /* modelled */
    uint64_t global_step;

    struct sl_trained *trained;
    size_t n_trained, cap_trained;
    uint64_t heartbeat_no;
};

int sl_phone_init(struct sl_phone *, const struct sl_phone_config *, const struct sl_phone_ops *, void *app);
void sl_phone_fini(struct sl_phone *);

/* Control. established: sends Hello with that receive id. closed: the state machine forgets the connection;
 * `again` tells whether joining again may help, and no data session is open any more. */
void sl_phone_established(struct sl_phone *, uint64_t receive_id);
void sl_phone_message(struct sl_phone *, const Sluice__Envelope *, uint64_t now_ns);
void sl_phone_adapter(struct sl_phone *, const struct sl_adapter_transfer *, uint64_t now_ns);
void sl_phone_installed(struct sl_phone *, uint64_t now_ns);
void sl_phone_closed(struct sl_phone *, Sluice__ErrorCode, const char *text, bool *again);

/* The process has died, and starts again: what memory held is gone. The last boundary's adapter, moments and
 * position are on storage (rules T12), as is what was scored. Only while the phone is asleep, without a job.
 */
void sl_phone_forget(struct sl_phone *);

/* Data: what the store reported. */
void sl_phone_event(struct sl_phone *, const struct sl_store_event *, uint64_t now_ns);

/* The job, on the thread that computes; and its end, on the owner's. host_excess_ns: by how much the host was
 * slower than the model, 0 where it was not (also for EVAL, which has no modelled time). */
void sl_phone_compute(struct sl_phone *, float *workspace);
void sl_phone_computed(struct sl_phone *, uint64_t now_ns, uint64_t *host_excess_ns);
size_t sl_phone_workspace_floats(const struct sl_phone_config *, uint32_t d_model);

void sl_phone_tick(struct sl_phone *, uint64_t now_ns);
uint64_t sl_phone_deadline(const struct sl_phone *); /* UINT64_MAX: nothing by time alone */

/* Link and battery figures are the owner's; the phone adds its own, and sends. */
void sl_phone_heartbeat(struct sl_phone *, Sluice__Heartbeat *);
