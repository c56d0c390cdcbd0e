/* Numbers that follow from the experiment and the model, and refusals of experiments that do not fit them. */
#include "trainer/edge/edge.h"

#include "dataplane/io/lcore/address.h"
#include "trainer/model/proximal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int lay_out_lora(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    e->lora = (struct sl_lora_config){.rank = x->training.lora.rank,
        .alpha = (float)x->training.lora.alpha,
        .freeze_a = x->training.lora.freeze_a,
        .seed = x->seed};
    for (uint32_t i = 0; i < x->training.lora.n_targets; i++) {
        uint32_t bits = sl_target_bits(e->shape->family, x->training.lora.targets[i]);
        if (!bits) {
            snprintf(e->err, sizeof e->err,
                "training.lora.targets: the model has no layer '%s'; a %s model has %s",
                x->training.lora.targets[i], e->shape->family == SL_FAMILY_LLAMA ? "Llama" : "GPT-2",
                e->shape->family == SL_FAMILY_LLAMA
                    ? "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj"
                    : "c_attn, c_proj and c_fc");
            return -EINVAL;
        }
        e->lora.targets |= bits;
    }
    e->block = sl_adapter_block_size(e->shape, &e->lora);
    e->optim = (struct sl_optim_config){.kind = strcmp(x->training.optimizer.kind, "sgd") ? SL_ADAMW : SL_SGD,
        .lr = (float)x->training.optimizer.lr,
        .beta1 = (float)x->training.optimizer.beta1,
        .beta2 = (float)x->training.optimizer.beta2,
        .eps = (float)x->training.optimizer.eps,
        .fedprox_mu = x->training.fedprox_mu,
        .proximal = sl_proximal_strength(e->shape, &e->lora, x->training.proximal_mu),
        .weight_decay = (float)x->training.optimizer.weight_decay,
        .schedule = {.steps = x->run.steps,
            .warmup = x->training.optimizer.warmup,
            .floor = x->training.optimizer.floor},
        .clip = x->training.optimizer.clip};
    sl_schedule_parse(x->training.optimizer.schedule, &e->optim.schedule.kind);
    return 0;
}

static int lay_out_classes(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    e->min_cut = e->shape->n_layers;
    e->min_rank = e->lora.rank;
    for (uint32_t i = 0; i < x->n_classes; i++) {
        const struct sl_class_config *c = &x->fleet[i];
        if (c->cut < 1 || c->cut >= e->shape->n_layers) {
            snprintf(e->err, sizeof e->err,
                "plan.cut: class %s cannot be cut at %u; the model's %u layers allow 1 to %u", c->name,
                c->cut, e->shape->n_layers, e->shape->n_layers - 1);
            return -EINVAL;
        }
        if (c->seq < 2 || c->seq - 1 > e->shape->max_positions) {
            snprintf(e->err, sizeof e->err,
                "data.seq: windows of %u tokens do not fit the model's %u positions", c->seq,
                e->shape->max_positions);
            return -EINVAL;
        }
        uint32_t rows = x->training.batch * (c->seq - 1);
        e->min_cut = c->cut < e->min_cut ? c->cut : e->min_cut;
        e->min_rank = c->rank < e->min_rank ? c->rank : e->min_rank;
        e->max_cut = c->cut > e->max_cut ? c->cut : e->max_cut;
        e->message_rows = rows > e->message_rows ? rows : e->message_rows;
    }
    return 0;
}

static int lay_out_slots(struct edge *e)
{
    struct sl_experiment *x = e->x;
    struct sl_grid grid;
    if (x->training.batch > SL_SEQS_MAX) {
        snprintf(e->err, sizeof e->err, "training.batch: a message holds at most %d windows", SL_SEQS_MAX);
        return -EINVAL;
    }
    e->fragment_units = sl_fragment_units(x->edge.data.mtu, !sl_addr_is_mapped(&e->data_addr));
    if (sl_grid_make(&grid, e->message_rows, e->shape->d_model, e->codec, 1, e->fragment_units)) {
        snprintf(e->err, sizeof e->err, "training.batch and data.seq: a message of %u rows is too large",
            e->message_rows);
        return -EINVAL;
    }
    uint32_t kib = (sl_grid_slot_units(&grid) * SL_UNIT_BYTES + 1023) / 1024;
    if (x->edge.slot_kib == 0)
        x->edge.slot_kib = kib;
    if (x->edge.slot_kib < kib) {
        snprintf(e->err, sizeof e->err,
            "edge.slot_kib: a message of %u windows needs %u KiB; raise it, or leave it out",
            x->training.batch, kib);
        return -ERANGE;
    }
    if (x->training.deterministic && x->edge.slots < x->n_devices) {
        snprintf(e->err, sizeof e->err,
            "training.deterministic: a gang of all %u devices needs as many slots; raise edge.slots",
            x->n_devices);
        return -ERANGE;
    }
    if (x->training.deterministic && x->edge.max_devices < x->n_devices) {
        snprintf(e->err, sizeof e->err,
            "training.deterministic: all %u devices have to be let in; raise edge.max_devices", x->n_devices);
        return -ERANGE;
    }
    e->max_devices = x->edge.max_devices;
    e->personal = strcmp(x->training.adapters, "personal") == 0;
    return 0;
}

static uint32_t share(uint32_t n, uint32_t lcores)
{
    return (n + lcores - 1) / lcores;
}

/* Shares are rounded up: with as many slots in all as devices, the lcore that has most devices (join.c:
 * least_loaded) then has a slot for each. */
static int lay_out_lcores(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    _Static_assert(SL_DATA_LCORES_MAX <= (int)SL_LCORES_MAX, "a session id can name every lcore");
    if (e->data_addr.port + x->edge.data.lcores - 1 > 65535) {
        snprintf(e->err, sizeof e->err,
            "edge.data.address: %u data lcores take the ports from %u on, one each; name a lower port",
            x->edge.data.lcores, e->data_addr.port);
        return -ERANGE;
    }
    e->n_lcores = x->edge.data.lcores;
    e->lcores = aligned_alloc(_Alignof(struct edge_lcore), e->n_lcores * sizeof *e->lcores);
    if (!e->lcores)
        return -ENOMEM;
    memset(e->lcores, 0, e->n_lcores * sizeof *e->lcores);
    for (uint32_t i = 0; i < e->n_lcores; i++) {
        e->lcores[i].index = i;
        e->lcores[i].cpu = -1;
        e->lcores[i].n_slots = share(x->edge.slots, e->n_lcores);
        e->lcores[i].max_sessions = EDGE_SESSIONS_PER_DEVICE * share(e->max_devices, e->n_lcores);
    }
    return 0;
}

int edge_lay_out(struct edge *e)
{
    if (sl_codec_parse(e->x->edge.data.codec, &e->codec)) {
        snprintf(e->err, sizeof e->err, "edge.data.codec: '%s' is not known", e->x->edge.data.codec);
        return -EINVAL;
    }
    if (sl_addr_parse(e->x->edge.data.address, &e->data_addr) || e->data_addr.port == 0 ||
        sl_addr_is_unspecified(&e->data_addr)) {
        snprintf(e->err, sizeof e->err,
            "edge.data.address: '%s' is not an address and port, like 10.77.0.1:4433 or [fd00::1]:4433",
            e->x->edge.data.address);
        return -EINVAL;
    }
    int status = lay_out_lora(e);
    if (!status)
        status = lay_out_classes(e);
    if (!status)
        status = edge_lay_out_changes(e);
    if (!status && e->min_rank < e->lora.rank) { /* changes may have raised max_cut */
        e->low_rank = malloc(e->max_cut * e->block * sizeof *e->low_rank);
        status = e->low_rank ? 0 : -ENOMEM;
    }
    if (!status)
        status = lay_out_slots(e);
    return status ? status : lay_out_lcores(e);
}
