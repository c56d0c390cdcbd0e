/* sluice-edge: the edge node's program. */
#include "trainer/edge/check.h"
#include "trainer/edge/edge.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: sluice-edge --experiment FILE --run DIR [--pki DIR] [--json] [--user NAME] [--capture FILE] "
    "[--key-log FILE]\n"
    "       sluice-edge check [--experiment FILE] [--json]    what on this host spoils speed (--help for "
    "more)\n"
    "\n"
    "Trains one language model together with phones: it takes their activations off a DPDK port, computes "
    "the upper\n"
    "layers, and sends gradients back. Ends when the experiment is done; goes on from DIR/checkpoint.bin "
    "where there is one.\n"
    "\n"
    "  --experiment FILE   the experiment (docs/experiment.md); sluice-sim reads the same file\n"
    "  --run DIR           run directory, made where it is missing: checkpoint, metrics, adapters, memif "
    "socket\n"
    "  --pki DIR           ca.pem, edge.pem and edge.key (default: DIR/pki of the run directory)\n"
    "  --capture FILE      write what passes the data port as pcapng (sealed; scripts/wireshark/sluice.lua "
    "shows "
    "it)\n"
    "  --key-log FILE      write the keys of the data sessions there, for scripts/decrypt-capture: whoever "
    "has "
    "the file\n"
    "                      can read the run (off by default)\n"
    "  --user NAME         started as root: become this user once the port is open (default: who called "
    "sudo, "
    "else RUN's owner)\n"
    "  --json              no live line; the last line of output is the run's figures as JSON\n"
    "\n"
    "examples:\n"
    "  scripts/pki ca runs/a/pki && scripts/pki edge runs/a/pki edge && scripts/pki issue runs/a/pki "
    "device-00000\n"
    "  sluice-edge --experiment device-sim/scenarios/demo.yaml --run runs/a\n"
    "  sluice-edge --experiment device-sim/scenarios/demo.yaml --run runs/a --json | tail -1\n"
    "\n"
    "exit status: 0 done, 1 failure, 2 usage, 130 after Ctrl-C (the checkpoint of the last aggregation is "
    "kept)\n";

static int read_options(int argc, char **argv, struct edge_options *o)
{
    static const struct option options[] = {{"experiment", required_argument, NULL, 'e'},
        {"run", required_argument, NULL, 'r'}, {"pki", required_argument, NULL, 'p'},
        {"key-log", required_argument, NULL, 'k'}, {"capture", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'}, {"user", required_argument, NULL, 'u'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'e':
            o->experiment = optarg;
            break;
        case 'r':
            o->run = optarg;
            break;
        case 'p':
            o->pki = optarg;
            break;
        case 'c':
            o->capture = optarg;
            break;
        case 'k':
            o->key_log = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'u':
            o->user = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        default:
            return EXIT_USAGE;
        }
    }
    if (optind < argc || !o->experiment || !o->run || strlen(o->run) >= SL_PATH_BYTES ||
        (o->pki && strlen(o->pki) >= SL_PATH_BYTES)) {
        fputs("sluice-edge: needs --experiment FILE and --run DIR and nothing else; see --help\n", stderr);
        return EXIT_USAGE;
    }
    return 0;
}

static void poll(void *app, uint64_t now_ns)
{
    (void)now_ns;
    struct edge *e = app;
    struct sl_event *event;
    edge_poll_sessions(e);
    edge_flush_commands(e);
    edge_poll_records(e);
    while ((event = sl_trainer_event(e->trainer))) {
        edge_trainer_event(e, event);
        sl_trainer_release(e->trainer, event);
    }
    uint64_t now = sl_loop_now_ns(); /* the events above have set clocks: it must not be before them */
    edge_poll_phases(e, now);
    edge_poll_planner(e, now);
    edge_poll_report(e, now);
}

int main(int argc, char **argv)
{
    static struct edge edge; /* histograms make it large for a stack */
    struct edge *e = &edge;
    if (argc > 1 && !strcmp(argv[1], "check"))
        return sl_check_main(argc - 1, argv + 1);
    int status = read_options(argc, argv, &e->options);
    if (status)
        return status;
    if (edge_start(e)) {
        fprintf(stderr, "sluice-edge: %s\n", e->err[0] ? e->err : "not enough memory");
        edge_stop(e);
        return EXIT_FAILURE;
    }
    status = sl_loop_run(e->loop, poll, e, EDGE_POLL_NS);
    if (status < 0) {
        fprintf(stderr, "sluice-edge: the io_uring loop failed: %s\n", strerror(-status));
        e->exit_code = EXIT_FAILURE;
    }
    edge_report_end(e);
    if (e->exit_code)
        fprintf(stderr, "sluice-edge: %s\n", e->end_reason ? e->end_reason : "failed");
    edge_stop(e);
    return e->exit_code;
}
