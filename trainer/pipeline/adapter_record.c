/*   0  magic "SLUICEAE" or "SLUICEAF"    8
 *   8  sum of all that follows           8
 *  16  format, n_layers, first, cut      4 x 4
 *  32  block, version, step              3 x 8
 *  56  has_moments, 0                    2 x 4
 *  64  id                                65, zeros to 192
 * 192  edge part: optimiser steps t      8 x (n_layers - first), zeros to a multiple of 64
 *      floats, zeros to the part's end */
#include "trainer/pipeline/adapter_record.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FORMAT = 1, HEADER_BYTES = 192, LANES = 4 };
static const char edge_magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'A', 'E'};
static const char front_magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'A', 'F'};

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "floats and counters are copied as they lie in memory"
#endif

struct header {
    char magic[8];
    uint64_t sum;
    uint32_t format, n_layers, first, cut;
    uint64_t block, version, step;
    uint32_t moments, zero;
    char id[SL_ADAPTER_RECORD_ID_BYTES];
    char pad[HEADER_BYTES - 64 - SL_ADAPTER_RECORD_ID_BYTES];
};
_Static_assert(sizeof(struct header) == HEADER_BYTES, "the header's layout is the file's");

static size_t round_to(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t floats_at(const struct sl_adapter_record_shape *s)
{
    return HEADER_BYTES + round_to((s->n_layers - s->first) * sizeof(uint64_t), 64);
}

static size_t edge_floats(const struct sl_adapter_record_shape *s)
{
    return (s->n_layers - s->first) * s->block;
}

size_t sl_adapter_record_edge_bytes(const struct sl_adapter_record_shape *s)
{
    return round_to(
        floats_at(s) + edge_floats(s) * (s->moments ? 3 : 1) * sizeof(float), SL_ADAPTER_RECORD_ALIGN);
}

size_t sl_adapter_record_front_bytes(const struct sl_adapter_record_shape *s)
{
    return round_to(HEADER_BYTES + s->max_cut * s->block * sizeof(float), SL_ADAPTER_RECORD_ALIGN);
}

size_t sl_adapter_record_bytes(const struct sl_adapter_record_shape *s)
{
    return sl_adapter_record_edge_bytes(s) + sl_adapter_record_front_bytes(s);
}

/* Four lanes of rotate and multiply, mixed at the end: finds torn and overwritten sectors at the speed of
 * memory. It is no defence against a forger; who can write the run directory can write its checkpoint. The
 * constants are odd numbers with balanced bits. */
static uint64_t sum_of(const uint8_t *bytes, size_t n)
{
    static const uint64_t odd[LANES] = {UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xc2b2ae3d27d4eb4f),
        UINT64_C(0x165667b19e3779f9), UINT64_C(0xd6e8feb86659fd93)};
    uint64_t lane[LANES] = {1, 2, 3, 4}, sum = n;
    for (size_t at = 0; at < n; at += 8 * LANES) {
        uint64_t word[LANES] = {0};
        memcpy(word, bytes + at, n - at < sizeof word ? n - at : sizeof word);
        for (unsigned i = 0; i < LANES; i++) {
            uint64_t x = lane[i] ^ word[i];
            lane[i] = (x << 29 | x >> 35) * odd[i];
        }
    }
    for (unsigned i = 0; i < LANES; i++) {
        sum = (sum ^ lane[i]) * odd[(i + 1) % LANES];
        sum ^= sum >> 32;
    }
    return sum;
}

static uint64_t part_sum(const uint8_t *part, size_t bytes)
{
    size_t from = offsetof(struct header, format);
    return sum_of(part + from, bytes - from);
}

void sl_adapter_record_sign(uint8_t *part, size_t bytes)
{
    uint64_t sum = part_sum(part, bytes);
    memcpy(part + offsetof(struct header, sum), &sum, sizeof sum);
}

static void put_header(uint8_t *out, const char magic[8], const struct sl_adapter_record_shape *s,
    const struct sl_adapter_record_head *head, size_t bytes)
{
    struct header h = {.format = FORMAT,
        .n_layers = s->n_layers,
        .first = s->first,
        .cut = head->cut,
        .block = s->block,
        .version = head->version,
        .step = head->step,
        .moments = s->moments};
    memcpy(h.magic, magic, sizeof h.magic);
    memcpy(h.id, head->id, sizeof h.id);
    memcpy(out, &h, sizeof h);
    sl_adapter_record_sign(out, bytes);
}

void sl_adapter_record_encode(const struct sl_adapter_record_shape *s,
    const struct sl_adapter_record_head *head, struct sl_adapter *adapter, const struct sl_moments *moments,
    uint8_t *out)
{
    size_t bytes = sl_adapter_record_edge_bytes(s), n = s->block * sizeof(float), at = floats_at(s);
    uint32_t blocks = s->n_layers - s->first;
    memset(out, 0, at);
    for (uint32_t i = 0; i < blocks; i++) {
        memcpy(out + HEADER_BYTES + i * sizeof(uint64_t), &moments[i].t, sizeof(uint64_t));
        memcpy(out + at + i * n, sl_adapter_block(adapter, s->first + i).data, n);
        if (s->moments) {
            memcpy(out + at + (blocks + i) * n, moments[i].m, n);
            memcpy(out + at + (2 * blocks + i) * n, moments[i].v, n);
        }
    }
    at += blocks * n * (s->moments ? 3 : 1);
    memset(out + at, 0, bytes - at);
    put_header(out, edge_magic, s, head, bytes);
}

void sl_adapter_record_encode_front(const struct sl_adapter_record_shape *s,
    const struct sl_adapter_record_head *head, const float *front, uint8_t *out)
{
    size_t bytes = sl_adapter_record_front_bytes(s), n = head->cut * s->block * sizeof(float);
    memcpy(out + HEADER_BYTES, front, n);
    memset(out + HEADER_BYTES + n, 0, bytes - HEADER_BYTES - n);
    put_header(out, front_magic, s, head, bytes);
}

static int bad(char *err, size_t err_cap, const char *id, const char *what)
{
    snprintf(err, err_cap,
        "the stored adapter of %.64s %s; move the run's adapters.bin and checkpoint.bin away to "
        "start the run anew",
        id, what);
    return -EINVAL;
}

static int check_header(const uint8_t *bytes, size_t n, const char magic[8],
    const struct sl_adapter_record_shape *s, const char *id, struct header *h, char *err, size_t err_cap)
{
    memcpy(h, bytes, sizeof *h);
    if (memcmp(h->magic, magic, sizeof h->magic))
        return bad(err, err_cap, id, "is not where it should be");
    if (h->sum != part_sum(bytes, n))
        return bad(err, err_cap, id, "is damaged: its sum does not match");
    if (h->format != FORMAT || h->n_layers != s->n_layers || h->first != s->first || h->block != s->block ||
        h->moments != s->moments || h->cut > s->max_cut)
        return bad(err, err_cap, id, "is of another shape");
    if (h->id[sizeof h->id - 1] || strcmp(h->id, id))
        return bad(err, err_cap, id, "is another device's");
    return 0;
}

static void give_head(const struct header *h, struct sl_adapter_record_head *head)
{
    if (!head)
        return;
    *head = (struct sl_adapter_record_head){.version = h->version, .step = h->step, .cut = h->cut};
    memcpy(head->id, h->id, sizeof head->id);
}

int sl_adapter_record_decode(const struct sl_adapter_record_shape *s, const char *id, const uint8_t *bytes,
    struct sl_adapter *adapter, struct sl_moments *moments, struct sl_adapter_record_head *head, char *err,
    size_t err_cap)
{
    struct header h;
    uint32_t blocks = s->n_layers - s->first;
    size_t n = s->block * sizeof(float), at = floats_at(s);
    bool finite = true;
    int status = check_header(bytes, sl_adapter_record_edge_bytes(s), edge_magic, s, id, &h, err, err_cap);
    if (status)
        return status;
    for (uint32_t i = 0; i < blocks; i++) {
        float *data = sl_adapter_block(adapter, s->first + i).data;
        memcpy(&moments[i].t, bytes + HEADER_BYTES + i * sizeof(uint64_t), sizeof(uint64_t));
        memcpy(data, bytes + at + i * n, n);
        finite = finite && sl_all_finite(data, s->block);
        if (!s->moments)
            continue;
        memcpy(moments[i].m, bytes + at + (blocks + i) * n, n);
        memcpy(moments[i].v, bytes + at + (2 * blocks + i) * n, n);
        finite = finite && sl_all_finite(moments[i].m, s->block) && sl_all_finite(moments[i].v, s->block);
    }
    give_head(&h, head);
    return finite ? 0 : bad(err, err_cap, id, "holds numbers that are not finite");
}

int sl_adapter_record_decode_front(const struct sl_adapter_record_shape *s, const char *id,
    const uint8_t *bytes, float *front, struct sl_adapter_record_head *head, char *err, size_t err_cap)
{
    struct header h;
    int status = check_header(bytes, sl_adapter_record_front_bytes(s), front_magic, s, id, &h, err, err_cap);
    if (status)
        return status;
    memcpy(front, bytes + HEADER_BYTES, h.cut * s->block * sizeof(float));
    give_head(&h, head);
    return sl_all_finite(front, h.cut * s->block)
               ? 0
               : bad(err, err_cap, id, "holds numbers that are not finite");
}
