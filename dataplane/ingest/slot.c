#include "dataplane/ingest/slot_table.h"

#include "dataplane/crypto/secure_memory.h"
#include "dataplane/wire/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Sanitizer builds poison what no message may touch. The AEAD's assembly is not instrumented, so that there
 * each slot also ends at an inaccessible page (rules T17). */
#if defined(__SANITIZE_ADDRESS__)
#define SL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SL_ASAN 1
#endif
#endif
#ifdef SL_ASAN
#include <sanitizer/asan_interface.h>
enum { GUARDED = 1 };
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
enum { GUARDED = 0 };
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum {
    INDEX_BITS = 16, /* of a handle; the generation has the others */
    INDEX_MASK = (1 << INDEX_BITS) - 1,
    UNITS_PER_WORD = 64,
    ALIGN = 64,
    GAP_BYTES = 64, /* keeps slots of 2^n bytes from sharing their cache sets */
};
#define SLOT_BYTES_MAX ((size_t)1 << 30)

struct sl_slots {
    uint32_t n, n_free;
    uint32_t *free; /* last in, first out: what was used last is in cache */
    struct sl_slot_entry *entries;
    uint8_t *arena;
    size_t slot_bytes, stride, arena_bytes, mapped_bytes, page;
};

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

static size_t words_of(size_t slot_bytes)
{
    return (slot_bytes / SL_UNIT_BYTES + UNITS_PER_WORD - 1) / UNITS_PER_WORD;
}

/* The pages that close a slot off, inaccessible or not. */
static void protect_guards(const struct sl_slots *s, int protection)
{
    if (!GUARDED)
        return;
    for (uint32_t i = 0; i < s->n; i++) /* huge pages cannot be split: there the poison has to do */
        mprotect(s->arena + (size_t)(i + 1) * s->stride - s->page, s->page, protection);
}

static void lay_out(struct sl_slots *s, uint8_t *tables)
{
    size_t words = words_of(s->slot_bytes);
    s->entries = (struct sl_slot_entry *)(void *)tables;
    struct sl_slot_bits *bits = (struct sl_slot_bits *)(void *)(s->entries + s->n);
    s->free = (uint32_t *)(void *)(bits + words * s->n);
    size_t before = GUARDED ? s->stride - s->page - s->slot_bytes : 0; /* the slot's end touches its guard */
    for (uint32_t i = 0; i < s->n; i++, bits += words) {
        struct sl_slot_entry *e = &s->entries[i];
        e->bits = bits;
        e->slot.handle = UINT32_C(1) << INDEX_BITS | i;
        e->data = e->slot.data = s->arena + i * s->stride + before;
        s->free[s->n - 1 - i] = i;
    }
    s->n_free = s->n;
}

int sl_slots_create(uint32_t n, size_t slot_bytes, struct sl_slots **out)
{
    if (n == 0 || n > INDEX_MASK || slot_bytes == 0 || slot_bytes > SLOT_BYTES_MAX)
        return -EINVAL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    slot_bytes = round_up(slot_bytes, SL_UNIT_BYTES);
    size_t head = round_up(sizeof(struct sl_slots), ALIGN);
    size_t tables = n * (sizeof(struct sl_slot_entry) + words_of(slot_bytes) * sizeof(struct sl_slot_bits) +
                            sizeof(uint32_t));
    size_t stride = GUARDED ? round_up(slot_bytes, page) + page : slot_bytes + GAP_BYTES;
    size_t before_arena = round_up(head + tables, page);
    size_t mapped = before_arena + n * stride;
    uint8_t *base = sl_secure_map(mapped);
    if (base == NULL)
        return -ENOMEM;
    struct sl_slots *s = (struct sl_slots *)(void *)base;
    *s = (struct sl_slots){.n = n,
        .arena = base + before_arena,
        .slot_bytes = slot_bytes,
        .stride = stride,
        .arena_bytes = n * stride,
        .mapped_bytes = mapped,
        .page = page};
    lay_out(s, base + head);
    protect_guards(s, PROT_NONE);
    POISON(s->arena, s->arena_bytes);
    *out = s;
    return 0;
}

void sl_slots_free(struct sl_slots *s)
{
    if (s == NULL)
        return;
    UNPOISON(s->arena, s->arena_bytes);
    protect_guards(s, PROT_READ | PROT_WRITE);
    sl_secure_unmap(s, s->mapped_bytes);
}

struct sl_slot_entry *sl_slots_entry(struct sl_slots *s, uint32_t handle)
{
    uint32_t index = handle & INDEX_MASK;
    if (index >= s->n || s->entries[index].slot.handle != handle ||
        s->entries[index].slot.state == SL_SLOT_FREE)
        return NULL;
    return &s->entries[index];
}

struct sl_slot_entry *sl_slots_entries(struct sl_slots *s)
{
    return s->entries;
}

struct sl_slot *sl_slot_get(struct sl_slots *s, uint32_t handle)
{
    struct sl_slot_entry *e = sl_slots_entry(s, handle);
    return e == NULL ? NULL : &e->slot;
}

uint32_t sl_slots_count(const struct sl_slots *s)
{
    return s->n;
}

size_t sl_slots_bytes(const struct sl_slots *s)
{
    return s->slot_bytes;
}

uint32_t sl_slots_free_count(const struct sl_slots *s)
{
    return s->n_free;
}

struct sl_slot_entry *sl_slots_take(struct sl_slots *s, uint32_t n_units)
{
    if (s->n_free == 0)
        return NULL;
    struct sl_slot_entry *e = &s->entries[s->free[--s->n_free]];
    memset(e->bits, 0, words_of((size_t)n_units * SL_UNIT_BYTES) * sizeof(*e->bits));
    e->n_units = e->missing = n_units;
    e->with_trainer = false;
    e->slot.state = SL_SLOT_GRANTED;
    e->slot.first_ns = e->slot.ready_ns = 0;
    memset(&e->slot.outcome, 0, sizeof(e->slot.outcome));
    UNPOISON(e->slot.data, (size_t)n_units * SL_UNIT_BYTES);
    return e;
}

void sl_slots_give(struct sl_slots *s, struct sl_slot_entry *e)
{
    uint32_t index = e->slot.handle & INDEX_MASK;
    uint32_t generation = (e->slot.handle >> INDEX_BITS) + 1;
    if (generation > INDEX_MASK)
        generation = 1; /* 0 stays unused, so that no handle is 0 */
    e->slot.state = SL_SLOT_FREE;
    e->slot.handle = generation << INDEX_BITS | index;
    POISON(e->slot.data, s->slot_bytes);
    s->free[s->n_free++] = index;
}
