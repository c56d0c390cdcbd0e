/* Live planning, plan.cut: auto (docs/planner.md): a scenario from what was measured, solved on a thread of
 * its own, and what it says told to the trainer and the devices. All functions are the control thread's;
 * where nothing is planned live they do nothing. */
#pragma once

#include "dataplane/wire/control.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct edge;
struct device;

/* Numbers of the last plan, for any thread to read one by one; in millionths where they are fractions. */
struct edge_plan_view {
    uint64_t plans, reason, devices, changed, changed_all, objective_now, objective, solver_us, at_ns;
};

int edge_open_planner(struct edge *);
void edge_close_planner(struct edge *);
void edge_poll_planner(struct edge *, uint64_t now_ns);
void edge_plan_beat(
    struct edge *, struct device *, const Sluice__Heartbeat *); /* after its profile took it */
void edge_plan_members(struct edge *, struct device *);         /* it has come or gone */
void edge_plan_cut_changed(struct edge *, struct device *);
/* The cut of a device that the run has not seen before: what the last plan gave most of its class, or the one
 * to begin with. */
uint32_t edge_plan_first_cut(const struct edge *, uint32_t class);
const struct edge_plan_view *edge_plan_view(const struct edge *); /* NULL: nothing is planned live */
