/* Log-linear histogram of non-negative 64-bit values (latencies in ns): 1/128 relative resolution, fixed
 * memory, no allocation per value. Written in HdrHistogram's log format V2, so that its tools read it. One
 * writer; readers may be one value behind. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* HdrHistogram's layout at two significant digits, unit 1: 256 sub-buckets of which the upper 128 serve each
 * further power of two. */
enum {
    SL_HIST_SUB_BITS = 8,
    SL_HIST_HALF = 1 << (SL_HIST_SUB_BITS - 1),
    SL_HIST_BUCKETS = (63 - SL_HIST_SUB_BITS + 2) * SL_HIST_HALF
};
struct sl_histogram {
    uint64_t count, sum, min, max;
    uint64_t bucket[SL_HIST_BUCKETS];
};
void sl_histogram_reset(struct sl_histogram *);
void sl_histogram_record(struct sl_histogram *, uint64_t value);
/* Largest value equivalent to the one at quantile q in [0, 1]; 0 where empty. */
uint64_t sl_histogram_quantile(const struct sl_histogram *, double q);
/* One interval line with tag, start and length in seconds, after the header line where `first`. */
int sl_histogram_log(
    const struct sl_histogram *, FILE *, const char *tag, double start_s, double length_s, int first);
