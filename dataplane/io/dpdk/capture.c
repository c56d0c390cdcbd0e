#define ALLOW_EXPERIMENTAL_API /* rte_pcapng of DPDK 22.11; its functions take other arguments from 23.11 on \
                                */
#include "dataplane/io/dpdk/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_pcapng.h>
#include <rte_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    COPIES = 4095,     /* packets between the queues and the file: 2^n - 1, as a mempool likes it */
    RING = 4096,       /* of each queue: room for every copy */
    WRITE_BURST = 32,  /* rte_pcapng writes a burst with one writev */
    IDLE_NS = 1000000, /* the writer's sleep when nothing came */
};

struct sl_capture {
    rte_pcapng_t *file;
    struct rte_mempool *copies;
    uint16_t port_id;
    uint16_t packet_bytes;
    unsigned n_queues;
    pthread_t thread;
    bool started;
    uint32_t stop;               /* atomic */
    uint64_t written, unwritten; /* atomic, the writer's */
    struct sl_capture_queue {
        struct rte_ring *ring;
        uint64_t missed; /* atomic, the queue's */
    } __attribute__((aligned(64))) queue[];
};

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

void sl_capture_packets(struct sl_capture *c, unsigned queue, struct rte_mbuf *const *m, unsigned n, bool out)
{
    struct sl_capture_queue *q = &c->queue[queue];
    uint64_t now = rte_get_tsc_cycles();
    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *copy = rte_pcapng_copy(c->port_id, queue, m[i], c->copies, c->packet_bytes, now,
            out ? RTE_PCAPNG_DIRECTION_OUT : RTE_PCAPNG_DIRECTION_IN);
        if (copy != NULL && rte_ring_sp_enqueue(q->ring, copy) == 0)
            continue;
        rte_pktmbuf_free(copy);
        count(&q->missed, 1);
    }
}

static unsigned drain(struct sl_capture *c, struct rte_ring *ring)
{
    struct rte_mbuf *m[WRITE_BURST];
    unsigned n = rte_ring_sc_dequeue_burst(ring, (void **)m, WRITE_BURST, NULL);
    if (n == 0)
        return 0;
    bool whole = rte_pcapng_write_packets(c->file, m, (uint16_t)n) >= 0; /* it frees none of them */
    count(whole ? &c->written : &c->unwritten, n);
    for (unsigned i = 0; i < n; i++)
        rte_pktmbuf_free(m[i]);
    return n;
}

static void *write_all(void *arg)
{
    struct sl_capture *c = arg;
    pthread_setname_np(pthread_self(), "sl-capture");
    for (;;) {
        bool last = __atomic_load_n(&c->stop, __ATOMIC_ACQUIRE) != 0; /* then nothing more is put in */
        unsigned n = 0;
        for (unsigned i = 0; i < c->n_queues; i++)
            n += drain(c, c->queue[i].ring);
        if (n == 0 && last)
            return NULL;
        if (n == 0)
            nanosleep(&(struct timespec){.tv_nsec = IDLE_NS}, NULL);
    }
}

static int make_rings(struct sl_capture *c)
{
    for (unsigned i = 0; i < c->n_queues; i++) {
        char name[RTE_RING_NAMESIZE];
        snprintf(name, sizeof(name), "sl_capture_%u", i);
        c->queue[i].ring = rte_ring_create(name, RING, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
        if (c->queue[i].ring == NULL)
            return -rte_errno;
    }
    c->copies = rte_pktmbuf_pool_create(
        "sl_capture", COPIES, 0, 0, (uint16_t)rte_pcapng_mbuf_size(c->packet_bytes), SOCKET_ID_ANY);
    return c->copies != NULL ? 0 : -rte_errno;
}

static int make_file(struct sl_capture *c, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    c->file = rte_pcapng_fdopen(fd, NULL, NULL, "Sluice", NULL);
    if (c->file != NULL)
        return 0;
    int ret = -rte_errno;
    close(fd);
    return ret;
}

int sl_capture_open(const char *path, uint16_t port_id, unsigned n_queues, uint16_t packet_bytes,
    struct sl_capture **out, char *err, size_t err_cap)
{
    struct sl_capture *c = calloc(1, sizeof(*c) + n_queues * sizeof(c->queue[0]));
    if (c == NULL) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    c->port_id = port_id;
    c->packet_bytes = packet_bytes;
    c->n_queues = n_queues;
    int ret = make_file(c, path);
    if (ret != 0)
        snprintf(err, err_cap, "capture %s: %s: name a new file in a directory that can be written to", path,
            strerror(-ret));
    else if ((ret = make_rings(c)) != 0)
        snprintf(err, err_cap, "capture: no room for its copies: give EAL more memory (data.memory_mib)");
    else if ((ret = -pthread_create(&c->thread, NULL, write_all, c)) != 0)
        snprintf(err, err_cap, "capture: cannot start its thread: %s", strerror(-ret));
    c->started = ret == 0;
    if (ret != 0) {
        sl_capture_close(c);
        return ret;
    }
    *out = c;
    return 0;
}

void sl_capture_close(struct sl_capture *c)
{
    if (c == NULL)
        return;
    __atomic_store_n(&c->stop, 1, __ATOMIC_RELEASE);
    if (c->started)
        pthread_join(c->thread, NULL);
    if (c->file != NULL)
        rte_pcapng_close(c->file);
    for (unsigned i = 0; i < c->n_queues; i++)
        rte_ring_free(c->queue[i].ring);
    rte_mempool_free(c->copies);
    free(c);
}

void sl_capture_stats(const struct sl_capture *c, struct sl_capture_stats *out)
{
    out->packets = __atomic_load_n(&c->written, __ATOMIC_RELAXED);
    out->missed = __atomic_load_n(&c->unwritten, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < c->n_queues; i++)
        out->missed += __atomic_load_n(&c->queue[i].missed, __ATOMIC_RELAXED);
}
