/* Cuts on the control thread (rules L9): what a device is told when it joins, and when its cut changes. */
#include "trainer/edge/edge.h"
#include "trainer/model/footprint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PHONE_SNAPSHOTS = 2 }; /* rules T12: the last two boundaries */

_Static_assert(
    SL_CHANGES_MAX == sizeof(((struct edge *)0)->changes) / sizeof(struct sl_cut_change), "all fit");

static int impossible(struct edge *e, uint64_t step, uint32_t class, uint32_t cut)
{
    snprintf(e->err, sizeof e->err,
        "plan.changes: at step %llu class %s cannot be cut at %u; the model's %u layers allow 1 to %u",
        (unsigned long long)step, e->x->fleet[class].name, cut, e->shape->n_layers, e->shape->n_layers - 1);
    return -EINVAL;
}

/* As a phone keeps it: the simulator asks the same of itself (sl_front_memory). */
static uint32_t memory_mib(const struct edge *e, uint32_t class, uint32_t cut)
{
    const struct sl_class_config *c = &e->x->fleet[class];
    struct sl_footprint f = {.lora = e->lora,
        .cut = cut,
        .seq = c->seq,
        .train_windows = e->x->training.batch,
        .eval_windows = 1,
        .moments = strcmp(e->x->training.aggregation, "gradients") && e->optim.kind == SL_ADAMW,
        .snapshots = PHONE_SNAPSHOTS,
        .precision = sl_model_precision(e->model)};
    f.lora.rank = c->rank;
    return (uint32_t)((sl_model_footprint(e->shape, &f) + (1 << 20) - 1) >> 20);
}

/* plan.cut: auto, random: no class is given more layers than its phones hold. */
static int bound_by_memory(struct edge *e)
{
    struct sl_plan_keys *keys = &e->x->plan;
    for (uint32_t i = 0; i < e->x->n_classes; i++) {
        struct sl_class_config *c = &e->x->fleet[i];
        uint32_t most = keys->max_cut[i];
        while (most > keys->min_cut[i] && memory_mib(e, i, most) > c->memory_mib)
            most--;
        if (memory_mib(e, i, most) > c->memory_mib) {
            snprintf(e->err, sizeof e->err,
                "plan.min_cut: %u layers take %u MiB of a phone of class %s, which has %u (memory_mib); "
                "lower "
                "it, data.seq or training.batch",
                most, memory_mib(e, i, most), c->name, c->memory_mib);
            return -EINVAL;
        }
        if (most < keys->max_cut[i])
            edge_say(e, "class %s: its memory holds %u layers at most", c->name, most);
        keys->max_cut[i] = most;
        c->cut = c->cut > most ? most : c->cut;
    }
    return 0;
}

int edge_lay_out_changes(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    bool bounds = x->plan.live || x->plan.random;
    int status = bounds ? bound_by_memory(e) : 0;
    if (status)
        return status;
    if (bounds)
        sl_experiment_cuts(x, &e->min_cut, &e->max_cut);
    for (uint32_t i = 0; i < x->n_changes; i++) {
        e->changes[i] = (struct sl_cut_change){.step = x->changes[i].step, .cut = x->changes[i].cut};
        for (uint32_t c = 0; c < x->n_classes; c++) {
            uint32_t cut = x->changes[i].cut[c];
            if (cut < 1 || cut >= e->shape->n_layers)
                return impossible(e, x->changes[i].step, c, cut);
            e->min_cut = cut < e->min_cut ? cut : e->min_cut;
            e->max_cut = cut > e->max_cut ? cut : e->max_cut;
        }
    }
    return 0;
}

uint32_t edge_class_index(const struct edge *e, const struct device *d)
{
    return (uint32_t)(d->class - e->x->fleet);
}

void edge_choose_cut(struct edge *e, struct device *d, bool same_class)
{
    if (e->x->plan.live && (!d->cut || (d->session_id && !same_class))) /* else: of the checkpoint */
        d->cut = edge_plan_first_cut(e, edge_class_index(e, d));
    else if (!e->x->plan.live && (!d->cut || !same_class))
        d->cut = sl_experiment_device_cut(e->x, edge_class_index(e, d), d->index, e->version_step);
}

static void send_moments(struct edge *e, struct device *d, const struct sl_event *event)
{
    for (uint32_t l = event->cut.from; event->cut.moments && l < event->cut.to; l++) {
        const struct sl_given_moments *given = &event->cut.moments[l - event->cut.from];
        struct sl_adapter_transfer t = {.kind = SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS,
            .version = event->cut.version,
            .step = given->t,
            .first = l,
            .last = l + 1,
            .data = given->m_v,
            .n = 2 * e->block};
        if (given->m_v)
            sl_control_send_adapter(d->control, &t); /* -ENOBUFS: it does not read; fresh ones then */
    }
}

/* An event of an earlier session says nothing to a device that has joined anew: the trainer compares what its
 * Welcome said with what it should be, and changes that at the next boundary. */
void edge_cut_changed(struct edge *e, struct sl_event *event)
{
    struct device *d = &e->devices[event->device];
    bool its_session = event->cut.live && d->state == DEVICE_JOINED && d->lcore == event->cut.lcore &&
                       d->session == event->cut.session;
    if (d->state != DEVICE_JOINED || its_session)
        d->cut = event->cut.to;
    edge_plan_cut_changed(e, d);
    if (its_session) {
        edge_send_plan(e, d, event->cut.give_moments);
        send_moments(e, d, event);
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddNumberToObject(o, "step", (double)event->cut.step);
    cJSON_AddNumberToObject(o, "version", (double)event->cut.version);
    cJSON_AddNumberToObject(o, "from", event->cut.from);
    cJSON_AddNumberToObject(o, "to", event->cut.to);
    cJSON_AddBoolToObject(o, "live", event->cut.live);
    edge_event(e, "cut", o);
    sl_given_moments_free(
        event->cut.moments, event->cut.to > event->cut.from ? event->cut.to - event->cut.from : 0);
}

void edge_old_cut(struct edge *e, const struct sl_event *event)
{
    struct device *d = &e->devices[event->device];
    e->old_cuts++;
    edge_say(e, "skipped a message of %s: %s", d->id, event->why);
}
