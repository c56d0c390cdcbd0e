/* sluice-train stability: how much one sample of the data set changes the trained model (rules P7, P1). */
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/rng.h"
#include "trainer/tools/commands.h"
#include "trainer/tools/replace_one.h"
#include "trainer/tools/run.h"
#include "trainer/tools/stability_report.h"
#include "trainer/tools/subject.h"
#include "trainer/tools/tuning.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LIST = 64,      /* values of --k, of --fraction */
    SWAPS_OF_A_SET = 5, /* at most, where --repeats allows: more data sets tell more than more swaps of one */
    SWAPS_IN_A_BATCH = 8
};
static const double CUT_TOLERANCE = 1e-6; /* nats per token, in f32 */

struct stability_options {
    struct sl_input_options in;
    struct sl_tuning_options tuning;
    const char *dir, *precision, *k_list, *fraction_list, *csv;
    uint32_t repeats, steps, batch, seq, together, threads;
    bool json;
    uint32_t k[MAX_LIST], n_k, k_max;
    double fraction[MAX_LIST];
    uint32_t n_fractions;
    uint32_t swaps; /* of a data set */
};

struct stability_run {
    struct sl_subject subject;
    struct sl_input input;
    struct sl_window_list windows;
    struct sl_replace_config config;
    struct sl_replace *bench;
    struct sl_stability result;
    struct sl_swap *swaps;    /* [cells, swaps + 1] of the present set; the last: S against S */
    const uint32_t **samples; /* [k_max + swaps]: S, then the replacements */
    uint32_t *order, *place;  /* [steps * batch]; [k_max] of one pass */
    double *losses;           /* [steps] */
    FILE *csv;
    struct sl_progress progress;
};

/* "16,32": what is wrong with it, or NULL. */
static const char *read_list(
    const char *text, double min, double max, const char *wrong, double *list, uint32_t *n)
{
    for (*n = 0; *n < MAX_LIST;) {
        char *end;
        double v = strtod(text, &end);
        if (end == text || !(v >= min && v <= max))
            return wrong;
        list[(*n)++] = v;
        if (*end == '\0')
            return NULL;
        if (*end != ',')
            return wrong;
        text = end + 1;
    }
    return "more than 64 values in one list";
}

/* What is wrong with the options, or NULL. */
static const char *check(struct stability_options *o)
{
    static const char *const wrong_k = "--k takes whole numbers from 1 up to 1000000, as in 16,32,64";
    double k[MAX_LIST];
    const char *wrong = sl_input_check(&o->in);
    if (!wrong)
        wrong = sl_tuning_check(&o->tuning);
    if (!wrong)
        wrong = read_list(o->k_list, 1, 1e6, wrong_k, k, &o->n_k);
    if (!wrong)
        wrong = read_list(o->fraction_list, 1e-9, 1,
            "--fraction takes shares of the blocks above 0 and at most 1, as in 0.25,0.5", o->fraction,
            &o->n_fractions);
    for (uint32_t i = 0; i < o->n_k && !wrong; i++) {
        o->k[i] = (uint32_t)k[i];
        if (o->k[i] != k[i])
            wrong = wrong_k;
        o->k_max = o->k[i] > o->k_max ? o->k[i] : o->k_max;
        for (uint32_t j = 0; j < i && !wrong; j++)
            wrong = o->k[i] == o->k[j] ? "--k names the same number twice" : NULL;
    }
    uint32_t share = o->repeats / SL_SLOPES_MIN_SETS;
    o->swaps = share < SWAPS_OF_A_SET ? share : SWAPS_OF_A_SET;
    return wrong;
}

static int make_cells(const struct stability_options *o, struct sl_stability *s, char *err, size_t err_cap)
{
    s->cells = calloc((size_t)o->n_k * o->n_fractions, sizeof *s->cells);
    if (!s->cells)
        return -ENOMEM;
    for (uint32_t f = 0; f < o->n_fractions; f++) {
        uint32_t blocks = (uint32_t)ceil(o->fraction[f] * s->layers - 1e-9);
        for (uint32_t g = 0; g < f; g++) {
            if (s->cells[g * o->n_k].blocks != blocks)
                continue;
            snprintf(err, err_cap, "--fraction %g and %g are both %u of the model's %u blocks: leave one out",
                o->fraction[g], o->fraction[f], blocks, s->layers);
            return -EINVAL;
        }
        for (uint32_t i = 0; i < o->n_k; i++)
            s->cells[s->n_cells++] =
                (struct sl_stability_cell){.k = o->k[i], .blocks = blocks, .fraction = o->fraction[f]};
    }
    return 0;
}

static int prepare(const struct stability_options *o, struct stability_run *run, char *err, size_t err_cap)
{
    struct sl_stability *s = &run->result;
    const struct sl_model_config *model = sl_model_config(run->subject.model);
    s->sets = (o->repeats + o->swaps - 1) / o->swaps;
    int rc = make_cells(o, s, err, err_cap);
    if (rc)
        return rc;
    size_t need = (size_t)o->k_max + o->swaps;
    if (run->windows.n < need) {
        if (run->windows.n > o->swaps)
            snprintf(err, err_cap,
                "too little text: %zu windows of %u tokens, and --k %u needs %zu with its replacements; "
                "--k can be %zu at most (or lower --seq)",
                run->windows.n, o->seq, o->k_max, need, run->windows.n - o->swaps);
        else
            snprintf(err, err_cap,
                "too little text: %zu windows of %u tokens, and no --k has enough (lower --seq)",
                run->windows.n, o->seq);
        return -EINVAL;
    }
    rc = sl_tuning_adapter(&o->tuning, model, &run->subject.adapter, err, err_cap); /* for its shape */
    if (rc)
        return rc;
    uint32_t together = o->swaps + 1 < o->together ? o->swaps + 1 : o->together;
    run->config = (struct sl_replace_config){.model = run->subject.model,
        .lora = *sl_adapter_lora(run->subject.adapter),
        .optim = sl_tuning_optimiser(&o->tuning),
        .steps = o->steps,
        .batch = o->batch,
        .seq = o->seq,
        .swaps = together,
        .stop = sl_interrupted};
    size_t places = (size_t)o->steps * o->batch;
    s->sum = calloc((size_t)s->sets * s->n_cells, sizeof *s->sum);
    s->swaps = calloc(s->sets, sizeof *s->swaps);
    s->fall = calloc(s->n_cells, sizeof *s->fall);
    run->swaps = calloc((size_t)s->n_cells * (o->swaps + 1), sizeof *run->swaps);
    run->samples = calloc(need, sizeof *run->samples);
    run->order = calloc(places, sizeof *run->order);
    run->place = calloc(o->k_max, sizeof *run->place);
    run->losses = calloc(o->steps, sizeof *run->losses);
    if (!s->sum || !s->swaps || !s->fall || !run->swaps || !run->samples || !run->order || !run->place ||
        !run->losses)
        return -ENOMEM;
    return sl_replace_create(&run->config, &run->bench, err, err_cap);
}

/* The seed of data set number `set`, and of its training. */
static uint64_t seed_of(const struct stability_options *o, uint32_t set)
{
    return sl_rng_u64(sl_rng_key(o->tuning.seed, "set"), set);
}

/* k_max + swaps different windows, in an order of the set's own (Fisher-Yates, the part that is asked for).
 * S of size k is the first k of them, so that the sets of all cells are nested and their places hold the same
 * swaps. */
static int draw_samples(const struct stability_options *o, struct stability_run *run, uint32_t set)
{
    uint64_t key = sl_rng_key(seed_of(o, set), "samples");
    size_t n = run->windows.n, need = (size_t)o->k_max + o->swaps;
    const uint32_t **all = malloc(n * sizeof *all);
    if (!all)
        return -ENOMEM;
    memcpy(all, run->windows.at, n * sizeof *all);
    for (size_t i = 0; i < need; i++) {
        size_t j = i + sl_rng_u64(key, i) % (n - i);
        run->samples[i] = all[j];
        all[j] = all[i];
    }
    free(all);
    return 0;
}

/* Pass after pass over the k places, each in an order of its own: from the seed alone (rules P7). */
static void draw_order(const struct stability_options *o, struct stability_run *run, uint32_t set, uint32_t k)
{
    uint64_t key = sl_rng_key(seed_of(o, set) + k, "order");
    size_t n = (size_t)o->steps * o->batch;
    for (size_t from = 0; from < n; from += k) {
        for (uint32_t i = 0; i < k; i++) {
            uint32_t j = (uint32_t)(sl_rng_u64(key, from + i) % (i + 1));
            run->place[i] = run->place[j];
            run->place[j] = i;
        }
        for (uint32_t i = 0; i < k && from + i < n; i++)
            run->order[from + i] = run->place[i];
    }
}

static struct sl_replace_job job_of(
    const struct stability_options *o, struct stability_run *run, uint32_t set, uint32_t k, uint32_t blocks)
{
    draw_order(o, run, set, k);
    return (struct sl_replace_job){.windows = run->samples,
        .k = k,
        .blocks = blocks,
        .order = run->order,
        .seed = seed_of(o, set),
        .proximal = o->tuning.proximal_mu * (1 - (double)blocks / run->result.layers),
        .losses = run->losses};
}

static void make_swaps(const struct stability_options *o, const struct stability_run *run, uint32_t k,
    uint32_t n, struct sl_swap *swaps)
{
    for (uint32_t i = 0; i < n; i++)
        swaps[i] = (struct sl_swap){.place = i % k, .other = run->samples[o->k_max + i]};
}

/* The swaps of one data set in one cell; of the first data set also S against S, trained by itself. */
static int measure_cell(const struct stability_options *o, struct stability_run *run, uint32_t set,
    uint32_t c, uint32_t n_swaps, char *err, size_t err_cap)
{
    struct sl_stability *s = &run->result;
    const struct sl_stability_cell *cell = &s->cells[c];
    struct sl_swap *swaps = run->swaps + (size_t)c * (o->swaps + 1);
    struct sl_replace_job job = job_of(o, run, set, cell->k, cell->blocks);

    make_swaps(o, run, cell->k, n_swaps, swaps);
    job.swaps = swaps;
    job.n_swaps = n_swaps;
    if (set == 0)
        swaps[job.n_swaps++] = (struct sl_swap){.other = run->samples[0], .from_start = true};
    int rc = sl_replace_run(run->bench, &job, err, err_cap);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n_swaps; i++)
        s->sum[(size_t)set * s->n_cells + c] += sl_swap_difference(&swaps[i]);
    s->fall[c] += run->losses[0] - run->losses[o->steps - 1];
    if (set > 0)
        return 0;
    s->self_checks++;
    double apart = sl_swap_difference(&swaps[n_swaps]);
    if (apart == 0)
        return 0;
    snprintf(err, err_cap,
        "S against S is %g apart, not 0 (k %u, %u blocks): training does not repeat itself", apart, cell->k,
        cell->blocks);
    return -EIO;
}

static void write_csv(const struct stability_options *o, struct stability_run *run, uint32_t set)
{
    const struct sl_stability *s = &run->result;
    for (uint32_t c = 0; run->csv && c < s->n_cells; c++) {
        for (uint32_t i = 0; i < s->swaps[set]; i++) {
            const struct sl_swap *w = &run->swaps[(size_t)c * (o->swaps + 1) + i];
            fprintf(run->csv, "%u,%g,%u,%u,%u,%.9g,%.9g,%.9g,%.9g\n", s->cells[c].k, s->cells[c].fraction,
                s->cells[c].blocks, set, w->place, w->by_set[0], w->by_swap[0], w->by_set[1], w->by_swap[1]);
        }
    }
    if (run->csv)
        fflush(run->csv);
}

/* Sets in turn, each in every cell: whenever it ends, all cells have the same sets. */
static int measure(const struct stability_options *o, struct stability_run *run, char *err, size_t err_cap)
{
    struct sl_stability *s = &run->result;
    uint32_t all = s->sets * s->n_cells, left = o->repeats;
    int rc = 0;
    for (uint32_t set = 0; set < s->sets && !rc; set++) {
        uint32_t n_swaps = left < o->swaps ? left : o->swaps;
        rc = draw_samples(o, run, set);
        for (uint32_t c = 0; c < s->n_cells && !rc; c++) {
            rc = measure_cell(o, run, set, c, n_swaps, err, err_cap);
            if (!rc)
                sl_progress_show(&run->progress, (size_t)set * s->n_cells + c + 1, all,
                    s->sum[(size_t)set * s->n_cells + c] / n_swaps, "beta");
        }
        if (rc)
            break;
        s->swaps[set] = n_swaps;
        s->swaps_done += n_swaps;
        s->sets_done++;
        left -= n_swaps;
        write_csv(o, run, set);
    }
    return rc;
}

/* The first data set with LoRA in all blocks, whole and in two halves: the cut alone changes nothing (P1). */
static int check_cuts(const struct stability_options *o, struct stability_run *run, char *err, size_t err_cap)
{
    struct sl_stability_cuts *cuts = &run->result.cuts;
    uint32_t layers = run->result.layers;
    const uint32_t tried[1 + SL_STABILITY_CUTS] = {0, 1, layers / 2, layers - 1};
    double *whole = calloc(o->steps, sizeof *whole);
    struct sl_swap first = {0};
    int rc = whole ? draw_samples(o, run, 0) : -ENOMEM;

    cuts->steps = o->steps;
    cuts->swaps = 1;
    for (uint32_t i = 0; i <= SL_STABILITY_CUTS && !rc && layers > 1; i++) {
        if (i > 1 && tried[i] <= tried[i - 1])
            continue;
        struct sl_replace_config config = run->config;
        config.cut = tried[i];
        config.swaps = 1;
        struct sl_swap swap;
        make_swaps(o, run, o->k[0], 1, &swap);
        struct sl_replace_job job = job_of(o, run, 0, o->k[0], layers);
        job.swaps = &swap;
        job.n_swaps = 1;
        struct sl_replace *bench = NULL;
        rc = sl_replace_create(&config, &bench, err, err_cap);
        if (!rc)
            rc = sl_replace_run(bench, &job, err, err_cap);
        sl_replace_free(bench);
        if (rc)
            break;
        if (i == 0) {
            memcpy(whole, run->losses, o->steps * sizeof *whole);
            first = swap;
            continue;
        }
        cuts->cut[cuts->n++] = tried[i];
        for (uint32_t t = 0; t < o->steps; t++)
            cuts->loss_apart = fmax(cuts->loss_apart, fabs(run->losses[t] - whole[t]));
        cuts->beta_apart =
            fmax(cuts->beta_apart, fabs(sl_swap_difference(&swap) - sl_swap_difference(&first)));
    }
    free(whole);
    bool f32 = sl_model_precision(run->subject.model) == SL_PRECISION_F32;
    if (!rc && f32 && fmax(cuts->loss_apart, cuts->beta_apart) > CUT_TOLERANCE) {
        snprintf(err, err_cap,
            "the cut alone changes the losses by %g and the swap by %g: it must change nothing",
            cuts->loss_apart, cuts->beta_apart);
        rc = -EIO;
    }
    return rc;
}

static int open_csv(const struct stability_options *o, struct stability_run *run, char *err, size_t err_cap)
{
    if (!o->csv)
        return 0;
    run->csv = fopen(o->csv, "w");
    if (!run->csv) {
        int rc = -errno;
        snprintf(err, err_cap, "%s: %s", o->csv, strerror(errno));
        return rc;
    }
    fputs(
        "k,fraction,blocks,set,place,removed_by_set,removed_by_swap,added_by_set,added_by_swap\n", run->csv);
    return 0;
}

static int work(const struct stability_options *o, struct stability_run *run, char *err, size_t err_cap)
{
    const struct sl_model_config *config = sl_model_config(run->subject.model);
    struct sl_stability *s = &run->result;
    *s = (struct sl_stability){.layers = config->n_layers,
        .steps = o->steps,
        .batch = o->batch,
        .seq = o->seq,
        .model = o->dir,
        .optimizer = o->tuning.optimizer,
        .precision = sl_precision_name(sl_model_precision(run->subject.model)),
        .lr = o->tuning.lr,
        .proximal_mu = o->tuning.proximal_mu,
        .seed = o->tuning.seed};
    int rc =
        sl_input_read(&o->in, run->subject.tok, config->eos_id, config->vocab, &run->input, err, err_cap);
    if (!rc)
        rc = sl_window_list_make(&run->input, o->seq, false, &run->windows);
    s->windows = run->windows.n;
    sl_gemm_threads((int)o->threads); /* before there is a half */
    if (!rc)
        rc = prepare(o, run, err, err_cap);
    if (!rc)
        rc = open_csv(o, run, err, err_cap);
    if (rc)
        return rc;
    sl_gemm_announce(o->threads);
    sl_progress_start(&run->progress, "stability", "trainings of a data set and its swaps");
    rc = check_cuts(o, run, err, err_cap);
    if (!rc)
        rc = measure(o, run, err, err_cap);
    sl_progress_end(&run->progress);
    s->seconds = sl_progress_seconds(&run->progress);
    if (rc == -ECANCELED && s->sets_done == 0)
        snprintf(err, err_cap, "stopped before the first data set was through all cells: nothing to tell");
    if (rc == -ECANCELED && s->sets_done > 0)
        rc = 0;
    if (!rc)
        rc = sl_stability_print(s, o->json, stdout);
    if (!rc && run->csv && (fflush(run->csv) || ferror(run->csv))) {
        snprintf(err, err_cap, "%s: cannot be written", o->csv);
        rc = -EIO;
    }
    return rc;
}

static void free_run(struct stability_run *run)
{
    free(run->result.cells);
    free(run->result.sum);
    free(run->result.swaps);
    free(run->result.fall);
    free(run->swaps);
    free(run->samples);
    free(run->order);
    free(run->place);
    free(run->losses);
    sl_replace_free(run->bench);
    sl_window_list_free(&run->windows);
    sl_input_free(&run->input);
    sl_subject_free(&run->subject);
    if (run->csv)
        fclose(run->csv);
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_stability_command;
    struct stability_options o = {.tuning = SL_TUNING_DEFAULTS,
        .repeats = 250,
        .steps = 60,
        .batch = 4,
        .seq = 64,
        .together = SWAPS_IN_A_BATCH,
        .threads = 1};
    o.tuning.lr = 3e-3;
    struct sl_opt table[] = {
        {"model", SL_OPT_WORD, &o.dir, "DIR", "model directory (Hugging Face layout)", true, 0, 0, 0},
        SL_INPUT_TEXT_OPTS(o.in),
        SL_INPUT_SPLIT_OPT(o.in),
        SL_INPUT_IDS_OPT(o.in),
        {"k", SL_OPT_WORD, &o.k_list, "K,K", "samples (windows) of a data set", true, 0, 0, 0},
        {"fraction", SL_OPT_WORD, &o.fraction_list, "A,A", "share of the blocks, from the first, with LoRA",
            true, 0, 0, 0},
        {"repeats", SL_OPT_COUNT, &o.repeats, "R", "swaps measured in each cell (default 250)", 0,
            SL_SLOPES_MIN_SETS, 1e6, 0},
        {"steps", SL_OPT_COUNT, &o.steps, "N", "optimiser steps of a training (default 60)", 0, 1, 1e6, 0},
        {"batch", SL_OPT_COUNT, &o.batch, "B", "windows per step (default 4)", 0, 1, 1 << 12, 0},
        {"seq", SL_OPT_COUNT, &o.seq, "T", "tokens per window (default 64)", 0, 2, 1 << 20, 0},
        {"lr", SL_OPT_NUMBER, &o.tuning.lr, "X", "learning rate (default 3e-3)", 0, 0, 1e6, 0},
        {"optimizer", SL_OPT_WORD, &o.tuning.optimizer, "NAME", "adamw (default) or sgd", 0, 0, 0, 0},
        {"rank", SL_OPT_COUNT, &o.tuning.rank, "R", "of LoRA (default 8)", 0, 1, 256, 0},
        {"alpha", SL_OPT_NUMBER, &o.tuning.alpha, "X", "LoRA's scale is alpha/rank (default 16)", 0, 0, 1e6,
            0},
        {"targets", SL_OPT_WORD, &o.tuning.targets, "A,B", "linear layers (default q_proj,v_proj or c_attn)",
            0, 0, 0, 0},
        {"seed", SL_OPT_SEED, &o.tuning.seed, "S", "of data sets, order and first values (default 0)", 0, 0,
            0, 0},
        {"proximal-mu", SL_OPT_NUMBER, &o.tuning.proximal_mu, "MU",
            "stability term MU (1 - alpha) |(alpha/rank) B A|^2, the first alpha a cell's (default 0)", 0, 0,
            1e6, 0},
        SL_PRECISION_OPT(o.precision),
        {"together", SL_OPT_COUNT, &o.together, "N", "swaps trained in one batch (default 8)", 0, 1, 1 << 12,
            0},
        {"threads", SL_OPT_COUNT, &o.threads, "N", "threads of the GEMM library (default 1)", 0, 1, 1024, 0},
        {"csv", SL_OPT_WORD, &o.csv, "FILE", "also a row per swap, with its four losses", 0, 0, 0, 0},
        {"json", SL_OPT_FLAG, &o.json, NULL, "print JSON: cells, slopes, checks", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct stability_run state = {0};
    char err[512] = "";

    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code >= 0)
        goto out;
    const char *wrong = check(&o);
    if (wrong) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "%s", wrong);
        goto out;
    }
    sl_interrupt_catch();
    int rc = sl_subject_load(o.dir, o.precision, NULL, o.in.ids == NULL, &state.subject, err, sizeof err);
    if (!rc && o.seq - 1 > sl_model_config(state.subject.model)->max_positions) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "--seq %u is too long: the model has %u positions", o.seq,
            sl_model_config(state.subject.model)->max_positions);
        goto out;
    }
    if (!rc)
        rc = work(&o, &state, err, sizeof err);
    if (rc)
        code = sl_cli_fail(
            cmd, rc == -ECANCELED ? SL_EXIT_INTERRUPTED : SL_EXIT_FAILED, "%s", err[0] ? err : strerror(-rc));
    else
        code = state.result.sets_done < state.result.sets ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
out:
    free_run(&state);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_stability_command = {
    .name = "stability",
    .summary =
        "Measures average-replace-one stability.\n"
        "Trains on K windows of the text, and again with one of them replaced; beta is the mean change "
        "of the\n"
        "loss on both windows. Reports the slopes of log beta on log k and on log(1 - alpha), where "
        "alpha is the\n"
        "share of blocks that carry LoRA, with 95 % intervals (bootstrap over data sets). Ctrl-C reports "
        "the data\n"
        "sets that are through.",
    .examples = "  sluice-train stability --model trainer/models/base --text notes.txt --k 16,32,64,128 \\\n"
                "      --fraction 0.25,0.5,0.75 --repeats 250 --threads 2 --csv swaps.csv --json\n"
                "  sluice-train stability --model trainer/models/base --text notes.txt --k 16 --fraction 0.5 "
                "\\\n"
                "      --repeats 20\n",
    .run = run,
};
