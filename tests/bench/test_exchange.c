/* Passing a slot between data lcore and trainer makes no system call and takes no lock, on either side: both
 * threads run under a filter that kills the process at any call at all (so at any lock that waits, too), and
 * the data lcore goes on while the trainer stands still with a slot in hand. */
#include "tests/bench/exchange.h"

#include "dataplane/ingest/ingest.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { HAND_OFFS = 20000, MESSAGES = 300, TURNS_ALONE = 2000, NO_SECCOMP = 77, WRONG = 3, WITHIN_MS = 60000 };

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Kills the process at the thread's next system call, whatever it is. */
static int seal(void)
{
    struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
    struct sock_fprog program = {.len = 1, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : -errno;
}

/* Runs a body in a process of its own; it ends with _exit, since sealed threads cannot end. */
static void in_child(void (*body)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        body();
        _exit(WRONG);
    }
    assert_true(child > 0);
    for (int ms = 0; waitpid(child, &status, WNOHANG) == 0; ms += 5) {
        if (ms > WITHIN_MS)
            kill(child, SIGABRT);
        sleep_ms(5);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SECCOMP) {
        print_message("SKIP: the kernel does not let a thread set a seccomp filter\n");
        skip();
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        fail_msg("a system call was made");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- slots and rings ---- */

static void exchange(void)
{
    static struct bench_exchange x;
    pthread_t lcore, trainer;
    if (bench_exchange_init(&x, 8) != 0)
        _exit(WRONG);
    x.ns_per_cycle = 1;
    x.seal = seal;
    if (pthread_create(&lcore, NULL, bench_exchange_lcore, &x) != 0 ||
        pthread_create(&trainer, NULL, bench_exchange_trainer, &x) != 0)
        _exit(WRONG);
    while (__atomic_load_n(&x.done, __ATOMIC_ACQUIRE) < HAND_OFFS) {
        if (__atomic_load_n(&x.seal_error, __ATOMIC_ACQUIRE) != 0)
            _exit(NO_SECCOMP);
        sleep_ms(1);
    }
    _exit(x.wrong == 0 ? 0 : WRONG);
}

static void exchange__no_system_call(void **state)
{
    in_child(exchange);
}

static void exchange_with_a_call(void)
{
    if (seal() != 0)
        _exit(NO_SECCOMP);
    getppid();
}

/* The filter works: else the other cases prove nothing. */
static void seal__kills_at_a_system_call(void **state)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        exchange_with_a_call();
        _exit(WRONG);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SECCOMP)
        skip();
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* ---- the whole path: datagrams, ingest, rings, trainer ---- */

enum { BURST = 32, UNITS = 22, ROWS = 32, D_MODEL = 192, SLOTS = 4 };

struct path {
    struct sl_endpoint *device, *edge;
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_grid grid;
    uint8_t *tensor, buffer[BURST][2048];
    uint64_t now, step, asked, messages; /* messages: atomic */
    uint32_t granted;
    uint64_t turns, turns_alone; /* atomic; turns while the trainer stood still */
    uint32_t sealed;
    int seal_error; /* atomic */
};

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return ((struct path *)sink)->tensor + (size_t)unit0 * 64;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now)
{
    struct path *p = sink;
    if (f->type == SL_FRAME_GRANT && f->grant.index > p->granted) {
        p->granted = f->grant.index;
        sl_endpoint_send(p->device, 0, f->grant.index, p->grid.n_units, p->now);
    } else if (f->type == SL_FRAME_RESULT && f->result.step > p->step) {
        p->step = f->result.step;
        __atomic_store_n(&p->messages, p->messages + 1, __ATOMIC_RELEASE);
    }
}

static const struct sl_sink_ops device_sink = {.source = source, .done = done, .frame = frame};

static void move(struct path *p, struct sl_endpoint *from, struct sl_endpoint *to)
{
    struct sl_tx tx[BURST];
    struct sl_rx rx[BURST];
    for (unsigned i = 0; i < BURST; i++)
        tx[i] = (struct sl_tx){.buf = p->buffer[i], .cap = 1472};
    unsigned n = sl_tx_burst(from, tx, BURST, p->now);
    for (unsigned i = 0; i < n; i++)
        rx[i] =
            (struct sl_rx){.pkt = tx[i].buf, .len = tx[i].len, .local = tx[i].remote, .remote = tx[i].local};
    sl_rx_burst(to, rx, n, p->now);
}

static bool enter(struct path *p)
{
    int err = seal();
    if (err != 0)
        __atomic_store_n(&p->seal_error, err, __ATOMIC_RELEASE);
    __atomic_fetch_add(&p->sealed, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&p->sealed, __ATOMIC_ACQUIRE) < 2)
        continue;
    return err == 0;
}

static void *lcore_main(void *arg)
{
    struct path *p = arg;
    enter(p);
    for (;;) {
        p->now += 1000; /* no clock: not every kernel reads it without a call */
        if (p->asked == p->step) {
            struct sl_frame f = {.type = SL_FRAME_REQUEST,
                .request = {.step = ++p->asked, .kind = SL_REQUEST_EVAL, .n_seqs = 1}};
            f.request.len[0] = ROWS;
            sl_endpoint_frame(p->device, 0, &f, p->now);
        }
        move(p, p->device, p->edge);
        sl_ingest_poll(p->ingest, p->now);
        move(p, p->edge, p->device);
        __atomic_store_n(&p->turns, p->turns + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *trainer_main(void *arg)
{
    struct path *p = arg;
    enter(p);
    for (;;) {
        uint32_t h;
        if (sl_ring_spsc_pop(p->ready, &h, 1) == 0)
            continue;
        if (p->turns_alone == 0) { /* a slot in hand, and nothing done with it for a while */
            uint64_t from = __atomic_load_n(&p->turns, __ATOMIC_ACQUIRE), to = from;
            while (to - from < TURNS_ALONE)
                to = __atomic_load_n(&p->turns, __ATOMIC_ACQUIRE);
            __atomic_store_n(&p->turns_alone, to - from, __ATOMIC_RELEASE);
        }
        struct sl_slot *s = sl_slot_get(p->slots, h);
        s->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
        sl_ring_spsc_push(p->returned, &h, 1);
    }
    return NULL;
}

static int make(struct path *p)
{
    struct sl_endpoint_config e = {.max_sessions = 1, .max_sends = 8, .window_packets = 64};
    struct sl_session_config s = {.fragment_units = UNITS, .mtu = 1500, .initial_rtt_ns = 1000000};
    int err = sl_grid_make(&p->grid, ROWS, D_MODEL, SL_CODEC_BF16, 1, UNITS);
    e.max_message_units = p->grid.n_units;
    p->tensor = calloc(p->grid.n_units, 64);
    p->ready = sl_ring_spsc_create(8);
    p->returned = sl_ring_spsc_create(8);
    err |= sl_slots_create(SLOTS, (size_t)p->grid.n_units * 64, &p->slots);
    struct sl_ingest_config c = {.slots = p->slots,
        .ready = p->ready,
        .returned = p->returned,
        .max_sessions = 1,
        .d_model = D_MODEL,
        .codec = SL_CODEC_BF16,
        .fragment_units = UNITS,
        .grant_expiry_ns = UINT64_C(1) << 40,
        .park_after_ns = UINT64_C(1) << 40};
    err |= sl_ingest_create(&c, &p->ingest);
    err |= sl_endpoint_create(&e, &device_sink, p, &p->device);
    e.is_edge = true;
    err |= sl_endpoint_create(&e, &sl_ingest_sink, p->ingest, &p->edge);
    sl_ingest_bind(p->ingest, p->edge);
    s.remote = (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7444};
    s.local_id = sl_session_id(0, 0, 1);
    s.peer_id = sl_session_id(0, 0, 2);
    err |= sl_endpoint_open(p->device, &s, 0);
    s.local_id = s.peer_id;
    s.peer_id = sl_session_id(0, 0, 1);
    err |= sl_endpoint_open(p->edge, &s, 0);
    sl_ingest_session_opened(p->ingest, 0, 0);
    return err;
}

static void path(void)
{
    static struct path p;
    pthread_t lcore, trainer;
    if (make(&p) != 0 || pthread_create(&lcore, NULL, lcore_main, &p) != 0 ||
        pthread_create(&trainer, NULL, trainer_main, &p) != 0)
        _exit(WRONG);
    while (__atomic_load_n(&p.messages, __ATOMIC_ACQUIRE) < MESSAGES) {
        if (__atomic_load_n(&p.seal_error, __ATOMIC_ACQUIRE) != 0)
            _exit(NO_SECCOMP);
        sleep_ms(1);
    }
    _exit(__atomic_load_n(&p.turns_alone, __ATOMIC_ACQUIRE) >= TURNS_ALONE ? 0 : WRONG);
}

static void path__no_system_call_and_no_waiting_for_the_trainer(void **state)
{
    in_child(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seal__kills_at_a_system_call),
        cmocka_unit_test(exchange__no_system_call),
        cmocka_unit_test(path__no_system_call_and_no_waiting_for_the_trainer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
