/* `sluice-edge check`: the host check as a command. */
#include "trainer/edge/check.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EXIT_BAD = 1, EXIT_USAGE = 2, EXIT_WARNINGS = 3, ERR_BYTES = 4096 };

static const char usage[] =
    "usage: sluice-edge check [--experiment FILE] [--json]\n"
    "\n"
    "Says what on this host spoils latency or throughput, and the command that mends each. Changes nothing.\n"
    "\n"
    "  --experiment FILE   judge for that experiment's port, poll mode and memory (default: memif, "
    "adaptive)\n"
    "  --json              {\"findings\": [{\"check\", \"level\", \"text\", \"cure\"}], \"warnings\": N, "
    "\"bad\": N}\n"
    "  --root DIR          read DIR/sys and DIR/proc instead of this host's (a copy of another host's, or a "
    "test's)\n"
    "\n"
    "examples:\n"
    "  sluice-edge check\n"
    "  sluice-edge check --experiment my.yaml --json\n"
    "\n"
    "exit status: 0 nothing to mend, 3 warnings, 1 the experiment cannot run like this (or the check "
    "cannot), 2 usage\n";

static bool ask(int fd, const char *name, void *request)
{
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    r.ifr_data = request;
    return ioctl(fd, SIOCETHTOOL, &r) == 0;
}

static void read_interface(const char *name, struct sl_check_interface *out)
{
    struct ethtool_ringparam rings = {.cmd = ETHTOOL_GRINGPARAM};
    struct ethtool_value gro = {.cmd = ETHTOOL_GGRO}, flags = {.cmd = ETHTOOL_GFLAGS};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (ask(fd, name, &rings)) {
        out->rx_ring = rings.rx_pending;
        out->rx_ring_max = rings.rx_max_pending;
        out->tx_ring = rings.tx_pending;
        out->tx_ring_max = rings.tx_max_pending;
    }
    out->known = ask(fd, name, &gro);
    out->gro = out->known && gro.data != 0;
    out->lro = ask(fd, name, &flags) && (flags.data & ETH_FLAG_LRO) != 0;
    close(fd);
}

static int print_json(const struct sl_check *c)
{
    cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "findings");
    for (uint32_t i = 0; i < c->n; i++) {
        const struct sl_check_finding *f = &c->finding[i];
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "check", f->name);
        cJSON_AddStringToObject(one, "level", sl_check_level_name(f->level));
        cJSON_AddStringToObject(one, "text", f->text);
        cJSON_AddStringToObject(one, "cure", f->cure);
        cJSON_AddItemToArray(list, one);
    }
    cJSON_AddNumberToObject(o, "warnings", c->count[SL_CHECK_WARN]);
    cJSON_AddNumberToObject(o, "bad", c->count[SL_CHECK_BAD]);
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    if (!text)
        return -ENOMEM;
    puts(text);
    free(text);
    return 0;
}

static void print_text(const struct sl_check *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct sl_check_finding *f = &c->finding[i];
        printf("%-8s %-14s %s\n", sl_check_level_name(f->level), f->name, f->text);
        if (f->cure[0])
            printf("%-8s %-14s -> %s\n", "", "", f->cure);
    }
    printf("%u to mend, %u that stop the run\n", c->count[SL_CHECK_WARN] + c->count[SL_CHECK_BAD],
        c->count[SL_CHECK_BAD]);
}

static int run(const char *file, const char *root, bool json)
{
    static struct sl_experiment x; /* large for a stack, as is the result */
    static struct sl_check result;
    char err[ERR_BYTES];
    if (file && sl_experiment_load(file, &x, err, sizeof err)) {
        fprintf(stderr, "sluice-edge: %s\n", err);
        return EXIT_BAD;
    }
    struct sl_check_config c = {.root = root,
        .x = file ? &x : NULL,
        .blas_kernel = getenv("OPENBLAS_CORETYPE"),
        .interface = *root ? NULL : read_interface};
    sl_check_host(&c, &result);
    if (!json)
        print_text(&result);
    else if (print_json(&result)) {
        fputs("sluice-edge: not enough memory\n", stderr);
        return EXIT_BAD;
    }
    if (result.count[SL_CHECK_BAD])
        return EXIT_BAD;
    return result.count[SL_CHECK_WARN] ? EXIT_WARNINGS : EXIT_SUCCESS;
}

int sl_check_main(int argc, char **argv)
{
    static const struct option options[] = {{"experiment", required_argument, NULL, 'e'},
        {"root", required_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *file = NULL, *root = "";
    bool json = false;
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'e':
            file = optarg;
            break;
        case 'r':
            root = optarg;
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            fprintf(stderr,
                "sluice-edge: check: %s: not an option, or without its value; see sluice-edge check --help\n",
                argv[optind - 1]);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "sluice-edge: check: %s: not expected; see sluice-edge check --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return run(file, root, json);
}
