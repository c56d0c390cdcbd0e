/* The inside of a tokenizer, for the files of this folder only. */
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "trainer/model/buffer.h"
#include "trainer/model/tokenizer.h"

#include <stdbool.h>

enum {
    SL_TOKEN_NONE = -1,
    SL_MAX_IDS = 1 << 22,   /* ids of a tokenizer: bounds what a hostile file makes us allocate */
    SL_MAX_STEPS = 8,       /* normalisers, and pre-tokenizer splits, each */
    SL_MAX_TOKEN = 1 << 16, /* bytes of one token */
    SL_BYTES = 256,
    SL_MAX_TEXT = INT32_MAX / 4, /* bytes of one text */
};

struct sl_string {
    const char *p;
    uint32_t len;
};

/* Strings to ids: open addressing with linear probing. */
struct sl_vocab {
    struct sl_string *tokens; /* by id; p NULL: the id is not in use */
    bool *added_only;         /* by id: an added token that the BPE model does not know */
    uint32_t n_ids;           /* highest id + 1 */
    int32_t *slots;
    uint32_t mask;
};
int sl_vocab_create(struct sl_vocab *, uint32_t n_ids);
void sl_vocab_free(struct sl_vocab *);
/* Copies the string. -EEXIST: the id or the string is taken. */
int sl_vocab_put(struct sl_vocab *, const char *p, size_t len, uint32_t id);
int32_t sl_vocab_find(const struct sl_vocab *, const char *p, size_t len);

/* Pairs of ids to (rank, id of the merged token). */
struct sl_merge {
    uint32_t left, right; /* left == UINT32_MAX: free slot */
    uint32_t rank, id;
};
struct sl_merges {
    struct sl_merge *slots;
    uint32_t mask;
};
int sl_merges_create(struct sl_merges *, uint32_t n);
void sl_merges_free(struct sl_merges *);
void sl_merges_put(struct sl_merges *, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);
const struct sl_merge *sl_merges_find(const struct sl_merges *, uint32_t left, uint32_t right);

/* A pattern that cuts a text into words ("Isolated": every match and every gap between matches is a word). */
enum sl_pattern { SL_PATTERN_GPT2, SL_PATTERN_LLAMA3, SL_PATTERN_QWEN2, SL_PATTERN_DIGIT, SL_PATTERN_DIGITS };
/* The pattern that a tokenizer.json spells out; -1: not one that we know. */
int sl_pattern_known(const char *regex);
pcre2_code *sl_pattern_compile(enum sl_pattern); /* NULL: no memory */
struct sl_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};
int sl_matcher_create(struct sl_matcher *);
void sl_matcher_free(struct sl_matcher *);
/* The next word at or after *at of valid UTF-8 text; false: none left. A gap comes first, then its match.
 * `gap_end` keeps a match that waits behind its gap (start with *gap_end = 0). -errno in *err where PCRE2
 * fails. */
struct sl_cutter {
    const pcre2_code *code;
    const char *text;
    size_t len, at, match, match_end; /* match == match_end: none is waiting */
    int err;
};
bool sl_cutter_next(struct sl_cutter *, struct sl_matcher *, struct sl_string *word);

/* The byte-level alphabet of GPT-2: every byte as one printable character. */
uint32_t sl_byte_to_char(uint8_t byte);
int sl_char_to_byte(uint32_t code); /* -1: not in the alphabet */

struct sl_normalizer {
    bool prepend;              /* else replace */
    struct sl_string from, to; /* prepend: `to` */
};

/* Added tokens of one kind, sorted by first byte and then longest first, so that the first that fits is the
 * leftmost-longest match. */
struct sl_added {
    struct sl_string text;
    uint32_t id;
};
struct sl_added_set {
    struct sl_added *tokens;
    uint32_t n;
    uint32_t first[SL_BYTES + 1]; /* tokens that start with byte b: [first[b], first[b+1]) */
};

struct sl_tokenizer {
    struct sl_vocab vocab;
    struct sl_merges merges;
    bool byte_level, ignore_merges, fuse_unk, byte_fallback, add_prefix_space;
    int32_t unk_id, bos_id;
    int32_t byte_id[SL_BYTES];   /* byte level: token of a byte; byte fallback: <0xXX>; -1: none */
    char byte_text[SL_BYTES][2]; /* byte level: a byte's character, of byte_text_len bytes */
    uint8_t byte_text_len[SL_BYTES];
    struct sl_normalizer normalizers[SL_MAX_STEPS];
    uint32_t n_normalizers;
    pcre2_code *splits[SL_MAX_STEPS];
    uint32_t n_splits;
    /* Hugging Face looks for added tokens twice: in the raw text (`normalized: false`) and, with their own
     * text normalised too, in the normalised pieces between those. */
    struct sl_added_set raw, normalized;
    /* Decoder. */
    bool decode_bytes, decode_fallback, decode_strip, decode_joined;
    struct sl_string decode_from, decode_to; /* Replace; from.p NULL: none */
};

/* Growing array of ids. */
struct sl_ids {
    uint32_t *p;
    size_t n, cap;
};
int sl_ids_add(struct sl_ids *, uint32_t id);

/* Scratch of one encode call. */
struct sl_symbol {
    uint32_t id; /* UINT32_MAX: merged away */
    int32_t prev, next;
};
struct sl_candidate {
    uint32_t rank, id;
    int32_t at;
};
struct sl_bpe {
    struct sl_symbol *symbols;
    size_t n, cap;
    struct sl_candidate *heap;
    size_t heap_n, heap_cap;
    struct sl_buffer spelling; /* a word in the byte-level alphabet */
};
void sl_bpe_free(struct sl_bpe *);
/* Appends the ids of one word (bytes of valid UTF-8). */
int sl_bpe_word(const struct sl_tokenizer *, struct sl_bpe *, struct sl_string word, struct sl_ids *);

/* Runs the normalisers over a piece into `out` (replaced). */
int sl_normalize(const struct sl_tokenizer *, struct sl_string piece, struct sl_buffer *out);
