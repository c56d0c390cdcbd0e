/* Which places of a file of records are taken. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_places {
    uint32_t n;       /* the file has been given so many */
    uint32_t *unused; /* of those, as a stack */
    uint32_t n_unused, cap;
};

void sl_places_free(struct sl_places *);
/* A free place, the file growing by one where there is none. -ENOMEM. */
int sl_places_take(struct sl_places *, uint32_t *place);
void sl_places_give(struct sl_places *, uint32_t place);
/* Takes that very one, as a checkpoint says. -EEXIST: it is taken; -ENOMEM. */
int sl_places_claim(struct sl_places *, uint32_t place);
