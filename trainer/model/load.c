/* A model from its directory: config.json decides the table, the safetensors files must fill it exactly. */
#include "trainer/model/fail.h"
#include "trainer/model/model_files.h"
#include "trainer/model/model_internal.h"
#include "trainer/model/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 16 << 20 };

struct loader {
    struct sl_model_files files;
    struct sl_st_file *st; /* [files.n] */
    uint32_t n_open;
    struct sl_model *model;
    uint32_t first, last; /* blocks wanted */
    bool *filled;         /* by parameter */
    bool head_filled;     /* a tied head was given under its own name */
    char *err;
    size_t err_cap;
};

static int read_config(const char *dir, struct sl_model_config *config, char *err, size_t err_cap)
{
    char *path = NULL, *text;
    size_t len;
    if (asprintf(&path, "%s/config.json", dir) < 0)
        return sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", dir);
    int code = sl_read_file(path, MAX_CONFIG, &text, &len, err, err_cap);
    free(path);
    if (code)
        return code;
    code = sl_model_config_parse(text, len, config, err, err_cap);
    free(text);
    return code;
}

static int open_files(struct loader *l)
{
    l->st = calloc(l->files.n, sizeof *l->st);
    if (!l->st)
        return sl_fail(-ENOMEM, l->err, l->err_cap, "out of memory");
    for (; l->n_open < l->files.n; l->n_open++) {
        int code = sl_st_open(l->files.paths[l->n_open], &l->st[l->n_open], l->err, l->err_cap);
        if (code)
            return code;
    }
    return 0;
}

/* A config that asks for far more than the files hold is refused before its memory is allocated. */
static int check_size(const struct loader *l, const struct sl_model_config *c)
{
    static const double slack = 64 << 20,
                        factor = 16; /* a missing tensor is to be named, not taken for this */
    double have = 0, d = c->d_model, want = (double)c->vocab * d;
    for (uint32_t f = 0; f < l->n_open; f++)
        for (uint32_t i = 0; i < l->st[f].header.n; i++)
            have += (double)l->st[f].header.tensors[i].n;
    want += c->n_layers * d * (2.0 * c->n_heads * c->head_dim + 2.0 * c->d_ff);
    if (c->family == SL_FAMILY_GPT2)
        want += (double)c->max_positions * d;
    if (want <= slack + factor * have)
        return 0;
    return sl_fail(-EINVAL, l->err, l->err_cap,
        "config.json describes about %.0f parameters, the safetensors files hold %.0f: they do not belong "
        "together",
        want, have);
}

static const char *family_prefix(enum sl_family family)
{
    return family == SL_FAMILY_LLAMA ? "model." : "transformer.";
}

/* Buffers that older files carry and that are functions of the config. `name` is without the family's prefix.
 */
static bool is_known_buffer(enum sl_family family, const char *name)
{
    if (family == SL_FAMILY_LLAMA && strcmp(name, "rotary_emb.inv_freq") == 0)
        return true;
    const char *start = family == SL_FAMILY_LLAMA ? "layers." : "h.";
    size_t n = strlen(start);
    if (strncmp(name, start, n) != 0)
        return false;
    size_t digits = strspn(name + n, "0123456789");
    const char *rest = name + n + digits;
    if (!digits)
        return false;
    if (family == SL_FAMILY_LLAMA)
        return strcmp(rest, ".self_attn.rotary_emb.inv_freq") == 0;
    return strcmp(rest, ".attn.bias") == 0 || strcmp(rest, ".attn.masked_bias") == 0;
}

/* The parameter that a file's tensor name means; NULL: none. */
static struct sl_param *find_param(struct sl_model *m, const char *name)
{
    char full[256];
    if (m->config.tied_embeddings && strcmp(name, "lm_head.weight") == 0)
        return m->embed;
    struct sl_param *p = sl_model_find(m, name);
    if (p)
        return p;
    if (snprintf(full, sizeof full, "%s%s", family_prefix(m->config.family), name) >= (int)sizeof full)
        return NULL;
    return sl_model_find(m, full);
}

static int check_shape(const struct loader *l, const struct sl_st_tensor *t, const struct sl_param *p)
{
    char have[96] = "", want[32];
    size_t at = 0;
    bool fits = t->n_dims == p->n_dims;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        at += (size_t)snprintf(
            have + at, sizeof have - at, i ? ", %llu" : "%llu", (unsigned long long)t->dims[i]);
        if (at >= sizeof have)
            at = sizeof have - 1;
        fits = fits && t->dims[i] == p->dims[i];
    }
    if (fits)
        return 0;
    snprintf(want, sizeof want, p->n_dims == 2 ? "%u, %u" : "%u", p->dims[0], p->dims[1]);
    return sl_fail(-EINVAL, l->err, l->err_cap, "%.100s: shape [%s], but config.json makes it [%s]", t->name,
        have, want);
}

/* The second of two names of one tied matrix must hold the same values. */
static int check_same(const struct loader *l, const struct sl_st_file *st, const struct sl_st_tensor *t,
    const struct sl_param *p)
{
    float *values = malloc(p->n * sizeof *values);
    if (!values)
        return sl_fail(-ENOMEM, l->err, l->err_cap, "out of memory");
    int code = sl_st_read(st, t, values, l->err, l->err_cap);
    if (!code && memcmp(values, p->data, p->n * sizeof *values) != 0)
        code = sl_fail(-EINVAL, l->err, l->err_cap,
            "lm_head.weight and the embedding differ, but config.json says tie_word_embeddings");
    free(values);
    return code;
}

static int load_tensor(struct loader *l, const struct sl_st_file *st, const struct sl_st_tensor *t)
{
    struct sl_model *m = l->model;
    const char *prefix = family_prefix(m->config.family);
    bool prefixed = strncmp(t->name, prefix, strlen(prefix)) == 0;
    struct sl_param *p = find_param(m, t->name);
    if (!p) {
        if (is_known_buffer(m->config.family, t->name + (prefixed ? strlen(prefix) : 0)))
            return 0;
        return sl_fail(-EINVAL, l->err, l->err_cap, "%s: unknown tensor %.100s (not of this architecture)",
            st->path, t->name);
    }
    int code = check_shape(l, t, p);
    if (code)
        return code;
    bool tied_head = p == m->embed && m->config.tied_embeddings && strcmp(t->name, "lm_head.weight") == 0;
    bool *filled = tied_head ? &l->head_filled : &l->filled[p - m->params];
    if (*filled)
        return sl_fail(-EINVAL, l->err, l->err_cap, "%s: duplicate tensor %.100s", st->path, t->name);
    bool other = p == m->embed && (l->head_filled || l->filled[p - m->params]);
    *filled = true;
    if (!sl_model_needs(m, p, l->first, l->last))
        return 0;
    return other ? check_same(l, st, t, p) : sl_st_read(st, t, p->data, l->err, l->err_cap);
}

static int load_file(struct loader *l, uint32_t file)
{
    const struct sl_st_file *st = &l->st[file];
    int code = 0;
    for (uint32_t i = 0; i < st->header.n && !code; i++) {
        const struct sl_st_tensor *t = &st->header.tensors[i];
        if (l->files.index) {
            int64_t place = sl_model_files_place(&l->files, t->name);
            if (place != file)
                return sl_fail(-EINVAL, l->err, l->err_cap, "%s: %.100s is here, but the index %s", st->path,
                    t->name, place < 0 ? "does not name it" : "puts it into another file");
        }
        code = load_tensor(l, st, t);
    }
    return code;
}

static int check_complete(const struct loader *l)
{
    for (uint32_t i = 0; i < l->model->n_params; i++) {
        const struct sl_param *p = &l->model->params[i];
        if (!l->filled[i] && !(p == l->model->embed && l->head_filled))
            return sl_fail(-EINVAL, l->err, l->err_cap, "missing tensor %s", p->name);
    }
    return 0;
}

static int load(struct loader *l, const char *dir)
{
    struct sl_model_config config;
    int code = read_config(dir, &config, l->err, l->err_cap);
    if (!code)
        code = sl_model_files(dir, &l->files, l->err, l->err_cap);
    if (!code)
        code = open_files(l);
    if (!code)
        code = check_size(l, &config);
    if (code)
        return code;
    code = sl_model_alloc(&config, &l->model);
    if (code)
        return sl_fail(code, l->err, l->err_cap, "%s: config.json: %s", dir, strerror(-code));
    if (l->last > config.n_layers)
        l->last = config.n_layers;
    l->filled = calloc(l->model->n_params, sizeof *l->filled);
    if (!l->filled)
        return sl_fail(-ENOMEM, l->err, l->err_cap, "out of memory");
    for (uint32_t f = 0; f < l->n_open && !code; f++)
        code = load_file(l, f);
    if (!code)
        code = check_complete(l);
    if (!code)
        sl_model_keep(l->model, l->first, l->last);
    return code;
}

int sl_model_load(const char *dir, struct sl_model **out, char *err, size_t err_cap)
{
    return sl_model_load_blocks(dir, 0, UINT32_MAX, out, err, err_cap);
}

int sl_model_load_blocks(
    const char *dir, uint32_t first, uint32_t last, struct sl_model **out, char *err, size_t err_cap)
{
    struct loader l = {.first = first, .last = last, .err = err, .err_cap = err_cap};
    *out = NULL;
    int code = load(&l, dir);
    for (uint32_t f = 0; f < l.n_open; f++)
        sl_st_close(&l.st[f]);
    free(l.st);
    free(l.filled);
    sl_model_files_free(&l.files);
    if (code)
        sl_model_free(l.model);
    else
        *out = l.model;
    return code;
}
