/* sluice-sim: see options.c for what it does and takes. */
#include "device-sim/fleet/calibrate.h"
#include "device-sim/fleet/fleet.h"
#include "device-sim/fleet/to_sink.h"
#include "device-sim/profile/profile.h"
#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

static volatile sig_atomic_t signals;

/* The first Ctrl-C ends in order, one more at once. What comes within a second of the first is the same one:
 * a terminal signals the whole process group, and whoever started this program may pass it on. */
static void on_signal(int number)
{
    static struct timespec first;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!signals)
        first = now;
    else if (now.tv_sec - first.tv_sec > 1)
        _exit(130);
    signals = 1;
}

static void catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};

    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int make_run_dir(const char *dir, char *err, size_t err_cap)
{
    if (mkdir(dir, 0700) == 0 || errno == EEXIST)
        return 0;
    int e = errno;
    snprintf(err, err_cap, "%s: cannot be made: %s; give a directory in one that exists (--run)", dir,
        strerror(e));
    return -e;
}

static void print_calibration(const cJSON *c)
{
    const cJSON *o;

    cJSON_ArrayForEach(o, cJSON_GetObjectItem(c, "classes"))
    {
        printf("%s, cut %d: a step takes the phone %.0f ms and this host %.1f ms; one core carries %d such "
               "phones\n",
            cJSON_GetObjectItem(o, "class")->valuestring, cJSON_GetObjectItem(o, "cut")->valueint,
            1e3 * cJSON_GetObjectItem(o, "modelled_step_s")->valuedouble,
            1e3 * cJSON_GetObjectItem(o, "host_step_s")->valuedouble,
            cJSON_GetObjectItem(o, "phones_max")->valueint);
    }
    printf("the fleet needs %.0f %% of a core (%s)\n",
        100 * cJSON_GetObjectItem(c, "core_share")->valuedouble,
        cJSON_GetObjectItem(c, "gemm_kernel")->valuestring);
}

static int calibrate(struct sl_fleet *f, char *err, size_t err_cap)
{
    cJSON *c = sl_calibrate(&f->material, err, err_cap);

    if (!c)
        return EXIT_FAILURE;
    if (f->options.json) {
        char *text = cJSON_PrintUnformatted(c);
        printf("%s\n", text ? text : "{}");
        cJSON_free(text);
    } else {
        print_calibration(c);
    }
    sl_metrics_write(f->metrics, "calibration", c);
    return EXIT_SUCCESS;
}

static int run(struct sl_fleet *f, char *err, size_t err_cap)
{
    char path[SL_PATH_BYTES + 16], lcore[160];

    if (make_run_dir(f->options.run, err, err_cap))
        return EXIT_FAILURE;
    if (sl_material_load(f->options.experiment, &f->material, err, err_cap))
        return EXIT_FAILURE;
    snprintf(path, sizeof(path), "%s/sim.jsonl", f->options.run);
    if (sl_metrics_open(path, &f->metrics, err, err_cap))
        return EXIT_FAILURE;
    if (f->options.calibrate)
        return calibrate(f, err, err_cap);
    if (sl_fleet_start(f, err, err_cap))
        return EXIT_FAILURE;
    if (f->options.is_virtual) {
        fprintf(stderr, "sluice-sim: %u phones in virtual time, against a model of the edge node\n", f->n);
        return sl_fleet_run(f, &signals);
    }
    const char *eal = sl_plane_eal_args(f->plane);
    fprintf(stderr, "sluice-sim: %u phones; EAL: %s\n", f->n, eal[0] ? eal : "none");
    sl_plane_describe_lcore(f->plane, lcore, sizeof(lcore));
    fprintf(stderr, "sluice-sim: %s; the other threads are left to the scheduler\n", lcore);
    return sl_fleet_run(f, &signals);
}

static int profile(const struct sl_sim_options *o)
{
    char err[SL_ERR_BYTES];
    cJSON *p = sl_profile(o->profile, err, sizeof(err));

    if (!p) {
        fprintf(stderr, "sluice-sim: %s\n", err);
        return EXIT_FAILURE;
    }
    char *text = o->json ? cJSON_PrintUnformatted(p) : NULL;
    if (text)
        printf("%s\n", text);
    else
        sl_profile_print(p);
    cJSON_free(text);
    cJSON_Delete(p);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct sl_fleet fleet;
    char err[SL_ERR_BYTES] = "";

    if (sl_sim_options_parse(argc, argv, &fleet.options, err, sizeof(err))) {
        fprintf(stderr, "sluice-sim: %s\n", err);
        return EXIT_USAGE;
    }
    if (fleet.options.help) {
        fputs(sl_sim_help, stdout);
        return EXIT_SUCCESS;
    }
    if (fleet.options.profile)
        return profile(&fleet.options);
    catch_signals();
    if (fleet.options.sink || fleet.options.pcap) {
        int flows = sl_to_sink(&fleet.options, &signals, err, sizeof(err));
        if (flows < 0)
            fprintf(stderr, "sluice-sim: %s\n", err);
        return flows < 0 ? EXIT_FAILURE : flows;
    }
    sl_gemm_threads(1); /* rules L14 */
    int status = run(&fleet, err, sizeof(err));
    if (status && err[0])
        fprintf(stderr, "sluice-sim: %s\n", err);
    sl_fleet_free(&fleet);
    return status;
}
