/* Daily stretches: when a phone's pattern is on. Hours count on from midnight of the first day. */
#pragma once

#include "device-sim/life/life.h"

bool sl_daily_on(const struct sl_life_daily *, uint64_t key, double hour);
/* The next change after `hour`, at which the pattern is `on`; HUGE_VAL: none within a year. */
double sl_daily_change(const struct sl_life_daily *, uint64_t key, bool on, double hour);
