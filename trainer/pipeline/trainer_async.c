/* Asynchronous gangs (rules L8): nobody waits for anybody. A gang is what is READY; a device pushes after its
 * own aggregate_every steps, or as soon as it is half of the bound behind, and its push is merged before the
 * next gang (merge.h), which makes a version. What is more than `staleness` versions behind is refused. */
#include "trainer/pipeline/trainer_internal.h"

#define CHECKPOINT_EVERY_NS UINT64_C(1000000000) /* versions may come many times a second */

bool sl_trainer_refuse_stale(struct sl_trainer *t, struct device *d, struct sl_slot *slot)
{
    if (!t->config.gang.async || t->version - d->version <= t->config.staleness)
        return false;
    d->tokens_since = 0; /* it gives up what it has trained, and pulls */
    d->steps_since = 0;
    slot->outcome.nll = 0;
    sl_trainer_return(t, slot, SL_OUTCOME_STALE, 0);
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return true;
    e->kind = SL_EVENT_STALE;
    e->device = (uint32_t)(d - t->devices);
    e->why =
        "its adapter is more versions behind than training.gang.staleness allows; it takes the present one";
    sl_mailbox_post(t->events, e);
    return true;
}

bool sl_trainer_push_due(const struct sl_trainer *t, const struct device *d)
{
    return d->steps_since >= t->config.aggregate_every ||
           2 * (t->version - d->version) >= t->config.staleness;
}

/* Messages that wait are not trained on any more. Their devices are told to push in the same breath, and so
 * is whoever still sends one (trainer.c, sort_in). */
void sl_trainer_end_async(struct sl_trainer *t, uint64_t now_ns)
{
    t->finishing = true;
    sl_trainer_begin_aggregation(t, now_ns);
    t->n_awaited = 0;
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        struct device *d = &t->devices[i];
        d->awaited = d->live && d->tokens_since > 0;
        t->n_awaited += d->awaited;
        struct sl_slot *slot = d->slot;
        if (!slot)
            continue;
        d->slot = NULL;
        sl_gang_set_ready(t->gang, i, false);
        sl_trainer_return(t, slot, SL_RESULT_SKIPPED, d->awaited ? SL_RESULT_BOUNDARY : 0);
    }
}

void sl_trainer_merge(struct sl_trainer *t, uint32_t n_copies)
{
    sl_merge(t->next, t->n_layers, t->block, t->copies, t->of, n_copies, t->sum);
}

bool sl_trainer_checkpoint_due(struct sl_trainer *t, uint64_t now_ns)
{
    if (t->personal.store)
        return sl_personal_first_checkpoint(t);
    if (t->config.gang.async && t->checkpoint_ns && !t->finishing &&
        now_ns - t->checkpoint_ns < CHECKPOINT_EVERY_NS)
        return false;
    if (t->config.aggregation == SL_AGGREGATE_GRADIENTS && !t->finishing &&
        t->version % t->config.aggregate_every)
        return false;
    if (t->n_givers) /* moments of it are still on their way */
        return false;
    t->checkpoint_ns = now_ns;
    return true;
}
