/* UTF-8 (RFC 3629): validity, code points, and repair. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_UTF8_MAX = 4 }; /* bytes of the longest sequence */

/* Length of the well-formed sequence at p (1..4); 0: ill-formed, and `*bad` (if given) is the length of the
 * maximal subpart to replace by one U+FFFD (Unicode 15, section 3.9: what Python's errors="replace" does).
 * len > 0. */
unsigned sl_utf8_sequence(const char *p, size_t len, unsigned *bad);

bool sl_utf8_valid(const char *p, size_t len);

/* Code point of a well-formed sequence of n bytes. */
uint32_t sl_utf8_decode(const char *p, unsigned n);
/* Writes a code point; returns the bytes written (1..4). */
unsigned sl_utf8_encode(uint32_t code, char *p);

/* A copy with every ill-formed part replaced by U+FFFD, malloc'ed and NUL-terminated; NULL: no memory. */
char *sl_utf8_repair(const char *p, size_t len, size_t *out_len);
