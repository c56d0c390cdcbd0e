#include "trainer/tools/order.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdlib.h>

/* Fisher-Yates; a 64-bit draw modulo n is uniform to within n/2^64. */
static void shuffle(struct sl_window_list *windows, uint64_t key)
{
    for (size_t i = windows->n; i > 1; i--) {
        size_t j = sl_rng_u64(key, i) % i;
        const uint32_t *swap = windows->at[i - 1];
        windows->at[i - 1] = windows->at[j];
        windows->at[j] = swap;
    }
}

/* The first pass starts at the streams' beginnings. */
static int start_pass(struct sl_order *order)
{
    uint64_t key = sl_rng_key(order->seed + ((uint64_t)order->pass << 32), "order");
    size_t shift = order->pass ? sl_rng_u64(key, 0) % order->seq : 0;
    struct sl_input shifted = {.n_streams = order->input->n_streams};
    shifted.streams = calloc(shifted.n_streams + 1, sizeof *shifted.streams);
    if (!shifted.streams)
        return -ENOMEM;
    for (size_t s = 0; s < shifted.n_streams; s++) {
        const struct sl_stream *stream = &order->input->streams[s];
        size_t skip = shift < stream->n ? shift : stream->n;
        shifted.streams[s] = (struct sl_stream){.ids = stream->ids + skip, .n = stream->n - skip};
    }
    sl_window_list_free(&order->windows);
    int rc = sl_window_list_make(&shifted, order->seq, false, &order->windows);
    free(shifted.streams);
    if (!rc)
        shuffle(&order->windows, key);
    order->next = 0;
    return rc;
}

int sl_order_create(const struct sl_input *input, uint32_t seq, uint64_t seed, struct sl_order *order,
    char *err, size_t err_cap)
{
    size_t longest = 0;
    for (size_t s = 0; s < input->n_streams; s++)
        longest = input->streams[s].n > longest ? input->streams[s].n : longest;
    *order = (struct sl_order){.input = input, .seq = seq, .seed = seed};
    if (longest < 2 * (size_t)seq) {
        snprintf(err, err_cap,
            "too little text: %zu tokens, and windows of %u need twice as many (lower --seq)", longest, seq);
        return -EINVAL;
    }
    return start_pass(order);
}

const uint32_t *sl_order_next(struct sl_order *order)
{
    if (order->next == order->windows.n) {
        order->pass++;
        if (start_pass(order))
            return NULL;
    }
    return order->windows.at[order->next++];
}

void sl_order_free(struct sl_order *order)
{
    sl_window_list_free(&order->windows);
}
