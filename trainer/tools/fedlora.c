/* sluice-train fedlora: what the split run is compared with besides central training. */
#include "trainer/model/peft.h"
#include "trainer/model/proximal.h"
#include "trainer/pipeline/aggregate.h"
#include "trainer/plan/cost.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tools/commands.h"
#include "trainer/tools/run.h"
#include "trainer/tools/subject.h"
#include "trainer/tools/tuning.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fed_options {
    struct sl_tuning_options tuning;
    struct sl_list ids;
    const char *precision, *dir, *out;
    uint32_t every, batch, seq, threads;
    bool tails, json;
};

struct fed_phone {
    struct sl_input input;
    struct sl_window_list windows;
    struct sl_moments *moments; /* [layers]; kept from round to round, as the devices of a split run do */
    float *weights;             /* [layers, block]: its copy */
    uint64_t tokens;            /* since the last aggregation */
    double flop, all_tokens;
    uint32_t steps;
};

struct fed_run {
    struct sl_subject subject;
    struct sl_half *half;
    struct sl_seq *seqs;
    struct sl_optim_config optim;
    struct fed_phone *phones;
    uint32_t n_phones, layers, steps, done, rounds;
    size_t block;
    float *global;   /* [layers, block] */
    double *scratch; /* [block] */
    struct sl_copy *copies;
    double *losses, *nll, *tokens; /* [steps], over all phones */
};

static uint32_t steps_of(const struct fed_phone *p, uint32_t batch)
{
    return (uint32_t)((p->windows.n + batch - 1) / batch);
}

static int read_phones(const struct fed_options *o, struct fed_run *run, char *err, size_t err_cap)
{
    const struct sl_model_config *config = sl_model_config(run->subject.model);
    run->phones = calloc(o->ids.n, sizeof *run->phones);
    if (!run->phones)
        return -ENOMEM;
    for (run->n_phones = 0; run->n_phones < o->ids.n; run->n_phones++) {
        struct fed_phone *p = &run->phones[run->n_phones];
        struct sl_input_options in = {.ids = o->ids.item[run->n_phones]};
        int rc = sl_input_read(&in, NULL, config->eos_id, config->vocab, &p->input, err, err_cap);
        if (!rc)
            rc = sl_window_list_make(&p->input, o->seq, o->tails, &p->windows);
        if (rc)
            return rc;
        if (p->windows.n == 0) {
            snprintf(err, err_cap, "%s: not one window of %u tokens (lower --seq, or give --tails)", in.ids,
                o->seq);
            sl_input_free(&p->input);
            return -EINVAL;
        }
        uint32_t steps = steps_of(p, o->batch);
        run->steps = steps > run->steps ? steps : run->steps;
    }
    return 0;
}

/* Each phone has weights and moments of its own. */
static int check_memory(const struct fed_run *run, size_t floats, char *err, size_t err_cap)
{
    double copies = run->optim.kind == SL_ADAMW ? 3 : 1;
    double need = copies * (double)floats * sizeof(float) * run->n_phones;
    double have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (need <= have / 2)
        return 0;
    snprintf(err, err_cap,
        "%u phones' adapters and moments would take %.1f GB, more than half of this host's memory: fewer "
        "phones, or a "
        "lower --rank",
        run->n_phones, need * 1e-9);
    return -ENOMEM;
}

static int prepare(const struct fed_options *o, struct fed_run *run, char *err, size_t err_cap)
{
    const struct sl_model_config *config = sl_model_config(run->subject.model);
    int rc = sl_tuning_adapter(&o->tuning, config, &run->subject.adapter, err, err_cap);
    if (rc)
        return rc;
    run->layers = config->n_layers;
    run->block = sl_adapter_block(run->subject.adapter, 0).n;
    size_t all = run->layers * run->block;
    run->optim = sl_tuning_optimiser(&o->tuning);
    run->optim.proximal =
        sl_proximal_strength(config, sl_adapter_lora(run->subject.adapter), o->tuning.proximal_mu);
    run->optim.schedule.steps = run->steps;
    rc = check_memory(run, all, err, err_cap);
    if (rc)
        return rc;
    run->seqs = calloc(o->batch, sizeof *run->seqs);
    run->global = malloc(all * sizeof *run->global);
    run->scratch = malloc(run->block * sizeof *run->scratch);
    run->copies = calloc(run->n_phones, sizeof *run->copies);
    run->losses = calloc(run->steps, sizeof *run->losses);
    run->nll = calloc(run->steps, sizeof *run->nll);
    run->tokens = calloc(run->steps, sizeof *run->tokens);
    if (!run->seqs || !run->global || !run->scratch || !run->copies || !run->losses || !run->nll ||
        !run->tokens)
        return -ENOMEM;
    for (uint32_t l = 0; l < run->layers; l++)
        memcpy(run->global + l * run->block, sl_adapter_block(run->subject.adapter, l).data,
            run->block * sizeof *run->global);
    for (uint32_t i = 0; i < run->n_phones; i++) {
        struct fed_phone *p = &run->phones[i];
        p->weights = malloc(all * sizeof *p->weights);
        p->moments = calloc(run->layers, sizeof *p->moments);
        if (!p->weights || !p->moments)
            return -ENOMEM;
        for (uint32_t l = 0; l < run->layers && !rc; l++)
            rc = sl_moments_create(&run->optim, run->block, &p->moments[l]);
        if (rc)
            return rc;
    }
    struct sl_half_config half = {
        .last = run->layers, .max_rows = o->batch * (o->seq - 1), .max_seqs = o->batch};
    return sl_half_create(run->subject.model, run->subject.adapter, &half, &run->half);
}

/* Into the adapter that computes, or out of it. */
static void load_weights(struct fed_run *run, const float *weights)
{
    for (uint32_t l = 0; l < run->layers; l++)
        memcpy(sl_adapter_block(run->subject.adapter, l).data, weights + l * run->block,
            run->block * sizeof *weights);
}

static void keep_weights(struct fed_run *run, float *weights)
{
    for (uint32_t l = 0; l < run->layers; l++)
        memcpy(weights + l * run->block, sl_adapter_block(run->subject.adapter, l).data,
            run->block * sizeof *weights);
}

/* Rules P2's account of a phone with the whole model: every block and the head, forward and the gradient of
 * the input. */
static double step_flop(const struct sl_model_config *c, const struct sl_seq *seqs, uint32_t n)
{
    struct sl_cost_shape shape = {.d_model = c->d_model,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .d_ff = c->d_ff,
        .vocab = c->vocab,
        .gated_mlp = c->family == SL_FAMILY_LLAMA};
    double flop = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *len = &seqs[i].len;
        flop +=
            c->n_layers * (sl_cost_block_forward(&shape, len, 1) + sl_cost_block_backward(&shape, len, 1));
        flop += 2 * sl_cost_head_forward(&shape, *len);
    }
    return flop;
}

/* A phone's step s on the weights in the adapter. */
static int phone_step(const struct fed_options *o, struct fed_run *run, struct fed_phone *p, uint32_t s)
{
    double nll = 0, tokens = 0;
    uint32_t n = 0;
    for (size_t w = (size_t)s * o->batch; w < p->windows.n && n < o->batch; w++, n++) {
        run->seqs[n] = sl_seq_of_window(p->windows.at[w], p->windows.len[w]);
        tokens += run->seqs[n].len;
    }
    sl_adapter_zero_grads(run->subject.adapter);
    int rc = sl_half_forward(run->half, run->seqs, n, NULL);
    if (!rc)
        rc = sl_half_backward(run->half, run->seqs, n, NULL);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++)
        nll += run->seqs[i].nll;
    for (uint32_t l = 0; l < run->layers; l++) {
        struct sl_block b = sl_adapter_block(run->subject.adapter, l);
        sl_proximal_add(run->subject.adapter, l, NULL, run->optim.proximal, tokens, b.grad);
        sl_optim_apply(&run->optim, &p->moments[l], b.data, b.grad, b.n, tokens, s + 1);
    }
    p->tokens += (uint64_t)tokens;
    p->all_tokens += tokens;
    p->flop += step_flop(sl_model_config(run->subject.model), run->seqs, n);
    p->steps++;
    run->nll[s] += nll;
    run->tokens[s] += tokens;
    return 0;
}

/* Steps [from, to) of every phone, each from the global adapter; then federated averaging (rules L4, L5). */
static int fed_round(
    const struct fed_options *o, struct fed_run *run, uint32_t from, uint32_t to, char *err, size_t err_cap)
{
    uint32_t copies = 0;
    for (uint32_t i = 0; i < run->n_phones; i++) {
        struct fed_phone *p = &run->phones[i];
        uint32_t end = steps_of(p, o->batch) < to ? steps_of(p, o->batch) : to;
        p->tokens = 0;
        if (from >= end)
            continue;
        load_weights(run, run->global);
        for (uint32_t s = from; s < end; s++) {
            int rc = phone_step(o, run, p, s);
            if (rc)
                return rc;
        }
        keep_weights(run, p->weights);
        run->copies[copies++] =
            (struct sl_copy){.last = run->layers, .weights = p->weights, .tokens = p->tokens};
    }
    for (uint32_t s = from; s < to; s++) {
        run->losses[s] = run->nll[s] / run->tokens[s];
        if (!isfinite(run->losses[s])) {
            snprintf(err, err_cap, "the loss is not a finite number at step %u: lower --lr", s);
            return -EINVAL;
        }
    }
    sl_aggregate(run->global, run->layers, run->block, run->copies, copies, run->scratch);
    run->rounds++;
    run->done = to;
    return 0;
}

static cJSON *phones_json(const struct fed_run *run)
{
    cJSON *list = cJSON_CreateArray();
    for (uint32_t i = 0; i < run->n_phones; i++) {
        const struct fed_phone *p = &run->phones[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "steps", p->steps);
        cJSON_AddNumberToObject(o, "tokens", p->all_tokens);
        cJSON_AddNumberToObject(o, "flop", p->flop);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static void print(const struct fed_run *run, bool json)
{
    double tokens = 0;
    for (uint32_t s = 0; s < run->done; s++)
        tokens += run->tokens[s];
    if (!json) {
        printf("%u steps in %u rounds of %u phones, loss %.6f -> %.6f nats per token, %.0f tokens\n",
            run->done, run->rounds, run->n_phones, run->losses[0], run->losses[run->done - 1], tokens);
        return;
    }
    cJSON *out = cJSON_CreateObject();
    cJSON_AddItemToObject(out, "losses", sl_tuning_losses(run->losses, run->done));
    cJSON_AddItemToObject(out, "tokens", cJSON_CreateDoubleArray(run->tokens, (int)run->done));
    cJSON_AddNumberToObject(out, "steps", run->done);
    cJSON_AddNumberToObject(out, "rounds", run->rounds);
    cJSON_AddNumberToObject(out, "adapter_bytes", (double)(run->layers * run->block * sizeof(float)));
    cJSON_AddItemToObject(out, "phones", phones_json(run));
    char *text = cJSON_Print(out);
    puts(text ? text : "{}");
    free(text);
    cJSON_Delete(out);
}

static int train(const struct fed_options *o, struct fed_run *run, char *err, size_t err_cap)
{
    struct sl_progress progress;
    int rc = read_phones(o, run, err, err_cap);
    sl_gemm_threads((int)o->threads); /* before there is a half */
    if (!rc)
        rc = prepare(o, run, err, err_cap);
    if (!rc)
        sl_gemm_announce(o->threads);
    sl_progress_start(&progress, "fedlora", "steps");
    while (!rc && run->done < run->steps && !sl_interrupted()) {
        uint32_t to = run->done + o->every < run->steps ? run->done + o->every : run->steps;
        rc = fed_round(o, run, run->done, to, err, err_cap);
        if (!rc)
            sl_progress_show(&progress, run->done, run->steps, run->losses[run->done - 1], "loss");
    }
    sl_progress_end(&progress);
    if (!rc)
        load_weights(run, run->global);
    if (!rc && o->out)
        rc = sl_peft_save(
            run->subject.adapter, sl_model_config(run->subject.model), o->dir, o->out, err, err_cap);
    if (!rc && run->done)
        print(run, o->json);
    return rc;
}

static void free_run(struct fed_run *run)
{
    for (uint32_t i = 0; i < run->n_phones; i++) {
        struct fed_phone *p = &run->phones[i];
        for (uint32_t l = 0; p->moments && l < run->layers; l++)
            sl_moments_free(&p->moments[l]);
        free(p->moments);
        free(p->weights);
        sl_window_list_free(&p->windows);
        sl_input_free(&p->input);
    }
    free(run->phones);
    free(run->global);
    free(run->scratch);
    free(run->copies);
    free(run->losses);
    free(run->nll);
    free(run->tokens);
    free(run->seqs);
    sl_half_free(run->half);
    sl_subject_free(&run->subject);
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_fedlora_command;
    struct fed_options o = {.tuning = SL_TUNING_DEFAULTS, .threads = 1, .every = 8, .batch = 1};
    struct sl_opt table[] = {
        {"model", SL_OPT_WORD, &o.dir, "DIR", "model directory (Hugging Face layout)", true, 0, 0, 0},
        {"ids", SL_OPT_LIST, &o.ids, "FILE", "token ids, a file for each phone, a stream a line", true, 0, 0,
            0},
        {"out", SL_OPT_WORD, &o.out, "DIR", "where the PEFT adapter is written", 0, 0, 0, 0},
        {"every", SL_OPT_COUNT, &o.every, "K", "steps of a phone between two aggregations (default 8)", 0, 1,
            1e8, 0},
        {"batch", SL_OPT_COUNT, &o.batch, "B", "windows in a phone's step (default 1)", 0, 1, 1 << 16, 0},
        {"seq", SL_OPT_COUNT, &o.seq, "T", "tokens per window", true, 2, 1 << 20, 0},
        {"tails", SL_OPT_FLAG, &o.tails, NULL, "also the last, shorter window of a stream", 0, 0, 0, 0},
        SL_TUNING_OPTS(o.tuning),
        SL_PROXIMAL_OPT(o.tuning),
        SL_PRECISION_OPT(o.precision),
        {"threads", SL_OPT_COUNT, &o.threads, "N", "threads of the GEMM library (default 1)", 0, 1, 1024, 0},
        {"json", SL_OPT_FLAG, &o.json, NULL, "print JSON: losses, and what each phone computed", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct fed_run state = {0};
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code >= 0)
        goto out;
    const char *wrong = sl_tuning_check(&o.tuning);
    if (!wrong && (uint64_t)o.batch * (o.seq - 1) > UINT32_MAX)
        wrong = "--batch windows of --seq tokens are more than 2^32 rows: lower one of them";
    if (wrong) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
        goto out;
    }
    sl_interrupt_catch();
    int rc = sl_subject_load(o.dir, o.precision, NULL, false, &state.subject, err, sizeof err);
    if (!rc && o.seq - 1 > sl_model_config(state.subject.model)->max_positions) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "--seq %u is too long: the model has %u positions", o.seq,
            sl_model_config(state.subject.model)->max_positions);
        goto out;
    }
    if (!rc)
        rc = train(&o, &state, err, sizeof err);
    if (rc)
        code = sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc));
    else
        code = state.done < state.steps ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
out:
    free_run(&state);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_fedlora_command = {
    .name = "fedlora",
    .summary = "Federated LoRA: the baseline.\n"
               "Each phone trains the whole model on its own windows, once, in order; every K steps the "
               "adapters are\n"
               "averaged, weighted by predicted tokens (FedAvg), and every phone goes on from the average.\n",
    .examples =
        "  sluice-train fedlora --model trainer/models/base --ids a.ids b.ids c.ids --every 4 --seq 128 \\\n"
        "      --lr 3e-3 --out adapter\n",
    .run = run,
};
