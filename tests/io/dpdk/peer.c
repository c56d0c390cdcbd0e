/* One end of a memif link for the tests: peer server|client RUN_DIR REPORT [GIVE_UP_MS]. Sends numbered
 * datagrams without end and checks what it gets, until SIGINT. It says what it waits for, and gives up after
 * the time named. */
#include "tests/io/dpdk/peer.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"

#include <fcntl.h>
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
static void fill(struct sl_dgram *d, uint64_t number)
{
    static const struct sl_addr a = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7000};
    d->len = (uint16_t)(MAX_BYTES - number % 64);
    d->src = d->dst = a;
    memcpy(d->data, &number, sizeof(number));
    memcpy(d->data + d->len - sizeof(number), &number, sizeof(number));
}

static int wrong(const struct sl_dgram *d)
{
    uint64_t first, last;
    if (d->len < MIN_BYTES)
        return 1;
    memcpy(&first, d->data, sizeof(first));
    memcpy(&last, d->data + d->len - sizeof(last), sizeof(last));
    return first != last || d->len != MAX_BYTES - first % 64 || d->dst.port != 7000;
}

static void report(struct peer_report *r, struct sl_port *port)
{
    struct sl_port_stats s;
    sl_port_stats(port, &s);
    uint64_t drops = 0;
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        drops += s.drops[i];
    set(&r->rx, s.rx_packets);
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

static void run(struct sl_port *port, struct peer_report *r)
{
    struct sl_dgram d[BURST];
    uint64_t number = 0, bad = 0, rests = 0;
    for (uint64_t turn = 0; !stop; turn++) {
        unsigned n = sl_queue_rx(sl_port_queue(port, 0), d, BURST);
        for (unsigned i = 0; i < n; i++)
            bad += (uint64_t)wrong(&d[i]);
        sl_queue_free(sl_port_queue(port, 0), d, n);
        if (sl_queue_rests(sl_port_queue(port, 0))) {
            rests++;
        } else if ((n = sl_queue_alloc(sl_port_queue(port, 0), d, BURST)) > 0) {
            for (unsigned i = 0; i < n; i++)
                fill(&d[i], number++);
            sl_queue_tx(sl_port_queue(port, 0), d, n);
        }
        set(&r->alive, turn + 1);
        set(&r->bad, bad);
        set(&r->held_back, rests);
        if (turn % 64 == 0)
            report(r, port);
    }
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
    struct sl_eal_config eal = {.run_dir = argv[2], .file_prefix = argv[1], .memory_mib = 64, .cpu = -1};
    if (sl_eal_start(&eal, args, sizeof(args), err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/memif.sock", argv[2]);
    struct sl_dpdk_port_config c = {.device = "memif", .memif_socket = path, .n_mbufs = 4096};
    c.memif_server = strcmp(argv[1], "server") == 0;
    c.peer_timeout_ns = argc > 4 ? strtoull(argv[4], NULL, 10) * 1000000 : 0;
    struct sl_port *port;
    if (sl_dpdk_port_open(&c, &port, err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    int status = wait_for_peer(port) < 0 ? 3 : 0;
    if (status == 0)
        run(port, r);
    sl_port_close(port);
    sl_eal_stop();
    return status;
}
