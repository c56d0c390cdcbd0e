#include "device-sim/fleet/options.h"

#include "device-sim/sink/bounds.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char sl_sim_help[] =
    "sluice-sim: the phones of an experiment. Each has its own text, adapter, link and battery; its front "
    "half of the model\n"
    "is really computed, its time and energy are those of the modelled phone.\n"
    "\n"
    "usage: sluice-sim --experiment FILE --run DIR [--pki DIR] [--edge ADDRESS:PORT] [--json]\n"
    "       sluice-sim --experiment FILE --run DIR --calibrate [--json]\n"
    "       sluice-sim --experiment FILE --run DIR --virtual [--json]\n"
    "       sluice-sim --experiment FILE --sink ADDRESS:PORT | --pcap FILE [--seconds N] [--rate-limit "
    "MBIT/S] "
    "[--force] [--json]\n"
    "       sluice-sim --profile RUN [--json]\n"
    "\n"
    "  --experiment FILE   the experiment; sluice-edge reads the same file\n"
    "  --run DIR           run directory, shared with sluice-edge: sim.jsonl, heldout.ids, central.ids, "
    "memif.sock\n"
    "  --pki DIR           ca.pem and device-NNNNN.{pem,key} as scripts/pki makes them (default: DIR/pki of "
    "--run)\n"
    "  --edge ADDRESS:PORT where the edge listens for control connections (default: edge.control of the "
    "experiment)\n"
    "  --user NAME         started as root: become this user once the port is open (default: who called "
    "sudo, "
    "else RUN's owner)\n"
    "  --json              print the result as JSON\n"
    "  --virtual           in virtual time: no threads, no sockets, no sluice-edge; a model of the edge node "
    "takes its place.\n"
    "                      Every packet is sealed, sent over its link and opened; time goes from one event "
    "to the "
    "next.\n"
    "                      The same file gives the same RUN/events.jsonl, byte for byte. Nothing is trained: "
    "no losses\n"
    "  --events steps|packets|none   what RUN/events.jsonl holds, in real time too (default: steps)\n"
    "  --record FILE       keep the messages that real phones send, for sim.compute: replay (default: "
    "sim.record)\n"
    "  --calibrate         measure this host's time for a step of each class, say how many phones it can "
    "carry, and end\n"
    "\n"
    "  --profile RUN       a finished run's traffic: load, bursts, round trips, queues, energy, states, by "
    "class; and end\n"
    "\n"
    "Traffic for other systems, without an edge (docs/device-sim.md): each phone a UDP flow with a source "
    "port of "
    "its own,\n"
    "its messages' sizes and times those of the experiment, through its emulated link:\n"
    "  --sink ADDRESS:PORT to that host, in real time. Private, loopback, link-local and documentation "
    "addresses; "
    "others only with --force\n"
    "  --pcap FILE         into a capture file, in virtual time: the same bytes for the same experiment\n"
    "  --seconds N         how long: 10, at most 3600\n"
    "  --rate-limit MBIT/S IP bytes of all phones; what is over it is dropped and counted: 100, at most "
    "10000\n"
    "  --down              the capture also has the gradients that the edge would send\n"
    "  --force             that host is not mine, but may be loaded\n"
    "\n"
    "Fault injection, for tests (may be given several times; STEP counts a device's training steps from 1):\n"
    "  --fault nan@STEP:DEVICE      that step's activations hold a NaN\n"
    "  --fault absurd@STEP:DEVICE   that step's activations are a million times too large\n"
    "  --fault die@STEP:DEVICE      the device dies in the middle of that step's message\n"
    "\n"
    "examples:\n"
    "  scripts/run device-sim/scenarios/demo.yaml         starts both programs\n"
    "  sluice-sim --experiment device-sim/scenarios/demo.yaml --run runs/a --calibrate\n"
    "  sluice-sim --experiment device-sim/scenarios/demo.yaml --run runs/v --virtual --json\n"
    "  sluice-sim --experiment my.yaml --run runs/b --fault nan@3:1\n"
    "  sluice-sim --experiment device-sim/scenarios/demo.yaml --pcap fleet.pcap --seconds 60\n"
    "\n"
    "exit status: 0 done, 1 failure, 2 usage, 130 after Ctrl-C\n";

static int parse_fault(const char *text, struct sl_sim_fault *f)
{
    static const struct {
        const char *name;
        enum sl_sim_fault_kind kind;
    } kinds[] = {{"nan@", SL_SIM_FAULT_NAN}, {"absurd@", SL_SIM_FAULT_ABSURD}, {"die@", SL_SIM_FAULT_DIE}};
    unsigned long long step;
    unsigned device;
    int used = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t n = strlen(kinds[i].name);
        if (strncmp(text, kinds[i].name, n))
            continue;
        if (sscanf(text + n, "%llu:%u%n", &step, &device, &used) != 2 || text[n + (size_t)used] || step == 0)
            return -EINVAL;
        *f = (struct sl_sim_fault){kinds[i].kind, step, device};
        return 0;
    }
    return -EINVAL;
}

static int parse_events(const char *text, struct sl_sim_options *o)
{
    static const char *const names[] = {
        [SL_SIM_EVENTS_STEPS] = "steps", [SL_SIM_EVENTS_PACKETS] = "packets", [SL_SIM_EVENTS_NONE] = "none"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        o->events = i;
        if (strcmp(text, names[i]) == 0)
            return 0;
    }
    return -EINVAL;
}

/* A bounded number: more is refused by name, never cut down in silence. */
static int parse_bounded(
    const char *name, const char *text, double most, double *out, char *err, size_t err_cap)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !(v > 0) || v > most) {
        snprintf(err, err_cap, "%s %s: give a number above 0 and at most %g", name, text, most);
        return -EINVAL;
    }
    *out = v;
    return 0;
}

/* Options that go together. */
static int check_whole(const struct sl_sim_options *o, char *err, size_t err_cap)
{
    bool flows = o->sink || o->pcap;

    if (o->profile)
        return 0;
    if (!o->experiment || (!o->run && !flows)) {
        snprintf(err, err_cap, "give --experiment FILE and --run DIR; see --help");
        return -EINVAL;
    }
    if (o->is_virtual && (o->edge || o->pki || o->calibrate)) {
        snprintf(
            err, err_cap, "--virtual has no edge node to go to: leave out --edge, --pki and --calibrate");
        return -EINVAL;
    }
    if ((o->sink && o->pcap) || (flows && (o->run || o->calibrate)) || (o->down && !o->pcap)) {
        snprintf(err, err_cap, "%s; see --help",
            o->down && !o->pcap ? "--down goes with --pcap alone"
                                : "--sink, --pcap and --run exclude each other");
        return -EINVAL;
    }
    return 0;
}

int sl_sim_options_parse(int argc, char **argv, struct sl_sim_options *o, char *err, size_t err_cap)
{
    static const struct option longs[] = {{"experiment", required_argument, NULL, 'e'},
        {"run", required_argument, NULL, 'r'}, {"pki", required_argument, NULL, 'p'},
        {"edge", required_argument, NULL, 'E'}, {"json", no_argument, NULL, 'j'},
        {"user", required_argument, NULL, 'u'}, {"calibrate", no_argument, NULL, 'c'},
        {"virtual", no_argument, NULL, 'v'}, {"events", required_argument, NULL, 'l'},
        {"fault", required_argument, NULL, 'f'}, {"profile", required_argument, NULL, 'O'},
        {"sink", required_argument, NULL, 's'}, {"pcap", required_argument, NULL, 'P'},
        {"seconds", required_argument, NULL, 'S'}, {"rate-limit", required_argument, NULL, 'R'},
        {"force", no_argument, NULL, 'F'}, {"record", required_argument, NULL, 'W'},
        {"down", no_argument, NULL, 'D'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int c;

    memset(o, 0, sizeof(*o));
    o->seconds = SL_SINK_SECONDS_DEFAULT;
    o->rate_mbps = SL_SINK_MBPS_DEFAULT;
    opterr = 0;
    optind = 1;
    while ((c = getopt_long(argc, argv, "+h", longs, NULL)) != -1) {
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
        case 'E':
            o->edge = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'u':
            o->user = optarg;
            break;
        case 'c':
            o->calibrate = true;
            break;
        case 'l':
            if (parse_events(optarg, o)) {
                snprintf(err, err_cap, "--events %s: give steps, packets or none", optarg);
                return -EINVAL;
            }
            break;
        case 'v':
            o->is_virtual = true;
            break;
        case 'O':
            o->profile = optarg;
            break;
        case 's':
            o->sink = optarg;
            break;
        case 'P':
            o->pcap = optarg;
            break;
        case 'S':
            if (parse_bounded("--seconds", optarg, SL_SINK_SECONDS_MAX, &o->seconds, err, err_cap))
                return -EINVAL;
            break;
        case 'R':
            if (parse_bounded("--rate-limit", optarg, SL_SINK_MBPS_MAX, &o->rate_mbps, err, err_cap))
                return -EINVAL;
            break;
        case 'F':
            o->force = true;
            break;
        case 'D':
            o->down = true;
            break;
        case 'h':
            o->help = true;
            return 0;
        case 'f':
            if (o->n_faults == SL_SIM_FAULTS_MAX || parse_fault(optarg, &o->fault[o->n_faults])) {
                snprintf(err, err_cap,
                    "--fault %s: give nan@STEP:DEVICE, absurd@STEP:DEVICE or die@STEP:DEVICE (%d at most)",
                    optarg, SL_SIM_FAULTS_MAX);
                return -EINVAL;
            }
            o->n_faults++;
            break;
        case 'W':
            o->record = optarg;
            break;
        default:
            snprintf(err, err_cap, "%s: not an option, or without its value; see --help", argv[optind - 1]);
            return -EINVAL;
        }
    }
    if (optind < argc) {
        snprintf(err, err_cap, "%s: not expected; see --help", argv[optind]);
        return -EINVAL;
    }
    return check_whole(o, err, err_cap);
}
