/* The patterns of byte-level tokenizers, and cutting a text by one of them through PCRE2. */
#include "trainer/model/tokenizer_internal.h"

#include <errno.h>
#include <string.h>

/* Inside a class: Unicode's White_Space, which is what \s means to these patterns' authors. PCRE2's own \s
 * also takes U+180E, which Unicode has not counted as a space since 6.3. */
#define W "\\t-\\r\\x{85}\\p{Z}"

static const struct {
    const char *json; /* as tokenizer.json spells it; NULL: has a type of its own there */
    const char *ours;
} patterns[] = {
    [SL_PATTERN_GPT2] = {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" W "\\p{L}\\p{N}]+|[" W "]+(?![^" W "])|[" W "]+"},
    [SL_PATTERN_LLAMA3] = {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                           " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
        " ?[^" W "\\p{L}\\p{N}]+[\\r\\n]*|[" W "]*[\\r\\n]+|[" W "]+(?![^" W "])|[" W "]+"},
    [SL_PATTERN_QWEN2] = {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                          " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
        " ?[^" W "\\p{L}\\p{N}]+[\\r\\n]*|[" W "]*[\\r\\n]+|[" W "]+(?![^" W "])|[" W "]+"},
    [SL_PATTERN_DIGIT] = {NULL, "\\p{N}"},
    [SL_PATTERN_DIGITS] = {NULL, "\\p{N}+"},
};

int sl_pattern_known(const char *regex)
{
    for (unsigned i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (patterns[i].json && strcmp(patterns[i].json, regex) == 0)
            return (int)i;
    return -1;
}

pcre2_code *sl_pattern_compile(enum sl_pattern pattern)
{
    int err;
    size_t at;
    pcre2_code *code = pcre2_compile(
        (PCRE2_SPTR)patterns[pattern].ours, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &err, &at, NULL);
    if (code)
        pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where that is not possible, PCRE2 interprets */
    return code;
}

int sl_matcher_create(struct sl_matcher *m)
{
    enum { STACK_START = 32 << 10, STACK_MAX = 8 << 20 };
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
    if (!m->data || !m->context) {
        sl_matcher_free(m);
        return -ENOMEM;
    }
    if (m->stack)
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
    pcre2_set_match_limit(m->context, UINT32_MAX); /* a long run of spaces is no error */
    pcre2_set_depth_limit(m->context, UINT32_MAX);
    return 0;
}

void sl_matcher_free(struct sl_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (struct sl_matcher){0};
}

bool sl_cutter_next(struct sl_cutter *c, struct sl_matcher *m, struct sl_string *word)
{
    if (c->err || c->at >= c->len)
        return false;
    if (c->match == c->match_end) {
        int n =
            pcre2_match(c->code, (PCRE2_SPTR)c->text, c->len, c->at, PCRE2_NO_UTF_CHECK, m->data, m->context);
        if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
            c->err = n == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EIO;
            return false;
        }
        const size_t *range = pcre2_get_ovector_pointer(m->data);
        c->match = n < 0 ? c->len : range[0]; /* no pattern of ours matches nothing */
        c->match_end = n < 0 ? c->len : range[1];
    }
    size_t end = c->at < c->match ? c->match : c->match_end;
    *word = (struct sl_string){c->text + c->at, (uint32_t)(end - c->at)};
    c->at = end;
    if (end == c->match_end)
        c->match = c->match_end = 0;
    return true;
}

/* GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others follow from U+0100 in order. */
static bool stands_for_itself(uint32_t c)
{
    return (c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

uint32_t sl_byte_to_char(uint8_t byte)
{
    if (stands_for_itself(byte))
        return byte;
    uint32_t n = 0;
    for (uint32_t c = 0; c < byte; c++)
        n += !stands_for_itself(c);
    return 0x100 + n;
}

int sl_char_to_byte(uint32_t code)
{
    if (stands_for_itself(code))
        return (int)code;
    for (uint32_t b = 0; b < SL_BYTES && code >= 0x100; b++)
        if (!stands_for_itself(b) && code-- == 0x100)
            return (int)b;
    return -1;
}
