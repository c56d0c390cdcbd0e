#include "tests/tools/program.h"

#include "tests/data/scratch.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORDS = 64, MAX_LINE = 8192 };

static void split(char *line, char **words)
{
    int n = 0;
    for (char *p = line; *p && n < MAX_WORDS - 1;) {
        while (*p == ' ')
            p++;
        if (!*p)
            break;
        char stop = *p == '\'' ? '\'' : ' ';
        p += stop == '\'';
        words[n++] = p;
        while (*p && *p != stop)
            p++;
        if (*p)
            *p++ = '\0';
    }
    words[n] = NULL;
}

static char *read_back(FILE *file)
{
    long size = (fseek(file, 0, SEEK_END), ftell(file));
    char *text = calloc((size_t)size + 1, 1);
    assert_non_null(text);
    rewind(file);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    fclose(file);
    return text;
}

/* Not by time: on a busy host the program may not even have begun. pread leaves the offset to the program. */
static void wait_for_text(FILE *file, const char *text, pid_t pid)
{
    char seen[4096];
    ssize_t n;
    siginfo_t ended = {0};
    do {
        usleep(20000);
        n = pread(fileno(file), seen, sizeof seen - 1, 0);
        assert_true(n >= 0);
        seen[n] = '\0';
    } while (!strstr(seen, text) && waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
             ended.si_pid == 0);
}

struct outcome program_run(const char *interrupt_at, const char *format, ...)
{
    char line[MAX_LINE], *words[MAX_WORDS + 1] = {getenv("SLUICE_TRAIN")};
    va_list args;
    va_start(args, format);
    assert_in_range(vsnprintf(line, sizeof line, format, args), 0, sizeof line - 1);
    va_end(args);
    assert_non_null(words[0]);
    split(line, words + 1);
    FILE *out = tmpfile(), *err = tmpfile();
    assert_true(out && err);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fileno(out), STDOUT_FILENO);
        dup2(fileno(err), STDERR_FILENO);
        execv(words[0], words);
        _exit(126);
    }
    assert_true(pid > 0);
    if (interrupt_at) {
        wait_for_text(err, interrupt_at, pid);
        kill(pid, SIGINT);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return (struct outcome){.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
        .out = read_back(out),
        .err = read_back(err)};
}

void program_free(struct outcome *o)
{
    free(o->out);
    free(o->err);
}

size_t program_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}
