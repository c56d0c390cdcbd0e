#include "tests/bench/watch.h"

#include "tests/bench/machine.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const uint64_t quiet_ns = 2000000000, step_ns = 10000000;
static volatile sig_atomic_t stopping;
static uint64_t began_ns;
static bool shown;

static void on_signal(int sig)
{
    if (stopping)
        signal(sig, SIG_DFL);
    stopping = 1;
}

void bench_watch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    began_ns = bench_now_ns();
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool bench_stopping(void)
{
    return stopping != 0;
}

void bench_progress(const char *format, ...)
{
    if (bench_now_ns() - began_ns < quiet_ns)
        return;
    bool terminal = isatty(STDERR_FILENO) != 0;
    va_list args;
    va_start(args, format);
    if (terminal)
        fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    if (!terminal)
        fputc('\n', stderr);
    fflush(stderr);
    shown = terminal;
}

void bench_progress_end(void)
{
    if (shown)
        fputs("\r\033[K", stderr);
    shown = false;
}

bool bench_sleep(double seconds)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9), now;
    while (!stopping && (now = bench_now_ns()) < until) {
        uint64_t left = until - now < step_ns ? until - now : step_ns;
        nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
    }
    return stopping == 0;
}
