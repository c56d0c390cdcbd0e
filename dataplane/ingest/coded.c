/* Fragments whose units are not what the slot holds: opened into a scratch of the lcore's, decoded into the
 * slot once their tag is known to be right. One touch more than a fragment that is opened in place; two,
 * where it was compressed. */
#include "dataplane/ingest/ingest_internal.h"
#include "dataplane/wire/int8.h"
#include "dataplane/wire/lz4_block.h"

#include <string.h>

enum { BF16_BYTES = 2 };

/* Units [unit0, unit0 + n), which lie at `from`, to their place: elements decoded, target ids as they are. */
static void decode(
    const struct sl_ingest *in, struct sl_slot_entry *e, uint32_t unit0, uint32_t n, const uint8_t *from)
{
    const struct sl_grid *g = &e->slot.grid;
    if (unit0 < g->tensor_units) {
        const uint32_t units = n < g->tensor_units - unit0 ? n : g->tensor_units - unit0;
        const uint64_t first = (uint64_t)unit0 * SL_INT8_PER_UNIT;
        const uint64_t left = (uint64_t)g->rows * in->config.d_model - first;
        const uint64_t here = (uint64_t)units * SL_INT8_PER_UNIT;
        uint8_t *to = e->data + first * BF16_BYTES;
        sl_int8_decode_bf16(from, (uint16_t *)(void *)to, here < left ? here : left);
        unit0 += units;
        n -= units;
        from += (size_t)units * SL_UNIT_BYTES;
    }
    if (n != 0)
        memcpy(e->data + (size_t)(g->stored_units + unit0 - g->tensor_units) * SL_UNIT_BYTES, from,
            (size_t)n * SL_UNIT_BYTES);
}

bool sl_ingest_take_coded(
    struct sl_ingest *in, struct sl_slot_entry *e, const struct sl_rx *rx, bool overlaps)
{
    const uint8_t *units = rx->dst;
    if (rx->coded != 0) {
        if (!sl_lz4_expand(rx->dst, rx->coded, in->expanded, rx->n_units))
            return false;
        units = in->expanded;
    }
    if (!overlaps) {
        decode(in, e, rx->unit0, rx->n_units, units);
        return true;
    }
    for (uint32_t u = 0; u < rx->n_units; u++) /* rules T5: only what is missing */
        if (!sl_slot_has(e, rx->unit0 + u))
            decode(in, e, rx->unit0 + u, 1, units + (size_t)u * SL_UNIT_BYTES);
    return true;
}
