/* From ids back to text, as the file's decoder says. */
#include "trainer/model/tokenizer_internal.h"
#include "trainer/model/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A byte-level token: its characters as bytes, or as it stands where one is outside the alphabet (an added
 * token). */
static int add_byte_level(struct sl_buffer *out, struct sl_string token)
{
    size_t start = out->len;
    for (uint32_t i = 0; i < token.len;) {
        unsigned n = sl_utf8_sequence(token.p + i, token.len - i, NULL);
        int byte = sl_char_to_byte(sl_utf8_decode(token.p + i, n));
        if (byte < 0) {
            out->len = start;
            return sl_buffer_add(out, token.p, token.len);
        }
        char c = (char)byte;
        int err = sl_buffer_add(out, &c, 1);
        if (err)
            return err;
        i += n;
    }
    return 0;
}

/* "<0xXX>" to its byte; -1: another token. */
static int fallback_byte(struct sl_string token)
{
    static const char digits[] = "0123456789ABCDEF";
    if (token.len != 6 || memcmp(token.p, "<0x", 3) != 0 || token.p[5] != '>' || !token.p[3] || !token.p[4])
        return -1;
    const char *high = strchr(digits, token.p[3]), *low = strchr(digits, token.p[4]);
    return high && low ? (int)((high - digits) << 4 | (low - digits)) : -1;
}

/* A run of fallback bytes: text where it is UTF-8 as a whole, else one U+FFFD per byte. */
static int flush_bytes(struct sl_buffer *out, struct sl_buffer *bytes)
{
    int err = 0;
    if (sl_utf8_valid(bytes->p, bytes->len))
        err = sl_buffer_add(out, bytes->p, bytes->len);
    else
        for (size_t i = 0; i < bytes->len && !err; i++)
            err = sl_buffer_add(out, "\xef\xbf\xbd", 3);
    bytes->len = 0;
    return err;
}

static int add_replaced(struct sl_buffer *out, const struct sl_tokenizer *t, struct sl_string token)
{
    const char *p = token.p, *end = token.p + token.len;
    int err = 0;
    while (t->decode_from.p && !err) {
        const char *hit = memmem(p, (size_t)(end - p), t->decode_from.p, t->decode_from.len);
        if (!hit)
            break;
        err = sl_buffer_add(out, p, (size_t)(hit - p));
        if (!err)
            err = sl_buffer_add(out, t->decode_to.p, t->decode_to.len);
        p = hit + t->decode_from.len;
    }
    return err ? err : sl_buffer_add(out, p, (size_t)(end - p));
}

static int decode_all(const struct sl_tokenizer *t, const uint32_t *ids, size_t n, struct sl_buffer *out)
{
    struct sl_buffer bytes = {0};
    int err = 0;
    for (size_t i = 0; i < n && !err; i++) {
        if (ids[i] >= t->vocab.n_ids || !t->vocab.tokens[ids[i]].p)
            continue; /* Hugging Face skips ids without a token */
        struct sl_string token = t->vocab.tokens[ids[i]];
        int byte = t->decode_fallback ? fallback_byte(token) : -1;
        if (byte >= 0) {
            char c = (char)byte;
            err = sl_buffer_add(&bytes, &c, 1);
            continue;
        }
        if (bytes.len)
            err = flush_bytes(out, &bytes);
        if (!err)
            err = t->decode_bytes ? add_byte_level(out, token) : add_replaced(out, t, token);
        if (!err && !t->decode_joined && i + 1 < n) /* without a decoder tokens are joined by spaces */
            err = sl_buffer_add(out, " ", 1);
    }
    if (!err && bytes.len)
        err = flush_bytes(out, &bytes);
    sl_buffer_free(&bytes);
    return err;
}

int sl_tokenizer_decode(const struct sl_tokenizer *t, const uint32_t *ids, size_t n, char **text, size_t *len)
{
    struct sl_buffer out = {0};
    *text = NULL;
    *len = 0;
    int err = sl_buffer_reserve(&out, 1);
    if (!err)
        err = decode_all(t, ids, n, &out);
    if (!err) {
        size_t skip = t->decode_strip && out.len && out.p[0] == ' ';
        *text = sl_utf8_repair(out.p + skip, out.len - skip, len);
        err = *text ? 0 : -ENOMEM;
    }
    sl_buffer_free(&out);
    return err;
}
