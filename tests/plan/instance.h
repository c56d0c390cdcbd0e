/* Scenarios for the planner's tests: rules P4's, in which the choice of cut and server is open, and the
 * published settings (arXiv 2409.20247). Drawn by (seed, name). */
#pragma once

#include "trainer/plan/scenario.h"

/* Device to edge layer cost log-uniform in [0.3, 3] at equal shares, stability in balance where the device is
 * cheaper. NULL: out of memory. */
struct sl_plan_scenario *open_instance(uint64_t seed, uint32_t users, uint32_t servers, uint32_t layers);
void free_instance(struct sl_plan_scenario *);
double draw(uint64_t seed, const char *name, uint64_t i, double low, double high);
