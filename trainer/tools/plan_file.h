/* The planner's files: scenarios in, plans in and out (docs/planner.md has the formats). */
#pragma once

#include "trainer/plan/solve.h"

#include <cjson/cJSON.h>

/* A scenario read strictly: unknown keys, missing ones and other types are refused, naming user or server. A
 * number that makes no sense for one user (0, negative, or null for one that is not known) is not: the
 * planner names that user and plans the rest. -EINVAL, -ENOENT, -EIO, -ENOMEM. */
int sl_scenario_parse(
    const char *text, size_t len, const char *name, struct sl_plan_scenario *, char *err, size_t err_cap);
int sl_scenario_read(const char *path, struct sl_plan_scenario *, char *err, size_t err_cap);
void sl_scenario_free(struct sl_plan_scenario *);

/* Any plan for that scenario. plan->user is allocated. */
int sl_plan_parse(const char *text, size_t len, const char *name, const struct sl_plan_scenario *,
    struct sl_plan *, char *err, size_t err_cap);
int sl_plan_read(
    const char *path, const struct sl_plan_scenario *, struct sl_plan *, char *err, size_t err_cap);

/* A plan and its score; report: of a solve, or NULL. NULL: out of memory. */
cJSON *sl_plan_json(const struct sl_plan_scenario *, enum sl_plan_objective, const struct sl_plan *,
    const struct sl_plan_score *, const struct sl_plan_report *);
