/* Small movements and checks of rows [rows, d]. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y = x + bias; x may be NULL (zero). y may be x. */
void sl_rows_bias(const float *x, const float *bias, uint32_t rows, uint32_t d, float *y);
/* sum[d] += column sums. */
void sl_rows_sum(const float *x, uint32_t rows, uint32_t d, float *sum);
/* y[n] += x[n]. */
void sl_add(const float *x, size_t n, float *y);
/* Whether no element is infinite or NaN. */
bool sl_all_finite(const float *x, size_t n);
