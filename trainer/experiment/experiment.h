/* One YAML file describes an experiment; every program reads the same one. Schema-checked with libyaml's
 * document API: an unknown or repeated key, trailing characters in a number, a value that is not finite or
 * out of range is an error that names file and line. Keys that later versions will understand are refused by
 * name. Relative paths are relative to the working directory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SL_CLASSES_MAX = 32,
    SL_TARGETS_MAX = 8,
    SL_DVFS_STEPS_MAX = 16,
    SL_EAL_EXTRA_MAX = 32,
    SL_CHANGES_MAX = 256,
    SL_DATA_LCORES_MAX = 16,
    SL_NAME_MAX = 64,
    SL_PATH_BYTES = 1024,
    SL_DEVICES_MAX = 12000,
    SL_STALENESS_MAX = 1000,
    /* auto: devices in step are one version behind for each other that pushes between; slower ones more */
    SL_STALENESS_PER_DEVICE = 4,
    SL_STALENESS_AUTO_MIN = 8,
    SL_STALENESS_AUTO_MAX = 256, /* each costs the edge a copy of the adapter */
};

enum { SL_RADIOS_MAX = 8, SL_CELLS_MAX = 256, SL_ZONES_MAX = 64 };

#define SL_BACKEND_URING "uring_udp" /* of edge.data.backend: the kernel's UDP; all else is DPDK's */

/* What becomes of packets on a link, each way alike (device-sim/link/discipline.h, loss.h, jitter.h). */
struct sl_queue_keys {
    char kind[12]; /* droptail, codel, pie, none; empty: droptail */
    uint32_t packets;
    double target_ms, interval_ms; /* 0: the discipline's own */
    bool given;
};
struct sl_loss_keys {
    double good, bad, good_to_bad, bad_to_good; /* a number in the file: good */
};
struct sl_reorder_keys {
    double share, by_ms;
};

/* An entry of `radio`: cells, channel, mobility (device-sim/radio/radio.h says what each figure does). */
struct sl_radio_keys {
    char name[SL_NAME_MAX];
    double carrier_ghz, bandwidth_mhz, usable, down_share, up_share, base_m, phone_m;
    char path_loss[8]; /* uma, umi, macro, free */
    bool shadowing;
    char fading[12]; /* none, rayleigh, rician */
    double rice_k_db, doppler_hz;
    uint32_t diversity, down_layers, up_layers;
    char modulation[8]; /* 64qam, 256qam */
    double base_dbm, phone_dbm, base_noise_db, phone_noise_db, interference_db;
    uint32_t n_cells, count; /* count: of cells.count, where a layout places them */
    char layout[8];          /* list, line, grid */
    double spacing_m, cell_m[SL_CELLS_MAX][2];
    double width_m, height_m; /* of the area; 0: the cells' and half a spacing around */
    char mobility[16], path[SL_PATH_BYTES];
    double speed_mps[2], pause_s, memory, spread_s;
    uint32_t n_zones;
    double zone[SL_ZONES_MAX][5]; /* x0, y0, x1, y1, loss in dB */
    char scheduler[4];
    double window_s, tti_ms, sr_ms, grant_ms, harq_ms, bler;
    double measure_ms, hysteresis_db, trigger_ms, interruption_ms;
    bool new_address;
    uint32_t background;
    double background_on_s, background_off_s;
    size_t line;
};

struct sl_link_config {        /* of one phone; what serves it is one of: rates, traces, a series */
    double up_mbps, down_mbps; /* constant; 0: one of the others */
    char trace_up[SL_PATH_BYTES], trace_down[SL_PATH_BYTES]; /* Mahimahi's; empty: none */
    char light_up[SL_PATH_BYTES], light_down[SL_PATH_BYTES]; /* CellReplay's trains; empty: none */
    double light_idle_ms;
    char rates[SL_PATH_BYTES];                           /* CSV; empty: none */
    char rates_up[SL_NAME_MAX], rates_down[SL_NAME_MAX]; /* its columns */
    double phase_s; /* where in the record the run begins; below 0: each phone elsewhere */
    struct {
        double every_s, for_s; /* means, each way at once; every_s 0: none */
        bool regular;
    } outages;
    char radio[SL_NAME_MAX]; /* name of an entry of `radio`; empty: none */
    uint32_t environment;    /* its number */
    uint32_t cell;           /* near which it begins, from 1; 0: anywhere */
    size_t line;
    double rtt_ms; /* half of it each way */
    struct sl_loss_keys loss;
    struct sl_queue_keys queue;
    uint32_t queue_kib; /* its limit, where queue.packets is 0 */
    double jitter_ms;
    struct sl_reorder_keys reorder;
};

/* A radio's states (device-sim/body/rrc.h); inactivity 0: always connected. */
struct sl_rrc_keys {
    char kind[8]; /* none, lte, nr_nsa, nr_sa, wifi: where the figures come from */
    double inactivity_s;
    double promotion_median_ms, promotion_p95_ms; /* log-normal */
    double paging_ms, drx_after_ms, drx_cycle_ms;
    double tail_w, promotion_w;
};

/* A class of phones with everything said: by its keys, by its preset, or by default. */
/* When a phone takes part; what device-sim/life/life.h calls a configuration, before its trace is read. */
struct sl_daily_keys {
    double begin_h, hours, spread_h, jitter_h, probability;
};
struct sl_life_keys {
    double arrivals_per_hour, stay_s, stay_sigma, present; /* present below 0: the long run's share */
    char trace[SL_PATH_BYTES];
    bool diurnal;
    char policy[20]; /* charging_and_idle, charging, idle, always */
    double start_h, time_scale, charger_w;
    struct sl_daily_keys charging, idle;
    double crash_per_hour, reboot_s, reboot_sigma;
    double kill_per_hour, restart_s, restart_sigma;
    size_t line; /* of the first of these keys; 0: none */
};
bool sl_life_keys_change(const struct sl_life_keys *); /* whether such phones come and go */

/* data.dirichlet: who gets how much of what (trainer/data/shard.h). */
struct sl_shard_keys {
    double alpha; /* INFINITY: uniform */
    char by[8];   /* file, label */
    double size_sigma;
    size_t line; /* 0: not there */
};

#define SL_HANDSET_OUT_W 0.2 /* 23 dBm: power class 3, TS 38.101-1 table 6.2.1-1 */

struct sl_class_config {
    char name[SL_NAME_MAX];
    char preset[12]; /* low, mid, flagship; empty: none */
    uint32_t count;
    double share;          /* of fleet.devices; 0: count was given */
    double compute_gflops; /* at the full clock */
    uint32_t memory_mib;
    double battery_mah, battery_v, battery_start; /* 3.85 V, 1.0 of full */
    double battery_floor;                         /* of full: below it the phone leaves */
    double compute_w;                             /* at the full clock, the whole chip's */
    double kappa;                                 /* W/Hz^3 (rules P6); 0: dvfs.power_w is a table */
    double radio_tx_w, radio_rx_w; /* on top of the chip's; sending at full transmission power */
    double radio_out_w;            /* that power, at the antenna */
    double idle_w;                 /* while it does not compute */
    struct {
        uint32_t n; /* at least 1; steps rise */
        double ghz[SL_DVFS_STEPS_MAX], power_w[SL_DVFS_STEPS_MAX];
    } dvfs;
    struct sl_thermal_keys { /* capacity 0: no heat */
        double ambient_c, resistance_c_w, capacity_j_c, throttle_c, release_c;
    } thermal;
    struct sl_rrc_keys rrc;
    struct sl_link_config link;
    struct sl_life_keys life;
    uint32_t seq;  /* tokens of this class's windows; data.seq where the file says nothing */
    uint32_t rank; /* of its LoRA factors; training.lora.rank where the file says nothing */
    uint32_t cut;  /* from plan.cut: one for all, or one per class in order */
    struct {       /* plan.fixed, likewise; 0: no bound */
        double clock_hz, power_w, rate_up_bps;
        double share; /* of the edge's compute, of each phone */
    } fixed;
};

/* plan.cut: auto: the edge chooses cuts while the run goes on (docs/planner.md). A cut is 0 until the model's
 * layers are known (sl_experiment_settle_cuts). */
struct sl_plan_keys {
    bool live;    /* plan.cut: auto; all else is for it alone, but min_cut and max_cut */
    bool random;  /* plan.cut: random: every device's own cut, drawn once */
    bool printed; /* objective: the published one; else the physical one */
    double weight_delay, weight_energy, weight_stability;
    double replan_s, hysteresis;
    double battery_price; /* how much dearer a joule is to a phone with little left (rules P2, gamma) */
    double uplink_mbps;   /* of all phones together; 0: no bound */
    uint32_t min_cut[SL_CLASSES_MAX], max_cut[SL_CLASSES_MAX]; /* of each class */
};

struct sl_experiment {
    char name[SL_NAME_MAX];
    uint64_t seed;
    struct {
        char path[SL_PATH_BYTES];
        char precision[8]; /* f32, bf16 */
    } model;
    struct {
        char path[SL_PATH_BYTES]; /* a folder of text files or JSONL, or one file */
        char shards[12];          /* by-file, dirichlet */
        struct sl_shard_keys dirichlet;
        uint32_t seq;              /* tokens of a window */
        double held_out;           /* fraction of records */
        uint32_t held_out_windows; /* at most, all phones together: 256 */
    } data;
    struct {
        struct {
            uint32_t rank;
            double alpha;
            char targets[SL_TARGETS_MAX][SL_NAME_MAX];
            uint32_t n_targets;
            bool freeze_a, svd; /* how: freeze_a, svd; otherwise factors (rules L5) */
        } lora;
        struct {
            char kind[8]; /* adamw, sgd */
            double lr, beta1, beta2, eps, weight_decay;
            char schedule[12]; /* constant, linear, cosine: of lr over run.steps */
            uint32_t warmup;   /* steps */
            double floor;      /* last rate as a share of lr */
            double clip;       /* norm of a block's mean gradient; 0: none */
        } optimizer;
        struct {
            bool async;           /* policy: async; otherwise sync (rules L8) */
            uint32_t staleness;   /* async: versions of G between pull and push; 0: auto */
            uint32_t max;         /* async: messages that a gang takes at most; 0: all that are ready */
            double quorum;        /* share of live devices */
            uint32_t deadline_ms; /* 0: auto, three times the median gang time (rules L8) */
        } gang;
        double fedprox_mu; /* 0: none */
        double proximal_mu; /* of rules P8's term; 0: none */
        struct {
            char kind[12]; /* none, fedadam: what the mean of the copies does to G */
            double lr, beta1, beta2, tau;
        } server;
        char adapters[12];        /* shared, personal (rules L3) */
        char aggregation[12];     /* weights, gradients (rules L4) */
        uint32_t aggregate_every; /* gangs; with gradients: steps between two checkpoints */
        uint32_t accumulate;      /* gangs whose gradients make one optimiser step */
        uint32_t batch;           /* windows in one message of one device */
        bool deterministic;
    } training;
    struct {
        char control[128]; /* address:port */
        struct {
            char backend[SL_PATH_BYTES];       /* memif, or a DPDK device */
            char fleet_backend[SL_PATH_BYTES]; /* the simulator's own; backend where the file says nothing */
            char poll[16];                     /* adaptive, busy */
            char gateway[64], fleet_gateway[64]; /* of ports without a kernel below; empty: none */
            char fleet_address[64]; /* the phones' address, perhaps with a port; empty: a default */
            char codec[12];         /* f32, bf16, int8, int8+lz4 */
            char address[64];       /* ip:port of the edge's data address */
            uint32_t mtu;
            uint32_t memory_mib; /* EAL memory without huge pages */
            bool huge_pages;
            char eal_extra[SL_EAL_EXTRA_MAX][128];
            uint32_t n_eal_extra;
            uint32_t peer_timeout_s; /* for the other end of memif */
            uint32_t lcores, queues; /* of the port, at most; 0 in the file: one for each lcore */
            uint32_t cpus[SL_DATA_LCORES_MAX], n_cpus; /* of the lcores in order; none: chosen */
        } data;
        uint32_t slots;
        bool modelled; /* compute: modelled: no arithmetic, gangs take the time that the cost model says */
        double compute_gflops; /* of the modelled edge, or what a real one is held to; 0: not given */
        uint32_t threads;      /* of the trainer's arithmetic */
        bool recompute;        /* activations in the backward pass, instead of keeping them */
        struct {
            uint32_t resident; /* personal adapters in memory; 0: auto */
        } adapters;
        uint32_t slot_kib;
        uint32_t max_devices;
        uint32_t heartbeat_ms;
        struct {                        /* rules T16 */
            uint32_t handshakes;        /* unfinished ones at a time */
            uint32_t messages_per_s;    /* control messages of one device */
            uint32_t grants_per_device; /* slots it may hold */
            uint32_t grant_s;           /* the longest without a fragment */
            uint32_t grant_factor, grant_margin_s;
            uint32_t park_mib;
            uint32_t events_per_s; /* of a kind, in edge.jsonl */
            uint32_t alone_s;      /* without enough devices, before the run is given up */
        } limits;
    } edge;
    struct {
        bool replay;                   /* compute: replay: phones send recorded messages, and do not learn */
        char recording[SL_PATH_BYTES]; /* what they send; empty: generated */
        char record[SL_PATH_BYTES];    /* where a run with real phones keeps its messages; empty: nowhere */
        double lag_bound_ms;           /* of the schedule's lag at p99 (rules L13) */
    } sim;
    struct sl_class_config fleet[SL_CLASSES_MAX];
    uint32_t n_classes, n_devices;
    struct sl_radio_keys radio[SL_RADIOS_MAX];
    uint32_t n_radios;
    struct {                          /* plan.changes, in the order of their steps */
        uint32_t step;                /* at the first aggregation boundary at or after it */
        uint32_t cut[SL_CLASSES_MAX]; /* of each class */
    } changes[SL_CHANGES_MAX];
    uint32_t n_changes;
    struct sl_plan_keys plan;
    struct {
        uint32_t steps; /* 0: no limit */
        double seconds; /* of training; 0: no limit. At least one of both */
        char dir[SL_PATH_BYTES];
        bool yardstick; /* scripts/run: also train centrally on the same windows, and compare */
    } run;
};

/* -ENOENT, -EINVAL; err: "FILE:LINE: key: what is wrong; what to do". The struct is large: allocate it. */
int sl_experiment_load(const char *file, struct sl_experiment *, char *err, size_t err_cap);
int sl_experiment_parse(
    const char *yaml, size_t len, const char *file_name, struct sl_experiment *, char *err, size_t err_cap);
/* The cut of a class after a boundary of that global step: plan.cut, or what plan.changes has made of it. */
uint32_t sl_experiment_cut(const struct sl_experiment *, uint32_t class, uint64_t step);
/* The cut of a device that the run has not seen before, after a boundary of that step: its class's, or where
 * cuts are drawn its own: a function of the seed and the device's number alone, all cuts of its class's
 * bounds being equally likely. */
uint32_t sl_experiment_device_cut(
    const struct sl_experiment *, uint32_t class, uint32_t device, uint64_t step);
/* plan.cut: auto, random: cuts that the file left to the model's depth: at most layers - 1, beginning in the
 * middle. Before anything asks for cuts. -EINVAL: err says which key does not fit the model. Else nothing. */
int sl_experiment_settle_cuts(struct sl_experiment *, uint32_t layers, char *err, size_t err_cap);
/* The class of device number i (devices are numbered through the classes in order), and back. */
uint32_t sl_experiment_class_of(const struct sl_experiment *, uint32_t device);
/* Whether phones of any class come and go. */
bool sl_experiment_comes_and_goes(const struct sl_experiment *);
/* The lowest and the highest cut that the run will see: the edge computes blocks from the one on, phones up
 * to the other. */
void sl_experiment_cuts(const struct sl_experiment *, uint32_t *lowest, uint32_t *highest);
