/* Text files and JSON lines as records: whatever the bytes, records are counted, ended and free of
 * overstrikes, and every refusal has a sentence. The first byte chooses the kind of file. */
#include "trainer/data/text.h"

#include <stdlib.h>
#include <string.h>

static const char *const seeds[] = {
    "tone\n%\ntwo\n%\n",
    "t_\bT_\bh_\be e\b'nd\n\b\b\n%\n%\n%",
    "j{\"text\": \"a\\nb\", \"id\": 1}\n\n{\"text\":\"\\u00e9\\b\"}\n",
    "j{\"text\": [1, {\"text\": \"x\"}]}\n",
};

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    if (index >= sizeof seeds / sizeof *seeds)
        return 0;
    size_t len = strlen(seeds[index]);
    memcpy(buf, seeds[index], len < cap ? len : cap);
    return len < cap ? len : cap;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct sl_records records = {0};
    char err[256] = "";
    const char *name = data[0] == 'j' ? "fuzz.jsonl" : "fuzz.txt";
    int rc = sl_records_append_bytes(&records, name, (const char *)data + 1, size - 1, err, sizeof err);
    if (rc && !err[0])
        abort();
    for (size_t i = 0; i < records.n; i++) {
        const struct sl_record *rec = &records.rec[i];
        if (rec->len == 0 || rec->text[rec->len] || memchr(rec->text, '\b', rec->len))
            abort();
    }
    sl_records_free(&records);
    return 0;
}
