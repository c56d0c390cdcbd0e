/* Either end of a memif link is killed, at any moment, again and again; the other lives on, takes the new one
 * in, and datagrams flow both ways. SLUICE_KILLS says how often (default 20).
 *
 * Round i: the victim is the server in every other round; SIGKILL twice, then SIGINT twice; the moment is
 * from a fixed generator, in half of the rounds counted from the start of the process (so that it falls into
 * the start and the connecting too). */
#include "tests/io/dpdk/processes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { GIVE_UP_S = 60, STEP_MS = 2 };

static uint64_t rng = 0x9e3779b97f4a7c15u;

static unsigned draw(unsigned below)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % below;
}

static uint64_t get(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* Until both have received something new, or one is dead. */
static void flow(const struct process *a, const struct process *b)
{
    uint64_t from_a = get(&a->report->rx), from_b = get(&b->report->rx);
    double until = now_s() + GIVE_UP_S;
    while (get(&a->report->rx) == from_a || get(&b->report->rx) == from_b) {
        if (!process_runs(a) || !process_runs(b))
            fail_msg("the %s died", process_runs(a) ? b->role : a->role);
        if (now_s() > until)
            fail_msg("no traffic: server link %d, client link %d", (int)get(&a->report->link_up),
                (int)get(&b->report->link_up));
        sleep_ms(STEP_MS);
    }
}

static void kill__either_end(void **state)
{
    const char *n = getenv("SLUICE_KILLS");
    unsigned kills = n != NULL ? (unsigned)atoi(n) : 20;
    struct process end[2];
    uint64_t bad = 0, passes = 0, pass_ns = 0, pass_max = 0;
    double started = now_s(), slowest = 0;
    process_start(&end[0], "server", NULL);
    process_start(&end[1], "client", NULL);
    flow(&end[0], &end[1]);
    for (unsigned i = 0; i < kills; i++) {
        struct process *victim = &end[i % 2], *survivor = &end[1 - i % 2];
        int sig = i / 2 % 2 == 0 ? SIGKILL : SIGINT;
        if (i % 4 < 2) {
            sleep_ms(draw(60));
        } else { /* a second kill, of one that has just been started */
            process_end(victim, sig);
            process_start(victim, victim->role, NULL);
            sleep_ms(draw(400));
        }
        bad += get(&victim->report->bad);
        int status = process_end(victim, sig);
        if (sig == SIGINT && WIFSIGNALED(status) && WTERMSIG(status) != SIGINT)
            fail_msg("kill %u: the %s ended by signal %d", i, victim->role, WTERMSIG(status));
        double from = now_s();
        process_start(victim, victim->role, NULL);
        flow(survivor, victim);
        slowest = now_s() - from > slowest ? now_s() - from : slowest;
        assert_true(process_runs(survivor));
    }
    for (unsigned e = 0; e < 2; e++) {
        struct peer_report *r = end[e].report;
        bad += get(&r->bad);
        passes += get(&r->passes);
        pass_ns += get(&r->pass_ns);
        pass_max = get(&r->pass_max_ns) > pass_max ? get(&r->pass_max_ns) : pass_max;
        assert_int_equal(process_end(&end[e], SIGINT), 0);
    }
    assert_int_equal(bad, 0);
    print_message("%u kills in %.1f s; back in at most %.2f s; passes: mean %.0f us, max %.0f us\n", kills,
        now_s() - started, slowest, passes > 0 ? (double)pass_ns / 1e3 / (double)passes : 0,
        (double)pass_max / 1e3);
}

static int begin(void **state)
{
    return processes_begin(getenv("SLUICE_PEER")) == NULL;
}

static int end(void **state)
{
    processes_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kill__either_end)};
    return cmocka_run_group_tests(tests, begin, end);
}
