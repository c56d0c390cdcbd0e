/* Any bytes through tokenizers of every kind: ids below the vocabulary, and byte-level ones give the text
 * back, with U+FFFD for what was not UTF-8. */
#include "trainer/model/tokenizer.h"
#include "trainer/model/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const styles[] = {
    "llama3-style", "digits-style", "gpt2-style", "fallback-style", "unknown-style"};
enum { N_STYLES = 5, EXACT = 2 /* the first two give back every byte */ };

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {"The edge node's 1,234 words -- isn't it?\r\n\n   \tx<|endoftext|>",
        "\u65e5\u672c\u8a9e \u00e9e\u0301 \U0001f600\u200d\U0001f680 \xff\xc3( \u180e\u00a0\u2003",
        "<|begin|><|beginning|><s> \u2581the\u2581<unk> <0x41>",
        "  aaaaaaaaaaaaaaaa      '\u017f 'LL \u00bd\u0663\u2177 12345678"};
    if (index >= 4)
        return 0;
    size_t n = strlen(seeds[index]);
    memcpy(buf, seeds[index], n);
    return n;
}

static const struct sl_tokenizer *tokenizer(unsigned style)
{
    static struct sl_tokenizer *loaded[N_STYLES];
    char path[512], err[256];
    if (!loaded[style]) {
        snprintf(path, sizeof path, TOKENIZERS_DIR "/%s.json", styles[style]);
        if (sl_tokenizer_load(path, &loaded[style], err, sizeof err)) {
            fprintf(stderr, "%s\n", err);
            abort();
        }
    }
    return loaded[style];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (unsigned s = 0; s < N_STYLES; s++) {
        const struct sl_tokenizer *t = tokenizer(s);
        uint32_t *ids;
        size_t n, len, want_len;
        char *back;
        if (sl_tokenizer_encode(t, (const char *)data, size, &ids, &n) ||
            sl_tokenizer_decode(t, ids, n, &back, &len))
            abort();
        for (size_t i = 0; i < n; i++)
            if (ids[i] >= sl_tokenizer_vocab(t))
                abort();
        char *want = sl_utf8_repair((const char *)data, size, &want_len);
        if (!want || !sl_utf8_valid(back, len) ||
            (s < EXACT && (len != want_len || memcmp(back, want, len) != 0)))
            abort();
        free(want);
        free(back);
        free(ids);
    }
    return 0;
}
