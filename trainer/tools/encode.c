#include "trainer/tools/commands.h"
#include "trainer/tools/files.h"
#include "trainer/tools/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_streams(
    const struct sl_input *input, const char *path, size_t *tokens, char *err, size_t err_cap)
{
    char *text = NULL;
    size_t len = 0;
    FILE *memory = open_memstream(&text, &len);
    if (!memory)
        return -ENOMEM;
    *tokens = 0;
    for (size_t s = 0; s < input->n_streams; s++) {
        const struct sl_stream *stream = &input->streams[s];
        for (size_t i = 0; i < stream->n; i++)
            fprintf(memory, "%u%c", stream->ids[i], i + 1 < stream->n ? ' ' : '\n');
        *tokens += stream->n;
    }
    int rc = fclose(memory) ? -ENOMEM : sl_file_write(path, text, len, err, err_cap);
    free(text);
    return rc;
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_encode_command;
    struct sl_input_options in = {0};
    const char *tokenizer = NULL, *end = "<|endoftext|>", *out = NULL;
    bool json = false;
    struct sl_opt table[] = {
        {"tokenizer", SL_OPT_WORD, &tokenizer, "FILE", "tokenizer.json", true, 0, 0, 0},
        SL_INPUT_TEXT_OPTS(in),
        SL_INPUT_SPLIT_OPT(in),
        {"end", SL_OPT_WORD, &end, "TOKEN", "after each record (default <|endoftext|>; \"\": none)", 0, 0, 0,
            0},
        {"out", SL_OPT_WORD, &out, "FILE", "where the ids are written, one line per text file", true, 0, 0,
            0},
        {"json", SL_OPT_FLAG, &json, NULL, "print JSON", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct sl_tokenizer *tok = NULL;
    struct sl_input input = {0};
    size_t tokens = 0;
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    const char *wrong = code < 0 ? sl_input_check(&in) : NULL;
    if (wrong)
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
    if (code >= 0)
        goto out;
    int rc = sl_tokenizer_load(tokenizer, &tok, err, sizeof err);
    int32_t end_id = !rc && *end ? sl_tokenizer_id(tok, end) : -1;
    if (!rc && *end && end_id < 0) {
        snprintf(err, sizeof err, "%s: has no token \"%s\" (see --end)", tokenizer, end);
        rc = -EINVAL;
    }
    if (!rc)
        rc = sl_input_read(&in, tok, end_id, sl_tokenizer_vocab(tok), &input, err, sizeof err);
    if (!rc)
        rc = write_streams(&input, out, &tokens, err, sizeof err);
    code = rc ? sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc)) : SL_EXIT_OK;
    if (!rc)
        printf(json ? "{\"tokens\": %zu, \"text_bytes\": %zu, \"streams\": %zu}\n"
                    : "%zu tokens of %zu bytes of text in %zu streams\n",
            tokens, input.text_bytes, input.n_streams);
out:
    sl_input_free(&input);
    sl_tokenizer_free(tok);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_encode_command = {
    .name = "encode",
    .summary = "Writes text as token ids, the way --ids reads them.",
    .examples = "  sluice-train encode --tokenizer trainer/models/base/tokenizer.json --text notes.txt --out "
                "notes.ids\n",
    .run = run,
};
