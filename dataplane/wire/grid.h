/* From a shape to units and fragments (rules T1): the tensor's bytes are padded with zeros to whole units; target ids
 * (u32 little-endian, one per row), padded likewise, follow as further units and are never coded. A gradient has no targets. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum sl_codec { SL_CODEC_F32 = 0, SL_CODEC_BF16 = 1 };
const char *sl_codec_name(enum sl_codec);
int sl_codec_parse(const char *name, enum sl_codec *); /* -EINVAL: unknown */

struct sl_grid {
    uint32_t rows;
    uint32_t tensor_units, target_units, n_units; /* n_units = tensor + target */
    uint32_t n_fragments;
    uint16_t fragment_units;
};

/* -EINVAL: rows 0, d_model 0 or a product over 2^31 units. `with_targets` 0 for a gradient. */
int sl_grid_make(struct sl_grid *, uint32_t rows, uint32_t d_model, enum sl_codec, int with_targets, uint16_t fragment_units);

/* Whether f divides n, without dividing: n * d <= d - 1 modulo 2^64 for d = ceil(2^64 / f), exact for 32-bit
 * n and f (Lemire, Kaser and Kurz, "Faster remainder by direct computation", 2019). For f = 1, d is 0 and the
 * comparison always true. */
static inline uint64_t sl_grid_divisor(uint16_t f)
{
    return UINT64_MAX / f + 1;
}
static inline bool sl_grid_divides(uint64_t divisor, uint32_t n)
{
    return n * divisor <= divisor - 1;
}

/* Element conversion. bf16 rounds to nearest even, NaN stays NaN. n elements; pointers may be unaligned to 64. */
void sl_codec_encode(enum sl_codec, const float *in, uint8_t *out, uint64_t n);
void sl_codec_decode(enum sl_codec, const uint8_t *in, float *out, uint64_t n);
