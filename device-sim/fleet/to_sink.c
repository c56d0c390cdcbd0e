#include "device-sim/fleet/to_sink.h"

#include "dataplane/io/lcore/address.h"
#include "dataplane/wire/grid.h"
#include "dataplane/wire/packet.h"
#include "device-sim/fleet/bodies.h"
#include "device-sim/fleet/phone_links.h"
#include "device-sim/sink/bounds.h"
#include "device-sim/sink/sink.h"
#include "trainer/model/config.h"
#include "trainer/model/json.h"
#include "trainer/plan/cost.h"
#include "trainer/tensor/rng.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CONFIG_BYTES_MAX = 1 << 20,
    PACKETS_PER_PHONE = 256, /* a message and a gradient of 192 KiB, at most */
    PACKETS_MIN = 6000,
    PACKETS_MAX = 1 << 20,
};
/* What the edge computes at, where the experiment says nothing: as in virtual time. */
static const double default_edge_flops = 200e9, ns_per_s = 1e9;

struct load {
    struct sl_experiment *e;
    struct sl_model_config model;
    struct sl_cost_shape cost;
    enum sl_codec codec;
    struct sl_phone_addresses addresses;
    struct sl_addr edge;
    struct sl_bodies bodies;
    struct sl_flow_shape *shape;
    struct sl_emulator *emulator;
    struct sl_sink *sink;
};

static int load_model(struct load *l, char *err, size_t err_cap)
{
    char path[SL_PATH_BYTES + 16], *text = NULL;
    size_t len;

    snprintf(path, sizeof(path), "%s/config.json", l->e->model.path);
    int rc = sl_read_file(path, CONFIG_BYTES_MAX, &text, &len, err, err_cap);
    if (!rc)
        rc = sl_model_config_parse(text, len, &l->model, err, err_cap);
    free(text);
    l->cost = (struct sl_cost_shape){.d_model = l->model.d_model,
        .n_heads = l->model.n_heads,
        .n_kv_heads = l->model.n_kv_heads,
        .head_dim = l->model.head_dim,
        .d_ff = l->model.d_ff,
        .vocab = l->model.vocab,
        .gated_mlp = l->model.family == SL_FAMILY_LLAMA};
    return rc;
}

/* Of one block, for a message of a phone's. */
static double block_flop(const struct load *l, const struct sl_class_config *c, bool backward)
{
    uint32_t lens[SL_SEQS_MAX], n = l->e->training.batch;

    for (uint32_t i = 0; i < n; i++)
        lens[i] = c->seq - 1;
    return backward ? sl_cost_block_backward(&l->cost, lens, n) : sl_cost_block_forward(&l->cost, lens, n);
}

static int shape_of(const struct load *l, uint32_t i, struct sl_flow_shape *s, char *err, size_t err_cap)
{
    const struct sl_class_config *c = &l->e->fleet[sl_experiment_class_of(l->e, i)];
    uint32_t rows = l->e->training.batch * (c->seq - 1);
    uint16_t fragment = sl_fragment_units(l->e->edge.data.mtu, !sl_addr_is_mapped(&l->edge));
    struct sl_grid g;

    if (c->cut < 1 || c->cut >= l->model.n_layers) {
        snprintf(err, err_cap, "plan.cut is %u for class %s, but the model has %u blocks; give 1 to %u",
            c->cut, c->name, l->model.n_layers, l->model.n_layers - 1);
        return -EINVAL;
    }
    if (sl_grid_make(&g, rows, l->model.d_model, l->codec, 1, fragment)) {
        snprintf(err, err_cap, "training.batch and data.seq: a message of %u rows is too large", rows);
        return -EINVAL;
    }
    double edge_flops = l->e->edge.modelled ? l->e->edge.compute_gflops * 1e9 : default_edge_flops;
    double flop = (l->model.n_layers - c->cut) * (block_flop(l, c, false) + block_flop(l, c, true)) +
                  2 * sl_cost_head_forward(&l->cost, rows); /* its backward: the input's gradient */
    *s = (struct sl_flow_shape){.up_units = g.n_units,
        .down_units = g.tensor_units,
        .fragment_units = fragment,
        .head_bytes = SL_HEADER_DATA_BYTES + SL_TAG_BYTES,
        .address = sl_phone_address(&l->addresses, i),
        .edge_ns = (uint64_t)(flop / edge_flops * ns_per_s)};
    return 0;
}

static uint64_t compute_ns(void *ctx, uint32_t phone, bool backward, uint64_t now_ns)
{
    struct load *l = ctx;
    const struct sl_class_config *c = &l->e->fleet[sl_experiment_class_of(l->e, phone)];

    return sl_body_compute(&l->bodies.body[phone], c->cut * block_flop(l, c, backward), now_ns);
}

static int load(struct load *l, const struct sl_sim_options *o, char *err, size_t err_cap)
{
    l->e = calloc(1, sizeof(*l->e));
    if (!l->e) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    int rc = sl_experiment_load(o->experiment, l->e, err, err_cap);
    if (rc)
        return rc;
    if (sl_codec_parse(l->e->edge.data.codec, &l->codec) ||
        sl_addr_parse(l->e->edge.data.address, &l->edge)) {
        snprintf(err, err_cap, "edge.data: codec or address is not known");
        return -EINVAL;
    }
    if (l->e->training.batch > SL_SEQS_MAX) {
        snprintf(err, err_cap, "training.batch: a message holds at most %d windows", SL_SEQS_MAX);
        return -EINVAL;
    }
    rc = load_model(l, err, err_cap);
    if (!rc)
        rc = sl_phone_addresses(l->e, &l->addresses, err, err_cap);
    if (rc)
        return rc;
    l->shape = calloc(l->e->n_devices, sizeof(*l->shape));
    if (!l->shape || sl_bodies_create(l->e, 0, &l->bodies)) {
        snprintf(err, err_cap, "out of memory for %u phones", l->e->n_devices);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < l->e->n_devices && !rc; i++) {
        rc = shape_of(l, i, &l->shape[i], err, err_cap);
        sl_body_awake(&l->bodies.body[i], true, 0);
    }
    return rc;
}

static int check_target(const struct sl_sim_options *o, struct sl_addr *to, char *err, size_t err_cap)
{
    if (sl_addr_parse(o->sink, to) || to->port == 0) {
        snprintf(err, err_cap, "--sink %s: not an address and port, like 192.168.1.2:5001 or [fd00::2]:5001",
            o->sink);
        return -EINVAL;
    }
    switch (sl_sink_reach(to)) {
    case SL_SINK_NEVER:
        snprintf(err, err_cap, "--sink %s: is no single host's address", o->sink);
        return -EINVAL;
    case SL_SINK_FAR:
        if (!o->force) {
            snprintf(err, err_cap,
                "--sink %s: not a private, loopback or link-local address; give --force if that host may be "
                "loaded",
                o->sink);
            return -EPERM;
        }
        break;
    case SL_SINK_NEAR:
        break;
    }
    return 0;
}

static int open_all(struct load *l, const struct sl_sim_options *o, const volatile sig_atomic_t *signals,
    char *err, size_t err_cap)
{
    uint32_t n = l->e->n_devices;
    uint64_t most = (uint64_t)n * PACKETS_PER_PHONE;
    uint32_t packets = most < PACKETS_MIN ? PACKETS_MIN : most > PACKETS_MAX ? PACKETS_MAX : (uint32_t)most;
    struct sl_sink_config c = {.flows = {.n = n,
                                   .max_packets = 2 * packets,
                                   .seed = l->e->seed,
                                   .shape = l->shape,
                                   .edge = l->edge,
                                   .gang = {.sync = !l->e->training.gang.async,
                                       .quorum = l->e->training.gang.quorum,
                                       .deadline_ns = (uint64_t)l->e->training.gang.deadline_ms * 1000000u},
                                   .emulator = &sl_fleet_emulator,
                                   .compute_ns = compute_ns},
        .compute_ctx = l,
        .pcap = o->pcap,
        .down = o->down,
        .seconds = o->seconds,
        .mbps = o->rate_mbps,
        /* A capture is the same for the same experiment; what goes to a host is told apart by its run. */
        .run = sl_rng_key(l->e->seed ^ (o->pcap ? 0 : (uint64_t)time(NULL)), l->e->name),
        .signals = signals};
    int rc = o->sink ? check_target(o, &c.to, err, err_cap) : 0;

    if (!rc)
        rc = sl_phone_links_open(l->e, &l->addresses, packets, 0, &l->emulator, err, err_cap);
    c.flows.emulator_ctx = l->emulator;
    if (!rc)
        rc = sl_sink_open(&c, &l->sink, err, err_cap);
    if (!rc)
        sl_emulator_bind(l->emulator, sl_sink_queue(l->sink));
    return rc;
}

static cJSON *direction_json(const struct sl_flow_totals *t)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "offered", (double)t->offered);
    cJSON_AddNumberToObject(o, "offered_bytes", (double)t->offered_bytes);
    cJSON_AddNumberToObject(o, "arrived", (double)t->arrived);
    cJSON_AddNumberToObject(o, "arrived_bytes", (double)t->arrived_bytes);
    cJSON_AddNumberToObject(o, "dropped", (double)t->dropped);
    cJSON_AddNumberToObject(o, "messages", (double)t->messages);
    return o;
}

static void print_json(const struct sl_sink_result *r)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "seconds", r->seconds);
    cJSON_AddItemToObject(o, "up", direction_json(&r->up));
    cJSON_AddItemToObject(o, "down", direction_json(&r->down));
    cJSON_AddNumberToObject(o, "gangs", (double)r->gangs);
    cJSON_AddNumberToObject(o, "given", (double)r->given);
    cJSON_AddNumberToObject(o, "sent", (double)r->sent);
    cJSON_AddNumberToObject(o, "sent_bytes", (double)r->sent_bytes);
    cJSON_AddNumberToObject(o, "rate_limited", (double)r->rate_limited);
    cJSON_AddNumberToObject(o, "refused", (double)r->refused);
    cJSON_AddNumberToObject(o, "unreachable", (double)r->unreachable);
    cJSON_AddNumberToObject(o, "too_long", (double)r->too_long);
    cJSON_AddNumberToObject(o, "no_room", (double)r->no_room);
    cJSON_AddNumberToObject(o, "late_max_us", (double)r->late_max_ns * 1e-3);
    char *text = cJSON_PrintUnformatted(o);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(o);
}

static void print_text(const struct sl_sink_result *r, uint32_t phones, const char *where)
{
    printf("%u phones, %.3f s: %llu packets, %.3f Mbit/s to %s; %llu messages, %llu gangs; lost in the "
           "emulated links %llu, over the rate limit %llu, not taken by the network %llu\n",
        phones, r->seconds, (unsigned long long)r->sent,
        r->seconds > 0 ? (double)r->sent_bytes * 8e-6 / r->seconds : 0, where,
        (unsigned long long)r->up.messages, (unsigned long long)r->gangs, (unsigned long long)r->up.dropped,
        (unsigned long long)r->rate_limited,
        (unsigned long long)(r->refused + r->unreachable + r->too_long + r->no_room));
}

int sl_to_sink(
    const struct sl_sim_options *o, const volatile sig_atomic_t *signals, char *err, size_t err_cap)
{
    struct load l = {0};
    struct sl_sink_result r;
    int rc = load(&l, o, err, err_cap);

    if (!rc)
        rc = open_all(&l, o, signals, err, err_cap);
    if (!rc) {
        fprintf(stderr, "sluice-sim: %u phones to %s: at most %g Mbit/s, %g s\n", l.e->n_devices,
            o->pcap ? o->pcap : o->sink, o->rate_mbps, o->seconds);
        rc = sl_sink_run(l.sink, &r, err, err_cap);
    }
    if (!rc && o->json)
        print_json(&r);
    else if (!rc)
        print_text(&r, l.e->n_devices, o->pcap ? o->pcap : o->sink);
    sl_sink_close(l.sink);
    sl_emulator_free(l.emulator);
    sl_sink_free(l.sink);
    sl_bodies_free(&l.bodies);
    free(l.shape);
    free(l.e);
    return rc ? rc : *signals ? 130 : 0;
}
