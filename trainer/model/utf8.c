/* UTF-8 after RFC 3629 and Unicode's table 3-7 of well-formed sequences. */
#include "trainer/model/utf8.h"

#include <stdlib.h>
#include <string.h>

unsigned sl_utf8_sequence(const char *text, size_t len, unsigned *bad)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned c = p[0], n, low = 0x80, high = 0xbf; /* range of the second byte */
    if (bad)
        *bad = 1;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (c == 0xe0)
        low = 0xa0; /* overlong */
    else if (c == 0xed)
        high = 0x9f; /* surrogates */
    else if (c == 0xf0)
        low = 0x90; /* overlong */
    else if (c == 0xf4)
        high = 0x8f; /* above U+10FFFF */
    for (unsigned i = 1; i < n; i++) {
        if (i >= len || p[i] < low || p[i] > high) {
            if (bad)
                *bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return n;
}

bool sl_utf8_valid(const char *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned n = sl_utf8_sequence(p + i, len - i, NULL);
        if (!n)
            return false;
        i += n;
    }
    return true;
}

uint32_t sl_utf8_decode(const char *text, unsigned n)
{
    const unsigned char *p = (const unsigned char *)text;
    switch (n) {
    case 1:
        return p[0];
    case 2:
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    case 3:
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    default:
        return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    }
}

unsigned sl_utf8_encode(uint32_t c, char *p)
{
    if (c < 0x80) {
        p[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (char)(0xc0 | c >> 6);
        p[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (char)(0xe0 | c >> 12);
        p[1] = (char)(0x80 | (c >> 6 & 0x3f));
        p[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    p[0] = (char)(0xf0 | c >> 18);
    p[1] = (char)(0x80 | (c >> 12 & 0x3f));
    p[2] = (char)(0x80 | (c >> 6 & 0x3f));
    p[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

char *sl_utf8_repair(const char *p, size_t len, size_t *out_len)
{
    static const char replacement[] = "\xef\xbf\xbd";
    if (len > (SIZE_MAX - 1) / 3) /* a byte becomes at most three */
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        unsigned bad, good = sl_utf8_sequence(p + i, len - i, &bad);
        n += good ? good : sizeof replacement - 1;
        i += good ? good : bad;
    }
    char *out = malloc(n + 1);
    if (!out)
        return NULL;
    size_t at = 0;
    for (size_t i = 0; i < len;) {
        unsigned bad, good = sl_utf8_sequence(p + i, len - i, &bad);
        memcpy(out + at, good ? p + i : replacement, good ? good : sizeof replacement - 1);
        at += good ? good : sizeof replacement - 1;
        i += good ? good : bad;
    }
    out[at] = 0;
    *out_len = at;
    return out;
}
