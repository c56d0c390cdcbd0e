/* Hand-off of 32-bit handles between two threads: the one wrapper over rte_ring (single producer, single
 * consumer; own memory; no EAL needed). Ownership of what a handle names passes with it. Release on enqueue,
 * acquire on dequeue. */
#pragma once

#include <stdint.h>

struct sl_ring_spsc;

/* capacity: a power of two; holds capacity - 1 handles. NULL: out of memory or not a power of two. */
struct sl_ring_spsc *sl_ring_spsc_create(uint32_t capacity);
void sl_ring_spsc_free(struct sl_ring_spsc *);
unsigned sl_ring_spsc_push(
    struct sl_ring_spsc *, const uint32_t *handles, unsigned n); /* producer only; how many went in */
unsigned sl_ring_spsc_pop(
    struct sl_ring_spsc *, uint32_t *handles, unsigned n); /* consumer only; how many came out */
unsigned sl_ring_spsc_count(const struct sl_ring_spsc *);
