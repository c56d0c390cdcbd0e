/* tokenizer.json: what is accepted can encode and decode, with ids below the vocabulary. */
#include "trainer/model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char text[] = "The edge node's 1234 <|begin|> \u00e9\u65e5 \xff\n\n  <unk> x<0x41>";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_tokenizer *t;
    char err[256], *back;
    uint32_t *ids;
    size_t n, len;
    if (sl_tokenizer_parse((const char *)data, size, &t, err, sizeof err))
        return 0;
    if (sl_tokenizer_encode(t, text, sizeof text - 1, &ids, &n))
        abort();
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= sl_tokenizer_vocab(t))
            abort();
    if (sl_tokenizer_bos(t) >= (int32_t)sl_tokenizer_vocab(t) || sl_tokenizer_decode(t, ids, n, &back, &len))
        abort();
    free(back);
    free(ids);
    sl_tokenizer_free(t);
    return 0;
}
