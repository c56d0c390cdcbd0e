/* When a phone takes part: it comes into the area and leaves it, is plugged in and lies idle at its owner's
 * hours, crashes, and loses its app to the system. A sans-IO schedule: no clock, no allocation; one owner.
 *
 * Every draw is a function of (seed, process, phone, its number within that process), never of the order of
 * calls, so that a run in real time and one in virtual time see the same life; what a phone does when it is
 * there changes nothing of when it comes (a crash alone counts hours of presence, and they are the schedule's
 * own). Times are ns on the caller's clock, which begins at `start_ns`.
 *
 * Sources: arrivals and stays as an alternating renewal process (Cox, Renewal Theory, 1962); eligibility of a
 * phone that is idle and charging, and its daily course, from Bonawitz et al., Towards Federated Learning at
 * Scale (MLSys 2019), sections 2 and 9; the rest is convention and said so in docs/device-sim.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_life_trace;

/* A daily stretch of hours, [begin, begin + hours): `spread_h` is the standard deviation of its beginning
 * between phones, `jitter_h` from day to day of one phone (of beginning and length alike); on a day it comes
 * with `probability`. Stretches of two days that touch are one. */
struct sl_life_daily {
    double begin_h, hours, spread_h, jitter_h, probability;
};

enum sl_life_policy { /* what a phone has to be for taking part */
    SL_LIFE_ALWAYS,
    SL_LIFE_CHARGING,
    SL_LIFE_IDLE,
    SL_LIFE_CHARGING_AND_IDLE,
};

struct sl_life_config {
    /* In the area or not: always there (no rate and no trace), or at times. */
    double arrivals_per_hour;          /* of a phone that is away: exponential; 0: no such process */
    double stay_s, stay_sigma;         /* mean; sigma of its logarithm, 0: exponential */
    double present;                    /* chance to be there at the start; below 0: the long run's share */
    const struct sl_life_trace *trace; /* instead: recorded */

    bool diurnal;
    enum sl_life_policy policy;
    double start_h;    /* the local time of day at the start */
    double time_scale; /* seconds of the day in one of the clock's */
    struct sl_life_daily charging, idle;

    /* Hazards of a phone that takes part, and how long it is gone then: mean, and sigma of the logarithm (0:
     * just that). */
    double crash_per_hour, reboot_s, reboot_sigma;
    double kill_per_hour, restart_s, restart_sigma;
};

/* Whether such a phone ever comes or goes: where not, its only event is one arrival. */
bool sl_life_changes(const struct sl_life_config *);

enum sl_life_kind {
    SL_LIFE_ARRIVE, /* takes part from now on; for the first time, or after any of the next three */
    SL_LIFE_DEPART, /* in order */
    SL_LIFE_CRASH,  /* without a word; what memory held is lost */
    SL_LIFE_KILL,   /* the process is gone, and its connections are closed; what memory held is lost */
    SL_LIFE_PLUG,
    SL_LIFE_UNPLUG,
    SL_LIFE_IDLE_BEGIN,
    SL_LIFE_IDLE_END,
    SL_LIFE_KINDS,
};
const char *sl_life_name(enum sl_life_kind); /* "arrive", ... */

struct sl_life_event {
    enum sl_life_kind kind;
    uint64_t at_ns; /* when, in the model; at most now */
};

/* Internal but for copying. */
struct sl_life {
    const struct sl_life_config *cfg;
    uint32_t traced;
    uint64_t area_key, stay_key, fault_key, reboot_key, restart_key, charging_key, idle_key;
    uint64_t start_ns, at_ns; /* at: of the last change */
    bool in_area, plugged, idle, down, present;
    uint64_t area_ns, charging_ns, idle_ns, up_ns; /* next changes; UINT64_MAX: none */
    uint64_t n_area, n_crash, n_kill;              /* draws made */
    double charging_h, idle_h;                     /* of the next changes, in hours of the day */
    uint64_t crash_left_ns, kill_left_ns;          /* hours of presence until then */
    uint64_t since_ns;                             /* present since */
};

/* Everything is off at first: the first events, at start_ns, say what is on. The configuration must stay.
 * traced: the phone's number in the trace, where there is one. */
void sl_life_init(struct sl_life *, const struct sl_life_config *, uint32_t traced, uint64_t seed,
    uint32_t phone, uint64_t start_ns);
/* When there is an event next; UINT64_MAX: never again. */
uint64_t sl_life_deadline(const struct sl_life *);
/* The next event that is due, in the order of their times; false: none. Call until then. */
bool sl_life_next(struct sl_life *, uint64_t now_ns, struct sl_life_event *);
