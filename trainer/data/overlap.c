#include "trainer/data/overlap.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/* A set of run hashes: open addressing, 0 is an empty place, at most half full. */
struct sl_overlap {
    uint64_t *slots;
    size_t mask, used;
};

/* The last words of a text, as hashes. */
struct run {
    uint64_t word[SL_OVERLAP_WORDS];
    size_t words;
};

static bool in_word(char c)
{
    return isalnum((unsigned char)c) || (uint8_t)c >= 0x80 || c == '\'';
}

/* splitmix64's finaliser (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/* Reads on to the end of the next word; false: there is none. */
static bool next_word(const char **text, const char *end, struct run *run)
{
    const char *p = *text;
    while (p < end && !in_word(*p))
        p++;
    if (p == end)
        return false;
    uint64_t h = 0;
    for (; p < end && in_word(*p); p++)
        h = mix(h ^ (uint8_t)tolower((unsigned char)*p)) + 1;
    run->word[run->words++ % SL_OVERLAP_WORDS] = h;
    *text = p;
    return true;
}

/* Hash of the last ten words, 0 while there are fewer. */
static uint64_t run_hash(const struct run *run)
{
    if (run->words < SL_OVERLAP_WORDS)
        return 0;
    uint64_t h = 0;
    for (size_t i = 0; i < SL_OVERLAP_WORDS; i++)
        h = mix(h + run->word[(run->words + i) % SL_OVERLAP_WORDS]);
    return h ? h : 1;
}

static size_t find(const struct sl_overlap *o, uint64_t h)
{
    size_t i = h & o->mask;
    while (o->slots[i] && o->slots[i] != h)
        i = (i + 1) & o->mask;
    return i;
}

static int make_room(struct sl_overlap *o)
{
    if (2 * o->used <= o->mask)
        return 0;
    struct sl_overlap bigger = {.mask = 2 * o->mask + 1, .used = o->used};
    bigger.slots = calloc(bigger.mask + 1, sizeof *bigger.slots);
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i <= o->mask; i++) {
        if (o->slots[i])
            bigger.slots[find(&bigger, o->slots[i])] = o->slots[i];
    }
    free(o->slots);
    *o = bigger;
    return 0;
}

int sl_overlap_create(struct sl_overlap **out)
{
    enum { FIRST_SLOTS = 1 << 16 };
    struct sl_overlap *o = malloc(sizeof *o);
    if (!o)
        return -ENOMEM;
    *o = (struct sl_overlap){.slots = calloc(FIRST_SLOTS, sizeof *o->slots), .mask = FIRST_SLOTS - 1};
    if (!o->slots) {
        free(o);
        return -ENOMEM;
    }
    *out = o;
    return 0;
}

int sl_overlap_add(struct sl_overlap *o, const char *text, size_t len)
{
    struct run run = {0};
    for (const char *end = text + len; next_word(&text, end, &run);) {
        uint64_t h = run_hash(&run);
        if (!h)
            continue;
        int rc = make_room(o);
        if (rc)
            return rc;
        size_t at = find(o, h);
        o->used += o->slots[at] == 0;
        o->slots[at] = h;
    }
    return 0;
}

bool sl_overlap_shares(const struct sl_overlap *o, const char *text, size_t len)
{
    struct run run = {0};
    for (const char *end = text + len; next_word(&text, end, &run);) {
        uint64_t h = run_hash(&run);
        if (h && o->slots[find(o, h)])
            return true;
    }
    return false;
}

void sl_overlap_free(struct sl_overlap *o)
{
    if (!o)
        return;
    free(o->slots);
    free(o);
}
