/* Byte-pair merging of one word in O(n log n): a linked list of symbols and a heap of candidate merges, the
 * lowest rank first and then the leftmost. */
#include "trainer/model/tokenizer_internal.h"
#include "trainer/model/utf8.h"

#include <errno.h>
#include <stdlib.h>

#define MERGED UINT32_MAX

int sl_ids_add(struct sl_ids *ids, uint32_t id)
{
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 64;
        uint32_t *p = realloc(ids->p, cap * sizeof *p);
        if (!p)
            return -ENOMEM;
        ids->p = p;
        ids->cap = cap;
    }
    ids->p[ids->n++] = id;
    return 0;
}

void sl_bpe_free(struct sl_bpe *b)
{
    free(b->symbols);
    free(b->heap);
    sl_buffer_free(&b->spelling);
    *b = (struct sl_bpe){0};
}

/* Room for the symbols of a word of `len` bytes, and for the candidates: at most one per neighbouring pair at
 * the start, and two new ones for each merge (of which there are fewer than symbols). */
static int reserve(struct sl_bpe *b, size_t len)
{
    if (b->cap >= len)
        return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < len)
        cap *= 2;
    void *p = realloc(b->symbols, cap * sizeof *b->symbols);
    if (!p)
        return -ENOMEM;
    b->symbols = p;
    p = realloc(b->heap, 3 * cap * sizeof *b->heap);
    if (!p)
        return -ENOMEM;
    b->heap = p;
    b->cap = cap;
    return 0;
}

static void add_symbol(struct sl_bpe *b, int32_t id)
{
    b->symbols[b->n] = (struct sl_symbol){(uint32_t)id, (int32_t)b->n - 1, (int32_t)b->n + 1};
    b->n++;
}

static bool before(const struct sl_candidate *a, const struct sl_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct sl_bpe *b, struct sl_candidate c)
{
    size_t i = b->heap_n++;
    while (i && before(&c, &b->heap[(i - 1) / 2])) {
        b->heap[i] = b->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    b->heap[i] = c;
}

static struct sl_candidate pop(struct sl_bpe *b)
{
    struct sl_candidate top = b->heap[0], last = b->heap[--b->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->heap_n; i = child) {
        if (child + 1 < b->heap_n && before(&b->heap[child + 1], &b->heap[child]))
            child++;
        if (!before(&b->heap[child], &last))
            break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return top;
}

static void consider(const struct sl_tokenizer *t, struct sl_bpe *b, int32_t at)
{
    if (at < 0 || (size_t)b->symbols[at].next >= b->n)
        return;
    uint32_t right = b->symbols[b->symbols[at].next].id;
    const struct sl_merge *m = sl_merges_find(&t->merges, b->symbols[at].id, right);
    if (m)
        push(b, (struct sl_candidate){m->rank, m->id, at});
}

static void merge_all(const struct sl_tokenizer *t, struct sl_bpe *b)
{
    b->heap_n = 0;
    for (size_t i = 0; i + 1 < b->n; i++)
        consider(t, b, (int32_t)i);
    while (b->heap_n) {
        struct sl_candidate c = pop(b);
        struct sl_symbol *left = &b->symbols[c.at];
        if (left->id == MERGED || (size_t)left->next >= b->n)
            continue;
        struct sl_symbol *right = &b->symbols[left->next];
        const struct sl_merge *m = sl_merges_find(&t->merges, left->id, right->id);
        if (!m || m->id != c.id) /* one of the two has been merged since */
            continue;
        left->id = c.id;
        left->next = right->next;
        right->id = MERGED;
        if ((size_t)left->next < b->n)
            b->symbols[left->next].prev = c.at;
        consider(t, b, left->prev);
        consider(t, b, c.at);
    }
}

/* The model's token for a character; -1: none. */
static int32_t char_id(const struct sl_tokenizer *t, const char *p, unsigned n)
{
    int32_t id = sl_vocab_find(&t->vocab, p, n);
    return id >= 0 && t->vocab.added_only[id] ? SL_TOKEN_NONE : id;
}

static void first_symbols(const struct sl_tokenizer *t, struct sl_bpe *b, struct sl_string word)
{
    bool unknown = false; /* the last symbol is an unk that the next unknown character joins */
    b->n = 0;
    for (uint32_t i = 0; i < word.len;) {
        unsigned n = t->byte_level ? 1 : sl_utf8_sequence(word.p + i, word.len - i, NULL);
        const char *p = word.p + i;
        int32_t id = t->byte_level ? t->byte_id[(uint8_t)*p] : char_id(t, p, n);
        i += n;
        if (id < 0 && t->byte_fallback) {
            for (unsigned k = 0; k < n; k++)
                add_symbol(b, t->byte_id[(uint8_t)p[k]]);
        } else if (id >= 0) {
            add_symbol(b, id);
        } else if (t->unk_id >= 0 && !(unknown && t->fuse_unk)) {
            add_symbol(b, t->unk_id);
        }
        unknown = id < 0 && !t->byte_fallback;
    }
}

/* The token that is the whole word (ignore_merges); -1: none. */
static int32_t whole_word(const struct sl_tokenizer *t, struct sl_bpe *b, struct sl_string word)
{
    if (word.len > SL_MAX_TOKEN)
        return SL_TOKEN_NONE;
    if (t->byte_level) {
        b->spelling.len = 0;
        for (uint32_t i = 0; i < word.len; i++) {
            uint8_t byte = (uint8_t)word.p[i];
            if (sl_buffer_add(&b->spelling, t->byte_text[byte], t->byte_text_len[byte]))
                return -ENOMEM;
        }
        word = (struct sl_string){b->spelling.p, (uint32_t)b->spelling.len};
    }
    int32_t id = sl_vocab_find(&t->vocab, word.p, word.len);
    return id >= 0 && t->vocab.added_only[id] ? SL_TOKEN_NONE : id;
}

int sl_bpe_word(const struct sl_tokenizer *t, struct sl_bpe *b, struct sl_string word, struct sl_ids *ids)
{
    if (!word.len)
        return 0;
    if (t->ignore_merges) {
        int32_t id = whole_word(t, b, word);
        if (id != SL_TOKEN_NONE)
            return id < 0 ? id : sl_ids_add(ids, (uint32_t)id);
    }
    int err = reserve(b, word.len);
    if (err)
        return err;
    first_symbols(t, b, word);
    merge_all(t, b);
    for (size_t i = 0; i < b->n && !err; i = (size_t)b->symbols[i].next)
        err = sl_ids_add(ids, b->symbols[i].id);
    return err;
}
