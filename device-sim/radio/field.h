/* What varies at random over places and over time, as functions: nothing is stored, nothing depends on when
 * or in which order they are asked.
 *
 * A field is Gaussian with mean 0, variance 1 and autocorrelation exp(-d / correlation_m) (Gudmundson's model
 * of shadowing, 1991): a sum of plane waves whose wave numbers are drawn from the spectrum of that
 * correlation in the plane, density proportional to k (1/c^2 + k^2)^(-3/2).
 *
 * Fading is Clarke's: plane waves from all around, the Doppler shift of each f_d cos(angle) (sum of
 * sinusoids); power is exponential with mean 1 (Rayleigh), or Rice's with a steady part. Branches are
 * independent and averaged: antennas, or parts of the band further apart than the coherence bandwidth. */
#pragma once

#include <stdint.h>

enum { SL_FIELD_WAVES = 32 };
struct sl_field {
    double kx[SL_FIELD_WAVES], ky[SL_FIELD_WAVES], phase[SL_FIELD_WAVES]; /* rad/m, rad */
};
void sl_field_init(struct sl_field *, uint64_t key, double correlation_m);
double sl_field_at(const struct sl_field *, double x_m, double y_m);

struct sl_fading {
    uint32_t branches; /* 1 .. 16; 0: no fading, the power is 1 */
    double rice_k;     /* power of the steady part over that of the rest; 0: Rayleigh */
    double doppler_hz; /* greatest shift: speed / wavelength */
};
double sl_fading_power(const struct sl_fading *, uint64_t key, double t_s);
