/* The published comparisons (arXiv 2409.20247, Figures 2 to 5), and again where the choice is open. */
#pragma once

#include <stdint.h>

/* Writes figures.csv and convergence.csv into an existing directory. -errno. */
int sl_plan_figures(const char *dir, uint32_t seeds);
