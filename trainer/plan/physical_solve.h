/* The methods of solve.h for the physical objective. Its time bound couples all servers, so the search over
 * cuts and associations runs at a given bound, in turn with the best bound for what it found; and from
 * several bounds, since a shorter one may need many cuts to move together. */
#pragma once

#include "trainer/plan/baseline.h"

/* choice: [n_users]. Fills in s->report but for the score. Users whose deadline or energy bound cannot be met
 * beside the others are left out, the worst first. -ENOMEM, -ENOSPC. */
int sl_physical_solve(struct sl_solver *, enum sl_plan_method, struct sl_plan_choice *choice);
