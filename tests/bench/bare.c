#include "tests/bench/bare.h"

#include "dataplane/crypto/keys.h"
#include "dataplane/wire/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN = 32, ALIGN = 64, AT_SESSION = 8, AT_PN = 16, AT_UNIT0 = 24, LOOK_AHEAD = 2 };

static int derive(struct bench_bare *b, uint32_t i, uint8_t *at)
{
    struct sl_session_config c = bench_load_session(b->load, BENCH_SENDER, i);
    struct sl_packet_keys k;
    int err = sl_packet_keys_derive(c.secret, &k);
    if (err != 0)
        return err;
    b->keys[i].key = (struct sl_aead_key *)(void *)at;
    sl_aead_key_init(b->aead, b->keys[i].key, k.device_to_edge.key);
    memcpy(b->keys[i].iv, k.device_to_edge.iv, SL_AEAD_IV_BYTES);
    b->grant[i] = 1;
    return 0;
}

int bench_bare_init(struct bench_bare *b, const struct bench_load *load)
{
    size_t n = load->sessions, stride = (sl_aead_key_size() + ALIGN - 1) / ALIGN * ALIGN;
    *b = (struct bench_bare){.load = load, .aead = sl_aead_create(), .left = TRAIN};
    b->keys = calloc(n, sizeof(*b->keys));
    b->key_memory = aligned_alloc(ALIGN, n * stride);
    b->pn = calloc(n, sizeof(*b->pn));
    b->fragment = calloc(n, sizeof(*b->fragment));
    b->grant = calloc(n, sizeof(*b->grant));
    int err = b->aead == NULL || b->keys == NULL || b->key_memory == NULL || b->pn == NULL ||
                      b->fragment == NULL || b->grant == NULL
                  ? -ENOMEM
                  : 0;
    for (uint32_t i = 0; i < n && err == 0; i++)
        err = derive(b, i, b->key_memory + i * stride);
    if (err != 0)
        bench_bare_free(b);
    return err;
}

void bench_bare_free(struct bench_bare *b)
{
    for (uint32_t i = 0; b->keys != NULL && i < b->load->sessions; i++)
        if (b->keys[i].key != NULL)
            sl_aead_key_clear(b->keys[i].key);
    if (b->aead != NULL)
        sl_aead_free(b->aead);
    free(b->keys);
    free(b->key_memory);
    free(b->pn);
    free(b->fragment);
    free(b->grant);
    *b = (struct bench_bare){0};
}

/* Trains go round the sessions that would hold a slot at a time. */
static uint32_t next_session(struct bench_bare *b)
{
    const struct bench_load *l = b->load;
    if (b->left-- == 0) {
        b->left = TRAIN - 1;
        b->turn = b->turn + 1 < l->sessions ? b->turn + 1 : 0;
    }
    return b->turn;
}

uint16_t bench_bare_seal(
    struct bench_bare *b, const struct bench_material *m, uint8_t *out, uint32_t *session)
{
    const struct bench_load *l = b->load;
    uint32_t s = *session = next_session(b), n;
    size_t len;
    struct sl_header h = {.type = SL_PACKET_DATA,
        .grant = b->grant[s],
        .session = sl_session_id((uint8_t)(s % l->cores), s, 0),
        .pn = b->pn[s]++,
        .unit0 = b->fragment[s] * l->fragment_units};
    const uint8_t *plain = bench_material_fragment(m, b->fragment[s], &n, &len, &h.coded);
    h.n_units = (uint16_t)n;
    h.flags = h.coded != 0 ? SL_FLAG_COMPRESSED : 0;
    size_t header = sl_header_encode(&h, out);
    sl_aead_seal(b->aead, b->keys[s].key, b->keys[s].iv, h.pn, out, header, plain, len, out + header,
        out + header + len);
    if (++b->fragment[s] == l->grid.n_fragments) {
        b->fragment[s] = 0;
        b->grant[s]++;
    }
    return (uint16_t)(header + len + SL_TAG_BYTES);
}

/* The next packet's lines come from the sender's cache, its slot's from wherever they were used last: both
 * while this packet is being opened. */
static inline void fetch(const uint8_t *from, uint8_t *to, size_t len)
{
    for (size_t at = 0; at < len; at += SL_UNIT_BYTES) {
        __builtin_prefetch(from + at, 0, 3);
        __builtin_prefetch(to + at, 1, 3);
    }
}

unsigned bench_bare_open(
    struct bench_bare *b, const struct sl_dgram *d, unsigned n, uint8_t *const *slot_of_session)
{
    unsigned right = 0;
    uint8_t *dst[SL_PORT_BURST];
    uint32_t session[SL_PORT_BURST];
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *p = d[i].data;
        session[i] = sl_session_id_handle(sl_get64(p + AT_SESSION));
        dst[i] = slot_of_session[session[i]] + (size_t)sl_get32(p + AT_UNIT0) * SL_UNIT_BYTES;
    }
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *p = d[i].data, *sealed = p + SL_HEADER_DATA_BYTES;
        uint32_t s = session[i];
        size_t len = (size_t)d[i].len - SL_HEADER_DATA_BYTES - SL_TAG_BYTES;
        if (i + LOOK_AHEAD < n)
            fetch(d[i + LOOK_AHEAD].data, dst[i + LOOK_AHEAD], d[i + LOOK_AHEAD].len);
        right += sl_aead_open(b->aead, b->keys[s].key, b->keys[s].iv, sl_get64(p + AT_PN), p,
            SL_HEADER_DATA_BYTES, sealed, len, dst[i], sealed + len);
    }
    return right;
}
