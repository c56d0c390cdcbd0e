/* A live endpoint under an input that is read as a script: raw datagrams, rightly sealed packets with any
 * content, forged ones, time, messages and frames to send. Received = delivered + every named drop
 * throughout, the sink's own checks hold (claims, sources, endings), and sending comes to rest. */
#include "tests/transport/model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

enum { BURST_CAP = 24, PACKET_CAP = 700, N_OPS = 10, N_GRANTS = 4 };
enum op { RAW, FRAMES, DATA, FORGED, AGAIN, FLUSH, TIME, SEND, FRAME, PHASE };

struct script {
    const uint8_t *at, *end;
};

static uint64_t take(struct script *s, unsigned bytes)
{
    uint64_t v = 0;
    for (; bytes != 0 && s->at < s->end; bytes--)
        v = v << 8 | *s->at++;
    return v;
}

struct world {
    struct model model;
    struct sl_endpoint *ep;
    struct sealer peer;
    bool is_edge;
    uint64_t now_ns;
    uint8_t bytes[BURST_CAP][PACKET_CAP];
    struct sl_rx rx[BURST_CAP];
    unsigned n;
};

static void flush(struct world *w)
{
    sl_rx_burst(w->ep, w->rx, w->n, w->now_ns);
    w->n = 0;
    assert_accounts(w->ep);
}

static void send_all(struct world *w)
{
    static uint8_t buf[8][PACKET_CAP];
    struct sl_tx tx[8];
    unsigned total = 0, n;
    do {
        for (unsigned i = 0; i < 8; i++)
            tx[i] = (struct sl_tx){.buf = buf[i], .cap = PACKET_CAP};
        n = sl_tx_burst(w->ep, tx, 8, w->now_ns);
        total += n;
        if (total > 10000)
            abort(); /* more than windows, probes and one answer could be */
    } while (n == 8);
    if (sl_next_deadline(w->ep) == 0)
        abort();
}

static uint16_t packet(struct world *w, enum op op, struct script *s, uint8_t *out)
{
    uint64_t pn = take(s, 1) << take(s, 1) % 16;
    if (op == DATA || op == FORGED) {
        uint32_t grant = (uint32_t)take(s, 1) % (N_GRANTS + 1), unit0 = (uint32_t)take(s, 1) % 48;
        uint16_t n_units = (uint16_t)(1 + take(s, 1) % 8);
        uint16_t len = seal_data(&w->peer, pn, grant, unit0, n_units, (uint8_t)pn, out);
        if (op == FORGED)
            out[take(s, 2) % len] ^= (uint8_t)(1 + take(s, 1) % 255);
        return len;
    }
    size_t len = 1 + take(s, 1) % 255;
    if (len > (size_t)(s->end - s->at))
        len = (size_t)(s->end - s->at);
    uint16_t total = 0;
    if (op == RAW) {
        memcpy(out, s->at, len);
        total = (uint16_t)len;
    } else if (len != 0) {
        total = seal_bytes(&w->peer, pn, s->at, len, out);
    }
    s->at += len;
    return total;
}

static void step(struct world *w, struct script *s)
{
    enum op op = (enum op)(take(s, 1) % N_OPS);
    switch (op) {
    case RAW:
    case FRAMES:
    case DATA:
    case FORGED:
        w->rx[w->n] = rx_of(w->bytes[w->n], packet(w, op, s, w->bytes[w->n]));
        w->rx[w->n++].remote.port = (uint16_t)take(s, 1);
        break;
    case AGAIN:
        if (w->n != 0) {
            w->rx[w->n] = w->rx[take(s, 1) % w->n];
            w->n++;
        }
        break;
    case FLUSH:
        flush(w);
        break;
    case TIME:
        w->now_ns += take(s, 2) << take(s, 1) % 32;
        send_all(w);
        break;
    case SEND: {
        uint32_t grant = (uint32_t)take(s, 1) % N_GRANTS;
        if (w->model.out[grant].done[0] + w->model.out[grant].done[1] == 0)
            sl_endpoint_send(w->ep, 1, grant + 1, w->model.out[grant].n_units, w->now_ns);
        if (take(s, 1) % 8 == 0)
            sl_endpoint_cancel(w->ep, 1, (uint32_t)take(s, 1) % N_GRANTS + 1);
        break;
    }
    case FRAME: {
        struct sl_frame f = {.type = SL_FRAME_STEP_LOST, .step_lost = {.reason = SL_LOST_EXPIRED}};
        sl_endpoint_frame(w->ep, 1, &f, w->now_ns);
        break;
    }
    case PHASE:
        sealer_next_phase(&w->peer);
        break;
    }
    if (w->n == BURST_CAP)
        flush(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct script s = {data, data + size};
    w.is_edge = take(&s, 1) & 1;
    w.now_ns = MS;
    w.n = 0;
    w.ep = open_one(w.is_edge, &w.model, 16);
    sealer_init(&w.peer, w.is_edge, id_of(w.is_edge));
    for (uint32_t grant = 1; grant <= N_GRANTS; grant++) {
        model_expect(&w.model, 1, grant, 10 * grant);
        model_offer(&w.model, 1, grant, 100 * grant, grant);
    }
    while (s.at < s.end)
        step(&w, &s);
    flush(&w);
    send_all(&w);
    for (unsigned i = 0; i < N_GRANTS; i++)
        assert_true(w.model.in[i].completed <= 1);
    sl_endpoint_free(w.ep);
    for (unsigned i = 0; i < N_GRANTS; i++)
        assert_true(w.model.out[i].done[0] + w.model.out[i].done[1] + w.model.out[i].done[2] <= 1);
    sealer_free(&w.peer);
    model_free(&w.model);
    return 0;
}

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    /* role; then op and its arguments, as step() reads them */
    static const uint8_t seeds[][64] = {
        {1, DATA, 0, 0, 1, 0, 3, 7, DATA, 1, 0, 1, 4, 3, 7, DATA, 2, 0, 1, 8, 1, 7, FLUSH, TIME, 1, 0, 20},
        {1, DATA, 0, 0, 2, 0, 3, 7, FORGED, 1, 0, 2, 0, 3, 0, 60, 9, 7, AGAIN, 0, AGAIN, 1, FLUSH, TIME, 1, 0,
            20},
        {0, SEND, 0, 1, SEND, 1, 1, TIME, 1, 0, 4, FRAMES, 0, 0, 18, SL_FRAME_ACK, 1, 0, 0, 0, 9, 0, 0, 0, 0,
            0, 0, 0, 9, 0, 0, 0, 4, 7, FLUSH, TIME, 1, 0, 20, TIME, 1, 0, 24},
        {0, FRAME, FRAME, TIME, 1, 0, 4, TIME, 9, 0, 20, FRAMES, 1, 0, 9, SL_FRAME_PATH_CHALLENGE, 1, 2, 3, 4,
            5, 6, 7, 8, 7, FLUSH, TIME, 1, 0, 20},
        {1, FRAMES, 0, 0, 18, SL_FRAME_REQUEST, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 9, 7, FLUSH,
            SEND, 3, 1, TIME, 1, 0, 20},
        {1, DATA, 0, 0, 1, 0, 3, 7, PHASE, DATA, 1, 0, 1, 4, 3, 7, FLUSH, DATA, 2, 0, 1, 8, 1, 7, TIME, 1, 0,
            20, PHASE, DATA, 3, 0, 1, 8, 1, 7, FLUSH, TIME, 1, 0, 24},
        {1, RAW, 0, 0, 41, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0e, 0, 0x0e, 7, FLUSH},
    };
    if (index >= sizeof(seeds) / sizeof(seeds[0]))
        return 0;
    memcpy(buf, seeds[index], sizeof(seeds[0]));
    return sizeof(seeds[0]);
}
