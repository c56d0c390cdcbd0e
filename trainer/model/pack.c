/* The memory of a model's weights: what is loaded, packed and given back. */
#include "trainer/model/fail.h"
#include "trainer/model/model_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Columns of a tile of the head's logits. A tile's part of the matrix (d_model 768: 3 MiB in bf16) and a tile
 * of logits stay in the second level cache between the two products of the loss. */
enum { HEAD_TILE = 2048 };

void sl_slot_targets(enum sl_family family, enum slot slot, enum sl_target *first, enum sl_target *last)
{
    static const enum sl_target llama[SLOT_COUNT][2] = {{SL_Q_PROJ, SL_V_PROJ}, {SL_O_PROJ, SL_O_PROJ},
        {SL_GATE_PROJ, SL_UP_PROJ}, {SL_DOWN_PROJ, SL_DOWN_PROJ}};
    static const enum sl_target gpt2[SLOT_COUNT] = {SL_C_ATTN, SL_ATTN_C_PROJ, SL_C_FC, SL_MLP_C_PROJ};
    *first = family == SL_FAMILY_LLAMA ? llama[slot][0] : gpt2[slot];
    *last = family == SL_FAMILY_LLAMA ? llama[slot][1] : gpt2[slot];
}

bool sl_model_needs(const struct sl_model *m, const struct sl_param *p, uint32_t first, uint32_t last)
{
    bool top = last >= m->config.n_layers;
    if (p == m->embed && first == 0)
        return true;
    if (p == m->head || p == m->norm_w || p == m->norm_b)
        return top;
    if (p == m->embed || p == m->positions)
        return first == 0;
    for (uint32_t l = first; l < last && l < m->config.n_layers; l++) {
        const struct sl_block_params *b = &m->blocks[l];
        if (p == b->norm1_w || p == b->norm1_b || p == b->norm2_w || p == b->norm2_b)
            return true;
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++)
            if (p == b->w[t] || p == b->bias[t])
                return true;
    }
    return false;
}

void sl_model_keep(struct sl_model *m, uint32_t first, uint32_t last)
{
    for (uint32_t i = 0; i < m->n_params; i++)
        if (!sl_model_needs(m, &m->params[i], first, last))
            sl_model_release(m, &m->params[i], 1);
}

void sl_model_release(struct sl_model *m, struct sl_param *p, uint32_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p->data;
    uintptr_t to = (uintptr_t)(p[n - 1].data + p[n - 1].n);
    if (!from)
        return;
    from = (from + page - 1) / page * page; /* a page shared with a neighbour stays */
    to = to / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
    for (uint32_t i = 0; i < n; i++) {
        m->n_released += p[i].n;
        p[i].data = NULL;
    }
}

/* A neighbouring run of parameters as one matrix. */
static int pack(struct sl_model *m, struct sl_param *p, uint32_t n, bool out_in, bool keep, uint32_t tile,
    bool backward, struct sl_packed **out)
{
    struct sl_packed_config c = {.w = p->data,
        .in = p->dims[out_in ? 1 : 0],
        .out_in = out_in,
        .precision = m->precision,
        .backward = backward,
        .tile = tile,
        .stream = !tile || keep};
    if (!p->data) /* not loaded */
        return 0;
    for (uint32_t i = 0; i < n; i++)
        c.out += p[i].dims[out_in ? 0 : 1];
    int err = sl_packed_create(&c, out);
    if (!err && !keep && sl_packed_source_free(*out))
        sl_model_release(m, p, n);
    return err;
}

int sl_model_pack(struct sl_model *m, enum sl_precision precision, bool backward)
{
    bool llama = m->config.family == SL_FAMILY_LLAMA;
    int err = 0;
    if (m->packed || m->grads)
        return -EINVAL;
    if (!sl_precision_supported(precision))
        return -ENOTSUP;
    m->packed = true;
    m->precision = precision;
    for (uint32_t l = 0; l < m->config.n_layers; l++)
        for (unsigned s = 0; s < SLOT_COUNT && !err; s++) {
            struct sl_block_params *b = &m->blocks[l];
            enum sl_target first, last;
            sl_slot_targets(m->config.family, s, &first, &last);
            err = pack(m, b->w[first], last - first + 1, llama, false, 0, backward, &b->packed[s]);
        }
    /* Where the model begins with its embedding, a tied head's matrix is still looked up by token. */
    bool looked_up = m->head == m->embed && m->blocks[0].norm1_w->data;
    if (!err)
        err = pack(m, m->head, 1, true, looked_up, HEAD_TILE, backward, &m->packed_head);
    return err;
}

void sl_model_unpack(struct sl_model *m)
{
    for (uint32_t l = 0; m->blocks && l < m->config.n_layers; l++)
        for (unsigned s = 0; s < SLOT_COUNT; s++)
            sl_packed_free(m->blocks[l].packed[s]);
    sl_packed_free(m->packed_head);
}

enum sl_precision sl_model_precision(const struct sl_model *m)
{
    return m->precision;
}

const char *sl_precision_name(enum sl_precision p)
{
    return p == SL_PRECISION_BF16 ? "bf16" : "f32";
}

const char *sl_precision_told(enum sl_precision wanted, enum sl_precision got)
{
    if (wanted == got)
        return sl_precision_name(got);
    return "f32 (bf16 was asked for, but this CPU has no AVX-512 BF16 or AMX instructions)";
}

int sl_model_load_packed(const char *dir, uint32_t first, uint32_t last, enum sl_precision wanted,
    struct sl_model **out, char *err, size_t err_cap)
{
    int code = sl_model_load_blocks(dir, first, last, out, err, err_cap);
    if (code)
        return code;
    code = sl_model_pack(*out, sl_precision_supported(wanted) ? wanted : SL_PRECISION_F32, true);
    if (!code)
        return 0;
    sl_model_free(*out);
    *out = NULL;
    return sl_fail(code, err, err_cap, "%s: cannot pack the weights: %s", dir, strerror(-code));
}

size_t sl_model_bytes(const struct sl_model *m)
{
    size_t bytes = (m->n_floats - m->n_released) * sizeof(float);
    for (uint32_t l = 0; l < m->config.n_layers; l++)
        for (unsigned s = 0; s < SLOT_COUNT; s++)
            if (m->blocks[l].packed[s])
                bytes += sl_packed_bytes(m->blocks[l].packed[s]);
    return bytes + (m->packed_head ? sl_packed_bytes(m->packed_head) : 0);
}
