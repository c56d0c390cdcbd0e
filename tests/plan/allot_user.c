#include "tests/plan/allot_user.h"

#include <math.h>

double draw_log(uint64_t seed, const char *name, double low, double high)
{
    return exp(draw(seed, name, 0, log(low), log(high)));
}

struct sl_allot_user draw_user(uint64_t seed)
{
    double p_max = draw_log(seed, "p max", 0.05, 0.5);

    return (struct sl_allot_user){
        .device_cycles = draw_log(seed, "cycles", 1e8, 1e10),
        .kappa = draw_log(seed, "kappa", 1e-28, 1e-26),
        .f_min_hz = 1e6,
        .f_max_hz = draw_log(seed, "f", 5e8, 3e9),
        .edge_cycles = draw_log(seed, "edge", 1e8, 1e10),
        .g_min_hz = 1e6,
        .g_max_hz = 1e10,
        .up_bit = draw_log(seed, "up", 1e5, 1e8),
        .p_min_w = p_max * (seed % 3 ? 1e-9 : 0.5),
        .p_max_w = p_max,
        .a_hz_per_w = draw_log(seed, "a", 1e5, 1e10),
        .up_bps_per_hz = seed % 5 ? 0 : draw(seed, "efficiency", 0, 0.5, 4),
        .down_bit_per_hz = seed % 4 ? draw_log(seed, "down", 1e4, 1e7) : 0,
        .rx_w = draw(seed, "rx", 0, 0, 0.5),
        .b_min_hz = 1e4,
        .b_max_hz = 2e7,
        .fixed_s = 0.02,
        .fixed_j = 0.01,
        .joule_weight = draw_log(seed, "w", 1e-2, 10),
        .second_weight = 0,
        .time_max_s = INFINITY,
        .mu_max = 1e4,
        .deadline_s = INFINITY,
        .energy_max_j = INFINITY,
        .joule_weight_max = 1e9,
    };
}
