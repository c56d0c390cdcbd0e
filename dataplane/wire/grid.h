/* From a shape to units and fragments (rules T1): the tensor's bytes are padded with zeros to whole units; target ids
 * (u32 little-endian, one per row), padded likewise, follow as further units and are never coded. A gradient has no targets.
 *
 * f32 and bf16 travel as they are stored. int8 (int8.h) travels as units of 63 elements and is stored as bf16; int8+lz4 is the same
 * with each fragment compressed on its own where that makes it smaller (lz4_block.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum sl_codec { SL_CODEC_F32 = 0, SL_CODEC_BF16 = 1, SL_CODEC_INT8 = 2, SL_CODEC_INT8_LZ4 = 3, SL_CODEC_COUNT };
#define SL_CODEC_NAMES "f32, bf16, int8 or int8+lz4"
const char *sl_codec_name(enum sl_codec);
int sl_codec_parse(const char *name, enum sl_codec *); /* -EINVAL: unknown */

/* Whether units are not what a slot holds. */
static inline bool sl_codec_is_coded(enum sl_codec c)
{
    return c >= SL_CODEC_INT8;
}
/* How a slot holds the tensor. */
static inline enum sl_codec sl_codec_stored(enum sl_codec c)
{
    return c == SL_CODEC_F32 ? SL_CODEC_F32 : SL_CODEC_BF16;
}

struct sl_grid {
    uint32_t rows;
    uint32_t stored_units; /* tensor_units, or what the tensor takes once decoded: the targets' place in a slot */
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

/* What a slot needs for the message, in units: the tensor as it is stored, then the targets. */
static inline uint32_t sl_grid_slot_units(const struct sl_grid *g)
{
    return g->stored_units + g->target_units;
}

/* From elements to what travels, and back. bf16 rounds to nearest even, NaN stays NaN. n elements; pointers may be unaligned to
 * 64. int8 writes whole units. */
void sl_codec_encode(enum sl_codec, const float *in, uint8_t *out, uint64_t n);
void sl_codec_decode(enum sl_codec, const uint8_t *in, float *out, uint64_t n);
