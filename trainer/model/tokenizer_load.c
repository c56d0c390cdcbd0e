/* tokenizer.json: the model, added tokens, and the file's life cycle. The pipeline around the model
 * (normaliser, pre-tokenizer, post-processor, decoder) is read by tokenizer_pipeline.c. */
#include "trainer/model/fail.h"
#include "trainer/model/json.h"
#include "trainer/model/tokenizer_pipeline.h"
#include "trainer/model/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "tokenizer.json"

enum { MAX_FILE = 256 << 20 };

/* An id; -1: not a whole number in range. */
static int64_t id_of(const cJSON *v)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble < SL_MAX_IDS))
        return -1;
    int64_t id = (int64_t)v->valuedouble;
    return (double)id == v->valuedouble ? id : -1;
}

static int count_ids(
    const cJSON *vocab, const cJSON *added, uint32_t *n, uint32_t *used, char *err, size_t err_cap)
{
    *n = *used = 0;
    for (const cJSON *v = vocab->child; v; v = v->next) {
        int64_t id = id_of(v);
        if (id < 0 || strlen(v->string) > SL_MAX_TOKEN)
            return sl_fail(-EINVAL, err, err_cap,
                WHAT ": model.vocab: \"%.60s\" has no id from 0 to %d, or is too long", v->string,
                SL_MAX_IDS - 1);
        *n = id >= *n ? (uint32_t)id + 1 : *n;
        ++*used;
    }
    for (const cJSON *v = added ? added->child : NULL; v; v = v->next) {
        int64_t id = id_of(sl_json_get(v, "id"));
        const cJSON *content = sl_json_get(v, "content");
        if (id < 0 || !cJSON_IsString(content) || !*content->valuestring ||
            strlen(content->valuestring) > SL_MAX_TOKEN)
            return sl_fail(
                -EINVAL, err, err_cap, WHAT ": added_tokens: an entry without a good id and content");
        *n = id >= *n ? (uint32_t)id + 1 : *n;
        ++*used;
    }
    /* A table by id must not be far larger than the file that asks for it. */
    if (*n > 16 * (*used + 4096u))
        return sl_fail(-EINVAL, err, err_cap, WHAT ": ids up to %u for %u tokens: the vocabulary has holes",
            *n - 1, *used);
    return 0;
}

static int load_vocab(
    struct sl_tokenizer *t, const cJSON *vocab, const cJSON *added, char *err, size_t err_cap)
{
    uint32_t n, used;
    int code = count_ids(vocab, added, &n, &used, err, err_cap);
    if (code)
        return code;
    if (sl_vocab_create(&t->vocab, n))
        return sl_fail(-ENOMEM, err, err_cap, WHAT ": out of memory");
    for (const cJSON *v = vocab->child; v; v = v->next) {
        code = sl_vocab_put(&t->vocab, v->string, strlen(v->string), (uint32_t)id_of(v));
        if (code)
            return sl_fail(code == -EEXIST ? -EINVAL : code, err, err_cap,
                WHAT ": model.vocab: \"%.60s\" and another token share the id %d", v->string, (int)id_of(v));
    }
    return 0;
}

static int load_added_token(struct sl_tokenizer *t, const cJSON *v, char *err, size_t err_cap)
{
    static const char *const keys[] = {
        "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", NULL};
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    const char *text = sl_json_get(v, "content")->valuestring;
    uint32_t id = (uint32_t)id_of(sl_json_get(v, "id"));
    int code = sl_json_only_keys(v, keys, WHAT ": added_tokens", err, err_cap);
    for (unsigned i = 0; i < sizeof refused / sizeof *refused && !code; i++) {
        bool set = false;
        code = sl_json_bool(v, refused[i], WHAT ": added_tokens", &set, err, err_cap);
        if (!code && set)
            code = sl_fail(-EINVAL, err, err_cap, WHAT ": added_tokens: \"%.60s\": %s is not supported", text,
                refused[i]);
    }
    if (code)
        return code;
    int32_t known = sl_vocab_find(&t->vocab, text, strlen(text));
    if (known >= 0)
        return (uint32_t)known == id
                   ? 0
                   : sl_fail(-EINVAL, err, err_cap,
                         WHAT ": added_tokens: \"%.60s\" has id %u here and %d elsewhere", text, id, known);
    code = sl_vocab_put(&t->vocab, text, strlen(text), id);
    if (code)
        return sl_fail(code == -EEXIST ? -EINVAL : code, err, err_cap,
            WHAT ": added_tokens: \"%.60s\": the id %u belongs to another token", text, id);
    t->vocab.added_only[id] = true;
    return 0;
}

/* Splits "left right", or takes ["left", "right"], to ids. -1: not such a pair, or not tokens of the model.
 */
static int merge_ids(const struct sl_tokenizer *t, const cJSON *v, struct sl_string part[2], int32_t id[2])
{
    if (cJSON_IsString(v)) {
        const char *space = strchr(v->valuestring, ' ');
        if (!space || strchr(space + 1, ' '))
            return -1;
        part[0] = (struct sl_string){v->valuestring, (uint32_t)(space - v->valuestring)};
        part[1] = (struct sl_string){space + 1, (uint32_t)strlen(space + 1)};
    } else {
        const cJSON *a = cJSON_IsArray(v) ? v->child : NULL, *b = a ? a->next : NULL;
        if (!cJSON_IsString(a) || !cJSON_IsString(b) || b->next)
            return -1;
        part[0] = (struct sl_string){a->valuestring, (uint32_t)strlen(a->valuestring)};
        part[1] = (struct sl_string){b->valuestring, (uint32_t)strlen(b->valuestring)};
    }
    for (int i = 0; i < 2; i++) {
        id[i] = sl_vocab_find(&t->vocab, part[i].p, part[i].len);
        if (id[i] < 0 || t->vocab.added_only[id[i]])
            return -1;
    }
    return part[0].len && part[1].len ? 0 : -1;
}

static int load_merges(struct sl_tokenizer *t, const cJSON *merges, char *err, size_t err_cap)
{
    uint32_t n = 0;
    for (const cJSON *v = merges->child; v; v = v->next)
        n++;
    struct sl_buffer joined = {0};
    int code = sl_merges_create(&t->merges, n);
    uint32_t rank = 0;
    for (const cJSON *v = merges->child; v && !code; v = v->next, rank++) {
        struct sl_string part[2];
        int32_t id[2], merged = -1;
        joined.len = 0;
        if (merge_ids(t, v, part, id) == 0) {
            code = sl_buffer_add(&joined, part[0].p, part[0].len);
            if (!code)
                code = sl_buffer_add(&joined, part[1].p, part[1].len);
            if (!code)
                merged = sl_vocab_find(&t->vocab, joined.p, joined.len);
        }
        if (code)
            break;
        if (merged < 0 || t->vocab.added_only[merged])
            code = sl_fail(-EINVAL, err, err_cap,
                WHAT ": model.merges: entry %u is not a pair of the vocabulary's tokens whose union is one",
                rank);
        else
            sl_merges_put(&t->merges, (uint32_t)id[0], (uint32_t)id[1], rank, (uint32_t)merged);
    }
    sl_buffer_free(&joined);
    return code == -ENOMEM ? sl_fail(code, err, err_cap, WHAT ": out of memory") : code;
}

/* The tokens of single bytes: the byte-level alphabet, or <0x00> to <0xFF> (all of them or none). */
static int load_bytes(struct sl_tokenizer *t, char *err, size_t err_cap)
{
    unsigned n = 0;
    for (unsigned b = 0; b < SL_BYTES; b++) {
        char text[8];
        int len;
        if (t->byte_level) {
            len = (int)sl_utf8_encode(sl_byte_to_char((uint8_t)b), text);
            memcpy(t->byte_text[b], text, (size_t)len);
            t->byte_text_len[b] = (uint8_t)len;
        } else {
            len = snprintf(text, sizeof text, "<0x%02X>", b);
        }
        int32_t id = sl_vocab_find(&t->vocab, text, (size_t)len);
        t->byte_id[b] = id >= 0 && t->vocab.added_only[id] ? SL_TOKEN_NONE : id;
        n += t->byte_id[b] >= 0;
    }
    if (t->byte_level || !t->byte_fallback)
        return 0;
    if (n != 0 && n != SL_BYTES)
        return sl_fail(-EINVAL, err, err_cap,
            WHAT ": model.byte_fallback: %u of the 256 byte tokens are there; it needs all or none", n);
    t->byte_fallback = n != 0;
    return 0;
}

static int load_model_flags(struct sl_tokenizer *t, const cJSON *model, char *err, size_t err_cap)
{
    static const char *const keys[] = {"type", "dropout", "unk_token", "continuing_subword_prefix",
        "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges", NULL};
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const cJSON *type = sl_json_get(model, "type"), *dropout = sl_json_get(model, "dropout");
    int code = sl_json_only_keys(model, keys, WHAT ": model", err, err_cap);
    if (!code && type && (!cJSON_IsString(type) || strcmp(type->valuestring, "BPE") != 0))
        code = sl_fail(-EINVAL, err, err_cap, WHAT ": model.type: only \"BPE\" is supported");
    if (!code && dropout && !cJSON_IsNull(dropout) && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
        code = sl_fail(-EINVAL, err, err_cap, WHAT ": model.dropout is not supported");
    for (unsigned i = 0; i < 2 && !code; i++) {
        const cJSON *v = sl_json_get(model, affixes[i]);
        if (v && !cJSON_IsNull(v) && !(cJSON_IsString(v) && !*v->valuestring))
            code = sl_fail(-EINVAL, err, err_cap, WHAT ": model.%s is not supported", affixes[i]);
    }
    if (!code)
        code = sl_json_bool(model, "fuse_unk", WHAT ": model", &t->fuse_unk, err, err_cap);
    if (!code)
        code = sl_json_bool(model, "byte_fallback", WHAT ": model", &t->byte_fallback, err, err_cap);
    if (!code)
        code = sl_json_bool(model, "ignore_merges", WHAT ": model", &t->ignore_merges, err, err_cap);
    if (!code && t->byte_level && t->byte_fallback)
        code = sl_fail(
            -EINVAL, err, err_cap, WHAT ": model.byte_fallback together with ByteLevel is not supported");
    return code;
}

static int load_model(struct sl_tokenizer *t, const cJSON *root, char *err, size_t err_cap)
{
    const cJSON *model = sl_json_get(root, "model"), *added = sl_json_get(root, "added_tokens");
    if (added && !cJSON_IsNull(added) && !cJSON_IsArray(added))
        return sl_fail(-EINVAL, err, err_cap, WHAT ": added_tokens must be a list");
    const cJSON *vocab = sl_json_get(model, "vocab"), *merges = sl_json_get(model, "merges");
    if (!cJSON_IsObject(vocab) || !cJSON_IsArray(merges))
        return sl_fail(-EINVAL, err, err_cap, WHAT ": model.vocab and model.merges are needed (a BPE)");
    int code = load_model_flags(t, model, err, err_cap);
    if (!code)
        code = load_vocab(t, vocab, added, err, err_cap);
    for (const cJSON *v = added ? added->child : NULL; v && !code; v = v->next)
        code = load_added_token(t, v, err, err_cap);
    if (!code)
        code = load_merges(t, merges, err, err_cap);
    if (!code)
        code = load_bytes(t, err, err_cap);
    const cJSON *unk = sl_json_get(model, "unk_token");
    if (code || !unk || cJSON_IsNull(unk))
        return code;
    t->unk_id = cJSON_IsString(unk) ? sl_tokenizer_id(t, unk->valuestring) : SL_TOKEN_NONE;
    if (t->unk_id < 0)
        return sl_fail(-EINVAL, err, err_cap, WHAT ": model.unk_token is not in the vocabulary");
    return 0;
}

static int compare_added(const void *a, const void *b)
{
    const struct sl_added *x = a, *y = b;
    uint8_t fx = (uint8_t)x->text.p[0], fy = (uint8_t)y->text.p[0];
    if (fx != fy)
        return fx < fy ? -1 : 1;
    return x->text.len < y->text.len ? 1 : x->text.len > y->text.len ? -1 : 0;
}

/* Fills one set with the added tokens whose `normalized` is as asked, their text through the normalisers if
 * so. */
static int fill_added(struct sl_tokenizer *t, const cJSON *added, bool normalized, struct sl_added_set *set)
{
    uint32_t n = 0;
    for (const cJSON *v = added ? added->child : NULL; v; v = v->next)
        n++;
    set->tokens = calloc(n ? n : 1, sizeof *set->tokens);
    if (!set->tokens)
        return -ENOMEM;
    for (const cJSON *v = added ? added->child : NULL; v; v = v->next) {
        if (cJSON_IsTrue(sl_json_get(v, "normalized")) != normalized)
            continue;
        const char *content = sl_json_get(v, "content")->valuestring;
        struct sl_buffer text = {0};
        struct sl_string piece = {content, (uint32_t)strlen(content)};
        int err = normalized ? sl_normalize(t, piece, &text) : sl_buffer_add(&text, piece.p, piece.len);
        if (err || !text.len) { /* a token that the normalisers delete is never found */
            sl_buffer_free(&text);
            if (err)
                return err;
            continue;
        }
        set->tokens[set->n++] =
            (struct sl_added){{text.p, (uint32_t)text.len}, (uint32_t)id_of(sl_json_get(v, "id"))};
    }
    qsort(set->tokens, set->n, sizeof *set->tokens, compare_added);
    uint32_t i = 0;
    for (unsigned b = 0; b <= SL_BYTES; b++) {
        while (i < set->n && (uint8_t)set->tokens[i].text.p[0] < b)
            i++;
        set->first[b] = i;
    }
    return 0;
}

static int load(struct sl_tokenizer *t, const cJSON *root, char *err, size_t err_cap)
{
    static const char *const keys[] = {"version", "truncation", "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model", NULL};
    if (!cJSON_IsObject(root))
        return sl_fail(-EINVAL, err, err_cap, WHAT ": not an object");
    int code = sl_json_only_keys(root, keys, WHAT, err, err_cap);
    if (!code && (sl_json_is_set(root, "truncation") || sl_json_is_set(root, "padding")))
        code = sl_fail(-EINVAL, err, err_cap, WHAT ": %s is not supported: set it to null",
            sl_json_is_set(root, "truncation") ? "truncation" : "padding");
    if (!code)
        code = sl_pipeline_before_model(t, root, err, err_cap);
    if (!code)
        code = load_model(t, root, err, err_cap);
    if (!code)
        code = sl_pipeline_after_model(t, root, err, err_cap);
    const cJSON *added = sl_json_get(root, "added_tokens");
    if (!code && (fill_added(t, added, false, &t->raw) || fill_added(t, added, true, &t->normalized)))
        code = sl_fail(-ENOMEM, err, err_cap, WHAT ": out of memory");
    return code;
}

int sl_tokenizer_parse(const char *json, size_t len, struct sl_tokenizer **out, char *err, size_t err_cap)
{
    *out = NULL;
    cJSON *root;
    int code = sl_json_parse(json, len, WHAT, &root, err, err_cap);
    if (code)
        return code;
    struct sl_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        cJSON_Delete(root);
        return sl_fail(-ENOMEM, err, err_cap, WHAT ": out of memory");
    }
    t->unk_id = t->bos_id = SL_TOKEN_NONE;
    code = load(t, root, err, err_cap);
    cJSON_Delete(root);
    if (code) {
        sl_tokenizer_free(t);
        return code;
    }
    *out = t;
    return 0;
}

int sl_tokenizer_load(const char *file, struct sl_tokenizer **out, char *err, size_t err_cap)
{
    char *text;
    size_t len;
    *out = NULL;
    int code = sl_read_file(file, MAX_FILE, &text, &len, err, err_cap);
    if (code)
        return code;
    code = sl_tokenizer_parse(text, len, out, err, err_cap);
    free(text);
    return code;
}

static void free_added(struct sl_added_set *set)
{
    for (uint32_t i = 0; i < set->n; i++)
        free((char *)set->tokens[i].text.p);
    free(set->tokens);
}

void sl_tokenizer_free(struct sl_tokenizer *t)
{
    if (!t)
        return;
    sl_vocab_free(&t->vocab);
    sl_merges_free(&t->merges);
    for (uint32_t i = 0; i < t->n_normalizers; i++) {
        free((char *)t->normalizers[i].from.p);
        free((char *)t->normalizers[i].to.p);
    }
    for (uint32_t i = 0; i < t->n_splits; i++)
        pcre2_code_free(t->splits[i]);
    free_added(&t->raw);
    free_added(&t->normalized);
    free((char *)t->decode_from.p);
    free((char *)t->decode_to.p);
    free(t);
}

uint32_t sl_tokenizer_vocab(const struct sl_tokenizer *t)
{
    return t->vocab.n_ids;
}

int32_t sl_tokenizer_id(const struct sl_tokenizer *t, const char *token)
{
    return sl_vocab_find(&t->vocab, token, strlen(token));
}

int32_t sl_tokenizer_bos(const struct sl_tokenizer *t)
{
    return t->bos_id;
}
