/* The order in which pre-training reads its windows: every pass over the text cuts the streams at another
 * offset and shuffles the windows; both are functions of (seed, pass) alone. */
#pragma once

#include "trainer/tools/run.h"

struct sl_order {
    const struct sl_input *input;
    struct sl_window_list windows; /* of this pass, shuffled */
    uint32_t seq, pass;
    uint64_t seed;
    size_t next;
};

/* -EINVAL with a line in err: there is not one full window at every offset. The input outlives the order. */
int sl_order_create(
    const struct sl_input *, uint32_t seq, uint64_t seed, struct sl_order *, char *err, size_t err_cap);
/* NULL: out of memory. */
const uint32_t *sl_order_next(struct sl_order *);
void sl_order_free(struct sl_order *);
