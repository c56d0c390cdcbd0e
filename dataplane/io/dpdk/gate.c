#include "dataplane/io/dpdk/gate.h"
#include "dataplane/io/lcore/clock.h"

#include <errno.h>
#include <poll.h>
#include <rte_alarm.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* How long the interrupt thread stays parked. A pass takes 0.1 ms on an idle host: every 20 ms it was what
 * made the latency's p99. So it comes once a second, but as soon as 20 ms after the last one when the peer
 * has said something or is gone (gate->watch_fd). While the link is down it looks for a peer every DOWN_US.
 */
enum {
    PARKED_MIN_MS = 20,
    PARKED_MAX_MS = 1000,
    DOWN_US = 1000,
    ANSWER_US = 50,
    AGAIN_US = 100,
    UNPARKED_US = 100000,
    LAST_READ_US = 20000, /* for the peer to read what lies in its ring: `end` takes the memory away */
};
enum { STOP_WITHIN_MS = 2000 };

static void sleep_us(unsigned us)
{
    struct timespec t = {.tv_nsec = (long)us * 1000};
    nanosleep(&t, NULL);
}

static bool stopping(struct sl_gate *g)
{
    return __atomic_load_n(&g->stop, __ATOMIC_RELAXED) != 0;
}

static void count_pass(struct sl_gate *g)
{
    uint64_t took = sl_clock_ns() - g->pass_from_ns;
    __atomic_store_n(&g->passes, g->passes + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&g->pass_ns, g->pass_ns + took, __ATOMIC_RELAXED);
    if (took > g->pass_max_ns)
        __atomic_store_n(&g->pass_max_ns, took, __ATOMIC_RELAXED);
}

/* poll(2) skips a negative descriptor. */
static void rest(const struct sl_gate *g)
{
    struct pollfd on[] = {{.fd = g->stop_fd, .events = POLLIN}, {.fd = g->watch_fd, .events = POLLIN}};
    poll(on, 1, PARKED_MIN_MS);
    poll(on, 2, PARKED_MAX_MS - PARKED_MIN_MS);
}

static bool granted(const struct sl_gate *g)
{
    for (unsigned i = 0; i < g->n_users; i++) {
        uint32_t word = __atomic_load_n(&g->user[i].word, __ATOMIC_SEQ_CST);
        if (word != g->state && word != SL_GATE_AWAY)
            return false;
    }
    return true;
}

static void park(struct sl_gate *g)
{
    if (g->pass_from_ns != 0)
        count_pass(g);
    __atomic_store_n(&g->state, g->state + 1, __ATOMIC_RELEASE);
    rest(g);
    __atomic_store_n(&g->state, g->state + 1, __ATOMIC_SEQ_CST);
    while (!granted(g) && !stopping(g))
        sleep_us(ANSWER_US);
    g->pass_from_ns = sl_clock_ns();
}

/* The gate's memory may be gone once `shut` is seen. */
static void shut(struct sl_gate *g)
{
    bool parks = g->parks;
    if (parks)
        sleep_us(LAST_READ_US);
    g->end(g->ctx);
    __atomic_store_n(&g->shut, 1, __ATOMIC_RELEASE);
    while (parks)
        pause();
}

/* On the interrupt thread. What else waits on its epoll set is handled after this returns and before it is
 * called again. */
static void on_alarm(void *arg)
{
    struct sl_gate *g = arg;
    uint64_t again_us = UNPARKED_US;
    if (stopping(g)) {
        shut(g);
        return;
    }
    bool up = g->work(g->ctx);
    if (g->parks && up) {
        park(g);
        again_us = AGAIN_US;
    } else if (g->parks) {
        g->pass_from_ns = 0;
        again_us = DOWN_US;
    }
    rte_eal_alarm_set(stopping(g) ? AGAIN_US : again_us, on_alarm, g);
}

int sl_gate_start(
    struct sl_gate *g, unsigned n_users, bool parks, bool (*work)(void *), void (*end)(void *), void *ctx)
{
    *g = (struct sl_gate){.state = parks ? 1 : 0,
        .n_users = n_users,
        .parks = parks,
        .work = work,
        .end = end,
        .ctx = ctx,
        .watch_fd = -1};
    for (unsigned i = 0; i < n_users; i++)
        g->user[i].word = SL_GATE_AWAY;
    g->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int ret = g->stop_fd < 0 ? -errno : rte_eal_alarm_set(AGAIN_US, on_alarm, g);
    if (ret != 0) {
        g->work = NULL; /* never started: nothing to stop */
        if (g->stop_fd >= 0)
            close(g->stop_fd);
    }
    return ret;
}

bool sl_gate_stop(struct sl_gate *g)
{
    uint64_t until = sl_clock_ns() + (uint64_t)STOP_WITHIN_MS * 1000000;
    __atomic_store_n(&g->stop, 1, __ATOMIC_RELAXED);
    eventfd_write(g->stop_fd, 1);
    while (__atomic_load_n(&g->shut, __ATOMIC_ACQUIRE) == 0) {
        if (sl_clock_ns() > until)
            return false;
        sleep_us(ANSWER_US);
    }
    close(g->stop_fd);
    return true;
}
