#include "trainer/tools/progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

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

static char wait_line[128];
static size_t wait_line_len;

static void on_alarm(int number)
{
    /* What cannot be told is not told. */
    ssize_t written = write(STDERR_FILENO, wait_line, wait_line_len);
    (void)written;
}

static void wait_timer(time_t first_s, time_t then_s)
{
    struct itimerval timer = {.it_value.tv_sec = first_s, .it_interval.tv_sec = then_s};

    setitimer(ITIMER_REAL, &timer, NULL);
}

void sl_progress_wait(const char *what)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};

    snprintf(wait_line, sizeof wait_line, "%.64s: still at work (Ctrl-C ends it)\n", what);
    wait_line_len = strlen(wait_line);
    sigaction(SIGALRM, &action, NULL);
    wait_timer(2, 30);
}

void sl_progress_waited(void)
{
    wait_timer(0, 0);
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
