/* When a running system plans again, and which of a new plan's cuts it takes. Nothing here knows a clock, a
 * thread or a socket: times are given, in seconds of any one clock.
 *
 *   beats of devices, comings and goings -> sl_replan_due: is it time, and why
 *   a scenario and the cuts in force     -> sl_replan_decide: cuts and shares from now on
 *
 * A change of cut costs: a boundary, moments on their way, a front half made anew. So cuts have hysteresis;
 * clocks and shares cost a message, and follow every plan. */
#pragma once

#include "trainer/plan/solve.h"

/* ------------------------------------------------------------------------------------------------- when */

#define SL_REPLAN_DRIFT 0.25  /* a device's step is that much off what the plan said, relative */
#define SL_REPLAN_MARGIN 0.05 /* of a battery: so near its floor a device is looked at again */
#define SL_REPLAN_LEAST_S 5.0 /* between two plans, whatever happens; */
#define SL_REPLAN_SOLVER 10.0 /* and so many times what the last one took */
enum { SL_REPLAN_BEATS = 2 }; /* in a row that say so before it counts */

enum sl_replan_reason {
    SL_REPLAN_NOTHING,
    SL_REPLAN_FIRST,   /* there is no plan yet */
    SL_REPLAN_PERIOD,  /* plan.replan_s are over */
    SL_REPLAN_MEMBERS, /* a device came, left, or can be planned for now */
    SL_REPLAN_STEPS,   /* a device's steps take another time than planned */
    SL_REPLAN_BATTERY, /* a battery has come near its floor */
};
const char *sl_replan_reason_name(enum sl_replan_reason); /* "first", "period", ... */

struct sl_replan {
    double every_s;               /* plan.replan_s */
    double last_s;                /* when the last plan was asked for; below 0: never */
    double solver_s;              /* how long it took */
    enum sl_replan_reason wanted; /* since then */
};

/* What is watched of one device between two plans. */
struct sl_replan_watch {
    uint32_t cut;       /* that the prediction is for; 0: nothing is predicted */
    double predicted_s; /* a step's own time: computing, and on the way */
    uint64_t steps;     /* sums at the last beat that counted; has: there was one at this cut */
    double own_s;
    bool has, low; /* low: its battery was near the floor when last looked at */
    uint32_t off;  /* beats in a row outside the range */
};

void sl_replan_begin(struct sl_replan *, double every_s);
/* A plan says so of a device; 0 where it says nothing. The next beat begins a new measurement. */
void sl_replan_predict(struct sl_replan_watch *, uint32_t cut, double step_s);
/* A heartbeat: cut in force, sums since the device's start (steps; seconds that were its own or its link's),
 * battery and its floor. */
void sl_replan_beat(struct sl_replan *, struct sl_replan_watch *, uint32_t cut, uint64_t steps, double own_s,
    double battery, double floor);
void sl_replan_members(struct sl_replan *); /* a device came, left, or became known */
/* Why to plan now, or NOTHING. */
enum sl_replan_reason sl_replan_due(const struct sl_replan *, double now_s);
void sl_replan_asked(struct sl_replan *, double now_s);
void sl_replan_answered(struct sl_replan *, double solver_s);

/* Is a bound worth telling? Only where it comes, goes, or moves by more than a twentieth. */
bool sl_replan_worth(double told, double now);

/* ------------------------------------------------------------------------------------------------- what */

enum { SL_REPLAN_GROUP = 256 };

struct sl_replan_result {
    double objective_now, objective; /* with the cuts in force and the best shares for them; as decided */
    double free_objective;           /* without hysteresis: what the solver found */
    struct sl_plan_score score;      /* as decided */
    uint32_t changed, planned;
};

/* cuts [n_users]: in force; decided ones on return. plan->user [n_users] and cost [n_users]: the plan for the
 * cuts decided. New cuts are taken only where together they are better by `hysteresis`, relative; and of
 * these each only where it alone is worth a twentieth of the mean change, or more. Users that cannot be
 * planned keep their cuts. The scenario's bounds of cuts are changed for the time of the call.
 *
 * Of more than SL_REPLAN_GROUP users every so-manieth is planned together, with their part of the servers:
 * the solver's time rises with the square of its users. Errors as sl_plan_solve; -ECANCELED: `stop` (NULL:
 * never; atomic) was set meanwhile, which is looked at between groups. */
int sl_replan_decide(struct sl_plan_scenario *, enum sl_plan_objective, double hysteresis, uint64_t seed,
    const bool *stop, uint32_t *cuts, struct sl_plan *, struct sl_plan_cost *cost, struct sl_replan_result *);
