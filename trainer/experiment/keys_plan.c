/* The section `plan`: cuts that the file says, their changes, and what the live planner is told. */
#include "trainer/experiment/read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CUT_MAX = 1024 };

static int read_one_cut(struct sl_reader *r, yaml_node_t *node, const char *key, struct sl_read_cuts *cuts)
{
    double v;

    if (cuts->n == SL_CLASSES_MAX)
        return sl_schema_error(r, node, "%s: more than %d cuts", key, SL_CLASSES_MAX);
    int status = sl_schema_number(r, node, key, 1, CUT_MAX, true, &v);
    if (status == 0)
        cuts->cut[cuts->n++] = (uint32_t)v;
    return status;
}

static int read_cuts(struct sl_reader *r, yaml_node_t *node, const char *key, struct sl_read_cuts *cuts)
{
    int status = 0;

    cuts->line = node->start_mark.line + 1;
    if (node->type != YAML_SEQUENCE_NODE)
        return read_one_cut(r, node, key, cuts);
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         status == 0 && i < node->data.sequence.items.top; i++)
        status = read_one_cut(r, yaml_document_get_node(r->document, *i), key, cuts);
    return status;
}

static int read_cut(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_read_target *t = base;

    if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "auto") == 0) {
        t->e.plan.live = true;
        t->cuts = (struct sl_read_cuts){.n = 1, .line = node->start_mark.line + 1};
        return 0;
    }
    if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "random") == 0) {
        t->e.plan.random = true;
        t->cuts = (struct sl_read_cuts){.n = 1, .line = node->start_mark.line + 1};
        return 0;
    }
    return read_cuts(r, node, f->path, &t->cuts);
}

/* A bound or a beginning of cuts: one for all classes, or one per class. */
static int read_bounds(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    return read_cuts(r, node, f->path, (struct sl_read_cuts *)((char *)base + f->offset));
}

/* One of plan.changes: {step: N, cut: C or [C, ..]}. */
static int read_change(struct sl_reader *r, yaml_node_t *node, struct sl_read_target *t)
{
    uint32_t i = t->e.n_changes;
    bool step = false, cut = false;

    if (node->type != YAML_MAPPING_NODE)
        return sl_schema_error(r, node, "plan.changes: give a list like [{step: 100, cut: [2, 4]}]");
    if (i == SL_CHANGES_MAX)
        return sl_schema_error(r, node, "plan.changes: more than %d", SL_CHANGES_MAX);
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(r->document, p->key);
        yaml_node_t *value = yaml_document_get_node(r->document, p->value);
        const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "";
        int status;
        double v = 0;
        if (strcmp(name, "step") == 0 && !step) {
            status = sl_schema_number(r, value, "plan.changes: step", 1, 100000000, true, &v);
            t->e.changes[i].step = (uint32_t)v;
            step = true;
        } else if (strcmp(name, "cut") == 0 && !cut) {
            status = read_cuts(r, value, "plan.changes: cut", &t->changes[i]);
            cut = true;
        } else {
            status = sl_schema_error(r, key, "plan.changes: has one step and one cut each, nothing else");
        }
        if (status)
            return status;
    }
    if (!step || !cut)
        return sl_schema_error(r, node, "plan.changes: needs step and cut");
    if (i && t->e.changes[i].step <= t->e.changes[i - 1].step)
        return sl_schema_error(r, node, "plan.changes: steps must rise");
    t->e.n_changes++;
    return 0;
}

static int read_changes(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    int status = 0;

    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(r, node, "%s: give a list like [{step: 100, cut: [2, 4]}]", f->path);
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         status == 0 && i < node->data.sequence.items.top; i++)
        status = read_change(r, yaml_document_get_node(r->document, *i), base);
    return status;
}

#define TARGET(member)                                                                                       \
    .offset = offsetof(struct sl_read_target, member), .size = sizeof(((struct sl_read_target *)0)->member)

static const struct sl_field plan_fields[] = {
    {.path = "plan.cut", .kind = SL_FIELD_CUSTOM, .read = read_cut, .required = true},
    {.path = "plan.changes", .kind = SL_FIELD_CUSTOM, .read = read_changes},
    {.path = "plan.fixed", .kind = SL_FIELD_CUSTOM, .read = sl_experiment_read_fixed},
    {.path = "plan.start_cut", .kind = SL_FIELD_CUSTOM, TARGET(start_cuts), .read = read_bounds},
    {.path = "plan.min_cut", .kind = SL_FIELD_CUSTOM, TARGET(min_cuts), .read = read_bounds},
    {.path = "plan.max_cut", .kind = SL_FIELD_CUSTOM, TARGET(max_cuts), .read = read_bounds},
    {.path = "plan.objective", .kind = SL_FIELD_CHOICE, TARGET(objective), .choices = "physical|printed"},
    {.path = "plan.weights.delay", .kind = SL_FIELD_DOUBLE, TARGET(e.plan.weight_delay), .lo = 0, .hi = 1e6},
    {.path = "plan.weights.energy",
        .kind = SL_FIELD_DOUBLE,
        TARGET(e.plan.weight_energy),
        .lo = 0,
        .hi = 1e6},
    {.path = "plan.weights.stability",
        .kind = SL_FIELD_DOUBLE,
        TARGET(e.plan.weight_stability),
        .lo = 0,
        .hi = 1e6},
    {.path = "plan.replan_s", .kind = SL_FIELD_DOUBLE, TARGET(e.plan.replan_s), .lo = 1, .hi = 86400},
    {.path = "plan.hysteresis", .kind = SL_FIELD_DOUBLE, TARGET(e.plan.hysteresis), .lo = 0, .hi = 10},
    {.path = "plan.battery_price",
        .kind = SL_FIELD_DOUBLE,
        TARGET(e.plan.battery_price),
        .lo = 0,
        .hi = 1000},
    {.path = "plan.uplink_mbps", .kind = SL_FIELD_DOUBLE, TARGET(e.plan.uplink_mbps), .lo = 1e-3, .hi = 1e6},
};

size_t sl_experiment_plan_fields(const struct sl_field **out)
{
    *out = plan_fields;
    return sizeof plan_fields / sizeof plan_fields[0];
}

void sl_experiment_begin_plan(struct sl_plan_keys *p)
{
    p->weight_delay = p->weight_energy = 1; /* stability 0: its proxy says nothing of a run (rules P1) */
    p->replan_s = -1;
    p->hysteresis = -1;
    p->battery_price = -1;
}

static int refuse(struct sl_reader *r, size_t line, const char *text)
{
    snprintf(r->err, r->err_cap, "%s:%zu: %s", r->file, line ? line : 1, text);
    return -EINVAL;
}

/* Each class's; 0 where the file says nothing. */
static int spread(struct sl_reader *r, const struct sl_read_target *t, const struct sl_read_cuts *from,
    const char *key, uint32_t *to)
{
    for (uint32_t i = 0; from->n && i < t->e.n_classes; i++)
        to[i] = from->cut[from->n == 1 ? 0 : i];
    if (from->n == 0 || from->n == 1 || from->n == t->e.n_classes)
        return 0;
    snprintf(r->err, r->err_cap,
        "%s:%zu: %s: give one cut for all classes, or one per class of the fleet in its order", r->file,
        from->line, key);
    return -EINVAL;
}

/* Cuts that the file says: nothing is left to plan. */
static int check_fixed(struct sl_reader *r, struct sl_read_target *t)
{
    struct sl_plan_keys *p = &t->e.plan;
    bool bounds = (t->min_cuts.n || t->max_cuts.n) && !p->random;
    bool other = bounds || t->start_cuts.n || t->objective[0] || p->replan_s >= 0 || p->hysteresis >= 0 ||
                 p->battery_price >= 0 || p->uplink_mbps > 0 || p->weight_delay != 1 ||
                 p->weight_energy != 1 || p->weight_stability != 0;

    return other ? refuse(r, t->cuts.line,
                       "plan: start_cut, min_cut, max_cut, objective, weights, replan_s, hysteresis, "
                       "battery_price and "
                       "uplink_mbps are for plan.cut: auto (min_cut and max_cut also for random); remove "
                       "them, or set that")
                 : 0;
}

/* Cuts that are drawn stay: what would change them, or has messages of other cuts, does not go with them. */
static const char *impossible_random(const struct sl_read_target *t)
{
    if (t->e.n_changes)
        return "plan.changes: with plan.cut: random every device keeps the cut that was drawn; remove one of "
               "them";
    if (t->e.sim.recording[0])
        return "plan.cut: random: a recording has the messages of its own cuts; give numbers, or remove "
               "sim.recording";
    return NULL;
}

/* Bounds of auto and random alike; start: cuts to begin with, 0 where the file says nothing. */
static int take_bounds(struct sl_reader *r, struct sl_read_target *t, const uint32_t *start)
{
    struct sl_experiment *e = &t->e;
    struct sl_plan_keys *p = &e->plan;
    int status = spread(r, t, &t->min_cuts, "plan.min_cut", p->min_cut);

    if (!status)
        status = spread(r, t, &t->max_cuts, "plan.max_cut", p->max_cut);
    for (uint32_t i = 0; !status && i < e->n_classes; i++) {
        if (p->min_cut[i] == 0)
            p->min_cut[i] = 1;
        e->fleet[i].cut = start[i];
        if ((p->max_cut[i] && p->min_cut[i] > p->max_cut[i]) ||
            (start[i] && (start[i] < p->min_cut[i] || (p->max_cut[i] && start[i] > p->max_cut[i]))))
            status = refuse(r, t->cuts.line,
                "plan: min_cut, start_cut and max_cut of a class must not fall in this order");
    }
    return status;
}

static const char *impossible(const struct sl_read_target *t)
{
    const struct sl_experiment *e = &t->e;

    if (e->training.deterministic)
        return "plan.cut: auto goes by measured times, and no deterministic run does "
               "(training.deterministic); "
               "give numbers, with plan.changes if cuts are to change";
    if (strcmp(e->training.adapters, "personal") == 0)
        return "plan.cut: auto: a layer that moves takes the global adapter, and personal adapters have "
               "none; "
               "give numbers";
    if (e->n_changes)
        return "plan.changes: with plan.cut: auto the planner decides when cuts change; remove one of them";
    if (t->fixed.line)
        return "plan.fixed: with plan.cut: auto the planner decides what phones are held to; remove one of "
               "them";
    if (e->sim.recording[0])
        return "plan.cut: auto: a recording has the messages of its own cuts; give numbers, or remove "
               "sim.recording";
    if (e->plan.weight_delay + e->plan.weight_energy <= 0)
        return "plan.weights: delay and energy cannot both be 0; nothing would be left to plan for";
    return NULL;
}

int sl_experiment_check_plan(struct sl_reader *r, struct sl_read_target *t)
{
    struct sl_experiment *e = &t->e;
    struct sl_plan_keys *p = &e->plan;
    uint32_t start[SL_CLASSES_MAX] = {0};

    if (p->random) {
        const char *why = impossible_random(t);
        int status = why ? refuse(r, t->cuts.line, why) : check_fixed(r, t);
        return status ? status : take_bounds(r, t, start);
    }
    if (!p->live)
        return check_fixed(r, t);
    const char *why = impossible(t);
    if (why)
        return refuse(r, t->cuts.line, why);
    p->printed = strcmp(t->objective, "printed") == 0;
    if (p->replan_s < 0)
        p->replan_s = 30;
    if (p->hysteresis < 0)
        p->hysteresis = 0.05;
    if (p->battery_price < 0)
        p->battery_price = 1;
    int status = spread(r, t, &t->start_cuts, "plan.start_cut", start);
    return status ? status : take_bounds(r, t, start);
}

int sl_experiment_settle_cuts(struct sl_experiment *e, uint32_t layers, char *err, size_t err_cap)
{
    struct sl_plan_keys *p = &e->plan;

    for (uint32_t i = 0; (p->live || p->random) && i < e->n_classes; i++) {
        uint32_t *cut = &e->fleet[i].cut, middle = layers / 2, *most = &p->max_cut[i];
        if (*most == 0)
            *most = layers - 1;
        if (layers < 2 || *most >= layers || p->min_cut[i] > *most) {
            snprintf(err, err_cap,
                "plan: class %s has cuts from %u to %u, and the model's %u layers allow 1 to %u; change "
                "plan.min_cut, plan.start_cut or plan.max_cut",
                e->fleet[i].name, p->min_cut[i], *most, layers, layers ? layers - 1 : 0);
            return -EINVAL;
        }
        if (*cut == 0)
            *cut = middle < p->min_cut[i] ? p->min_cut[i] : middle > *most ? *most : middle;
        if (*cut > *most) {
            snprintf(err, err_cap, "plan.start_cut: %u for class %s, and the model's %u layers allow 1 to %u",
                *cut, e->fleet[i].name, layers, layers - 1);
            return -EINVAL;
        }
    }
    return 0;
}

void sl_experiment_cuts(const struct sl_experiment *e, uint32_t *lowest, uint32_t *highest)
{
    *lowest = UINT32_MAX;
    *highest = 0;
    for (uint32_t i = 0; i < e->n_classes; i++) {
        for (uint32_t k = 0; k <= e->n_changes; k++) {
            uint32_t cut = k ? e->changes[k - 1].cut[i] : e->fleet[i].cut;
            bool bounds = e->plan.live || e->plan.random;
            uint32_t least = bounds ? e->plan.min_cut[i] : cut, most = bounds ? e->plan.max_cut[i] : cut;
            *lowest = least < *lowest ? least : *lowest;
            *highest = most > *highest ? most : *highest;
        }
    }
}
