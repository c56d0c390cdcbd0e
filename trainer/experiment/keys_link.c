/* The `link` of a class; what becomes of packets on it is in keys_queue.c. */
#include "trainer/experiment/read.h"

#include <string.h>

#define CLASS_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_class_config, member), .size = sizeof(((struct sl_class_config *)0)->member)

static int read_phase(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);

static const struct sl_field link_fields[] = {
    {.path = "link.up_mbps", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(link.up_mbps), .lo = 1e-3, .hi = 1e6},
    {.path = "link.down_mbps", .kind = SL_FIELD_DOUBLE, CLASS_FIELD(link.down_mbps), .lo = 1e-3, .hi = 1e6},
    {.path = "link.trace.up", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.trace_up)},
    {.path = "link.trace.down", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.trace_down)},
    {.path = "link.trace.up_light", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.light_up)},
    {.path = "link.trace.down_light", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.light_down)},
    {.path = "link.trace.idle_ms",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.light_idle_ms),
        .lo = 0,
        .hi = 60000},
    {.path = "link.trace.phase", .kind = SL_FIELD_CUSTOM, .read = read_phase},
    {.path = "link.rates.file", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.rates)},
    {.path = "link.rates.up", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.rates_up)},
    {.path = "link.rates.down", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.rates_down)},
    {.path = "link.rates.phase", .kind = SL_FIELD_CUSTOM, .read = read_phase},
    {.path = "link.outages.every_s",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.outages.every_s),
        .lo = 1e-3,
        .hi = 1e9},
    {.path = "link.outages.for_s",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.outages.for_s),
        .lo = 1e-3,
        .hi = 1e9},
    {.path = "link.outages.regular", .kind = SL_FIELD_BOOL, CLASS_FIELD(link.outages.regular)},
    {.path = "link.rtt_ms",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.rtt_ms),
        .lo = 0,
        .hi = 60000,
        .required = true},
    {.path = "link.radio", .kind = SL_FIELD_TEXT, CLASS_FIELD(link.radio)},
    {.path = "link.cell", .kind = SL_FIELD_U32, CLASS_FIELD(link.cell), .lo = 1, .hi = 1000000},
};

size_t sl_experiment_link_fields(const struct sl_field **out)
{
    *out = link_fields;
    return sizeof(link_fields) / sizeof(link_fields[0]);
}

static int read_phase(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_class_config *c = base;

    if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "random") == 0)
        return 0;
    return sl_schema_number(r, node, f->path, 0, 1e9, false, &c->link.phase_s);
}

void sl_experiment_begin_link(struct sl_class_config *c)
{
    c->link = (struct sl_link_config){
        .queue_kib = 256, .phase_s = -1, .rates_up = "up_mbps", .rates_down = "down_mbps"};
}

int sl_experiment_finish_link(struct sl_reader *r, const yaml_node_t *node, struct sl_class_config *c)
{
    struct sl_link_config *l = &c->link;
    bool light = l->light_up[0] || l->light_down[0];
    bool constant = l->up_mbps > 0 || l->down_mbps > 0, trace = l->trace_up[0] || l->trace_down[0] || light,
         rates = l->rates[0];

    l->line = node->start_mark.line + 1;
    if (constant + trace + rates + (l->radio[0] != 0) != 1)
        return sl_schema_error(r, node,
            "link: say once how fast it is: up_mbps and down_mbps, or trace: {up: FILE, down: FILE}, or "
            "rates: {file: FILE}, or radio: NAME");
    if (l->cell && !l->radio[0])
        return sl_schema_error(r, node, "link.cell: names a cell of link.radio; give that, too");
    if (constant && !(l->up_mbps > 0 && l->down_mbps > 0))
        return sl_schema_error(r, node, "link: up_mbps and down_mbps belong together; give both");
    if (trace && !(l->trace_up[0] && l->trace_down[0]))
        return sl_schema_error(r, node,
            "link.trace: up and down belong together; give both files (the same one may serve twice)");
    if (l->light_idle_ms > 0 && !light)
        return sl_schema_error(
            r, node, "link.trace.idle_ms says when a train begins anew; give up_light or down_light, too");
    if ((l->outages.every_s > 0) != (l->outages.for_s > 0))
        return sl_schema_error(r, node, "link.outages: every_s and for_s belong together; give both");
    if (l->outages.regular && l->outages.for_s >= l->outages.every_s)
        return sl_schema_error(r, node, "link.outages: regular ones must be shorter than every_s");
    return 0;
}
