#include "trainer/data/overlap.h"

#include "trainer/tools/commands.h"
#include "trainer/tools/files.h"
#include "trainer/tools/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tally {
    size_t held_out, listed;
};

/* Every ten words of the training records. */
static int learn(const struct sl_input_options *in, struct sl_overlap *seen, char *err, size_t err_cap)
{
    struct sl_records records;
    int rc = sl_input_records(&in->text, &records, err, err_cap);
    if (rc)
        return rc;
    for (size_t i = 0; i < records.n && !rc; i++) {
        if (!sl_record_held_out(&records.rec[i], in->held_out))
            rc = sl_overlap_add(seen, records.rec[i].text, records.rec[i].len);
    }
    sl_records_free(&records);
    return rc;
}

static int list(const struct sl_list *against, double held_out, const struct sl_overlap *seen, FILE *to,
    struct tally *tally, char *err, size_t err_cap)
{
    struct sl_records records;
    int rc = sl_input_records(against, &records, err, err_cap);
    if (rc)
        return rc;
    for (size_t i = 0; i < records.n; i++) {
        const struct sl_record *rec = &records.rec[i];
        if (!sl_record_held_out(rec, held_out))
            continue;
        tally->held_out++;
        if (!sl_overlap_shares(seen, rec->text, rec->len))
            continue;
        tally->listed++;
        for (size_t b = 0; b < sizeof rec->hash; b++)
            fprintf(to, "%02x%s", rec->hash[b], b + 1 < sizeof rec->hash ? "" : "\n");
    }
    sl_records_free(&records);
    return 0;
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_overlap_command;
    struct sl_input_options in = {0};
    struct sl_list against = {0};
    double against_held_out = 0;
    const char *out = NULL;
    struct sl_opt table[] = {
        {"text", SL_OPT_LIST, &in.text, "FILE", "what the model was trained on", true, 0, 0, 0},
        {"held-out", SL_OPT_NUMBER, &in.held_out, "X", "share of its records that the model has not read", 0,
            0, 1, 0},
        {"against", SL_OPT_LIST, &against, "FILE", "other text, or a directory of it", true, 0, 0, 0},
        {"against-held-out", SL_OPT_NUMBER, &against_held_out, "X", "share of it that is to be scored", true,
            0, 1, 0},
        {"out", SL_OPT_WORD, &out, "FILE", "where the hashes are written, one a line", true, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct sl_overlap *seen = NULL;
    struct tally tally = {0};
    char err[512] = "", *text = NULL;
    size_t len = 0;

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code < 0) {
        FILE *memory = open_memstream(&text, &len);
        int rc = memory ? sl_overlap_create(&seen) : -ENOMEM;
        if (!rc)
            rc = learn(&in, seen, err, sizeof err);
        if (!rc)
            rc = list(&against, against_held_out, seen, memory, &tally, err, sizeof err);
        if (memory && fclose(memory) && !rc)
            rc = -ENOMEM;
        if (!rc)
            rc = sl_file_write(out, text, len, err, sizeof err);
        code = rc ? sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc)) : SL_EXIT_OK;
        if (!rc)
            printf("%zu of %zu held-out records share ten words with the training text\n", tally.listed,
                tally.held_out);
    }
    sl_overlap_free(seen);
    free(text);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_overlap_command = {
    .name = "overlap",
    .summary = "Lists held-out records that share ten consecutive words with a model's training text.\n"
               "The list (SHA-256 of the records) is for --excluded, and for the demo, which must not need "
               "the text.",
    .examples =
        "  sluice-train overlap --text corpus/*.txt --held-out 0.1 --against /usr/share/games/fortunes \\\n"
        "      --against-held-out 0.1 --out heldout-excluded.txt\n",
    .run = run,
};
