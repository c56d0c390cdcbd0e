/* One device's adapter as a record of a file (rules L2: optimiser state per adapter): little-endian, two
 * parts that begin at multiples of SL_ADAPTER_RECORD_ALIGN.
 *
 *   edge part   header | blocks [first, L) | m | v     what the trainer works on; goes to disk and comes back
 *   front part  header | blocks [0, cut)               what the device pushed at its last boundary
 *
 * Each part has a sum of its own over everything after it: a torn or overwritten record is found out, not
 * trained on. docs/architecture.md draws the bytes. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/optim.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_ADAPTER_RECORD_ALIGN = 4096, SL_ADAPTER_RECORD_ID_BYTES = 65 };

struct sl_adapter_record_shape {
    uint32_t n_layers, first,
        max_cut;  /* the edge's blocks are [first, n_layers); no device's cut is higher */
    size_t block; /* trainable floats of one */
    bool moments; /* AdamW's */
};

/* Of which device, and which of its boundaries. */
struct sl_adapter_record_head {
    char id[SL_ADAPTER_RECORD_ID_BYTES];
    uint64_t version, step; /* step: newest one of its that the weights contain */
    uint32_t cut;           /* blocks of the front part */
};

size_t sl_adapter_record_edge_bytes(const struct sl_adapter_record_shape *);
size_t sl_adapter_record_front_bytes(const struct sl_adapter_record_shape *);
size_t sl_adapter_record_bytes(const struct sl_adapter_record_shape *); /* both */

/* `adapter` covers [first, L); moments[l - first]. `out`: the part's bytes. */
void sl_adapter_record_encode(const struct sl_adapter_record_shape *, const struct sl_adapter_record_head *,
    struct sl_adapter *, const struct sl_moments *, uint8_t *out);
/* front: [head.cut, block]. */
void sl_adapter_record_encode_front(const struct sl_adapter_record_shape *,
    const struct sl_adapter_record_head *, const float *front, uint8_t *out);

/* Puts a part's sum in its place: encoding does it; for tests that change a part. */
void sl_adapter_record_sign(uint8_t *part, size_t bytes);

/* Checks and reads a part of that device's record. -EINVAL with err: damaged, another device's, of another
 * shape or not finite; the adapter may have been written to then. `head` may be NULL. */
int sl_adapter_record_decode(const struct sl_adapter_record_shape *, const char *id, const uint8_t *bytes,
    struct sl_adapter *, struct sl_moments *, struct sl_adapter_record_head *, char *err, size_t err_cap);
/* front: [max_cut, block]. */
int sl_adapter_record_decode_front(const struct sl_adapter_record_shape *, const char *id,
    const uint8_t *bytes, float *front, struct sl_adapter_record_head *, char *err, size_t err_cap);
