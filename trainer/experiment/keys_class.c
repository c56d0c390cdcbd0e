/* A class of phones in the experiment file. */
#include "trainer/experiment/read.h"

#include <errno.h>
#include <string.h>

#define CLASS_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_class_config, member), .size = sizeof(((struct sl_class_config *)0)->member)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct sl_field class_fields[] = {
    {.path = "class", .kind = SL_FIELD_TEXT, CLASS_FIELD(name), .required = true},
    {.path = "count",
        .kind = SL_FIELD_U32,
        CLASS_FIELD(count),
        .lo = 1,
        .hi = SL_DEVICES_MAX,
        .required = true},
    {.path = "compute_gflops",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(compute_gflops),
        .lo = 1e-3,
        .hi = 1e6,
        .required = true},
    {.path = "memory_mib", .kind = SL_FIELD_U32, CLASS_FIELD(memory_mib), .lo = 1, .hi = 1 << 24},
    {.path = "battery_mah",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(battery_mah),
        .lo = 1,
        .hi = 1e6,
        .required = true},
    {.path = "battery_v", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(battery_v), .lo = 1, .hi = 100},
    {.path = "battery_start", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(battery_start), .lo = 0, .hi = 1},
    {.path = "compute_w",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(compute_w),
        .lo = 0,
        .hi = 1000,
        .required = true},
    {.path = "radio_tx_w",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(radio_tx_w),
        .lo = 0,
        .hi = 1000,
        .required = true},
    {.path = "radio_rx_w",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(radio_rx_w),
        .lo = 0,
        .hi = 1000,
        .required = true},
    {.path = "seq", .kind = SL_FIELD_U32, CLASS_FIELD(seq), .lo = 2, .hi = 8192},
    {.path = "rank", .kind = SL_FIELD_U32, CLASS_FIELD(rank), .lo = 1, .hi = 256},
    {.path = "idle_w", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(idle_w), .lo = 0, .hi = 1000},
};

/* A lithium cell's nominal voltage, full; idle is a phone with its screen off. */
static const struct sl_class_config class_default = {
    .memory_mib = 1024, .battery_v = 3.85, .battery_start = 1, .idle_w = 0.3, .link = {.queue_kib = 256}};

/* Parts of a class that have files of their own. */
static size_t (*const parts[])(const struct sl_field **) = {sl_experiment_link_fields};

static int read_fields(struct sl_reader *r, yaml_node_t *node, struct sl_class_config *c)
{
    struct sl_field all[SL_FIELDS_MAX];
    const struct sl_field *part;
    size_t n = COUNT(class_fields), more;

    memcpy(all, class_fields, sizeof(class_fields));
    for (size_t i = 0; i < COUNT(parts); i++) {
        more = parts[i](&part);
        if (n + more > SL_FIELDS_MAX)
            return -EINVAL;
        memcpy(all + n, part, more * sizeof(*part));
        n += more;
    }
    return sl_schema_read(r, node, all, n, c);
}

static int read_class(struct sl_reader *r, yaml_node_t *node, struct sl_experiment *e)
{
    struct sl_class_config *c = &e->fleet[e->n_classes];

    if (e->n_classes == SL_CLASSES_MAX)
        return sl_schema_error(r, node, "fleet: more than %d classes", SL_CLASSES_MAX);
    *c = class_default;
    int status = read_fields(r, node, c);
    if (status)
        return status;
    for (uint32_t i = 0; i < e->n_classes; i++)
        if (strcmp(e->fleet[i].name, c->name) == 0)
            return sl_schema_error(
                r, node, "fleet: class '%s' is there twice; give it another name", c->name);
    if (e->n_devices + c->count > SL_DEVICES_MAX)
        return sl_schema_error(r, node, "fleet: more than %d devices in all", SL_DEVICES_MAX);
    e->n_devices += c->count;
    e->n_classes++;
    return 0;
}

int sl_experiment_read_fleet(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    if (node->type != YAML_SEQUENCE_NODE || node->data.sequence.items.start == node->data.sequence.items.top)
        return sl_schema_error(r, node, "%s: give a list of device classes", f->path);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        int status = read_class(r, yaml_document_get_node(r->document, *i), base);
        if (status)
            return status;
    }
    return 0;
}
