/* Users of the physical objective for tests of one user alone: realistic sizes, every bound in force in some
 * of them. Drawn by seed. */
#pragma once

#include "tests/plan/instance.h"
#include "trainer/plan/allot.h"

struct sl_allot_user draw_user(uint64_t seed);
/* log-uniform */
double draw_log(uint64_t seed, const char *name, double low, double high);
