#include "trainer/tools/commands.h"
#include "trainer/tools/run.h"
#include "trainer/tools/subject.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of one forward pass: enough for the GEMMs to run at speed, few enough to stay near the caches. */
enum { ROWS_AT_ONCE = 1024 };

struct score {
    double nll; /* sum, nats */
    size_t tokens;
};

/* Forward over all windows, in batches. */
static int score_windows(const struct sl_subject *subject, const struct sl_window_list *windows, uint32_t seq,
    struct sl_progress *progress, struct score *score)
{
    uint32_t batch = seq - 1 < ROWS_AT_ONCE ? ROWS_AT_ONCE / (seq - 1) : 1;
    struct sl_half_config cfg = {.last = sl_model_config(subject->model)->n_layers,
        .max_rows = batch * (seq - 1),
        .max_seqs = batch,
        .inference = true};
    struct sl_half *half = NULL;
    struct sl_seq *seqs = calloc(batch, sizeof *seqs);
    int rc = seqs ? sl_half_create(subject->model, subject->adapter, &cfg, &half) : -ENOMEM;
    for (size_t i = 0; i < windows->n && !rc && !sl_interrupted();) {
        uint32_t n = 0;
        for (; n < batch && i < windows->n; n++, i++)
            seqs[n] = sl_seq_of_window(windows->at[i], windows->len[i]);
        rc = sl_half_forward(half, seqs, n, NULL);
        for (uint32_t s = 0; s < n && !rc; s++) {
            score->nll += seqs[s].nll;
            score->tokens += seqs[s].len;
        }
        sl_progress_show(
            progress, i, windows->n, score->nll / (double)(score->tokens ? score->tokens : 1), "nll");
    }
    sl_half_free(half);
    free(seqs);
    return rc;
}

static void print_score(const struct score *score, const struct sl_input *input, double seconds, bool json)
{
    double nll = score->nll / (double)score->tokens, bits = 0;
    if (input->text_bytes) {
        size_t stream_tokens = 0;
        for (size_t s = 0; s < input->n_streams; s++)
            stream_tokens += input->streams[s].n;
        bits = nll / M_LN2 * (double)stream_tokens / (double)input->text_bytes;
    }
    if (!json) {
        printf("nll %.6f nats per token over %zu tokens (perplexity %.3f)", nll, score->tokens, exp(nll));
        if (input->text_bytes)
            printf(", %.4f bits per byte", bits);
        printf(", %.0f tokens/s\n", (double)score->tokens / seconds);
        return;
    }
    cJSON *out = cJSON_CreateObject();
    cJSON_AddNumberToObject(out, "nll", nll);
    cJSON_AddNumberToObject(out, "tokens", (double)score->tokens);
    cJSON_AddNumberToObject(out, "perplexity", exp(nll));
    if (input->text_bytes) {
        cJSON_AddNumberToObject(out, "text_bytes", (double)input->text_bytes);
        cJSON_AddNumberToObject(out, "bits_per_byte", bits);
    }
    cJSON_AddNumberToObject(out, "tokens_per_s", (double)score->tokens / seconds);
    char *text = cJSON_Print(out);
    puts(text ? text : "{}");
    free(text);
    cJSON_Delete(out);
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_eval_command;
    struct sl_input_options in = {0};
    const char *dir = NULL, *precision = NULL, *adapter = NULL;
    uint32_t seq = 128, threads = 1;
    bool json = false;
    struct sl_opt table[] = {
        {"model", SL_OPT_WORD, &dir, "DIR", "model directory (Hugging Face layout)", true, 0, 0, 0},
        SL_INPUT_TEXT_OPTS(in),
        SL_INPUT_SPLIT_OPT(in),
        SL_INPUT_IDS_OPT(in),
        {"adapter", SL_OPT_WORD, &adapter, "DIR", "PEFT adapter", 0, 0, 0, 0},
        {"seq", SL_OPT_COUNT, &seq, "T", "tokens per window (default 128)", 0, 2, 1 << 20, 0},
        SL_PRECISION_OPT(precision),
        {"threads", SL_OPT_COUNT, &threads, "N", "threads of the GEMM library (default 1)", 0, 1, 1024, 0},
        {"json", SL_OPT_FLAG, &json, NULL, "print JSON", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct sl_subject subject = {0};
    struct sl_input input = {0};
    struct sl_window_list windows = {0};
    struct score score = {0};
    struct sl_progress progress;
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code >= 0)
        goto out;
    const char *wrong = sl_input_check(&in);
    if (wrong) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
        goto out;
    }
    code = SL_EXIT_FAILED;
    sl_interrupt_catch();
    int rc = sl_subject_load(dir, precision, adapter, in.ids == NULL, &subject, err, sizeof err);
    const struct sl_model_config *config = rc ? NULL : sl_model_config(subject.model);
    if (!rc && seq - 1 > config->max_positions) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "--seq %u is too long: the model has %u positions", seq,
            config->max_positions);
        goto out;
    }
    if (!rc)
        rc = sl_input_read(&in, subject.tok, config->eos_id, config->vocab, &input, err, sizeof err);
    if (!rc)
        rc = sl_window_list_make(&input, seq, true, &windows);
    if (!rc && windows.n == 0) {
        snprintf(err, sizeof err, "too little text: no window of at least 2 tokens");
        rc = -EINVAL;
    }
    sl_progress_start(&progress, "eval", "windows");
    if (!rc)
        sl_gemm_announce(threads);
    if (!rc)
        rc = score_windows(&subject, &windows, seq, &progress, &score);
    sl_progress_end(&progress);
    if (!rc && !isfinite(score.nll)) {
        snprintf(err, sizeof err, "the loss is not a finite number: the weights or the adapter are broken");
        rc = -EINVAL;
    }
    if (rc)
        sl_cli_fail(cmd, code, "%s", err[0] ? err : strerror(-rc));
    else if (score.tokens)
        print_score(&score, &input, sl_progress_seconds(&progress), json);
    if (!rc)
        code = sl_interrupted() ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
out:
    sl_window_list_free(&windows);
    sl_input_free(&input);
    sl_subject_free(&subject);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_eval_command = {
    .name = "eval",
    .summary = "Scores text: mean nats per predicted token.\n"
               "The token stream is cut into consecutive windows of --seq tokens; each predicts its tokens "
               "from those\n"
               "before it in the window. A last window of at least 2 tokens counts. bits_per_byte spreads "
               "the mean over\n"
               "all tokens of the text, record ends included.",
    .examples = "  sluice-train eval --model trainer/models/base --text notes.txt\n"
                "  sluice-train eval --model trainer/models/base --adapter runs/last/adapters/global \\\n"
                "      --ids runs/last/heldout.ids --json\n",
    .run = run,
};
