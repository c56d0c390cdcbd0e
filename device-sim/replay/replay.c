#include "device-sim/replay/replay.h"

#include "dataplane/wire/packet.h"
#include "device-sim/replay/recording.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHAPES_MAX = 256 };
static const double scale_sigma = 0.5, outlier_factor = 20;

/* Messages of one shape: first[k] is the index of the k-th in `message`. */
struct group {
    struct sl_replay_shape shape; /* cut 0: any */
    uint32_t n, cap;
    uint32_t n_units;
    const uint8_t **message;
};

struct sl_replay {
    struct sl_replay_model model;
    uint64_t key;
    struct group group[SHAPES_MAX];
    uint32_t n_groups;
    uint8_t *map; /* the file; or NULL */
    size_t map_bytes;
    uint8_t *made; /* generated messages; or NULL */
    size_t made_bytes;
};

static struct group *find(const struct sl_replay *r, const struct sl_replay_shape *s)
{
    for (uint32_t i = 0; i < r->n_groups; i++) {
        const struct group *g = &r->group[i];
        if (g->shape.n_seqs == s->n_seqs && g->shape.rows == s->rows &&
            (!g->shape.cut || g->shape.cut == s->cut))
            return (struct group *)(uintptr_t)g;
    }
    return NULL;
}

static int add(struct sl_replay *r, const struct sl_replay_shape *s, uint32_t n_units, const uint8_t *units)
{
    struct group *g = find(r, s);

    if (!g && r->n_groups == SHAPES_MAX)
        return -E2BIG;
    if (!g) {
        g = &r->group[r->n_groups++];
        g->shape = *s;
        g->n_units = n_units;
    }
    if (g->n == g->cap) {
        uint32_t cap = g->cap ? 2 * g->cap : 16;
        const uint8_t **message = realloc(g->message, cap * sizeof(*message));
        if (!message)
            return -ENOMEM;
        g->message = message;
        g->cap = cap;
    }
    g->message[g->n++] = units;
    return 0;
}

static struct sl_replay *create(const struct sl_replay_model *m, uint64_t seed)
{
    struct sl_replay *r = calloc(1, sizeof(*r));

    if (r) {
        r->model = *m;
        r->key = sl_rng_key(seed, "replay");
    }
    return r;
}

void sl_replay_free(struct sl_replay *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->n_groups; i++)
        free(r->group[i].message);
    if (r->map)
        munmap(r->map, r->map_bytes);
    free(r->made);
    free(r);
}

/* ---- a recording ---- */

static int map_file(struct sl_replay *r, const char *file)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st))
        rc = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size < SL_RECORDING_HEADER)
        rc = -EINVAL;
    if (!rc) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            rc = -errno;
        } else {
            r->map = p;
            r->map_bytes = (size_t)st.st_size;
        }
    }
    close(fd);
    return rc;
}

static int index_entries(struct sl_replay *r, const struct sl_recording *rec, const char **wrong)
{
    struct sl_recording_entry e;
    size_t at = SL_RECORDING_HEADER;
    uint64_t n = 0;
    int rc;

    while ((rc = sl_recording_next(rec, r->map, r->map_bytes, &at, &e, wrong)) > 0) {
        struct sl_replay_shape s = {.n_seqs = e.n_seqs, .rows = e.rows, .cut = e.cut};
        rc = add(r, &s, e.tensor_units + e.target_units, e.units);
        *wrong = rc == -ENOMEM ? "out of memory" : "it has messages of more than 256 shapes";
        if (rc)
            return rc;
        n++;
    }
    if (rc)
        return rc;
    *wrong = n ? "entries are missing; it was cut off" : "it is empty; record a run that trains";
    return n && n == rec->n ? 0 : -EINVAL;
}

static int match(const struct sl_replay_model *a, const struct sl_replay_model *b, const char **wrong)
{
    *wrong = "it is of another model; record a run with this one";
    if (memcmp(a->hash, b->hash, sizeof(a->hash)) || a->d_model != b->d_model || a->vocab != b->vocab ||
        a->n_layers != b->n_layers)
        return -EINVAL;
    *wrong = "it is in another codec than edge.data.codec; record a run with that one";
    return a->codec == b->codec ? 0 : -EINVAL;
}

int sl_replay_open(const char *file, const struct sl_replay_model *m, uint64_t seed, struct sl_replay **out,
    char *err, size_t err_cap)
{
    struct sl_replay *r = create(m, seed);
    struct sl_recording rec;
    const char *wrong = NULL;
    int rc = r ? map_file(r, file) : -ENOMEM;

    if (rc == -EINVAL)
        wrong = "not a recording";
    if (!rc)
        rc = sl_recording_header(r->map, r->map_bytes, &rec, &wrong);
    if (!rc)
        rc = match(&rec.model, m, &wrong);
    if (!rc)
        rc = index_entries(r, &rec, &wrong);
    if (rc) {
        snprintf(err, err_cap, "%s: %s", file, wrong ? wrong : strerror(-rc));
        sl_replay_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* ---- generated ---- */

static void make_scales(float *scale, uint32_t d, uint64_t key)
{
    for (uint32_t i = 0; i < d; i++) {
        double s = exp(scale_sigma * (double)sl_rng_normal(key, i));
        bool outlier = sl_rng_u64(key, d + (uint64_t)i) % SL_REPLAY_OUTLIER_EVERY == 0;
        scale[i] = (float)(outlier ? outlier_factor * s : s);
    }
}

static void make_message(const struct sl_replay *r, const struct sl_grid *g, uint64_t key, const float *scale,
    float *x, uint8_t *units)
{
    uint64_t n = (uint64_t)g->rows * r->model.d_model;
    uint8_t *targets = units + (size_t)g->tensor_units * SL_UNIT_BYTES;

    for (uint64_t i = 0; i < n; i++)
        x[i] = scale[i % r->model.d_model] * sl_rng_normal(key, i);
    memset(units, 0, (size_t)g->n_units * SL_UNIT_BYTES);
    sl_codec_encode(r->model.codec, x, units, n);
    for (uint32_t i = 0; i < g->rows; i++) {
        uint32_t id = (uint32_t)(sl_rng_u64(key, n + i) % r->model.vocab);
        memcpy(targets + 4 * (size_t)i, &id, sizeof(id));
    }
}

static int generate_shape(struct sl_replay *r, const struct sl_replay_shape *s, const struct sl_grid *g,
    const float *scale, uint8_t *units, uint64_t seed)
{
    float *x = malloc((size_t)g->rows * r->model.d_model * sizeof(*x));
    struct sl_replay_shape any = {.n_seqs = s->n_seqs, .rows = s->rows};
    char name[80];
    int rc = x ? 0 : -ENOMEM;

    for (uint32_t k = 0; k < SL_REPLAY_GENERATED && !rc; k++, units += (size_t)g->n_units * SL_UNIT_BYTES) {
        snprintf(name, sizeof(name), "replay %u rows of %u sequences, number %u", s->rows, s->n_seqs, k);
        make_message(r, g, sl_rng_key(seed, name), scale, x, units);
        rc = add(r, &any, g->n_units, units);
    }
    free(x);
    return rc;
}

int sl_replay_generate(const struct sl_replay_model *m, const struct sl_replay_shape *shapes,
    uint32_t n_shapes, uint64_t seed, struct sl_replay **out)
{
    struct sl_replay *r = create(m, seed);
    float *scale = malloc(m->d_model * sizeof(*scale));
    struct sl_grid g;
    int rc = r && scale ? 0 : -ENOMEM;
    size_t at = 0;

    for (uint32_t i = 0; i < n_shapes && !rc; i++) {
        rc = sl_grid_make(&g, shapes[i].rows, m->d_model, m->codec, 1, 1);
        if (!rc)
            r->made_bytes += (size_t)SL_REPLAY_GENERATED * g.n_units * SL_UNIT_BYTES;
    }
    if (!rc && !(r->made = aligned_alloc(SL_UNIT_BYTES, r->made_bytes ? r->made_bytes : SL_UNIT_BYTES)))
        rc = -ENOMEM;
    if (!rc)
        make_scales(scale, m->d_model, sl_rng_key(seed, "replay scales"));
    for (uint32_t i = 0; i < n_shapes && !rc; i++) {
        if (find(r, &shapes[i]))
            continue;
        sl_grid_make(&g, shapes[i].rows, m->d_model, m->codec, 1, 1);
        rc = generate_shape(r, &shapes[i], &g, scale, r->made + at, seed);
        at += (size_t)SL_REPLAY_GENERATED * g.n_units * SL_UNIT_BYTES;
    }
    free(scale);
    if (rc) {
        sl_replay_free(r);
        return rc;
    }
    r->made_bytes = at;
    *out = r;
    return 0;
}

/* ---- picking ---- */

const uint8_t *sl_replay_pick(const struct sl_replay *r, const struct sl_replay_shape *s, uint32_t phone,
    uint64_t step, const struct sl_grid *grid)
{
    const struct group *g = find(r, s);

    if (!g || g->n_units != grid->n_units)
        return NULL;
    return g->message[sl_rng_u64(r->key ^ sl_rng_mix(phone), step) % g->n];
}

uint32_t sl_replay_count(const struct sl_replay *r, const struct sl_replay_shape *s)
{
    const struct group *g = find(r, s);

    return g ? g->n : 0;
}

size_t sl_replay_bytes(const struct sl_replay *r)
{
    return r->map ? r->map_bytes : r->made_bytes;
}
