/* What becomes of a packet on the `link` of a class beside its rate: queue, loss, jitter, reordering. */
#include "trainer/experiment/read.h"

#include <string.h>

#define CLASS_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_class_config, member), .size = sizeof(((struct sl_class_config *)0)->member)
#define QUEUE_FIELD(member)                                                                                  \
    .offset = offsetof(struct queue, member), .size = sizeof(((struct queue *)0)->member)
#define LOSS_FIELD(member)                                                                                   \
    .kind = SL_FIELD_DOUBLE, .offset = offsetof(struct sl_loss_keys, member), .lo = 0, .hi = 1
#define REORDER_FIELD(member) .kind = SL_FIELD_DOUBLE, .offset = offsetof(struct sl_reorder_keys, member)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { KIB_LEAST = 4, KIB_MOST = 1 << 20, PACKETS_MOST = 1 << 20 };
static const double loss_most = 0.99, reorder_by_default_ms = 5;

/* ---- the queue ---- */

struct queue {
    struct sl_queue_keys keys;
    uint32_t kib;
};
static const struct sl_field queue_fields[] = {
    {.path = "kind",
        .kind = SL_FIELD_CHOICE,
        QUEUE_FIELD(keys.kind),
        .choices = "droptail|codel|pie|none",
        .required = true},
    {.path = "kib", .kind = SL_FIELD_U32, QUEUE_FIELD(kib), .lo = KIB_LEAST, .hi = KIB_MOST},
    {.path = "packets", .kind = SL_FIELD_U32, QUEUE_FIELD(keys.packets), .lo = 1, .hi = PACKETS_MOST},
    {.path = "target_ms", .kind = SL_FIELD_DOUBLE, QUEUE_FIELD(keys.target_ms), .lo = 0.01, .hi = 60000},
    {.path = "interval_ms", .kind = SL_FIELD_DOUBLE, QUEUE_FIELD(keys.interval_ms), .lo = 0.01, .hi = 60000},
};

static int twice(struct sl_reader *r, const yaml_node_t *node)
{
    return sl_schema_error(r, node,
        "link: queue and queue_kib both say how long the queue is; write queue: {kind: ..., kib: ...}");
}

static int read_queue_kib(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_link_config *l = &((struct sl_class_config *)base)->link;
    double kib;
    int status = sl_schema_number(r, node, f->path, KIB_LEAST, KIB_MOST, true, &kib);

    if (status)
        return status;
    if (l->queue.given)
        return twice(r, node);
    l->queue.given = true;
    l->queue_kib = (uint32_t)kib;
    return 0;
}

static int check_queue(struct sl_reader *r, const yaml_node_t *node, const char *path, const struct queue *q)
{
    bool codel = strcmp(q->keys.kind, "codel") == 0, pie = strcmp(q->keys.kind, "pie") == 0;

    if (q->kib && q->keys.packets)
        return sl_schema_error(r, node, "%s: give kib or packets, not both", path);
    if (strcmp(q->keys.kind, "none") == 0 && (q->kib || q->keys.packets))
        return sl_schema_error(
            r, node, "%s: none has no limit; drop kib and packets, or take droptail", path);
    if (q->keys.target_ms > 0 && !codel && !pie)
        return sl_schema_error(r, node, "%s: target_ms is codel's and pie's", path);
    if (q->keys.interval_ms > 0 && !codel)
        return sl_schema_error(r, node, "%s: interval_ms is codel's", path);
    if (codel) {
        double target = q->keys.target_ms > 0 ? q->keys.target_ms : 5;
        double interval = q->keys.interval_ms > 0 ? q->keys.interval_ms : 100;
        if (interval < target)
            return sl_schema_error(
                r, node, "%s: interval_ms (%g) must not be below target_ms (%g)", path, interval, target);
    }
    return 0;
}

static int read_queue(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_link_config *l = &((struct sl_class_config *)base)->link;
    struct queue q = {0};

    if (l->queue.given)
        return twice(r, node);
    if (node->type != YAML_MAPPING_NODE)
        return sl_schema_error(r, node, "%s: give keys like {kind: codel, kib: 256}", f->path);
    int status = sl_schema_read(r, node, queue_fields, COUNT(queue_fields), &q);
    if (!status)
        status = check_queue(r, node, f->path, &q);
    if (status)
        return status;
    l->queue = q.keys;
    l->queue.given = true;
    if (q.kib)
        l->queue_kib = q.kib;
    return 0;
}

/* ---- loss ---- */

static const struct sl_field loss_fields[] = {
    {.path = "good_to_bad", LOSS_FIELD(good_to_bad), .required = true},
    {.path = "bad_to_good", LOSS_FIELD(bad_to_good), .required = true},
    {.path = "good", LOSS_FIELD(good)},
    {.path = "bad", LOSS_FIELD(bad), .required = true},
};

static int read_loss(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_loss_keys *l = &((struct sl_class_config *)base)->link.loss;

    if (node->type != YAML_MAPPING_NODE)
        return sl_schema_number(r, node, f->path, 0, loss_most, false, &l->good);
    int status = sl_schema_read(r, node, loss_fields, COUNT(loss_fields), l);
    if (status)
        return status;
    if (!(l->good_to_bad > 0) || !(l->bad_to_good > 0))
        return sl_schema_error(r, node,
            "%s: good_to_bad and bad_to_good must both be above 0; for independent loss give a number",
            f->path);
    double mean = (l->good_to_bad * l->bad + l->bad_to_good * l->good) / (l->good_to_bad + l->bad_to_good);
    if (mean > loss_most)
        return sl_schema_error(
            r, node, "%s: loses %g of all packets; the most is %g", f->path, mean, loss_most);
    return 0;
}

/* ---- reordering ---- */

static const struct sl_field reorder_fields[] = {
    {.path = "share", REORDER_FIELD(share), .lo = 0, .hi = 1, .required = true},
    {.path = "by_ms", REORDER_FIELD(by_ms), .lo = 0.01, .hi = 60000},
};

static int read_reorder(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_reorder_keys *o = &((struct sl_class_config *)base)->link.reorder;

    o->by_ms = reorder_by_default_ms;
    if (node->type != YAML_MAPPING_NODE)
        return sl_schema_number(r, node, f->path, 0, 1, false, &o->share);
    return sl_schema_read(r, node, reorder_fields, COUNT(reorder_fields), o);
}

static const struct sl_field fields[] = {
    {.path = "link.queue_kib", .kind = SL_FIELD_CUSTOM, .read = read_queue_kib},
    {.path = "link.queue", .kind = SL_FIELD_CUSTOM, .read = read_queue},
    {.path = "link.loss", .kind = SL_FIELD_CUSTOM, .read = read_loss},
    {.path = "link.jitter_ms", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(link.jitter_ms), .lo = 0, .hi = 60000},
    {.path = "link.reorder", .kind = SL_FIELD_CUSTOM, .read = read_reorder},
};

size_t sl_experiment_queue_fields(const struct sl_field **out)
{
    *out = fields;
    return COUNT(fields);
}
