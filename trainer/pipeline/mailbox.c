#include "trainer/pipeline/mailbox.h"

#include "dataplane/ring/ring.h"

#include <stdlib.h>
#include <string.h>

struct sl_mailbox {
    struct sl_ring_spsc *posted, *unused;
    size_t entry_bytes;
    unsigned char *entries;
};

struct sl_mailbox *sl_mailbox_create(uint32_t entries, size_t entry_bytes)
{
    struct sl_mailbox *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->entry_bytes = entry_bytes;
    m->posted = sl_ring_spsc_create(entries);
    m->unused = sl_ring_spsc_create(entries);
    m->entries = calloc(entries, entry_bytes);
    if (!m->posted || !m->unused || !m->entries) {
        sl_mailbox_free(m);
        return NULL;
    }
    for (uint32_t i = 0; i + 1 < entries; i++)
        sl_ring_spsc_push(m->unused, &i, 1);
    return m;
}

void sl_mailbox_free(struct sl_mailbox *m)
{
    if (!m)
        return;
    if (m->posted)
        sl_ring_spsc_free(m->posted);
    if (m->unused)
        sl_ring_spsc_free(m->unused);
    free(m->entries);
    free(m);
}

static void *entry_at(struct sl_mailbox *m, uint32_t i)
{
    return m->entries + i * m->entry_bytes;
}

static uint32_t index_of(const struct sl_mailbox *m, const void *entry)
{
    return (uint32_t)((size_t)((const unsigned char *)entry - m->entries) / m->entry_bytes);
}

void *sl_mailbox_claim(struct sl_mailbox *m)
{
    uint32_t i;
    if (!sl_ring_spsc_pop(m->unused, &i, 1))
        return NULL;
    return memset(entry_at(m, i), 0, m->entry_bytes);
}

void sl_mailbox_post(struct sl_mailbox *m, void *entry)
{
    uint32_t i = index_of(m, entry);
    sl_ring_spsc_push(m->posted, &i, 1); /* never full: it holds as many as there are entries */
}

uint32_t sl_mailbox_room(const struct sl_mailbox *m)
{
    return sl_ring_spsc_count(m->unused);
}

void *sl_mailbox_take(struct sl_mailbox *m)
{
    uint32_t i;
    return sl_ring_spsc_pop(m->posted, &i, 1) ? entry_at(m, i) : NULL;
}

void sl_mailbox_release(struct sl_mailbox *m, void *entry)
{
    uint32_t i = index_of(m, entry);
    sl_ring_spsc_push(m->unused, &i, 1);
}
