/* What the kernels' tests share: data, and the distance to a plain twin computed in double. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* n values of scale · uniform [-1, 1), malloc'ed. */
float *twin_data(const char *name, size_t n, float scale);
/* Fails where ‖ours - twin‖ / ‖twin‖ is above the tolerance. */
void twin_close(const float *ours, const double *twin, size_t n, double tolerance, const char *what);
