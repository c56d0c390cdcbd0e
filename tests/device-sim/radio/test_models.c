/* The radio's models against closed forms and other people's figures. Statistical tests have fixed seeds;
 * limits are those that a right generator exceeds once in a thousand. */
#include "device-sim/radio/radio.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Kolmogorov and Smirnov's distance between draws and a distribution. */
static double distance(double *x, size_t n, double (*cdf)(double))
{
    double worst = 0;

    qsort(x, n, sizeof *x, ascending);
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst,
            fmax(fabs(cdf(x[i]) - (double)i / (double)n), fabs(cdf(x[i]) - (double)(i + 1) / (double)n)));
    return worst * sqrt((double)n); /* above 1.95: once in a thousand */
}

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double exponential_cdf(double x)
{
    return 1 - exp(-x);
}

/* Worked out in Python from the formulas of TR 38.901 table 7.4.1-1: fc 3.5 GHz, UMa
 * 25 m, UMi 10 m, phone 1.5 m (break points 560 m and 210 m), and the paper's. */
static void path_loss__by_the_tables(void **state)
{
    static const struct {
        enum sl_path_loss model;
        double base_m, distance_m, los_db, nlos_db;
    } cases[] = {
        {SL_PATH_UMA, 25, 100, 83.1382, 103.0375},
        {SL_PATH_UMA, 25, 500, 98.2692, 129.9158},
        {SL_PATH_UMA, 25, 2000, 121.4441, 153.4268},
        {SL_PATH_UMI, 10, 50, 79.0896, 94.1807},
        {SL_PATH_UMI, 10, 200, 91.6112, 115.2288},
        {SL_PATH_UMI, 10, 800, 115.2713, 136.4686},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sl_path_geometry g = {3.5, cases[i].base_m, 1.5};
        assert_true(
            fabs(sl_path_loss_db(cases[i].model, &g, cases[i].distance_m, true) - cases[i].los_db) < 1e-3);
        assert_true(
            fabs(sl_path_loss_db(cases[i].model, &g, cases[i].distance_m, false) - cases[i].nlos_db) < 1e-3);
    }
    struct sl_path_geometry flat = {2, 1.5, 1.5};
    assert_true(fabs(sl_path_loss_db(SL_PATH_MACRO, &flat, 1000, false) - 128.1) < 1e-9);
    assert_true(fabs(sl_path_loss_db(SL_PATH_MACRO, &flat, 100, false) - 90.5) < 1e-9);
    /* 32.4478 + 20 log10(km) + 20 log10(MHz) */
    assert_true(fabs(sl_path_loss_db(SL_PATH_FREE, &flat, 1000, true) - (32.4478 + 20 * log10(2000))) < 1e-3);
}

static void path_loss__rises_with_distance(void **state)
{
    struct sl_path_geometry g = {3.5, 25, 1.5};

    for (int model = 0; model < SL_PATH_COUNT; model++)
        for (int los = 0; los < 2; los++)
            for (double d = 11; d < 5000; d *= 1.01)
                assert_true(sl_path_loss_db((enum sl_path_loss)model, &g, d * 1.01, los) >=
                            sl_path_loss_db((enum sl_path_loss)model, &g, d, los));
    assert_true(sl_line_of_sight_probability(SL_PATH_UMA, 18) == 1);
    /* 18/100 + exp(-100/63) (1 - 18/100), and with 36 */
    assert_true(fabs(sl_line_of_sight_probability(SL_PATH_UMA, 100) - 0.347671) < 1e-5);
    assert_true(fabs(sl_line_of_sight_probability(SL_PATH_UMI, 100) - 0.230985) < 1e-5);
}

/* One place in many fields: normal. Two places, d apart: correlated by exp(-d/c). */
static void field__is_normal_and_correlated(void **state)
{
    enum { N = 4000 };
    static const double apart[] = {10, 50, 100};
    double *here = calloc(N, sizeof *here), there[3][N];
    struct sl_field f;

    for (uint32_t i = 0; i < N; i++) {
        sl_field_init(&f, sl_rng_u64(11, i), 50);
        here[i] = sl_field_at(&f, 300, 200);
        for (int k = 0; k < 3; k++)
            there[k][i] = sl_field_at(&f, 300 + apart[k] * 0.6, 200 + apart[k] * 0.8);
    }
    for (int k = 0; k < 3; k++) {
        double sum = 0, rho = exp(-apart[k] / 50);
        for (uint32_t i = 0; i < N; i++)
            sum += here[i] * there[k][i];
        /* The estimate's standard error is sqrt((1 + rho^2) / n). */
        assert_true(fabs(sum / N - rho) < 3.3 * sqrt((1 + rho * rho) / N));
    }
    assert_true(distance(here, N, normal_cdf) < 1.95);
    free(here);
}

static double rice_k;

/* 1 - Q1(sqrt(2K), sqrt(2 (1+K) x)), by its series. */
static double rice_cdf(double x)
{
    double k = rice_k, y = (1 + k) * x, poisson = exp(-k), sum = 0, gamma_tail = exp(-y), term = exp(-y);

    for (int i = 0; i < 200; i++) { /* mixture over i of gamma(i + 1) */
        sum += poisson * (1 - gamma_tail);
        poisson *= k / (i + 1);
        term *= y / (i + 1);
        gamma_tail += term;
    }
    return sum;
}

static void fading__has_its_distribution(void **state)
{
    enum { N = 4000 };
    double *x = calloc(N, sizeof *x);
    struct sl_fading f = {.branches = 1, .doppler_hz = 10};

    for (uint32_t i = 0; i < N; i++)
        x[i] = sl_fading_power(&f, sl_rng_u64(21, i), 3.7);
    assert_true(distance(x, N, exponential_cdf) < 1.95);
    f.rice_k = rice_k = 4;
    for (uint32_t i = 0; i < N; i++)
        x[i] = sl_fading_power(&f, sl_rng_u64(22, i), 0.4);
    assert_true(distance(x, N, rice_cdf) < 1.95);
    /* Two branches: mean 1, variance 1/2. */
    double sum = 0, squares = 0;
    f = (struct sl_fading){.branches = 2, .doppler_hz = 10};
    for (uint32_t i = 0; i < N; i++) {
        double v = sl_fading_power(&f, sl_rng_u64(23, i), 1.1);
        sum += v;
        squares += (v - 1) * (v - 1);
    }
    assert_true(fabs(sum / N - 1) < 3.3 * sqrt(0.5 / N));
    assert_true(fabs(squares / N - 0.5) < 0.1);
    free(x);
}

/* Clarke's: the autocorrelation of the power is J0(2 pi fd tau)^2. */
static void fading__turns_with_the_doppler_shift(void **state)
{
    enum { N = 20000 };
    static const double turns[] = {0.05, 0.15, 0.3827, 0.6};
    struct sl_fading f = {.branches = 1, .doppler_hz = 20};

    for (size_t k = 0; k < sizeof turns / sizeof turns[0]; k++) {
        double sum = 0, expected = j0(2 * M_PI * turns[k]);
        for (uint32_t i = 0; i < N; i++) {
            uint64_t key = sl_rng_u64(31, i);
            sum += (sl_fading_power(&f, key, 5) - 1) * (sl_fading_power(&f, key, 5 + turns[k] / 20) - 1);
        }
        /* The product's standard deviation is at most sqrt(8) + 1. */
        assert_true(fabs(sum / N - expected * expected) < 3.3 * 3.9 / sqrt(N));
    }
}

static void cqi__the_highest_that_is_carried(void **state)
{
    for (int t = 0; t < 2; t++) {
        assert_int_equal(sl_cqi((enum sl_cqi_table)t, 0), 0);
        assert_int_equal(sl_cqi((enum sl_cqi_table)t, 1e9), SL_CQI_MAX);
        for (uint32_t c = 1; c <= SL_CQI_MAX; c++) {
            double snr = sl_cqi_threshold((enum sl_cqi_table)t, c);
            assert_int_equal(sl_cqi((enum sl_cqi_table)t, snr * (1 + 1e-9)), c);
            assert_int_equal(sl_cqi((enum sl_cqi_table)t, snr * (1 - 1e-9)), c - 1);
        }
    }
    /* Within 2 dB of link-level thresholds at a block error rate of a tenth (CQI 1, 7, 15: about
     * -6.7, 5.9, 22.7 dB). */
    assert_true(fabs(10 * log10(sl_cqi_threshold(SL_CQI_64QAM, 1)) + 6.7) < 2);
    assert_true(fabs(10 * log10(sl_cqi_threshold(SL_CQI_64QAM, 7)) - 5.9) < 2);
    assert_true(fabs(10 * log10(sl_cqi_threshold(SL_CQI_64QAM, 15)) - 22.7) < 2);
}

/* Random waypoints: on each leg the speed is uniform; without pauses the time-average speed of uniform [1, 3]
 * is (b - a) / ln(b / a) = 1.8205 m/s (legs are weighted by their time). */
static void waypoint__time_average_speed(void **state)
{
    struct sl_mobility_config c = {.kind = SL_MOBILITY_WAYPOINT,
        .width_m = 500,
        .height_m = 500,
        .speed_min_mps = 1,
        .speed_max_mps = 3};
    struct sl_mobility m;
    double x, y, x0, y0, way = 0;
    enum { SECONDS = 2000000 };

    sl_mobility_init(&m, &c, 5, NULL);
    sl_mobility_at(&m, 0, &x0, &y0);
    for (uint32_t t = 1; t <= SECONDS; t++) {
        double speed = sl_mobility_at(&m, t, &x, &y);
        assert_true(speed >= 1 && speed <= 3 && x >= 0 && x <= 500 && y >= 0 && y <= 500);
        way += speed;
        x0 = x;
        y0 = y;
    }
    assert_true(fabs(way / SECONDS - 1.8205) < 0.02); /* some 14,000 legs: three standard errors */
}

static void gauss_markov__speed_remembers(void **state)
{
    struct sl_mobility_config c = {.kind = SL_MOBILITY_GAUSS_MARKOV,
        .width_m = 1e6,
        .height_m = 1e6,
        .speed_min_mps = 5,
        .speed_max_mps = 25,
        .memory = 0.8};
    double at[2] = {5e5, 5e5}, x, y, before = 0, sum = 0, squares = 0, lag = 0;
    struct sl_mobility m;
    enum { STEPS = 20000 };

    sl_mobility_init(&m, &c, 9, at);
    for (uint32_t t = 0; t < STEPS; t++) {
        double v = sl_mobility_at(&m, t + 0.5, &x, &y) - 15;
        sum += v;
        squares += v * v;
        lag += v * before;
        before = v;
    }
    assert_true(fabs(sum / STEPS) < 3.3 * 5 * 3 / sqrt(STEPS)); /* (1 + a) / (1 - a) = 9 times the variance */
    assert_true(fabs(sqrt(squares / STEPS) - 5) < 0.25);
    assert_true(fabs(lag / squares - 0.8) < 3.3 * 0.6 / sqrt(STEPS) + 0.005);
}

static void path__there_and_back(void **state)
{
    static const char text[] = "t_s,x_m,y_m\n0,0,0\n10,100,0\n20,100,50\n";
    struct sl_path p;
    char err[200];
    struct sl_mobility m;
    double x, y;

    assert_int_equal(sl_path_parse(text, sizeof text - 1, "p.csv", &p, err, sizeof err), 0);
    struct sl_mobility_config c = {.kind = SL_MOBILITY_PATH, .path = &p};
    sl_mobility_init(&m, &c, 1, NULL);
    assert_true(sl_mobility_at(&m, 5, &x, &y) == 10);
    assert_true(x == 50 && y == 0);
    sl_mobility_at(&m, 15, &x, &y);
    assert_true(x == 100 && y == 25);
    sl_mobility_at(&m, 35, &x, &y);
    assert_true(x == 50 && y == 0);
    sl_mobility_at(&m, 45, &x, &y);
    assert_true(x == 50 && y == 0);
    sl_path_free(&p);
    static const struct {
        const char *text, *expected;
    } bad[] = {{"", "p.csv:1: a path needs"}, {"x,y\n", "p.csv:1: the header"},
        {"t_s,x_m,y_m\n0,1\n", "p.csv:2: not three"}, {"t_s,x_m,y_m\n0,1,2\n0,1,2\n", "p.csv:3: no later"},
        {"t_s,x_m,y_m\n1,1,2\n", "p.csv:2: a path begins"}, {"t_s,x_m,y_m\n0,1,nan\n", "p.csv:2: not three"},
        {"t_s,x_m,y_m\n0,1,2\n", "p.csv:2: a path needs"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(
            sl_path_parse(bad[i].text, strlen(bad[i].text), "p.csv", &p, err, sizeof err), -EINVAL);
        assert_memory_equal(err, bad[i].expected, strlen(bad[i].expected));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_loss__by_the_tables),
        cmocka_unit_test(path_loss__rises_with_distance),
        cmocka_unit_test(field__is_normal_and_correlated),
        cmocka_unit_test(fading__has_its_distribution),
        cmocka_unit_test(fading__turns_with_the_doppler_shift),
        cmocka_unit_test(cqi__the_highest_that_is_carried),
        cmocka_unit_test(waypoint__time_average_speed),
        cmocka_unit_test(gauss_markov__speed_remembers),
        cmocka_unit_test(path__there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
