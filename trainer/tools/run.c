#include "trainer/tools/run.h"

#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sl_progress_start(struct sl_progress *p, const char *what, const char *unit)
{
    *p = (struct sl_progress){
        .what = what, .unit = unit, .start_ns = now_ns(), .terminal = isatty(STDERR_FILENO)};
}

void sl_progress_show(struct sl_progress *p, size_t done, size_t all, double value, const char *value_name)
{
    const uint64_t quiet_ns = 2000000000u, period_ns = p->terminal ? 200000000u : 30000000000u;
    uint64_t now = now_ns();
    if (now - p->start_ns < quiet_ns || (p->shown && now - p->shown_ns < period_ns))
        return;
    double elapsed = (double)(now - p->start_ns) * 1e-9;
    double left = done ? elapsed / (double)done * (double)(all - done) : 0;
    fprintf(stderr, "%s%s: %zu of %zu %s, %s %.4f, %.0f s gone, %.0f s to go%s",
        p->terminal ? "\r\033[K" : "", p->what, done, all, p->unit, value_name, value, elapsed, left,
        p->terminal ? "" : "\n");
    p->shown = true;
    p->shown_ns = now;
}

void sl_progress_end(struct sl_progress *p)
{
    if (p->shown && p->terminal)
        fputs("\r\033[K", stderr);
}

double sl_progress_seconds(const struct sl_progress *p)
{
    return (double)(now_ns() - p->start_ns) * 1e-9;
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = 1;
}

void sl_interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool sl_interrupted(void)
{
    return interrupted;
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
