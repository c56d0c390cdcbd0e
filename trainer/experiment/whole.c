/* What no single key can say. */
#include "trainer/experiment/read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int refuse(struct sl_reader *r, size_t line, const char *text)
{
    snprintf(r->err, r->err_cap, "%s:%zu: %s", r->file, line, text);
    return -EINVAL;
}

/* Nothing of one device's training reaches another's: what says how it does makes no sense. */
static int check_personal(struct sl_reader *r, const struct sl_experiment *e)
{
    if (strcmp(e->training.adapters, "personal"))
        return e->edge.adapters.resident ? refuse(r, 1,
                                               "edge.adapters.resident: for training.adapters: personal "
                                               "alone; remove it")
                                         : 0;
    if (e->training.gang.async)
        return refuse(r, 1,
            "training.gang.policy: personal adapters have no version that a device could be behind; take "
            "sync");
    if (strcmp(e->training.aggregation, "weights") || e->training.accumulate > 1)
        return refuse(r, 1,
            "training.aggregation and training.accumulate: personal adapters are not aggregated; take "
            "weights and 1");
    if (e->n_changes)
        return refuse(r, 1,
            "plan.changes: a layer that moves takes the global adapter, and personal adapters have none; "
            "remove "
            "it");
    if (e->training.lora.svd)
        return refuse(
            r, 1, "training.lora.how: personal adapters are not averaged; take factors or freeze_a");
    if (e->training.fedprox_mu > 0 || strcmp(e->training.server.kind, "none"))
        return refuse(r, 1,
            "training.fedprox_mu and training.server: personal adapters have no common one to stay near or "
            "to "
            "step; remove them");
    if (e->training.deterministic && e->edge.adapters.resident && e->edge.adapters.resident < e->n_devices)
        return refuse(r, 1,
            "edge.adapters.resident: a deterministic gang of all devices needs all their adapters in memory");
    return 0;
}

/* Asynchronous gangs have no common boundary, and no order that could be repeated. */
static int check_async(struct sl_reader *r, struct sl_read_target *t)
{
    struct sl_experiment *e = &t->e;

    e->training.gang.async = strcmp(t->policy, "async") == 0;
    if (!e->training.gang.async && e->training.gang.max)
        return refuse(r, 1,
            "training.gang.max: for training.gang.policy: async alone; a synchronous gang takes all devices");
    if (!e->training.gang.async)
        return e->training.gang.staleness ? refuse(r, 1,
                                                "training.gang.staleness: for training.gang.policy: async "
                                                "alone; remove it")
                                          : 0;
    if (e->training.deterministic)
        return refuse(r, 1,
            "training.deterministic: asynchronous gangs depend on who comes when; take training.gang.policy: "
            "sync");
    if (strcmp(e->training.aggregation, "gradients") == 0 || e->training.accumulate > 1)
        return refuse(r, 1,
            "training.gang.policy: asynchronous gangs make a step of each message; they need "
            "training.aggregation: weights and training.accumulate: 1");
    uint32_t usual = SL_STALENESS_PER_DEVICE * e->n_devices;
    if (e->training.gang.staleness == 0)
        e->training.gang.staleness = usual < SL_STALENESS_AUTO_MIN   ? SL_STALENESS_AUTO_MIN
                                     : usual > SL_STALENESS_AUTO_MAX ? SL_STALENESS_AUTO_MAX
                                                                     : usual;
    return 0;
}

/* Only svd can average factors of different ranks (rules L5). */
static int check_ranks(struct sl_reader *r, struct sl_experiment *e)
{
    for (uint32_t i = 0; i < e->n_classes; i++) {
        uint32_t *rank = &e->fleet[i].rank;
        if (*rank == 0)
            *rank = e->training.lora.rank;
        if (*rank > e->training.lora.rank)
            return refuse(
                r, 1, "fleet: a class has a rank above training.lora.rank, the global adapter's; raise that");
        if (*rank != e->training.lora.rank && !e->training.lora.svd)
            return refuse(r, 1,
                "fleet: a class has another rank than training.lora.rank, which needs training.lora.how: "
                "svd");
    }
    if (e->training.lora.svd && strcmp(e->training.aggregation, "gradients") == 0)
        return refuse(r, 1,
            "training.lora.how: svd averages weights, and gradients mode adds gradients, which is exact "
            "already; take factors or freeze_a");
    if (e->training.lora.svd && e->training.gang.async)
        return refuse(r, 1,
            "training.lora.how: svd resets the optimiser at each aggregation, and an asynchronous gang "
            "aggregates at each push; use factors or freeze_a");
    return 0;
}

/* What is done to copies, or to their mean, needs copies that leave a common G and meet again. */
static int check_federated(struct sl_reader *r, const struct sl_experiment *e)
{
    bool gradients = strcmp(e->training.aggregation, "gradients") == 0;
    bool server = strcmp(e->training.server.kind, "none") != 0;
    if (e->training.fedprox_mu > 0 && gradients)
        return refuse(r, 1,
            "training.fedprox_mu: where gradients are aggregated no copy ever leaves G; remove it, or take "
            "training.aggregation: weights");
    if (server && (gradients || e->training.lora.svd || e->training.gang.async))
        return refuse(r, 1,
            "training.server.kind: a server's optimiser needs training.aggregation: weights with factors or "
            "freeze_a and "
            "synchronous gangs");
    return 0;
}

static int check_shards(struct sl_reader *r, const struct sl_experiment *e)
{
    bool dirichlet = strcmp(e->data.shards, "dirichlet") == 0;

    if (dirichlet && !e->data.dirichlet.line)
        return refuse(r, 1, "data.shards: dirichlet needs its alpha; give data.dirichlet: {alpha: 0.5}");
    if (!dirichlet && e->data.dirichlet.line)
        return refuse(r, e->data.dirichlet.line,
            "data.dirichlet: for data.shards: dirichlet alone; remove it, or set that");
    return 0;
}

/* Rules L7: no churn. */
static int check_life(struct sl_reader *r, const struct sl_experiment *e)
{
    for (uint32_t i = 0; i < e->n_classes && e->training.deterministic; i++)
        if (sl_life_keys_change(&e->fleet[i].life))
            return refuse(r, e->fleet[i].life.line,
                "training.deterministic: needs all phones all the time; remove arrivals, availability, crash "
                "and kill");
    return 0;
}

/* Who computes and who only seems to. */
static int check_compute(struct sl_reader *r, struct sl_read_target *t)
{
    struct sl_experiment *e = &t->e;

    e->edge.modelled = strcmp(t->edge_compute, "modelled") == 0;
    e->sim.replay = strcmp(t->sim_compute, "replay") == 0;
    if (e->edge.modelled && e->edge.compute_gflops == 0)
        return refuse(r, 1, "edge.compute: modelled needs edge.compute_gflops, the speed of the edge node");
    if (e->sim.recording[0] && !e->sim.replay)
        return refuse(r, 1, "sim.recording: for sim.compute: replay alone; sim.record makes a recording");
    if (e->sim.record[0] && e->sim.replay)
        return refuse(r, 1, "sim.record: records what real phones send; remove it, or sim.compute: replay");
    if (e->sim.replay && e->training.lora.svd)
        return refuse(r, 1,
            "sim.compute: phones that replay hold the global adapter at its own rank; take "
            "training.lora.how: factors or freeze_a");
    return 0;
}

int sl_experiment_check_whole(struct sl_reader *r, struct sl_read_target *t)
{
    struct sl_experiment *e = &t->e;

    if (t->cuts.n != 1 && t->cuts.n != e->n_classes)
        return refuse(r, t->cuts.line,
            "plan.cut: give one cut for all classes, or one per class of the fleet in its order");
    for (uint32_t k = 0; k < e->n_changes; k++) {
        const struct sl_read_cuts *c = &t->changes[k];
        if (c->n != 1 && c->n != e->n_classes)
            return refuse(r, c->line,
                "plan.changes: give one cut for all classes, or one per class of the fleet in its order");
        for (uint32_t i = 0; i < e->n_classes; i++)
            e->changes[k].cut[i] = c->cut[c->n == 1 ? 0 : i];
    }
    for (uint32_t i = 0; i < e->n_classes; i++) {
        e->fleet[i].cut = t->cuts.cut[t->cuts.n == 1 ? 0 : i];
        if (e->fleet[i].seq == 0)
            e->fleet[i].seq = e->data.seq;
    }
    if (e->run.steps == 0 && e->run.seconds == 0)
        return refuse(r, 1, "run: give run.steps or run.seconds, or both");
    if (e->training.deterministic && (e->run.steps == 0 || e->run.seconds > 0))
        return refuse(r, 1, "training.deterministic: such a run ends by run.steps alone; remove run.seconds");
    int status = check_async(r, t);
    if (status)
        return status;
    if (strcmp(e->training.optimizer.schedule, "constant") && e->run.steps == 0)
        return refuse(r, 1,
            "training.optimizer.schedule: a rate that falls needs to know the last step; give run.steps");
    if (e->run.steps && e->training.optimizer.warmup > e->run.steps)
        return refuse(r, 1, "training.optimizer.warmup: more than run.steps; lower it");
    if (strcmp(e->training.aggregation, "weights") == 0 &&
        e->training.aggregate_every % e->training.accumulate)
        return refuse(r, 1,
            "training.aggregate_every: not a multiple of training.accumulate; an aggregation would cut an "
            "optimiser step in two");
    if (e->edge.data.queues > e->edge.data.lcores)
        return refuse(r, 1, "edge.data.queues: more than edge.data.lcores, which read one each; lower it");
    if (e->edge.data.queues == 0)
        e->edge.data.queues = e->edge.data.lcores;
    if (e->edge.data.n_cpus != 0 && e->edge.data.n_cpus != e->edge.data.lcores)
        return refuse(r, 1, "edge.data.cpus: name one CPU for each of edge.data.lcores, or none");
    if (!e->edge.data.fleet_backend[0])
        strcpy(e->edge.data.fleet_backend, e->edge.data.backend);
    if (!e->edge.data.address[0])
        strcpy(e->edge.data.address,
            strcmp(e->edge.data.backend, SL_BACKEND_URING) == 0 ? "127.0.0.1:4433" : "10.77.0.1:4433");
    e->training.lora.freeze_a = strcmp(t->how, "freeze_a") == 0;
    e->training.lora.svd = strcmp(t->how, "svd") == 0;
    status = sl_experiment_check_fixed(r, t);
    if (!status)
        status = check_compute(r, t);
    if (!status)
        status = check_ranks(r, e);
    if (!status)
        status = check_federated(r, e);
    if (!status)
        status = check_personal(r, e);
    if (!status)
        status = sl_experiment_check_plan(r, t);
    if (!status)
        status = check_shards(r, e);
    if (!status)
        status = check_life(r, e);
    if (!status)
        status = sl_experiment_check_radio(r, e);
    if (status)
        return status;
    if (e->training.lora.n_targets == 0) {
        strcpy(e->training.lora.targets[0], "q_proj");
        strcpy(e->training.lora.targets[1], "v_proj");
        e->training.lora.n_targets = 2;
    }
    return 0;
}
