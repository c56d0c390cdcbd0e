/* The arithmetic of uneven shards: mixtures, sizes, and what each phone gets of each group of records. Pure
 * functions; every draw is a function of (key, its number). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The logarithm of a Gamma(shape, 1) variate: Marsaglia and Tsang, A simple method for generating gamma
 * variables (2000); below shape 1 by their section 6, in logarithms, since a shape of 0.01 gives 1e-100. Draw
 * i of a key has a stream of its own for its tries. */
double sl_gamma_log(uint64_t key, uint64_t i, double shape);

/* A phone's mixture over k groups: Dirichlet(alpha * k * share), `share` being the groups' shares of the
 * text: its mean is the text itself, and with equal groups it is the symmetric Dirichlet(alpha). An infinite
 * alpha gives the shares. k counts groups with a share; the others get 0. out sums to 1. */
void sl_dirichlet_draw(
    uint64_t key, uint32_t phone, double alpha, const double *share, uint32_t k, double *out);

/* Sizes of n shards, together `total`: log-normal (sigma of the logarithm; all medians alike), where one
 * would be under `least` that much, and the others smaller in proportion. False: n * least is more than
 * total. */
bool sl_shard_sizes(uint64_t key, uint32_t n, double sigma, double total, double least, double *size);

/* Makes a table [n][k] of mixtures one of bytes: iterative proportional fitting (Deming and Stephan 1940) to
 * rows of those sizes and columns of those totals. Columns hold in the end to rounding; rows as nearly as
 * columns allow. */
void sl_shard_fit(double *table, uint32_t n, uint32_t k, const double *row, const double *column);
