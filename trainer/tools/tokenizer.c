#include "trainer/model/tokenizer.h"

#include "trainer/tools/commands.h"
#include "trainer/tools/files.h"
#include "trainer/tools/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int train(
    const struct sl_input_options *in, uint32_t vocab, const char *out, char *err, size_t err_cap)
{
    struct sl_records records;
    const struct sl_record **chosen = NULL;
    const char **texts = NULL;
    size_t *lens = NULL, n = 0, len = 0, bytes = 0;
    char *json = NULL;
    int rc = sl_input_records(&in->text, &records, err, err_cap);
    if (rc)
        return rc;
    rc = sl_input_choose(in, &records, &chosen, &n, err, err_cap);
    if (!rc) {
        texts = malloc(n * sizeof *texts);
        lens = malloc(n * sizeof *lens);
        rc = texts && lens ? 0 : -ENOMEM;
    }
    for (size_t i = 0; i < n && !rc; i++) {
        texts[i] = chosen[i]->text;
        bytes += lens[i] = chosen[i]->len;
    }
    enum { NOTABLE = 4 << 20 }; /* bytes; more than these take seconds */
    if (!rc && bytes > NOTABLE)
        fprintf(stderr, "learning %u ids from %zu bytes\n", vocab, bytes);
    if (!rc)
        rc = sl_tokenizer_train(texts, lens, n, vocab, &json, &len, err, err_cap);
    if (!rc)
        rc = sl_file_write(out, json, len, err, err_cap);
    free(json);
    free(texts);
    free(lens);
    free(chosen);
    sl_records_free(&records);
    return rc;
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_tokenizer_command;
    struct sl_input_options in = {.split = "train"};
    const char *out = NULL;
    uint32_t vocab = 0;
    bool json = false;
    struct sl_opt table[] = {
        {"vocab", SL_OPT_COUNT, &vocab, "N", "ids, the 256 bytes and the end token included", true, 257,
            1 << 20, 0},
        SL_INPUT_TEXT_OPTS(in),
        {"out", SL_OPT_WORD, &out, "FILE", "where tokenizer.json is written", true, 0, 0, 0},
        {"json", SL_OPT_FLAG, &json, NULL, "print JSON", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    const char *wrong = code < 0 ? sl_input_check(&in) : NULL;
    if (wrong)
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
    if (code < 0) {
        int rc = train(&in, vocab, out, err, sizeof err);
        code = rc ? sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc)) : SL_EXIT_OK;
        if (!rc)
            printf(json ? "{\"vocab\": %u}\n" : "a vocabulary of %u\n", vocab);
    }
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_tokenizer_command = {
    .name = "tokenizer",
    .summary = "Trains a byte-level BPE tokenizer.\n"
               "Id 0 is <|endoftext|>, the 256 bytes follow, then the merges. With --held-out X that share "
               "of the records\n"
               "is not read.",
    .examples = "  sluice-train tokenizer --vocab 2048 --text books/*.txt --out tokenizer.json\n",
    .run = run,
};
