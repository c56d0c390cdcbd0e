/* What a class of phones is made of: preset, clock, power, heat, radio states, battery. */
#include "trainer/experiment/class_preset.h"
#include "trainer/experiment/read.h"

#include <string.h>

#define CLASS_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_class_config, member), .size = sizeof(((struct sl_class_config *)0)->member)
#define THERMAL_FIELD(member) .kind = SL_FIELD_DOUBLE, .offset = offsetof(struct sl_thermal_keys, member)
#define RRC_FIELD(member) .kind = SL_FIELD_DOUBLE, .offset = offsetof(struct sl_rrc_keys, member)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const double hz_per_ghz = 1e9, watts_max = 1000;
/* A room, and the temperatures at which handhelds are throttled: where the file names heat but not these. */
#define THERMAL_DEFAULT .ambient_c = 25, .throttle_c = 43, .release_c = 41

static const char *text_of(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

/* ---- lists ---- */

static int read_steps(
    struct sl_reader *r, yaml_node_t *node, const char *path, double lo, double hi, double *out, uint32_t *n)
{
    *n = 0;
    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(r, node, "%s: give a list, the lowest step of the clock first", path);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(r->document, *i);
        if (*n == SL_DVFS_STEPS_MAX)
            return sl_schema_error(r, item, "%s: more than %d steps", path, SL_DVFS_STEPS_MAX);
        int status = sl_schema_number(r, item, path, lo, hi, false, &out[*n]);
        if (status)
            return status;
        if (*n && out[*n] <= out[*n - 1])
            return sl_schema_error(r, item, "%s: must rise from step to step", path);
        ++*n;
    }
    return *n ? 0 : sl_schema_error(r, node, "%s: give at least one step", path);
}

static int read_ghz(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_class_config *c = base;

    return read_steps(r, node, f->path, 1e-3, 100, c->dvfs.ghz, &c->dvfs.n);
}

static int read_table(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_class_config *c = base;
    uint32_t n; /* kept as the number of steps that have a power */

    return read_steps(r, node, f->path, 1e-3, 1000, c->dvfs.power_w, &n);
}

/* ---- a word or a mapping ---- */

static const struct sl_field thermal_fields[] = {
    {.path = "ambient_c", THERMAL_FIELD(ambient_c), .lo = -50, .hi = 60},
    {.path = "resistance_c_w", THERMAL_FIELD(resistance_c_w), .lo = 1e-3, .hi = 1000},
    {.path = "capacity_j_c", THERMAL_FIELD(capacity_j_c), .lo = 1e-3, .hi = 1e6},
    {.path = "throttle_c", THERMAL_FIELD(throttle_c), .lo = -50, .hi = 150},
    {.path = "release_c", THERMAL_FIELD(release_c), .lo = -50, .hi = 150},
};

static int read_thermal(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_thermal_keys *t = &((struct sl_class_config *)base)->thermal;
    const char *text = text_of(node);

    if (text && strcmp(text, "none") == 0) {
        *t = (struct sl_thermal_keys){THERMAL_DEFAULT};
        return 0;
    }
    if (node->type != YAML_MAPPING_NODE)
        return sl_schema_error(r, node, "%s: give none, or keys like {capacity_j_c: 120}", f->path);
    int status = sl_schema_read(r, node, thermal_fields, COUNT(thermal_fields), t);
    if (status)
        return status;
    if (t->capacity_j_c <= 0 || t->resistance_c_w <= 0)
        return sl_schema_error(r, node, "%s: give resistance_c_w and capacity_j_c", f->path);
    if (t->release_c >= t->throttle_c || t->ambient_c >= t->release_c)
        return sl_schema_error(
            r, node, "%s: ambient_c, release_c and throttle_c must rise in this order", f->path);
    return 0;
}

static const struct sl_field rrc_fields[] = {
    {.path = "preset",
        .kind = SL_FIELD_CHOICE,
        .offset = offsetof(struct sl_rrc_keys, kind),
        .size = sizeof(((struct sl_rrc_keys *)0)->kind),
        .choices = "lte|nr_nsa|nr_sa|wifi"},
    {.path = "inactivity_s", RRC_FIELD(inactivity_s), .lo = 1e-3, .hi = 3600},
    {.path = "promotion_median_ms", RRC_FIELD(promotion_median_ms), .lo = 1e-3, .hi = 60000},
    {.path = "promotion_p95_ms", RRC_FIELD(promotion_p95_ms), .lo = 1e-3, .hi = 60000},
    {.path = "paging_ms", RRC_FIELD(paging_ms), .lo = 0, .hi = 10240},
    {.path = "drx_after_ms", RRC_FIELD(drx_after_ms), .lo = 0, .hi = 60000},
    {.path = "drx_cycle_ms", RRC_FIELD(drx_cycle_ms), .lo = 0, .hi = 10240},
    {.path = "tail_w", RRC_FIELD(tail_w), .lo = 0, .hi = 1000},
    {.path = "promotion_w", RRC_FIELD(promotion_w), .lo = 0, .hi = 1000},
};

/* The value of a key that others are laid over; NULL: it is not there, or no plain word. */
static const char *word_at(struct sl_reader *r, yaml_node_t *mapping, const char *name)
{
    if (mapping->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < mapping->data.mapping.pairs.top; p++) {
        const char *key = text_of(yaml_document_get_node(r->document, p->key));
        if (key && strcmp(key, name) == 0)
            return text_of(yaml_document_get_node(r->document, p->value));
    }
    return NULL;
}

static int read_rrc(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_rrc_keys *k = &((struct sl_class_config *)base)->rrc;
    const char *kind = node->type == YAML_MAPPING_NODE ? word_at(r, node, "preset") : text_of(node);
    const struct sl_rrc_keys *preset = kind ? sl_rrc_preset(kind) : NULL;

    if (node->type != YAML_MAPPING_NODE && !preset)
        return sl_schema_error(r, node,
            "%s: give none, lte, nr_nsa, nr_sa or wifi, or keys like {preset: lte, inactivity_s: 5}",
            f->path);
    if (preset)
        *k = *preset;
    if (node->type != YAML_MAPPING_NODE)
        return 0;
    int status = sl_schema_read(r, node, rrc_fields, COUNT(rrc_fields), k);
    if (status)
        return status;
    if (k->inactivity_s <= 0 || k->promotion_median_ms <= 0)
        return sl_schema_error(
            r, node, "%s: give a preset, or inactivity_s and promotion_median_ms", f->path);
    if (k->promotion_p95_ms == 0)
        k->promotion_p95_ms = k->promotion_median_ms;
    return k->promotion_p95_ms >= k->promotion_median_ms
               ? 0
               : sl_schema_error(r, node, "%s: promotion_p95_ms is below promotion_median_ms", f->path);
}

/* ---- the table ---- */

static const struct sl_field body_fields[] = {
    {.path = "preset", .kind = SL_FIELD_CHOICE, CLASS_FIELD(preset), .choices = "low|mid|flagship"},
    {.path = "compute_gflops", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(compute_gflops), .lo = 1e-3, .hi = 1e6},
    {.path = "memory_mib", .kind = SL_FIELD_U32, CLASS_FIELD(memory_mib), .lo = 1, .hi = 1 << 24},
    {.path = "battery_mah", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(battery_mah), .lo = 1, .hi = 1e6},
    {.path = "battery_v", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(battery_v), .lo = 1, .hi = 100},
    {.path = "battery_start", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(battery_start), .lo = 0, .hi = 1},
    {.path = "battery_floor", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(battery_floor), .lo = 0, .hi = 0.95},
    {.path = "compute_w", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(compute_w), .lo = 0, .hi = 1000},
    {.path = "power.kappa", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(kappa), .lo = 1e-36, .hi = 1},
    {.path = "power.table_w", .kind = SL_FIELD_CUSTOM, .read = read_table},
    {.path = "dvfs.ghz", .kind = SL_FIELD_CUSTOM, .read = read_ghz},
    {.path = "radio_tx_w", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(radio_tx_w), .lo = 0, .hi = 1000},
    {.path = "radio_rx_w", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(radio_rx_w), .lo = 0, .hi = 1000},
    {.path = "radio_out_w", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(radio_out_w), .lo = 0, .hi = 100},
    {.path = "idle_w", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(idle_w), .lo = 0, .hi = 1000},
    {.path = "thermal", .kind = SL_FIELD_CUSTOM, .read = read_thermal},
    {.path = "rrc", .kind = SL_FIELD_CUSTOM, .read = read_rrc},
};

size_t sl_experiment_body_fields(const struct sl_field **out)
{
    *out = body_fields;
    return COUNT(body_fields);
}

/* A lithium cell's nominal voltage, full; idle is a phone with its screen off. */
static const struct sl_class_config without_preset = {.memory_mib = 1024,
    .battery_v = 3.85,
    .battery_start = 1,
    .compute_w = -1, /* below 0: the file does not say */
    .radio_tx_w = -1,
    .radio_rx_w = -1,
    .radio_out_w = SL_HANDSET_OUT_W,
    .idle_w = 0.3,
    .thermal = {THERMAL_DEFAULT},
    .rrc = {.kind = "none"}};

void sl_experiment_begin_body(struct sl_reader *r, yaml_node_t *node, struct sl_class_config *c)
{
    const char *name = word_at(r, node, "preset");
    const struct sl_class_config *preset = name ? sl_class_preset(name) : NULL;

    *c = preset ? *preset : without_preset;
    if (preset)
        c->rrc = *sl_rrc_preset(preset->rrc.kind);
    c->compute_w = -1; /* the preset's counts where the file names no power at all */
}

static int missing(struct sl_reader *r, const yaml_node_t *node, const char *key)
{
    return sl_schema_error(r, node, "%s: is missing; add it, or a preset: low, mid or flagship", key);
}

/* Power of each step: from one of compute_w, power.kappa and power.table_w. */
static int finish_power(struct sl_reader *r, const yaml_node_t *node, struct sl_class_config *c)
{
    const struct sl_class_config *preset = sl_class_preset(c->preset);
    uint32_t n_table = 0;

    while (n_table < SL_DVFS_STEPS_MAX && c->dvfs.power_w[n_table] > 0)
        n_table++;
    if ((c->compute_w >= 0) + (c->kappa > 0) + (n_table > 0) > 1)
        return sl_schema_error(r, node, "power: give one of compute_w, power.kappa and power.table_w");
    if (c->compute_w < 0 && c->kappa == 0 && n_table == 0) {
        if (!preset)
            return missing(r, node, "compute_w");
        c->compute_w = preset->compute_w;
    }
    if (c->dvfs.n == 0) {
        if (c->kappa > 0 || n_table > 1)
            return sl_schema_error(
                r, node, "dvfs.ghz: is missing; power.kappa and power.table_w need its clocks");
        c->dvfs.n = 1; /* one step, whose clock nothing depends on */
        c->dvfs.ghz[0] = 1;
    }
    if (n_table && n_table != c->dvfs.n)
        return sl_schema_error(
            r, node, "power.table_w: has %u steps, dvfs.ghz has %u; give as many", n_table, c->dvfs.n);
    double full = c->dvfs.ghz[c->dvfs.n - 1] * hz_per_ghz;
    if (n_table)
        c->compute_w = c->dvfs.power_w[n_table - 1];
    else if (c->kappa > 0)
        c->compute_w = c->kappa * full * full * full;
    else
        c->kappa = c->compute_w / (full * full * full);
    if (c->compute_w > watts_max)
        return sl_schema_error(r, node, "power.kappa: makes %g W at the full clock; give less", c->compute_w);
    for (uint32_t i = 0; i < c->dvfs.n && !n_table; i++) {
        double hz = c->dvfs.ghz[i] * hz_per_ghz;
        c->dvfs.power_w[i] = c->kappa * hz * hz * hz;
    }
    return 0;
}

int sl_experiment_finish_body(struct sl_reader *r, const yaml_node_t *node, struct sl_class_config *c)
{
    if (c->compute_gflops == 0)
        return missing(r, node, "compute_gflops");
    if (c->battery_mah == 0)
        return missing(r, node, "battery_mah");
    if (c->radio_tx_w < 0)
        return missing(r, node, "radio_tx_w");
    if (c->radio_rx_w < 0)
        return missing(r, node, "radio_rx_w");
    int status = finish_power(r, node, c);
    if (status)
        return status;
    if (c->thermal.capacity_j_c > 0 && c->dvfs.n == 1)
        return sl_schema_error(
            r, node, "thermal: a hot phone steps its clock down; give two or more dvfs.ghz");
    if (c->battery_start <= c->battery_floor && c->battery_floor > 0)
        return sl_schema_error(
            r, node, "battery_floor: not below battery_start; such a phone never takes part");
    return 0;
}
