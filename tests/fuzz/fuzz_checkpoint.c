/* The checkpoint's parser. The digest is put right first: without that no mutation would get past it. */
#include "trainer/pipeline/checkpoint.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, BLOCK = 3 };

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

/* With AdamW's moments, and without. */
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    float g[LAYERS * BLOCK] = {1, -2}, moments[BLOCK] = {0.5f};
    uint64_t t[1] = {4};
    struct sl_checkpoint_device device = {.id = "device-00001", .last_step = 7};
    struct sl_checkpoint c = {
        .n_layers = LAYERS, .first = 1, .block = BLOCK, .g = g, .t = t, .devices = &device, .n_devices = 1};
    uint8_t *image;
    size_t len;
    if (index > 1)
        return 0;
    if (index == 0)
        c.m = c.v = moments;
    if (sl_checkpoint_encode(&c, &image, &len))
        return 0;
    if (len > cap)
        len = 0;
    memcpy(buf, image, len);
    free(image);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_checkpoint c;
    char err[200];
    if (size > 1 << 20)
        return 0;
    uint8_t *image = malloc(size + 1);
    if (!image)
        return 0;
    memcpy(image, data, size);
    if (size > SHA256_DIGEST_LENGTH + 12) {
        memcpy(image, "SLUICECP\1\0\0\0", 12);
        SHA256(image, size - SHA256_DIGEST_LENGTH, image + size - SHA256_DIGEST_LENGTH);
    }
    if (sl_checkpoint_decode(image, size, &c, err, sizeof err) == 0) {
        uint8_t *again;
        size_t len;
        if (sl_checkpoint_encode(&c, &again, &len) == 0) {
            if (len != size) /* what it takes, it understood */
                abort();
            free(again);
        }
        sl_checkpoint_clear(&c);
    }
    free(image);
    return 0;
}
