#include "tests/io/dpdk/processes.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { END_S = 30 };
static char run_dir[64];
static const char *program;

const char *processes_begin(const char *peer_program)
{
    program = peer_program;
    snprintf(run_dir, sizeof(run_dir), "/tmp/sluice-test-XXXXXX"); /* short: a socket's path must fit */
    return mkdtemp(run_dir);
}

void processes_end(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", run_dir);
    if (system(command) != 0)
        fprintf(stderr, "%s stays behind\n", run_dir);
}

static void map_report(struct process *p)
{
    snprintf(p->report_path, sizeof(p->report_path), "%s/report-%s", run_dir, p->role);
    int fd = open(p->report_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(*p->report)) != 0)
        abort();
    p->report = mmap(NULL, sizeof(*p->report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p->report == MAP_FAILED)
        abort();
    close(fd);
}

void process_start(struct process *p, const char *role, const char *give_up_ms)
{
    int pipe_fd[2];
    p->role = role;
    map_report(p);
    if (pipe(pipe_fd) != 0)
        abort();
    p->pid = fork();
    if (p->pid == 0) {
        dup2(pipe_fd[1], STDERR_FILENO);
        close(pipe_fd[0]);
        close(pipe_fd[1]);
        execl(program, program, role, run_dir, p->report_path, give_up_ms, (char *)NULL);
        _exit(127);
    }
    close(pipe_fd[1]);
    fcntl(pipe_fd[0], F_SETFL, O_NONBLOCK);
    p->err_fd = pipe_fd[0];
}

size_t process_stderr(struct process *p, char *out, size_t cap)
{
    ssize_t n = read(p->err_fd, out, cap - 1);
    out[n > 0 ? n : 0] = '\0';
    close(p->err_fd);
    p->err_fd = -1;
    return n > 0 ? (size_t)n : 0;
}

int process_end(struct process *p, int sig)
{
    int status = -1;
    if (sig != 0)
        kill(p->pid, sig);
    double until = now_s() + END_S;
    while (waitpid(p->pid, &status, WNOHANG) == 0) {
        if (now_s() > until)
            kill(p->pid, SIGABRT); /* the status says so */
        sleep_ms(2);
    }
    p->pid = 0;
    munmap(p->report, sizeof(*p->report));
    return status;
}

bool process_runs(const struct process *p)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
