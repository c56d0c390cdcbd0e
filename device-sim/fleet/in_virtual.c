/* The fleet in virtual time: the same phones, plane and emulator, without threads, against a model of the
 * edge node (device-sim/virtual). */
#include "device-sim/fleet/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 32768, BUFFERS_A_PHONE = 64 };
static const double default_gflops = 200; /* of the edge node, where the file says nothing */
static const double quiet_s = 2, show_every_s = 1;

static double host_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void edge_event(
    void *app, const char *name, const char *const *keys, const uint64_t *values, unsigned n)
{
    struct sl_fleet *f = app;

    sl_events_numbers(f->events, sl_fleet_now_ns(f), SL_EVENTS_EDGE, name, keys, values, n);
}

int sl_fleet_open_world(struct sl_fleet *f, char *err, size_t err_cap)
{
    struct sl_material *m = &f->material;
    double gflops = m->experiment->edge.compute_gflops;
    struct sl_world_config c = {.edge = {.experiment = m->experiment,
                                    .shape = sl_model_config(m->model),
                                    .cost = m->shape,
                                    .model_hash = m->model_hash,
                                    .codec = m->codec,
                                    .compressible = m->replay != NULL,
                                    .compute_gflops = gflops > 0 ? gflops : default_gflops},
        .event = edge_event,
        .max_buffers = BUFFERS + BUFFERS_A_PHONE * f->n};
    int rc = m->common.g ? 0 : sl_material_make_common(m);

    if (rc)
        snprintf(err, err_cap, "out of memory");
    else
        rc = sl_world_create(&c, &sl_line_events, f, &f->world, err, err_cap);
    f->access = &sl_world_access;
    f->access_ctx = f->world;
    return rc;
}

static bool pending(void *app)
{
    const struct sl_fleet *f = app;

    return sl_plane_pending(f->plane) || sl_compute_any_done(f->compute) || (*f->signals && !f->stopping_ns);
}

/* On a terminal a line that is written over, else one in ten seconds. */
static void progress(void *app, uint64_t now_ns)
{
    struct sl_fleet *f = app;
    struct sl_model_edge_stats edge;
    double now = host_s(), every = f->shown.tty ? show_every_s : 10 * show_every_s;

    if (now - f->shown.start_s < quiet_s || now - f->shown.at_s < every)
        return;
    f->shown.at_s = now;
    sl_model_edge_stats(sl_world_edge(f->world), &edge);
    double s = (double)(now_ns - f->start_ns) * 1e-9;
    fprintf(stderr, "%ssluice-sim: %.1f s of virtual time, %.1f times real time, %llu gangs, %llu steps%s",
        f->shown.tty ? "\r" : "", s, s / (now - f->shown.start_s), (unsigned long long)edge.gangs,
        (unsigned long long)edge.steps, f->shown.tty ? "\033[K" : "\n");
    f->shown.open = f->shown.tty;
}

int sl_fleet_run_world(
    struct sl_fleet *f, void (*poll)(void *app, uint64_t now_ns), uint64_t (*deadline)(void *, uint64_t))
{
    struct sl_world_side side = {.lcore = sl_plane_lcore(f->plane),
        .poll = poll,
        .pending = pending,
        .deadline = deadline,
        .progress = progress,
        .app = f};

    f->shown.start_s = f->shown.at_s = host_s();
    f->shown.tty = isatty(STDERR_FILENO) != 0;
    int rc = sl_world_run(f->world, &side);
    f->shown.host_s = host_s() - f->shown.start_s;
    if (f->shown.open)
        fputc('\n', stderr);
    return rc;
}
