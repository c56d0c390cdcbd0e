/* data.dirichlet. */
#include "trainer/experiment/read.h"

#include <math.h>
#include <string.h>

#define SHARD_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_shard_keys, member), .size = sizeof(((struct sl_shard_keys *)0)->member)

static int read_alpha(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_shard_keys *s = base;

    if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "uniform") == 0) {
        s->alpha = INFINITY;
        return 0;
    }
    return sl_schema_number(r, node, "data.dirichlet.alpha (or uniform)", 1e-3, 1e6, false, &s->alpha);
}

static const struct sl_field shard_fields[] = {
    {.path = "alpha", .kind = SL_FIELD_CUSTOM, .read = read_alpha, .required = true},
    {.path = "by", .kind = SL_FIELD_CHOICE, SHARD_FIELD(by), .choices = "file|label"},
    {.path = "size_sigma", .kind = SL_FIELD_DOUBLE, SHARD_FIELD(size_sigma), .lo = 0, .hi = 4},
};

int sl_experiment_read_dirichlet(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_shard_keys *s = &((struct sl_experiment *)base)->data.dirichlet;

    s->line = node->start_mark.line + 1;
    return sl_schema_read(r, node, shard_fields, sizeof(shard_fields) / sizeof(shard_fields[0]), s);
}
