/* Fading against its exact distribution. A sum of n waves of like amplitude and random phases is a random
 * walk in the plane; Kluyver (1906): P(R < r) = r times the integral over t of J1(r t) times the product of
 * J0(a_i t). With n = 12 it is near Rayleigh's law but not the same, and a test with enough draws sees the
 * difference: so both are stated. */
#include "device-sim/radio/field.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

enum { N = 100000, WAVES = 12, GRID = 400 };
static double x[N];

static int ascending(const void *a, const void *b)
{
    double u = *(const double *)a, v = *(const double *)b;

    return u < v ? -1 : u > v;
}

/* By the trapezoidal rule: J0^12 has died out where we end. */
static double kluyver(double power, double k)
{
    double r = sqrt(power), a = sqrt(1 / (WAVES * (1 + k))), steady = sqrt(k / (1 + k)), sum = 0, dt = 0.01;

    for (double t = dt; t < 60; t += dt)
        sum += j1(r * t) * pow(j0(a * t), WAVES) * j0(steady * t);
    return r * sum * dt;
}

/* Largest distance of the draws from the exact law, times sqrt(n): above 1.95 once in a thousand. Looked at
 * on a grid of quantiles, which can only make it smaller by 1 / GRID of the draws: 0.8. */
static double distance(double k)
{
    double worst = 0;

    qsort(x, N, sizeof *x, ascending);
    for (int g = 1; g < GRID; g++) {
        size_t i = (size_t)g * N / GRID;
        worst = fmax(worst, fabs(kluyver(x[i], k) - ((double)i + 0.5) / N));
    }
    return worst * sqrt(N);
}

static void draw(double k, double t_s)
{
    struct sl_fading f = {.branches = 1, .rice_k = k, .doppler_hz = 10};

    for (uint32_t i = 0; i < N; i++)
        x[i] = sl_fading_power(&f, sl_rng_u64(41, i), t_s);
}

static void fading__is_the_walk_of_twelve_waves(void **state)
{
    (void)state;
    draw(0, 2.5);
    double exact = distance(0), worst = 0;
    assert_true(exact < 1.95);
    for (uint32_t i = 0; i < N; i++)
        worst = fmax(worst, fabs(1 - exp(-x[i]) - (i + 0.5) / N));
    print_message("walk: %.2f / sqrt(n); Rayleigh: %.4f\n", exact, worst);
    /* By Pearson's expansion the law's own distance is 0.2306 / 24 = 0.0096. */
    assert_true(worst < 0.0096 + 1.95 / sqrt(N));
    for (int k = 1; k <= 9; k += 4) {
        draw(k, 0.7);
        assert_true(distance(k) < 1.95);
    }
}

/* One phone over a long time has the mean power 1 as well, so has each of its branches; and its fades are as
 * often below -10 dB as Rayleigh's (1 - exp(-0.1)), within the spread between phones. */
static void fading__over_time_as_over_phones(void **state)
{
    enum { PHONES = 60, LOOKS = 4000 };
    double deep = 0;

    (void)state;
    for (uint32_t p = 0; p < PHONES; p++) {
        struct sl_fading f = {.branches = 1, .doppler_hz = 50};
        double sum = 0;
        for (uint32_t i = 0; i < LOOKS; i++) {
            double v = sl_fading_power(&f, sl_rng_u64(51, p), 0.05 * i);
            sum += v;
            deep += v < 0.1;
        }
        assert_true(fabs(sum / LOOKS - 1) < 0.3);
    }
    deep /= PHONES * (double)LOOKS;
    print_message("below -10 dB: %.4f, Rayleigh %.4f\n", deep, 1 - exp(-0.1));
    assert_true(fabs(deep - (1 - exp(-0.1))) < 0.01);
}

/* The power's autocorrelation is J0^2, less 1/12 for the number of waves, whatever the time from which one
 * counts. */
static void fading__does_not_age(void **state)
{
    static const double from_s[] = {0, 1000, 86400};
    struct sl_fading f = {.branches = 1, .doppler_hz = 20};

    (void)state;
    for (int k = 0; k < 3; k++) {
        double sum = 0, rho = j0(2 * M_PI * 0.2), variance = 0;
        for (uint32_t i = 0; i < N; i++) {
            uint64_t key = sl_rng_u64(61, i);
            double v = (sl_fading_power(&f, key, from_s[k]) - 1) *
                       (sl_fading_power(&f, key, from_s[k] + 0.2 / 20) - 1);
            sum += v;
            variance += v * v;
        }
        /* The mean of exp(i w cos) over twelve even angles is J0 (but for J12); its square holds each wave's
         * product with itself, which the power's deviation from its mean has not. */
        double expected = rho * rho - 1.0 / WAVES;
        print_message("from %g s: %.4f, closed form %.4f\n", from_s[k], sum / N, expected);
        assert_true(fabs(sum / N - expected) < 3.3 * sqrt(variance) / N);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fading__is_the_walk_of_twelve_waves),
        cmocka_unit_test(fading__over_time_as_over_phones),
        cmocka_unit_test(fading__does_not_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
