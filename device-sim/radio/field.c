#include "device-sim/radio/field.h"

#include "trainer/tensor/rng.h"

#include <math.h>

enum { FADING_WAVES = 12 };

void sl_field_init(struct sl_field *f, uint64_t key, double correlation_m)
{
    for (uint32_t i = 0; i < SL_FIELD_WAVES; i++) {
        /* The share of wave numbers below k is 1 - 1 / sqrt(1 + (k c)^2). */
        double u = 1 - sl_rng_open(key, 3 * i), angle = 2 * M_PI * sl_rng_open(key, 3 * i + 1);
        double k = sqrt(1 / (u * u) - 1) / correlation_m;
        f->kx[i] = k * cos(angle);
        f->ky[i] = k * sin(angle);
        f->phase[i] = 2 * M_PI * sl_rng_open(key, 3 * i + 2);
    }
}

double sl_field_at(const struct sl_field *f, double x_m, double y_m)
{
    double sum = 0;

    for (uint32_t i = 0; i < SL_FIELD_WAVES; i++)
        sum += cos(f->kx[i] * x_m + f->ky[i] * y_m + f->phase[i]);
    return sum * sqrt(2.0 / SL_FIELD_WAVES);
}

/* One branch: waves at evenly spaced angles with a common random turn, random phases. */
static double branch_power(const struct sl_fading *f, uint64_t key, double t_s)
{
    double re = 0, im = 0, turn = sl_rng_open(key, 0), w = 2 * M_PI * f->doppler_hz * t_s;

    for (uint32_t i = 0; i < FADING_WAVES; i++) {
        double phase = w * cos(2 * M_PI * (i + turn) / FADING_WAVES) + 2 * M_PI * sl_rng_open(key, i + 1);
        re += cos(phase);
        im += sin(phase);
    }
    double spread = sqrt(1 / (FADING_WAVES * (1 + f->rice_k))), steady = sqrt(f->rice_k / (1 + f->rice_k));
    /* The steady wave comes from ahead at its own phase. */
    double phase = w * cos(M_PI / 4) + 2 * M_PI * sl_rng_open(key, FADING_WAVES + 1);
    re = re * spread + steady * cos(phase);
    im = im * spread + steady * sin(phase);
    return re * re + im * im;
}

double sl_fading_power(const struct sl_fading *f, uint64_t key, double t_s)
{
    double sum = 0;

    for (uint32_t b = 0; b < f->branches; b++)
        sum += branch_power(f, sl_rng_mix(key + b), t_s);
    return f->branches ? sum / f->branches : 1;
}
