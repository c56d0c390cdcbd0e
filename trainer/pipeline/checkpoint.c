/* Sections of the core, each in this order:
 *
 *   RUN   model_hash 32, run, incarnation, version, global_step, tokens, train_ns   8 each
 *   LORA  rank, alpha (bits of f32), targets, freeze_a, optimiser, n_layers, first, 0   4 each; seed, block 8
 * each GLOB  g EDGE  has_moments 4, 0 4, then by block: t 8, m, v DEVS  number 4, 0 4, then by device: id 65,
 * zeros 3, cut 4, last_step 8
 */
#include "trainer/pipeline/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[SL_IMAGE_MAGIC] = {'S', 'L', 'U', 'I', 'C', 'E', 'C', 'P'};
#define RUN SL_TAG('R', 'U', 'N', ' ')
#define LORA SL_TAG('L', 'O', 'R', 'A')
#define GLOBAL SL_TAG('G', 'L', 'O', 'B')
#define EDGE SL_TAG('E', 'D', 'G', 'E')
#define DEVICES SL_TAG('D', 'E', 'V', 'S')

enum { CORE_SECTIONS = 5, ID_PADDING = 3, DEVICE_BYTES = SL_CHECKPOINT_ID_BYTES + ID_PADDING + 4 + 8 };
enum { LAYERS_MAX = 1024, RUN_BYTES = 32 + 6 * 8, LORA_BYTES = 8 * 4 + 2 * 8 };
#define BLOCK_MAX (UINT64_C(1) << 28)

static const uint32_t part_tags[] = {SL_PART_SERVER, SL_PART_PERSONAL};
enum { N_PARTS = sizeof part_tags / sizeof *part_tags };
_Static_assert(CORE_SECTIONS + N_PARTS <= SL_CHECKPOINT_SECTIONS_MAX, "a place for each");

/* ------------------------------------------------------------------------------------------------- writing
 */

static size_t image_bytes(const struct sl_checkpoint *c)
{
    enum { SECTION = SL_IMAGE_SECTION_HEADER + 7 };
    size_t edge = c->n_layers - c->first, floats = c->n_layers + (c->moments->m ? 2 * edge : 0);
    size_t n = SL_IMAGE_HEADER + CORE_SECTIONS * SECTION + RUN_BYTES + LORA_BYTES + 4 * floats * c->block +
               8 * (edge + 2) + (size_t)c->n_devices * DEVICE_BYTES + SL_IMAGE_DIGEST;
    for (uint32_t i = 0; i < c->n_parts; i++)
        n += SECTION + c->parts[i].left;
    return n;
}

static void put_run(struct sl_image *im, const struct sl_checkpoint *c)
{
    sl_image_section(im, RUN);
    sl_image_bytes(im, c->model_hash, sizeof c->model_hash);
    sl_image_u64(im, c->run);
    sl_image_u64(im, c->incarnation);
    sl_image_u64(im, c->version);
    sl_image_u64(im, c->global_step);
    sl_image_u64(im, c->tokens);
    sl_image_u64(im, c->train_ns);
}

static void put_lora(struct sl_image *im, const struct sl_checkpoint *c)
{
    uint32_t alpha;
    memcpy(&alpha, &c->lora.alpha, sizeof alpha);
    sl_image_section(im, LORA);
    sl_image_u32(im, c->lora.rank);
    sl_image_u32(im, alpha);
    sl_image_u32(im, c->lora.targets);
    sl_image_u32(im, c->lora.freeze_a);
    sl_image_u32(im, c->optim);
    sl_image_u32(im, c->n_layers);
    sl_image_u32(im, c->first);
    sl_image_u32(im, 0);
    sl_image_u64(im, c->lora.seed);
    sl_image_u64(im, c->block);
}

static void put_edge(struct sl_image *im, const struct sl_checkpoint *c)
{
    sl_image_section(im, EDGE);
    sl_image_u32(im, c->moments->m != NULL);
    sl_image_u32(im, 0);
    for (uint32_t i = 0; i < c->n_layers - c->first; i++) {
        sl_image_u64(im, c->moments[i].t);
        if (!c->moments->m)
            continue;
        sl_image_floats(im, c->moments[i].m, c->block);
        sl_image_floats(im, c->moments[i].v, c->block);
    }
}

static void put_devices(struct sl_image *im, const struct sl_checkpoint *c)
{
    static const uint8_t zeros[ID_PADDING];
    sl_image_section(im, DEVICES);
    sl_image_u32(im, c->n_devices);
    sl_image_u32(im, 0);
    for (uint32_t i = 0; i < c->n_devices; i++) {
        sl_image_bytes(im, c->devices[i].id, SL_CHECKPOINT_ID_BYTES);
        sl_image_bytes(im, zeros, sizeof zeros);
        sl_image_u32(im, c->devices[i].cut);
        sl_image_u64(im, c->devices[i].last_step);
    }
}

void sl_checkpoint_encode(const struct sl_checkpoint *c, size_t room, struct sl_image *im)
{
    sl_image_begin(im, magic, SL_CHECKPOINT_FORMAT, image_bytes(c) + room);
    put_run(im, c);
    put_lora(im, c);
    sl_image_section(im, GLOBAL);
    sl_image_floats(im, c->g, c->n_layers * c->block);
    put_edge(im, c);
    put_devices(im, c);
    for (uint32_t i = 0; i < c->n_parts; i++) {
        sl_image_section(im, c->parts[i].tag);
        sl_image_bytes(im, c->parts[i].p, c->parts[i].left);
    }
}

/* ------------------------------------------------------------------------------------------------- reading
 */

static int bad(char *err, size_t err_cap, const char *what)
{
    snprintf(err, err_cap, "the checkpoint %s; move it away to start the run anew", what);
    return -EINVAL;
}

static bool get_run(struct sl_section s, struct sl_checkpoint *c)
{
    sl_section_bytes(&s, c->model_hash, sizeof c->model_hash);
    c->run = sl_section_u64(&s);
    c->incarnation = sl_section_u64(&s);
    c->version = sl_section_u64(&s);
    c->global_step = sl_section_u64(&s);
    c->tokens = sl_section_u64(&s);
    c->train_ns = sl_section_u64(&s);
    return sl_section_ended(&s);
}

static bool get_lora(struct sl_section s, struct sl_checkpoint *c)
{
    c->lora.rank = sl_section_u32(&s);
    uint32_t alpha = sl_section_u32(&s);
    memcpy(&c->lora.alpha, &alpha, sizeof alpha);
    c->lora.targets = sl_section_u32(&s);
    uint32_t freeze_a = sl_section_u32(&s), optim = sl_section_u32(&s);
    c->lora.freeze_a = freeze_a;
    c->optim = (enum sl_optim_kind)optim;
    c->n_layers = sl_section_u32(&s);
    c->first = sl_section_u32(&s);
    uint32_t zero = sl_section_u32(&s);
    c->lora.seed = sl_section_u64(&s);
    c->block = sl_section_u64(&s);
    return sl_section_ended(&s) && !zero && freeze_a <= 1 && optim <= SL_SGD && c->n_layers <= LAYERS_MAX &&
           c->first < c->n_layers && c->block && c->block <= BLOCK_MAX;
}

/* Where `m` and `v` of all blocks lie in one allocation, pointed to by the first. */
static int get_edge(struct sl_section s, struct sl_checkpoint *c)
{
    uint32_t edge = c->n_layers - c->first, has = sl_section_u32(&s), zero = sl_section_u32(&s);
    if (has > 1 || zero || s.left != edge * (8 + (has ? 8 * c->block : 0)))
        return -EINVAL;
    c->moments = calloc(edge, sizeof *c->moments);
    float *both = has ? malloc(2 * edge * c->block * sizeof *both) : NULL;
    if (!c->moments || (has && !both)) {
        free(both);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < edge; i++) {
        c->moments[i].t = sl_section_u64(&s);
        if (!has)
            continue;
        c->moments[i].m = both + 2 * i * c->block;
        c->moments[i].v = c->moments[i].m + c->block;
        sl_section_floats(&s, c->moments[i].m, c->block);
        sl_section_floats(&s, c->moments[i].v, c->block);
    }
    return sl_section_ended(&s) ? 0 : -EDOM;
}

static int get_devices(struct sl_section s, struct sl_checkpoint *c)
{
    uint32_t n = sl_section_u32(&s), zero = sl_section_u32(&s);
    uint8_t padding[ID_PADDING];
    if (n > SL_CHECKPOINT_DEVICES_MAX || zero || s.left != (size_t)n * DEVICE_BYTES)
        return -EINVAL;
    c->devices = calloc(n + 1u, sizeof *c->devices);
    if (!c->devices)
        return -ENOMEM;
    c->n_devices = n;
    for (uint32_t i = 0; i < n; i++) {
        sl_section_bytes(&s, c->devices[i].id, SL_CHECKPOINT_ID_BYTES);
        sl_section_bytes(&s, padding, sizeof padding);
        c->devices[i].cut = sl_section_u32(&s);
        c->devices[i].last_step = sl_section_u64(&s);
        if (c->devices[i].id[SL_CHECKPOINT_ID_BYTES - 1] || padding[0] | padding[1] | padding[2] ||
            c->devices[i].cut >= c->n_layers)
            return -EILSEQ;
    }
    return 0;
}

static int get_g(struct sl_section s, struct sl_checkpoint *c)
{
    size_t n = c->n_layers * c->block;
    if (s.bad || s.left != n * sizeof *c->g)
        return -EINVAL;
    c->g = malloc(n * sizeof *c->g);
    if (!c->g)
        return -ENOMEM;
    sl_section_floats(&s, c->g, n);
    return sl_section_ended(&s) ? 0 : -EDOM;
}

static bool is_core(uint32_t tag)
{
    return tag == RUN || tag == LORA || tag == GLOBAL || tag == EDGE || tag == DEVICES;
}

/* Keeps the parts, in a copy of the image's bytes. */
static int get_parts(const struct sl_section *s, unsigned n, struct sl_checkpoint *c)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        bool known = is_core(s[i].tag);
        for (unsigned k = 0; k < N_PARTS; k++)
            known = known || s[i].tag == part_tags[k];
        if (!known)
            return -ENOTSUP;
        bytes += is_core(s[i].tag) ? 0 : s[i].left;
    }
    uint8_t *at = c->memory = malloc(bytes + 1);
    if (!at)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        if (is_core(s[i].tag))
            continue;
        memcpy(at, s[i].p, s[i].left);
        c->parts[c->n_parts++] = (struct sl_section){.tag = s[i].tag, .p = at, .left = s[i].left};
        at += s[i].left;
    }
    return 0;
}

static int get_all(const struct sl_section *s, unsigned n, struct sl_checkpoint *c)
{
    if (!get_run(sl_image_find(s, n, RUN), c) || !get_lora(sl_image_find(s, n, LORA), c))
        return -EINVAL;
    int status = get_g(sl_image_find(s, n, GLOBAL), c);
    if (!status)
        status = get_edge(sl_image_find(s, n, EDGE), c);
    if (!status)
        status = get_devices(sl_image_find(s, n, DEVICES), c);
    return status ? status : get_parts(s, n, c);
}

int sl_checkpoint_decode(const uint8_t *image, size_t len, struct sl_checkpoint *c, char *err, size_t err_cap)
{
    struct sl_section sections[SL_CHECKPOINT_SECTIONS_MAX];
    const char *why;
    memset(c, 0, sizeof *c);
    int n =
        sl_image_open(image, len, magic, SL_CHECKPOINT_FORMAT, sections, SL_CHECKPOINT_SECTIONS_MAX, &why);
    if (n < 0)
        return bad(err, err_cap, why);
    int status = get_all(sections, (unsigned)n, c);
    if (!status)
        return 0;
    sl_checkpoint_clear(c);
    switch (status) {
    case -ENOMEM:
        snprintf(err, err_cap, "not enough memory to read the checkpoint");
        return status;
    case -EDOM:
        return bad(err, err_cap, "holds numbers that are not finite");
    case -EILSEQ:
        return bad(err, err_cap, "holds a device that cannot be");
    case -ENOTSUP:
        return bad(err, err_cap, "has a section that this release does not know");
    default:
        return bad(err, err_cap, "has a length that its contents do not have");
    }
}

void sl_checkpoint_clear(struct sl_checkpoint *c)
{
    free(c->g);
    if (c->moments)
        free(c->moments->m);
    free(c->moments);
    free(c->devices);
    free(c->memory);
    memset(c, 0, sizeof *c);
}

const struct sl_section *sl_checkpoint_part(const struct sl_checkpoint *c, uint32_t tag)
{
    for (uint32_t i = 0; i < c->n_parts; i++)
        if (c->parts[i].tag == tag)
            return &c->parts[i];
    return NULL;
}
