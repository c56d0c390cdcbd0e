#include "trainer/pipeline/places.h"

#include <errno.h>
#include <stdlib.h>

void sl_places_free(struct sl_places *p)
{
    free(p->unused);
    *p = (struct sl_places){0};
}

/* Room for every place on the stack, so that giving one back never fails. */
static int grow(struct sl_places *p, uint32_t n)
{
    if (n > p->cap) {
        uint32_t cap = n + n / 2 + 64;
        uint32_t *unused = realloc(p->unused, cap * sizeof *unused);
        if (!unused)
            return -ENOMEM;
        p->unused = unused;
        p->cap = cap;
    }
    p->n = n;
    return 0;
}

int sl_places_take(struct sl_places *p, uint32_t *place)
{
    if (p->n_unused == 0) {
        int status = grow(p, p->n + 1);
        if (status)
            return status;
        *place = p->n - 1;
        return 0;
    }
    *place = p->unused[--p->n_unused];
    return 0;
}

void sl_places_give(struct sl_places *p, uint32_t place)
{
    p->unused[p->n_unused++] = place;
}

int sl_places_claim(struct sl_places *p, uint32_t place)
{
    uint32_t before = p->n;
    if (place >= before) {
        int status = grow(p, place + 1);
        if (status)
            return status;
        for (uint32_t i = before; i < place; i++)
            p->unused[p->n_unused++] = i;
        return 0;
    }
    for (uint32_t i = 0; i < p->n_unused; i++) {
        if (p->unused[i] != place)
            continue;
        p->unused[i] = p->unused[--p->n_unused];
        return 0;
    }
    return -EEXIST;
}
