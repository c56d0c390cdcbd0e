#include "tests/model/golden_ids.h"
#include "tests/model/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Hex to bytes, in place. */
static size_t unhex(char *text)
{
    size_t n = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            fail_msg("a golden line is not hex");
        text[i] = (char)byte;
    }
    return n;
}

static void check_case(const struct sl_tokenizer *t, char *line, const char *name, unsigned number)
{
    char *tab = strchr(line, '\t'), *at = tab + 1;
    assert_non_null(tab);
    *tab = 0;
    size_t len = unhex(line), n;
    uint32_t *ids;
    assert_int_equal(sl_tokenizer_encode(t, line, len, &ids, &n), 0);
    for (size_t i = 0; i < n; i++) {
        char *end;
        unsigned long want = strtoul(at, &end, 10);
        if (end == at || want != ids[i])
            fail_msg("%s line %u: id %zu is %u, not %s%.20s", name, number, i, ids[i],
                end == at ? "the end" : "", at);
        at = end;
    }
    if (*at)
        fail_msg("%s line %u: %zu ids and no more; expected%.20s", name, number, n, at);
    free(ids);
}

unsigned golden_ids_check(const struct sl_tokenizer *t, const char *name)
{
    char file[80];
    snprintf(file, sizeof file, "tokenizers/%s.golden", name);
    char *all = files_read(GOLDEN_DIR, file, NULL), *rest = all;
    unsigned n = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; n++)
        check_case(t, line, name, n + 1);
    free(all);
    return n;
}
