#include "trainer/tensor/gemm.h"
#include "trainer/tools/commands.h"
#include "trainer/tools/run.h"
#include "trainer/tools/subject.h"

#include "trainer/tensor/rng.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct generate_options {
    const char *dir, *adapter, *prompt;
    uint32_t tokens, threads;
    double temperature;
    uint64_t seed;
    bool greedy, json;
};

/* The text so far, as ids; the model sees the last `context` of them. */
struct text {
    uint32_t *ids;
    size_t n, prompt;
};

static uint32_t choose(const float *logits, uint32_t vocab, const struct generate_options *o, uint64_t draw)
{
    uint32_t best = 0;
    for (uint32_t v = 1; v < vocab; v++) {
        if (logits[v] > logits[best])
            best = v;
    }
    if (o->greedy || o->temperature <= 0)
        return best;
    double sum = 0, at = 0,
           target = (double)(sl_rng_u64(sl_rng_key(o->seed, "generate"), draw) >> 11) * 0x1p-53;
    for (uint32_t v = 0; v < vocab; v++)
        sum += exp((logits[v] - logits[best]) / o->temperature);
    for (uint32_t v = 0; v < vocab; v++) {
        at += exp((logits[v] - logits[best]) / o->temperature) / sum;
        if (at > target)
            return v;
    }
    return best;
}

static int start_text(const struct sl_subject *subject, const struct generate_options *o, struct text *text)
{
    const struct sl_model_config *config = sl_model_config(subject->model);
    uint32_t *ids;
    size_t n;
    int32_t bos = sl_tokenizer_bos(subject->tok);
    int rc = sl_tokenizer_encode(subject->tok, o->prompt, strlen(o->prompt), &ids, &n);
    if (rc)
        return rc;
    if (bos < 0 && n == 0) /* something has to come first */
        bos = config->bos_id >= 0 ? config->bos_id : config->eos_id >= 0 ? config->eos_id : 0;
    text->ids = malloc((n + 1 + o->tokens) * sizeof *text->ids);
    if (text->ids) {
        if (bos >= 0)
            text->ids[text->n++] = (uint32_t)bos;
        if (n)
            memcpy(text->ids + text->n, ids, n * sizeof *ids);
        text->n += n;
        text->prompt = text->n;
    }
    free(ids);
    return text->ids ? 0 : -ENOMEM;
}

/* Every token runs the whole window again: the models are small, and training has no use for a cache. */
static int continue_text(
    const struct sl_subject *subject, const struct generate_options *o, struct text *text)
{
    enum { CONTEXT = 512 };
    const struct sl_model_config *config = sl_model_config(subject->model);
    uint32_t context = config->max_positions < CONTEXT ? config->max_positions : CONTEXT;
    struct sl_half_config cfg = {
        .last = config->n_layers, .max_rows = context, .max_seqs = 1, .inference = true};
    struct sl_half *half = NULL;
    float *logits = malloc((size_t)context * config->vocab * sizeof *logits);
    struct sl_progress progress;
    sl_gemm_threads((int)o->threads); /* before there is a half */
    int rc = logits ? sl_half_create(subject->model, subject->adapter, &cfg, &half) : -ENOMEM;
    if (!rc)
        sl_gemm_announce(o->threads);
    sl_progress_start(&progress, "generate", "tokens");
    for (uint32_t t = 0; t < o->tokens && !rc && !sl_interrupted(); t++) {
        uint32_t rows = text->n < context ? (uint32_t)text->n : context;
        const uint32_t *window = text->ids + text->n - rows;
        /* The loss is not wanted, so any ids serve as targets. */
        struct sl_seq seq = {.len = rows, .ids = window, .targets = window};
        rc = sl_half_forward(half, &seq, 1, NULL);
        if (!rc)
            rc = sl_half_logits(half, logits);
        if (rc)
            break;
        uint32_t next = choose(logits + (size_t)(rows - 1) * config->vocab, config->vocab, o, t);
        if ((int32_t)next == config->eos_id || next >= sl_tokenizer_vocab(subject->tok))
            break;
        text->ids[text->n++] = next;
        sl_progress_show(&progress, t + 1, o->tokens, sl_progress_seconds(&progress), "seconds");
    }
    sl_progress_end(&progress);
    sl_half_free(half);
    free(logits);
    return rc;
}

static int print_text(
    const struct sl_subject *subject, const struct generate_options *o, const struct text *text)
{
    char *words;
    size_t len;
    int rc =
        sl_tokenizer_decode(subject->tok, text->ids + text->prompt, text->n - text->prompt, &words, &len);
    if (rc)
        return rc;
    if (o->json) {
        cJSON *out = cJSON_CreateObject();
        cJSON_AddStringToObject(out, "prompt", o->prompt);
        cJSON_AddStringToObject(out, "text", words);
        cJSON *ids = cJSON_AddArrayToObject(out, "ids");
        for (size_t i = text->prompt; i < text->n; i++)
            cJSON_AddItemToArray(ids, cJSON_CreateNumber(text->ids[i]));
        char *json = cJSON_PrintUnformatted(out);
        puts(json ? json : "{}");
        free(json);
        cJSON_Delete(out);
    } else {
        printf("%s%s\n", o->prompt, words);
    }
    free(words);
    return 0;
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_generate_command;
    struct generate_options o = {.tokens = 64, .threads = 1, .temperature = 0.8};
    struct sl_opt table[] = {
        {"model", SL_OPT_WORD, &o.dir, "DIR", "model directory (Hugging Face layout)", true, 0, 0, 0},
        {"adapter", SL_OPT_WORD, &o.adapter, "DIR", "PEFT adapter", 0, 0, 0, 0},
        {"prompt", SL_OPT_WORD, &o.prompt, "TEXT", "what the text begins with", true, 0, 0, 0},
        {"tokens", SL_OPT_COUNT, &o.tokens, "N", "at most so many more (default 64)", 0, 1, 1 << 20, 0},
        {"greedy", SL_OPT_FLAG, &o.greedy, NULL, "always the likeliest token", 0, 0, 0, 0},
        {"temperature", SL_OPT_NUMBER, &o.temperature, "X", "of sampling (default 0.8)", 0, 0, 100, 0},
        {"seed", SL_OPT_SEED, &o.seed, "S", "of sampling (default 0)", 0, 0, 0, 0},
        {"threads", SL_OPT_COUNT, &o.threads, "N", "threads of the GEMM library (default 1)", 0, 1, 1024, 0},
        {"json", SL_OPT_FLAG, &o.json, NULL, "print JSON", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct sl_subject subject = {0};
    struct text text = {0};
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code < 0) {
        sl_interrupt_catch();
        int rc = sl_subject_load(o.dir, NULL, o.adapter, true, &subject, err, sizeof err);
        if (!rc)
            rc = start_text(&subject, &o, &text);
        if (!rc)
            rc = continue_text(&subject, &o, &text);
        if (!rc)
            rc = print_text(&subject, &o, &text);
        if (rc)
            code = sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc));
        else
            code = sl_interrupted() ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
    }
    free(text.ids);
    sl_subject_free(&subject);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_generate_command = {
    .name = "generate",
    .summary = "Continues a text.\nStops at the model's end token.",
    .examples = "  sluice-train generate --model trainer/models/base --prompt \"In the beginning\" --greedy\n"
                "  sluice-train generate --model trainer/models/base --adapter runs/last/adapters/global "
                "--prompt \"\" \\\n"
                "      --tokens 100 --temperature 0.7 --seed 3\n",
    .run = run,
};
