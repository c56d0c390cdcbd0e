/* What a measurement by two processes begins with and ends with: both made and taken away, every packet
 * accounted for. */
#include "tests/bench/machine.h"
#include "tests/bench/receiver.h"
#include "tests/bench/sender.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const uint64_t rest_within_ns = 10000000000u, lossy_quiet_ns = 50000000u;

/* Names of the receiver's port that are of what the sender sent: not of what it sends itself, nor, where a
 * kernel is on the way, of that kernel's own frames. */
static bool of_receiving(const struct bench_link *l, unsigned drop)
{
    switch (drop) {
    case SL_PORT_IP_FRAGMENT:
    case SL_PORT_BAD_LENGTH:
    case SL_PORT_BAD_CHECKSUM:
    case SL_PORT_RX_FULL:
    case SL_PORT_TRUNCATED:
    case SL_PORT_STEER_FULL:
        return true;
    case SL_PORT_NOT_UDP:
    case SL_PORT_BAD_ADDRESS:
    case SL_PORT_NOT_OURS:
    case SL_PORT_ANSWERED:
    case SL_PORT_ANSWER_LIMIT:
        return !bench_link_lossy(l);
    default:
        return false;
    }
}

static uint64_t came_in(const struct bench_receiver *r)
{
    struct sl_port_stats p;
    sl_port_stats(r->port, &p);
    uint64_t came = p.rx_packets;
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        came += of_receiving(&r->load->link, i) ? p.drops[i] : 0;
    return came;
}

void bench_receiver_await_rest(struct bench_receiver *r)
{
    const uint64_t quiet_ns = bench_link_lossy(&r->load->link) ? lossy_quiet_ns : rest_within_ns;
    uint64_t now = bench_now_ns(), since = now, before = 0, came;
    while (
        (came = came_in(r)) < r->pair->shared->tx_packets && now - since < quiet_ns && bench_sleep(0.0002)) {
        now = bench_now_ns();
        since = came != before ? now : since;
        before = came;
    }
}

/* Of all data lcores together. */
static void sum_lanes(
    const struct bench_receiver *r, struct sl_endpoint_stats *sum, struct bench_lane *counts)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < r->n_lanes; i++) {
        struct sl_endpoint_stats e;
        sl_endpoint_stats(r->lane[i].endpoint, &e);
        for (size_t k = 0; k < sizeof(e) / sizeof(uint64_t); k++)
            ((uint64_t *)sum)[k] += ((const uint64_t *)&e)[k];
        counts->wrong += r->lane[i].wrong;
        counts->bare_taken += r->lane[i].bare_taken;
        counts->bare_wrong += r->lane[i].bare_wrong;
    }
}

uint64_t bench_receiver_account(const struct bench_receiver *r, cJSON *result)
{
    const struct bench_shared *s = r->pair->shared;
    struct sl_port_stats p;
    struct sl_endpoint_stats e;
    struct bench_lane lanes = {0};
    sl_port_stats(r->port, &p);
    sum_lanes(r, &e, &lanes);
    cJSON *drops = cJSON_CreateObject();
    uint64_t dropped = 0, delivered = lanes.bare_taken - lanes.bare_wrong + e.delivered_data +
                                      e.delivered_frames + e.scratch;
#define DROP(name, n)                                                                                        \
    if ((n) != 0) {                                                                                          \
        cJSON_AddNumberToObject(drops, name, (double)(n));                                                   \
        dropped += (n);                                                                                      \
    }
    DROP("sender_tx_full", s->tx_full)
    DROP("sender_tx_other", s->tx_other)
    DROP("bare_bad_tag", lanes.bare_wrong)
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++) {
        if (of_receiving(&r->load->link, i))
            DROP(sl_port_drop_name(i), p.drops[i])
    }
    uint64_t came = came_in(r);
    if (bench_link_lossy(&r->load->link) && s->tx_packets > came)
        DROP("between_the_ports", s->tx_packets - came) /* in the kernel, which counts for itself */
    for (unsigned i = 0; i < SL_DROP_COUNT; i++)
        DROP(sl_drop_name(i), e.drops[i])
#undef DROP
    uint64_t accounted = delivered + dropped,
             uncounted = s->offered > accounted ? s->offered - accounted : accounted - s->offered;
    cJSON_AddNumberToObject(result, "offered", (double)s->offered);
    cJSON_AddNumberToObject(result, "delivered", (double)delivered);
    cJSON_AddNumberToObject(result, "lost", (double)dropped);
    cJSON_AddItemToObject(result, "drops", drops);
    cJSON_AddNumberToObject(result, "uncounted", (double)uncounted);
    cJSON_AddNumberToObject(result, "retransmitted", (double)s->retransmits);
    cJSON_AddNumberToObject(result, "messages", (double)s->messages);
    cJSON_AddNumberToObject(result, "messages_lost", (double)s->steps_lost);
    cJSON_AddNumberToObject(result, "messages_wrong", (double)lanes.wrong);
    return uncounted + lanes.wrong;
}

int bench_receiver_run(struct bench_load *l, uint64_t payload,
    int (*measure)(struct bench_receiver *, cJSON *, char *, size_t), cJSON *result, char *err, size_t cap)
{
    struct bench_receiver r = {0};
    struct bench_pair pair = {0};
    int status = BENCH_FAILED;
    if (bench_load_make(l, payload, err, cap) != 0)
        return BENCH_USAGE;
    int ret = bench_link_prepare(&l->link, err, cap);
    if (ret == -ENOTSUP || ret == -EPERM)
        return BENCH_SKIPPED;
    if (ret != 0)
        return BENCH_FAILED;
    ret = bench_pair_start(&pair, bench_sender, l);
    if (ret == 0) {
        l->link.step = &pair.shared->joined;
        l->link.peer = pair.child;
    }
    if (ret != 0)
        snprintf(err, cap, "cannot start the sender: %s", strerror(-ret));
    else if (bench_receiver_make(&r, l, &pair, err, cap) == 0 && bench_receiver_open(&r, err, cap) == 0)
        status = measure(&r, result, err, cap);
    bench_pair_end(&pair);
    bench_receiver_free(&r);
    bench_link_remove(&l->link);
    return bench_stopping() ? BENCH_STOPPED : status;
}
