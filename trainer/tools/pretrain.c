#include "trainer/model/json.h"
#include "trainer/model/optim.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tools/commands.h"
#include "trainer/tools/files.h"
#include "trainer/tools/muon.h"
#include "trainer/tools/order.h"
#include "trainer/tools/run.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON = 64 << 20 }; /* bytes of config.json or tokenizer.json */

struct pretrain_options {
    struct sl_input_options in;
    const char *config, *tokenizer, *out, *log, *optimizer, *dtype, *rate;
    uint32_t steps, stop_after, batch, seq, checkpoint_every, threads;
    double lr, muon_lr, beta1, beta2, weight_decay, clip;
    uint64_t seed;
    bool json;
    struct sl_lr_schedule schedule;
};

/* The state of one training run. */
struct pretrain_run {
    struct sl_model *model;
    struct sl_tokenizer *tok;
    struct sl_input input;
    struct sl_order order;
    struct sl_half *half;
    struct sl_seq *seqs;        /* [batch] */
    struct sl_moments *moments; /* [parameters]; zero where Muon is in charge */
    struct sl_muon *muon;       /* [parameters]; zero elsewhere */
    struct sl_optim_config optim;
    FILE *log;
    double first_loss, loss;
    uint32_t done;
};

static enum sl_dtype dtype_of(const char *name)
{
    return strcmp(name, "f32") == 0 ? SL_DTYPE_F32 : strcmp(name, "f16") == 0 ? SL_DTYPE_F16 : SL_DTYPE_BF16;
}

static int load(const struct pretrain_options *o, struct pretrain_run *run, char *err, size_t err_cap)
{
    char *json;
    size_t len;
    struct sl_model_config config;
    char why[384] = "";
    int rc = sl_read_file(o->config, MAX_JSON, &json, &len, err, err_cap);
    if (rc)
        return rc;
    rc = sl_model_config_parse(json, len, &config, why, sizeof why);
    free(json);
    if (rc) {
        snprintf(err, err_cap, "%s: %s", o->config, why);
        return rc;
    }
    if (o->seq - 1 > config.max_positions) {
        snprintf(
            err, err_cap, "--seq %u is too long: the model has %u positions", o->seq, config.max_positions);
        return -EINVAL;
    }
    rc = sl_input_tokenizer(o->tokenizer, &config, &run->tok, err, err_cap);
    if (!rc)
        rc = sl_input_read(&o->in, run->tok, config.eos_id, config.vocab, &run->input, err, err_cap);
    if (!rc)
        rc = sl_order_create(&run->input, o->seq, o->seed, &run->order, err, err_cap);
    if (!rc)
        rc = sl_model_create(&config, o->seed, &run->model);
    return rc ? rc : sl_model_enable_grads(run->model);
}

/* Muon is for the matrices inside the blocks. */
static bool is_for_muon(const struct pretrain_options *o, const struct sl_param *param)
{
    return strcmp(o->optimizer, "muon") == 0 && param->n_dims == 2 &&
           (strstr(param->name, ".layers.") || strstr(param->name, ".h."));
}

static int prepare(const struct pretrain_options *o, struct pretrain_run *run, char *err, size_t err_cap)
{
    run->optim = (struct sl_optim_config){.kind = strcmp(o->optimizer, "sgd") == 0 ? SL_SGD : SL_ADAMW,
        .lr = (float)o->lr,
        .beta1 = (float)o->beta1,
        .beta2 = (float)o->beta2,
        .eps = 1e-8f};
    uint32_t n_params = sl_model_param_count(run->model);
    run->seqs = calloc(o->batch, sizeof *run->seqs);
    run->moments = calloc(n_params, sizeof *run->moments);
    run->muon = calloc(n_params, sizeof *run->muon);
    if (!run->seqs || !run->moments || !run->muon)
        return -ENOMEM;
    int rc = 0;
    for (uint32_t p = 0; p < n_params && !rc; p++) {
        const struct sl_param *param = sl_model_param(run->model, p);
        rc = is_for_muon(o, param) ? sl_muon_create(param->dims[0], param->dims[1], &run->muon[p])
                                   : sl_moments_create(&run->optim, param->n, &run->moments[p]);
    }
    struct sl_half_config half = {.last = sl_model_config(run->model)->n_layers,
        .max_rows = o->batch * (o->seq - 1),
        .max_seqs = o->batch,
        .full = true};
    sl_gemm_threads((int)o->threads); /* before there is a half */
    if (!rc)
        rc = sl_half_create(run->model, NULL, &half, &run->half);
    if (rc)
        return rc;
    run->log = fopen(o->log, "we");
    if (!run->log) {
        snprintf(err, err_cap, "%s: %s", o->log, strerror(errno));
        return -EIO;
    }
    return 0;
}

/* The model, and the tokenizer beside it, so that the directory is complete after every checkpoint. */
static int save(const struct pretrain_options *o, const struct pretrain_run *run, char *err, size_t err_cap)
{
    int rc = sl_model_save(run->model, o->out, dtype_of(o->dtype), err, err_cap);
    char *to, *json;
    size_t len;
    if (rc || asprintf(&to, "%s/tokenizer.json", o->out) < 0)
        return rc ? rc : -ENOMEM;
    rc = sl_read_file(o->tokenizer, MAX_JSON, &json, &len, err, err_cap);
    if (!rc) {
        rc = sl_file_write(to, json, len, err, err_cap);
        free(json);
    }
    free(to);
    return rc;
}

static int step(
    const struct pretrain_options *o, struct pretrain_run *run, uint32_t s, char *err, size_t err_cap)
{
    for (uint32_t b = 0; b < o->batch; b++) {
        const uint32_t *window = sl_order_next(&run->order);
        if (!window)
            return -ENOMEM;
        run->seqs[b] = sl_seq_of_window(window, o->seq);
    }
    sl_model_zero_grads(run->model);
    int rc = sl_half_forward(run->half, run->seqs, o->batch, NULL);
    if (rc)
        return rc;
    double nll = 0, tokens = (double)o->batch * (o->seq - 1), lr = o->lr * sl_lr_share(&o->schedule, s);
    for (uint32_t b = 0; b < o->batch; b++)
        nll += run->seqs[b].nll;
    if (!isfinite(nll)) {
        snprintf(err, err_cap, "the loss is not a finite number at step %u: lower --lr", s);
        return -EINVAL;
    }
    run->loss = nll / tokens;
    rc = sl_half_backward(run->half, run->seqs, o->batch, NULL);
    for (uint32_t p = 0; p < sl_model_param_count(run->model) && !rc; p++) {
        struct sl_param *param = sl_model_param(run->model, p);
        /* Norm weights and biases are not pulled to zero. */
        float decay = param->n_dims > 1 ? (float)o->weight_decay : 0;
        sl_clip(param->grad, param->n, tokens, o->clip);
        if (run->muon[p].rows) {
            sl_muon_step(
                &run->muon[p], param->data, param->grad, tokens, (float)(lr * o->muon_lr / o->lr), decay);
            continue;
        }
        run->optim.weight_decay = decay;
        sl_optim_step(&run->optim, &run->moments[p], param->data, param->grad, param->n, tokens, (float)lr);
    }
    if (!rc && (fprintf(run->log, "{\"step\": %u, \"loss\": %.6f, \"lr\": %.6g}\n", s, run->loss, lr) < 0 ||
                   fflush(run->log))) {
        snprintf(err, err_cap, "%s: %s", o->log, strerror(errno));
        rc = -EIO;
    }
    return rc;
}

static int train(const struct pretrain_options *o, struct pretrain_run *run, char *err, size_t err_cap)
{
    uint32_t until = o->stop_after && o->stop_after < o->steps ? o->stop_after : o->steps, saved = 0;
    struct sl_progress progress;
    int rc = 0;
    sl_gemm_announce(o->threads);
    sl_progress_start(&progress, "pretrain", "steps");
    while (!rc && run->done < until && !sl_interrupted()) {
        rc = step(o, run, run->done, err, err_cap);
        if (rc)
            break;
        run->first_loss = run->done++ == 0 ? run->loss : run->first_loss;
        sl_progress_show(&progress, run->done, until, run->loss, "loss");
        if (o->checkpoint_every && run->done % o->checkpoint_every == 0) {
            rc = save(o, run, err, err_cap);
            saved = run->done;
        }
    }
    sl_progress_end(&progress);
    if (!rc && saved < run->done)
        rc = save(o, run, err, err_cap);
    if (rc || !run->done)
        return rc;
    double rate = run->done * (double)o->batch * (o->seq - 1) / sl_progress_seconds(&progress);
    const char *format =
        o->json ? "{\"steps\": %u, \"first_loss\": %.6f, \"last_loss\": %.6f, \"tokens_per_s\": %.1f}\n"
                : "%u steps, loss %.4f -> %.4f nats per token, %.0f tokens/s\n";
    printf(format, run->done, run->first_loss, run->loss, rate);
    return 0;
}

static void free_run(struct pretrain_run *run)
{
    for (uint32_t p = 0; run->muon && p < sl_model_param_count(run->model); p++) {
        sl_moments_free(&run->moments[p]);
        sl_muon_free(&run->muon[p]);
    }
    if (run->log)
        fclose(run->log);
    free(run->moments);
    free(run->muon);
    free(run->seqs);
    sl_half_free(run->half);
    sl_order_free(&run->order);
    sl_input_free(&run->input);
    sl_tokenizer_free(run->tok);
    sl_model_free(run->model);
}

static const char *check(struct pretrain_options *o)
{
    const char *wrong = sl_input_check(&o->in);
    if (!wrong)
        wrong = sl_schedule_check(o->rate, &o->schedule);
    if (!wrong && strcmp(o->optimizer, "adamw") && strcmp(o->optimizer, "sgd") &&
        strcmp(o->optimizer, "muon"))
        wrong = "--optimizer is adamw, sgd or muon";
    if (!wrong && strcmp(o->dtype, "f32") && strcmp(o->dtype, "f16") && strcmp(o->dtype, "bf16"))
        wrong = "--dtype is f32, f16 or bf16";
    return wrong;
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_pretrain_command;
    struct pretrain_options o = {.in = {.split = "train"},
        .optimizer = "adamw",
        .dtype = "bf16",
        .beta1 = 0.9,
        .beta2 = 0.999,
        .threads = 1,
        .rate = "constant"};
    struct sl_opt table[] = {
        {"config", SL_OPT_WORD, &o.config, "FILE", "the model's shape: a Hugging Face config.json", true, 0,
            0, 0},
        {"tokenizer", SL_OPT_WORD, &o.tokenizer, "FILE", "tokenizer.json", true, 0, 0, 0},
        SL_INPUT_TEXT_OPTS(o.in),
        {"out", SL_OPT_WORD, &o.out, "DIR", "where the model is written", true, 0, 0, 0},
        {"log", SL_OPT_WORD, &o.log, "FILE", "loss and rate of every step, one JSON object a line", true, 0,
            0, 0},
        {"steps", SL_OPT_COUNT, &o.steps, "N", "optimiser steps of the whole schedule", true, 1, 1e8, 0},
        {"stop-after", SL_OPT_COUNT, &o.stop_after, "N", "stop early, with the schedule as it is", 0, 1, 1e8,
            0},
        {"batch", SL_OPT_COUNT, &o.batch, "B", "windows per step", true, 1, 1 << 16, 0},
        {"seq", SL_OPT_COUNT, &o.seq, "T", "tokens per window", true, 2, 1 << 20, 0},
        {"lr", SL_OPT_NUMBER, &o.lr, "X", "highest learning rate", true, 0, 1e6, 0},
        {"schedule", SL_OPT_WORD, &o.rate, "NAME", "constant (default), linear or cosine", 0, 0, 0, 0},
        {"warmup", SL_OPT_COUNT, &o.schedule.warmup, "N", "steps of rising rate (default 0)", 0, 0, 1e8, 0},
        {"min-lr", SL_OPT_NUMBER, &o.schedule.floor, "X", "last rate as a share of --lr (default 0)", 0, 0, 1,
            0},
        {"optimizer", SL_OPT_WORD, &o.optimizer, "NAME", "adamw (default), sgd or muon", 0, 0, 0, 0},
        {"muon-lr", SL_OPT_NUMBER, &o.muon_lr, "X", "highest rate of Muon's matrices (default --lr)", 0, 0,
            1e6, 0},
        {"beta1", SL_OPT_NUMBER, &o.beta1, "X", "AdamW (default 0.9)", 0, 0, 0.999999, 0},
        {"beta2", SL_OPT_NUMBER, &o.beta2, "X", "AdamW (default 0.999)", 0, 0, 0.999999, 0},
        {"weight-decay", SL_OPT_NUMBER, &o.weight_decay, "X", "of matrices, decoupled (default 0)", 0, 0, 1e6,
            0},
        {"clip", SL_OPT_NUMBER, &o.clip, "X", "gradient norm per tensor (default 0: none)", 0, 0, 1e6, 0},
        {"seed", SL_OPT_SEED, &o.seed, "S", "of the weights and of the order of windows (default 0)", 0, 0, 0,
            0},
        {"checkpoint-every", SL_OPT_COUNT, &o.checkpoint_every, "N", "write the model every N steps", 0, 1,
            1e8, 0},
        {"dtype", SL_OPT_WORD, &o.dtype, "NAME", "of the file: bf16 (default), f16 or f32", 0, 0, 0, 0},
        {"threads", SL_OPT_COUNT, &o.threads, "N", "threads of the GEMM library (default 1)", 0, 1, 1024, 0},
        {"json", SL_OPT_FLAG, &o.json, NULL, "print JSON", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct pretrain_run state = {0};
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code >= 0)
        goto out;
    o.schedule.steps = o.steps;
    if (!sl_cli_given(table, "muon-lr"))
        o.muon_lr = o.lr;
    const char *wrong = check(&o);
    if (wrong) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
        goto out;
    }
    sl_interrupt_catch();
    int rc = load(&o, &state, err, sizeof err);
    if (!rc)
        rc = prepare(&o, &state, err, sizeof err);
    if (!rc)
        rc = train(&o, &state, err, sizeof err);
    if (rc)
        code = sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc));
    else
        code = sl_interrupted() ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
out:
    free_run(&state);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_pretrain_command = {
    .name = "pretrain",
    .summary = "Trains every parameter of a new model.\n"
               "Windows of all files are shuffled by the seed, anew in every pass, and start at another "
               "offset in every\n"
               "pass. With --held-out X that share of the records is not read. What is written is a Hugging "
               "Face model\n"
               "directory with config.json, model.safetensors and tokenizer.json.",
    .examples =
        "  sluice-train pretrain --config config.json --tokenizer tokenizer.json --text books/*.txt "
        "--held-out 0.1 \\\n"
        "      --out model --log model/pretrain.log --steps 3000 --batch 8 --seq 256 --lr 3e-3 \\\n"
        "      --schedule cosine --warmup 100 --beta2 0.95 --weight-decay 0.1 --checkpoint-every 500\n",
    .run = run,
};
