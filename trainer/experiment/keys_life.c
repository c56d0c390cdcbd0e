/* When a class's phones take part: arrivals, hours, crashes. Each key is a mapping of its own. */
#include "trainer/experiment/read.h"

#define LIFE_FIELD(member)                                                                                   \
    .offset = offsetof(struct sl_life_keys, member), .size = sizeof(((struct sl_life_keys *)0)->member)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct sl_field arrival_fields[] = {
    {.path = "per_hour", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(arrivals_per_hour), .lo = 1e-6, .hi = 36000},
    {.path = "stay_s", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(stay_s), .lo = 0.1, .hi = 3.2e7},
    {.path = "stay_sigma", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(stay_sigma), .lo = 0, .hi = 4},
    {.path = "present", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(present), .lo = 0, .hi = 1},
    {.path = "trace", .kind = SL_FIELD_TEXT, LIFE_FIELD(trace)},
};

#define DAILY(name)                                                                                          \
    {.path = #name ".begin_h", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(name.begin_h), .lo = 0, .hi = 24},        \
        {.path = #name ".hours", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(name.hours), .lo = 0.05, .hi = 24},     \
        {.path = #name ".spread_h", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(name.spread_h), .lo = 0, .hi = 12},  \
        {.path = #name ".jitter_h", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(name.jitter_h), .lo = 0, .hi = 6},   \
    {                                                                                                        \
        .path = #name ".probability", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(name.probability), .lo = 0,        \
        .hi = 1                                                                                              \
    }

static const struct sl_field availability_fields[] = {
    {.path = "policy",
        .kind = SL_FIELD_CHOICE,
        LIFE_FIELD(policy),
        .choices = "charging_and_idle|charging|idle|always"},
    {.path = "start_h", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(start_h), .lo = 0, .hi = 24},
    {.path = "time_scale", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(time_scale), .lo = 1e-3, .hi = 1e5},
    {.path = "charger_w", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(charger_w), .lo = 0, .hi = 240},
    DAILY(charging),
    DAILY(idle),
};

static const struct sl_field crash_fields[] = {
    {.path = "per_hour",
        .kind = SL_FIELD_DOUBLE,
        LIFE_FIELD(crash_per_hour),
        .lo = 0,
        .hi = 36000,
        .required = true},
    {.path = "reboot_s", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(reboot_s), .lo = 0.1, .hi = 1e6},
    {.path = "reboot_sigma", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(reboot_sigma), .lo = 0, .hi = 4},
};

static const struct sl_field kill_fields[] = {
    {.path = "per_hour",
        .kind = SL_FIELD_DOUBLE,
        LIFE_FIELD(kill_per_hour),
        .lo = 0,
        .hi = 36000,
        .required = true},
    {.path = "restart_s", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(restart_s), .lo = 0.1, .hi = 1e6},
    {.path = "restart_sigma", .kind = SL_FIELD_DOUBLE, LIFE_FIELD(restart_sigma), .lo = 0, .hi = 4},
};

static struct sl_life_keys *life_of(void *base, const yaml_node_t *node)
{
    struct sl_life_keys *l = &((struct sl_class_config *)base)->life;

    if (!l->line)
        l->line = node->start_mark.line + 1;
    return l;
}

static int read_arrivals(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_life_keys *l = life_of(base, node);
    int status = sl_schema_read(r, node, arrival_fields, COUNT(arrival_fields), l);

    if (status)
        return status;
    if (l->trace[0] ? l->arrivals_per_hour > 0 || l->stay_s > 0 || l->stay_sigma > 0 || l->present >= 0
                    : l->arrivals_per_hour == 0 || l->stay_s == 0)
        return sl_schema_error(
            r, node, "%s: give per_hour and stay_s, or trace: FILE and nothing else", f->path);
    return 0;
}

static int read_availability(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_life_keys *l = life_of(base, node);

    l->diurnal = true;
    return sl_schema_read(r, node, availability_fields, COUNT(availability_fields), l);
}

static int read_crash(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    return sl_schema_read(r, node, crash_fields, COUNT(crash_fields), life_of(base, node));
}

static int read_kill(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    return sl_schema_read(r, node, kill_fields, COUNT(kill_fields), life_of(base, node));
}

static const struct sl_field life_fields[] = {
    {.path = "arrivals", .kind = SL_FIELD_CUSTOM, .read = read_arrivals},
    {.path = "availability", .kind = SL_FIELD_CUSTOM, .read = read_availability},
    {.path = "crash", .kind = SL_FIELD_CUSTOM, .read = read_crash},
    {.path = "kill", .kind = SL_FIELD_CUSTOM, .read = read_kill},
};

size_t sl_experiment_life_fields(const struct sl_field **out)
{
    *out = life_fields;
    return COUNT(life_fields);
}

/* A phone that is charged at night, and left alone while its owner sleeps; a charger of 5 V and 2 A with a
 * quarter lost on the way. */
const struct sl_life_keys sl_life_keys_default = {.present = -1,
    .policy = "charging_and_idle",
    .start_h = 22,
    .time_scale = 1,
    .charger_w = 7.5,
    .charging = {.begin_h = 22.5, .hours = 8, .spread_h = 1.5, .jitter_h = 0.75, .probability = 0.9},
    .idle = {.begin_h = 23, .hours = 7.5, .spread_h = 1.25, .jitter_h = 0.75, .probability = 1},
    .reboot_s = 45,
    .restart_s = 10};

bool sl_life_keys_change(const struct sl_life_keys *l)
{
    return l->arrivals_per_hour > 0 || l->trace[0] || l->diurnal || l->crash_per_hour > 0 ||
           l->kill_per_hour > 0;
}
