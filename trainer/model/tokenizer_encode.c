/* From text to ids in Hugging Face's order: added tokens in the raw text, normalisers, added tokens in the
 * normalised text, words, byte pairs. */
#include "trainer/model/tokenizer_internal.h"
#include "trainer/model/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct encoder {
    const struct sl_tokenizer *tok;
    struct sl_ids ids;
    struct sl_bpe bpe;
    struct sl_matcher matcher[SL_MAX_STEPS];
    struct sl_buffer normalized, prefixed;
};

static int replace_all(
    struct sl_string piece, struct sl_string from, struct sl_string to, struct sl_buffer *out)
{
    int err = 0;
    const char *p = piece.p, *end = piece.p + piece.len;
    for (const char *hit; !err && (hit = memmem(p, (size_t)(end - p), from.p, from.len));
         p = hit + from.len) {
        err = sl_buffer_add(out, p, (size_t)(hit - p));
        if (!err)
            err = sl_buffer_add(out, to.p, to.len);
        if (out->len > SL_MAX_TEXT)
            return -EFBIG;
    }
    return err ? err : sl_buffer_add(out, p, (size_t)(end - p));
}

int sl_normalize(const struct sl_tokenizer *t, struct sl_string piece, struct sl_buffer *out)
{
    out->len = 0;
    int err = sl_buffer_add(out, piece.p, piece.len);
    for (uint32_t i = 0; i < t->n_normalizers && !err && out->len; i++) {
        const struct sl_normalizer *n = &t->normalizers[i];
        struct sl_buffer next = {0};
        struct sl_string now = {out->p, (uint32_t)out->len};
        if (n->prepend) {
            err = sl_buffer_add(&next, n->to.p, n->to.len);
            if (!err)
                err = sl_buffer_add(&next, now.p, now.len);
        } else {
            err = replace_all(now, n->from, n->to, &next);
        }
        if (next.len > SL_MAX_TEXT)
            err = -EFBIG;
        sl_buffer_free(out);
        *out = next;
    }
    return err;
}

/* Cuts one piece by split number `step` and hands the words on to the next. */
static int encode_words(struct encoder *e, struct sl_string piece, uint32_t step)
{
    if (step == e->tok->n_splits)
        return sl_bpe_word(e->tok, &e->bpe, piece, &e->ids);
    struct sl_cutter cutter = {.code = e->tok->splits[step], .text = piece.p, .len = piece.len};
    struct sl_string word;
    while (sl_cutter_next(&cutter, &e->matcher[step], &word)) {
        int err = encode_words(e, word, step + 1);
        if (err)
            return err;
    }
    return cutter.err;
}

static int encode_piece(struct encoder *e, struct sl_string piece)
{
    if (e->tok->add_prefix_space && piece.len && piece.p[0] != ' ') {
        e->prefixed.len = 0;
        int err = sl_buffer_add(&e->prefixed, " ", 1);
        if (!err)
            err = sl_buffer_add(&e->prefixed, piece.p, piece.len);
        if (err)
            return err;
        piece = (struct sl_string){e->prefixed.p, (uint32_t)e->prefixed.len};
    }
    return encode_words(e, piece, 0);
}

/* The longest added token at the start of p; NULL: none. */
static const struct sl_added *added_at(const struct sl_added_set *set, const char *p, size_t len)
{
    uint8_t first = (uint8_t)*p;
    for (uint32_t i = set->first[first]; i < set->first[first + 1]; i++) {
        const struct sl_added *a = &set->tokens[i];
        if (a->text.len <= len && memcmp(a->text.p, p, a->text.len) == 0)
            return a;
    }
    return NULL;
}

static int encode_added(struct encoder *e, const struct sl_added_set *set, struct sl_string text,
    int (*between)(struct encoder *, struct sl_string))
{
    uint32_t start = 0;
    int err = 0;
    for (uint32_t i = 0; i < text.len && set->n && !err;) {
        const struct sl_added *a = added_at(set, text.p + i, text.len - i);
        if (!a) {
            i++;
            continue;
        }
        if (i > start)
            err = between(e, (struct sl_string){text.p + start, i - start});
        if (!err)
            err = sl_ids_add(&e->ids, a->id);
        start = i += a->text.len;
    }
    if (!err && start < text.len)
        err = between(e, (struct sl_string){text.p + start, text.len - start});
    return err;
}

static int encode_raw_piece(struct encoder *e, struct sl_string piece)
{
    int err = sl_normalize(e->tok, piece, &e->normalized);
    if (err)
        return err;
    struct sl_string text = {e->normalized.p, (uint32_t)e->normalized.len};
    return encode_added(e, &e->tok->normalized, text, encode_piece);
}

int sl_tokenizer_encode(const struct sl_tokenizer *t, const char *text, size_t len, uint32_t **ids, size_t *n)
{
    *ids = NULL;
    *n = 0;
    if (len > SL_MAX_TEXT)
        return -EFBIG;
    char *repaired = NULL;
    if (!sl_utf8_valid(text, len)) {
        repaired = sl_utf8_repair(text, len, &len);
        if (!repaired)
            return -ENOMEM;
        text = repaired;
    }
    struct encoder e = {.tok = t};
    int err = len > SL_MAX_TEXT ? -EFBIG : 0;
    for (uint32_t i = 0; i < t->n_splits && !err; i++)
        err = sl_matcher_create(&e.matcher[i]);
    if (!err)
        err = encode_added(&e, &t->raw, (struct sl_string){text, (uint32_t)len}, encode_raw_piece);
    for (uint32_t i = 0; i < t->n_splits; i++)
        sl_matcher_free(&e.matcher[i]);
    sl_bpe_free(&e.bpe);
    sl_buffer_free(&e.normalized);
    sl_buffer_free(&e.prefixed);
    free(repaired);
    if (err) {
        free(e.ids.p);
        return err;
    }
    *ids = e.ids.p ? e.ids.p : malloc(sizeof **ids);
    *n = e.ids.n;
    return *ids ? 0 : -ENOMEM;
}
