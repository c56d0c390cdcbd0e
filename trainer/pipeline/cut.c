/* Change of cut in mid-run (rules L9), at aggregation boundaries only: a device has a new cut from the
 * version of G on that it is given while nothing of it is in flight.
 *
 *   changes due at this boundary, or asked for --> next_cut
 *   G goes to a device: next_cut becomes its cut --> SL_EVENT_CUT, then VERSION or INSTALL
 *
 * A layer takes G wherever it goes. Its optimiser moments go along where the giver's were the only ones:
 *
 *   to the device:  the edge alone trained the layer. The event carries its moments.
 *   to the edge:    that device alone did. It is told to give them, and the next gang waits for them.
 *   else fresh ones. Moments of a layer that the edge no longer trains are forgotten.
 *
 * Where gradients are aggregated all moments are the edge's and stay. Asynchronous gangs do not wait: fresh.
 */
#include "trainer/pipeline/trainer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool moments_move(const struct sl_trainer *t)
{
    return t->config.aggregation == SL_AGGREGATE_WEIGHTS && t->config.optim.kind != SL_SGD &&
           !t->config.gang.async && !t->config.svd; /* which makes moments fresh anyhow */
}

static bool possible(const struct sl_trainer *t, uint32_t cut)
{
    return cut >= t->config.min_cut && cut < t->n_layers;
}

/* What the schedule says of a class at a boundary of that step; 0: nothing. */
static uint32_t scheduled(const struct sl_trainer *t, uint32_t class, uint64_t step)
{
    uint32_t cut = 0;
    for (uint32_t i = 0; i < t->config.n_changes && t->config.changes[i].step <= step; i++)
        cut = t->config.changes[i].cut[class];
    return cut;
}

void sl_trainer_join_cut(struct sl_trainer *t, struct device *d, const struct sl_command *c, bool known)
{
    uint32_t now = scheduled(t, c->class, t->boundary_step);
    if (known && d->class == c->class)
        now = d->next_cut ? d->next_cut : d->cut;
    d->class = c->class;
    d->cut = c->cut;
    d->next_cut = now && now != c->cut ? now : 0;
}

void sl_trainer_command_cut(struct sl_trainer *t, const struct sl_command *c)
{
    struct device *d = &t->devices[c->device];
    if (d->id[0] && possible(t, c->cut))
        d->next_cut = c->cut;
}

/* The schedule's changes between the last boundary and this one. */
void sl_trainer_plan_cuts(struct sl_trainer *t)
{
    for (uint32_t i = 0; i < t->config.n_changes; i++) {
        const struct sl_cut_change *change = &t->config.changes[i];
        if (change->step <= t->boundary_step || change->step > t->global_step)
            continue;
        for (uint32_t d = 0; d < t->config.gang.max_devices; d++)
            if (t->devices[d].id[0] && possible(t, change->cut[t->devices[d].class]))
                t->devices[d].next_cut = change->cut[t->devices[d].class];
    }
    t->boundary_step = t->global_step;
}

/* How many copies of a layer are trained with moments of their own; *only: the one device, or NULL for the
 * edge, where it is one. */
static uint32_t owners(const struct sl_trainer *t, uint32_t layer, const struct device **only)
{
    uint32_t n = 0;
    bool edge = false;
    *only = NULL;
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        const struct device *d = &t->devices[i];
        if (!d->live)
            continue;
        edge = edge || d->cut <= layer;
        if (d->cut <= layer)
            continue;
        *only = d;
        n++;
    }
    if (edge && n)
        *only = NULL;
    return n + edge;
}

static bool edge_trains(const struct sl_trainer *t, uint32_t layer)
{
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++)
        if (t->devices[i].live && t->devices[i].cut <= layer)
            return true;
    return false;
}

/* Moments of blocks [first, last) as the event carries them; NULL also where memory ran out: fresh ones then.
 */
static struct sl_given_moments *copy_moments(const struct sl_trainer *t, uint32_t first, uint32_t last)
{
    size_t n = last - first;
    struct sl_given_moments *given = malloc(n * sizeof *given);
    if (!given)
        return NULL;
    for (uint32_t l = first; l < last; l++) {
        struct sl_given_moments *g = &given[l - first];
        const struct device *only;
        const struct sl_moments *m = &t->moments[l];
        *g = (struct sl_given_moments){.t = m->t};
        if (owners(t, l, &only) != 1 || only || !(g->m_v = malloc(2 * t->block * sizeof *g->m_v)))
            continue;
        memcpy(g->m_v, m->m, t->block * sizeof *g->m_v);
        memcpy(g->m_v + t->block, m->v, t->block * sizeof *g->m_v);
    }
    return given;
}

void sl_given_moments_free(struct sl_given_moments *given, uint32_t n)
{
    for (uint32_t i = 0; given && i < n; i++)
        free(given[i].m_v);
    free(given);
}

static void announce(struct sl_trainer *t, const struct device *d, uint32_t to, bool give)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    e->kind = SL_EVENT_CUT;
    e->device = (uint32_t)(d - t->devices);
    e->cut.live = d->live;
    e->cut.lcore = d->lcore;
    e->cut.session = d->session;
    e->cut.from = d->cut;
    e->cut.to = to;
    e->cut.version = t->version;
    e->cut.step = t->global_step;
    e->cut.give_moments = give;
    if (d->live && to > d->cut && moments_move(t))
        e->cut.moments = copy_moments(t, d->cut, to);
    sl_mailbox_post(t->events, e);
}

/* The device's layers from `to` on go to the edge; which of them it is to give the moments of. */
static bool await_moments(struct sl_trainer *t, struct device *d, uint32_t to)
{
    bool any = false;
    for (uint32_t l = to; l < d->cut && d->live && moments_move(t); l++) {
        const struct device *only;
        if (owners(t, l, &only) != 1 || only != d)
            continue;
        t->giver[l] = (uint32_t)(d - t->devices) + 1;
        t->n_givers++;
        any = true;
    }
    return any;
}

/* A message that waits was taken at the old cut. */
static void return_old(struct sl_trainer *t, struct device *d)
{
    struct sl_slot *slot = d->slot;
    if (!slot)
        return;
    d->slot = NULL;
    sl_gang_set_ready(t->gang, (uint32_t)(d - t->devices), false);
    sl_trainer_refuse_old_cut(t, slot);
}

void sl_trainer_refuse_old_cut(struct sl_trainer *t, struct sl_slot *slot)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (e) {
        e->kind = SL_EVENT_OLD_CUT;
        e->device = (uint32_t)slot->device;
        e->why = "it was taken at a cut that the device no longer has";
        sl_mailbox_post(t->events, e);
    }
    slot->outcome.nll = 0;
    sl_trainer_return(t, slot, SL_RESULT_SKIPPED, t->devices[slot->device].awaited ? SL_RESULT_BOUNDARY : 0);
}

void sl_trainer_change_cuts(struct sl_trainer *t, const uint32_t *devices, uint32_t n)
{
    bool any = false, *was = t->edge_trained;
    for (uint32_t i = 0; i < n; i++)
        any = any || t->devices[devices[i]].next_cut;
    if (!any)
        return;
    for (uint32_t l = 0; l < t->n_layers; l++)
        was[l] = edge_trains(t, l);
    /* All are announced before any has changed: who alone trained a layer is asked of the state before. */
    for (uint32_t i = 0; i < n; i++) {
        struct device *d = &t->devices[devices[i]];
        if (!d->next_cut || d->next_cut == d->cut)
            continue;
        announce(t, d, d->next_cut, await_moments(t, d, d->next_cut));
    }
    for (uint32_t i = 0; i < n; i++) {
        struct device *d = &t->devices[devices[i]];
        if (d->next_cut)
            d->cut = d->next_cut;
        d->next_cut = 0;
        return_old(t, d);
    }
    for (uint32_t l = t->owned; l < t->n_layers && t->config.aggregation == SL_AGGREGATE_WEIGHTS; l++)
        if (was[l] != edge_trains(t, l))
            sl_moments_reset(&t->moments[l], t->block);
}

/* Who is away has the new cut when it comes back. */
void sl_trainer_change_absent(struct sl_trainer *t)
{
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        struct device *d = &t->devices[i];
        if (!d->live && d->id[0] && d->next_cut)
            sl_trainer_change_cuts(t, &i, 1);
    }
}

void sl_trainer_no_more_moments(struct sl_trainer *t, const struct device *d)
{
    for (uint32_t l = 0; l < t->n_layers && t->n_givers; l++) {
        if (!t->giver[l] || (d && t->giver[l] != (uint32_t)(d - t->devices) + 1))
            continue;
        t->giver[l] = 0;
        t->n_givers--;
    }
}

static bool usable(const float *m, const float *v, size_t n)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok = ok && isfinite(m[i]) && isfinite(v[i]) && v[i] >= 0;
    return ok;
}

void sl_trainer_take_moments(struct sl_trainer *t, const struct sl_command *c)
{
    uint32_t l = c->push.first;
    const float *m = c->push.weights, *v = m + t->block;
    if (l < t->n_layers && t->giver[l] == c->device + 1 && c->push.n == 2 * t->block) {
        if (usable(m, v, t->block)) { /* else: fresh ones */
            t->moments[l].t = c->push.step;
            memcpy(t->moments[l].m, m, t->block * sizeof *m);
            memcpy(t->moments[l].v, v, t->block * sizeof *v);
        }
        t->giver[l] = 0;
        t->n_givers--;
    }
    free(c->push.weights);
}

bool sl_trainer_moments_missing(struct sl_trainer *t, uint64_t now_ns)
{
    if (!t->n_givers)
        return false;
    if (t->config.gang.deterministic || now_ns < t->push_deadline_ns)
        return true;
    sl_trainer_no_more_moments(t, NULL);
    return false;
}
