/* Records of personal adapters. The sums are put right first: without that no mutation would get past them.
 */
#include "trainer/pipeline/adapter_record.h"

#include <stdlib.h>
#include <string.h>

static const struct sl_model_config model = {.family = SL_FAMILY_LLAMA,
    .n_layers = 3,
    .d_model = 8,
    .n_heads = 2,
    .n_kv_heads = 1,
    .head_dim = 4,
    .d_ff = 8,
    .vocab = 16,
    .max_positions = 8};
static const struct sl_lora_config lora = {.rank = 1, .alpha = 1, .targets = 1u << SL_Q_PROJ};
static const struct sl_optim_config optim = {.kind = SL_ADAMW};
enum { FIRST = 1, BLOCKS = 2, MAX_CUT = 2 };
static const char id[] = "device-00001";

static struct sl_adapter_record_shape shape_of_it(void)
{
    return (struct sl_adapter_record_shape){.n_layers = model.n_layers,
        .first = FIRST,
        .max_cut = MAX_CUT,
        .block = sl_adapter_block_size(&model, &lora),
        .moments = true};
}

struct memory {
    struct sl_adapter *adapter;
    struct sl_moments moments[BLOCKS];
    float front[MAX_CUT * 64];
};

static bool make(struct memory *m)
{
    memset(m, 0, sizeof *m);
    if (sl_adapter_create(&model, &lora, FIRST, model.n_layers, &m->adapter))
        return false;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (sl_moments_create(&optim, sl_adapter_block_size(&model, &lora), &m->moments[i]))
            return false;
    return true;
}

static void unmake(struct memory *m)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        sl_moments_free(&m->moments[i]);
    sl_adapter_free(m->adapter);
}

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    struct sl_adapter_record_shape s = shape_of_it();
    struct sl_adapter_record_head head = {.version = 3, .step = 9, .cut = index ? 1 : MAX_CUT};
    struct memory m;
    size_t all = sl_adapter_record_bytes(&s);
    if (index > 1 || all > cap || !make(&m))
        return 0;
    memcpy(head.id, id, sizeof id);
    m.moments[1].t = 7;
    sl_adapter_record_encode(&s, &head, m.adapter, m.moments, buf);
    sl_adapter_record_encode_front(&s, &head, m.front, buf + sl_adapter_record_edge_bytes(&s));
    unmake(&m);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_adapter_record_shape s = shape_of_it();
    struct sl_adapter_record_head head;
    struct memory m;
    char err[256];
    size_t edge = sl_adapter_record_edge_bytes(&s), all = sl_adapter_record_bytes(&s);
    uint8_t *bytes = calloc(2, all), *again = bytes + all;
    if (!bytes || !make(&m)) {
        free(bytes);
        return 0;
    }
    memcpy(bytes, data, size < all ? size : all);
    sl_adapter_record_sign(bytes, edge);
    sl_adapter_record_sign(bytes + edge, all - edge);
    /* What it takes, it understood: written again it says the same. */
    if (sl_adapter_record_decode(&s, id, bytes, m.adapter, m.moments, &head, err, sizeof err) == 0) {
        sl_adapter_record_encode(&s, &head, m.adapter, m.moments, again);
        struct sl_adapter_record_head same;
        if (sl_adapter_record_decode(&s, id, again, m.adapter, m.moments, &same, err, sizeof err) ||
            same.version != head.version || same.step != head.step || same.cut != head.cut)
            abort();
    }
    if (sl_adapter_record_decode_front(&s, id, bytes + edge, m.front, &head, err, sizeof err) == 0 &&
        head.cut > MAX_CUT)
        abort();
    unmake(&m);
    free(bytes);
    return 0;
}
