#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/lcore/clock.h"

#include "dataplane/io/lcore/command.h"
#include "dataplane/io/lcore/cycles.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    RX_BURST = 64,
    TX_BURST = 32,
    CACHE_LINE = 64,
    TX_BURSTS_A_TURN = 4, /* so that a long queue does not keep the port from being read */
    COMMANDS_A_TURN = 4,
    QUIET_NS = 50000,    /* adaptive: after so long without work ... */
    NAP_NS = 100000,     /* ... it sleeps at most so long (a datagram waits half of it), */
    SLEEP_NS = 20000000, /* or so long where the port can wake it */
};

struct sl_lcore {
    struct sl_lcore_config c;
    struct sl_commands commands;
    /* Room for what the endpoint will send: room[room_at..TX_BURST), taken from the port ahead when all is
     * used, and kept from turn to turn. */
    struct sl_dgram room[TX_BURST];
    unsigned room_at;
    /* What came in this turn: given back after the answers have left. */
    struct sl_dgram came[RX_BURST];
    unsigned n_came;
    /* Atomic counters, written by the thread; on cache lines that no other lcore writes. */
    struct sl_lcore_stats stats __attribute__((aligned(CACHE_LINE)));
    uint32_t drowsy; /* atomic: asleep, or about to be after one more turn */
    uint32_t stop __attribute__((aligned(CACHE_LINE))); /* atomic */

    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool answered;
    int status;
    pid_t tid;
    char err[160];
};

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* Through the vDSO: the kernel's own reading of the time stamp counter, without a syscall. */
/* ---- a turn ---- */

static void carry_out(struct sl_lcore *l, struct sl_command *command, uint64_t now)
{
    struct sl_lcore_confirm *a = &command->confirm;
    const struct sl_lcore_ops *ops = l->c.ops;
    if (!a->closed) {
        a->status = sl_endpoint_open(l->c.endpoint, &command->config, now);
        if (a->status == 0 && ops != NULL && ops->opened != NULL)
            ops->opened(l->c.app, a->session, a->user);
    } else if (sl_endpoint_is_open(l->c.endpoint, a->session)) {
        sl_endpoint_close(l->c.endpoint, a->session);
        if (ops != NULL && ops->closed != NULL)
            ops->closed(l->c.app, a->session);
    } else {
        a->status = -ENOENT;
    }
    sl_commands_confirm(&l->commands, command);
}

static unsigned obey(struct sl_lcore *l, uint64_t now)
{
    unsigned n = 0;
    struct sl_command *command;
    while (n < COMMANDS_A_TURN && (command = sl_commands_take(&l->commands)) != NULL) {
        carry_out(l, command, now);
        n++;
    }
    return n;
}

static void deliver(struct sl_lcore *l, struct sl_dgram *d, unsigned n, uint64_t now)
{
    struct sl_rx rx[RX_BURST];
    for (unsigned i = 0; i < n; i++) {
        rx[i].pkt = d[i].data;
        rx[i].len = d[i].len;
        rx[i].ecn = d[i].ecn;
        rx[i].local = d[i].dst;
        rx[i].remote = d[i].src;
    }
    sl_rx_burst(l->c.endpoint, rx, n, now);
    l->n_came = n;
}

static unsigned receive(struct sl_lcore *l, uint64_t now)
{
    struct sl_dgram *d = l->came;
    unsigned n = sl_queue_rx(l->c.queue, d, RX_BURST);
    count(&l->stats.packets_rx, n);
    const struct sl_emulator_ops *em = l->c.emulator;
    if (em == NULL) {
        if (n > 0)
            deliver(l, d, n, now);
        return n;
    }
    if (n > 0)
        em->down(l->c.emulator_ctx, d, n, now);
    unsigned arrived = em->down_ready(l->c.emulator_ctx, d, RX_BURST, now);
    if (arrived > 0)
        deliver(l, d, arrived, now);
    return n + arrived;
}

static void put_out(struct sl_lcore *l, struct sl_dgram *d, unsigned n, uint64_t now)
{
    if (l->c.emulator != NULL)
        l->c.emulator->up(l->c.emulator_ctx, d, n, now);
    else
        count(&l->stats.packets_tx, sl_queue_tx(l->c.queue, d, n));
}

/* One burst from the endpoint, which runs its timers too: so it is asked even where the port has no room.
 * Returns how many were sent; *more: there was room for no more. */
static unsigned fill(struct sl_lcore *l, uint64_t now, bool *more)
{
    struct sl_tx tx[TX_BURST];
    if (l->room_at == TX_BURST)
        l->room_at -= sl_queue_alloc(l->c.queue, l->room, TX_BURST);
    struct sl_dgram *room = l->room + l->room_at;
    unsigned n_room = TX_BURST - l->room_at;
    for (unsigned i = 0; i < n_room; i++) {
        tx[i].buf = room[i].data;
        tx[i].cap = room[i].len;
    }
    unsigned n = sl_tx_burst(l->c.endpoint, tx, n_room, now);
    for (unsigned i = 0; i < n; i++) {
        room[i].len = tx[i].len;
        room[i].ecn = tx[i].ecn;
        room[i].src = tx[i].local;
        room[i].dst = tx[i].remote;
    }
    l->room_at += n;
    *more = n > 0 && n == n_room;
    if (n > 0)
        put_out(l, room, n, now);
    return n;
}

static unsigned transmit(struct sl_lcore *l, uint64_t now)
{
    bool rests = sl_queue_rests(
        l->c.queue); /* then nothing leaves in this turn; an emulator still takes what is due */
    const struct sl_emulator_ops *em = l->c.emulator;
    unsigned work = 0;
    if (!rests || em != NULL) {
        bool more = true;
        for (unsigned i = 0; i < TX_BURSTS_A_TURN && more && sl_next_deadline(l->c.endpoint) <= now; i++)
            work += fill(l, now, &more);
    }
    if (em == NULL || rests)
        return work;
    for (unsigned i = 0; i < TX_BURSTS_A_TURN; i++) {
        struct sl_dgram d[TX_BURST];
        unsigned n = em->up_ready(l->c.emulator_ctx, d, TX_BURST, now);
        if (n > 0)
            count(&l->stats.packets_tx, sl_queue_tx(l->c.queue, d, n));
        work += n;
        if (n < TX_BURST)
            break;
    }
    return work;
}

uint64_t sl_lcore_deadline(const struct sl_lcore *l)
{
    uint64_t at = sl_next_deadline(l->c.endpoint);
    const struct sl_lcore_ops *ops = l->c.ops;
    const struct sl_emulator_ops *em = l->c.emulator;
    if (ops != NULL && ops->deadline != NULL) {
        uint64_t t = ops->deadline(l->c.app);
        at = t < at ? t : at;
    }
    if (em != NULL && em->deadline != NULL) {
        uint64_t t = em->deadline(l->c.emulator_ctx);
        at = t < at ? t : at;
    }
    return at;
}

static void sleep_until(struct sl_lcore *l, uint64_t at, uint64_t now)
{
    uint64_t most = l->c.queue->wakeable ? SLEEP_NS : NAP_NS;
    if (at <= now)
        return;
    sl_queue_sleep(l->c.queue, at - now < most ? at - now : most);
    count(&l->stats.sleeps, 1);
}

/* After a quiet turn. What was put on a ring before its writer could see `drowsy` is found by the turn
 * between setting it and sleeping; whoever comes later sees it and wakes the queue. */
static void rest(struct sl_lcore *l, uint64_t now)
{
    if (__atomic_load_n(&l->drowsy, __ATOMIC_RELAXED) != 0) {
        sleep_until(l, sl_lcore_deadline(l), now);
        return;
    }
    __atomic_store_n(&l->drowsy, 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void sl_lcore_wake(struct sl_lcore *l)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&l->drowsy, __ATOMIC_RELAXED) != 0)
        sl_queue_wake(l->c.queue);
}

unsigned sl_lcore_turn(struct sl_lcore *l, uint64_t now)
{
    unsigned work = obey(l, now) + receive(l, now);
    if (l->c.ops != NULL && l->c.ops->poll != NULL)
        l->c.ops->poll(l->c.app, now);
    work += transmit(l, now);
    if (l->n_came > 0) {
        sl_queue_free(l->c.queue, l->came, l->n_came);
        l->n_came = 0;
    }
    return work;
}

static void loop(struct sl_lcore *l)
{
    uint64_t worked_ns = sl_clock_ns(), then = sl_cycles();
    while (__atomic_load_n(&l->stop, __ATOMIC_RELAXED) == 0) {
        uint64_t now = sl_clock_ns();
        unsigned work = sl_lcore_turn(l, now);
        uint64_t cycles = sl_cycles();
        if (work > 0) {
            worked_ns = now;
            __atomic_store_n(&l->drowsy, 0, __ATOMIC_RELAXED);
            count(&l->stats.polls_busy, 1);
            count(&l->stats.cycles_busy, cycles - then);
        } else {
            count(&l->stats.polls_empty, 1);
        }
        if (work == 0 && l->c.poll == SL_POLL_ADAPTIVE && now - worked_ns >= QUIET_NS)
            rest(l, now);
        uint64_t end = work == 0 ? sl_cycles() : cycles;
        count(&l->stats.cycles_total, end - then);
        then = end;
    }
}

/* ---- the thread ---- */

/* Sets the affinity and reads it back (rules T17). */
static int settle(struct sl_lcore *l)
{
    cpu_set_t set;
    if (l->c.cpu < 0)
        return 0;
    CPU_ZERO(&set);
    if (l->c.cpu < CPU_SETSIZE)
        CPU_SET(l->c.cpu, &set);
    int ret = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (ret == 0 &&
        (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) != 1 || sched_getcpu() != l->c.cpu))
        ret = EINVAL;
    if (ret != 0)
        snprintf(l->err, sizeof(l->err),
            "CPU %d is not one that this process may run on (taskset -p %d shows them): name another",
            l->c.cpu, (int)getpid());
    return -ret;
}

static int prepare(struct sl_lcore *l)
{
    l->tid = gettid();
    pthread_setname_np(pthread_self(), "sl-lcore");
    prctl(PR_SET_TIMERSLACK, 1UL); /* else the kernel adds 50 us to a sleep of 100 */
    int ret = settle(l);
    if (ret != 0)
        return ret;
    return sl_queue_enter(l->c.queue, l->err, sizeof(l->err));
}

static void *lcore_main(void *arg)
{
    struct sl_lcore *l = arg;
    int status = prepare(l);
    pthread_mutex_lock(&l->lock);
    l->status = status;
    l->answered = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (status != 0)
        return NULL;
    loop(l);
    sl_queue_free(l->c.queue, l->room + l->room_at, TX_BURST - l->room_at);
    sl_queue_leave(l->c.queue);
    return NULL;
}

static void destroy(struct sl_lcore *l)
{
    sl_commands_free(&l->commands);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int sl_lcore_create(const struct sl_lcore_config *c, struct sl_lcore **out, char *err, size_t err_cap)
{
    struct sl_lcore *l = aligned_alloc(CACHE_LINE, sizeof(*l));
    if (l != NULL)
        memset(l, 0, sizeof(*l));
    if (l == NULL || sl_commands_create(&l->commands) != 0) {
        free(l);
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    l->c = *c;
    l->room_at = TX_BURST;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    *out = l;
    return 0;
}

int sl_lcore_start(const struct sl_lcore_config *c, struct sl_lcore **out, char *err, size_t err_cap)
{
    struct sl_lcore *l;
    int ret = sl_lcore_create(c, &l, err, err_cap);
    if (ret != 0)
        return ret;
    ret = -pthread_create(&l->thread, NULL, lcore_main, l);
    if (ret != 0) {
        snprintf(err, err_cap, "cannot start the data lcore's thread: %s", strerror(-ret));
        destroy(l);
        return ret;
    }
    pthread_mutex_lock(&l->lock);
    while (!l->answered)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    if (l->status != 0) {
        ret = l->status;
        pthread_join(l->thread, NULL);
        snprintf(err, err_cap, "data lcore: %s", l->err);
        destroy(l);
        return ret;
    }
    l->threaded = true;
    *out = l;
    return 0;
}

void sl_lcore_stop(struct sl_lcore *l)
{
    if (!l->threaded) {
        sl_queue_free(l->c.queue, l->room + l->room_at, TX_BURST - l->room_at);
        destroy(l);
        return;
    }
    __atomic_store_n(&l->stop, 1, __ATOMIC_RELAXED);
    sl_lcore_wake(l);
    pthread_join(l->thread, NULL);
    destroy(l);
}

int sl_lcore_open_session(struct sl_lcore *l, const struct sl_session_config *c, uint64_t user)
{
    int ret = sl_commands_send(&l->commands, c, sl_session_id_handle(c->local_id), false, user);
    sl_lcore_wake(l);
    return ret;
}

int sl_lcore_close_session(struct sl_lcore *l, uint32_t session)
{
    int ret = sl_commands_send(&l->commands, NULL, session, true, 0);
    sl_lcore_wake(l);
    return ret;
}

bool sl_lcore_confirmed(struct sl_lcore *l, struct sl_lcore_confirm *out)
{
    return sl_commands_answer(&l->commands, out);
}

bool sl_lcore_has_confirmed(const struct sl_lcore *l)
{
    return sl_ring_spsc_count(l->commands.back) != 0;
}

void sl_lcore_stats(const struct sl_lcore *l, struct sl_lcore_stats *out)
{
    const uint64_t *from = &l->stats.polls_empty;
    uint64_t *to = &out->polls_empty;
    for (size_t i = 0; i < offsetof(struct sl_lcore_stats, steer) / sizeof(uint64_t); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    sl_queue_steering(l->c.queue, &out->steer);
}

void sl_lcore_describe(const struct sl_lcore *l, char *text, size_t cap)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(l->tid, sizeof(set), &set);
    size_t n = (size_t)snprintf(text, cap, "data lcore: thread %d on CPU", (int)l->tid);
    char before = ' ';
    for (int cpu = 0; cpu < CPU_SETSIZE && n < cap; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        n += (size_t)snprintf(text + n, cap - n, "%c%d", before, cpu);
        before = ',';
    }
}
