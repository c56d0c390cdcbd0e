/*  0  magic "SLUICECP"            8
 *  8  format, lora.rank           4 + 4
 * 16  alpha (bits of f32), targets, freeze_a, optimiser   4 x 4
 * 32  lora.seed                   8
 * 40  model_hash                  32
 * 72  run, incarnation, version, global_step, tokens, train_ns   6 x 8
 * 120 n_layers, first, n_devices, has_moments   4 x 4
 * 136 block                       8
 * 144 g | t | m | v | devices (65 bytes of id, 8 of step each) | SHA-256
 */
#include "trainer/pipeline/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'C', 'P'};
enum { HEADER_BYTES = 144, DEVICE_BYTES = SL_CHECKPOINT_ID_BYTES + 8, LAYERS_MAX = 1024 };
#define BLOCK_MAX (UINT64_C(1) << 28)

struct writer {
    uint8_t *p;
};
struct reader {
    const uint8_t *p;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
    if (n)
        memcpy(w->p, bytes, n);
    w->p += n;
}

static void put_u32(struct writer *w, uint32_t x)
{
    for (unsigned i = 0; i < 4; i++)
        *w->p++ = (uint8_t)(x >> 8 * i);
}

static void put_u64(struct writer *w, uint64_t x)
{
    put_u32(w, (uint32_t)x);
    put_u32(w, (uint32_t)(x >> 32));
}

static void put_floats(struct writer *w, const float *x, size_t n)
{
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "floats are copied as they lie in memory"
#endif
    put(w, x, n * sizeof *x);
}

static uint32_t get_u32(struct reader *r)
{
    uint32_t x = 0;
    for (unsigned i = 0; i < 4; i++)
        x |= (uint32_t)*r->p++ << 8 * i;
    return x;
}

static uint64_t get_u64(struct reader *r)
{
    uint64_t low = get_u32(r);
    return low | (uint64_t)get_u32(r) << 32;
}

static size_t image_bytes(const struct sl_checkpoint *c, bool moments)
{
    size_t edge = c->n_layers - c->first;
    return HEADER_BYTES + c->n_layers * c->block * 4 + edge * 8 + (moments ? 2 * edge * c->block * 4 : 0) +
           (size_t)c->n_devices * DEVICE_BYTES + SHA256_DIGEST_LENGTH;
}

static void put_header(struct writer *w, const struct sl_checkpoint *c)
{
    uint32_t alpha;
    memcpy(&alpha, &c->lora.alpha, sizeof alpha);
    put(w, magic, sizeof magic);
    put_u32(w, SL_CHECKPOINT_FORMAT);
    put_u32(w, c->lora.rank);
    put_u32(w, alpha);
    put_u32(w, c->lora.targets);
    put_u32(w, c->lora.freeze_a);
    put_u32(w, c->optim);
    put_u64(w, c->lora.seed);
    put(w, c->model_hash, sizeof c->model_hash);
    put_u64(w, c->run);
    put_u64(w, c->incarnation);
    put_u64(w, c->version);
    put_u64(w, c->global_step);
    put_u64(w, c->tokens);
    put_u64(w, c->train_ns);
    put_u32(w, c->n_layers);
    put_u32(w, c->first);
    put_u32(w, c->n_devices);
    put_u32(w, c->m != NULL);
    put_u64(w, c->block);
}

int sl_checkpoint_encode(const struct sl_checkpoint *c, uint8_t **image, size_t *len)
{
    size_t edge = c->n_layers - c->first;
    *len = image_bytes(c, c->m != NULL);
    *image = malloc(*len);
    if (!*image)
        return -ENOMEM;
    struct writer w = {*image};
    put_header(&w, c);
    put_floats(&w, c->g, c->n_layers * c->block);
    for (size_t l = 0; l < edge; l++)
        put_u64(&w, c->t[l]);
    if (c->m) {
        put_floats(&w, c->m, edge * c->block);
        put_floats(&w, c->v, edge * c->block);
    }
    for (uint32_t i = 0; i < c->n_devices; i++) {
        put(&w, c->devices[i].id, SL_CHECKPOINT_ID_BYTES);
        put_u64(&w, c->devices[i].last_step);
    }
    SHA256(*image, *len - SHA256_DIGEST_LENGTH, w.p);
    return 0;
}

static int bad(char *err, size_t err_cap, const char *what)
{
    snprintf(err, err_cap, "the checkpoint %s; move it away to start the run anew", what);
    return -EINVAL;
}

static uint32_t get_header(struct reader *r, struct sl_checkpoint *c)
{
    r->p += sizeof magic + 4;
    c->lora.rank = get_u32(r);
    uint32_t alpha = get_u32(r);
    memcpy(&c->lora.alpha, &alpha, sizeof alpha);
    c->lora.targets = get_u32(r);
    c->lora.freeze_a = get_u32(r) != 0;
    c->optim = (enum sl_optim_kind)get_u32(r);
    c->lora.seed = get_u64(r);
    memcpy(c->model_hash, r->p, sizeof c->model_hash);
    r->p += sizeof c->model_hash;
    c->run = get_u64(r);
    c->incarnation = get_u64(r);
    c->version = get_u64(r);
    c->global_step = get_u64(r);
    c->tokens = get_u64(r);
    c->train_ns = get_u64(r);
    c->n_layers = get_u32(r);
    c->first = get_u32(r);
    c->n_devices = get_u32(r);
    uint32_t moments = get_u32(r);
    c->block = get_u64(r);
    return moments;
}

static bool get_floats(struct reader *r, float **out, size_t n)
{
    *out = malloc((n ? n : 1) * sizeof **out);
    if (!*out)
        return false;
    memcpy(*out, r->p, n * sizeof **out);
    r->p += n * sizeof **out;
    return true;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static int get_body(struct reader *r, struct sl_checkpoint *c, bool moments, char *err, size_t err_cap)
{
    size_t edge = c->n_layers - c->first, n = edge * c->block;
    if (!get_floats(r, &c->g, c->n_layers * c->block))
        return -ENOMEM;
    c->t = malloc(edge * sizeof *c->t);
    c->devices = calloc(c->n_devices + 1u, sizeof *c->devices);
    if (!c->t || !c->devices)
        return -ENOMEM;
    for (size_t l = 0; l < edge; l++)
        c->t[l] = get_u64(r);
    if (moments && (!get_floats(r, &c->m, n) || !get_floats(r, &c->v, n)))
        return -ENOMEM;
    if (!all_finite(c->g, c->n_layers * c->block) ||
        (moments && (!all_finite(c->m, n) || !all_finite(c->v, n))))
        return bad(err, err_cap, "holds numbers that are not finite");
    for (uint32_t i = 0; i < c->n_devices; i++) {
        memcpy(c->devices[i].id, r->p, SL_CHECKPOINT_ID_BYTES);
        r->p += SL_CHECKPOINT_ID_BYTES;
        c->devices[i].last_step = get_u64(r);
        if (c->devices[i].id[SL_CHECKPOINT_ID_BYTES - 1])
            return bad(err, err_cap, "holds a device name without an end");
    }
    return 0;
}

int sl_checkpoint_decode(const uint8_t *image, size_t len, struct sl_checkpoint *c, char *err, size_t err_cap)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    memset(c, 0, sizeof *c);
    if (len < HEADER_BYTES + SHA256_DIGEST_LENGTH)
        return bad(err, err_cap, "is cut short");
    if (memcmp(image, magic, sizeof magic))
        return bad(err, err_cap, "is not one of Sluice's");
    if (get_u32(&(struct reader){image + sizeof magic}) != SL_CHECKPOINT_FORMAT)
        return bad(err, err_cap, "is of another format version");
    SHA256(image, len - sizeof digest, digest);
    if (memcmp(digest, image + len - sizeof digest, sizeof digest))
        return bad(err, err_cap, "is damaged: its SHA-256 does not match");
    struct reader r = {image};
    uint32_t moments = get_header(&r, c);
    if (c->n_layers > LAYERS_MAX || c->first >= c->n_layers || !c->block || c->block > BLOCK_MAX ||
        c->n_devices > SL_CHECKPOINT_DEVICES_MAX || moments > 1 || len != image_bytes(c, moments)) {
        memset(c, 0, sizeof *c);
        return bad(err, err_cap, "has a length that its contents do not have");
    }
    int status = get_body(&r, c, moments, err, err_cap);
    if (status) {
        if (status == -ENOMEM)
            snprintf(err, err_cap, "not enough memory to read the checkpoint");
        sl_checkpoint_clear(c);
    }
    return status;
}

void sl_checkpoint_clear(struct sl_checkpoint *c)
{
    free(c->g);
    free(c->t);
    free(c->m);
    free(c->v);
    free(c->devices);
    memset(c, 0, sizeof *c);
}
