/* The published settings (arXiv 2409.20247, its section on experiments), and what the paper leaves out, as
 * docs/planner.md states it. Drawn by (seed, name). */
#pragma once

#include "trainer/plan/scenario.h"

/* open: devices as fast a layer as the edge's share, within a factor of 3 both ways, so that the cut is a
 * choice (rules P4). NULL: out of memory. */
struct sl_plan_scenario *sl_published(uint64_t seed, uint32_t users, uint32_t servers, bool open);
void sl_published_free(struct sl_plan_scenario *);
