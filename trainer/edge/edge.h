/* The edge program from the inside: what its files share. Everything here but what is marked belongs to the
 * control thread.
 *
 *   control thread   io_uring loop; join.c, phases.c, adapters.c, report.c
 *   data lcores      sl_lcore with endpoint and ingest each; dataplane.c
 *   trainer thread   sl_trainer_turn; trainer_thread.c
 *
 * They meet on single-producer single-consumer rings only, and on the few atomics marked below. */
#pragma once

#include "dataplane/control/peer.h"
#include "dataplane/ingest/ingest.h"
#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/uring/loop.h"
#include "trainer/edge/adapter_disk.h"
#include "trainer/edge/planner.h"
#include "trainer/experiment/experiment.h"
#include "trainer/experiment/histogram.h"
#include "trainer/experiment/metrics.h"
#include "trainer/pipeline/modelled.h"
#include "trainer/pipeline/trainer.h"
#include "trainer/plan/cost.h"
#include "trainer/plan/profile.h"

#include <pthread.h>
#include <signal.h>

enum {
    EDGE_ERR = 4096,
    EDGE_SESSIONS_PER_DEVICE = 2, /* a superseded one drains while its successor opens */
    EDGE_SPARE_CONNECTIONS = 16,
    EDGE_OWN_FILES = 128,
    EDGE_CONTENT_REFUSALS = 3, /* rules T15: then the device has to go */
    EDGE_EXIT_INTERRUPTED = 130,
    EDGE_RESIDENT_MIN = 16,
};
#define EDGE_RESIDENT_BYTES (UINT64_C(1) << 30) /* of personal adapters in memory, where nothing is said */
#define SECOND_NS UINT64_C(1000000000)
#define EDGE_POLL_NS UINT64_C(2000000)
#define EDGE_QUORUM_WAIT_NS (20 * SECOND_NS) /* from the first join, for the rest of the fleet */
#define EDGE_GATHER_NS (5 * SECOND_NS)       /* likewise, of a fleet whose phones come and go */
#define EDGE_EVAL_NS (600 * SECOND_NS)       /* an evaluation phase at most */
#define EDGE_BYE_NS (5 * SECOND_NS)          /* for connections to close at the end */

enum { EDGE_CAUSES = 3 }; /* join, leave, refused */

struct edge_options {
    const char *experiment, *run, *pki, *key_log, *capture, *user;
    bool json;
};

enum device_state {
    DEVICE_ABSENT,
    DEVICE_OPENING, /* the lcore has been told of its session; Welcome is owed */
    DEVICE_JOINED,
};

struct eval_message {
    uint64_t step;
    uint32_t n;
    double nll[SL_SEQS_MAX];
    uint16_t tokens[SL_SEQS_MAX];
};

/* One device, by certificate. Its index is its number in the run. */
struct device {
    char id[SL_CHECKPOINT_ID_BYTES]; /* empty: never seen */
    uint32_t index;
    enum device_state state;
    struct sl_control *control; /* NULL: none */
    const struct sl_class_config *class;
    uint32_t cut;            /* at present, as far as it was told or will be when it joins; 0: never here */
    uint32_t lcore, session; /* session: handle on that lcore */
    uint64_t session_id, receive_id;
    uint32_t epoch;
    uint64_t last_step;              /* newest step that the last version of G contains */
    uint64_t version;                /* personal: of its own adapter */
    uint64_t held_run, held_version; /* what it said that it holds */
    bool phase_done;
    uint32_t refusals;
    uint64_t left_ns;
    struct eval_message *evals; /* of this phase */
    uint32_t n_evals, evals_cap;
    double battery, energy_j;
    struct { /* what its Plan says besides the cut; 0: nothing */
        double clock_hz, power_w, rate_up_bps;
        double share; /* of the edge's compute: the trainer's affair, not in the Plan */
    } planned;
};

struct held_out { /* of a phase of evaluation, by device (rules L3) */
    double nll, median, worst;
    uint32_t devices;
    uint64_t tokens;
    char worst_device[SL_CHECKPOINT_ID_BYTES];
};

enum session_state { SESSION_FREE, SESSION_OPENING, SESSION_OPEN, SESSION_CLOSING };
struct session {
    enum session_state state;
    bool close_owed; /* the ring to the lcore was full */
    uint32_t device;
};

/* What the data lcore tells of itself; the lcore writes, the control thread reads (dataplane.c). */
struct lcore_view {
    struct sl_endpoint_stats endpoint;
};

/* A question of telemetry's to a data lcore, and its answer (telemetry.c). */
enum { LCORE_QUERY_SESSIONS = 512 }; /* handles in one answer: as many as a list of DPDK's telemetry holds */
enum lcore_query_state { LCORE_QUERY_IDLE, LCORE_QUERY_ASKED, LCORE_QUERY_ANSWERED };
struct lcore_query {
    uint32_t state; /* atomic */
    bool lists;     /* open sessions, the first `first` skipped; else the counters of session `first` */
    uint32_t first;
    int status;
    uint32_t n, n_open;
    uint32_t sessions[LCORE_QUERY_SESSIONS];
    struct sl_session_stats stats;
};

/* One data lcore (rules T7): a session belongs to one, named in its id, and never moves. What it writes lies
 * on cache lines that no other thread writes. */
struct edge_lcore {
    uint32_t index, n_slots, max_sessions;
    int cpu; /* -1: not pinned */
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_ring_spsc *granted; /* personal adapters alone: NULL otherwise */
    struct sl_ingest *ingest;
    struct sl_endpoint *endpoint;
    struct sl_lcore *lcore;
    struct session *sessions;         /* [max_sessions] */
    uint32_t next_session, n_devices; /* control's: devices that have their session here */

    struct lcore_view views[2] __attribute__((aligned(64)));
    uint32_t view;    /* atomic: which of the views is whole */
    uint64_t view_ns; /* of the lcore: when it was written */
    struct lcore_query query;
} __attribute__((aligned(64)));

struct edge {
    struct edge_options options;
    struct sl_experiment *x;
    struct sl_model *model;
    const struct sl_model_config *shape;
    const char *precision; /* of the arithmetic, and why where it is not what was asked for */
    uint8_t model_hash[32];
    struct sl_lora_config lora;
    struct sl_optim_config optim;
    enum sl_codec codec;
    uint32_t max_cut, min_cut, min_rank, message_rows;
    struct sl_cut_change changes[SL_CHANGES_MAX];
    size_t block; /* trainable floats of one block */
    struct sl_addr data_addr;
    uint16_t fragment_units;
    char eal_args[2048];
    const char *aead_name;

    struct sl_ring_spsc *latency_ring;
    struct sl_port *port;
    uint32_t port_queues;
    const char *spread;        /* what brings datagrams to their queue; NULL: nothing */
    struct edge_lcore *lcores; /* [n_lcores] */
    uint32_t n_lcores;

    struct sl_trainer *trainer;
    pthread_t trainer_thread;
    bool trainer_started;
    bool trainer_stop;           /* atomic */
    struct sl_modelled modelled; /* edge.compute: modelled */
    struct sl_load load;         /* the trainer writes, any thread reads */

    struct sl_loop *loop;
    struct sl_tls_ctx *tls;
    struct device *devices;        /* [max_devices] */
    struct edge_profile *profiles; /* [max_devices] */
    uint64_t gang_measured_ns;
    struct { /* windows predicted and measured; events of them not written; the token bucket of those */
        uint64_t windows, left_out;
        double at_s, allowance;
    } forecasts;
    struct sl_profile_edge speed; /* the edge's own */
    struct edge_planner *planner; /* NULL: cuts are the experiment's */
    uint32_t max_devices, n_joined;
    struct { /* commands that found the trainer's table full wait here, in order */
        struct sl_command *items;
        uint32_t n, cap;
    } owed;

    uint64_t run, incarnation;
    bool resumed, trained_before; /* from a checkpoint; and the evaluation before training was done then */
    Sluice__Phase phase;
    uint64_t phase_ns, first_join_ns, port_up_ns, port_down_ns;
    bool finish_sent, ending;
    uint64_t ending_ns, alone_ns;
    int exit_code;
    const char *end_reason;

    float *g;        /* [n_layers, block]: the newest G */
    float *low_rank; /* [max_cut, block]: what of it goes to a device of lower rank */
    uint64_t version, global_step;
    uint64_t version_step;    /* global step of that version */
    uint64_t old_cuts;        /* messages skipped because they were taken at an older cut */
    uint64_t train_ns_before; /* spent in earlier incarnations */
    uint64_t train_from_ns, train_ns;
    uint8_t *checkpoint_next; /* waits while another is being written */
    size_t checkpoint_next_bytes;
    bool checkpoint_busy, checkpoint_failed;
    size_t checkpoint_bytes; /* of the one whose records are being brought to the disk */
    bool personal;           /* an adapter for every device (personal.c) */
    struct sl_adapter_disk *disk;
    char records_path[SL_PATH_BYTES + 32];
    struct sl_adapter_record_shape record_shape;
    struct sl_personal_stats personal_stats;
    struct held_out held_out[2]; /* before, after training */
    struct {                     /* every device's adapter for people, one after another */
        bool running, under_way;
        uint32_t next, device, files;
        struct sl_adapter *adapter;
        struct sl_moments *moments;
        char *config;
        uint8_t *weights;
    } export;
    char *peft_config;
    uint8_t *peft_weights;
    size_t peft_config_bytes, peft_weights_bytes;
    bool adapters_written;

    FILE *key_log; /* NULL: none */
    struct sl_metrics *metrics;
    struct sl_histogram latency, latency_interval;
    FILE *latency_log;
    uint64_t interval_ns;
    bool interval_first;
    uint64_t start_ns, tokens, steps;
    double loss;
    struct {
        bool tty;
        uint64_t shown_ns, tokens, bytes_rx, bytes_tx;
        bool open; /* a line without its newline stands on the terminal */
    } live;
    struct {
        uint64_t at_ns;
        uint32_t said, swallowed;
    } log;
    struct { /* token buckets of the events that devices cause (rules T16), and what was left out */
        uint64_t allowance_ns, at_ns, left_out, told;
    } causes[EDGE_CAUSES];
    uint64_t waiting_said_ns;
    char err[EDGE_ERR];
};

/* start.c: bring-up in order, and the way down. 0, or the exit code after a line in e->err. */
int edge_start(struct edge *);
void edge_stop(struct edge *);
extern volatile sig_atomic_t edge_interrupted;

/* layout.c: numbers that follow from the experiment and the model. */
int edge_lay_out(struct edge *);

/* dataplane.c */
int edge_start_dataplane(struct edge *);
void edge_stop_dataplane(struct edge *);
/* What a lcore told of itself; and the endpoints' counters of all lcores together. */
void edge_view(const struct edge_lcore *, struct lcore_view *);
void edge_endpoint_stats(const struct edge *, struct sl_endpoint_stats *);
uint32_t edge_slots(const struct edge *); /* of all lcores */

/* trainer_thread.c */
int edge_start_trainer(struct edge *, const struct sl_checkpoint *resume);
void edge_stop_trainer(struct edge *);
void edge_command(struct edge *, const struct sl_command *); /* queued where the trainer's table is full */
void edge_flush_commands(struct edge *);

/* join.c */
extern const struct sl_control_ops edge_control_ops;
void edge_poll_sessions(struct edge *);
void edge_drop_device(struct edge *, struct device *, Sluice__ErrorCode, const char *why);
struct device *edge_find_device(struct edge *, const char *id); /* its place in the table; NULL: full */

/* phases.c */
void edge_plan_as_fixed(struct device *);                      /* `planned` := plan.fixed of its class */
void edge_command_share(struct edge *, const struct device *); /* the trainer is told of planned.share */
void edge_send_plan(struct edge *, struct device *, bool give_moments);
void edge_send_bounds(struct edge *, struct device *); /* the same, and no word of the adapter */
void edge_poll_phases(struct edge *, uint64_t now_ns);
void edge_phase_done(struct edge *, struct device *, Sluice__Phase);
void edge_trainer_event(struct edge *, struct sl_event *);
void edge_end(struct edge *, int exit_code, const char *reason); /* says Bye and winds down */

/* telemetry.c */
int edge_open_telemetry(struct edge *);
void edge_close_telemetry(void);
void edge_answer_query(struct edge_lcore *); /* on the lcore's thread */
static inline bool edge_query_asked(const struct edge_lcore *l)
{
    return __atomic_load_n(&l->query.state, __ATOMIC_ACQUIRE) == LCORE_QUERY_ASKED;
}

/* cut.c */
int edge_lay_out_changes(struct edge *);
uint32_t edge_class_index(const struct edge *, const struct device *);
void edge_choose_cut(struct edge *, struct device *, bool same_class); /* of one that joins */
void edge_cut_changed(struct edge *, struct sl_event *);
void edge_old_cut(struct edge *, const struct sl_event *);

/* key_log.c */
int edge_open_key_log(struct edge *);
void edge_log_key(struct edge *, uint64_t session_id, uint64_t receive_id, const uint8_t secret[32]);
void edge_close_key_log(struct edge *);

/* adapters.c */
void edge_new_version(struct edge *, struct sl_event *);
void edge_send_g(struct edge *, struct device *);
void edge_take_push(struct edge *, struct device *, const struct sl_adapter_transfer *);
void edge_write_adapters(struct edge *);
/* modelled.c */
void edge_model_compute(struct edge *);
struct sl_cost_shape edge_cost_shape(const struct edge *);

/* profile.c: what heartbeats and gangs tell of devices and of the edge (rules P9). */
int edge_open_profiles(struct edge *);
void edge_close_profiles(struct edge *);
void edge_take_profile(struct edge *, struct device *, const Sluice__Heartbeat *);
void edge_profile_gang(struct edge *, const struct sl_event *step);
const struct sl_plan_profile *edge_profile(const struct edge *, const struct device *);
void edge_profile_work(
    const struct edge *, const struct device *, struct sl_profile_work *); /* one with a class */

int edge_read_checkpoint(struct edge *, struct sl_checkpoint *, bool *found);

void edge_write_checkpoint(struct edge *, uint8_t *image, size_t bytes); /* takes the image */

/* personal.c */
uint32_t edge_resident(const struct edge *); /* adapters in memory; 0: one shared adapter */
int edge_open_records(struct edge *);
void edge_close_records(struct edge *);
void edge_poll_records(struct edge *);
void edge_take_checkpoint(struct edge *, struct sl_event *);
void edge_checkpointed(struct edge *, bool on_disk);
void edge_kept(struct edge *, const struct sl_event *);
void edge_pull_personal(struct edge *, struct device *);
void edge_export_personal(struct edge *);
bool edge_exporting(struct edge *); /* goes on with it; false: done, or never begun */

/* report.c */
int edge_open_report(struct edge *);
void edge_report_start(struct edge *);
void edge_report_link(struct edge *, bool up, double down_s);
void edge_report_step(struct edge *, const struct sl_event *);
void edge_report_eval(struct edge *, const struct device *);
void edge_report_end(struct edge *);
void edge_close_report(struct edge *);
void edge_poll_report(struct edge *, uint64_t now_ns);
void edge_event(struct edge *, const char *event, cJSON *object);
/* One that a device can cause at will: only so many of a kind are written (edge.limits.events_per_s, a
 * hundred times that at once). Takes the object. An event `left_out` and the last one, `end`, tell how many
 * were not. */
enum edge_cause { EDGE_CAUSE_JOIN, EDGE_CAUSE_LEAVE, EDGE_CAUSE_REFUSED };
void edge_event_caused(struct edge *, enum edge_cause, cJSON *object);
/* A line on stderr; at most so many a second (rules T16), then how many were swallowed. */
void edge_say(struct edge *, const char *format, ...) __attribute__((format(printf, 2, 3)));
