/* Byte-pair tokenizers as Hugging Face's tokenizer.json has them: byte-level BPE with GPT-2's or Llama-3's pattern
 * (PCRE2), and BPE with byte fallback or a fused unk (SentencePiece style: prepend and replace normalisers, merges
 * across spaces). O(n log n). What is not supported is refused by the name of its JSON key. Read-only after load. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sl_tokenizer;

int sl_tokenizer_load(const char *file, struct sl_tokenizer **, char *err, size_t err_cap);
int sl_tokenizer_parse(const char *json, size_t len, struct sl_tokenizer **, char *err, size_t err_cap);
void sl_tokenizer_free(struct sl_tokenizer *);
uint32_t sl_tokenizer_vocab(const struct sl_tokenizer *); /* highest id + 1 */
/* Ids of UTF-8 text, no begin token added here; `ids` is malloc'ed. Bytes that are not UTF-8 count as U+FFFD, one per maximal
 * ill-formed part, as Python's errors="replace" makes them (Hugging Face's tokenizers take only valid text). Added tokens
 * are recognised in the text as Hugging Face does: `normalized: false` ones in the raw text, the others, their own text
 * normalised too, in the normalised pieces between. Any thread, also several at once. -ENOMEM; -EFBIG: over 512 MiB. */
int sl_tokenizer_encode(const struct sl_tokenizer *, const char *text, size_t len, uint32_t **ids, size_t *n);
/* UTF-8 text of ids, malloc'ed, NUL-terminated. Added tokens are written out; ids without a token are passed over; bytes that
 * do not add up to UTF-8 become U+FFFD. */
int sl_tokenizer_decode(const struct sl_tokenizer *, const uint32_t *ids, size_t n, char **text, size_t *len);
/* The id of a token by its text; -1: none. */
int32_t sl_tokenizer_id(const struct sl_tokenizer *, const char *token);
/* The begin token that the file's post-processor puts before a text (TemplateProcessing); -1: none. */
int32_t sl_tokenizer_bos(const struct sl_tokenizer *);

/* Trains a byte-level BPE (GPT-2's pattern) of `vocab` ids, id 0 = "<|endoftext|>", which is also the begin token; returns
 * tokenizer.json's text. A function of the texts alone: the most frequent pair first, ties to the smaller ids. Words
 * never cross texts. -EINVAL: a vocabulary under 257, or more than the text yields (the error says how many). */
int sl_tokenizer_train(const char *const *texts, const size_t *lens, size_t n_texts, uint32_t vocab, char **json,
    size_t *json_len, char *err, size_t err_cap);
