/* Files of token ids: every id that is taken is below the vocabulary, and every refusal has a sentence. */
#include "trainer/data/stream.h"

#include <stdlib.h>
#include <string.h>

enum { VOCAB = 2048 };

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char seed[] = "0 1 2047\n\n 12\t13 \r\n2048\n";
    if (index || cap < sizeof seed)
        return 0;
    memcpy(buf, seed, sizeof seed - 1);
    return sizeof seed - 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_stream *streams;
    size_t n;
    char err[256] = "";
    int rc = sl_streams_from_ids("fuzz", (const char *)data, size, VOCAB, &streams, &n, err, sizeof err);
    if (rc) {
        if (!err[0])
            abort();
        return 0;
    }
    for (size_t s = 0; s < n; s++) {
        if (streams[s].n == 0)
            abort();
        for (size_t i = 0; i < streams[s].n; i++) {
            if (streams[s].ids[i] >= VOCAB)
                abort();
        }
        sl_stream_free(&streams[s]);
    }
    free(streams);
    return 0;
}
