/* What the published paper compares with, and what the solver's parts share. */
#pragma once

#include "trainer/plan/associate.h"
#include "trainer/plan/physical.h"
#include "trainer/plan/printed.h"
#include "trainer/plan/solve.h"

struct sl_solver {
    const struct sl_plan_scenario *s;
    enum sl_plan_objective objective;
    uint64_t seed;
    struct sl_printed *printed;
    struct sl_physical *physical; /* NULL: the printed objective */
    struct sl_plan_value v;
    uint32_t *who;            /* [n]: 0 takes part, SL_PLAN_NOBODY does not */
    uint32_t *server, *alpha; /* the start being worked on */
    double *relaxed;          /* its cuts before rounding */
    double value;
    struct sl_plan_member *member;
    double *cost; /* [n][m] */
    struct sl_plan_prices *prices;
    uint32_t *spare, *best_server, *best_alpha;
    double best;
    uint32_t starts;
    struct sl_plan_report now, report;
};

/* solve.c */
void sl_solver_begin(struct sl_solver *);              /* everybody without a server, middle cuts */
void sl_solver_keep(struct sl_solver *);               /* counts a start, and keeps it if it is the best */
void sl_solver_note(struct sl_solver *, double value); /* after an iteration */
/* Each -ENOMEM or -ENOSPC. */
void sl_solver_middle(struct sl_solver *); /* all cuts to the middle */
int sl_solver_cuts(struct sl_solver *);
int sl_solver_servers(struct sl_solver *);

/* Runs a comparison on s->server as it begins (who takes part); association and cuts are left there. choice:
 * [n_users], or NULL. */
int sl_baseline(struct sl_solver *, enum sl_plan_method, struct sl_plan_choice *choice);
int sl_baseline_by_rate(struct sl_solver *);
int sl_baseline_at_random(struct sl_solver *, uint32_t draw);
