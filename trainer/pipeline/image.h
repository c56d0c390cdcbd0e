/* A file image made of sections, in memory: what checkpoints are written and read with. Little-endian.
 *
 *     0   magic                8
 *     8   format, n_sections   4 + 4
 *    16   sections: tag 4, zero 4, length 8, that many bytes, zeros up to a multiple of 8
 *   end   SHA-256 of all before it   32
 *
 * Writing latches its failure: -ENOMEM shows at sl_image_finish alone. Reading latches it too: a reader that
 * has asked for more than there is gives zeros from then on, and `bad` is set. The digest is made by
 * sl_image_sign, apart from the rest, because hashing takes longer than everything else and whoever takes
 * the snapshot may not have that time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_IMAGE_HEADER = 16, SL_IMAGE_SECTION_HEADER = 16, SL_IMAGE_DIGEST = 32, SL_IMAGE_MAGIC = 8 };
#define SL_TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

struct sl_image { /* all zero before sl_image_begin */
    uint8_t *bytes;
    size_t len, cap, section; /* section: where the open one's header lies */
    uint32_t n_sections;
    bool failed;
};

/* `bytes`: how large the image becomes, so that it is allocated once; it may become larger. */
void sl_image_begin(struct sl_image *, const char magic[SL_IMAGE_MAGIC], uint32_t format, size_t bytes);
void sl_image_section(struct sl_image *, uint32_t tag); /* ends the one before */
void sl_image_u32(struct sl_image *, uint32_t);
void sl_image_u64(struct sl_image *, uint64_t);
void sl_image_bytes(struct sl_image *, const void *, size_t n);
void sl_image_floats(struct sl_image *, const float *, size_t n);
/* Hands the bytes over (malloc'ed), the digest's place zero. -ENOMEM: nothing is handed over. */
int sl_image_finish(struct sl_image *, uint8_t **bytes, size_t *len);
void sl_image_sign(uint8_t *bytes, size_t len); /* any thread: puts the digest in its place */

struct sl_section { /* a view into an image */
    uint32_t tag;
    const uint8_t *p;
    size_t left;
    bool bad;
};

/* Checks magic, format and digest and lists the sections, at most `max`. Returns how many, or -EINVAL with
 * *why: what the image "is" or "has" that it should not. No tag comes twice. */
int sl_image_open(const uint8_t *bytes, size_t len, const char magic[SL_IMAGE_MAGIC], uint32_t format,
    struct sl_section *, unsigned max, const char **why);
/* The section of that tag; one of length 0 that is `bad` where there is none. */
struct sl_section sl_image_find(const struct sl_section *, unsigned n, uint32_t tag);

uint32_t sl_section_u32(struct sl_section *);
uint64_t sl_section_u64(struct sl_section *);
void sl_section_bytes(struct sl_section *, void *, size_t n);
/* Into dst [n]. Values that are not finite are bad, too. */
void sl_section_floats(struct sl_section *, float *dst, size_t n);
/* Whether `n` pieces of `bytes` each are still there: before memory is allocated for them. */
bool sl_section_holds(const struct sl_section *, uint64_t n, uint64_t bytes);
bool sl_section_ended(const struct sl_section *); /* all read, nothing bad */
