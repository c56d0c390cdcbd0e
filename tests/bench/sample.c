#include "tests/bench/sample.h"

#include <errno.h>
#include <stdlib.h>

int bench_sample_init(struct bench_sample *s, size_t cap)
{
    *s = (struct bench_sample){.v = malloc(cap * sizeof(double)), .cap = cap};
    if (s->v == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < cap; i++) /* touched now, not while measuring */
        s->v[i] = 0;
    return 0;
}

void bench_sample_free(struct bench_sample *s)
{
    free(s->v);
    *s = (struct bench_sample){0};
}

void bench_sample_clear(struct bench_sample *s)
{
    s->n = 0;
    s->sorted = false;
}

void bench_sample_add(struct bench_sample *s, double v)
{
    if (s->n == s->cap)
        return;
    s->v[s->n++] = v;
    s->sorted = false;
}

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

double bench_sample_quantile(struct bench_sample *s, double q)
{
    if (s->n == 0)
        return 0;
    if (!s->sorted)
        qsort(s->v, s->n, sizeof(double), ascending);
    s->sorted = true;
    size_t i = (size_t)(q * (double)s->n);
    return s->v[i < s->n ? i : s->n - 1];
}

double bench_sample_median(struct bench_sample *s)
{
    return bench_sample_quantile(s, 0.5);
}

cJSON *bench_sample_json(struct bench_sample *s)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "n", (double)s->n);
    cJSON_AddNumberToObject(j, "median", bench_sample_median(s));
    cJSON_AddNumberToObject(j, "p10", bench_sample_quantile(s, 0.1));
    cJSON_AddNumberToObject(j, "p90", bench_sample_quantile(s, 0.9));
    cJSON_AddNumberToObject(j, "p99", bench_sample_quantile(s, 0.99));
    cJSON_AddNumberToObject(j, "p999", bench_sample_quantile(s, 0.999));
    cJSON_AddNumberToObject(j, "min", bench_sample_quantile(s, 0));
    cJSON_AddNumberToObject(j, "max", bench_sample_quantile(s, 1));
    return j;
}

void bench_histogram_add(cJSON *to, const struct sl_histogram *h)
{
    cJSON_AddNumberToObject(to, "count", (double)h->count);
    cJSON_AddNumberToObject(to, "p50_ns", (double)sl_histogram_quantile(h, 0.5));
    cJSON_AddNumberToObject(to, "p90_ns", (double)sl_histogram_quantile(h, 0.9));
    cJSON_AddNumberToObject(to, "p99_ns", (double)sl_histogram_quantile(h, 0.99));
    cJSON_AddNumberToObject(to, "p999_ns", (double)sl_histogram_quantile(h, 0.999));
    cJSON_AddNumberToObject(to, "max_ns", (double)(h->count != 0 ? h->max : 0));
}
