#include "dataplane/wire/grid.h"

#include "dataplane/wire/bytes.h"
#include "dataplane/wire/int8.h"
#include "dataplane/wire/packet.h"

#include <errno.h>
#include <string.h>

static const char *const codec_names[SL_CODEC_COUNT] = {[SL_CODEC_F32] = "f32",
    [SL_CODEC_BF16] = "bf16",
    [SL_CODEC_INT8] = "int8",
    [SL_CODEC_INT8_LZ4] = "int8+lz4"};
enum { F32_BYTES = 4, BF16_BYTES = 2, TARGET_BYTES = 4 };
#define MAX_UNITS (UINT64_C(1) << 31)

const char *sl_codec_name(enum sl_codec codec)
{
    return (unsigned)codec < SL_CODEC_COUNT ? codec_names[codec] : "unknown";
}

int sl_codec_parse(const char *name, enum sl_codec *codec)
{
    for (unsigned i = 0; i < SL_CODEC_COUNT; i++) {
        if (strcmp(name, codec_names[i]) == 0) {
            *codec = (enum sl_codec)i;
            return 0;
        }
    }
    return -EINVAL;
}

static uint64_t units_of(uint64_t bytes)
{
    return (bytes + SL_UNIT_BYTES - 1) / SL_UNIT_BYTES;
}

int sl_grid_make(struct sl_grid *g, uint32_t rows, uint32_t d_model, enum sl_codec codec, int with_targets,
    uint16_t fragment_units)
{
    if (rows == 0 || d_model == 0 || fragment_units == 0 || (unsigned)codec >= SL_CODEC_COUNT)
        return -EINVAL;
    uint64_t elements = (uint64_t)rows * d_model;
    if (elements > MAX_UNITS * SL_UNIT_BYTES)
        return -EINVAL;
    uint64_t stored = units_of(elements * (codec == SL_CODEC_F32 ? F32_BYTES : BF16_BYTES));
    uint64_t tensor = sl_codec_is_coded(codec) ? sl_int8_units(elements) : stored;
    uint64_t target = with_targets ? units_of((uint64_t)rows * TARGET_BYTES) : 0;
    uint64_t n = tensor + target;
    if (stored + target > MAX_UNITS)
        return -EINVAL;
    g->rows = rows;
    g->stored_units = (uint32_t)stored;
    g->tensor_units = (uint32_t)tensor;
    g->target_units = (uint32_t)target;
    g->n_units = (uint32_t)n;
    g->n_fragments = (uint32_t)((n + fragment_units - 1) / fragment_units);
    g->fragment_units = fragment_units;
    return 0;
}

/* Round to nearest even on the 16 bits cut off; a NaN keeps its sign and payload's top, made quiet so that it
 * stays one. */
static inline uint16_t bf16_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    uint32_t rounded = u + 0x7fff + ((u >> 16) & 1);
    uint32_t quiet = u | 0x400000;
    return (uint16_t)(((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded) >> 16);
}

void sl_codec_encode(enum sl_codec codec, const float *in, uint8_t *out, uint64_t n)
{
    if (codec == SL_CODEC_F32) {
        memcpy(out, in, n * sizeof(float));
        return;
    }
    if (sl_codec_is_coded(codec)) {
        sl_int8_encode(in, out, n);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint16_t h = bf16_of(in[i]);
        memcpy(out + 2 * i, &h, sizeof(h));
    }
}

void sl_codec_decode(enum sl_codec codec, const uint8_t *in, float *out, uint64_t n)
{
    if (codec == SL_CODEC_F32) {
        memcpy(out, in, n * sizeof(float));
        return;
    }
    if (sl_codec_is_coded(codec)) {
        sl_int8_decode(in, out, n);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, sizeof(h));
        uint32_t u = (uint32_t)h << 16;
        memcpy(&out[i], &u, sizeof(u));
    }
}
