/* The `link` of a class; what becomes of packets on it is in keys_queue.c. */
#include "trainer/experiment/read.h"

#define CLASS_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_class_config, member), .size = sizeof(((struct sl_class_config *)0)->member)

static const struct sl_field link_fields[] = {
    {.path = "link.up_mbps",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.up_mbps),
        .lo = 1e-3,
        .hi = 1e6,
        .required = true},
    {.path = "link.down_mbps",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.down_mbps),
        .lo = 1e-3,
        .hi = 1e6,
        .required = true},
    {.path = "link.rtt_ms",
        .kind = SL_FIELD_DOUBLE,
        CLASS_FIELD(link.rtt_ms),
        .lo = 0,
        .hi = 60000,
        .required = true},
    {.path = "link.trace", .kind = SL_FIELD_LATER},
    {.path = "link.radio", .kind = SL_FIELD_LATER},
};

size_t sl_experiment_link_fields(const struct sl_field **out)
{
    *out = link_fields;
    return sizeof(link_fields) / sizeof(link_fields[0]);
}
