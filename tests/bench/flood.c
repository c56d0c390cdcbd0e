#include "tests/bench/flood.h"

#include "dataplane/crypto/aead.h"
#include "dataplane/crypto/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN = 32, ALIGN = 64 };

struct sealer {
    struct bench_flood *flood;
    struct sl_aead *aead;
    struct sl_aead_key *key;
    struct sl_packet_keys keys;
    uint64_t session; /* the receiver's id */
    uint32_t i, pn;
};

static void seal(struct sealer *s, struct sl_header *h, const uint8_t *plain, size_t len)
{
    struct bench_flood *f = s->flood;
    size_t index = (size_t)s->i * f->n_each + s->pn;
    uint8_t *out = f->packets + index * f->stride;
    h->session = s->session;
    h->pn = s->pn++;
    size_t header = sl_header_encode(h, out);
    sl_aead_seal(s->aead, s->key, s->keys.device_to_edge.iv, h->pn, out, header, plain, len, out + header,
        out + header + len);
    f->len[index] = (uint16_t)(header + len + SL_TAG_BYTES);
}

static void seal_stream(struct sealer *s, const struct bench_material *m)
{
    const struct bench_load *l = m->load;
    for (uint32_t grant = 1; grant <= BENCH_FLOOD_MESSAGES; grant++) {
        for (uint32_t f = 0; f < l->grid.n_fragments; f++) {
            struct sl_header h = {.type = SL_PACKET_DATA, .grant = grant, .unit0 = f * l->fragment_units};
            uint32_t n;
            size_t len;
            const uint8_t *plain = bench_material_fragment(m, f, &n, &len, &h.coded);
            h.n_units = (uint16_t)n;
            h.flags = h.coded != 0 ? SL_FLAG_COMPRESSED : 0;
            seal(s, &h, plain, len);
        }
    }
}

static int seal_all(struct bench_flood *f, const struct bench_material *m)
{
    struct sealer s = {.flood = f, .aead = sl_aead_create()};
    s.key = aligned_alloc(ALIGN, (sl_aead_key_size() + ALIGN - 1) / ALIGN * ALIGN);
    int err = s.aead == NULL || s.key == NULL ? -ENOMEM : 0;
    for (s.i = 0; s.i < f->load->sessions && err == 0; s.i++) {
        struct sl_session_config c = bench_load_session(f->load, BENCH_SENDER, s.i);
        err = sl_packet_keys_derive(c.secret, &s.keys);
        if (err != 0)
            break;
        sl_aead_key_init(s.aead, s.key, s.keys.device_to_edge.key);
        s.session = c.peer_id;
        s.pn = 0;
        seal_stream(&s, m);
        sl_aead_key_clear(s.key);
    }
    free(s.key);
    if (s.aead != NULL)
        sl_aead_free(s.aead);
    return err;
}

int bench_flood_make(struct bench_flood *f, const struct bench_material *m)
{
    const struct bench_load *l = m->load;
    *f = (struct bench_flood){.load = l, .n_each = BENCH_FLOOD_MESSAGES * l->grid.n_fragments, .left = TRAIN};
    size_t n = (size_t)l->sessions * f->n_each;
    f->stride =
        ((size_t)l->fragment_units * SL_UNIT_BYTES + SL_HEADER_DATA_BYTES + SL_TAG_BYTES + ALIGN - 1) /
        ALIGN * ALIGN;
    f->packets = aligned_alloc(ALIGN, n * f->stride);
    f->len = calloc(n, sizeof(*f->len));
    f->at = calloc(l->sessions, sizeof(*f->at));
    int err = f->packets == NULL || f->len == NULL || f->at == NULL ? -ENOMEM : seal_all(f, m);
    if (err != 0)
        bench_flood_free(f);
    return err;
}

void bench_flood_free(struct bench_flood *f)
{
    free(f->packets);
    free(f->len);
    free(f->at);
    *f = (struct bench_flood){0};
}

/* Whether session i may go on; at its end it first asks to be opened anew. */
static bool may_send(struct bench_flood *f, struct bench_shared *s, uint32_t i)
{
    if (f->at[i] < f->n_each)
        return true;
    if (__atomic_load_n(&s->reopened[i], __ATOMIC_ACQUIRE) != __atomic_load_n(&s->ended[i], __ATOMIC_RELAXED))
        return false;
    f->at[i] = 0;
    return true;
}

const uint8_t *bench_flood_next(struct bench_flood *f, struct bench_shared *s, uint16_t *len)
{
    for (uint32_t tried = 0; tried <= f->load->sessions; tried++) {
        if (f->left != 0 && may_send(f, s, f->turn)) {
            size_t index = (size_t)f->turn * f->n_each + f->at[f->turn]++;
            f->left--;
            if (f->at[f->turn] == f->n_each)
                __atomic_fetch_add(&s->ended[f->turn], 1, __ATOMIC_RELEASE);
            *len = f->len[index];
            return f->packets + index * f->stride;
        }
        f->left = TRAIN;
        f->turn = f->turn + 1 < f->load->sessions ? f->turn + 1 : 0;
    }
    return NULL;
}
