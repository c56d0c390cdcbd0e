/* sluice-bench products: the trainer's matrix products, shape by shape: ours (packed, forward and backward),
 * OpenBLAS' on the same f32 operands, and LoRA's thin products beside them, for one adapter and for many. */
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/lora_gemm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, ROUNDS_MAX = 1000, LEAST_ROUNDS = 5, HEAD_TILE = 2048 };

static const char *shape = "gpt2-small", *precision = "bf16";
static const char *const shapes[] = {"gpt2-small", "tinyllama-1b", NULL}, *const precisions[] = {
                                                                              "f32", "bf16", NULL};
static uint64_t rows = 512, threads = 1, rank = 8, segments = 64;
static double seconds = 2;

static const struct bench_option options[] = {
    {"shape", BENCH_TEXT, &shape, "NAME", "whose matrices", 0, 0, shapes},
    {"precision", BENCH_TEXT, &precision, "P", "of the arithmetic", 0, 0, precisions},
    {"rows", BENCH_NUMBER, &rows, "M", "of the batch", 1, 65536, NULL},
    {"threads", BENCH_NUMBER, &threads, "N", "of a product", 1, 256, NULL},
    {"rank", BENCH_NUMBER, &rank, "R", "of LoRA", 1, SL_LORA_MAX_RANK, NULL},
    {"segments", BENCH_NUMBER, &segments, "S", "adapters that share the rows, beside one for all", 1, 4096,
        NULL},
    {"seconds", BENCH_REAL, &seconds, "S", "for each matrix", 0.01, 600, NULL},
    {0},
};

struct matrix {
    const char *name;
    uint32_t in, out;
};
static const struct matrix gpt2_small[] = {{"c_attn", 768, 2304}, {"c_proj", 768, 768}, {"c_fc", 768, 3072},
    {"mlp.c_proj", 3072, 768}, {"head", 768, 50257}, {0}};
static const struct matrix tinyllama[] = {{"q,k,v", 2048, 2560}, {"o", 2048, 2048}, {"gate,up", 2048, 11264},
    {"down", 5632, 2048}, {"head", 2048, 32000}, {0}};

/* What is timed, in turn, in each round. */
enum kind {
    FORWARD,
    BACKWARD,
    OPENBLAS,
    LORA_FORWARD,
    LORA_BACKWARD,
    MANY_FORWARD,
    MANY_BACKWARD,
    MANY_PACK,
    KINDS
};
static const char *const kind_names[KINDS] = {"forward", "backward", "openblas_f32", "lora_forward",
    "lora_backward", "lora_many_forward", "lora_many_backward", "lora_many_pack"};

struct bench {
    const struct matrix *m;
    enum sl_precision precision;
    struct sl_packed *packed;
    float *w, *xf, *u, *du, *a, *b, *grads;
    void *x, *y, *dx, *scratch, *factors;
    struct sl_lora_shape lora;
    struct sl_lora_segment one, *many;
    struct bench_sample ms[KINDS];
};

static void *memory(size_t bytes)
{
    void *p;
    if (posix_memalign(&p, ALIGN, bytes + ALIGN) != 0)
        return NULL;
    memset(p, 0, bytes + ALIGN);
    return p;
}

static float *values(size_t n, float scale)
{
    float *v = memory(n * sizeof *v);
    for (size_t i = 0; v && i < n; i++) /* cheap and never equal: products are not timed on zeros */
        v[i] = scale * ((float)((i * 2654435761u >> 8) % 1000) - 499.5f) / 500;
    return v;
}

static bool lora_fits(const struct matrix *m)
{
    return strcmp(m->name, "head") != 0;
}

static int make_lora(struct bench *b)
{
    uint32_t in = b->m->in, out = b->m->out, r = (uint32_t)rank;
    b->lora = (struct sl_lora_shape){
        .precision = b->precision, .in = in, .rank = r, .n = 1, .width = {out}, .scale = 2};
    size_t size = sl_lora_packed_size(&b->lora), grads = (size_t)r * (in + out);
    b->a = values((size_t)r * in, 1);
    b->b = values((size_t)r * out, 1);
    b->u = memory(rows * r * sizeof(float));
    b->du = memory(rows * r * sizeof(float));
    b->many = calloc(segments, sizeof *b->many);
    b->factors = memory((segments + 1) * size);
    b->grads = memory((segments + 1) * grads * sizeof(float));
    if (!b->a || !b->b || !b->u || !b->du || !b->many || !b->factors || !b->grads)
        return -ENOMEM;
    for (uint64_t i = 0; i <= segments; i++) {
        struct sl_lora_segment *s = i < segments ? &b->many[i] : &b->one;
        float *grad = b->grads + i * grads;
        uint64_t first = i < segments ? rows * i / segments : 0,
                 end = i < segments ? rows * (i + 1) / segments : rows;
        *s = (struct sl_lora_segment){.first = (uint32_t)first,
            .rows = (uint32_t)(end - first),
            .packed = (char *)b->factors + i * size,
            .grad_a = grad,
            .grad_b = {grad + (size_t)r * in}};
        sl_lora_pack(&b->lora, b->a, (const float *const[]){b->b}, (void *)s->packed);
    }
    return 0;
}

static int make(struct bench *b)
{
    uint32_t in = b->m->in, out = b->m->out;
    size_t size = sl_precision_size(b->precision), wide = in > out ? in : out;
    size_t room = (rows + SL_PACKED_ROWS - 1) / SL_PACKED_ROWS * SL_PACKED_ROWS;
    b->w = values((size_t)in * out, 0.02f);
    b->xf = values(room * in, 1);
    b->x = memory(room * wide * size);
    b->y = memory(room * wide * sizeof(float));
    b->dx = memory(room * in * sizeof(float));
    if (!b->w || !b->xf || !b->x || !b->y || !b->dx)
        return -ENOMEM;
    struct sl_packed_config config = {.w = b->w,
        .in = in,
        .out = out,
        .precision = b->precision,
        .backward = true,
        .tile = lora_fits(b->m) ? 0 : HEAD_TILE};
    int err = sl_packed_create(&config, &b->packed);
    if (err)
        return err;
    b->scratch = memory(sl_packed_scratch(b->packed, (uint32_t)rows));
    if (b->precision == SL_PRECISION_BF16) {
        sl_bf16_from_f32(b->xf, room * in, b->x);
        for (size_t i = room * in; i < room * wide; i++)
            ((sl_bf16 *)b->x)[i] = ((sl_bf16 *)b->x)[i % (room * in)];
    } else
        for (size_t i = 0; i < room * wide; i++)
            ((float *)b->x)[i] = b->xf[i % (room * in)];
    for (unsigned k = 0; k < KINDS && !err; k++)
        err = bench_sample_init(&b->ms[k], ROUNDS_MAX);
    if (!err && b->scratch && lora_fits(b->m))
        err = make_lora(b);
    return err ? err : b->scratch ? 0 : -ENOMEM;
}

static void unmake(struct bench *b)
{
    void *all[] = {
        b->w, b->xf, b->u, b->du, b->a, b->b, b->grads, b->x, b->y, b->dx, b->scratch, b->factors, b->many};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    for (unsigned k = 0; k < KINDS; k++)
        bench_sample_free(&b->ms[k]);
    sl_packed_free(b->packed);
}

static int products(struct bench *b, bool backward)
{
    uint32_t in = b->m->in, first, n;
    uint32_t room = (uint32_t)(rows + SL_PACKED_ROWS - 1) / SL_PACKED_ROWS * SL_PACKED_ROWS;
    int err = 0;
    for (uint32_t t = 0; t < sl_packed_tiles(b->packed) && !err; t++) {
        sl_packed_tile(b->packed, t, &first, &n);
        struct sl_product p = {.rows = (uint32_t)rows,
            .room = room,
            .x = b->x,
            .ld_x = backward ? n : in,
            .y = backward ? b->dx : b->y,
            .ld_y = backward ? in : n,
            .accumulate = backward && t > 0};
        err = backward ? sl_packed_backward_tile(b->packed, t, &p, b->scratch)
                       : sl_packed_forward_tile(b->packed, t, &p, b->scratch);
    }
    return err;
}

static void lora(struct bench *b, const struct sl_lora_segment *s, uint32_t n, bool backward)
{
    uint32_t in = b->m->in, out = b->m->out;
    if (backward) /* x serves as dy too */
        sl_lora_backward(&b->lora, s, n, b->x, in, b->u, b->x, out, b->du, b->dx, in, SL_PRECISION_F32);
    else
        sl_lora_forward(&b->lora, s, n, b->x, in, b->u, b->y, out, SL_PRECISION_F32);
}

static int once(struct bench *b, enum kind kind)
{
    uint32_t n = (uint32_t)segments;
    switch (kind) {
    case FORWARD:
    case BACKWARD:
        return products(b, kind == BACKWARD);
    case OPENBLAS:
        sl_gemm(false, (uint32_t)rows, b->m->out, b->m->in, 1, b->xf, b->m->in, b->w, b->m->out, 0, b->y,
            b->m->out);
        break;
    case LORA_FORWARD:
    case LORA_BACKWARD:
        lora(b, &b->one, 1, kind == LORA_BACKWARD);
        break;
    case MANY_FORWARD:
    case MANY_BACKWARD:
        lora(b, b->many, n, kind == MANY_BACKWARD);
        break;
    default:
        for (uint32_t i = 0; i < n; i++)
            sl_lora_pack(&b->lora, b->a, (const float *const[]){b->b}, (void *)b->many[i].packed);
    }
    return 0;
}

static cJSON *describe(struct bench *b)
{
    cJSON *o = cJSON_CreateObject();
    double flop = 2.0 * (double)rows * b->m->in * b->m->out, median[KINDS];
    cJSON_AddNumberToObject(o, "in", b->m->in);
    cJSON_AddNumberToObject(o, "out", b->m->out);
    for (unsigned k = 0; k < KINDS; k++) {
        char name[64];
        median[k] = bench_sample_median(&b->ms[k]);
        if (!median[k])
            continue;
        snprintf(name, sizeof name, k <= OPENBLAS ? "%s_gflops" : "%s_ms", kind_names[k]);
        cJSON_AddNumberToObject(o, name, k <= OPENBLAS ? flop / median[k] * 1e-6 : median[k]);
    }
    double frozen = median[FORWARD] + median[BACKWARD];
    double one = median[LORA_FORWARD] + median[LORA_BACKWARD];
    double many = median[MANY_FORWARD] + median[MANY_BACKWARD] + median[MANY_PACK];
    if (lora_fits(b->m)) {
        cJSON_AddNumberToObject(o, "lora_of_frozen", one / frozen);
        cJSON_AddNumberToObject(o, "many_over_one_adapter", (frozen + many) / (frozen + one));
    }
    return o;
}

static int measure(const struct matrix *m, enum sl_precision p, cJSON *to, char *err, size_t cap)
{
    struct bench b = {.m = m, .precision = p};
    int status = make(&b);
    uint64_t began = bench_now_ns();
    for (unsigned round = 0; !status && round < ROUNDS_MAX && !bench_stopping(); round++) {
        double passed = 1e-9 * (double)(bench_now_ns() - began);
        if (round > LEAST_ROUNDS && passed > seconds)
            break;
        bench_progress("products: %s, %.0f of %.0f s", m->name, passed, seconds);
        for (unsigned k = 0; k < (lora_fits(m) ? KINDS : LORA_FORWARD) && !status; k++) {
            uint64_t start = bench_now_ns();
            status = once(&b, k);
            if (round) /* the first one compiles kernels */
                bench_sample_add(&b.ms[k], 1e-6 * (double)(bench_now_ns() - start));
        }
    }
    if (!status)
        cJSON_AddItemToObject(to, m->name, describe(&b));
    else
        snprintf(err, cap, "%s, %u by %u: %s", m->name, m->in, m->out, strerror(-status));
    unmake(&b);
    return status;
}

static int run(cJSON *result, char *err, size_t cap)
{
    enum sl_precision p = strcmp(precision, "bf16") == 0 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
    if (!sl_precision_supported(p)) {
        snprintf(err, cap, "this CPU has no bf16 arithmetic (AVX-512 BF16)");
        return BENCH_SKIPPED;
    }
    sl_gemm_threads((int)threads);
    cJSON_AddStringToObject(result, "packed_kernel", sl_packed_kernel_name(p));
    cJSON_AddStringToObject(result, "gemm_kernel", sl_gemm_kernel_name());
    cJSON *load = cJSON_AddObjectToObject(result, "load");
    cJSON_AddStringToObject(load, "precision", precision);
    cJSON_AddNumberToObject(load, "rows", (double)rows);
    cJSON_AddNumberToObject(load, "threads", (double)threads);
    cJSON_AddNumberToObject(load, "rank", (double)rank);
    cJSON_AddNumberToObject(load, "segments", (double)segments);
    cJSON *to = cJSON_AddObjectToObject(result, "matrices");
    for (const struct matrix *m = strcmp(shape, "gpt2-small") == 0 ? gpt2_small : tinyllama; m->name; m++)
        if (measure(m, p, to, err, cap))
            return BENCH_FAILED;
    return bench_stopping() ? BENCH_STOPPED : BENCH_OK;
}

const struct bench_verb bench_products = {
    .name = "products",
    .summary = "the trainer's matrix products, shape by shape",
    .about = "Medians of rounds in which every product runs once. Frozen matrices are packed beforehand; "
             "openblas_f32 is\n"
             "the same forward product by OpenBLAS in f32. LoRA's products are timed for one adapter and for "
             "many.\n",
    .examples = "  sluice-bench products --precision bf16\n"
                "  sluice-bench products --shape tinyllama-1b --precision f32 --rows 1024\n",
    .options = options,
    .run = run,
};
