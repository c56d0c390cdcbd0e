/* How one server's bandwidth and clock are shared out under the printed objective (arXiv 2409.20247), for
 * given cuts and users. Both splits are convex with one constraint; each has one multiplier, found by
 * bracketing, and a closed form for each user but for one scalar function that is the same for all:
 *
 *   bandwidth: sum x_i c_i / (b_i ln(1 + a_i/b_i)),  sum x_i b_i = B    a = g p / sigma^2 (Hz)
 *   clock:     sum x_i w_i (t/f_i + e f_i^2),        sum x_i f_i = F
 *
 * x_i is how much of user i is there (1, or the relaxed association). Shares have a lower bound. No state,
 * any thread. Relative accuracy of the sums 1e-13. */
#pragma once

#include <stdint.h>

struct sl_split_bandwidth {
    double a_hz; /* bandwidth at which the SNR is 1 */
    double c;    /* weight of energy * bit * watt * ln 2 */
    double x;
    double share; /* in: a guess, 0: none; out: b_i */
};
/* Cost; *price, out: how much of it a further Hz would save, in: a guess, 0: none. lo: smallest share. */
double sl_split_bandwidth(
    struct sl_split_bandwidth *, uint32_t n, double total_hz, double lo_hz, double *price);
/* min over lo <= b <= hi of c / (b ln(1 + a/b)) + price * b: what a user would cost a server at its price. */
double sl_split_bandwidth_at(double a_hz, double c, double lo_hz, double hi_hz, double price, double *share);

struct sl_split_clock {
    double w; /* layers at the edge * FLOP / (cores * FLOP per cycle): cycles */
    double x;
    double share; /* out: f_i */
};
/* t: weight of delay; e: weight of energy * kappa. The whole clock is shared out even where less would cost
 * less (the published constraint is an equality), so the price may be negative. A user without cycles gets
 * lo. */
double sl_split_clock(
    struct sl_split_clock *, uint32_t n, double total_hz, double lo_hz, double t, double e, double *price);
double sl_split_clock_at(
    double w, double lo_hz, double hi_hz, double t, double e, double price, double *share);
/* The clock's split in a step of the fractional programming: minimises sum x_i (w_i (t/f_i + e f_i^2))^2 / (4
 * q_i) under the same constraint, w_i being the cycles of one layer. */
void sl_split_clock_squared(
    struct sl_split_clock *, const double *q, uint32_t n, double total_hz, double lo_hz, double t, double e);
