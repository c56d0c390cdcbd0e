/* Path loss and line of sight: 3GPP TR 38.901 V16.1, tables 7.4.1-1 and 7.4.2-1 (UMa and UMi street canyon,
 * users outdoors and at most 13 m high), the macro cell of TR 36.942 at 2 GHz (the planner paper's 128.1
 * + 37.6 log10 km), and free space (ITU-R P.525). Distances in metres from 10 m on (nearer counts as 10 m),
 * dB, GHz. Pure functions. */
#pragma once

#include <stdbool.h>

enum sl_path_loss { SL_PATH_UMA, SL_PATH_UMI, SL_PATH_MACRO, SL_PATH_FREE, SL_PATH_COUNT };
const char *sl_path_loss_name(enum sl_path_loss); /* "uma", "umi", "macro", "free" */

struct sl_path_geometry {
    double ghz, base_m, phone_m; /* carrier; antenna heights above ground */
};
double sl_path_loss_db(
    enum sl_path_loss, const struct sl_path_geometry *, double distance_m, bool line_of_sight);
double sl_line_of_sight_probability(enum sl_path_loss, double distance_m);
/* Of shadowing: standard deviation (table 7.4.1-1; macro 8 dB) and correlation distance (table 7.5-6; macro
 * 50 m). */
double sl_shadowing_db(enum sl_path_loss, bool line_of_sight);
double sl_shadowing_m(enum sl_path_loss, bool line_of_sight);
