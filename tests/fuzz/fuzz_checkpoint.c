/* The checkpoint's parser. The digest is put right first: without that no mutation would get past it. */
#include "trainer/pipeline/checkpoint.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, BLOCK = 3, MAGIC_AND_FORMAT = 12 };

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

/* With AdamW's moments and a part, and without. */
size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    float g[LAYERS * BLOCK] = {1, -2}, m[BLOCK] = {0.5f};
    struct sl_moments moments = {.t = 4};
    struct sl_checkpoint_device device = {.id = "device-00001", .last_step = 7, .cut = 1};
    struct sl_checkpoint c = {.n_layers = LAYERS,
        .first = 1,
        .block = BLOCK,
        .g = g,
        .moments = &moments,
        .devices = &device,
        .n_devices = 1};
    struct sl_image im;
    uint8_t *image;
    size_t len;
    if (index > 1)
        return 0;
    if (index == 0)
        moments.m = moments.v = m;
    sl_checkpoint_encode(&c, 0, &im);
    if (index == 0) {
        sl_image_section(&im, SL_PART_SERVER);
        sl_image_u64(&im, 3);
    }
    if (sl_image_finish(&im, &image, &len))
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
    if (size > SL_IMAGE_DIGEST + MAGIC_AND_FORMAT) {
        memcpy(image, "SLUICECP\2\0\0\0", MAGIC_AND_FORMAT);
        sl_image_sign(image, size);
    }
    if (sl_checkpoint_decode(image, size, &c, err, sizeof err) == 0) {
        struct sl_image im;
        uint8_t *again;
        size_t len;
        sl_checkpoint_encode(&c, 0, &im);
        if (sl_image_finish(&im, &again, &len) == 0) {
            if (len != size) /* what it takes, it understood */
                abort();
            free(again);
        }
        sl_checkpoint_clear(&c);
    }
    free(image);
    return 0;
}
