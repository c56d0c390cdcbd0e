#include "device-sim/fleet/compute.h"

#include "dataplane/io/lcore/privileges.h"
#include "dataplane/ring/ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct timespec idle_sleep = {.tv_nsec = 100000};

struct sl_compute {
    bool threaded; /* else nothing is computed */
    pthread_t thread;
    atomic_bool stop;
    struct sl_phone *phones;
    uint32_t n;
    float *workspace;
    struct sl_recorder *recorder;
    struct sl_ring_spsc *jobs, *done;
    uint32_t n_waiting;
    uint32_t waiting[]; /* phones, in the order they were posted */
};

static uint64_t due_ns(const struct sl_phone *p)
{
    return p->job_start_ns + p->job_modelled_ns;
}

/* The waiting phone whose modelled time ends first: a fast phone must not queue behind slow ones that have
 * time. */
static uint32_t take_most_urgent(struct sl_compute *c)
{
    uint32_t best = 0, phone;

    for (uint32_t i = 1; i < c->n_waiting; i++) {
        if (due_ns(&c->phones[c->waiting[i]]) < due_ns(&c->phones[c->waiting[best]]))
            best = i;
    }
    phone = c->waiting[best];
    c->n_waiting--;
    for (uint32_t i = best; i < c->n_waiting; i++)
        c->waiting[i] = c->waiting[i + 1];
    return phone;
}

static void record(struct sl_recorder *r, const struct sl_phone *p)
{
    struct sl_recording_entry e = {.rows = p->grid.rows,
        .cut = p->cut,
        .n_seqs = p->batch.n,
        .phone = p->cfg.index,
        .step = p->request.step,
        .tensor_units = p->grid.tensor_units,
        .target_units = p->grid.target_units,
        .units = p->cfg.messages + p->request.step % 2 * p->cfg.message_bytes};

    if (p->job != SL_JOB_FORWARD || p->batch.eval || p->job_status)
        return;
    snprintf(e.device_class, sizeof(e.device_class), "%.*s", SL_RECORDING_CLASS, p->cfg.device_class);
    sl_recorder_add(r, &e); /* what it cannot keep it counts, and its closing tells of an error */
}

static void *work(void *arg)
{
    struct sl_compute *c = arg;
    uint32_t phone;

    sl_privileges_drop_thread();
    while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        c->n_waiting += sl_ring_spsc_pop(c->jobs, c->waiting + c->n_waiting, c->n - c->n_waiting);
        if (c->n_waiting == 0) {
            nanosleep(&idle_sleep, NULL);
            continue;
        }
        phone = take_most_urgent(c);
        sl_phone_compute(&c->phones[phone], c->workspace);
        if (c->recorder)
            record(c->recorder, &c->phones[phone]);
        sl_ring_spsc_push(c->done, &phone, 1); /* has room for every phone */
    }
    return NULL;
}

static void destroy(struct sl_compute *c)
{
    sl_ring_spsc_free(c->jobs);
    sl_ring_spsc_free(c->done);
    free(c->workspace);
    free(c);
}

static int create(struct sl_phone *phones, uint32_t n, size_t workspace_floats, struct sl_compute **out,
    char *err, size_t err_cap)
{
    struct sl_compute *c = calloc(1, sizeof(*c) + n * sizeof(c->waiting[0]));
    uint32_t capacity = 2;

    if (!c)
        return -ENOMEM;
    while (capacity <= n)
        capacity *= 2;
    c->phones = phones;
    c->n = n;
    c->workspace = workspace_floats ? malloc(workspace_floats * sizeof(float)) : NULL;
    c->jobs = sl_ring_spsc_create(capacity);
    c->done = sl_ring_spsc_create(capacity);
    *out = c;
    if ((!workspace_floats || c->workspace) && c->jobs && c->done)
        return 0;
    destroy(c);
    snprintf(err, err_cap, "out of memory for the compute thread");
    return -ENOMEM;
}

int sl_compute_pretend(
    struct sl_phone *phones, uint32_t n, struct sl_compute **out, char *err, size_t err_cap)
{
    return create(phones, n, 0, out, err, err_cap);
}

int sl_compute_start(struct sl_phone *phones, uint32_t n, size_t workspace_floats,
    struct sl_recorder *recorder, struct sl_compute **out, char *err, size_t err_cap)
{
    struct sl_compute *c;
    int rc = create(phones, n, workspace_floats, &c, err, err_cap);

    if (rc)
        return rc;
    c->recorder = recorder;
    rc = pthread_create(&c->thread, NULL, work, c);
    if (rc) {
        destroy(c);
        snprintf(err, err_cap, "cannot start the compute thread; raise the limit on threads (ulimit -u)");
        return -rc;
    }
    c->threaded = true;
    pthread_setname_np(c->thread, "sim-compute");
    *out = c;
    return 0;
}

void sl_compute_stop(struct sl_compute *c)
{
    if (!c)
        return;
    atomic_store_explicit(&c->stop, true, memory_order_relaxed);
    if (c->threaded)
        pthread_join(c->thread, NULL);
    destroy(c);
}

void sl_compute_post(struct sl_compute *c, uint32_t phone)
{
    sl_ring_spsc_push(c->threaded ? c->jobs : c->done, &phone, 1);
}

bool sl_compute_any_done(const struct sl_compute *c)
{
    return sl_ring_spsc_count(c->done) != 0;
}

bool sl_compute_done(struct sl_compute *c, uint32_t *phone)
{
    return sl_ring_spsc_pop(c->done, phone, 1);
}
