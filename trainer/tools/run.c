#include "trainer/tools/run.h"

#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int sl_window_list_make(const struct sl_input *input, uint32_t seq, bool tails, struct sl_window_list *list)
{
    size_t most = 0;
    for (size_t s = 0; s < input->n_streams; s++)
        most += sl_windows(&input->streams[s], seq) + 1;
    *list = (struct sl_window_list){
        .at = malloc((most + 1) * sizeof *list->at), .len = malloc((most + 1) * sizeof *list->len)};
    if (!list->at || !list->len) {
        sl_window_list_free(list);
        return -ENOMEM;
    }
    for (size_t s = 0; s < input->n_streams; s++) {
        const struct sl_stream *stream = &input->streams[s];
        size_t full = sl_windows(stream, seq);
        for (size_t i = 0; i < full; i++) {
            list->at[list->n] = sl_window(stream, seq, i);
            list->len[list->n++] = seq;
        }
        size_t rest = stream->n - full * seq;
        if (tails && rest >= 2) {
            list->at[list->n] = stream->ids + full * seq;
            list->len[list->n++] = (uint32_t)rest;
        }
    }
    return 0;
}

void sl_window_list_free(struct sl_window_list *list)
{
    free(list->at);
    free(list->len);
    *list = (struct sl_window_list){0};
}

struct sl_seq sl_seq_of_window(const uint32_t *window, uint32_t tokens)
{
    return (struct sl_seq){.len = tokens - 1, .ids = window, .targets = window + 1};
}

const char *sl_schedule_check(const char *name, struct sl_lr_schedule *s)
{
    if (sl_schedule_parse(name, &s->kind))
        return "--schedule is constant, linear or cosine";
    return s->warmup > s->steps ? "--warmup is longer than --steps" : sl_lr_schedule_check(s);
}

void sl_gemm_announce(uint32_t threads)
{
    sl_gemm_threads((int)threads);
    fprintf(
        stderr, "GEMM: OpenBLAS %s, %u thread%s\n", sl_gemm_kernel_name(), threads, threads == 1 ? "" : "s");
}
