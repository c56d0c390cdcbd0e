/* How many phones this host can compute in real time (rules L13). */
#pragma once

#include "device-sim/fleet/material.h"

#include <cjson/cJSON.h>

/* Measures a step (forward, backward, optimiser) of each class's front half on this thread. Per class:
 * host_step_s, modelled_step_s, core_share of one phone that does nothing but compute, phones_max of that
 * class alone on one core; and core_share of the whole fleet, gemm_kernel, carries (whether one core
 * suffices). NULL: err says why. */
cJSON *sl_calibrate(const struct sl_material *, char *err, size_t err_cap);
