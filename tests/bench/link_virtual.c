#include "tests/bench/link_virtual.h"

#include <errno.h>

enum { PACKETS = 1 << 16, BURST = 64 };
static const uint64_t drain_ns = 60000000000;

static void give_back(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
}
static const struct sl_port_ops ops = {.free = give_back};

struct clock {
    struct sl_emulator *emulator;
    struct bench_arrival *a;
    uint64_t start_ns, now_ns, delay_ns;
};

/* All that arrives by until_ns, at its own time. */
static void advance(struct clock *c, uint64_t until_ns)
{
    for (;;) {
        uint64_t at = sl_fleet_emulator.deadline(c->emulator);
        struct sl_dgram d[BURST];
        if (at > until_ns)
            break;
        c->now_ns = at > c->now_ns ? at : c->now_ns;
        unsigned n = sl_fleet_emulator.down_ready(c->emulator, d, BURST, c->now_ns);
        for (unsigned i = 0; i < n; i++) {
            struct bench_arrival *a = d[i].buffer;
            a->due_ns = c->now_ns - c->start_ns;
            a->wait_ns = a->due_ns - a->at_ns - c->delay_ns;
        }
        while (sl_fleet_emulator.up_ready(c->emulator, d, BURST, c->now_ns) == BURST)
            ;
    }
    c->now_ns = until_ns;
}

int bench_link_virtual(const struct sl_experiment *e, const struct sl_phone_addresses *addresses,
    uint64_t start_ns, struct bench_arrival *a, size_t n, char *err, size_t cap)
{
    struct sl_queue queue = {.ops = &ops};
    struct clock c = {.a = a,
        .start_ns = start_ns,
        .now_ns = start_ns,
        .delay_ns = (uint64_t)(e->fleet[0].link.rtt_ms * 0.5e6)};
    int ret = sl_phone_links_open(e, addresses, PACKETS, start_ns, &c.emulator, err, cap);

    if (ret != 0)
        return ret;
    sl_emulator_bind(c.emulator, &queue);
    for (size_t i = 0; i < n; i++) {
        struct sl_dgram d = {.len = (uint16_t)(a[i].bytes - SL_LINK_IP_UDP_BYTES),
            .src = {.port = 1},
            .dst = sl_phone_address(addresses, 0),
            .buffer = &a[i]};
        advance(&c, start_ns + a[i].at_ns);
        a[i].due_ns = 0;
        sl_fleet_emulator.down(c.emulator, &d, 1, c.now_ns);
    }
    advance(&c, c.now_ns + drain_ns);
    sl_emulator_free(c.emulator);
    return 0;
}

double bench_link_virtual_mbps(const struct sl_experiment *e, const struct sl_phone_addresses *addresses,
    uint64_t start_ns, double seconds)
{
    struct sl_emulator *emulator;
    double up = 0, down = 0;
    char err[256];

    if (sl_phone_links_open(e, addresses, 1, start_ns, &emulator, err, sizeof(err)) != 0)
        return 0;
    sl_emulator_rates(emulator, 0, start_ns, start_ns + (uint64_t)(seconds * 1e9), &up, &down);
    sl_emulator_free(emulator);
    return 1e-6 * down;
}
