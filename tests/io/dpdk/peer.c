/* One end of a memif link for the tests: peer server|client RUN_DIR REPORT [GIVE_UP_MS]. Sends numbered
 * datagrams without end and checks what it gets, until SIGINT. It says what it waits for, and gives up after
 * the time named. With SLUICE_QUEUES in the environment a client has a thread for each queue, a server drives
 * all rings by one; what is sent to UDP port 7000 + i comes by queue i. */
#include "tests/io/dpdk/peer.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 32, MAX_BYTES = 1408, MIN_BYTES = 16 };
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    stop = 1;
}

static void set(uint64_t *at, uint64_t v)
{
    __atomic_store_n(at, v, __ATOMIC_RELAXED);
}

/* Only the ends are written and looked at: a survivor crashes inside of a driver's burst, so that is where
 * the time should go. */
static void fill(struct sl_dgram *d, uint64_t number, unsigned queues)
{
    static const struct sl_addr a = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7000};
    d->len = (uint16_t)(MAX_BYTES - number % 64);
    d->src = d->dst = a;
    d->dst.port = (uint16_t)(a.port + number % queues);
    memcpy(d->data, &number, sizeof(number));
    memcpy(d->data + d->len - sizeof(number), &number, sizeof(number));
}

/* `queue`: the one it came by, or -1 where all come by one. */
static int wrong(const struct sl_dgram *d, int queue)
{
    uint64_t first, last;
    if (d->len < MIN_BYTES)
        return 1;
    memcpy(&first, d->data, sizeof(first));
    memcpy(&last, d->data + d->len - sizeof(last), sizeof(last));
    return first != last || d->len != MAX_BYTES - first % 64 ||
           (queue >= 0 ? d->dst.port != 7000 + queue : d->dst.port < 7000);
}

static void report(struct peer_report *r, struct sl_port *port)
{
    struct sl_port_stats s;
    sl_port_stats(port, &s);
    uint64_t drops = 0;
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        drops += s.drops[i];
    set(&r->tx, s.tx_packets);
    set(&r->drops, drops);
    set(&r->link_up, s.link_up);
    set(&r->reconnects, s.reconnects);
    set(&r->passes, s.passes);
    set(&r->pass_ns, s.pass_ns);
    set(&r->pass_max_ns, s.pass_max_ns);
}

static int wait_for_peer(struct sl_port *port)
{
    char text[512];
    int state, said = 0;
    struct sl_dgram d[BURST];
    while ((state = sl_port_wait(port, text, sizeof(text))) == 1 && !stop) {
        if (said++ == 0)
            fprintf(stderr, "%s\n", text);
        sl_queue_free(sl_port_queue(port, 0), d, sl_queue_rx(sl_port_queue(port, 0), d, BURST));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (state < 0)
        fprintf(stderr, "%s\n", text);
    return state;
}

/* One queue's thread; the first one also tells how it stands. */
struct worker {
    struct sl_port *port;
    struct peer_report *report; /* NULL: another one tells */
    unsigned index, queues;
    bool server;
    uint64_t alive, rx, bad, rests; /* atomic */
    pthread_t thread;
};

static uint64_t get(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void tell(struct worker *w)
{
    struct peer_report *r = w->report;
    uint64_t alive = UINT64_MAX, rx = UINT64_MAX, bad = 0, rests = 0;
    for (unsigned i = 0; i < (w->server ? 1 : w->queues); i++) { /* who is slowest speaks for all */
        alive = get(&w[i].alive) < alive ? get(&w[i].alive) : alive;
        rx = get(&w[i].rx) < rx ? get(&w[i].rx) : rx;
        bad += get(&w[i].bad);
        rests += get(&w[i].rests);
    }
    set(&r->alive, alive);
    set(&r->rx, rx);
    set(&r->bad, bad);
    set(&r->held_back, rests);
}

static void turn(struct worker *w, struct sl_queue *q, uint64_t *number)
{
    struct sl_dgram d[BURST];
    unsigned n = sl_queue_rx(q, d, BURST);
    int only = w->server ? -1 : (int)w->index;
    for (unsigned i = 0; i < n; i++)
        set(&w->bad, w->bad + (uint64_t)wrong(&d[i], only));
    sl_queue_free(q, d, n);
    set(&w->rx, w->rx + n);
    if (sl_queue_rests(q)) {
        set(&w->rests, w->rests + 1);
    } else if ((n = sl_queue_alloc(q, d, BURST)) > 0) {
        for (unsigned i = 0; i < n; i++)
            fill(&d[i], (*number)++, w->queues);
        sl_queue_tx(q, d, n);
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct sl_queue *q = sl_port_queue(w->port, w->index);
    uint64_t number = 0;
    char err[128];
    if (w->report == NULL && sl_queue_enter(q, err, sizeof(err)) != 0)
        return NULL;
    while (!stop) {
        turn(w, q, &number);
        set(&w->alive, w->alive + 1);
        if (w->report != NULL) {
            tell(w);
            if (w->alive % 64 == 1)
                report(w->report, w->port);
        }
    }
    sl_queue_leave(q);
    return NULL;
}

static void run(struct sl_port *port, struct peer_report *r, bool server, unsigned queues)
{
    struct worker w[SL_LCORES_MAX] = {0};
    unsigned threads = server ? 1 : queues;
    for (unsigned i = 0; i < threads; i++)
        w[i] = (struct worker){
            .port = port, .report = i == 0 ? r : NULL, .index = i, .queues = queues, .server = server};
    for (unsigned i = 1; i < threads; i++)
        pthread_create(&w[i].thread, NULL, work, &w[i]);
    work(&w[0]);
    for (unsigned i = 1; i < threads; i++)
        pthread_join(w[i].thread, NULL);
}

int main(int argc, char **argv)
{
    char err[512], args[1024], path[256];
    if (argc < 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, on_signal);
    int fd = open(argv[3], O_RDWR);
    struct peer_report *r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || r == MAP_FAILED)
        return 2;
    struct sl_eal_config eal = {.run_dir = argv[2], .file_prefix = argv[1], .memory_mib = 96, .cpu = -1};
    if (sl_eal_start(&eal, args, sizeof(args), err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/memif.sock", argv[2]);
    struct sl_dpdk_port_config c = {.device = "memif", .memif_socket = path, .n_mbufs = 4096};
    c.memif_server = strcmp(argv[1], "server") == 0;
    const char *text = getenv("SLUICE_QUEUES");
    unsigned queues = text != NULL ? (unsigned)atoi(text) : 1;
    c.n_queues = c.memif_server ? 1 : (uint16_t)queues;
    c.n_rings = (uint16_t)queues;
    c.ring_port = 7000;
    c.peer_timeout_ns = argc > 4 ? strtoull(argv[4], NULL, 10) * 1000000 : 0;
    struct sl_port *port;
    if (sl_dpdk_port_open(&c, &port, err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    if (sl_queue_enter(sl_port_queue(port, 0), err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    int status = wait_for_peer(port) < 0 ? 3 : 0;
    if (status == 0)
        run(port, r, c.memif_server, queues);
    else
        sl_queue_leave(sl_port_queue(port, 0));
    sl_port_close(port);
    sl_eal_stop();
    return status;
}
