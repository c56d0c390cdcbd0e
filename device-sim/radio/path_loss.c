#include "device-sim/radio/path_loss.h"

#include <math.h>

static const double light_m_per_ns = 0.299792458, nearest_m = 10;

const char *sl_path_loss_name(enum sl_path_loss p)
{
    static const char *const names[SL_PATH_COUNT] = {"uma", "umi", "macro", "free"};
    return p < SL_PATH_COUNT ? names[p] : "unknown";
}

/* The two slopes of both LOS models: `a` + `b` log10 up to the break point, 40 log10 beyond, `c` log10 of the
 * break. */
static double los_db(const struct sl_path_geometry *g, double d2, double d3, double a, double b, double c)
{
    double rise = g->base_m - g->phone_m; /* effective heights: 1 m below the antennas' */
    double breakpoint = 4 * (g->base_m - 1) * (g->phone_m - 1) * g->ghz / light_m_per_ns;

    if (d2 <= breakpoint)
        return a + b * log10(d3) + 20 * log10(g->ghz);
    return a + 40 * log10(d3) + 20 * log10(g->ghz) - c * log10(breakpoint * breakpoint + rise * rise);
}

double sl_path_loss_db(
    enum sl_path_loss p, const struct sl_path_geometry *g, double distance_m, bool line_of_sight)
{
    double d2 = distance_m > nearest_m ? distance_m : nearest_m, rise = g->base_m - g->phone_m;
    double d3 = sqrt(d2 * d2 + rise * rise), los, other;

    switch (p) {
    case SL_PATH_UMA:
        los = los_db(g, d2, d3, 28.0, 22, 9);
        other = 13.54 + 39.08 * log10(d3) + 20 * log10(g->ghz) - 0.6 * (g->phone_m - 1.5);
        return line_of_sight || los > other ? los : other;
    case SL_PATH_UMI:
        los = los_db(g, d2, d3, 32.4, 21, 9.5);
        other = 22.4 + 35.3 * log10(d3) + 21.3 * log10(g->ghz) - 0.3 * (g->phone_m - 1.5);
        return line_of_sight || los > other ? los : other;
    case SL_PATH_MACRO:
        return 128.1 + 37.6 * log10(d3 / 1000);
    default:
        return 20 * log10(4e9 * M_PI * d3 * g->ghz / (light_m_per_ns * 1e9));
    }
}

double sl_line_of_sight_probability(enum sl_path_loss p, double distance_m)
{
    double d = distance_m;

    if (p == SL_PATH_FREE)
        return 1;
    if (p == SL_PATH_MACRO)
        return 0;
    return d <= 18 ? 1 : 18 / d + exp(-d / (p == SL_PATH_UMA ? 63 : 36)) * (1 - 18 / d);
}

double sl_shadowing_db(enum sl_path_loss p, bool line_of_sight)
{
    static const double db[SL_PATH_COUNT][2] = {{6, 4}, {7.82, 4}, {8, 8}, {0, 0}};
    return db[p][line_of_sight];
}

double sl_shadowing_m(enum sl_path_loss p, bool line_of_sight)
{
    static const double m[SL_PATH_COUNT][2] = {{50, 37}, {13, 10}, {50, 50}, {50, 50}};
    return m[p][line_of_sight];
}
