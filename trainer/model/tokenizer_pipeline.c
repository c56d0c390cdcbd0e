/* tokenizer.json's normaliser, pre-tokenizer, post-processor and decoder. Whatever the encoder does not do is
 * refused by the name of its key or type. */
#include "trainer/model/tokenizer_pipeline.h"
#include "trainer/model/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "tokenizer.json"

/* The "type" of a step; "" where there is none. */
static const char *type_of(const cJSON *step)
{
    const cJSON *type = sl_json_get(step, "type");
    return cJSON_IsString(type) ? type->valuestring : "";
}

static bool is_type(const cJSON *step, const char *type)
{
    return strcmp(type_of(step), type) == 0;
}

static int copy_string(const cJSON *v, struct sl_string *out)
{
    char *p = strdup(v->valuestring);
    if (!p)
        return -ENOMEM;
    *out = (struct sl_string){p, (uint32_t)strlen(p)};
    return 0;
}

/* A Replace step's literal pattern and content. */
static int read_replace(const cJSON *step, const char *where, struct sl_string *from, struct sl_string *to,
    char *err, size_t err_cap)
{
    static const char *const keys[] = {"type", "pattern", "content", NULL};
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    if (code)
        return code;
    const cJSON *pattern = sl_json_get(step, "pattern"), *content = sl_json_get(step, "content");
    const cJSON *literal = sl_json_get(pattern, "String");
    if (!cJSON_IsString(literal) || !*literal->valuestring || !cJSON_IsString(content))
        return sl_fail(
            -EINVAL, err, err_cap, "%s: Replace: only a pattern of type String is supported", where);
    if (copy_string(literal, from) || copy_string(content, to))
        return sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", where);
    return 0;
}

static int read_normalizer(struct sl_tokenizer *t, const cJSON *step, int depth, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": normalizer";
    static const char *const prepend_keys[] = {"type", "prepend", NULL}, *const sequence_keys[] = {
                                                                             "type", "normalizers", NULL};
    if (is_type(step, "Sequence") && depth == 0) {
        int code = sl_json_only_keys(step, sequence_keys, where, err, err_cap);
        const cJSON *list = sl_json_get(step, "normalizers");
        if (!code && !cJSON_IsArray(list))
            code = sl_fail(-EINVAL, err, err_cap, "%s: Sequence without normalizers", where);
        for (const cJSON *v = list ? list->child : NULL; v && !code; v = v->next)
            code = read_normalizer(t, v, 1, err, err_cap);
        return code;
    }
    if (!is_type(step, "Prepend") && !is_type(step, "Replace"))
        return sl_fail(-EINVAL, err, err_cap, "%s: \"%.40s\" is not supported", where, type_of(step));
    if (t->n_normalizers == SL_MAX_STEPS)
        return sl_fail(-EINVAL, err, err_cap, "%s: more than %d steps", where, SL_MAX_STEPS);
    struct sl_normalizer *n = &t->normalizers[t->n_normalizers++];
    if (is_type(step, "Replace"))
        return read_replace(step, where, &n->from, &n->to, err, err_cap);
    n->prepend = true;
    const cJSON *text = sl_json_get(step, "prepend");
    int code = sl_json_only_keys(step, prepend_keys, where, err, err_cap);
    if (!code && !cJSON_IsString(text))
        code = sl_fail(-EINVAL, err, err_cap, "%s: Prepend without a text", where);
    if (!code && copy_string(text, &n->to))
        code = sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", where);
    return code;
}

static int add_split(struct sl_tokenizer *t, enum sl_pattern pattern, char *err, size_t err_cap)
{
    if (t->n_splits == SL_MAX_STEPS)
        return sl_fail(-EINVAL, err, err_cap, WHAT ": pre_tokenizer: more than %d steps", SL_MAX_STEPS);
    pcre2_code *code = sl_pattern_compile(pattern);
    if (!code)
        return sl_fail(-ENOMEM, err, err_cap, WHAT ": pre_tokenizer: out of memory");
    t->splits[t->n_splits++] = code;
    return 0;
}

static int read_split(struct sl_tokenizer *t, const cJSON *step, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": pre_tokenizer: Split";
    static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
    const cJSON *regex = sl_json_get(sl_json_get(step, "pattern"), "Regex");
    const cJSON *behavior = sl_json_get(step, "behavior");
    bool invert = false;
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    if (!code)
        code = sl_json_bool(step, "invert", where, &invert, err, err_cap);
    if (code)
        return code;
    if (invert || !cJSON_IsString(behavior) || strcmp(behavior->valuestring, "Isolated") != 0)
        return sl_fail(
            -EINVAL, err, err_cap, "%s: only behavior \"Isolated\" without invert is supported", where);
    int pattern = cJSON_IsString(regex) ? sl_pattern_known(regex->valuestring) : -1;
    if (pattern < 0)
        return sl_fail(-EINVAL, err, err_cap,
            "%s: this pattern is not supported (known: GPT-2's, Llama-3's and Qwen2's Regex)", where);
    return add_split(t, (enum sl_pattern)pattern, err, err_cap);
}

static int read_byte_level(struct sl_tokenizer *t, const cJSON *step, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": pre_tokenizer: ByteLevel";
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
    bool use_regex = true; /* files older than the key mean true */
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    t->add_prefix_space = true;
    if (!code)
        code = sl_json_bool(step, "add_prefix_space", where, &t->add_prefix_space, err, err_cap);
    if (!code)
        code = sl_json_bool(step, "use_regex", where, &use_regex, err, err_cap);
    if (!code && t->add_prefix_space && t->n_splits)
        code = sl_fail(
            -EINVAL, err, err_cap, "%s: add_prefix_space after another split is not supported", where);
    if (!code && use_regex)
        code = add_split(t, SL_PATTERN_GPT2, err, err_cap);
    t->byte_level = true;
    return code;
}

static int read_digits(struct sl_tokenizer *t, const cJSON *step, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": pre_tokenizer: Digits";
    static const char *const keys[] = {"type", "individual_digits", NULL};
    bool each = false;
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    if (!code)
        code = sl_json_bool(step, "individual_digits", where, &each, err, err_cap);
    return code ? code : add_split(t, each ? SL_PATTERN_DIGIT : SL_PATTERN_DIGITS, err, err_cap);
}

static int read_pre_tokenizer(struct sl_tokenizer *t, const cJSON *step, int depth, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": pre_tokenizer";
    static const char *const keys[] = {"type", "pretokenizers", NULL};
    if (t->byte_level) /* what follows would see the byte-level alphabet, not the text */
        return sl_fail(
            -EINVAL, err, err_cap, "%s: \"%.40s\" after ByteLevel is not supported", where, type_of(step));
    if (is_type(step, "ByteLevel"))
        return read_byte_level(t, step, err, err_cap);
    if (is_type(step, "Split"))
        return read_split(t, step, err, err_cap);
    if (is_type(step, "Digits"))
        return read_digits(t, step, err, err_cap);
    if (!is_type(step, "Sequence") || depth)
        return sl_fail(-EINVAL, err, err_cap, "%s: \"%.40s\" is not supported", where, type_of(step));
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    const cJSON *list = sl_json_get(step, "pretokenizers");
    if (!code && !cJSON_IsArray(list))
        code = sl_fail(-EINVAL, err, err_cap, "%s: Sequence without pretokenizers", where);
    for (const cJSON *v = list ? list->child : NULL; v && !code; v = v->next)
        code = read_pre_tokenizer(t, v, 1, err, err_cap);
    return code;
}

int sl_pipeline_before_model(struct sl_tokenizer *t, const cJSON *root, char *err, size_t err_cap)
{
    int code = 0;
    if (sl_json_is_set(root, "normalizer"))
        code = read_normalizer(t, sl_json_get(root, "normalizer"), 0, err, err_cap);
    if (!code && sl_json_is_set(root, "pre_tokenizer"))
        code = read_pre_tokenizer(t, sl_json_get(root, "pre_tokenizer"), 0, err, err_cap);
    return code;
}

/* The begin token of a template [special token, the text]; the text alone has none. */
static int read_template(struct sl_tokenizer *t, const cJSON *step, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": post_processor: TemplateProcessing";
    static const char *const keys[] = {"type", "single", "pair", "special_tokens", NULL};
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    if (code)
        return code;
    const cJSON *single = sl_json_get(step, "single");
    const cJSON *first = cJSON_IsArray(single) ? single->child : NULL;
    const cJSON *special = sl_json_get(first, "SpecialToken");
    const cJSON *text = special ? first->next : first;
    const cJSON *which = sl_json_get(sl_json_get(text, "Sequence"), "id");
    if (!cJSON_IsString(which) || strcmp(which->valuestring, "A") != 0 || text->next)
        return sl_fail(-EINVAL, err, err_cap,
            "%s: single must be the text (Sequence A), after at most one SpecialToken", where);
    if (!special)
        return 0;
    const cJSON *name = sl_json_get(special, "id");
    const cJSON *entry =
        cJSON_IsString(name) ? sl_json_get(sl_json_get(step, "special_tokens"), name->valuestring) : NULL;
    const cJSON *ids = sl_json_get(entry, "ids"), *id = cJSON_IsArray(ids) ? ids->child : NULL;
    if (!cJSON_IsNumber(id) || id->next || !(id->valuedouble >= 0 && id->valuedouble < t->vocab.n_ids) ||
        !t->vocab.tokens[(uint32_t)id->valuedouble].p)
        return sl_fail(-EINVAL, err, err_cap,
            "%s: special_tokens must give the begin token one id of the vocabulary", where);
    t->bos_id = (int32_t)id->valuedouble;
    return 0;
}

static int read_post_processor(
    struct sl_tokenizer *t, const cJSON *step, int depth, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": post_processor";
    static const char *const keys[] = {"type", "processors", NULL};
    if (is_type(step, "ByteLevel")) /* only moves the offsets of tokens */
        return 0;
    if (is_type(step, "TemplateProcessing"))
        return read_template(t, step, err, err_cap);
    if (!is_type(step, "Sequence") || depth)
        return sl_fail(-EINVAL, err, err_cap, "%s: \"%.40s\" is not supported", where, type_of(step));
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    const cJSON *list = sl_json_get(step, "processors");
    for (const cJSON *v = cJSON_IsArray(list) ? list->child : NULL; v && !code; v = v->next)
        code = read_post_processor(t, v, 1, err, err_cap);
    return code;
}

/* Strip of one leading space, after Fuse: what undoes Prepend. */
static int read_strip(struct sl_tokenizer *t, const cJSON *step, char *err, size_t err_cap)
{
    static const char where[] = WHAT ": decoder: Strip";
    static const char *const keys[] = {"type", "content", "start", "stop", NULL};
    uint32_t start = 0, stop = 0;
    const cJSON *content = sl_json_get(step, "content");
    int code = sl_json_only_keys(step, keys, where, err, err_cap);
    if (!code)
        code = sl_json_u32(step, "start", where, 0, 1, &start, err, err_cap);
    if (!code)
        code = sl_json_u32(step, "stop", where, 0, 0, &stop, err, err_cap);
    if (!code && (!cJSON_IsString(content) || strcmp(content->valuestring, " ") != 0))
        code = sl_fail(-EINVAL, err, err_cap, "%s: only one leading space is supported", where);
    t->decode_strip = start == 1;
    return code;
}

/* The steps of a decoder in the one order that SentencePiece-like files use: Replace, ByteFallback, Fuse,
 * Strip. */
static int read_decoder_sequence(struct sl_tokenizer *t, const cJSON *list, char *err, size_t err_cap)
{
    static const char *const order[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
    static const char where[] = WHAT ": decoder";
    unsigned next = 0;
    int code = 0;
    for (const cJSON *v = cJSON_IsArray(list) ? list->child : NULL; v && !code; v = v->next) {
        while (next < 4 && !is_type(v, order[next]))
            next++;
        if (next == 0)
            code = read_replace(v, where, &t->decode_from, &t->decode_to, err, err_cap);
        else if (next == 1)
            t->decode_fallback = true;
        else if (next == 2)
            t->decode_joined = true;
        else if (next == 3 && t->decode_joined)
            code = read_strip(t, v, err, err_cap);
        else
            code = sl_fail(-EINVAL, err, err_cap,
                "%s: \"%.40s\" at this place is not supported (Replace, ByteFallback, Fuse, Strip)", where,
                type_of(v));
        next++;
    }
    t->decode_joined = true; /* decoders join tokens without spaces, Fuse or not */
    return code;
}

int sl_pipeline_after_model(struct sl_tokenizer *t, const cJSON *root, char *err, size_t err_cap)
{
    static const char *const keys[] = {"type", "decoders", NULL};
    int code = 0;
    if (sl_json_is_set(root, "post_processor"))
        code = read_post_processor(t, sl_json_get(root, "post_processor"), 0, err, err_cap);
    if (code || !sl_json_is_set(root, "decoder"))
        return code;
    const cJSON *decoder = sl_json_get(root, "decoder");
    t->decode_joined = true;
    if (is_type(decoder, "ByteLevel")) {
        t->decode_bytes = true;
        return 0;
    }
    if (!is_type(decoder, "Sequence"))
        return sl_fail(-EINVAL, err, err_cap, WHAT ": decoder: \"%.40s\" is not supported", type_of(decoder));
    t->decode_joined = false;
    code = sl_json_only_keys(decoder, keys, WHAT ": decoder", err, err_cap);
    return code ? code : read_decoder_sequence(t, sl_json_get(decoder, "decoders"), err, err_cap);
}
