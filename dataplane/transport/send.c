#include "dataplane/transport/send.h"

#include <string.h>

static uint32_t words_of(uint32_t fragments)
{
    return (fragments + 63) / 64;
}

size_t sl_sends_bytes(uint32_t n, uint32_t max_fragments)
{
    return n * (sizeof(struct sl_send) + 2 * (size_t)words_of(max_fragments) * sizeof(uint64_t)) +
           n * sizeof(uint32_t);
}

void sl_sends_init(struct sl_sends *p, uint32_t n, uint32_t max_fragments, void *memory)
{
    p->n = n;
    p->words = words_of(max_fragments);
    p->sends = memory;
    uint64_t *bits = (uint64_t *)(void *)(p->sends + n);
    p->free = (uint32_t *)(void *)(bits + 2 * (size_t)n * p->words);
    for (uint32_t i = 0; i < n; i++, bits += 2 * (size_t)p->words) {
        p->sends[i].acked = bits;
        p->sends[i].lost = bits + p->words;
        p->free[n - 1 - i] = i;
    }
    p->n_free = n;
}

void sl_send_head_init(struct sl_send_head *h)
{
    for (int l = 0; l < SL_SEND_LISTS; l++)
        h->first[l] = h->last[l] = SL_SEND_NONE;
}

static void append(struct sl_sends *p, struct sl_send_head *h, uint32_t index, enum sl_send_list l)
{
    struct sl_send *s = &p->sends[index];
    s->link[l].next = SL_SEND_NONE;
    s->link[l].prev = h->last[l];
    if (h->last[l] != SL_SEND_NONE)
        p->sends[h->last[l]].link[l].next = index;
    else
        h->first[l] = index;
    h->last[l] = index;
}

static void prepend(struct sl_sends *p, struct sl_send_head *h, uint32_t index, enum sl_send_list l)
{
    struct sl_send *s = &p->sends[index];
    s->link[l].prev = SL_SEND_NONE;
    s->link[l].next = h->first[l];
    if (h->first[l] != SL_SEND_NONE)
        p->sends[h->first[l]].link[l].prev = index;
    else
        h->last[l] = index;
    h->first[l] = index;
}

static void unlink_send(struct sl_sends *p, struct sl_send_head *h, uint32_t index, enum sl_send_list l)
{
    struct sl_send *s = &p->sends[index];
    if (s->link[l].prev != SL_SEND_NONE)
        p->sends[s->link[l].prev].link[l].next = s->link[l].next;
    else
        h->first[l] = s->link[l].next;
    if (s->link[l].next != SL_SEND_NONE)
        p->sends[s->link[l].next].link[l].prev = s->link[l].prev;
    else
        h->last[l] = s->link[l].prev;
}

/* A send that has run out of fragments leaves the due list. */
static void settle_due(struct sl_sends *p, struct sl_send_head *h, uint32_t index)
{
    struct sl_send *s = &p->sends[index];
    if (s->due && s->n_lost == 0 && s->next == s->n_fragments) {
        unlink_send(p, h, index, SL_SENDS_DUE);
        s->due = false;
    }
}

uint32_t sl_send_start(struct sl_sends *p, struct sl_send_head *h, uint32_t session, uint32_t grant,
    uint32_t n_units, uint16_t fragment_units)
{
    if (p->n_free == 0)
        return SL_SEND_NONE;
    uint32_t index = p->free[--p->n_free];
    struct sl_send *s = &p->sends[index];
    s->session = session;
    s->grant = grant;
    s->n_units = n_units;
    s->fragment_units = fragment_units;
    s->n_fragments = (uint32_t)(((uint64_t)n_units + fragment_units - 1) / fragment_units);
    s->next = s->n_acked = s->n_lost = 0;
    s->lost_word = words_of(s->n_fragments);
    s->live = s->due = true;
    memset(s->acked, 0, words_of(s->n_fragments) * sizeof(uint64_t));
    memset(s->lost, 0, words_of(s->n_fragments) * sizeof(uint64_t));
    append(p, h, index, SL_SENDS_ALL);
    append(p, h, index, SL_SENDS_DUE);
    return index;
}

void sl_send_end(struct sl_sends *p, struct sl_send_head *h, uint32_t index)
{
    struct sl_send *s = &p->sends[index];
    unlink_send(p, h, index, SL_SENDS_ALL);
    if (s->due)
        unlink_send(p, h, index, SL_SENDS_DUE);
    s->live = s->due = false;
    s->generation++;
    p->free[p->n_free++] = index;
}

uint32_t sl_send_find(const struct sl_sends *p, const struct sl_send_head *h, uint32_t grant)
{
    uint32_t i = h->first[SL_SENDS_ALL];
    while (i != SL_SEND_NONE && p->sends[i].grant != grant)
        i = p->sends[i].link[SL_SENDS_ALL].next;
    return i;
}

uint32_t sl_send_take(struct sl_sends *p, struct sl_send_head *h, uint32_t index, bool *again)
{
    struct sl_send *s = &p->sends[index];
    uint32_t fragment;
    *again = s->n_lost != 0;
    if (*again) {
        while (s->lost[s->lost_word] == 0)
            s->lost_word++;
        fragment = s->lost_word * 64 + (uint32_t)__builtin_ctzll(s->lost[s->lost_word]);
        s->lost[s->lost_word] &= s->lost[s->lost_word] - 1;
        s->n_lost--;
    } else {
        fragment = s->next++;
    }
    settle_due(p, h, index);
    return fragment;
}

void sl_send_mark_lost(struct sl_sends *p, struct sl_send_head *h, uint32_t index, uint32_t fragment)
{
    struct sl_send *s = &p->sends[index];
    uint32_t word = fragment >> 6;
    uint64_t bit = UINT64_C(1) << (fragment & 63);
    if ((s->acked[word] | s->lost[word]) & bit)
        return;
    s->lost[word] |= bit;
    s->n_lost++;
    if (word < s->lost_word)
        s->lost_word = word;
    if (!s->due) {
        prepend(p, h, index, SL_SENDS_DUE);
        s->due = true;
    }
}

bool sl_send_mark_acked(struct sl_sends *p, struct sl_send_head *h, uint32_t index, uint32_t fragment)
{
    struct sl_send *s = &p->sends[index];
    uint32_t word = fragment >> 6;
    uint64_t bit = UINT64_C(1) << (fragment & 63);
    if (s->acked[word] & bit)
        return false;
    s->acked[word] |= bit;
    s->n_acked++;
    if (s->lost[word] & bit) { /* given up too early */
        s->lost[word] &= ~bit;
        s->n_lost--;
        settle_due(p, h, index);
    }
    return s->n_acked == s->n_fragments;
}
