/* What every long training does: windows into batches, progress and Ctrl-C, a learning rate. */
#pragma once

#include "trainer/model/half.h"
#include "trainer/model/optim.h"
#include "trainer/tools/input.h"
#include "trainer/tools/progress.h"

#include <stdio.h>

/* Windows of `seq` tokens of all streams, one stream after another; with `tails`, also the last, shorter
 * window of a stream where it has at least 2 tokens. */
struct sl_window_list {
    const uint32_t **at;
    uint32_t *len;
    size_t n;
};
int sl_window_list_make(const struct sl_input *, uint32_t seq, bool tails, struct sl_window_list *);
void sl_window_list_free(struct sl_window_list *);

/* A window as a sequence of the whole model: T tokens are T-1 rows (rules L1). */
struct sl_seq sl_seq_of_window(const uint32_t *window, uint32_t tokens);

/* Reads --schedule into the schedule; what is wrong with it, or NULL. */
const char *sl_schedule_check(const char *name, struct sl_lr_schedule *);

/* Thread count of all kernels, and a line on stderr that names its kernel (rules L14). */
void sl_gemm_announce(uint32_t threads);
