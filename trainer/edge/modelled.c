/* edge.compute_gflops: how long a gang takes the edge node that the experiment describes. */
#include "trainer/edge/edge.h"

#include "trainer/plan/cost.h"

#include <errno.h>
#include <time.h>

struct sl_cost_shape edge_cost_shape(const struct edge *e)
{
    const struct sl_model_config *m = e->shape;

    return (struct sl_cost_shape){.d_model = m->d_model,
        .n_heads = m->n_heads,
        .n_kv_heads = m->n_kv_heads,
        .head_dim = m->head_dim,
        .d_ff = m->d_ff,
        .vocab = m->vocab,
        .gated_mlp = m->family == SL_FAMILY_LLAMA};
}

/* Sequences of one entry layer lie together in a batch: the rows present at a block are all those before. */
static double pass_s(void *app, const struct sl_seq *seqs, uint32_t n, bool backward, uint32_t down_to)
{
    const struct edge *e = app;
    const struct sl_model_config *m = e->shape;
    const struct sl_cost_shape shape = edge_cost_shape(e);
    double flop = 0;
    uint64_t rows = 0;

    for (uint32_t i = 0; i < n; i++) {
        double block = backward ? sl_cost_block_backward(&shape, &seqs[i].len, 1)
                                : sl_cost_block_forward(&shape, &seqs[i].len, 1);
        flop += block * (m->n_layers - (seqs[i].enter > down_to ? seqs[i].enter : down_to));
        rows += seqs[i].len;
    }
    flop += sl_cost_head_forward(&shape, rows); /* backward: its input gradients, the same again (rules P2) */
    return flop / (e->x->edge.compute_gflops * 1e9);
}

static void wait(void *app, uint64_t ns)
{
    struct timespec t;
    (void)app;
    clock_gettime(CLOCK_MONOTONIC, &t);
    ns += (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

void edge_model_compute(struct edge *e)
{
    e->modelled = (struct sl_modelled){.pass_s = pass_s, .wait = wait, .app = e};
}
