#include "tests/bench/link_tun.h"

#include "tests/bench/machine.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PACKETS = 1 << 15, PACKET_MOST = 2048, BURST = 64, UP = 0, DOWN = 1, IP_VERSION_4 = 4 };

/* A packet's slot lies behind its link's: handles of both links together name slots. */
struct bench_tun_bridge {
    struct sl_links *links;
    int in[2], out[2]; /* of link UP and DOWN */
    unsigned mtu;
    uint64_t delay_ns[2];
    uint8_t (*packet)[PACKET_MOST];
    uint16_t *len;
    uint64_t *came_ns;
    uint32_t *unused, n_unused;
    uint64_t refused_by_kernel, not_ip, start_ns;
    struct sl_histogram queue;
    struct sl_link_stats marked[2];
};

int bench_tun_bridge_create(
    const struct bench_link_model *m, unsigned mtu, const int tun[2], struct bench_tun_bridge **out)
{
    struct bench_tun_bridge *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return -ENOMEM;
    b->in[UP] = b->out[DOWN] = tun[BENCH_TUN_PHONE];
    b->in[DOWN] = b->out[UP] = tun[BENCH_TUN_EDGE];
    b->mtu = mtu;
    b->delay_ns[UP] = b->delay_ns[DOWN] = m->up.delay_ns;
    b->packet = calloc(PACKETS, sizeof(*b->packet));
    b->len = calloc(PACKETS, sizeof(*b->len));
    b->came_ns = calloc(PACKETS, sizeof(*b->came_ns));
    b->unused = calloc(PACKETS, sizeof(*b->unused));
    int ret = b->packet == NULL || b->len == NULL || b->came_ns == NULL || b->unused == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; ret == 0 && i < PACKETS; i++)
        b->unused[b->n_unused++] = i;
    if (ret == 0)
        ret = sl_links_create(2, PACKETS, &b->links);
    b->start_ns = bench_now_ns();
    struct sl_link_params link = bench_link_model_from(m, b->start_ns);
    if (ret == 0)
        ret = sl_links_set(b->links, UP, &link, sl_rng_key(1, "tun up"));
    if (ret == 0)
        ret = sl_links_set(b->links, DOWN, &link, sl_rng_key(1, "tun down"));
    if (ret != 0) {
        bench_tun_bridge_free(b);
        return ret;
    }
    bench_tun_bridge_mark(b);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    *out = b;
    return 0;
}

void bench_tun_bridge_free(struct bench_tun_bridge *b)
{
    if (b == NULL)
        return;
    sl_links_free(b->links);
    free(b->packet);
    free(b->len);
    free(b->came_ns);
    free(b->unused);
    free(b);
}

static void deliver(struct bench_tun_bridge *b, uint64_t now)
{
    struct sl_link_out o;

    while (sl_link_next(b->links, now, &o)) {
        b->unused[b->n_unused++] = o.handle;
        if (o.verdict != SL_LINK_TAKEN)
            continue;
        if (o.link == UP)
            sl_histogram_record(&b->queue, o.due_ns - b->came_ns[o.handle] - b->delay_ns[UP]);
        if (write(b->out[o.link], b->packet[o.handle], b->len[o.handle]) != b->len[o.handle])
            b->refused_by_kernel++;
    }
}

/* What the kernel sends by itself (router solicitations of IPv6) is no traffic. */
static void take(struct bench_tun_bridge *b, uint32_t link)
{
    for (unsigned i = 0; i < BURST && b->n_unused > 0; i++) {
        uint32_t slot = b->unused[b->n_unused - 1];
        ssize_t n = read(b->in[link], b->packet[slot], PACKET_MOST);
        if (n <= SL_LINK_IP_UDP_BYTES)
            return;
        if (b->packet[slot][0] >> 4 != IP_VERSION_4) {
            b->not_ip++;
            continue;
        }
        b->len[slot] = (uint16_t)n;
        b->came_ns[slot] = bench_now_ns();
        if (sl_links_offer(b->links, link, slot, (uint32_t)n - SL_LINK_IP_UDP_BYTES, b->came_ns[slot]) ==
            SL_LINK_TAKEN)
            b->n_unused--;
    }
}

void bench_tun_bridge_run(struct bench_tun_bridge *b, uint64_t until_ns)
{
    for (uint64_t now = bench_now_ns(); now < until_ns; now = bench_now_ns()) {
        struct pollfd p[2] = {{.fd = b->in[UP], .events = POLLIN}, {.fd = b->in[DOWN], .events = POLLIN}};
        deliver(b, now);
        uint64_t at = sl_links_deadline(b->links);
        at = at < until_ns ? at : until_ns;
        now = bench_now_ns();
        uint64_t wait = at > now ? at - now : 0;
        if (ppoll(p, 2, &(struct timespec){(time_t)(wait / 1000000000), (long)(wait % 1000000000)}, NULL) <=
            0)
            continue;
        for (uint32_t link = UP; link <= DOWN; link++)
            if (p[link].revents & POLLIN)
                take(b, link);
    }
}

void bench_tun_bridge_mark(struct bench_tun_bridge *b)
{
    sl_histogram_reset(&b->queue);
    for (uint32_t link = UP; link <= DOWN; link++)
        sl_links_stats(b->links, link, &b->marked[link]);
}

uint64_t bench_tun_bridge_start(const struct bench_tun_bridge *b)
{
    return b->start_ns;
}

const struct sl_histogram *bench_tun_bridge_queue(const struct bench_tun_bridge *b)
{
    return &b->queue;
}

void bench_tun_bridge_json(cJSON *to, const struct bench_tun_bridge *b)
{
    static const char *const names[] = {"up", "down"};

    for (uint32_t link = UP; link <= DOWN; link++) {
        struct sl_link_stats s;
        const struct sl_link_stats *m = &b->marked[link];
        cJSON *j = cJSON_AddObjectToObject(to, names[link]);
        sl_links_stats(b->links, link, &s);
        cJSON_AddNumberToObject(j, "packets", (double)(s.delivered - m->delivered));
        cJSON_AddNumberToObject(j, "bytes", (double)(s.delivered_bytes - m->delivered_bytes));
        for (int v = SL_LINK_TAKEN + 1; v < SL_LINK_VERDICT_COUNT; v++)
            if (s.drops[v] > m->drops[v])
                cJSON_AddNumberToObject(
                    j, sl_link_verdict_name((enum sl_link_verdict)v), (double)(s.drops[v] - m->drops[v]));
    }
    cJSON_AddNumberToObject(to, "refused_by_the_kernel", (double)b->refused_by_kernel);
}
