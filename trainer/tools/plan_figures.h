/* The published comparisons (arXiv 2409.20247, Figures 2 to 5), and again where the choice is open. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes figures.csv and convergence.csv into an existing directory, with progress on stderr. -EINTR after
 * Ctrl-C (sl_interrupt_catch), another -errno of a file that cannot be written, -ENOMEM; err says which and
 * what to do. */
int sl_plan_figures(const char *dir, uint32_t seeds, char *err, size_t err_cap);
