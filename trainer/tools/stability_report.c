#include "trainer/tools/stability_report.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

static const double BOUND_SLOPE = -1; /* of beta <= 2 L^2 / (k (1 - alpha)), on both axes */

static double rest_of(const struct sl_stability *s, uint32_t c)
{
    return 1 - (double)s->cells[c].blocks / s->layers;
}

/* null where it is not to be had. */
static void add_number(cJSON *to, const char *key, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(to, key, v);
    else
        cJSON_AddNullToObject(to, key);
}

static cJSON *cells_json(const struct sl_stability *s, const struct sl_slopes *slopes)
{
    cJSON *list = cJSON_CreateArray();
    for (uint32_t c = 0; c < s->n_cells; c++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "k", s->cells[c].k);
        cJSON_AddNumberToObject(o, "fraction", s->cells[c].fraction);
        cJSON_AddNumberToObject(o, "blocks", s->cells[c].blocks);
        cJSON_AddNumberToObject(o, "alpha", 1 - rest_of(s, c));
        cJSON_AddNumberToObject(o, "sets", s->sets_done);
        cJSON_AddNumberToObject(o, "pairs", s->swaps_done);
        add_number(o, "beta", slopes->beta[c].value);
        add_number(o, "beta_low", slopes->beta[c].low);
        add_number(o, "beta_high", slopes->beta[c].high);
        add_number(o, "training_fall", s->fall[c] / s->sets_done);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static cJSON *slope_json(const struct sl_estimate *e)
{
    cJSON *o = cJSON_CreateObject();
    add_number(o, "slope", e->value);
    add_number(o, "low", e->low);
    add_number(o, "high", e->high);
    cJSON_AddNumberToObject(o, "bound", BOUND_SLOPE);
    return o;
}

static cJSON *cuts_json(const struct sl_stability_cuts *cuts)
{
    cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "cuts");
    for (uint32_t i = 0; i < cuts->n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(cuts->cut[i]));
    cJSON_AddNumberToObject(o, "steps", cuts->steps);
    cJSON_AddNumberToObject(o, "pairs", cuts->swaps);
    cJSON_AddNumberToObject(o, "largest_loss_difference", cuts->loss_apart);
    cJSON_AddNumberToObject(o, "largest_beta_difference", cuts->beta_apart);
    return o;
}

static int print_json(const struct sl_stability *s, const struct sl_slopes *slopes, FILE *out)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "model", s->model);
    cJSON_AddNumberToObject(o, "layers", s->layers);
    cJSON_AddStringToObject(o, "precision", s->precision);
    cJSON_AddStringToObject(o, "optimizer", s->optimizer);
    cJSON_AddNumberToObject(o, "lr", s->lr);
    cJSON_AddNumberToObject(o, "proximal_mu", s->proximal_mu);
    cJSON_AddNumberToObject(o, "steps", s->steps);
    cJSON_AddNumberToObject(o, "batch", s->batch);
    cJSON_AddNumberToObject(o, "seq", s->seq);
    cJSON_AddNumberToObject(o, "seed", (double)s->seed);
    cJSON_AddNumberToObject(o, "windows", (double)s->windows);
    cJSON_AddBoolToObject(o, "interrupted", s->sets_done < s->sets);
    cJSON_AddNumberToObject(o, "seconds", s->seconds);
    cJSON *self = cJSON_AddObjectToObject(o, "self_check");
    cJSON_AddNumberToObject(self, "runs", s->self_checks);
    cJSON_AddNumberToObject(self, "largest_difference", 0); /* another one ends the run */
    cJSON_AddItemToObject(o, "cut_check", cuts_json(&s->cuts));
    cJSON_AddItemToObject(o, "cells", cells_json(s, slopes));
    cJSON *fit = cJSON_AddObjectToObject(o, "slopes");
    cJSON_AddNumberToObject(fit, "cells_used", slopes->cells_used);
    cJSON_AddItemToObject(fit, "log_k", slope_json(&slopes->k));
    cJSON_AddItemToObject(fit, "log_one_minus_alpha", slope_json(&slopes->rest));
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    if (!text)
        return -ENOMEM;
    fprintf(out, "%s\n", text);
    free(text);
    return 0;
}

static void print_slope(FILE *out, const char *on, const struct sl_estimate *e)
{
    if (!isfinite(e->value))
        fprintf(out, "slope of log beta on %s: not to be had from these cells\n", on);
    else if (!isfinite(e->low))
        fprintf(out, "slope of log beta on %s: %.3f (the bound's: %.0f)\n", on, e->value, BOUND_SLOPE);
    else
        fprintf(out, "slope of log beta on %s: %.3f, 95 %% interval %.3f to %.3f (the bound's: %.0f)\n", on,
            e->value, e->low, e->high, BOUND_SLOPE);
}

static void print_text(const struct sl_stability *s, const struct sl_slopes *slopes, FILE *out)
{
    fprintf(out, "%6s %9s %6s %6s %6s %10s %21s\n", "k", "fraction", "blocks", "sets", "pairs", "beta",
        "95 % interval");
    for (uint32_t c = 0; c < s->n_cells; c++) {
        const struct sl_estimate *e = &slopes->beta[c];
        fprintf(out, "%6u %9g %6u %6u %6u %10.6f", s->cells[c].k, s->cells[c].fraction, s->cells[c].blocks,
            s->sets_done, s->swaps_done, e->value);
        if (isfinite(e->low))
            fprintf(out, " %10.6f %10.6f\n", e->low, e->high);
        else
            fputs("  (too few data sets)\n", out);
    }
    print_slope(out, "log k", &slopes->k);
    print_slope(out, "log(1 - alpha)", &slopes->rest);
    fprintf(out, "S against S: difference 0 in %u trainings\n", s->self_checks);
    if (s->cuts.n)
        fprintf(out, "%u cuts of one data set against none: losses at most %g apart, beta %g\n", s->cuts.n,
            s->cuts.loss_apart, s->cuts.beta_apart);
}

int sl_stability_print(const struct sl_stability *s, bool json, FILE *out)
{
    struct sl_slope_cell *cells = calloc(s->n_cells, sizeof *cells);
    struct sl_estimate *beta = calloc(s->n_cells, sizeof *beta);
    struct sl_slopes slopes = {.beta = beta};
    int rc = cells && beta ? 0 : -ENOMEM;

    for (uint32_t c = 0; c < s->n_cells && !rc; c++)
        cells[c] = (struct sl_slope_cell){.k = s->cells[c].k, .rest = rest_of(s, c)};
    struct sl_slope_data data = {
        .cells = cells, .n_cells = s->n_cells, .n_sets = s->sets_done, .sum = s->sum, .swaps = s->swaps};
    if (!rc)
        rc = sl_slopes_fit(&data, SL_STABILITY_DRAWS, s->seed, &slopes);
    if (!rc && json)
        rc = print_json(s, &slopes, out);
    else if (!rc)
        print_text(s, &slopes, out);
    free(cells);
    free(beta);
    return rc;
}
