/* The trainer's thread, and the commands to it. */
#include "trainer/edge/edge.h"

#include "dataplane/io/lcore/privileges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { IDLE_SHORT_NS = 100000, IDLE_LONG_NS = 500000, IDLE_TURNS = 40, EVAL_MESSAGES = 8 };

static void *run(void *arg)
{
    struct edge *e = arg;
    unsigned idle = 0;
    sl_privileges_drop_thread();
    while (!__atomic_load_n(&e->trainer_stop, __ATOMIC_ACQUIRE)) {
        bool worked = sl_trainer_turn(e->trainer);
        if (sl_trainer_asked_disk(e->trainer))
            sl_loop_wake(e->loop);
        if (worked) {
            idle = 0;
            for (uint32_t i = 0; i < e->n_lcores; i++)
                sl_lcore_wake(e->lcores[i].lcore); /* a gradient may be on the return ring */
            continue;
        }
        idle++;
        nanosleep(&(struct timespec){.tv_nsec = idle < IDLE_TURNS ? IDLE_SHORT_NS : IDLE_LONG_NS}, NULL);
    }
    return NULL;
}

/* Requests that wait because no slot is free, not because their device has all that it may have. */
static uint64_t waiting(void *app)
{
    const struct edge *e = app;
    uint64_t n = 0;
    for (uint32_t i = 0; i < e->n_lcores; i++)
        n += sl_ingest_waiting_for_slots(e->lcores[i].ingest);
    return n;
}

static void wake(void *app, uint32_t lcore)
{
    struct edge *e = app;
    sl_lcore_wake(e->lcores[lcore].lcore);
}

static uint32_t device_index(void *app, const char *id)
{
    const struct device *d = edge_find_device(app, id);
    return d ? d->index : UINT32_MAX;
}

int edge_start_trainer(struct edge *e, const struct sl_checkpoint *resume)
{
    const struct sl_experiment *x = e->x;
    uint32_t slots = edge_slots(e), members = slots < x->n_devices ? slots : x->n_devices;
    uint32_t resident = edge_resident(e);
    /* Where not all are in memory, half of it is the gang's and the other half the next one's. */
    if (resident && resident < x->n_devices)
        members = members < (resident + 1) / 2 ? members : (resident + 1) / 2;
    edge_model_compute(e);
    struct sl_trainer_config c = {.model = e->model,
        .lora = e->lora,
        .svd = x->training.lora.svd,
        .server = {.kind = strcmp(x->training.server.kind, "fedadam") ? SL_SERVER_NONE : SL_SERVER_FEDADAM,
            .lr = x->training.server.lr,
            .beta1 = x->training.server.beta1,
            .beta2 = x->training.server.beta2,
            .tau = x->training.server.tau},
        .mixed_ranks = e->min_rank < e->lora.rank,
        .optim = e->optim,
        .codec = e->codec,
        .modelled = x->edge.modelled ? &e->modelled : NULL,
        .pace = !x->edge.modelled && x->edge.compute_gflops > 0 ? &e->modelled : NULL,
        .n_lcores = e->n_lcores,
        .latency = e->latency_ring,
        .gang = {.quorum = x->training.gang.quorum,
            .deadline_ns = x->training.gang.deadline_ms * UINT64_C(1000000),
            .deterministic = x->training.deterministic,
            .async = x->training.gang.async,
            .n_devices = x->n_devices,
            .capacity = members,
            .max_devices = e->max_devices},
        .aggregation =
            strcmp(x->training.aggregation, "gradients") ? SL_AGGREGATE_WEIGHTS : SL_AGGREGATE_GRADIENTS,
        .aggregate_every = x->training.aggregate_every,
        .staleness = x->training.gang.staleness,
        .accumulate = x->training.accumulate,
        .steps = x->run.steps,
        .min_cut = e->min_cut,
        .recompute = e->x->edge.recompute,
        .changes = e->changes,
        .n_changes = x->n_changes,
        .max_rows = members * e->message_rows,
        .max_members = x->training.gang.max,
        .eval_rows = EVAL_MESSAGES * e->message_rows,
        .personal = {.resident = resident, .max_cut = e->max_cut, .index = device_index},
        .run = e->run,
        .incarnation = e->incarnation,
        .resume = resume,
        .now_ns = sl_loop_now_ns,
        .load = &e->load,
        .app = e,
        .waiting = waiting,
        .wake = wake};
    for (uint32_t i = 0; i < e->n_lcores; i++)
        c.lcore[i] = (struct sl_trainer_lcore){.slots = e->lcores[i].slots,
            .ready = e->lcores[i].ready,
            .returned = e->lcores[i].returned,
            .granted = e->lcores[i].granted};
    memcpy(c.model_hash, e->model_hash, sizeof c.model_hash);
    int status = sl_trainer_create(&c, &e->trainer, e->err, sizeof e->err);
    if (status)
        return status;
    for (uint32_t i = 0; e->personal && i < e->max_devices; i++)
        e->devices[i].version = sl_adapter_store_version(sl_trainer_store(e->trainer), i);
    status = -pthread_create(&e->trainer_thread, NULL, run, e);
    if (status) {
        snprintf(e->err, sizeof e->err, "cannot start the trainer's thread: %s", strerror(-status));
        return status;
    }
    pthread_setname_np(e->trainer_thread, "sl-trainer");
    e->trainer_started = true;
    return 0;
}

void edge_stop_trainer(struct edge *e)
{
    if (e->trainer_started) {
        __atomic_store_n(&e->trainer_stop, true, __ATOMIC_RELEASE);
        pthread_join(e->trainer_thread, NULL);
        e->trainer_started = false;
    }
    sl_trainer_free(e->trainer);
    e->trainer = NULL;
    for (uint32_t i = 0; i < e->owed.n; i++)
        if (e->owed.items[i].kind == SL_COMMAND_PUSH)
            free(e->owed.items[i].push.weights);
    free(e->owed.items);
    memset(&e->owed, 0, sizeof e->owed);
}

static bool post(struct edge *e, const struct sl_command *command)
{
    struct sl_command *c = sl_trainer_command(e->trainer);
    if (!c)
        return false;
    *c = *command;
    sl_trainer_post(e->trainer, c);
    return true;
}

void edge_flush_commands(struct edge *e)
{
    uint32_t done = 0;
    if (!e->owed.n)
        return;
    while (done < e->owed.n && post(e, &e->owed.items[done]))
        done++;
    memmove(e->owed.items, e->owed.items + done, (e->owed.n - done) * sizeof *e->owed.items);
    e->owed.n -= done;
}

void edge_command(struct edge *e, const struct sl_command *command)
{
    if (e->owed.n == 0 && post(e, command))
        return;
    if (e->owed.n == e->owed.cap) {
        uint32_t cap = e->owed.cap ? 2 * e->owed.cap : 64;
        struct sl_command *items = realloc(e->owed.items, cap * sizeof *items);
        if (!items) {
            if (command->kind == SL_COMMAND_PUSH)
                free(command->push.weights);
            edge_end(e, EXIT_FAILURE, "out of memory");
            return;
        }
        e->owed.items = items;
        e->owed.cap = cap;
    }
    e->owed.items[e->owed.n++] = *command;
}
