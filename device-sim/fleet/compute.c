#include "device-sim/fleet/compute.h"

#include "dataplane/ring/ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct timespec idle_sleep = {.tv_nsec = 100000};

struct sl_compute {
    pthread_t thread;
    atomic_bool stop;
    struct sl_phone *phones;
    float *workspace;
    struct sl_ring_spsc *jobs, *done;
};

static void *work(void *arg)
{
    struct sl_compute *c = arg;
    uint32_t phone;

    while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        if (!sl_ring_spsc_pop(c->jobs, &phone, 1)) {
            nanosleep(&idle_sleep, NULL);
            continue;
        }
        sl_phone_compute(&c->phones[phone], c->workspace);
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

int sl_compute_start(struct sl_phone *phones, uint32_t n, size_t workspace_floats, struct sl_compute **out,
    char *err, size_t err_cap)
{
    struct sl_compute *c = calloc(1, sizeof(*c));
    uint32_t capacity = 2;

    if (!c)
        return -ENOMEM;
    while (capacity <= n)
        capacity *= 2;
    c->phones = phones;
    c->workspace = malloc(workspace_floats * sizeof(float));
    c->jobs = sl_ring_spsc_create(capacity);
    c->done = sl_ring_spsc_create(capacity);
    if (!c->workspace || !c->jobs || !c->done) {
        destroy(c);
        snprintf(err, err_cap, "out of memory for the compute thread");
        return -ENOMEM;
    }
    int rc = pthread_create(&c->thread, NULL, work, c);
    if (rc) {
        destroy(c);
        snprintf(err, err_cap, "cannot start the compute thread; raise the limit on threads (ulimit -u)");
        return -rc;
    }
    pthread_setname_np(c->thread, "sim-compute");
    *out = c;
    return 0;
}

void sl_compute_stop(struct sl_compute *c)
{
    if (!c)
        return;
    atomic_store_explicit(&c->stop, true, memory_order_relaxed);
    pthread_join(c->thread, NULL);
    destroy(c);
}

void sl_compute_post(struct sl_compute *c, uint32_t phone)
{
    sl_ring_spsc_push(c->jobs, &phone, 1);
}

bool sl_compute_done(struct sl_compute *c, uint32_t *phone)
{
    return sl_ring_spsc_pop(c->done, phone, 1);
}
