#include "device-sim/fleet/calibrate.h"

#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double bytes_per_mib = 1 << 20;
enum { WARM_UP = 1, REPEATS = 9 };

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Median seconds of a step; the gradient is the activations themselves: any finite one costs the same. */
static double time_steps(struct sl_front *front, const struct sl_material *m, const struct sl_front_batch *b,
    const struct sl_grid *g, float *workspace, uint8_t *message)
{
    double took[REPEATS];

    for (int i = -WARM_UP; i < REPEATS; i++) {
        double t = now_s();
        if (sl_front_forward(front, b, m->codec, g, SL_FAULT_NONE, workspace, message) ||
            sl_front_backward(front, m->codec, message, &(struct sl_front_step){.global_step = 1}, workspace))
            return -1;
        if (i >= 0)
            took[i] = now_s() - t;
    }
    qsort(took, REPEATS, sizeof(took[0]), by_value);
    return took[REPEATS / 2];
}

static double host_step_s(const struct sl_material *m, const struct sl_class_config *c)
{
    struct sl_front_batch batch = {.n = m->experiment->training.batch};
    const struct sl_stream *text = &m->shards[0].train;
    uint32_t seq = c->seq;
    size_t message_bytes, gradient_bytes, windows = sl_windows(text, seq);
    struct sl_grid grid;
    double s = -1;

    sl_material_sizes(m, &message_bytes, &gradient_bytes);
    sl_grid_make(&grid, batch.n * (seq - 1), m->shape.d_model, m->codec, 1, 1);
    for (uint32_t i = 0; i < batch.n; i++)
        batch.window[i] = sl_window(text, seq, i % windows);
    struct sl_front_config cfg = sl_material_front(m, c, c->cut);
    struct sl_front *front = NULL;
    if (sl_front_create(&cfg, &front))
        front = NULL;
    float *workspace = front ? malloc(sl_front_workspace_floats(front) * sizeof(float)) : NULL;
    uint8_t *message = malloc(message_bytes);
    if (front && workspace && message)
        s = time_steps(front, m, &batch, &grid, workspace, message);
    free(message);
    free(workspace);
    sl_front_free(front);
    return s;
}

static double modelled_step_s(const struct sl_material *m, const struct sl_class_config *c)
{
    uint16_t len[SL_SEQS_MAX];
    uint32_t n = m->experiment->training.batch;

    for (uint32_t i = 0; i < n; i++)
        len[i] = (uint16_t)(c->seq - 1);
    double flop =
        sl_material_pass_flop(m, len, n, c->cut, false) + sl_material_pass_flop(m, len, n, c->cut, true);
    return flop / (c->compute_gflops * 1e9); /* cold, at the full clock */
}

/* What presets and defaults have made of the class: what scripts reckon with. */
static void add_constants(cJSON *o, const struct sl_class_config *c)
{
    cJSON_AddNumberToObject(o, "seq", c->seq);
    cJSON_AddNumberToObject(o, "compute_gflops", c->compute_gflops);
    cJSON_AddNumberToObject(o, "compute_w", c->compute_w);
    cJSON_AddNumberToObject(o, "idle_w", c->idle_w);
    cJSON_AddNumberToObject(o, "radio_tx_w", c->radio_tx_w);
    cJSON_AddNumberToObject(o, "radio_rx_w", c->radio_rx_w);
}

cJSON *sl_calibrate(const struct sl_material *m, char *err, size_t err_cap)
{
    cJSON *out = cJSON_CreateObject(), *classes = cJSON_AddArrayToObject(out, "classes");
    double total = 0;

    for (uint32_t i = 0; i < m->experiment->n_classes; i++) {
        const struct sl_class_config *c = &m->experiment->fleet[i];
        double host = m->replay ? 0 : host_step_s(m, c), modelled = modelled_step_s(m, c);
        if (host < 0) {
            snprintf(err, err_cap,
                "class %s: its front half cannot be computed; check training.lora.targets and memory",
                c->name);
            cJSON_Delete(out);
            return NULL;
        }
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "class", c->name);
        cJSON_AddNumberToObject(o, "count", c->count);
        cJSON_AddNumberToObject(o, "cut", c->cut);
        add_constants(o, c);
        struct sl_front_config front = sl_material_front(m, c, c->cut);
        cJSON_AddNumberToObject(o, "memory_mib", ceil((double)sl_front_memory(&front) / bytes_per_mib));
        cJSON_AddNumberToObject(o, "modelled_step_s", modelled);
        cJSON_AddNumberToObject(o, "host_step_s", host);
        cJSON_AddNumberToObject(o, "core_share", host / modelled);
        cJSON_AddNumberToObject(
            o, "phones_max", host > 0 ? (double)(uint64_t)(modelled / host) : SL_DEVICES_MAX);
        cJSON_AddItemToArray(classes, o);
        total += c->count * host / modelled;
    }
    cJSON_AddNumberToObject(out, "core_share", total);
    cJSON_AddBoolToObject(out, "carries", total <= 1);
    cJSON_AddStringToObject(out, "gemm_kernel", sl_gemm_kernel_name());
    return out;
}
