#include "trainer/experiment/histogram.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* HdrHistogram V2: cookies of the plain and the deflated payload, each with the word-size nibble of V2
 * (0x10). */
enum { HDR_COOKIE = 0x1c849303 | 0x10, HDR_COOKIE_DEFLATED = 0x1c849304 | 0x10 };
enum { HDR_HEADER_BYTES = 40, HDR_SIGNIFICANT_DIGITS = 2, LEB128_MAX_BYTES = 9 };

static uint32_t bucket_of(uint64_t value)
{
    unsigned magnitude = 63 - (unsigned)__builtin_clzll(value | (2 * SL_HIST_HALF - 1));
    unsigned shift = magnitude - (SL_HIST_SUB_BITS - 1);

    return ((shift + 1) << (SL_HIST_SUB_BITS - 1)) + (uint32_t)(value >> shift) - SL_HIST_HALF;
}

static uint64_t bucket_top(uint32_t index)
{
    if (index < 2 * SL_HIST_HALF)
        return index;
    unsigned shift = (index >> (SL_HIST_SUB_BITS - 1)) - 1;
    uint64_t sub = (index & (SL_HIST_HALF - 1)) + SL_HIST_HALF;
    return ((sub + 1) << shift) - 1;
}

void sl_histogram_reset(struct sl_histogram *h)
{
    memset(h, 0, sizeof *h);
    h->min = UINT64_MAX;
}

void sl_histogram_record(struct sl_histogram *h, uint64_t value)
{
    if (value > INT64_MAX)
        value = INT64_MAX;
    h->bucket[bucket_of(value)]++;
    h->count++;
    h->sum += value;
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
}

uint64_t sl_histogram_quantile(const struct sl_histogram *h, double q)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(q * (double)h->count + 0.5), seen = 0;
    if (rank < 1)
        rank = 1;
    if (rank > h->count)
        rank = h->count;
    for (uint32_t i = 0; i < SL_HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

static uint8_t *put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    return p + bytes;
}

/* ZigZag LEB128 as HdrHistogram has it: at most nine bytes, the ninth whole. */
static uint8_t *put_leb128(uint8_t *p, int64_t value)
{
    uint64_t v = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);

    for (unsigned i = 0; i < LEB128_MAX_BYTES - 1; i++) {
        if (v < 0x80) {
            *p++ = (uint8_t)v;
            return p;
        }
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

/* Counts up to the largest value's bucket; runs of zeros as one negative number. */
static uint8_t *put_counts(uint8_t *p, const struct sl_histogram *h)
{
    uint32_t n = h->count ? bucket_of(h->max) + 1 : 0;

    for (uint32_t i = 0; i < n;) {
        if (h->bucket[i]) {
            p = put_leb128(p, (int64_t)h->bucket[i++]);
            continue;
        }
        uint32_t from = i;
        while (i < n && h->bucket[i] == 0)
            i++;
        p = i - from == 1 ? put_leb128(p, 0) : put_leb128(p, -(int64_t)(i - from));
    }
    return p;
}

static size_t encode_plain(const struct sl_histogram *h, uint8_t *out)
{
    double ratio = 1.0;
    uint64_t ratio_bits;
    uint8_t *counts_end = put_counts(out + HDR_HEADER_BYTES, h);
    uint8_t *p = out;

    memcpy(&ratio_bits, &ratio, sizeof ratio_bits);
    p = put_be(p, HDR_COOKIE, 4);
    p = put_be(p, (uint64_t)(counts_end - out - HDR_HEADER_BYTES), 4);
    p = put_be(p, 0, 4); /* normalising index offset */
    p = put_be(p, HDR_SIGNIFICANT_DIGITS, 4);
    p = put_be(p, 1, 8); /* lowest discernible value */
    p = put_be(p, INT64_MAX, 8);
    put_be(p, ratio_bits, 8);
    return (size_t)(counts_end - out);
}

static char *base64(const uint8_t *in, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((n + 2) / 3 * 4 + 1), *p = out;

    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16;
        if (i + 1 < n)
            v |= (uint32_t)in[i + 1] << 8;
        if (i + 2 < n)
            v |= in[i + 2];
        *p++ = digit[v >> 18];
        *p++ = digit[v >> 12 & 63];
        *p++ = i + 1 < n ? digit[v >> 6 & 63] : '=';
        *p++ = i + 2 < n ? digit[v & 63] : '=';
    }
    *p = 0;
    return out;
}

static char *encode(const struct sl_histogram *h)
{
    size_t plain_cap = HDR_HEADER_BYTES + (size_t)SL_HIST_BUCKETS * LEB128_MAX_BYTES;
    uLongf deflated = compressBound(plain_cap);
    uint8_t *plain = malloc(plain_cap), *packed = malloc(8 + deflated);
    char *text = NULL;

    if (plain && packed) {
        size_t n = encode_plain(h, plain);
        if (compress(packed + 8, &deflated, plain, n) == Z_OK) {
            put_be(put_be(packed, HDR_COOKIE_DEFLATED, 4), deflated, 4);
            text = base64(packed, 8 + deflated);
        }
    }
    free(plain);
    free(packed);
    return text;
}

int sl_histogram_log(
    const struct sl_histogram *h, FILE *f, const char *tag, double start_s, double length_s, int first)
{
    char *text = encode(h);

    if (!text)
        return -ENOMEM;
    if (first)
        fprintf(f,
            "#[Histogram log format version 1.3]\n#[StartTime: %.3f (seconds since epoch)]\n"
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
            start_s);
    /* Interval_Max in milliseconds of a nanosecond histogram, as HdrHistogram's own writer does. */
    fprintf(f, "Tag=%s,0.000,%.3f,%.3f,%s\n", tag, length_s, (double)h->max / 1e6, text);
    free(text);
    return ferror(f) ? -EIO : 0;
}
