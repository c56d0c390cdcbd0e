/* Where a phone is: it stands still, walks between random points, drives with inertia (Gauss-Markov: Liang
 * and Haas, 1999), or follows a recorded path. The area is [0, width] x [0, height] metres. Drawn by (key,
 * leg or step). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_mobility_kind {
    SL_MOBILITY_STATIC,
    SL_MOBILITY_WAYPOINT,
    SL_MOBILITY_GAUSS_MARKOV,
    SL_MOBILITY_PATH,
    SL_MOBILITY_COUNT
};
const char *sl_mobility_name(enum sl_mobility_kind); /* "static", "waypoint", "gauss_markov", "path" */

struct sl_path {
    double *t_s, *x_m, *y_m; /* [n], times rising from 0; after the last it runs backwards, and so on */
    size_t n;
};
/* CSV with the header t_s,x_m,y_m. "FILE:LINE: ...". */
int sl_path_load(const char *file, struct sl_path *, char *err, size_t err_cap);
int sl_path_parse(
    const char *text, size_t len, const char *name, struct sl_path *, char *err, size_t err_cap);
void sl_path_free(struct sl_path *);

struct sl_mobility_config {
    enum sl_mobility_kind kind;
    double width_m, height_m;
    double speed_min_mps,
        speed_max_mps; /* waypoint: uniform per leg; Gauss-Markov: the mean is halfway, sigma a quarter */
    double pause_s;    /* waypoint: at each point */
    double memory;     /* Gauss-Markov: alpha, correlation of speed and course from one second to the next */
    const struct sl_path *path;
    double spread_s; /* path: each phone begins up to so much later in it */
};

struct sl_mobility {
    const struct sl_mobility_config *cfg;
    uint64_t key, i;                   /* legs or steps done */
    double from_s, until_s;            /* of the present leg or step */
    double x0, y0, x1, y1;             /* its ends */
    double speed, course, mean_course; /* Gauss-Markov */
};
/* at the start: at_m, or where it pleases (NULL). */
void sl_mobility_init(
    struct sl_mobility *, const struct sl_mobility_config *, uint64_t key, const double at_m[2]);
/* t_s from the start, not falling from call to call. Returns the speed in m/s. */
double sl_mobility_at(struct sl_mobility *, double t_s, double *x_m, double *y_m);
