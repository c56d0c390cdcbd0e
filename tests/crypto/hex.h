/* Test vectors as they are printed in the standards. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

static inline size_t unhex(const char *text, uint8_t *out)
{
    size_t n = 0;
    unsigned byte;

    for (; sscanf(text, "%2x", &byte) == 1; text += 2)
        out[n++] = (uint8_t)byte;
    return n;
}
