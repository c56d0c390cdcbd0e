/* The tokenizer's two tables: strings to ids, and pairs of ids to merges. */
#include "trainer/model/tokenizer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t power_of_two(uint64_t n)
{
    uint32_t size = 16;
    while (size < n)
        size *= 2;
    return size;
}

/* FNV-1a, finished with a multiply so that the low bits depend on all bytes. */
static uint32_t hash_bytes(const char *p, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
    return (uint32_t)((h * 0x9e3779b97f4a7c15u) >> 32);
}

int sl_vocab_create(struct sl_vocab *v, uint32_t n_ids)
{
    uint32_t size = power_of_two((uint64_t)n_ids * 2);
    *v = (struct sl_vocab){.n_ids = n_ids, .mask = size - 1};
    v->tokens = calloc(n_ids ? n_ids : 1, sizeof *v->tokens);
    v->added_only = calloc(n_ids ? n_ids : 1, sizeof *v->added_only);
    v->slots = malloc(size * sizeof *v->slots);
    if (!v->tokens || !v->added_only || !v->slots) {
        sl_vocab_free(v);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < size; i++)
        v->slots[i] = SL_TOKEN_NONE;
    return 0;
}

void sl_vocab_free(struct sl_vocab *v)
{
    if (v->tokens)
        for (uint32_t i = 0; i < v->n_ids; i++)
            free((char *)v->tokens[i].p);
    free(v->tokens);
    free(v->added_only);
    free(v->slots);
    *v = (struct sl_vocab){0};
}

static uint32_t vocab_slot(const struct sl_vocab *v, const char *p, size_t len)
{
    uint32_t i = hash_bytes(p, len) & v->mask;
    while (v->slots[i] != SL_TOKEN_NONE) {
        const struct sl_string *s = &v->tokens[v->slots[i]];
        if (s->len == len && memcmp(s->p, p, len) == 0)
            break;
        i = (i + 1) & v->mask;
    }
    return i;
}

int sl_vocab_put(struct sl_vocab *v, const char *p, size_t len, uint32_t id)
{
    if (id >= v->n_ids || len > SL_MAX_TOKEN)
        return -EINVAL;
    uint32_t slot = vocab_slot(v, p, len);
    if (v->tokens[id].p || v->slots[slot] != SL_TOKEN_NONE)
        return -EEXIST;
    char *copy = malloc(len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, p, len);
    copy[len] = 0;
    v->tokens[id] = (struct sl_string){copy, (uint32_t)len};
    v->slots[slot] = (int32_t)id;
    return 0;
}

int32_t sl_vocab_find(const struct sl_vocab *v, const char *p, size_t len)
{
    return v->slots[vocab_slot(v, p, len)];
}

int sl_merges_create(struct sl_merges *m, uint32_t n)
{
    uint32_t size = power_of_two((uint64_t)n * 2 + 1);
    m->mask = size - 1;
    m->slots = malloc(size * sizeof *m->slots);
    if (!m->slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < size; i++)
        m->slots[i].left = UINT32_MAX;
    return 0;
}

void sl_merges_free(struct sl_merges *m)
{
    free(m->slots);
    *m = (struct sl_merges){0};
}

static struct sl_merge *merge_slot(const struct sl_merges *m, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    uint32_t i = (uint32_t)((h ^ h >> 29) >> 17) & m->mask;
    while (m->slots[i].left != UINT32_MAX && (m->slots[i].left != left || m->slots[i].right != right))
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

void sl_merges_put(struct sl_merges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
    *merge_slot(m, left, right) = (struct sl_merge){left, right, rank, id};
}

const struct sl_merge *sl_merges_find(const struct sl_merges *m, uint32_t left, uint32_t right)
{
    const struct sl_merge *s = merge_slot(m, left, right);
    return s->left == UINT32_MAX ? NULL : s;
}
