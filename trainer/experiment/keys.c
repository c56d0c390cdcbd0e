#include "trainer/experiment/read.h"

#include <string.h>

#define FIELD(member)                                                                                        \
    .offset = offsetof(struct sl_experiment, member), .size = sizeof(((struct sl_experiment *)0)->member)

static int read_cpus(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
static int read_deadline(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
static int read_staleness(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);

static const struct sl_field fields[] = {
    {.path = "name", .kind = SL_FIELD_TEXT, FIELD(name)},
    {.path = "seed", .kind = SL_FIELD_U64, FIELD(seed)},
    {.path = "model.path", .kind = SL_FIELD_TEXT, FIELD(model.path), .required = true},
    {.path = "model.precision", .kind = SL_FIELD_CHOICE, FIELD(model.precision), .choices = "f32|bf16"},
    {.path = "data.path", .kind = SL_FIELD_TEXT, FIELD(data.path), .required = true},
    {.path = "data.shards", .kind = SL_FIELD_CHOICE, FIELD(data.shards), .choices = "by-file|dirichlet"},
    {.path = "data.dirichlet", .kind = SL_FIELD_CUSTOM, .read = sl_experiment_read_dirichlet},
    {.path = "data.seq", .kind = SL_FIELD_U32, FIELD(data.seq), .lo = 2, .hi = 8192},
    {.path = "data.held_out", .kind = SL_FIELD_DOUBLE, FIELD(data.held_out), .lo = 0.001, .hi = 0.9},
    {.path = "data.held_out_windows",
        .kind = SL_FIELD_U32,
        FIELD(data.held_out_windows),
        .lo = 1,
        .hi = 65536},
    {.path = "training.lora.rank", .kind = SL_FIELD_U32, FIELD(training.lora.rank), .lo = 1, .hi = 256},
    {.path = "training.lora.alpha",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.lora.alpha),
        .lo = 1e-3,
        .hi = 4096},
    {.path = "training.lora.targets",
        .kind = SL_FIELD_TEXT_LIST,
        .offset = offsetof(struct sl_experiment, training.lora.targets),
        .size = SL_NAME_MAX,
        .count_offset = offsetof(struct sl_experiment, training.lora.n_targets),
        .max = SL_TARGETS_MAX},
    {.path = "training.lora.how",
        .kind = SL_FIELD_CHOICE,
        .offset = offsetof(struct sl_read_target, how),
        .size = 16,
        .choices = "factors|freeze_a|svd"},
    {.path = "training.optimizer.kind",
        .kind = SL_FIELD_CHOICE,
        FIELD(training.optimizer.kind),
        .choices = "adamw|sgd"},
    {.path = "training.optimizer.lr",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.lr),
        .lo = 1e-9,
        .hi = 100},
    {.path = "training.optimizer.beta1",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.beta1),
        .lo = 0,
        .hi = 0.999999},
    {.path = "training.optimizer.beta2",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.beta2),
        .lo = 0,
        .hi = 0.999999},
    {.path = "training.optimizer.eps",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.eps),
        .lo = 1e-16,
        .hi = 1},
    {.path = "training.optimizer.weight_decay",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.weight_decay),
        .lo = 0,
        .hi = 10},
    {.path = "training.optimizer.schedule",
        .kind = SL_FIELD_CHOICE,
        FIELD(training.optimizer.schedule),
        .choices = "constant|linear|cosine"},
    {.path = "training.optimizer.warmup",
        .kind = SL_FIELD_U32,
        FIELD(training.optimizer.warmup),
        .lo = 0,
        .hi = 100000000},
    {.path = "training.optimizer.floor",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.floor),
        .lo = 0,
        .hi = 1},
    {.path = "training.optimizer.clip",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.optimizer.clip),
        .lo = 0,
        .hi = 1e6},
    {.path = "training.gang.policy",
        .kind = SL_FIELD_CHOICE,
        .offset = offsetof(struct sl_read_target, policy),
        .size = 16,
        .choices = "sync|async"},
    {.path = "training.gang.staleness", .kind = SL_FIELD_CUSTOM, .read = read_staleness},
    {.path = "training.gang.max", .kind = SL_FIELD_U32, FIELD(training.gang.max), .lo = 1, .hi = 65535},
    {.path = "training.gang.quorum",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.gang.quorum),
        .lo = 0.01,
        .hi = 1},
    {.path = "training.gang.deadline", .kind = SL_FIELD_CUSTOM, .read = read_deadline},
    {.path = "training.fedprox_mu", .kind = SL_FIELD_DOUBLE, FIELD(training.fedprox_mu), .lo = 0, .hi = 1e6},
    {.path = "training.proximal_mu", .kind = SL_FIELD_DOUBLE, FIELD(training.proximal_mu), .lo = 0, .hi = 1e6},
    {.path = "training.server.kind",
        .kind = SL_FIELD_CHOICE,
        FIELD(training.server.kind),
        .choices = "none|fedadam"},
    {.path = "training.server.lr", .kind = SL_FIELD_DOUBLE, FIELD(training.server.lr), .lo = 1e-9, .hi = 1e9},
    {.path = "training.server.beta1",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.server.beta1),
        .lo = 0,
        .hi = 0.999999},
    {.path = "training.server.beta2",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.server.beta2),
        .lo = 0,
        .hi = 0.999999},
    {.path = "training.server.tau",
        .kind = SL_FIELD_DOUBLE,
        FIELD(training.server.tau),
        .lo = 1e-9,
        .hi = 1e9},
    {.path = "training.aggregation",
        .kind = SL_FIELD_CHOICE,
        FIELD(training.aggregation),
        .choices = "weights|gradients"},
    {.path = "training.accumulate", .kind = SL_FIELD_U32, FIELD(training.accumulate), .lo = 1, .hi = 100000},
    {.path = "training.adapters",
        .kind = SL_FIELD_CHOICE,
        FIELD(training.adapters),
        .choices = "shared|personal"},
    {.path = "training.aggregate_every",
        .kind = SL_FIELD_U32,
        FIELD(training.aggregate_every),
        .lo = 1,
        .hi = 100000},
    {.path = "training.batch", .kind = SL_FIELD_U32, FIELD(training.batch), .lo = 1, .hi = 64},
    {.path = "training.deterministic", .kind = SL_FIELD_BOOL, FIELD(training.deterministic)},
    {.path = "edge.control", .kind = SL_FIELD_TEXT, FIELD(edge.control)},
    {.path = "edge.data.backend", .kind = SL_FIELD_TEXT, FIELD(edge.data.backend)},
    {.path = "edge.data.fleet_backend", .kind = SL_FIELD_TEXT, FIELD(edge.data.fleet_backend)},
    {.path = "edge.data.fleet_address", .kind = SL_FIELD_TEXT, FIELD(edge.data.fleet_address)},
    {.path = "edge.data.gateway", .kind = SL_FIELD_TEXT, FIELD(edge.data.gateway)},
    {.path = "edge.data.fleet_gateway", .kind = SL_FIELD_TEXT, FIELD(edge.data.fleet_gateway)},
    {.path = "edge.data.lcores",
        .kind = SL_FIELD_U32,
        FIELD(edge.data.lcores),
        .lo = 1,
        .hi = SL_DATA_LCORES_MAX},
    {.path = "edge.data.queues",
        .kind = SL_FIELD_U32,
        FIELD(edge.data.queues),
        .lo = 1,
        .hi = SL_DATA_LCORES_MAX},
    {.path = "edge.data.cpus", .kind = SL_FIELD_CUSTOM, .read = read_cpus},
    {.path = "edge.data.poll", .kind = SL_FIELD_CHOICE, FIELD(edge.data.poll), .choices = "adaptive|busy"},
    {.path = "edge.data.codec",
        .kind = SL_FIELD_CHOICE,
        FIELD(edge.data.codec),
        .choices = "bf16|f32|int8|int8+lz4",
        .later = "bf16+lz4"},
    {.path = "edge.data.address", .kind = SL_FIELD_TEXT, FIELD(edge.data.address)},
    {.path = "edge.data.mtu", .kind = SL_FIELD_U32, FIELD(edge.data.mtu), .lo = 1280, .hi = 9000},
    {.path = "edge.data.memory_mib",
        .kind = SL_FIELD_U32,
        FIELD(edge.data.memory_mib),
        .lo = 64,
        .hi = 65536},
    {.path = "edge.data.huge_pages", .kind = SL_FIELD_BOOL, FIELD(edge.data.huge_pages)},
    {.path = "edge.data.eal_extra",
        .kind = SL_FIELD_TEXT_LIST,
        .offset = offsetof(struct sl_experiment, edge.data.eal_extra),
        .size = 128,
        .count_offset = offsetof(struct sl_experiment, edge.data.n_eal_extra),
        .max = SL_EAL_EXTRA_MAX},
    {.path = "edge.data.peer_timeout_s",
        .kind = SL_FIELD_U32,
        FIELD(edge.data.peer_timeout_s),
        .lo = 1,
        .hi = 86400},
    {.path = "edge.slots", .kind = SL_FIELD_U32, FIELD(edge.slots), .lo = 1, .hi = 65535},
    {.path = "edge.recompute", .kind = SL_FIELD_BOOL, FIELD(edge.recompute)},
    {.path = "edge.compute",
        .kind = SL_FIELD_CHOICE,
        .offset = offsetof(struct sl_read_target, edge_compute),
        .size = 16,
        .choices = "real|modelled"},
    {.path = "edge.compute_gflops",
        .kind = SL_FIELD_DOUBLE,
        FIELD(edge.compute_gflops),
        .lo = 1e-3,
        .hi = 1e9},
    {.path = "edge.threads", .kind = SL_FIELD_U32, FIELD(edge.threads), .lo = 1, .hi = 256},
    {.path = "edge.adapters.resident",
        .kind = SL_FIELD_U32,
        FIELD(edge.adapters.resident),
        .lo = 1,
        .hi = SL_DEVICES_MAX},
    {.path = "edge.slot_kib", .kind = SL_FIELD_U32, FIELD(edge.slot_kib), .lo = 1, .hi = 1 << 20},
    {.path = "edge.max_devices",
        .kind = SL_FIELD_U32,
        FIELD(edge.max_devices),
        .lo = 1,
        .hi = SL_DEVICES_MAX},
    {.path = "edge.heartbeat_ms", .kind = SL_FIELD_U32, FIELD(edge.heartbeat_ms), .lo = 100, .hi = 60000},
    {.path = "edge.limits.handshakes",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.handshakes),
        .lo = 1,
        .hi = 1024},
    {.path = "edge.limits.messages_per_s",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.messages_per_s),
        .lo = 2,
        .hi = 100000},
    {.path = "edge.limits.grants_per_device",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.grants_per_device),
        .lo = 1,
        .hi = 8},
    {.path = "edge.limits.grant_s", .kind = SL_FIELD_U32, FIELD(edge.limits.grant_s), .lo = 1, .hi = 86400},
    {.path = "edge.limits.grant_factor",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.grant_factor),
        .lo = 1,
        .hi = 1000},
    {.path = "edge.limits.grant_margin_s",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.grant_margin_s),
        .lo = 1,
        .hi = 86400},
    {.path = "edge.limits.park_mib",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.park_mib),
        .lo = 0,
        .hi = 1048576},
    {.path = "edge.limits.events_per_s",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.events_per_s),
        .lo = 1,
        .hi = 1000000},
    {.path = "edge.limits.alone_s",
        .kind = SL_FIELD_U32,
        FIELD(edge.limits.alone_s),
        .lo = 1,
        .hi = 10000000},
    {.path = "sim.compute",
        .kind = SL_FIELD_CHOICE,
        .offset = offsetof(struct sl_read_target, sim_compute),
        .size = 16,
        .choices = "real|replay"},
    {.path = "sim.recording", .kind = SL_FIELD_TEXT, FIELD(sim.recording)},
    {.path = "sim.record", .kind = SL_FIELD_TEXT, FIELD(sim.record)},
    {.path = "sim.lag_bound_ms", .kind = SL_FIELD_DOUBLE, FIELD(sim.lag_bound_ms), .lo = 1e-3, .hi = 1e6},
    {.path = "fleet", .kind = SL_FIELD_CUSTOM, .read = sl_experiment_read_fleet, .required = true},
    {.path = "radio", .kind = SL_FIELD_CUSTOM, .read = sl_experiment_read_radio},
    {.path = "run.steps", .kind = SL_FIELD_U32, FIELD(run.steps), .lo = 1, .hi = 100000000},
    {.path = "run.seconds", .kind = SL_FIELD_DOUBLE, FIELD(run.seconds), .lo = 0.1, .hi = 1e7},
    {.path = "run.dir", .kind = SL_FIELD_TEXT, FIELD(run.dir)},
    {.path = "run.yardstick", .kind = SL_FIELD_BOOL, FIELD(run.yardstick)},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void set_defaults(struct sl_experiment *e)
{
    memset(e, 0, sizeof *e);
    strcpy(e->name, "experiment");
    e->seed = 1;
    strcpy(e->model.precision, "f32");
    strcpy(e->data.shards, "by-file");
    strcpy(e->data.dirichlet.by, "file");
    e->data.seq = 128;
    e->data.held_out = 0.1;
    e->data.held_out_windows = 256;
    e->training.lora.rank = 8;
    e->training.lora.alpha = 16;
    strcpy(e->training.optimizer.kind, "adamw");
    e->training.optimizer.lr = 1e-3;
    e->training.optimizer.beta1 = 0.9;
    e->training.optimizer.beta2 = 0.999;
    e->training.optimizer.eps = 1e-8;
    e->training.gang.quorum = 0.75;
    strcpy(e->training.optimizer.schedule, "constant");
    strcpy(e->training.adapters, "shared");
    strcpy(e->training.aggregation, "weights");
    strcpy(e->training.server.kind, "none");
    e->training.server.lr = 1e-2; /* the usual of the paper's (2003.00295, section 5 and appendix D) */
    e->training.server.beta1 = 0.9;
    e->training.server.beta2 = 0.99;
    e->training.server.tau = 1e-3;
    e->training.aggregate_every = 8;
    e->training.accumulate = 1;
    e->training.batch = 1;
    strcpy(e->edge.control, "127.0.0.1:7443");
    strcpy(e->edge.data.backend, "memif");
    strcpy(e->edge.data.poll, "adaptive");
    strcpy(e->edge.data.codec, "bf16");
    e->edge.data.lcores = 1;
    e->edge.data.mtu = 1500;
    e->edge.data.memory_mib = 256;
    e->edge.data.peer_timeout_s = 60;
    e->edge.slots = 64;
    e->edge.threads = 1;
    e->edge.max_devices = 64;
    e->edge.heartbeat_ms = 1000;
    e->edge.limits.handshakes = 8;
    e->edge.limits.messages_per_s = 200;
    e->edge.limits.grants_per_device = 2;
    e->edge.limits.grant_s = 60;
    e->edge.limits.grant_factor = 4;
    e->edge.limits.grant_margin_s = 15;
    e->edge.limits.park_mib = 256;
    e->edge.limits.events_per_s = 10;
    e->edge.limits.alone_s = 120; /* rules T11 */
    e->sim.lag_bound_ms = 1;
    strcpy(e->run.dir, "runs");
}

static int read_cpus(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_experiment *e = base;
    int status = 0;
    double v;

    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(r, node, "%s: give a list of CPUs, like [2, 3]", f->path);
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         status == 0 && i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(r->document, *i);
        if (e->edge.data.n_cpus == SL_DATA_LCORES_MAX)
            return sl_schema_error(r, item, "%s: more than %d CPUs", f->path, SL_DATA_LCORES_MAX);
        status = sl_schema_number(r, item, f->path, 0, 4095, true, &v);
        for (uint32_t k = 0; status == 0 && k < e->edge.data.n_cpus; k++)
            if (e->edge.data.cpus[k] == (uint32_t)v)
                status = sl_schema_error(
                    r, item, "%s: CPU %u twice; data lcores do not share one", f->path, e->edge.data.cpus[k]);
        if (status == 0)
            e->edge.data.cpus[e->edge.data.n_cpus++] = (uint32_t)v;
    }
    return status;
}

static int read_deadline(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    double seconds;

    if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "auto") == 0)
        return 0;
    int status = sl_schema_number(r, node, f->path, 0.01, 86400, false, &seconds);
    if (status == 0)
        ((struct sl_experiment *)base)->training.gang.deadline_ms = (uint32_t)(seconds * 1000 + 0.5);
    return status;
}

static int read_staleness(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    double v;

    if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, "auto") == 0)
        return 0;
    int status = sl_schema_number(r, node, f->path, 1, SL_STALENESS_MAX, true, &v);
    if (status == 0)
        ((struct sl_experiment *)base)->training.gang.staleness = (uint32_t)v;
    return status;
}

int sl_experiment_read_keys(struct sl_reader *r, yaml_node_t *root, struct sl_read_target *t)
{
    const struct sl_field *plan;
    size_t n = sl_experiment_plan_fields(&plan);
    struct sl_field all[SL_FIELDS_MAX];

    set_defaults(&t->e);
    sl_experiment_begin_plan(&t->e.plan);
    memcpy(all, fields, sizeof fields);
    for (size_t i = 0; i < n && COUNT(fields) + i < SL_FIELDS_MAX; i++)
        all[COUNT(fields) + i] = plan[i];
    return sl_schema_read(r, root, all, COUNT(fields) + n, t);
}
