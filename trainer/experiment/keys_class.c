/* The fleet: its classes of phones, by count or by share. */
#include "trainer/experiment/read.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define CLASS_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_class_config, member), .size = sizeof(((struct sl_class_config *)0)->member)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct sl_field class_fields[] = {
    {.path = "class", .kind = SL_FIELD_TEXT, CLASS_FIELD(name), .required = true},
    {.path = "count", .kind = SL_FIELD_U32, CLASS_FIELD(count), .lo = 1, .hi = SL_DEVICES_MAX},
    {.path = "share", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(share), .lo = 1e-6, .hi = 1},
    {.path = "seq", .kind = SL_FIELD_U32, CLASS_FIELD(seq), .lo = 2, .hi = 8192},
    {.path = "rank", .kind = SL_FIELD_U32, CLASS_FIELD(rank), .lo = 1, .hi = 256},
};

/* Parts of a class that have files of their own. */
static size_t (*const parts[])(const struct sl_field **) = {sl_experiment_body_fields,
    sl_experiment_link_fields, sl_experiment_queue_fields, sl_experiment_life_fields};

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

/* `devices`: of the fleet, shared out; 0: the class says how many. */
static int read_class(struct sl_reader *r, yaml_node_t *node, struct sl_experiment *e, uint32_t devices)
{
    struct sl_class_config *c = &e->fleet[e->n_classes];

    if (e->n_classes == SL_CLASSES_MAX)
        return sl_schema_error(r, node, "fleet: more than %d classes", SL_CLASSES_MAX);
    sl_experiment_begin_body(r, node, c);
    sl_experiment_begin_link(c);
    c->life = sl_life_keys_default;
    int status = read_fields(r, node, c);
    if (!status)
        status = sl_experiment_finish_body(r, node, c);
    if (!status)
        status = sl_experiment_finish_link(r, node, c);
    if (status)
        return status;
    for (uint32_t i = 0; i < e->n_classes; i++)
        if (strcmp(e->fleet[i].name, c->name) == 0)
            return sl_schema_error(
                r, node, "fleet: class '%s' is there twice; give it another name", c->name);
    if (devices ? c->count || c->share == 0 : c->share > 0)
        return sl_schema_error(r, node,
            devices ? "share: is missing; the phones of fleet.devices are shared out (and count has no place)"
                    : "share: needs fleet.devices; write fleet: {devices: N, classes: [...]}, or give count");
    if (!devices && c->count == 0)
        return sl_schema_error(r, node, "count: is missing; add it");
    if (e->n_devices + c->count > SL_DEVICES_MAX)
        return sl_schema_error(r, node, "fleet: more than %d devices in all", SL_DEVICES_MAX);
    e->n_devices += c->count;
    e->n_classes++;
    return 0;
}

static int read_classes(struct sl_reader *r, yaml_node_t *node, struct sl_experiment *e, uint32_t devices)
{
    if (node->type != YAML_SEQUENCE_NODE || node->data.sequence.items.start == node->data.sequence.items.top)
        return sl_schema_error(r, node, "fleet: give a list of device classes");
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        int status = read_class(r, yaml_document_get_node(r->document, *i), e, devices);
        if (status)
            return status;
    }
    return 0;
}

/* Largest remainders: whole phones first, then one more for those who lost most by rounding. */
static int share_out(struct sl_reader *r, yaml_node_t *node, struct sl_experiment *e, uint32_t devices)
{
    double all = 0, left[SL_CLASSES_MAX];

    for (uint32_t i = 0; i < e->n_classes; i++)
        all += e->fleet[i].share;
    if (fabs(all - 1) > 1e-3)
        return sl_schema_error(r, node, "fleet: the shares add up to %g; make them 1", all);
    for (uint32_t i = 0; i < e->n_classes; i++) {
        double want = devices * e->fleet[i].share / all;
        e->fleet[i].count = (uint32_t)want;
        left[i] = want - floor(want);
        e->n_devices += e->fleet[i].count;
    }
    while (e->n_devices < devices) {
        uint32_t most = 0;
        for (uint32_t i = 1; i < e->n_classes; i++)
            most = left[i] > left[most] ? i : most;
        left[most] = -1;
        e->fleet[most].count++;
        e->n_devices++;
    }
    for (uint32_t i = 0; i < e->n_classes; i++)
        if (e->fleet[i].count == 0)
            return sl_schema_error(r, node, "fleet: class '%s' gets none of %u phones; raise its share",
                e->fleet[i].name, devices);
    return 0;
}

/* {devices: N, classes: [...]}. */
static int read_shared(struct sl_reader *r, yaml_node_t *node, struct sl_experiment *e)
{
    yaml_node_t *classes = NULL;
    double devices = 0;
    int status = 0;

    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; !status && p < node->data.mapping.pairs.top;
         p++) {
        yaml_node_t *key = yaml_document_get_node(r->document, p->key);
        yaml_node_t *value = yaml_document_get_node(r->document, p->value);
        const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "";
        if (strcmp(name, "devices") == 0 && devices == 0)
            status = sl_schema_number(r, value, "fleet.devices", 1, SL_DEVICES_MAX, true, &devices);
        else if (strcmp(name, "classes") == 0 && !classes)
            classes = value;
        else
            status = sl_schema_error(r, key, "fleet: has devices and classes, once each, and nothing else");
    }
    if (status)
        return status;
    if (devices == 0 || !classes)
        return sl_schema_error(r, node, "fleet: give a list of classes, or {devices: N, classes: [...]}");
    status = read_classes(r, classes, e, (uint32_t)devices);
    return status ? status : share_out(r, classes, e, (uint32_t)devices);
}

int sl_experiment_read_fleet(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    return node->type == YAML_MAPPING_NODE ? read_shared(r, node, base) : read_classes(r, node, base, 0);
}
