#include "tests/bench/load.h"

#include "tests/bench/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    D_MODEL = 192,
    SEQS = 4,
    ROWS_EACH = 128,      /* 192 KiB of bf16 in a message */
    IN_FLIGHT_MOST = 384, /* of all sessions: three quarters of a ring, so that nothing need be dropped */
    WINDOW_LEAST = 8,
    WINDOW_MOST = 256,
    IP_UDP_BYTES = 28,
    MTU_MOST = 9000,
};

int bench_load_make(struct bench_load *l, uint64_t payload, char *err, size_t cap)
{
    uint64_t units = (payload + SL_UNIT_BYTES / 2) / SL_UNIT_BYTES;
    uint64_t mtu = units * SL_UNIT_BYTES + SL_HEADER_DATA_BYTES + SL_TAG_BYTES + IP_UDP_BYTES;
    if (units == 0 || mtu > MTU_MOST) {
        snprintf(err, cap,
            "a packet holds 1 to 139 units of 64 bytes (64..8896); --payload %llu does not fit",
            (unsigned long long)payload);
        return -EINVAL;
    }
    l->link.mtu = mtu > SL_DEFAULT_MTU ? MTU_MOST : SL_DEFAULT_MTU;
    l->fragment_units = (uint16_t)units;
    l->d_model = D_MODEL;
    l->seqs = SEQS;
    l->rows_each = ROWS_EACH;
    if (l->cores == 0)
        l->cores = 1;
    l->link.cores = l->cores;
    uint32_t slots = l->slots * l->cores, active = l->sessions < slots ? l->sessions : slots;
    l->window = IN_FLIGHT_MOST / active;
    l->window = l->window < WINDOW_LEAST ? WINDOW_LEAST : l->window > WINDOW_MOST ? WINDOW_MOST : l->window;
    l->cpu[BENCH_RECEIVER] = bench_cpu(0);
    l->cpu[BENCH_SENDER] =
        bench_cpu(l->cores) >= 0 ? bench_cpu(l->cores) : bench_cpu(bench_machine()->cpus_usable - 1);
    return sl_grid_make(&l->grid, SEQS * ROWS_EACH, D_MODEL, l->codec, 1, l->fragment_units);
}

struct sl_session_config bench_load_session(const struct bench_load *l, enum bench_side side, uint32_t i)
{
    struct sl_session_config c = {
        .fragment_units = l->fragment_units, .mtu = l->link.mtu, .initial_rtt_ns = 1000000};
    uint32_t core = i % l->cores;
    uint64_t receiver = sl_session_id((uint8_t)core, i / l->cores, 0x5eed0001u + i),
             sender = sl_session_id(0, i, 0xf00d0001u + i);
    c.local_id = side == BENCH_RECEIVER ? receiver : sender;
    c.peer_id = side == BENCH_RECEIVER ? sender : receiver;
    c.local = bench_link_addr(&l->link, side, side == BENCH_RECEIVER ? core : 0);
    if (side == BENCH_SENDER)
        c.remote = bench_link_addr(&l->link, BENCH_RECEIVER, core);
    memcpy(c.secret, &i, sizeof(i));
    c.secret[31] = 0x51;
    return c;
}

struct sl_request bench_load_request(const struct bench_load *l, uint64_t step)
{
    struct sl_request r = {.step = step, .kind = SL_REQUEST_EVAL, .n_seqs = (uint16_t)l->seqs};
    for (uint32_t i = 0; i < l->seqs; i++)
        r.len[i] = (uint16_t)l->rows_each;
    return r;
}
