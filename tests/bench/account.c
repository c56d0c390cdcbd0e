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

static const uint64_t rest_within_ns = 10000000000u;

void bench_receiver_await_rest(struct bench_receiver *r)
{
    uint64_t until = bench_now_ns() + rest_within_ns, came = 0;
    do {
        struct sl_port_stats p;
        sl_port_stats(r->port, &p);
        came = p.rx_packets;
        for (unsigned i = SL_PORT_NOT_UDP; i <= SL_PORT_BAD_CHECKSUM; i++)
            came += p.drops[i];
    } while (came < r->pair->shared->tx_packets && bench_now_ns() < until && bench_sleep(0.0002));
}

uint64_t bench_receiver_account(const struct bench_receiver *r, cJSON *result)
{
    const struct bench_shared *s = r->pair->shared;
    struct sl_port_stats p;
    struct sl_endpoint_stats e;
    sl_port_stats(r->port, &p);
    sl_endpoint_stats(r->endpoint, &e);
    cJSON *drops = cJSON_CreateObject();
    uint64_t dropped = 0,
             delivered = r->bare_taken - r->bare_wrong + e.delivered_data + e.delivered_frames + e.scratch;
#define DROP(name, n)                                                                                        \
    if ((n) != 0) {                                                                                          \
        cJSON_AddNumberToObject(drops, name, (double)(n));                                                   \
        dropped += (n);                                                                                      \
    }
    DROP("sender_tx_full", s->tx_full)
    DROP("sender_tx_other", s->tx_other)
    DROP("bare_bad_tag", r->bare_wrong)
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++) {
        if (i == SL_PORT_TX_FULL || i == SL_PORT_LINK_DOWN || i == SL_PORT_NO_BUFFER)
            continue; /* of what the receiver itself sends */
        DROP(sl_port_drop_name(i), p.drops[i])
    }
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
    cJSON_AddNumberToObject(result, "messages_wrong", (double)r->wrong);
    return uncounted + r->wrong;
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
    if (ret != 0)
        snprintf(err, cap, "cannot start the sender: %s", strerror(-ret));
    else if (bench_receiver_make(&r, l, &pair, err, cap) == 0 && bench_receiver_open(&r, err, cap) == 0)
        status = measure(&r, result, err, cap);
    bench_pair_end(&pair);
    bench_receiver_free(&r);
    bench_link_remove(&l->link);
    return status;
}
