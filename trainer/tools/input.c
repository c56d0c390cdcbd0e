#include "trainer/tools/input.h"

#include "trainer/data/hashes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sl_input_check(const struct sl_input_options *options)
{
    const char *split = options->split;
    if (options->text.n && options->ids)
        return "give --text or --ids, not both";
    if (!options->text.n && !options->ids)
        return "give --text FILE or --ids FILE";
    if (split && strcmp(split, "all") && strcmp(split, "train") && strcmp(split, "held-out"))
        return "--split is all, train or held-out";
    if (options->ids && (options->held_out > 0 || split || options->excluded))
        return "--held-out, --split and --excluded are about records: they need --text";
    return NULL;
}

int sl_input_records(const struct sl_list *text, struct sl_records *records, char *err, size_t err_cap)
{
    *records = (struct sl_records){0};
    int rc = 0;
    for (size_t i = 0; i < text->n && !rc; i++)
        rc = sl_records_append(records, text->item[i], err, err_cap);
    if (!rc && records->n == 0) {
        snprintf(err, err_cap, "%s: holds no text", text->n ? text->item[0] : "--text");
        rc = -EINVAL;
    }
    if (rc)
        sl_records_free(records);
    return rc;
}

int sl_input_choose(const struct sl_input_options *options, const struct sl_records *records,
    const struct sl_record ***chosen, size_t *n, char *err, size_t err_cap)
{
    bool all = !options->split || strcmp(options->split, "all") == 0;
    bool held_out = !all && strcmp(options->split, "held-out") == 0;
    struct sl_hashes excluded = {0};
    int rc = options->excluded ? sl_hashes_read(options->excluded, &excluded, err, err_cap) : 0;
    if (rc)
        return rc;
    const struct sl_record **list = malloc((records->n + 1) * sizeof *list);
    size_t count = 0;
    for (size_t i = 0; list && i < records->n; i++) {
        const struct sl_record *rec = &records->rec[i];
        bool in_split = all || sl_record_held_out(rec, options->held_out) == held_out;
        if (in_split && !sl_hashes_have(&excluded, rec->hash))
            list[count++] = rec;
    }
    sl_hashes_free(&excluded);
    if (!list) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    if (count == 0) {
        free(list);
        snprintf(err, err_cap, "no record is left of the text after --split and --excluded");
        return -EINVAL;
    }
    *chosen = list;
    *n = count;
    return 0;
}

/* One stream per file: `chosen` is in the order of the files. */
static int encode(const struct sl_record **chosen, size_t n, size_t n_files, const struct sl_tokenizer *tok,
    int32_t eos_id, struct sl_input *input, char *err, size_t err_cap)
{
    enum { NOTABLE = 4 << 20 }; /* bytes; more than these take seconds */
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += chosen[i]->len;
    if (bytes > NOTABLE)
        fprintf(stderr, "tokenising %zu bytes\n", bytes);
    input->streams = calloc(n_files, sizeof *input->streams);
    int rc = input->streams ? 0 : -ENOMEM;
    for (size_t from = 0, to = 0; from < n && !rc; from = to) {
        while (to < n && chosen[to]->file == chosen[from]->file)
            input->text_bytes += chosen[to++]->len;
        rc = sl_stream_from_records(
            tok, chosen + from, to - from, eos_id, &input->streams[input->n_streams++]);
    }
    if (rc)
        snprintf(err, err_cap, "cannot tokenise the text: %s", strerror(-rc));
    return rc;
}

int sl_input_read(const struct sl_input_options *options, const struct sl_tokenizer *tok, int32_t eos_id,
    uint32_t vocab, struct sl_input *input, char *err, size_t err_cap)
{
    *input = (struct sl_input){0};
    if (options->ids)
        return sl_streams_from_ids_file(
            options->ids, vocab, &input->streams, &input->n_streams, err, err_cap);
    struct sl_records records;
    const struct sl_record **chosen = NULL;
    size_t n = 0;
    int rc = sl_input_records(&options->text, &records, err, err_cap);
    if (rc)
        return rc;
    rc = sl_input_choose(options, &records, &chosen, &n, err, err_cap);
    if (!rc)
        rc = encode(chosen, n, records.n_files, tok, eos_id, input, err, err_cap);
    free(chosen);
    sl_records_free(&records);
    if (rc)
        sl_input_free(input);
    return rc;
}

void sl_input_free(struct sl_input *input)
{
    for (size_t i = 0; i < input->n_streams; i++)
        sl_stream_free(&input->streams[i]);
    free(input->streams);
    *input = (struct sl_input){0};
}

int sl_input_tokenizer(const char *file, const struct sl_model_config *config, struct sl_tokenizer **tok,
    char *err, size_t err_cap)
{
    int rc = sl_tokenizer_load(file, tok, err, err_cap);
    if (!rc && sl_tokenizer_vocab(*tok) > config->vocab) {
        snprintf(err, err_cap,
            "%s: does not match the model: it has ids up to %u, the model has a vocabulary of %u", file,
            sl_tokenizer_vocab(*tok) - 1, config->vocab);
        sl_tokenizer_free(*tok);
        *tok = NULL;
        rc = -EINVAL;
    }
    return rc;
}
