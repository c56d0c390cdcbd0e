#include "trainer/tools/slopes.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* One resample's estimates: the betas, then the slopes. */
enum { SLOPE_K, SLOPE_REST, N_SLOPES };

static const struct sl_estimate NONE = {NAN, NAN, NAN};

/* Mean over the swaps of the drawn sets; `draw` NULL: every set once. */
static void means(const struct sl_slope_data *data, const uint32_t *draw, double *beta)
{
    double swaps = 0;
    for (uint32_t c = 0; c < data->n_cells; c++)
        beta[c] = 0;
    for (uint32_t i = 0; i < data->n_sets; i++) {
        uint32_t set = draw ? draw[i] : i;
        swaps += data->swaps[set];
        for (uint32_t c = 0; c < data->n_cells; c++)
            beta[c] += data->sum[(size_t)set * data->n_cells + c];
    }
    for (uint32_t c = 0; c < data->n_cells; c++)
        beta[c] /= swaps;
}

/* With the cells of alpha = 1 the second regressor has no value: they count only where there is no other. */
static bool used(const struct sl_slope_data *data, uint32_t c, bool any_rest)
{
    return !any_rest || data->cells[c].rest > 0;
}

/* Least squares of log beta on log k and log(1 - alpha), by the normal equations about the means. */
static uint32_t least_squares(const struct sl_slope_data *data, const double *beta, double slope[N_SLOPES])
{
    double mean[3] = {0}, xx = 0, xz = 0, zz = 0, xy = 0, zy = 0;
    uint32_t n = 0;
    bool any_rest = false;

    slope[SLOPE_K] = slope[SLOPE_REST] = NAN;
    for (uint32_t c = 0; c < data->n_cells; c++)
        any_rest |= data->cells[c].rest > 0;
    for (uint32_t c = 0; c < data->n_cells; c++) {
        if (!used(data, c, any_rest))
            continue;
        if (!(beta[c] > 0))
            return 0;
        mean[0] += log(data->cells[c].k);
        mean[1] += any_rest ? log(data->cells[c].rest) : 0;
        mean[2] += log(beta[c]);
        n++;
    }
    for (int i = 0; i < 3; i++)
        mean[i] /= n;
    for (uint32_t c = 0; c < data->n_cells; c++) {
        if (!used(data, c, any_rest))
            continue;
        double x = log(data->cells[c].k) - mean[0], y = log(beta[c]) - mean[2];
        double z = any_rest ? log(data->cells[c].rest) - mean[1] : 0;
        xx += x * x;
        xz += x * z;
        zz += z * z;
        xy += x * y;
        zy += z * y;
    }
    const double flat = 1e-12; /* of sums of squares of logarithms: no two different values */
    double det = xx * zz - xz * xz;
    if (xx > flat && zz > flat && det > flat * xx * zz) {
        slope[SLOPE_K] = (zz * xy - xz * zy) / det;
        slope[SLOPE_REST] = (xx * zy - xz * xy) / det;
    } else if (xx > flat && zz <= flat) {
        slope[SLOPE_K] = xy / xx;
    } else if (zz > flat && xx <= flat) {
        slope[SLOPE_REST] = zy / zz;
    }
    return n;
}

/* The upper 2.5 % point of Student's t: Cornish and Fisher's expansion about the normal one, right to 0.1 %
 * from 9 degrees of freedom. */
static double student(double freedom)
{
    const double z = 1.959963984540054, z3 = z * z * z, z5 = z3 * z * z;
    return z + (z3 + z) / (4 * freedom) + (5 * z5 + 16 * z3 + 3 * z) / (96 * freedom * freedom);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, uint32_t n, double q)
{
    double at = q * (n - 1);
    uint32_t i = (uint32_t)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* Resamples in which a slope could not be had are left out. */
static void interval(double *column, uint32_t draws, uint32_t n_sets, struct sl_estimate *e)
{
    uint32_t n = 0;
    for (uint32_t d = 0; d < draws; d++)
        if (isfinite(column[d]))
            column[n++] = column[d];
    if (n < 2 || !isfinite(e->value))
        return;
    qsort(column, n, sizeof *column, ascending);
    double tail = 0.5 * erfc(sqrt(n_sets / (n_sets - 1.0)) * student(n_sets - 1.0) / M_SQRT2);
    e->low = quantile(column, n, tail);
    e->high = quantile(column, n, 1 - tail);
}

static int bootstrap(const struct sl_slope_data *data, uint32_t draws, uint64_t seed, struct sl_slopes *out)
{
    uint64_t key = sl_rng_key(seed, "bootstrap");
    uint32_t width = data->n_cells + N_SLOPES;
    double *all = malloc((size_t)width * draws * sizeof *all); /* [width, draws] */
    double *beta = malloc(data->n_cells * sizeof *beta);
    uint32_t *draw = malloc(data->n_sets * sizeof *draw);
    int rc = all && beta && draw ? 0 : -ENOMEM;

    for (uint32_t d = 0; d < draws && !rc; d++) {
        double slope[N_SLOPES];
        for (uint32_t i = 0; i < data->n_sets; i++)
            draw[i] = (uint32_t)(sl_rng_u64(key, (uint64_t)d * data->n_sets + i) % data->n_sets);
        means(data, draw, beta);
        least_squares(data, beta, slope);
        for (uint32_t c = 0; c < width; c++)
            all[(size_t)c * draws + d] = c < data->n_cells ? beta[c] : slope[c - data->n_cells];
    }
    for (uint32_t c = 0; c < width && !rc; c++) {
        struct sl_estimate *e = c < data->n_cells              ? &out->beta[c]
                                : c - data->n_cells == SLOPE_K ? &out->k
                                                               : &out->rest;
        interval(all + (size_t)c * draws, draws, data->n_sets, e);
    }
    free(all);
    free(beta);
    free(draw);
    return rc;
}

int sl_slopes_fit(const struct sl_slope_data *data, uint32_t draws, uint64_t seed, struct sl_slopes *out)
{
    double slope[N_SLOPES];
    double *beta = malloc((data->n_cells + 1) * sizeof *beta);
    if (!beta)
        return -ENOMEM;
    means(data, NULL, beta);
    for (uint32_t c = 0; c < data->n_cells; c++) {
        out->beta[c] = NONE;
        out->beta[c].value = beta[c];
    }
    out->cells_used = least_squares(data, beta, slope);
    out->k = out->rest = NONE;
    out->k.value = slope[SLOPE_K];
    out->rest.value = slope[SLOPE_REST];
    free(beta);
    return draws && data->n_sets >= SL_SLOPES_MIN_SETS ? bootstrap(data, draws, seed, out) : 0;
}
