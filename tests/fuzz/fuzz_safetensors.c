/* A safetensors header: input is the length of the data part (2 bytes, little-endian), then the header's
 * text. What is accepted covers the data exactly. */
#include "trainer/model/safetensors.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {
        "\x10\x01{\"__metadata__\":{\"format\":\"pt\"},\"a.weight\":{\"dtype\":\"F32\",\"shape\":[4,16],"
        "\"data_offsets\":[0,256]},\"b\":{\"dtype\":\"BF16\",\"shape\":[8],\"data_offsets\":[256,272]}}",
        "\x04\x01{\"x\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"U8\","
        "\"shape\":[2,3,7,6],"
        "\"data_offsets\":[8,260]}}  "};
    if (index >= 2)
        return 0;
    size_t n = 2 + strlen(seeds[index] + 2);
    memcpy(buf, seeds[index], n);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_st_header h;
    char err[256];
    if (size < 2)
        return 0;
    uint64_t data_len = data[0] | (uint64_t)data[1] << 8, covered = 0;
    if (sl_st_header_parse((const char *)data + 2, size - 2, data_len, "fuzz", &h, err, sizeof err))
        return 0;
    for (uint32_t i = 0; i < h.n; i++) {
        if (h.tensors[i].begin > h.tensors[i].end || h.tensors[i].end > data_len)
            abort();
        covered += h.tensors[i].end - h.tensors[i].begin;
    }
    if (covered != data_len)
        abort();
    sl_st_header_free(&h);
    return 0;
}
