#include "device-sim/profile/spread.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int sl_spread_add(struct sl_spread *s, double value)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        double *v = realloc(s->v, cap * sizeof(*v));
        if (!v)
            return -ENOMEM;
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = value;
    s->sum += value;
    s->sorted = false;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double sl_spread_quantile(struct sl_spread *s, double q)
{
    if (s->n == 0)
        return NAN;
    if (!s->sorted)
        qsort(s->v, s->n, sizeof(*s->v), by_value);
    s->sorted = true;
    double at = ceil(q * (double)s->n - 1e-9) - 1;
    return s->v[at < 0 ? 0 : at >= (double)s->n ? s->n - 1 : (size_t)at];
}

double sl_spread_mean(const struct sl_spread *s)
{
    return s->n ? s->sum / (double)s->n : NAN;
}

void sl_spread_free(struct sl_spread *s)
{
    free(s->v);
    memset(s, 0, sizeof(*s));
}
