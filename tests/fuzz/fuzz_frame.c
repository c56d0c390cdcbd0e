/* Any bytes as the plaintext of a FRAMES packet: each frame is refused, or is exactly what encoding it again
 * gives. */
#include "dataplane/wire/frame.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_frame f;
    uint8_t again[512];
    for (size_t at = 0, n; at < size; at += n) {
        memset(&f, 0xa5, sizeof(f));
        n = sl_frame_decode(data + at, size - at, &f);
        if (n == 0)
            return 0;
        if (n > size - at)
            abort();
        if (f.type == SL_FRAME_PADDING)
            continue;
        if (sl_frame_encode(&f, again, sizeof(again)) != n || memcmp(again, data + at, n) != 0)
            abort();
    }
    return 0;
}

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const struct sl_frame frames[] = {
        {.type = SL_FRAME_PADDING},
        {.type = SL_FRAME_PING},
        {.type = SL_FRAME_ACK,
            .ack = {.delay_us = 9, .n_ranges = 4, .range = {{90, 100}, {80, 88}, {5, 5}, {0, 3}}}},
        {.type = SL_FRAME_REQUEST, .request = {.step = 1, .cut = 200, .n_seqs = 3, .len = {1, 2, 3}}},
        {.type = SL_FRAME_GRANT, .grant = {.index = 1, .step = 1, .cumulative = 1}},
        {.type = SL_FRAME_RESULT, .result = {.grant = 1, .nll = 3.5}},
        {.type = SL_FRAME_STEP_LOST, .step_lost = {.reason = SL_LOST_EXPIRED}},
        {.type = SL_FRAME_PATH_CHALLENGE, .challenge = 77},
    };
    enum { N = sizeof(frames) / sizeof(frames[0]) };
    if (index > N)
        return 0;
    if (index < N)
        return sl_frame_encode(&frames[index], buf, cap);
    size_t len = 0;
    for (unsigned i = 0; i < N; i++)
        len += sl_frame_encode(&frames[i], buf + len, cap - len);
    return len;
}
