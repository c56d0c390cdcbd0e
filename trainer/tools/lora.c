#include "trainer/model/peft.h"
#include "trainer/model/proximal.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tools/commands.h"
#include "trainer/tools/run.h"
#include "trainer/tools/subject.h"
#include "trainer/tools/tuning.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lora_options {
    struct sl_input_options in;
    struct sl_tuning_options tuning;
    const char *dir, *precision, *adapter_in, *out;
    uint32_t steps, batch, seq, threads, accumulate;
    bool tails, json;
};

/* The state of one training run. */
struct lora_run {
    struct sl_subject subject;
    struct sl_half *half;
    struct sl_seq *seqs;        /* [batch] */
    struct sl_moments *moments; /* [layers] */
    struct sl_optim_config optim;
    double *losses; /* [steps] */
    double *terms;  /* [steps]: the stability term where an update follows, else 0 */
    double tokens;  /* predicted, all steps done */
    float *sum;     /* [layers, block]: gradients since the last update; NULL without --accumulate */
    double pending_tokens;
    uint32_t done;
};

static int prepare(const struct lora_options *o, struct lora_run *run, char *err, size_t err_cap)
{
    const struct sl_model_config *config = sl_model_config(run->subject.model);
    int rc = 0;
    if (!run->subject.adapter) {
        rc = sl_tuning_adapter(&o->tuning, config, &run->subject.adapter, err, err_cap);
        if (rc)
            return rc;
    }
    run->optim = sl_tuning_optimiser(&o->tuning);
    run->optim.proximal =
        sl_proximal_strength(config, sl_adapter_lora(run->subject.adapter), o->tuning.proximal_mu);
    run->seqs = calloc(o->batch, sizeof *run->seqs);
    run->losses = calloc(o->steps, sizeof *run->losses);
    run->terms = calloc(o->steps, sizeof *run->terms);
    run->moments = calloc(config->n_layers, sizeof *run->moments);
    if (o->accumulate > 1)
        run->sum = calloc(config->n_layers * sl_adapter_block(run->subject.adapter, 0).n, sizeof *run->sum);
    if (!run->seqs || !run->losses || !run->terms || !run->moments || (o->accumulate > 1 && !run->sum))
        return -ENOMEM;
    for (uint32_t l = 0; l < config->n_layers && !rc; l++)
        rc = sl_moments_create(&run->optim, sl_adapter_block(run->subject.adapter, l).n, &run->moments[l]);
    struct sl_half_config half = {
        .last = config->n_layers, .max_rows = o->batch * (o->seq - 1), .max_seqs = o->batch};
    return rc ? rc : sl_half_create(run->subject.model, run->subject.adapter, &half, &run->half);
}

/* The update, once the gradients of --accumulate steps are there: their sum is divided by the tokens of all.
 * The last step makes one in any case. `done`: steps, this one included. */
static void learn(const struct lora_options *o, struct lora_run *run, double tokens, uint32_t done)
{
    uint32_t layers = sl_model_config(run->subject.model)->n_layers;
    bool step = done % o->accumulate == 0 || done == o->steps;

    run->pending_tokens += tokens;
    for (uint32_t l = 0; l < layers; l++) {
        struct sl_block block = sl_adapter_block(run->subject.adapter, l);
        float *sum = block.grad;
        if (run->sum) {
            sum = run->sum + l * block.n;
            for (size_t i = 0; i < block.n; i++)
                sum[i] += block.grad[i];
        }
        if (!step)
            continue;
        run->terms[done - 1] +=
            sl_proximal_add(run->subject.adapter, l, NULL, run->optim.proximal, run->pending_tokens, sum);
        sl_optim_apply(&run->optim, &run->moments[l], block.data, sum, block.n, run->pending_tokens, done);
        if (run->sum)
            memset(sum, 0, block.n * sizeof *sum);
    }
    if (step)
        run->pending_tokens = 0;
}

/* One step on windows s*B ... s*B+B-1, wrapping. */
static int step(const struct lora_options *o, struct lora_run *run, const struct sl_window_list *windows,
    uint32_t s, char *err, size_t err_cap)
{
    double nll = 0, tokens = 0;
    for (uint32_t b = 0; b < o->batch; b++) {
        size_t w = ((size_t)s * o->batch + b) % windows->n;
        run->seqs[b] = sl_seq_of_window(windows->at[w], windows->len[w]);
        tokens += run->seqs[b].len;
    }
    sl_adapter_zero_grads(run->subject.adapter);
    int rc = sl_half_forward(run->half, run->seqs, o->batch, NULL);
    if (rc)
        return rc;
    for (uint32_t b = 0; b < o->batch; b++)
        nll += run->seqs[b].nll;
    run->losses[s] = nll / tokens;
    if (!isfinite(nll)) {
        snprintf(err, err_cap, "the loss is not a finite number at step %u: lower --lr", s);
        return -EINVAL;
    }
    rc = sl_half_backward(run->half, run->seqs, o->batch, NULL);
    if (!rc)
        learn(o, run, tokens, s + 1);
    run->tokens += tokens;
    return rc;
}

static void print_losses(const struct lora_run *run, double seconds, bool json)
{
    double rate = run->tokens / seconds;
    if (!json) {
        printf("%u steps, loss %.6f -> %.6f nats per token, %.0f tokens/s\n", run->done, run->losses[0],
            run->losses[run->done - 1], rate);
        return;
    }
    cJSON *out = cJSON_CreateObject();
    cJSON_AddItemToObject(out, "losses", sl_tuning_losses(run->losses, run->done));
    if (run->optim.proximal > 0)
        cJSON_AddItemToObject(out, "proximal", sl_tuning_losses(run->terms, run->done));
    cJSON_AddNumberToObject(out, "steps", run->done);
    cJSON_AddNumberToObject(out, "tokens_per_s", rate);
    char *text = cJSON_Print(out);
    puts(text ? text : "{}");
    free(text);
    cJSON_Delete(out);
}

static int train(const struct lora_options *o, struct lora_run *run, char *err, size_t err_cap)
{
    struct sl_input input = {0};
    struct sl_window_list windows = {0};
    struct sl_progress progress;
    const struct sl_model_config *config = sl_model_config(run->subject.model);
    int rc = sl_input_read(&o->in, run->subject.tok, config->eos_id, config->vocab, &input, err, err_cap);
    if (!rc)
        rc = sl_window_list_make(&input, o->seq, o->tails, &windows);
    if (!rc && windows.n == 0) {
        snprintf(err, err_cap, "too little text: not one full window of %u tokens (lower --seq)", o->seq);
        rc = -EINVAL;
    }
    sl_gemm_threads((int)o->threads); /* before there is a half */
    if (!rc)
        rc = prepare(o, run, err, err_cap);
    if (!rc)
        sl_gemm_announce(o->threads);
    sl_progress_start(&progress, "lora", "steps");
    while (!rc && run->done < o->steps && !sl_interrupted()) {
        rc = step(o, run, &windows, run->done, err, err_cap);
        run->done += rc == 0;
        if (!rc)
            sl_progress_show(&progress, run->done, o->steps, run->losses[run->done - 1], "loss");
    }
    sl_progress_end(&progress);
    if (!rc && o->out)
        rc = sl_peft_save(run->subject.adapter, config, o->dir, o->out, err, err_cap);
    if (!rc && run->done)
        print_losses(run, sl_progress_seconds(&progress), o->json);
    sl_window_list_free(&windows);
    sl_input_free(&input);
    return rc;
}

static void free_run(struct lora_run *run)
{
    for (uint32_t l = 0; run->moments && l < sl_model_config(run->subject.model)->n_layers; l++)
        sl_moments_free(&run->moments[l]);
    free(run->moments);
    free(run->sum);
    free(run->losses);
    free(run->terms);
    free(run->seqs);
    sl_half_free(run->half);
    sl_subject_free(&run->subject);
}

/* What is wrong with the options, or NULL. */
static const char *check(struct lora_options *o, const struct sl_opt *table)
{
    static const char *const of_new_adapter[] = {"rank", "alpha", "targets", "freeze-a", "seed"};
    const char *wrong = sl_input_check(&o->in);
    if (!wrong)
        wrong = sl_tuning_check(&o->tuning);
    if (!wrong && (uint64_t)o->batch * (o->seq - 1) > UINT32_MAX)
        wrong = "--batch windows of --seq tokens are more than 2^32 rows: lower one of them";
    for (size_t i = 0; i < sizeof of_new_adapter / sizeof *of_new_adapter && !wrong; i++) {
        if (o->adapter_in && sl_cli_given(table, of_new_adapter[i]))
            wrong = "--adapter-in brings its own rank, alpha and targets: leave --rank, --alpha, --targets, "
                    "--freeze-a "
                    "and --seed out";
    }
    return wrong;
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_lora_command;
    struct lora_options o = {.tuning = SL_TUNING_DEFAULTS, .threads = 1, .accumulate = 1};
    struct sl_opt table[] = {
        {"model", SL_OPT_WORD, &o.dir, "DIR", "model directory (Hugging Face layout)", true, 0, 0, 0},
        SL_INPUT_TEXT_OPTS(o.in),
        SL_INPUT_SPLIT_OPT(o.in),
        SL_INPUT_IDS_OPT(o.in),
        {"adapter-in", SL_OPT_WORD, &o.adapter_in, "DIR", "PEFT adapter to go on from", 0, 0, 0, 0},
        {"out", SL_OPT_WORD, &o.out, "DIR", "where the PEFT adapter is written", 0, 0, 0, 0},
        {"steps", SL_OPT_COUNT, &o.steps, "N", "optimiser steps", true, 1, 1e8, 0},
        {"batch", SL_OPT_COUNT, &o.batch, "B", "windows per step", true, 1, 1 << 16, 0},
        {"seq", SL_OPT_COUNT, &o.seq, "T", "tokens per window", true, 2, 1 << 20, 0},
        {"tails", SL_OPT_FLAG, &o.tails, NULL, "also the last, shorter window of a stream", 0, 0, 0, 0},
        SL_TUNING_OPTS(o.tuning),
        SL_PROXIMAL_OPT(o.tuning),
        SL_PRECISION_OPT(o.precision),
        {"accumulate", SL_OPT_COUNT, &o.accumulate, "N", "steps whose gradients make one update (default 1)",
            0, 1, 1 << 16, 0},
        {"threads", SL_OPT_COUNT, &o.threads, "N", "threads of the GEMM library (default 1)", 0, 1, 1024, 0},
        {"json", SL_OPT_FLAG, &o.json, NULL, "print JSON: losses, one per step", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct lora_run state = {0};
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code >= 0)
        goto out;
    o.tuning.schedule.steps = o.steps;
    const char *wrong = check(&o, table);
    if (wrong) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
        goto out;
    }
    sl_interrupt_catch();
    int rc =
        sl_subject_load(o.dir, o.precision, o.adapter_in, o.in.ids == NULL, &state.subject, err, sizeof err);
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
        code = state.done < o.steps ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
out:
    free_run(&state);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_lora_command = {
    .name = "lora",
    .summary = "Fine-tunes with LoRA.\n"
               "Step s takes the full windows s*B ... s*B+B-1 of the text in order, wrapping at its end. No "
               "shuffling,\n"
               "warm-up, clipping or dropout unless asked for. Writes the adapter the way PEFT does.",
    .examples = "  sluice-train lora --model trainer/models/base --text notes.txt --out adapter \\\n"
                "      --steps 60 --batch 8 --seq 128 --lr 3e-3\n"
                "  sluice-train lora --model trainer/models/base --ids runs/last/central.ids --steps 60 "
                "--batch 8 \\\n"
                "      --seq 128 --lr 3e-3 --targets q_proj,v_proj --json\n",
    .run = run,
};
