#include "dataplane/transport/outbox.h"

#include <errno.h>
#include <string.h>

_Static_assert(SL_OUTBOX_SLOTS == 32, "the masks are words of 32 bits");

static uint32_t rotate_down(uint32_t x, uint32_t by)
{
    return x >> (by & 31) | x << (-by & 31);
}

void sl_outbox_init(struct sl_outbox *o)
{
    o->used = o->due = o->oldest = 0;
}

int sl_outbox_add(struct sl_outbox *o, const struct sl_frame *f)
{
    if (f->type < SL_FRAME_REQUEST || f->type > SL_FRAME_STEP_LOST)
        return -EINVAL;
    if (o->used == UINT32_MAX)
        return -ENOBUFS;
    uint32_t i = (o->oldest + (uint32_t)__builtin_ctz(~rotate_down(o->used, o->oldest))) % SL_OUTBOX_SLOTS;
    size_t len = sl_frame_encode(f, o->slot[i].bytes, SL_OUTBOX_BYTES);
    if (len == 0)
        return -EINVAL;
    o->slot[i].len = (uint8_t)len;
    o->slot[i].first_pn = UINT64_MAX;
    o->used |= UINT32_C(1) << i;
    o->due |= UINT32_C(1) << i;
    o->oldest = (i + 1) % SL_OUTBOX_SLOTS;
    return 0;
}

size_t sl_outbox_take(struct sl_outbox *o, uint64_t pn, uint8_t *out, size_t cap, uint32_t *slots)
{
    size_t len = 0;
    uint32_t left = rotate_down(o->due, o->oldest);
    *slots = 0;
    for (; left != 0; left &= left - 1) {
        uint32_t i = (o->oldest + (uint32_t)__builtin_ctz(left)) % SL_OUTBOX_SLOTS;
        if (len + o->slot[i].len > cap)
            break;
        memcpy(out + len, o->slot[i].bytes, o->slot[i].len);
        len += o->slot[i].len;
        if (o->slot[i].first_pn == UINT64_MAX)
            o->slot[i].first_pn = pn;
        o->slot[i].last_pn = pn;
        *slots |= UINT32_C(1) << i;
    }
    o->due &= ~*slots;
    return len;
}

/* Those of `slots` whose present frame packet `pn` carried. */
static uint32_t still_of(const struct sl_outbox *o, uint64_t pn, uint32_t slots)
{
    uint32_t of = 0;
    for (slots &= o->used; slots != 0; slots &= slots - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(slots);
        if (o->slot[i].first_pn <= pn)
            of |= UINT32_C(1) << i;
    }
    return of;
}

void sl_outbox_acked(struct sl_outbox *o, uint64_t pn, uint32_t slots)
{
    slots = still_of(o, pn, slots);
    o->used &= ~slots;
    o->due &= ~slots;
}

void sl_outbox_lost(struct sl_outbox *o, uint64_t pn, uint32_t slots)
{
    for (slots = still_of(o, pn, slots); slots != 0; slots &= slots - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(slots);
        if (o->slot[i].last_pn == pn) /* else a later copy is under way */
            o->due |= UINT32_C(1) << i;
    }
}

bool sl_outbox_repeat(struct sl_outbox *o, uint64_t pn, uint32_t slots)
{
    slots = still_of(o, pn, slots);
    o->due |= slots;
    return slots != 0;
}
