#include "trainer/data/dirichlet.h"

#include "trainer/tensor/rng.h"

#include <math.h>

enum { FIT_ROUNDS = 200 };
static const double fit_tolerance = 1e-6;
/* Of a group that a mixture leaves out: what a column that nobody wants is shared by. */
static const double least_share = 1e-9;

double sl_gamma_log(uint64_t key, uint64_t i, double shape)
{
    uint64_t stream = sl_rng_u64(key, i);
    double below = shape < 1 ? log(sl_rng_open(stream, 3)) / shape : 0;
    double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d);

    for (uint64_t t = 0;; t++) { /* a try has four numbers: a normal's two, a uniform, and the one above */
        double x = (double)sl_rng_normal(stream, 2 * t), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(sl_rng_open(stream, 4 * t + 2)) < x * x / 2 + d - d * v + d * log(v))
            return log(d * v) + below;
    }
}

void sl_dirichlet_draw(
    uint64_t key, uint32_t phone, double alpha, const double *share, uint32_t k, double *out)
{
    double most = -HUGE_VAL, sum = 0, groups = 0;

    for (uint32_t j = 0; j < k; j++)
        groups += share[j] > 0;
    for (uint32_t j = 0; j < k; j++) {
        uint64_t draw = (uint64_t)phone << 32 | j;
        out[j] = share[j] <= 0  ? -HUGE_VAL
                 : isinf(alpha) ? log(share[j])
                                : sl_gamma_log(key, draw, alpha * groups * share[j]);
        most = fmax(most, out[j]);
    }
    for (uint32_t j = 0; j < k; j++) {
        out[j] = exp(out[j] - most);
        sum += out[j];
    }
    for (uint32_t j = 0; j < k; j++)
        out[j] /= sum;
}

static double weight(uint64_t key, uint32_t i, double sigma)
{
    return exp(sigma * (double)sl_rng_normal(key, i));
}

bool sl_shard_sizes(uint64_t key, uint32_t n, double sigma, double total, double least, double *size)
{
    double scale = HUGE_VAL;
    uint32_t raised = UINT32_MAX, before;

    if ((double)n * least > total)
        return false;
    do { /* whoever is under the least stays there as the others shrink, so this ends */
        double kept = 0;
        before = raised;
        raised = 0;
        for (uint32_t i = 0; i < n; i++) {
            double w = weight(key, i, sigma);
            bool under = scale * w < least;
            raised += under;
            kept += under ? 0 : w;
        }
        scale = kept > 0 ? (total - (double)raised * least) / kept : 0;
    } while (raised != before);
    for (uint32_t i = 0; i < n; i++)
        size[i] = fmax(least, scale * weight(key, i, sigma));
    return true;
}

static void scale_rows(double *table, uint32_t n, uint32_t k, const double *row, double *worst)
{
    *worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < k; j++)
            sum += table[(size_t)i * k + j];
        for (uint32_t j = 0; j < k && sum > 0; j++)
            table[(size_t)i * k + j] *= row[i] / sum;
        *worst = fmax(*worst, fabs(sum / row[i] - 1));
    }
}

static void scale_columns(double *table, uint32_t n, uint32_t k, const double *column)
{
    for (uint32_t j = 0; j < k; j++) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += table[(size_t)i * k + j];
        for (uint32_t i = 0; i < n && sum > 0; i++)
            table[(size_t)i * k + j] *= column[j] / sum;
    }
}

void sl_shard_fit(double *table, uint32_t n, uint32_t k, const double *row, const double *column)
{
    double worst = HUGE_VAL;

    for (size_t i = 0; i < (size_t)n * k; i++)
        table[i] = fmax(table[i], least_share);
    for (int r = 0; r < FIT_ROUNDS && worst > fit_tolerance; r++) {
        scale_rows(table, n, k, row, &worst);
        scale_columns(table, n, k, column);
    }
}
