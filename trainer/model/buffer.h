/* A byte buffer that grows. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct sl_buffer {
    char *p;
    size_t len, cap;
};

/* Room for `more` bytes behind len. -ENOMEM leaves the buffer as it was. */
static inline int sl_buffer_reserve(struct sl_buffer *b, size_t more)
{
    if (b->cap - b->len >= more)
        return 0;
    if (more > SIZE_MAX / 2 - b->len)
        return -ENOMEM;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < more)
        cap *= 2;
    char *p = realloc(b->p, cap);
    if (!p)
        return -ENOMEM;
    b->p = p;
    b->cap = cap;
    return 0;
}

static inline int sl_buffer_add(struct sl_buffer *b, const void *p, size_t n)
{
    int err = sl_buffer_reserve(b, n);
    if (!err && n) {
        memcpy(b->p + b->len, p, n);
        b->len += n;
    }
    return err;
}

static inline void sl_buffer_free(struct sl_buffer *b)
{
    free(b->p);
    *b = (struct sl_buffer){0};
}
