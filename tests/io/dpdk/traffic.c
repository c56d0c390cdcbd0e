/* A data lcore with a real endpoint behind a memif port: traffic device|edge RUN_DIR REPORT [sealed]. The
 * device sends one message after the other, the edge opens each into its final place; both run until SIGINT.
 * With "sealed" the data lcore's thread may make no syscall but the adaptive sleep: any other kills the
 * process (seccomp). */
#include "tests/io/dpdk/peer.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/lcore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FRAGMENT_UNITS = 22, MESSAGE_UNITS = 22 * 64, IN_FLIGHT = 4, NO_SECCOMP = 77 };

/* The sink of either side: message g is byte (g + unit) % 251 throughout unit `unit`. */
struct side {
    struct sl_endpoint *endpoint;
    struct peer_report *report;
    bool device, seal, sealed;
    int seal_error; /* atomic */
    uint32_t session, next_grant;
    bool sending[IN_FLIGHT]; /* the slot's message is not done: what is lost of it is read there again */
    uint64_t messages, bad;
    uint64_t now;
    uint8_t *slot[IN_FLIGHT];
    uint32_t holds[IN_FLIGHT], units[IN_FLIGHT];
    uint8_t seen[IN_FLIGHT][MESSAGE_UNITS];
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    stop = 1;
}

static void pattern(uint8_t *at, uint32_t grant, uint32_t unit)
{
    memset(at, (int)((grant + unit) % 251), SL_UNIT_BYTES);
}

/* ---- edge ---- */

static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct side *s = sink;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = rx[i]->grant % IN_FLIGHT;
        if (rx[i]->grant > s->holds[k]) { /* takes the slot of one that was acknowledged, so complete */
            s->bad += s->holds[k] != 0 && s->units[k] != MESSAGE_UNITS;
            s->holds[k] = rx[i]->grant;
            s->units[k] = 0;
            memset(s->seen[k], 0, sizeof(s->seen[k]));
        }
        bool old = rx[i]->grant < s->holds[k] || s->seen[k][rx[i]->unit0] != 0;
        rx[i]->how = old ? SL_SCRATCH : SL_PLACE;
        rx[i]->dst = s->slot[k] + (size_t)rx[i]->unit0 * SL_UNIT_BYTES;
        if (!old)
            memset(s->seen[k] + rx[i]->unit0, 1, rx[i]->n_units);
    }
}

static void check(struct side *s, unsigned k)
{
    uint8_t want[SL_UNIT_BYTES];
    for (uint32_t u = 0; u < MESSAGE_UNITS; u += 63) {
        pattern(want, s->holds[k], u);
        s->bad += memcmp(want, s->slot[k] + (size_t)u * SL_UNIT_BYTES, SL_UNIT_BYTES) != 0;
    }
    s->messages++;
}

static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct side *s = sink;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = rx[i]->grant % IN_FLIGHT;
        if (rx[i]->how != SL_PLACE)
            continue;
        if ((ok_mask >> i & 1) == 0) {
            memset(s->seen[k] + rx[i]->unit0, 0, rx[i]->n_units);
            continue;
        }
        s->units[k] += rx[i]->n_units;
        if (s->units[k] == MESSAGE_UNITS)
            check(s, k);
    }
}

/* ---- device ---- */

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    struct side *s = sink;
    return s->slot[grant % IN_FLIGHT] + (size_t)unit0 * SL_UNIT_BYTES;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    struct side *s = sink;
    s->sending[grant % IN_FLIGHT] = false;
    s->messages += why == SL_DONE_ACKED;
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now)
{
}

static const struct sl_sink_ops sink_ops = {
    .place = place, .commit = commit, .source = source, .done = done, .frame = frame};

/* ---- the lcore's application ---- */

static int seal(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clock_nanosleep, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return -errno;
    return 0;
}

static void opened(void *app, uint32_t session, uint64_t user)
{
    ((struct side *)app)->session = session;
}

static void feed(struct side *s)
{
    /* Messages end in any order: the one before in this slot may outlast those after it. Mostly the first one
     * does, since the first window was dropped before the link was up. */
    while (!s->sending[s->next_grant % IN_FLIGHT]) {
        uint32_t g = s->next_grant;
        for (uint32_t u = 0; u < MESSAGE_UNITS; u++)
            pattern(s->slot[g % IN_FLIGHT] + (size_t)u * SL_UNIT_BYTES, g, u);
        if (sl_endpoint_send(s->endpoint, s->session, g, MESSAGE_UNITS, s->now) != 0)
            return;
        s->next_grant++;
        s->sending[g % IN_FLIGHT] = true;
    }
}

static void poll(void *app, uint64_t now)
{
    struct side *s = app;
    s->now = now;
    if (s->seal && !s->sealed && s->messages > 8) { /* after the start, in the midst of traffic */
        s->sealed = true;
        __atomic_store_n(&s->seal_error, seal(), __ATOMIC_RELAXED);
    }
    if (s->device && sl_endpoint_is_open(s->endpoint, s->session))
        feed(s);
    __atomic_store_n(&s->report->rx, s->sealed || !s->seal ? s->messages : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&s->report->bad, s->bad, __ATOMIC_RELAXED);
}

static const struct sl_lcore_ops lcore_ops = {.opened = opened, .poll = poll};

/* ---- */

static int prepare(struct side *s)
{
    struct sl_endpoint_config c = {.max_sessions = 4,
        .max_sends = IN_FLIGHT,
        .max_message_units = MESSAGE_UNITS,
        .window_packets = 256,
        .is_edge = !s->device};
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        s->slot[i] = aligned_alloc(64, (size_t)MESSAGE_UNITS * SL_UNIT_BYTES);
    s->next_grant = 1;
    return sl_endpoint_create(&c, &sink_ops, s, &s->endpoint);
}

static struct sl_session_config session_of(const struct side *s)
{
    static const struct sl_addr edge = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7444},
                                device = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 1, 1}, .port = 40000};
    struct sl_session_config c = {.fragment_units = FRAGMENT_UNITS, .mtu = 1500, .initial_rtt_ns = 1000000};
    uint64_t of_edge = sl_session_id(0, 1, 0x1111), of_device = sl_session_id(0, 1, 0x2222);
    c.local_id = s->device ? of_device : of_edge;
    c.peer_id = s->device ? of_edge : of_device;
    c.local = s->device ? device : edge;
    if (s->device)
        c.remote = edge;
    memset(c.secret, 7, sizeof(c.secret));
    return c;
}

static void report(struct side *s, struct sl_port *port, struct sl_lcore *lcore)
{
    struct sl_port_stats p;
    struct sl_lcore_stats l;
    sl_port_stats(port, &p);
    sl_lcore_stats(lcore, &l);
    s->report->link_up = p.link_up;
    s->report->alive = l.sleeps;
    s->report->tx = l.packets_rx;
    s->report->pass_ns = l.cycles_busy;
    s->report->passes = l.packets_tx;
}

static struct sl_lcore_confirm await(struct sl_lcore *lcore)
{
    struct sl_lcore_confirm a;
    while (!sl_lcore_confirmed(lcore, &a))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return a;
}

/* In the midst of traffic; and once more, when it is gone. */
static int close_twice(struct sl_lcore *lcore)
{
    struct sl_lcore_confirm first, second;
    if (sl_lcore_close_session(lcore, 1) != 0 || sl_lcore_close_session(lcore, 1) != 0)
        return 1;
    first = await(lcore);
    second = await(lcore);
    return first.closed && first.session == 1 && first.status == 0 && second.closed &&
                   second.status == -ENOENT
               ? 0
               : 1;
}

/* Rules T17: what is printed is where the thread may run. */
static bool describes_its_cpu(const struct sl_lcore *lcore, int cpu)
{
    char text[4096], expected[32];
    cpu_set_t all;
    sched_getaffinity(0, sizeof(all), &all);
    sl_lcore_describe(lcore, text, sizeof(text));
    const char *list = strstr(text, " on CPU ");
    if (list == NULL)
        return false;
    snprintf(expected, sizeof(expected), " on CPU %d", cpu);
    unsigned commas = 0;
    for (const char *c = list; *c != '\0'; c++)
        commas += *c == ',';
    return cpu >= 0 ? strcmp(list, expected) == 0 : commas + 1 == (unsigned)CPU_COUNT(&all);
}

int main(int argc, char **argv)
{
    char err[512], args[1024], path[256];
    static struct side s;
    if (argc < 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, on_signal);
    int fd = open(argv[3], O_RDWR);
    s.report = mmap(NULL, sizeof(*s.report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || s.report == MAP_FAILED)
        return 2;
    s.device = strcmp(argv[1], "device") == 0;
    s.seal = argc > 4 && strcmp(argv[4], "sealed") == 0;
    struct sl_eal_config eal = {.run_dir = argv[2], .file_prefix = argv[1], .memory_mib = 64, .cpu = -1};
    struct sl_dpdk_port_config pc = {
        .device = "memif", .memif_socket = path, .memif_server = s.device, .n_mbufs = 4096};
    struct sl_port *port;
    struct sl_lcore *lcore;
    snprintf(path, sizeof(path), "%s/memif.sock", argv[2]);
    if (prepare(&s) != 0 || sl_eal_start(&eal, args, sizeof(args), err, sizeof(err)) != 0 ||
        sl_dpdk_port_open(&pc, &port, err, sizeof(err)) != 0)
        return 1;
    struct sl_lcore_config lc = {
        .queue = sl_port_queue(port, 0), .endpoint = s.endpoint, .ops = &lcore_ops, .app = &s, .cpu = -1};
    lc.cpu = CPU_SETSIZE - 1; /* one that no host of ours has */
    if (sl_lcore_start(&lc, &lcore, err, sizeof(err)) == 0 || strstr(err, "not one that") == NULL)
        return 1;
    lc.cpu = s.device ? -1 : sched_getcpu();
    if (sl_lcore_start(&lc, &lcore, err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    if (!describes_its_cpu(lcore, lc.cpu))
        return 1;
    struct sl_session_config sc = session_of(&s);
    if (sl_lcore_open_session(lcore, &sc, 5) != 0)
        return 1;
    struct sl_lcore_confirm a = await(lcore);
    if (a.status != 0 || a.closed || a.user != 5 || a.session != 1)
        return 1;
    while (!stop) {
        report(&s, port, lcore);
        if (__atomic_load_n(&s.seal_error, __ATOMIC_RELAXED) != 0)
            _exit(NO_SECCOMP);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    if (s.seal)
        _exit(0); /* the lcore may not even end */
    int wrong = close_twice(lcore);
    sl_lcore_stop(lcore);
    sl_port_close(port);
    sl_eal_stop();
    sl_endpoint_free(s.endpoint);
    return wrong;
}
