/* The fleet at run time: connections, sessions, timers and accounts of all phones, on one control thread. */
#pragma once

#include "device-sim/device/access.h"
#include "device-sim/device/phone.h"
#include "device-sim/fleet/bodies.h"
#include "device-sim/fleet/clock_offset.h"
#include "device-sim/fleet/compute.h"
#include "device-sim/fleet/events.h"
#include "device-sim/fleet/material.h"
#include "device-sim/fleet/options.h"
#include "device-sim/fleet/plane.h"
#include "device-sim/fleet/tls_access.h"
#include "device-sim/fleet/visits.h"
#include "device-sim/sink/timers.h"
#include "device-sim/virtual/world.h"
#include "trainer/experiment/histogram.h"
#include "trainer/experiment/metrics.h"

#include <signal.h>

enum { SL_ERR_BYTES = 512 };

/* What joins a phone to its edge; the phone itself is in fleet->phone. */
struct sl_line {
    enum { SL_CONNECTION_NONE, SL_CONNECTION_COMING, SL_CONNECTION_UP } connection; /* control */
    enum { SL_SESSION_NONE, SL_SESSION_OPENING, SL_SESSION_OPEN, SL_SESSION_CLOSING } session;
    bool close_wanted; /* as soon as its opening is confirmed */
    bool over;         /* will not connect any more */
    bool joined;       /* has been welcomed once */
    bool away;         /* does not take part for the time being */
    bool dropped;      /* its connection, which still has to say that it is closed */
    bool forgets;      /* what its memory held, before it connects again */
    uint64_t retry_ns, backoff_ns,
        lost_ns; /* lost_ns: when the connection was lost or first tried, 0: it stands */
    uint64_t heartbeat_ns;
    uint64_t leave_by_ns; /* of a phone that leaves after its step */
    bool dies;
    uint64_t die_step, die_ns;
    enum sl_phone_state told; /* the state that the event log knows */
};

struct sl_fleet {
    struct sl_sim_options options;
    struct sl_material material;
    uint32_t n;
    struct sl_phone *phone;
    struct sl_line *line;
    const struct sl_access_ops *access; /* to the edge's control side, and the clock that goes with it */
    void *access_ctx;
    struct sl_tls_access *tls; /* one of the two */
    struct sl_world *world;    /* --virtual */
    struct sl_plane *plane;
    struct sl_bodies bodies;
    struct sl_visits visits;
    struct sl_compute *compute;
    struct sl_recorder *recorder; /* NULL: none */
    uint64_t recorded, recording_left_out;
    struct sl_metrics *metrics;
    struct sl_events *events; /* NULL: none */
    struct sl_histogram *excess;
    struct sl_traffic *traffic;
    struct sl_clock_offset clock_offset;       /* the edge's against ours */
    uint64_t start_ns, stopping_ns, totals_ns; /* totals_ns: when they are written next */
    uint32_t n_over, n_begun, n_coming;        /* n_begun: have tried to connect; n_coming: are trying */
    struct sl_timers *timers;                  /* when each phone has something to do next */
    struct sl_histogram *lag;                  /* ns that a phone's modelled time was handled late */
    uint64_t link_down_ns; /* since when the port's link is down; 0: it is not, or was never up */
    const volatile sig_atomic_t *signals;
    struct { /* progress of virtual time */
        double start_s, at_s, host_s;
        bool tty, open;
    } shown;
    bool interrupted, said_waiting, link_seen;
    bool run_over;              /* a phone has heard so */
    char said[SL_ERR_BYTES];    /* the last phone's end that was printed */
    char failure[SL_ERR_BYTES]; /* the first phone's that ended otherwise than done */
};

/* line.c: connections */
void sl_lines_open(struct sl_fleet *);
void sl_lines_begin(struct sl_fleet *, uint64_t now_ns); /* first connections, as far as there is room */
void sl_line_poll(struct sl_fleet *, uint32_t i, uint64_t now_ns); /* its timers */
void sl_line_confirmed(struct sl_fleet *, const struct sl_lcore_confirm *, uint64_t now_ns);
void sl_line_sent(struct sl_fleet *, uint32_t i, uint64_t now_ns); /* a message began to leave */
void sl_line_bye(struct sl_fleet *, uint32_t i, const char *text); /* and no connection after it */
void sl_line_event(struct sl_fleet *, uint32_t i, const struct sl_store_event *, uint64_t now_ns);
void sl_line_computed(struct sl_fleet *, uint32_t i, uint64_t now_ns, uint64_t *host_excess_ns);
/* Away for a time: with a goodbye; without a word, the connection left standing as far as the edge can tell;
 * or with a connection that ends without a goodbye. The last two lose what memory held. And back again. */
/* `text`: of the goodbye. */
enum sl_line_go { SL_GO_SAYING_BYE, SL_GO_SILENTLY, SL_GO_DROPPED };
void sl_line_go(struct sl_fleet *, uint32_t i, enum sl_line_go, const char *text, uint64_t now_ns);
void sl_line_come(struct sl_fleet *, uint32_t i, uint64_t now_ns);
void sl_line_end_away(struct sl_fleet *, uint32_t i); /* the run is over without it */
uint64_t sl_line_deadline(const struct sl_fleet *, uint32_t i);
/* line_body.c: at each heartbeat */
void sl_line_tell_body(Sluice__Heartbeat *, const struct sl_body *, const struct sl_plane_phone *);
void sl_line_watch_battery(struct sl_fleet *, uint32_t i, const struct sl_body *, uint64_t now_ns);
extern const struct sl_access_events sl_line_events; /* `app` is the fleet */
extern const struct sl_phone_ops sl_fleet_phone_ops; /* `app` is the fleet */

/* fleet.c */
int sl_fleet_start(struct sl_fleet *, char *err, size_t err_cap);
int sl_fleet_run(struct sl_fleet *, const volatile sig_atomic_t *signals); /* exit status */
void sl_fleet_free(struct sl_fleet *);
static inline uint64_t sl_fleet_now_ns(const struct sl_fleet *f)
{
    return f->access->now_ns(f->access_ctx);
}
const char *sl_fleet_edge(const struct sl_fleet *); /* where the edge's control connection listens */
const struct sl_class_config *sl_fleet_class(const struct sl_fleet *, uint32_t phone);

/* in_virtual.c */
int sl_fleet_open_world(struct sl_fleet *, char *err, size_t err_cap);
int sl_fleet_run_world(struct sl_fleet *, void (*poll)(void *fleet, uint64_t now_ns),
    uint64_t (*deadline)(void *fleet, uint64_t now_ns));

/* traffic.c: RUN/traffic.jsonl */
int sl_fleet_traffic_open(struct sl_fleet *, char *err, size_t err_cap);
void sl_fleet_traffic_poll(struct sl_fleet *, uint64_t now_ns);

/* lag.c: into the end's event; whether the run kept within sim.lag_bound_ms. After sl_plane_stop. */
bool sl_report_lag(const struct sl_fleet *, cJSON *end);

/* report.c */
void sl_report_start(struct sl_fleet *);
void sl_report_link(struct sl_fleet *, bool up, uint64_t now_ns); /* before f->link_down_ns follows */
cJSON *sl_report_end(
    struct sl_fleet *); /* writes the phones' events and the end's, which it returns a copy of */
void sl_report_totals(
    struct sl_fleet *, uint64_t now_ns); /* an event with the fleet's bytes and joules so far */
/* RUN/central.ids, and RUN/central.phones: whose the windows are */
int sl_report_central(const struct sl_fleet *, char *err, size_t err_cap);
