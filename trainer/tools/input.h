/* What a subcommand reads: the model, its adapter and tokenizer, and the token streams. */
#pragma once

#include "trainer/data/stream.h"
#include "trainer/model/half.h"
#include "trainer/tools/cli.h"

/* The options about text that several subcommands share. */
struct sl_input_options {
    struct sl_list text;
    const char *ids, *split, *excluded;
    double held_out;
};

struct sl_input {
    struct sl_stream *streams; /* one per text file or line of ids, in order */
    size_t n_streams;
    size_t text_bytes; /* 0 for --ids */
};

/* 0, or -errno with a line in err. `tok` may be NULL with --ids. Of text, only the records of the chosen
 * split. */
int sl_input_read(const struct sl_input_options *, const struct sl_tokenizer *tok, int32_t eos_id,
    uint32_t vocab, struct sl_input *, char *err, size_t err_cap);
void sl_input_free(struct sl_input *);

/* Records of the chosen split that are not excluded, as pointers into `records`; malloc'ed. */
int sl_input_choose(const struct sl_input_options *, const struct sl_records *,
    const struct sl_record ***chosen, size_t *n, char *err, size_t err_cap);
/* All of --text as one set of records. */
int sl_input_records(const struct sl_list *text, struct sl_records *, char *err, size_t err_cap);
/* What is wrong with the options, or NULL. */
const char *sl_input_check(const struct sl_input_options *);

/* Loads a tokenizer for a model: refuses one with ids that the model does not have. */
int sl_input_tokenizer(
    const char *file, const struct sl_model_config *, struct sl_tokenizer **, char *err, size_t err_cap);

/* The rows of the option table that fill sl_input_options. */
#define SL_INPUT_TEXT_OPTS(o)                                                                                \
    {"text", SL_OPT_LIST, &(o).text, "FILE",                                                                 \
        ".jsonl (key \"text\"), records between % lines, or one record", 0, 0, 0, 0},                        \
        {"held-out", SL_OPT_NUMBER, &(o).held_out, "X", "share of records held out, by hash (default 0)", 0, \
            0, 1, 0},                                                                                        \
    {                                                                                                        \
        "excluded", SL_OPT_WORD, &(o).excluded, "FILE", "record hashes (hex, one a line) to leave out", 0,   \
            0, 0, 0                                                                                          \
    }
#define SL_INPUT_SPLIT_OPT(o)                                                                                \
    {                                                                                                        \
        "split", SL_OPT_WORD, &(o).split, "NAME", "all, train or held-out (default all)", 0, 0, 0, 0         \
    }
#define SL_INPUT_IDS_OPT(o)                                                                                  \
    {                                                                                                        \
        "ids", SL_OPT_WORD, &(o).ids, "FILE", "token ids instead of text, one stream per line", 0, 0, 0, 0   \
    }
