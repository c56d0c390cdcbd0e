/* Bring-up in order, and the way down. */
#include "trainer/edge/edge.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/lcore/privileges.h"
#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LISTEN_TRIES = 20, LISTEN_AGAIN_NS = 100000000 };

volatile sig_atomic_t edge_interrupted;

/* The first signal ends in order, a second one does not wait for anybody. What comes within a second of the
 * first is the same one: a terminal signals the whole process group, and scripts/run passes it on as well. */
static void on_signal(int number)
{
    static struct timespec first;
    struct timespec now;
    (void)number;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!edge_interrupted)
        first = now;
    else if (now.tv_sec - first.tv_sec > 1)
        _exit(EDGE_EXIT_INTERRUPTED);
    edge_interrupted = 1;
}

static void catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int make_run_dir(struct edge *e)
{
    if (mkdir(e->options.run, 0700) && errno != EEXIST) {
        int status = -errno;
        snprintf(e->err, sizeof e->err, "%s: cannot make the run directory: %s", e->options.run,
            strerror(-status));
        return status;
    }
    if (access(e->options.run, R_OK | W_OK | X_OK)) {
        int status = -errno;
        snprintf(e->err, sizeof e->err, "%s: cannot write to the run directory: %s; name another with --run",
            e->options.run, strerror(-status));
        return status;
    }
    return 0;
}

/* Which blocks are needed may depend on how many there are. */
static int settle_cuts(struct edge *e)
{
    struct sl_model *shape;
    if (!e->x->plan.live && !e->x->plan.random)
        return 0;
    int status = sl_model_load_blocks(e->x->model.path, 1, 1, &shape, e->err, sizeof e->err);
    if (status)
        return status;
    status = sl_experiment_settle_cuts(e->x, sl_model_config(shape)->n_layers, e->err, sizeof e->err);
    sl_model_free(shape);
    return status;
}

static int load_model(struct edge *e)
{
    enum sl_precision wanted =
        strcmp(e->x->model.precision, "bf16") == 0 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
    uint32_t lowest, highest;
    int status = settle_cuts(e);
    if (status)
        return status;
    sl_experiment_cuts(e->x, &lowest, &highest);
    e->precision = "none: modelled";
    status = e->x->edge.modelled /* no block's weights */
                 ? sl_model_load_blocks(e->x->model.path, 1, 1, &e->model, e->err, sizeof e->err)
                 : sl_model_load_packed(
                       e->x->model.path, lowest, UINT32_MAX, wanted, &e->model, e->err, sizeof e->err);
    if (!status && !e->x->edge.modelled)
        e->precision = sl_precision_told(wanted, sl_model_precision(e->model));
    if (!status)
        status = sl_model_hash(e->x->model.path, e->model_hash, e->err, sizeof e->err);
    if (!status)
        e->shape = sl_model_config(e->model);
    return status;
}

static void list_cpus(const cpu_set_t *set, char *text, size_t cap)
{
    size_t at = 0;
    text[0] = '\0';
    for (int cpu = 0; cpu < CPU_SETSIZE && at + 8 < cap; cpu++)
        if (CPU_ISSET(cpu, set))
            at += (size_t)snprintf(text + at, cap - at, "%s%d", at ? "," : "", cpu);
}

/* Which CPUs the lcores get: those that the experiment names; else busy ones the last of those allowed, if
 * one is left over for the rest of us. An adaptive lcore sleeps, and is left to the scheduler. */
static void choose_cpus(struct edge *e, const cpu_set_t *allowed)
{
    const struct sl_experiment *x = e->x;
    int cpu = CPU_SETSIZE - 1;
    if (!x->edge.data.n_cpus && (strcmp(x->edge.data.poll, "busy") || CPU_COUNT(allowed) <= (int)e->n_lcores))
        return;
    for (uint32_t i = e->n_lcores; i-- > 0; cpu--) {
        while (!x->edge.data.n_cpus && !CPU_ISSET(cpu, allowed))
            cpu--;
        e->lcores[i].cpu = x->edge.data.n_cpus ? (int)x->edge.data.cpus[i] : cpu;
    }
}

/* Rules T17: a pinned data lcore has its CPU for itself, everything else of ours keeps off it. EAL and
 * OpenBLAS inherit what is set here. */
static int set_affinities(struct edge *e)
{
    cpu_set_t allowed, rest;
    char list[160];
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return 0;
    choose_cpus(e, &allowed);
    rest = allowed;
    for (uint32_t i = 0; i < e->n_lcores; i++) {
        int cpu = e->lcores[i].cpu;
        if (cpu >= 0 && (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed))) {
            list_cpus(&allowed, list, sizeof list);
            snprintf(e->err, sizeof e->err,
                "edge.data.cpus: CPU %d is not one that this process may run on; it has %s", cpu, list);
            return -EINVAL;
        }
        if (cpu >= 0)
            CPU_CLR(cpu, &rest);
    }
    if (CPU_COUNT(&rest) > 0)
        sched_setaffinity(0, sizeof rest, &rest);
    sched_getaffinity(0, sizeof rest, &rest);
    list_cpus(&rest, list, sizeof list);
    edge_say(e, "threads: control and trainer on CPU %s", list);
    return 0;
}

/* A descriptor for every device, beside our own files. */
static int allow_connections(struct edge *e)
{
    struct rlimit limit;
    rlim_t want = e->max_devices + EDGE_SPARE_CONNECTIONS + EDGE_OWN_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
        return 0;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    if (limit.rlim_cur >= want && setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    snprintf(e->err, sizeof e->err,
        "%u devices take %lu open files, and %lu are allowed: raise the limit (ulimit -n %lu) or lower "
        "edge.max_devices",
        e->max_devices, (unsigned long)want, (unsigned long)before, (unsigned long)want);
    return -EMFILE;
}

static int allocate(struct edge *e)
{
    e->devices = calloc(e->max_devices, sizeof *e->devices);
    if (!e->devices) {
        snprintf(e->err, sizeof e->err, "not enough memory for %u devices; lower edge.max_devices",
            e->max_devices);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < e->max_devices; i++)
        e->devices[i].index = i;
    return edge_open_profiles(e);
}

static int begin_or_resume(struct edge *e)
{
    struct sl_checkpoint c;
    int status = edge_read_checkpoint(e, &c, &e->resumed);
    if (status)
        return status;
    e->incarnation = 1;
    if (e->resumed) {
        e->run = c.run;
        e->incarnation = c.incarnation + 1;
        e->train_ns_before = c.train_ns;
        for (uint32_t i = 0; i < c.n_devices; i++) {
            struct device *d = edge_find_device(e, c.devices[i].id);
            if (!d)
                continue;
            d->last_step = c.devices[i].last_step;
            if (e->x->plan.live && c.devices[i].cut >= e->min_cut && c.devices[i].cut <= e->max_cut)
                d->cut = c.devices[i].cut;
        }
        edge_say(e, "resuming run %016llx at step %llu, adapter version %llu", (unsigned long long)c.run,
            (unsigned long long)c.global_step, (unsigned long long)c.version);
    }
    while (!e->run)
        if (getrandom(&e->run, sizeof e->run, 0) != sizeof e->run)
            return -EIO;
    status = edge_open_records(e);
    if (!status)
        status = edge_start_trainer(e, e->resumed ? &c : NULL);
    if (e->resumed)
        sl_checkpoint_clear(&c);
    return status;
}

/* The socket of an edge that was killed a moment ago goes only when the kernel has taken its io_uring apart,
 * which it does behind the process' end: a restart must not fail on that. */
static int listen_once_free(struct edge *e, const struct sl_control_config *c)
{
    for (unsigned i = 0;; i++) {
        int status = sl_loop_listen(e->loop, e->x->edge.control, e->x->edge.limits.handshakes, e->tls, c,
            &edge_control_ops, e, e->err, sizeof e->err);
        if (status != -EADDRINUSE || i == LISTEN_TRIES || edge_interrupted)
            return status;
        nanosleep(&(struct timespec){.tv_nsec = LISTEN_AGAIN_NS}, NULL);
    }
}

static int listen_for_devices(struct edge *e)
{
    const char *pki = e->options.pki;
    char fallback[SL_PATH_BYTES + 8], ca[SL_PATH_BYTES + 32], cert[SL_PATH_BYTES + 32],
        key[SL_PATH_BYTES + 32];
    if (!pki) {
        snprintf(fallback, sizeof fallback, "%s/pki", e->options.run);
        pki = fallback;
    }
    snprintf(ca, sizeof ca, "%s/ca.pem", pki);
    snprintf(cert, sizeof cert, "%s/edge.pem", pki);
    snprintf(key, sizeof key, "%s/edge.key", pki);
    if (access(cert, R_OK) || access(key, R_OK) || access(ca, R_OK)) {
        snprintf(e->err, sizeof e->err,
            "%s: no certificate for the edge node there; make one: scripts/pki ca %s && scripts/pki edge %s "
            "edge",
            pki, pki, pki);
        return -ENOENT;
    }
    int status = sl_tls_ctx_create(SL_TLS_SERVER, ca, cert, key, &e->tls, e->err, sizeof e->err);
    if (status)
        return status;
    struct sl_control_config c = {.role = SL_CONTROL_EDGE,
        /* at least the moments of one block */
        .adapter_bytes_max = (e->max_cut > 2 ? e->max_cut : 2) * e->block * sizeof(float),
        .messages_per_s = e->x->edge.limits.messages_per_s};
    status = listen_once_free(e, &c);
    return status < 0 ? status : 0; /* else it is the port */
}

static void print_start(struct edge *e)
{
    edge_say(e, "model %s: %u layers, the edge computes from layer %u", e->x->model.path, e->shape->n_layers,
        e->min_cut);
    if (e->eal_args[0])
        edge_say(e, "EAL: %s", e->eal_args);
    if (e->n_lcores > 1)
        edge_say(e, "port: %u queue%s for %u data lcores, spread by %s", e->port_queues,
            e->port_queues > 1 ? "s" : "", e->n_lcores,
            e->port_queues > 1 && e->spread ? e->spread : "lcore 0, which passes on");
    for (uint32_t i = 0; i < e->n_lcores; i++) {
        char where[256];
        sl_lcore_describe(e->lcores[i].lcore, where, sizeof where);
        edge_say(e, "lcore %u: port %u, %u slots, %s", i, e->data_addr.port + i, e->lcores[i].n_slots, where);
    }
    edge_say(e, "arithmetic %s, GEMM kernel %s, AEAD %s, codec %s", e->precision, sl_gemm_kernel_name(),
        e->aead_name, sl_codec_name(e->codec));
}

static int drop_privileges(struct edge *e)
{
    struct sl_privileges p = {.user = e->options.user,
        .run_dir = e->options.run,
        .keep_net_admin = !strncmp(e->x->edge.data.backend, "af_xdp:", 7)};
    char said[160];
    int status = sl_privileges_drop(&p, said, sizeof said, e->err, sizeof e->err);
    if (!status && said[0])
        edge_say(e, "%s", said);
    return status;
}

int edge_start(struct edge *e)
{
    catch_signals();
    e->x = calloc(1, sizeof *e->x);
    if (!e->x)
        return -ENOMEM;
    int status = sl_experiment_load(e->options.experiment, e->x, e->err, sizeof e->err);
    if (!status)
        status = make_run_dir(e);
    sl_gemm_threads((int)e->x->edge.threads); /* rules L14 */
    if (!status)
        status = load_model(e);
    if (!status)
        status = edge_lay_out(e);
    if (!status)
        status = allocate(e);
    /* Before EAL: what cannot work at all is said before anything is set up. */
    if (!status)
        status = allow_connections(e);
    if (!status)
        status = sl_loop_create(e->max_devices + EDGE_SPARE_CONNECTIONS, &e->loop, e->err, sizeof e->err);
    if (!status)
        status = listen_for_devices(e);
    if (status)
        return status;
    bool port_first = sl_privileges_for_port(e->x->edge.data.backend);
    status = set_affinities(e);
    if (!status && !port_first)
        status = drop_privileges(e);
    if (!status)
        status = edge_start_dataplane(e);
    if (!status && port_first)
        status = drop_privileges(e);
    if (!status)
        status = begin_or_resume(e);
    if (!status)
        status = edge_open_planner(e);
    if (!status)
        status = edge_open_report(e);
    if (!status)
        status = edge_open_key_log(e);
    if (status)
        return status;
    print_start(e);
    edge_report_start(e);
    edge_say(e, "listening on %s", e->x->edge.control);
    return 0;
}

/* Loop first: its callbacks use everything else. Then the trainer, then the lcore, whose slots the trainer
 * uses. */
void edge_stop(struct edge *e)
{
    e->ending = true;
    if (e->loop)
        sl_loop_free(e->loop);
    edge_close_planner(e);
    if (e->trainer)
        edge_stop_trainer(e);
    edge_close_records(e);
    edge_stop_dataplane(e);
    edge_close_key_log(e);
    edge_close_report(e);
    if (e->tls)
        sl_tls_ctx_free(e->tls);
    for (uint32_t i = 0; e->devices && i < e->max_devices; i++)
        free(e->devices[i].evals);
    free(e->devices);
    edge_close_profiles(e);
    free(e->g);
    free(e->low_rank);
    free(e->checkpoint_next);
    free(e->peft_config);
    free(e->peft_weights);
    sl_model_free(e->model);
    free(e->x);
}
