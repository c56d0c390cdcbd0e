/* Training a byte-level BPE: words are counted once, then the most frequent neighbouring pair is merged again
 * and again, with pair counts kept up to date word by word. Ties go to the smaller pair of ids, so the result
 * is a function of the text alone. */
#include "trainer/model/fail.h"
#include "trainer/model/json.h"
#include "trainer/model/tokenizer_internal.h"
#include "trainer/model/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define END_TOKEN "<|endoftext|>"

enum {
    FIRST_BYTE = 1, /* id of byte 0; END_TOKEN is id 0 */
    FIRST_MERGED = FIRST_BYTE + SL_BYTES,
    MAX_WORD = 256, /* longer words are counted in parts, or one line of base64 costs minutes */
    MAX_VOCAB = 1 << 20,
};

struct word {
    size_t at; /* in `bytes` while counting, then in `symbols` */
    uint32_t len;
    uint64_t count;
};

/* A neighbouring pair: how often it occurs, and in which words it has ever occurred. */
struct pair {
    uint32_t left, right;
    int64_t count;
    struct sl_ids words;
};

struct queued {
    int64_t count;
    uint32_t pair;
};

struct trainer {
    struct word *words;
    uint32_t n_words, word_cap, word_mask;
    uint32_t *word_slots;
    struct sl_buffer bytes;
    uint32_t *symbols;
    struct pair *pairs;
    uint32_t n_pairs, pair_cap, pair_mask;
    uint32_t *pair_slots;
    struct queued *heap;
    size_t heap_n, heap_cap;
    struct sl_string *tokens; /* bytes of each id */
    uint32_t n_tokens;
    struct sl_vocab known; /* the bytes of a token to its id */
    struct sl_ids merges;  /* left, right, left, right, ... */
    struct sl_ids changed; /* pairs that grew in the current merge */
};

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static int grow_table(uint32_t **slots, uint32_t *mask, uint32_t size)
{
    uint32_t *p = malloc(size * sizeof *p);
    if (!p)
        return -ENOMEM;
    memset(p, 0xff, size * sizeof *p);
    free(*slots);
    *slots = p;
    *mask = size - 1;
    return 0;
}

static uint64_t hash_word(const char *p, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    return mix(h);
}

static uint32_t *word_slot(struct trainer *t, const char *p, size_t len)
{
    uint32_t i = (uint32_t)hash_word(p, len) & t->word_mask;
    while (t->word_slots[i] != UINT32_MAX) {
        const struct word *w = &t->words[t->word_slots[i]];
        if (w->len == len && memcmp(t->bytes.p + w->at, p, len) == 0)
            break;
        i = (i + 1) & t->word_mask;
    }
    return &t->word_slots[i];
}

static int grow_words(struct trainer *t)
{
    uint32_t cap = t->word_cap ? t->word_cap * 2 : 1 << 14;
    struct word *p = cap < 1u << 30 ? realloc(t->words, cap * sizeof *p) : NULL;
    if (!p)
        return -ENOMEM;
    t->words = p;
    t->word_cap = cap;
    int err = grow_table(&t->word_slots, &t->word_mask, cap * 2);
    for (uint32_t i = 0; i < t->n_words && !err; i++)
        *word_slot(t, t->bytes.p + t->words[i].at, t->words[i].len) = i;
    return err;
}

static int count_word(struct trainer *t, const char *p, uint32_t len)
{
    int err = t->n_words == t->word_cap ? grow_words(t) : 0;
    if (err)
        return err;
    uint32_t *slot = word_slot(t, p, len);
    if (*slot == UINT32_MAX) {
        size_t at = t->bytes.len;
        err = sl_buffer_add(&t->bytes, p, len);
        if (err)
            return err;
        *slot = t->n_words;
        t->words[t->n_words++] = (struct word){at, len, 0};
    }
    t->words[*slot].count++;
    return 0;
}

static int count_text(
    struct trainer *t, const pcre2_code *code, struct sl_matcher *m, const char *text, size_t len)
{
    char *repaired = NULL;
    if (len > SL_MAX_TEXT)
        return -EFBIG;
    if (!sl_utf8_valid(text, len)) {
        repaired = sl_utf8_repair(text, len, &len);
        if (!repaired)
            return -ENOMEM;
        text = repaired;
    }
    struct sl_cutter cutter = {.code = code, .text = text, .len = len};
    struct sl_string word;
    int err = 0;
    while (!err && sl_cutter_next(&cutter, m, &word))
        for (uint32_t at = 0; at < word.len && !err; at += MAX_WORD)
            err = count_word(t, word.p + at, word.len - at < MAX_WORD ? word.len - at : MAX_WORD);
    free(repaired);
    return err ? err : cutter.err;
}

static int count_texts(struct trainer *t, const char *const *texts, const size_t *lens, size_t n)
{
    struct sl_matcher m = {0};
    pcre2_code *code = sl_pattern_compile(SL_PATTERN_GPT2);
    int err = code ? sl_matcher_create(&m) : -ENOMEM;
    for (size_t i = 0; i < n && !err; i++)
        err = count_text(t, code, &m, texts[i], lens[i]);
    sl_matcher_free(&m);
    pcre2_code_free(code);
    return err;
}

static uint32_t *pair_slot(struct trainer *t, uint32_t left, uint32_t right)
{
    uint32_t i = (uint32_t)mix(((uint64_t)left << 32 | right) * 0x100000001b3u) & t->pair_mask;
    while (t->pair_slots[i] != UINT32_MAX) {
        const struct pair *p = &t->pairs[t->pair_slots[i]];
        if (p->left == left && p->right == right)
            break;
        i = (i + 1) & t->pair_mask;
    }
    return &t->pair_slots[i];
}

static int grow_pairs(struct trainer *t)
{
    uint32_t cap = t->pair_cap ? t->pair_cap * 2 : 1 << 14;
    struct pair *p = cap < 1u << 30 ? realloc(t->pairs, cap * sizeof *p) : NULL;
    if (!p)
        return -ENOMEM;
    t->pairs = p;
    t->pair_cap = cap;
    int err = grow_table(&t->pair_slots, &t->pair_mask, cap * 2);
    for (uint32_t i = 0; i < t->n_pairs && !err; i++)
        *pair_slot(t, t->pairs[i].left, t->pairs[i].right) = i;
    return err;
}

/* Adds `by` to a pair's count on account of a word; a pair that grows is noted in `changed`. */
static int count_pair(struct trainer *t, uint32_t left, uint32_t right, int64_t by, uint32_t word)
{
    int err = t->n_pairs == t->pair_cap ? grow_pairs(t) : 0;
    if (err)
        return err;
    uint32_t *slot = pair_slot(t, left, right);
    if (*slot == UINT32_MAX) {
        *slot = t->n_pairs;
        t->pairs[t->n_pairs++] = (struct pair){.left = left, .right = right};
    }
    struct pair *p = &t->pairs[*slot];
    p->count += by;
    if (by < 0)
        return 0;
    if (!p->words.n || p->words.p[p->words.n - 1] != word)
        err = sl_ids_add(&p->words, word);
    return err ? err : sl_ids_add(&t->changed, *slot);
}

static bool before(const struct trainer *t, const struct queued *a, const struct queued *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    const struct pair *x = &t->pairs[a->pair], *y = &t->pairs[b->pair];
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static int push(struct trainer *t, uint32_t pair)
{
    if (t->heap_n == t->heap_cap) {
        size_t cap = t->heap_cap ? t->heap_cap * 2 : 1 << 14;
        struct queued *p = realloc(t->heap, cap * sizeof *p);
        if (!p)
            return -ENOMEM;
        t->heap = p;
        t->heap_cap = cap;
    }
    struct queued q = {t->pairs[pair].count, pair};
    size_t i = t->heap_n++;
    while (i && before(t, &q, &t->heap[(i - 1) / 2])) {
        t->heap[i] = t->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->heap[i] = q;
    return 0;
}

static struct queued pop(struct trainer *t)
{
    struct queued top = t->heap[0], last = t->heap[--t->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < t->heap_n; i = child) {
        if (child + 1 < t->heap_n && before(t, &t->heap[child + 1], &t->heap[child]))
            child++;
        if (!before(t, &t->heap[child], &last))
            break;
        t->heap[i] = t->heap[child];
    }
    t->heap[i] = last;
    return top;
}

/* Queues every pair that grew, once. */
static int queue_changed(struct trainer *t)
{
    int err = 0;
    for (size_t i = 0; i < t->changed.n && !err; i++)
        if (i == 0 || t->changed.p[i] != t->changed.p[i - 1])
            err = push(t, t->changed.p[i]);
    t->changed.n = 0;
    return err;
}

static int count_pairs_of(struct trainer *t, uint32_t word, int64_t sign)
{
    const struct word *w = &t->words[word];
    const uint32_t *s = t->symbols + w->at;
    int err = 0;
    for (uint32_t i = 0; i + 1 < w->len && !err; i++)
        err = count_pair(t, s[i], s[i + 1], sign * (int64_t)w->count, word);
    return err;
}

/* Merges left,right to `id` in one word. Only pairs next to a merge change, but a word is short: all its
 * pairs are taken off and put back. */
static int merge_in_word(struct trainer *t, uint32_t word, uint32_t left, uint32_t right, uint32_t id)
{
    struct word *w = &t->words[word];
    uint32_t *s = t->symbols + w->at, n = 0;
    bool there = false;
    for (uint32_t i = 0; i + 1 < w->len && !there; i++)
        there = s[i] == left && s[i + 1] == right;
    if (!there)
        return 0;
    int err = count_pairs_of(t, word, -1);
    if (err)
        return err;
    for (uint32_t i = 0; i < w->len; n++) {
        bool hit = i + 1 < w->len && s[i] == left && s[i + 1] == right;
        s[n] = hit ? id : s[i];
        i += hit ? 2 : 1;
    }
    w->len = n;
    return count_pairs_of(t, word, 1);
}

static int add_token(struct trainer *t, const char *p, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, p, len);
    t->tokens[t->n_tokens] = (struct sl_string){copy, (uint32_t)len};
    return sl_vocab_put(&t->known, p, len, t->n_tokens++);
}

/* The id of a merged token: a new one, or the old one where other parts made the same bytes before. */
static int64_t token_of(struct trainer *t, const struct pair *p)
{
    struct sl_buffer joined = {0};
    struct sl_string left = t->tokens[p->left], right = t->tokens[p->right];
    int64_t id = sl_buffer_add(&joined, left.p, left.len);
    if (!id)
        id = sl_buffer_add(&joined, right.p, right.len);
    if (!id)
        id = sl_vocab_find(&t->known, joined.p, joined.len);
    if (id < 0 && id != -ENOMEM) {
        int err = add_token(t, joined.p, joined.len);
        id = err ? err : (int64_t)t->n_tokens - 1;
    }
    sl_buffer_free(&joined);
    return id;
}

static int merge_pair(struct trainer *t, uint32_t index)
{
    struct pair p = t->pairs[index];
    int64_t id = token_of(t, &p);
    if (id < 0)
        return (int)id;
    int err = sl_ids_add(&t->merges, p.left);
    if (!err)
        err = sl_ids_add(&t->merges, p.right);
    struct sl_ids words = p.words; /* taken over: the pair is gone after this */
    t->pairs[index].words = (struct sl_ids){0};
    for (size_t i = 0; i < words.n && !err; i++)
        err = merge_in_word(t, words.p[i], p.left, p.right, (uint32_t)id);
    free(words.p);
    return err ? err : queue_changed(t);
}

/* Bytes to symbols, every pair counted and queued. */
static int start(struct trainer *t)
{
    t->symbols = malloc((t->bytes.len ? t->bytes.len : 1) * sizeof *t->symbols);
    if (!t->symbols)
        return -ENOMEM;
    for (size_t i = 0; i < t->bytes.len; i++)
        t->symbols[i] = FIRST_BYTE + (uint8_t)t->bytes.p[i];
    int err = 0;
    for (uint32_t w = 0; w < t->n_words && !err; w++)
        err = count_pairs_of(t, w, 1);
    t->changed.n = 0;
    for (uint32_t i = 0; i < t->n_pairs && !err; i++)
        err = push(t, i);
    return err;
}

static int learn(struct trainer *t, uint32_t vocab, char *err, size_t err_cap)
{
    while (t->n_tokens < vocab) {
        if (!t->heap_n)
            return sl_fail(-EINVAL, err, err_cap,
                "the text yields only %u tokens, not %u: give more text, or --vocab %u", t->n_tokens, vocab,
                t->n_tokens);
        struct queued q = pop(t);
        const struct pair *p = &t->pairs[q.pair];
        int code = 0;
        if (p->count > 0)
            code = p->count == q.count ? merge_pair(t, q.pair) : push(t, q.pair);
        if (code)
            return sl_fail(code, err, err_cap, "out of memory");
    }
    return 0;
}

/* A token in the byte-level alphabet, malloc'ed. */
static char *spell(struct sl_string token)
{
    char *text = malloc((size_t)token.len * 2 + 1), *p = text;
    if (!text)
        return NULL;
    for (uint32_t i = 0; i < token.len; i++)
        p += sl_utf8_encode(sl_byte_to_char((uint8_t)token.p[i]), p);
    *p = 0;
    return text;
}

static bool write_model(const struct trainer *t, cJSON *vocab, cJSON *merges)
{
    if (!cJSON_AddNumberToObject(vocab, END_TOKEN, 0))
        return false;
    for (uint32_t i = FIRST_BYTE; i < t->n_tokens; i++) {
        char *text = spell(t->tokens[i]);
        bool ok = text && cJSON_AddNumberToObject(vocab, text, i);
        free(text);
        if (!ok)
            return false;
    }
    for (size_t i = 0; i < t->merges.n; i += 2) {
        char *left = spell(t->tokens[t->merges.p[i]]), *right = spell(t->tokens[t->merges.p[i + 1]]);
        char *both = left && right ? malloc(strlen(left) + strlen(right) + 2) : NULL;
        if (both)
            stpcpy(stpcpy(stpcpy(both, left), " "), right);
        bool ok = both && cJSON_AddItemToArray(merges, cJSON_CreateString(both));
        free(left);
        free(right);
        free(both);
        if (!ok)
            return false;
    }
    return true;
}

/* All of the file but the model's vocabulary and merges. */
static const char frame[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
    "\"added_tokens\":[{\"id\":0,\"content\":\"" END_TOKEN "\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true}],"
    "\"normalizer\":null,"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_"
    "regex\":true},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\","
    "\"single\":[{\"SpecialToken\":{\"id\":\"" END_TOKEN "\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
    "\"type_id\":0}}],"
    "\"pair\":[{\"SpecialToken\":{\"id\":\"" END_TOKEN "\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
    "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"" END_TOKEN "\",\"type_id\":1}},{\"Sequence\":{\"id\":\"B\","
    "\"type_id\":1}}],"
    "\"special_tokens\":{\"" END_TOKEN "\":{\"id\":\"" END_TOKEN "\",\"ids\":[0],\"tokens\":[\"" END_TOKEN
    "\"]}}},"
    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
    "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false}}";

static int write_json(const struct trainer *t, char **json, size_t *json_len)
{
    cJSON *root = cJSON_Parse(frame);
    cJSON *model = sl_json_get(root, "model");
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab"), *merges = cJSON_AddArrayToObject(model, "merges");
    bool ok = vocab && merges && write_model(t, vocab, merges);
    *json = ok ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!*json)
        return -ENOMEM;
    *json_len = strlen(*json);
    return 0;
}

static void trainer_free(struct trainer *t)
{
    for (uint32_t i = 0; i < t->n_pairs; i++)
        free(t->pairs[i].words.p);
    for (uint32_t i = 0; i < t->n_tokens; i++)
        free((char *)t->tokens[i].p);
    free(t->tokens);
    free(t->pairs);
    free(t->pair_slots);
    free(t->words);
    free(t->word_slots);
    free(t->symbols);
    free(t->heap);
    free(t->merges.p);
    free(t->changed.p);
    sl_buffer_free(&t->bytes);
    sl_vocab_free(&t->known);
}

int sl_tokenizer_train(const char *const *texts, const size_t *lens, size_t n_texts, uint32_t vocab,
    char **json, size_t *json_len, char *err, size_t err_cap)
{
    *json = NULL;
    *json_len = 0;
    if (vocab < FIRST_MERGED || vocab > MAX_VOCAB)
        return sl_fail(-EINVAL, err, err_cap,
            "a vocabulary is from %d (the end token and all bytes) to %d ids", FIRST_MERGED, MAX_VOCAB);
    struct trainer t = {0};
    t.tokens = calloc(vocab, sizeof *t.tokens);
    int code = t.tokens ? sl_vocab_create(&t.known, vocab) : -ENOMEM;
    t.n_tokens = code ? 0 : FIRST_BYTE;
    for (unsigned b = 0; b < SL_BYTES && !code; b++)
        code = add_token(&t, &(char){(char)b}, 1);
    if (!code)
        code = count_texts(&t, texts, lens, n_texts);
    if (!code)
        code = start(&t);
    if (code)
        sl_fail(code, err, err_cap, "%s", strerror(-code));
    else
        code = learn(&t, vocab, err, err_cap);
    if (!code && (code = write_json(&t, json, json_len)))
        sl_fail(code, err, err_cap, "out of memory");
    trainer_free(&t);
    return code;
}
