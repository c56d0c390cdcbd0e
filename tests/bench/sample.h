/* A set of measured values, kept whole: exact quantiles. For millions of values use sl_histogram
 * (trainer/experiment/histogram.h), 1/128 exact; both print under the same names. */
#pragma once

#include "trainer/experiment/histogram.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

struct bench_sample {
    double *v;
    size_t n, cap;
    bool sorted;
};

int bench_sample_init(struct bench_sample *, size_t cap); /* -ENOMEM */
void bench_sample_free(struct bench_sample *);
void bench_sample_clear(struct bench_sample *);
void bench_sample_add(struct bench_sample *, double); /* allocates nothing: what is beyond cap is left out */
double bench_sample_quantile(struct bench_sample *, double q); /* nearest rank; 0 where empty */
double bench_sample_median(struct bench_sample *);
/* {n, median, p10, p90, p99, p999, min, max} */
cJSON *bench_sample_json(struct bench_sample *);

/* Adds p50_ns, p90_ns, p99_ns, p999_ns, max_ns and count to an object. */
void bench_histogram_add(cJSON *to, const struct sl_histogram *);
