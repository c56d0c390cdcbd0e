/* What the machine's matrix products reach at best: the denominator of `fraction_of_gemm_peak`. Large plain
 * products of OpenBLAS (f32) and oneDNN (f32, bf16 with f32 results; weights packed beforehand), through the
 * libraries' own interfaces and not through ours. Call bench_peak_round now and then while measuring
 * something else: a machine that changes its pace changes both. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>

struct bench_peak;

/* -ENOMEM; -ENOTSUP: bf16 on a CPU without it. */
int bench_peak_create(bool bf16, int threads, struct bench_peak **);
void bench_peak_free(struct bench_peak *);
void bench_peak_round(struct bench_peak *);               /* every product once */
enum bench_clock { BENCH_WALL, BENCH_CPU, BENCH_CLOCKS }; /* CPU: the process's time, whoever interrupts it */
/* GFLOP/s of the library and shape whose median over all rounds is best. */
double bench_peak_gflops(const struct bench_peak *, enum bench_clock);
cJSON *bench_peak_json(const struct bench_peak *);
/* Why products on this host do not run as they could (rules L14); NULL: nothing found. */
const char *bench_peak_crippled(void);
