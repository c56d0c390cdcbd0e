/* What a phone keeps of the last aggregation boundaries (rules T12). A snapshot has the cut of its time. */
#include "device-sim/device/front_internal.h"

#include <stdlib.h>
#include <string.h>

static void clear(struct snapshot *s)
{
    free(s->adapter);
    free(s->m);
    free(s->v);
    free(s->t);
    *s = (struct snapshot){0};
}

void sl_front_free_snapshots(struct sl_front *f)
{
    for (int i = 0; i < SL_FRONT_SNAPSHOTS; i++)
        clear(&f->snapshot[i]);
}

/* Memory for the present cut; it stays for the snapshots that come later in this place. */
static bool make_room(const struct sl_front *f, struct snapshot *s)
{
    size_t n = f->block_floats * f->cfg.cut;

    if ((s->adapter || f->cfg.common) && s->cut == f->cfg.cut)
        return true;
    clear(s);
    s->cut = f->cfg.cut;
    if (f->cfg.common)
        return true;
    s->adapter = malloc(n * sizeof(float));
    s->t = calloc(f->cfg.cut, sizeof(uint64_t));
    if (f->moments[0].m) {
        s->m = malloc(n * sizeof(float));
        s->v = malloc(n * sizeof(float));
    }
    if (s->adapter && s->t && (!f->moments[0].m || (s->m && s->v)))
        return true;
    clear(s);
    return false;
}

static struct snapshot *slot_for(struct sl_front *f, uint64_t version)
{
    struct snapshot *oldest = &f->snapshot[0];

    for (int i = 0; i < SL_FRONT_SNAPSHOTS; i++) {
        struct snapshot *s = &f->snapshot[i];
        if (!s->used || s->mark.version == version)
            return s;
        if (s->mark.version < oldest->mark.version)
            oldest = s;
    }
    return oldest;
}

void sl_front_snapshot(struct sl_front *f, const struct sl_front_mark *mark)
{
    struct snapshot *s = slot_for(f, mark->version);
    size_t n = f->block_floats;

    s->used = make_room(f, s);
    if (!s->used)
        return; /* rolling back to it will take G with fresh moments */
    s->mark = *mark;
    if (f->cfg.common)
        return;
    sl_front_get(f, s->adapter);
    for (uint32_t l = 0; l < f->cfg.cut; l++) {
        s->t[l] = f->moments[l].t;
        if (s->m) {
            memcpy(s->m + l * n, f->moments[l].m, n * sizeof(float));
            memcpy(s->v + l * n, f->moments[l].v, n * sizeof(float));
        }
    }
}

/* What came after a boundary that we went back to never happened. */
static void forget_newer(struct sl_front *f, uint64_t version)
{
    for (int i = 0; i < SL_FRONT_SNAPSHOTS; i++) {
        if (f->snapshot[i].mark.version > version)
            f->snapshot[i].used = false;
    }
}

bool sl_front_restore(struct sl_front *f, uint64_t version, struct sl_front_mark *mark)
{
    size_t n = f->block_floats;

    for (int i = 0; i < SL_FRONT_SNAPSHOTS; i++) {
        struct snapshot *s = &f->snapshot[i];
        if (!s->used || s->mark.version != version || s->cut != f->cfg.cut)
            continue;
        if (!f->cfg.common)
            sl_front_set(f, s->adapter);
        for (uint32_t l = 0; !f->cfg.common && l < f->cfg.cut; l++) {
            f->moments[l].t = s->t[l];
            if (s->m) {
                memcpy(f->moments[l].m, s->m + l * n, n * sizeof(float));
                memcpy(f->moments[l].v, s->v + l * n, n * sizeof(float));
            }
        }
        *mark = s->mark;
        forget_newer(f, version);
        return true;
    }
    return false;
}

bool sl_front_restore_last(struct sl_front *f, struct sl_front_mark *mark)
{
    const struct snapshot *last = NULL;

    for (int i = 0; i < SL_FRONT_SNAPSHOTS; i++) {
        const struct snapshot *s = &f->snapshot[i];
        if (s->used && s->cut == f->cfg.cut && (!last || s->mark.version > last->mark.version))
            last = s;
    }
    return last && sl_front_restore(f, last->mark.version, mark);
}
