/* plan.fixed: what every phone of a class is held to, without a planner. */
#include "trainer/experiment/read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const double bps_per_mbps = 1e6;

static const struct {
    const char *name;
    double lo, hi;
} bounds[SL_FIXED_BOUNDS] = {
    {"clock_hz", 1e6, 1e11},
    {"power_w", 1e-9, 1e3},
    {"rate_up_mbps", 0.01, 1e6},
    {"share", 1e-3, 1},
};

static uint32_t bound_named(const char *name)
{
    uint32_t k = 0;

    while (k < SL_FIXED_BOUNDS && strcmp(bounds[k].name, name))
        k++;
    return k;
}

/* A number, or in a list `none`. */
static int read_one(struct sl_reader *r, yaml_node_t *node, uint32_t k, struct sl_read_fixed *out)
{
    char path[40];
    double v = 0;

    snprintf(path, sizeof path, "plan.fixed.%s", bounds[k].name);
    if (out->n[k] == SL_CLASSES_MAX)
        return sl_schema_error(r, node, "%s: more than %d values", path, SL_CLASSES_MAX);
    bool none = node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "none") == 0;
    int status = none ? 0 : sl_schema_number(r, node, path, bounds[k].lo, bounds[k].hi, false, &v);
    if (!status)
        out->of[k][out->n[k]++] = v;
    return status;
}

int sl_experiment_read_fixed(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_read_fixed *out = &((struct sl_read_target *)base)->fixed;
    int status = 0;

    if (node->type != YAML_MAPPING_NODE)
        return sl_schema_error(
            r, node, "%s: give clock_hz, power_w, rate_up_mbps and share, or some of them", f->path);
    out->line = node->start_mark.line + 1;
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; !status && p < node->data.mapping.pairs.top;
         p++) {
        yaml_node_t *key = yaml_document_get_node(r->document, p->key);
        yaml_node_t *value = yaml_document_get_node(r->document, p->value);
        uint32_t k = key->type == YAML_SCALAR_NODE ? bound_named((const char *)key->data.scalar.value)
                                                   : SL_FIXED_BOUNDS;
        if (k == SL_FIXED_BOUNDS || out->n[k])
            return sl_schema_error(r, key,
                "%s: has clock_hz, power_w, rate_up_mbps and share, once each, nothing else", f->path);
        if (value->type != YAML_SEQUENCE_NODE)
            status = read_one(r, value, k, out);
        else
            for (yaml_node_item_t *i = value->data.sequence.items.start;
                 !status && i < value->data.sequence.items.top; i++)
                status = read_one(r, yaml_document_get_node(r->document, *i), k, out);
    }
    return status;
}

int sl_experiment_check_fixed(struct sl_reader *r, struct sl_read_target *t)
{
    struct sl_experiment *e = &t->e;

    for (uint32_t k = 0; k < SL_FIXED_BOUNDS; k++)
        if (t->fixed.n[k] > 1 && t->fixed.n[k] != e->n_classes) {
            snprintf(r->err, r->err_cap,
                "%s:%zu: plan.fixed.%s: give one value for all classes, or one per class of the fleet in its "
                "order",
                r->file, t->fixed.line, bounds[k].name);
            return -EINVAL;
        }
    for (uint32_t c = 0; c < e->n_classes; c++) {
        double v[SL_FIXED_BOUNDS];
        for (uint32_t k = 0; k < SL_FIXED_BOUNDS; k++)
            v[k] = t->fixed.n[k] == 0 ? 0 : t->fixed.of[k][t->fixed.n[k] == 1 ? 0 : c];
        e->fleet[c].fixed.clock_hz = v[0];
        e->fleet[c].fixed.power_w = v[1];
        e->fleet[c].fixed.rate_up_bps = v[2] * bps_per_mbps;
        e->fleet[c].fixed.share = v[3];
    }
    return 0;
}
