/* sluice-bench train: how near the trainer comes to the machine's matrix products. */
#include "tests/bench/gemm_peak.h"
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/train_step.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 2, LEAST_ROUNDS = 3, STEPS_MAX = 100000 };
enum side { MEASURED, COMPARED, SIDES };
static const double peak_every_s = 0.3; /* a round of large products takes about that long */
static const struct {
    double f32, bf16;
} target_fraction = {0.80, 0.70};

static const char *const shape_names[] = {
    "gpt2-small", "gpt2-medium", "llama-tiny", "smollm-135m", "tinyllama-1b", NULL};
static const char *const adapter_kinds[] = {"shared", "personal", NULL};
static const char *const precisions[] = {"f32", "bf16", NULL};

static const char *shape_name = "gpt2-small", *cuts_text = "", *adapters = "shared", *precision = "f32";
static uint64_t layers, batch, seq = 128, threads = 1, devices = 1, rank = 8, steps;
static double seconds = 8;
static bool stepwise;

static const struct bench_option options[] = {
    {"shape", BENCH_TEXT, &shape_name, "NAME", "the model's shape", 0, 0, shape_names},
    {"layers", BENCH_NUMBER, &layers, "N", "train the last N blocks and the head; 0: half of them", 0, 0,
        NULL},
    {"batch", BENCH_NUMBER, &batch, "B", "sequences of a device; 0: 4, or 1 where there are several devices",
        0, 0, NULL},
    {"seq", BENCH_NUMBER, &seq, "T", "rows of a sequence", 1, 65536, NULL},
    {"precision", BENCH_TEXT, &precision, "P", "arithmetic of the frozen half", 0, 0, precisions},
    {"threads", BENCH_NUMBER, &threads, "N", "of a product; more than 1 is compared with 1", 1, 256, NULL},
    {"rank", BENCH_NUMBER, &rank, "R", "of LoRA, on every linear layer", 1, 1024, NULL},
    {"devices", BENCH_NUMBER, &devices, "D", "in one gang", 1, 100000, NULL},
    {"cuts", BENCH_TEXT, &cuts_text, "K,K,..",
        "device i enters at cut i modulo their number; compared with one cut", 0, 0, NULL},
    {"adapters", BENCH_TEXT, &adapters, "KIND", "personal is compared with shared", 0, 0, adapter_kinds},
    {"seconds", BENCH_REAL, &seconds, "S", "how long", 0.01, 3600, NULL},
    {"steps", BENCH_NUMBER, &steps, "N", "end after N steps; 0: by time", 0, STEPS_MAX, NULL},
    {"stepwise", BENCH_FLAG, &stepwise, NULL,
        "a step for each line on stdin, answered by a line of JSON; the result at its end", 0, 0, NULL},
    {0},
};

struct measured {
    struct bench_trainee *trainee;
    struct bench_sample ms, cpu_ms;
    double loss_first, loss_last;
    struct bench_work work;
};

struct train {
    struct sl_model *model;
    struct measured side[SIDES];
    uint32_t sides;
    const char *compared_with; /* NULL: nothing */
    char compared_text[64];
    struct bench_sample ratio, cpu_ratio; /* of GFLOP/s, measured over compared, in each round */
    struct bench_peak *peak;
    uint64_t peak_memory;
    uint64_t bf16_products; /* of all measured steps of the measured side */
    bool bf16;
};

/* "VmHWM:  123 kB" of this process. */
static uint64_t peak_memory_bytes(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

static int parse_cuts(const char *text, uint32_t n_layers, struct bench_work *w, char *err, size_t cap)
{
    for (const char *at = text; *at;) {
        char *end;
        unsigned long cut = strtoul(at, &end, 10);
        if (end == at || (*end && *end != ',') || cut < 1 || cut >= n_layers || w->n_cuts == BENCH_CUTS_MAX) {
            snprintf(err, cap, "--cuts takes up to %d cuts from 1 to %u, as 2,4,6; not %s", BENCH_CUTS_MAX,
                n_layers - 1, text);
            return -EINVAL;
        }
        w->cuts[w->n_cuts++] = (uint32_t)cut;
        at = *end ? end + 1 : end;
    }
    return 0;
}

/* The whole cut nearest to the devices' mean. */
static uint32_t mean_cut(const struct bench_work *w)
{
    double sum = 0;
    for (uint32_t i = 0; i < w->devices; i++)
        sum += w->cuts[i % w->n_cuts];
    return (uint32_t)(sum / w->devices + 0.5);
}

/* What is measured, and with what it is compared. */
static int plan(struct train *t, const struct bench_shape *shape, char *err, size_t cap)
{
    uint32_t n = shape->config.n_layers;
    t->bf16 = strcmp(precision, "bf16") == 0;
    struct bench_work w = {.devices = (uint32_t)devices,
        .batch = (uint32_t)(batch         ? batch
                            : devices > 1 ? 1
                                          : 4),
        .seq = (uint32_t)seq,
        .personal = strcmp(adapters, "personal") == 0,
        .threads = (int)threads,
        .precision = t->bf16 ? SL_PRECISION_BF16 : SL_PRECISION_F32,
        .lora = {.rank = (uint32_t)rank, .alpha = 2.0f * (float)rank, .seed = 1}};
    if (layers >= n || seq > shape->config.max_positions) {
        snprintf(err, cap, "%s has %u blocks, of which at most %u can be the back half, and %u positions",
            shape_name, n, n - 1, shape->config.max_positions);
        return -EINVAL;
    }
    if ((uint64_t)w.devices * w.batch * w.seq > UINT32_MAX / 4) {
        snprintf(err, cap, "%llu devices with %u x %u rows are too many for one batch",
            (unsigned long long)devices, w.batch, w.seq);
        return -EINVAL;
    }
    w.lora.targets = bench_shape_targets(&shape->config);
    if (*cuts_text) {
        int failed = parse_cuts(cuts_text, n, &w, err, cap);
        if (failed)
            return failed;
    } else {
        w.cuts[w.n_cuts++] = n - (uint32_t)(layers ? layers : n / 2);
    }
    t->side[MEASURED].work = t->side[COMPARED].work = w;
    struct bench_work *other = &t->side[COMPARED].work;
    t->compared_with = t->compared_text;
    if (w.personal) {
        other->personal = false;
        snprintf(t->compared_text, sizeof t->compared_text, "one shared adapter");
    } else if (w.n_cuts > 1) {
        other->cuts[0] = mean_cut(&w);
        other->n_cuts = 1;
        snprintf(t->compared_text, sizeof t->compared_text, "all devices cut at %u", other->cuts[0]);
    } else if (threads > 1) {
        other->threads = 1;
        snprintf(t->compared_text, sizeof t->compared_text, "one thread");
    } else {
        t->compared_with = NULL;
    }
    t->sides = t->compared_with ? SIDES : 1;
    return 0;
}

/* As on an edge node, only what the back half needs is in memory. */
static int build(struct train *t, const struct bench_shape *shape, char *err, size_t cap)
{
    uint32_t lowest = shape->config.n_layers;
    for (uint32_t s = 0; s < t->sides; s++)
        for (uint32_t i = 0; i < t->side[s].work.n_cuts; i++)
            if (t->side[s].work.cuts[i] < lowest)
                lowest = t->side[s].work.cuts[i];
    bench_progress("train: random weights for %u blocks of %s", shape->config.n_layers - lowest, shape->name);
    int failed = sl_model_create_blocks(&shape->config, 1, lowest, shape->config.n_layers, &t->model);
    if (failed) {
        snprintf(err, cap, "the model: %s", strerror(-failed));
        return failed;
    }
    sl_model_keep(t->model, 1, UINT32_MAX);
    failed = sl_model_pack(t->model, t->side[MEASURED].work.precision, true);
    if (failed) {
        snprintf(err, cap, "packing the weights in %s: %s", precision,
            failed == -ENOTSUP ? "this CPU has neither AVX-512 BF16 nor AMX" : strerror(-failed));
        return failed;
    }
    for (uint32_t s = 0; s < t->sides; s++) {
        struct measured *m = &t->side[s];
        failed = bench_trainee_create(t->model, &m->work, &m->trainee, err, cap);
        if (!failed)
            failed = bench_sample_init(&m->ms, STEPS_MAX);
        if (!failed)
            failed = bench_sample_init(&m->cpu_ms, STEPS_MAX);
        if (failed)
            return failed;
    }
    failed = bench_sample_init(&t->ratio, STEPS_MAX);
    return failed ? failed : bench_sample_init(&t->cpu_ratio, STEPS_MAX);
}

/* One step of one side; its time in ms, negative where it failed. */
static double step(struct measured *m, double *cpu_ms)
{
    uint64_t began = bench_now_ns(), cpu = bench_cpu_ns();
    double loss = bench_trainee_step(m->trainee);
    double ms = 1e-6 * (double)(bench_now_ns() - began);
    *cpu_ms = 1e-6 * (double)(bench_cpu_ns() - cpu);
    if (!(loss >= 0))
        return -1;
    if (m->loss_first == 0)
        m->loss_first = loss;
    m->loss_last = loss;
    return ms;
}

static double gflops(const struct measured *m, double ms)
{
    return ms > 0 ? bench_flop_sum(bench_trainee_flop(m->trainee)) / ms * 1e-6 : 0;
}

static int warm_up(struct train *t, char *err, size_t cap)
{
    double cpu_ms;
    for (unsigned i = 0; i < WARM_UP && !bench_stopping(); i++)
        for (uint32_t s = 0; s < t->sides; s++) {
            bench_progress("train: warming up, step %u of %d", i + 1, WARM_UP);
            if (step(&t->side[s], &cpu_ms) < 0) {
                snprintf(err, cap, "the half refused its batch, or its loss is no number");
                return -EINVAL;
            }
        }
    t->peak_memory = peak_memory_bytes(); /* before the products that it is compared with take theirs */
    for (uint32_t s = 0; s < t->sides; s++)
        memset(bench_trainee_profile(t->side[s].trainee), 0, sizeof(struct sl_profile));
    return 0;
}

static int prepare_peak(struct train *t, char *err, size_t cap)
{
    int failed = bench_peak_create(t->bf16, (int)threads, &t->peak);
    if (failed)
        snprintf(err, cap, "large products for comparison: %s", strerror(-failed));
    else
        bench_peak_round(t->peak);
    return failed;
}

/* Waits for whoever alternates us with something else (scripts/compare-torch); false at the end of input. */
static bool asked(void)
{
    char line[16];
    return fgets(line, sizeof line, stdin) != NULL;
}

static void answer(const struct measured *m, double ms, double cpu_ms)
{
    printf("{\"ms\": %.6f, \"cpu_ms\": %.6f, \"loss\": %.6f, \"peak_memory_bytes\": %llu}\n", ms, cpu_ms,
        m->loss_last, (unsigned long long)peak_memory_bytes());
    fflush(stdout);
}

static int measure(struct train *t, char *err, size_t cap)
{
    uint64_t began = bench_now_ns(), last_peak = 0;
    for (uint64_t round = 0; round < STEPS_MAX && !bench_stopping(); round++) {
        double s_passed = 1e-9 * (double)(bench_now_ns() - began), ms[SIDES], cpu_ms[SIDES];
        if (stepwise ? !asked() : steps ? round >= steps : round >= LEAST_ROUNDS && s_passed >= seconds)
            break;
        bench_progress("train: step %llu, %.0f of %.0f s", (unsigned long long)round + 1, s_passed, seconds);
        for (uint32_t k = 0; k < t->sides; k++) {
            uint32_t s = round % 2 ? t->sides - 1 - k : k; /* neither always goes first */
            uint64_t products = sl_packed_count(SL_PRECISION_BF16);
            ms[s] = step(&t->side[s], &cpu_ms[s]);
            t->bf16_products += s == MEASURED ? sl_packed_count(SL_PRECISION_BF16) - products : 0;
            if (ms[s] < 0) {
                snprintf(err, cap, "step %llu: the loss is no number", (unsigned long long)round + 1);
                return -EINVAL;
            }
            bench_sample_add(&t->side[s].ms, ms[s]);
            bench_sample_add(&t->side[s].cpu_ms, cpu_ms[s]);
        }
        if (stepwise) {
            answer(&t->side[MEASURED], ms[MEASURED], cpu_ms[MEASURED]);
            continue;
        }
        if (t->sides == SIDES) {
            const struct measured *a = &t->side[MEASURED], *b = &t->side[COMPARED];
            bench_sample_add(&t->ratio, gflops(a, ms[MEASURED]) / gflops(b, ms[COMPARED]));
            bench_sample_add(&t->cpu_ratio, gflops(a, cpu_ms[MEASURED]) / gflops(b, cpu_ms[COMPARED]));
        }
        if (1e-9 * (double)(bench_now_ns() - last_peak) >= peak_every_s) {
            bench_peak_round(t->peak);
            last_peak = bench_now_ns();
        }
    }
    return 0;
}

/* Share of a step, time in it, and what it would take at the speed of large products. */
static void describe_kernels(cJSON *to, struct measured *m, double peak)
{
    const struct sl_profile *p = bench_trainee_profile(m->trainee);
    const struct bench_flop *flop = bench_trainee_flop(m->trainee);
    double n = m->ms.n ? (double)m->ms.n : 1, accounted = 0, all = 0;
    double ms_per_tick = 1e3 / (double)bench_tsc_hz();
    for (size_t i = 0; i < m->ms.n; i++)
        all += m->ms.v[i] / n;
    cJSON *kernels = cJSON_AddObjectToObject(to, "kernels");
    for (unsigned k = 0; k < SL_KERNEL_COUNT; k++) {
        double ms = (double)p->ticks[k] * ms_per_tick / n;
        if (p->marks[k] == 0)
            continue;
        cJSON *j = cJSON_AddObjectToObject(kernels, sl_kernel_name(k));
        accounted += ms;
        cJSON_AddNumberToObject(j, "share", all > 0 ? ms / all : 0);
        cJSON_AddNumberToObject(j, "ms", ms);
        if (flop->of[k] > 0)
            cJSON_AddNumberToObject(j, "gflops", ms > 0 ? flop->of[k] / ms * 1e-6 : 0);
        cJSON_AddNumberToObject(j, "ms_beyond_peak", peak > 0 ? ms - flop->of[k] / peak * 1e-6 : 0);
    }
    cJSON_AddNumberToObject(kernels, "unaccounted_share", all > 0 ? 1 - accounted / all : 0);
}

/* The same by the CPU time that the process got: what a host that others use would show if it were quiet, but
 * for caches and clock. With several threads it says nothing, because waiting threads may spin. */
static void describe_cpu_time(cJSON *to, struct measured *m, double cpu_peak)
{
    double ms = bench_sample_median(&m->cpu_ms), tokens = (double)bench_trainee_tokens(m->trainee);
    if (m->work.threads > 1 || !(ms > 0))
        return;
    cJSON *j = cJSON_AddObjectToObject(to, "by_cpu_time");
    cJSON_AddNumberToObject(j, "tokens_per_s", 1e3 * tokens / ms);
    cJSON_AddNumberToObject(j, "gflops", gflops(m, ms));
    cJSON_AddNumberToObject(j, "gemm_peak_gflops", cpu_peak);
    cJSON_AddNumberToObject(j, "fraction_of_gemm_peak", cpu_peak > 0 ? gflops(m, ms) / cpu_peak : 0);
}

static void describe_side(cJSON *to, struct measured *m, double peak, double cpu_peak)
{
    double ms = bench_sample_median(&m->ms), tokens = (double)bench_trainee_tokens(m->trainee);
    cJSON_AddNumberToObject(to, "tokens_per_s", ms > 0 ? 1e3 * tokens / ms : 0);
    cJSON_AddNumberToObject(to, "gflops", gflops(m, ms));
    cJSON_AddNumberToObject(to, "fraction_of_gemm_peak", peak > 0 ? gflops(m, ms) / peak : 0);
    describe_cpu_time(to, m, cpu_peak);
    cJSON_AddItemToObject(to, "step_ms", bench_sample_json(&m->ms));
    cJSON_AddNumberToObject(to, "flop_per_token", bench_flop_sum(bench_trainee_flop(m->trainee)) / tokens);
    cJSON_AddNumberToObject(to, "loss_first", m->loss_first);
    cJSON_AddNumberToObject(to, "loss_last", m->loss_last);
    describe_kernels(to, m, peak);
}

static void describe_load(cJSON *result, const struct train *t, const struct bench_shape *shape)
{
    const struct bench_work *w = &t->side[MEASURED].work;
    int cuts[BENCH_CUTS_MAX];
    for (uint32_t i = 0; i < w->n_cuts; i++)
        cuts[i] = (int)w->cuts[i];
    cJSON *j = cJSON_AddObjectToObject(result, "load");
    cJSON_AddStringToObject(j, "shape", shape->name);
    cJSON_AddNumberToObject(j, "blocks_of_model", shape->config.n_layers);
    cJSON_AddItemToObject(j, "cuts", cJSON_CreateIntArray(cuts, (int)w->n_cuts));
    cJSON_AddNumberToObject(j, "devices", w->devices);
    cJSON_AddNumberToObject(j, "batch", w->batch);
    cJSON_AddNumberToObject(j, "seq", w->seq);
    cJSON_AddNumberToObject(j, "rank", w->lora.rank);
    cJSON_AddStringToObject(j, "adapters", adapters);
    cJSON_AddStringToObject(j, "precision", precision);
    cJSON_AddNumberToObject(j, "threads", w->threads);
}

/* Rules L14: a figure of a crippled library is no figure. */
static void judge(cJSON *result, const struct train *t)
{
    cJSON *why = cJSON_CreateArray();
    const char *crippled = bench_peak_crippled();
    if (crippled)
        cJSON_AddItemToArray(why, cJSON_CreateString(crippled));
    if (bench_machine()->sanitized)
        cJSON_AddItemToArray(why, cJSON_CreateString("sanitized build"));
    if (t->bf16 && t->bf16_products == 0)
        cJSON_AddItemToArray(why, cJSON_CreateString("not one product ran in bf16"));
    cJSON_AddBoolToObject(result, "valid", cJSON_GetArraySize(why) == 0);
    cJSON_AddItemToObject(result, "invalid_because", why);
    cJSON_AddStringToObject(result, "gemm_kernel", sl_gemm_kernel_name());
}

static void describe(cJSON *result, struct train *t, const struct bench_shape *shape)
{
    double peak = bench_peak_gflops(t->peak, BENCH_WALL), cpu_peak = bench_peak_gflops(t->peak, BENCH_CPU);
    judge(result, t);
    describe_load(result, t, shape);
    describe_side(result, &t->side[MEASURED], peak, cpu_peak);
    cJSON_AddNumberToObject(result, "bf16_gemms",
        t->side[MEASURED].ms.n ? (double)t->bf16_products / (double)t->side[MEASURED].ms.n : 0);
    cJSON_AddNumberToObject(result, "peak_memory_bytes", (double)t->peak_memory);
    cJSON_AddNumberToObject(result, "weights_bytes", (double)sl_model_bytes(t->model));
    cJSON_AddNumberToObject(
        result, "arena_bytes", (double)bench_trainee_arena_bytes(t->side[MEASURED].trainee));
    cJSON_AddItemToObject(result, "gemm_peak", bench_peak_json(t->peak));
    if (t->compared_with) {
        cJSON *j = cJSON_AddObjectToObject(result, "compared");
        cJSON_AddStringToObject(j, "with", t->compared_with);
        cJSON_AddNumberToObject(j, "gflops_ratio", bench_sample_median(&t->ratio));
        if (threads == 1)
            cJSON_AddNumberToObject(j, "gflops_ratio_by_cpu_time", bench_sample_median(&t->cpu_ratio));
        cJSON_AddItemToObject(j, "ratios", bench_sample_json(&t->ratio));
        describe_side(j, &t->side[COMPARED], peak, cpu_peak);
    }
    cJSON *target = cJSON_AddObjectToObject(result, "target");
    double wanted = t->bf16 ? target_fraction.bf16 : target_fraction.f32;
    cJSON_AddNumberToObject(target, "fraction_of_gemm_peak", wanted);
    cJSON_AddBoolToObject(target, "met",
        peak > 0 && gflops(&t->side[MEASURED], bench_sample_median(&t->side[MEASURED].ms)) >= wanted * peak);
}

static void release(struct train *t)
{
    for (uint32_t s = 0; s < SIDES; s++) {
        bench_trainee_free(t->side[s].trainee);
        bench_sample_free(&t->side[s].ms);
        bench_sample_free(&t->side[s].cpu_ms);
    }
    bench_sample_free(&t->ratio);
    bench_sample_free(&t->cpu_ratio);
    bench_peak_free(t->peak);
    sl_model_free(t->model);
}

static int run(cJSON *result, char *err, size_t cap)
{
    struct train t = {0};
    const struct bench_shape *shape = bench_shape_find(shape_name);
    int failed = plan(&t, shape, err, cap);
    if (!failed)
        failed = build(&t, shape, err, cap);
    if (!failed)
        failed = warm_up(&t, err, cap);
    if (!failed)
        failed = stepwise ? measure(&t, err, cap) : prepare_peak(&t, err, cap);
    if (!failed)
        failed = stepwise ? prepare_peak(&t, err, cap) : measure(&t, err, cap);
    if (!failed)
        describe(result, &t, shape);
    release(&t);
    return failed == -ENOTSUP ? BENCH_SKIPPED : failed ? BENCH_FAILED : BENCH_OK;
}

const struct bench_verb bench_train = {
    .name = "train",
    .summary = "training steps of the back half, against the machine's matrix products",
    .about = "Forward, backward and AdamW of LoRA on every linear layer, on random weights and rows. "
             "Operations are\n"
             "counted from the mathematics (docs/measuring.md). Large products of OpenBLAS and oneDNN run "
             "between\n"
             "the steps: fraction_of_gemm_peak is of the faster of them.\n",
    .examples = "  sluice-bench train --shape gpt2-small --batch 4 --seq 128\n"
                "  sluice-bench train --devices 8 --cuts 2,4,6          # against one cut\n"
                "  sluice-bench train --devices 64 --seq 32 --adapters personal\n"
                "  sluice-bench train --threads 2 --json                # against one thread\n",
    .options = options,
    .run = run,
};
