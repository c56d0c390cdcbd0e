#include "trainer/pipeline/image.h"

#include <errno.h>
#include <math.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

_Static_assert((int)SL_IMAGE_DIGEST == SHA256_DIGEST_LENGTH, "the digest is SHA-256");
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "floats are copied as they lie in memory"
#endif

enum { ALIGNMENT = 8, HUGE_PAGE = 2 << 20, FORMAT_AT = SL_IMAGE_MAGIC, SECTIONS_AT = FORMAT_AT + 4 };

static size_t padding(size_t n)
{
    return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
}

static void store_u32(uint8_t *p, uint32_t x)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}

static void store_u64(uint8_t *p, uint64_t x)
{
    store_u32(p, (uint32_t)x);
    store_u32(p + 4, (uint32_t)(x >> 32));
}

static uint32_t load_u32(const uint8_t *p)
{
    uint32_t x = 0;
    for (unsigned i = 0; i < 4; i++)
        x |= (uint32_t)p[i] << 8 * i;
    return x;
}

static uint64_t load_u64(const uint8_t *p)
{
    return load_u32(p) | (uint64_t)load_u32(p + 4) << 32;
}

/* ------------------------------------------------------------------------------------------------- writing
 */

/* Room for n more bytes; NULL: no memory. */
static uint8_t *claim(struct sl_image *im, size_t n)
{
    if (im->failed)
        return NULL;
    if (n > im->cap - im->len) {
        size_t cap = 2 * im->cap > im->len + n ? 2 * im->cap : im->len + n;
        uint8_t *bytes = realloc(im->bytes, cap);
        if (!bytes) {
            im->failed = true;
            return NULL;
        }
        im->bytes = bytes;
        im->cap = cap;
    }
    uint8_t *p = im->bytes + im->len;
    im->len += n;
    return p;
}

void sl_image_begin(struct sl_image *im, const char magic[SL_IMAGE_MAGIC], uint32_t format, size_t bytes)
{
    *im = (struct sl_image){0};
    im->cap = bytes > SL_IMAGE_HEADER ? bytes : SL_IMAGE_HEADER;
    if (im->cap >= 2 * HUGE_PAGE) { /* most of the time of a large copy is faults of fresh pages */
        im->cap = (im->cap + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        im->bytes = aligned_alloc(HUGE_PAGE, im->cap);
        if (im->bytes)
            madvise(im->bytes, im->cap, MADV_HUGEPAGE);
    } else {
        im->bytes = malloc(im->cap);
    }
    im->failed = !im->bytes;
    sl_image_bytes(im, magic, SL_IMAGE_MAGIC);
    sl_image_u32(im, format);
    sl_image_u32(im, 0);
}

static void end_section(struct sl_image *im)
{
    static const uint8_t zeros[ALIGNMENT];
    if (im->failed || !im->n_sections)
        return;
    size_t len = im->len - im->section - SL_IMAGE_SECTION_HEADER;
    store_u64(im->bytes + im->section + 8, len);
    sl_image_bytes(im, zeros, padding(len));
}

void sl_image_section(struct sl_image *im, uint32_t tag)
{
    end_section(im);
    im->section = im->len;
    im->n_sections++;
    sl_image_u32(im, tag);
    sl_image_u32(im, 0);
    sl_image_u64(im, 0); /* the length, once it is known */
}

void sl_image_u32(struct sl_image *im, uint32_t x)
{
    uint8_t *p = claim(im, sizeof x);
    if (p)
        store_u32(p, x);
}

void sl_image_u64(struct sl_image *im, uint64_t x)
{
    uint8_t *p = claim(im, sizeof x);
    if (p)
        store_u64(p, x);
}

void sl_image_bytes(struct sl_image *im, const void *bytes, size_t n)
{
    uint8_t *p = n ? claim(im, n) : NULL;
    if (p)
        memcpy(p, bytes, n);
}

void sl_image_floats(struct sl_image *im, const float *x, size_t n)
{
    sl_image_bytes(im, x, n * sizeof *x);
}

int sl_image_finish(struct sl_image *im, uint8_t **bytes, size_t *len)
{
    end_section(im);
    uint8_t *digest = claim(im, SL_IMAGE_DIGEST);
    if (!digest) {
        free(im->bytes);
        *im = (struct sl_image){0};
        *bytes = NULL;
        return -ENOMEM;
    }
    memset(digest, 0, SL_IMAGE_DIGEST);
    store_u32(im->bytes + SECTIONS_AT, im->n_sections);
    *bytes = im->bytes;
    *len = im->len;
    *im = (struct sl_image){0};
    return 0;
}

void sl_image_sign(uint8_t *bytes, size_t len)
{
    SHA256(bytes, len - SL_IMAGE_DIGEST, bytes + len - SL_IMAGE_DIGEST);
}

/* ------------------------------------------------------------------------------------------------- reading
 */

static int bad(const char **why, const char *what)
{
    *why = what;
    return -EINVAL;
}

/* Takes the section at the head of [p, p + left); returns what it takes of it, 0: it does not fit. */
static size_t take_section(const uint8_t *p, size_t left, struct sl_section *s)
{
    if (left < SL_IMAGE_SECTION_HEADER || load_u32(p + 4))
        return 0;
    uint64_t len = load_u64(p + 8);
    left -= SL_IMAGE_SECTION_HEADER;
    if (len > left || padding(len) > left - len)
        return 0;
    for (size_t i = 0; i < padding(len); i++)
        if (p[SL_IMAGE_SECTION_HEADER + len + i])
            return 0;
    *s = (struct sl_section){.tag = load_u32(p), .p = p + SL_IMAGE_SECTION_HEADER, .left = len};
    return SL_IMAGE_SECTION_HEADER + len + padding(len);
}

int sl_image_open(const uint8_t *bytes, size_t len, const char magic[SL_IMAGE_MAGIC], uint32_t format,
    struct sl_section *sections, unsigned max, const char **why)
{
    uint8_t digest[SL_IMAGE_DIGEST];
    if (len < SL_IMAGE_HEADER + SL_IMAGE_DIGEST)
        return bad(why, "is cut short");
    if (memcmp(bytes, magic, SL_IMAGE_MAGIC))
        return bad(why, "is not one of Sluice's");
    if (load_u32(bytes + FORMAT_AT) != format)
        return bad(why, "is of another format version, written by another release");
    SHA256(bytes, len - SL_IMAGE_DIGEST, digest);
    if (memcmp(digest, bytes + len - SL_IMAGE_DIGEST, sizeof digest))
        return bad(why, "is damaged: its SHA-256 does not match");
    uint32_t n = load_u32(bytes + SECTIONS_AT);
    size_t at = SL_IMAGE_HEADER, end = len - SL_IMAGE_DIGEST;
    if (n > max)
        return bad(why, "has more sections than this release knows");
    for (uint32_t i = 0; i < n; i++) {
        size_t took = take_section(bytes + at, end - at, &sections[i]);
        if (!took)
            return bad(why, "has a length that its contents do not have");
        at += took;
        for (uint32_t k = 0; k < i; k++)
            if (sections[k].tag == sections[i].tag)
                return bad(why, "has a section twice");
    }
    return at == end ? (int)n : bad(why, "has a length that its contents do not have");
}

struct sl_section sl_image_find(const struct sl_section *sections, unsigned n, uint32_t tag)
{
    for (unsigned i = 0; i < n; i++)
        if (sections[i].tag == tag)
            return sections[i];
    return (struct sl_section){.tag = tag, .bad = true};
}

/* The next n bytes; NULL: there are not so many. */
static const uint8_t *take(struct sl_section *s, size_t n)
{
    if (s->bad || n > s->left) {
        s->bad = true;
        return NULL;
    }
    const uint8_t *p = s->p;
    s->p += n;
    s->left -= n;
    return p;
}

uint32_t sl_section_u32(struct sl_section *s)
{
    const uint8_t *p = take(s, 4);
    return p ? load_u32(p) : 0;
}

uint64_t sl_section_u64(struct sl_section *s)
{
    const uint8_t *p = take(s, 8);
    return p ? load_u64(p) : 0;
}

void sl_section_bytes(struct sl_section *s, void *dst, size_t n)
{
    const uint8_t *p = take(s, n);
    if (p && n)
        memcpy(dst, p, n);
    else if (n)
        memset(dst, 0, n);
}

void sl_section_floats(struct sl_section *s, float *dst, size_t n)
{
    sl_section_bytes(s, dst, n * sizeof *dst);
    for (size_t i = 0; i < n; i++)
        s->bad = s->bad || !isfinite(dst[i]);
}

bool sl_section_holds(const struct sl_section *s, uint64_t n, uint64_t bytes)
{
    return !s->bad && n <= s->left / bytes;
}

bool sl_section_ended(const struct sl_section *s)
{
    return !s->bad && s->left == 0;
}
