/* What people and tools read of a run: edge.jsonl, latency.hlog, the live line, messages. */
#include "trainer/edge/counters.h"
#include "trainer/edge/edge.h"

#include "trainer/tensor/gemm.h"
#include "trainer/tensor/isa/isa.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAY_PER_S = 20, LIVE_TTY_S = 1, LIVE_PLAIN_S = 5, HLOG_S = 10, LATENCIES = 256, LIVE_COLUMNS = 79 };

/* ---------------------------------------------------------------------------------------------------
 * messages */

static void end_live_line(struct edge *e)
{
    if (e->live.open)
        fputc('\n', stdout);
    e->live.open = false;
    fflush(stdout);
}

void edge_say(struct edge *e, const char *format, ...)
{
    uint64_t now = sl_loop_now_ns();
    if (now - e->log.at_ns >= SECOND_NS) {
        if (e->log.swallowed)
            fprintf(stderr, "sluice-edge: and %u messages more\n", e->log.swallowed);
        e->log.at_ns = now;
        e->log.said = e->log.swallowed = 0;
    }
    if (e->log.said++ >= SAY_PER_S) {
        e->log.swallowed++;
        return;
    }
    va_list args;
    va_start(args, format);
    end_live_line(e);
    fputs("sluice-edge: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* ------------------------------------------------------------------------------------------------ edge.jsonl
 */

/* Has an earlier incarnation got as far as training? Then its evaluation before training stands in the file.
 */
static bool has_trained(const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    while (f && !found && getline(&line, &cap, f) > 0) {
        cJSON *o = cJSON_Parse(line);
        const cJSON *event = cJSON_GetObjectItem(o, "event"), *phase = cJSON_GetObjectItem(o, "phase");
        found = cJSON_IsString(event) && cJSON_IsString(phase) && !strcmp(event->valuestring, "phase") &&
                !strcmp(phase->valuestring, "train");
        cJSON_Delete(o);
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

int edge_open_report(struct edge *e)
{
    char path[SL_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/edge.jsonl", e->options.run);
    e->trained_before = e->resumed && has_trained(path);
    int status = sl_metrics_open(path, &e->metrics, e->err, sizeof e->err);
    if (status)
        return status;
    snprintf(path, sizeof path, "%s/latency.hlog", e->options.run);
    struct stat st;
    e->interval_first = stat(path, &st) || st.st_size == 0;
    e->latency_log = fopen(path, "ae");
    if (!e->latency_log) {
        status = -errno;
        snprintf(e->err, sizeof e->err, "%s: cannot write it: %s", path, strerror(-status));
        return status;
    }
    sl_histogram_reset(&e->latency);
    sl_histogram_reset(&e->latency_interval);
    e->start_ns = e->interval_ns = sl_loop_now_ns();
    e->live.tty = isatty(STDOUT_FILENO);
    return 0;
}

void edge_event(struct edge *e, const char *event, cJSON *object)
{
    int status = sl_metrics_write(e->metrics, event, object);
    if (!status)
        return;
    edge_say(e, "cannot write edge.jsonl: %s", strerror(-status));
    e->checkpoint_failed = true;
}

static const char *const cause_names[EDGE_CAUSES] = {
    [EDGE_CAUSE_JOIN] = "join", [EDGE_CAUSE_LEAVE] = "leave", [EDGE_CAUSE_REFUSED] = "refused"};
enum { CAUSE_BURST = 100 }; /* seconds' worth at once: a fleet that joins is not an attack */

void edge_event_caused(struct edge *e, enum edge_cause cause, cJSON *object)
{
    const uint64_t cost = SECOND_NS / e->x->edge.limits.events_per_s, most = CAUSE_BURST * SECOND_NS;
    const uint64_t now = sl_loop_now_ns();
    typeof(e->causes[0]) *c = &e->causes[cause];
    const uint64_t gained = c->at_ns == 0 ? most : now - c->at_ns;
    c->at_ns = now;
    c->allowance_ns = gained > most - c->allowance_ns ? most : c->allowance_ns + gained;
    if (c->allowance_ns < cost) {
        c->left_out++;
        cJSON_Delete(object);
        return;
    }
    c->allowance_ns -= cost;
    edge_event(e, cause_names[cause], object);
    if (c->left_out == c->told)
        return;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "of", cause_names[cause]);
    cJSON_AddNumberToObject(o, "n", (double)(c->left_out - c->told));
    c->told = c->left_out;
    edge_event(e, "left_out", o);
}

static cJSON *left_out_numbers(const struct edge *e)
{
    cJSON *o = cJSON_CreateObject();
    for (unsigned i = 0; i < EDGE_CAUSES; i++)
        if (e->causes[i].left_out != 0)
            cJSON_AddNumberToObject(o, cause_names[i], (double)e->causes[i].left_out);
    if (e->forecasts.left_out != 0)
        cJSON_AddNumberToObject(o, "profile", (double)e->forecasts.left_out);
    return o;
}

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static const char notice[] =
    "splitting hides nothing by itself: token ids travel as text does, and activations can be inverted";

void edge_report_start(struct edge *e)
{
    char hash[65];
    hex(e->model_hash, sizeof e->model_hash, hash);
    cJSON *o = cJSON_CreateObject();
    char run[17];
    snprintf(run, sizeof run, "%016llx", (unsigned long long)e->run);
    cJSON_AddStringToObject(o, "run", run);
    cJSON_AddNumberToObject(o, "incarnation", (double)e->incarnation);
    cJSON_AddStringToObject(o, "backend", e->x->edge.data.backend);
    cJSON_AddStringToObject(o, "codec", sl_codec_name(e->codec));
    cJSON_AddNumberToObject(o, "lcores", e->n_lcores);
    cJSON_AddNumberToObject(o, "queues", e->port_queues);
    cJSON_AddStringToObject(o, "eal_args", e->eal_args);
    cJSON_AddStringToObject(o, "precision", e->precision);
    cJSON_AddStringToObject(o, "gemm_kernel", sl_gemm_kernel_name());
    cJSON_AddStringToObject(o, "kernel_level", sl_isa_name(sl_isa_current()));
    cJSON_AddStringToObject(o, "packed_kernel", sl_packed_kernel_name(sl_model_precision(e->model)));
    cJSON_AddStringToObject(o, "compute", e->x->edge.modelled ? "modelled" : "real");
    cJSON_AddNumberToObject(o, "threads", e->x->edge.threads);
    cJSON_AddStringToObject(o, "aead", e->aead_name);
    cJSON_AddStringToObject(o, "model_hash", hash);
    cJSON_AddStringToObject(o, "notice", notice);
    edge_event(e, "start", o);
    edge_say(e, "note: %s", notice);
}

void edge_report_link(struct edge *e, bool up, double down_s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "up", up);
    if (up)
        cJSON_AddNumberToObject(o, "down_s", down_s);
    edge_event(e, "link", o);
    if (up)
        edge_say(e, "the data port is up again after %.1f s", down_s);
}

/* p99 over the run so far, in ms. */
static double latency_ms(const struct edge *e, double q)
{
    return (double)sl_histogram_quantile(&e->latency, q) * 1e-6;
}

static double per_s(double amount, uint64_t ns)
{
    return ns ? amount / ((double)ns * 1e-9) : 0;
}

void edge_report_step(struct edge *e, const struct sl_event *event)
{
    struct sl_endpoint_stats endpoint;
    edge_endpoint_stats(e, &endpoint);
    uint64_t gang_ns = event->step.wait_ns + event->step.compute_ns;
    e->loss = event->step.nll / (double)event->step.tokens;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "step", (double)event->step.global_step);
    if (!e->x->edge.modelled) /* nothing was computed */
        sl_metrics_number(o, "loss", e->loss);
    cJSON_AddNumberToObject(o, "tokens", (double)event->step.tokens);
    cJSON_AddNumberToObject(o, "devices", event->step.devices);
    cJSON_AddNumberToObject(o, "gang_ms", (double)gang_ns * 1e-6);
    cJSON_AddNumberToObject(o, "early_ms", (double)event->step.early_ns * 1e-6);
    cJSON_AddNumberToObject(o, "stall_ms", (double)event->step.stall_ns * 1e-6);
    cJSON_AddNumberToObject(o, "compute_ms", (double)event->step.compute_ns * 1e-6);
    cJSON_AddNumberToObject(o, "tokens_per_s", per_s((double)event->step.tokens, gang_ns));
    cJSON_AddNumberToObject(o, "up_mbps",
        per_s(8e-6 * (double)(endpoint.bytes_rx - e->live.bytes_rx), sl_loop_now_ns() - e->live.shown_ns));
    cJSON_AddNumberToObject(o, "down_mbps",
        per_s(8e-6 * (double)(endpoint.bytes_tx - e->live.bytes_tx), sl_loop_now_ns() - e->live.shown_ns));
    cJSON_AddNumberToObject(o, "retransmits", (double)endpoint.retransmits);
    cJSON_AddNumberToObject(o, "p99_ms", latency_ms(e, 0.99));
    cJSON_AddNumberToObject(o, "version", (double)event->step.version);
    edge_event(e, "step", o);
}

void edge_report_eval(struct edge *e, const struct device *d)
{
    cJSON *o = cJSON_CreateObject(), *nll = cJSON_CreateArray(), *tokens = cJSON_CreateArray();
    char number[32];
    for (uint32_t m = 0; m < d->n_evals; m++) {
        for (uint32_t w = 0; w < d->evals[m].n; w++) {
            snprintf(number, sizeof number, "%.17g", d->evals[m].nll[w]);
            cJSON_AddItemToArray(
                nll, isfinite(d->evals[m].nll[w]) ? cJSON_CreateRaw(number) : cJSON_CreateNull());
            cJSON_AddItemToArray(tokens, cJSON_CreateNumber(d->evals[m].tokens[w]));
        }
    }
    cJSON_AddStringToObject(o, "phase", e->phase == SLUICE__PHASE__PHASE_EVAL_BEFORE ? "before" : "after");
    cJSON_AddNumberToObject(o, "index", d->index);
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddItemToObject(o, "nll", nll);
    cJSON_AddItemToObject(o, "tokens", tokens);
    edge_event(e, "eval", o);
}

/* ---------------------------------------------------------------------------------------------- the live
 * line */

/* A line that wraps cannot be taken back: it is cut to what the terminal shows. */
static int columns(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : LIVE_COLUMNS;
}

static void show_live(struct edge *e, uint64_t now)
{
    struct sl_endpoint_stats endpoint;
    edge_endpoint_stats(e, &endpoint);
    uint64_t ns = now - e->live.shown_ns;
    double tokens = per_s((double)(e->tokens - e->live.tokens), ns);
    double up = per_s(8e-6 * (double)(endpoint.bytes_rx - e->live.bytes_rx), ns);
    double down = per_s(8e-6 * (double)(endpoint.bytes_tx - e->live.bytes_tx), ns);
    bool training = e->phase == SLUICE__PHASE__PHASE_TRAIN && e->steps;
    e->live.shown_ns = now;
    e->live.tokens = e->tokens;
    e->live.bytes_rx = endpoint.bytes_rx;
    e->live.bytes_tx = endpoint.bytes_tx;
    if (e->options.json || e->phase == SLUICE__PHASE__PHASE_WAIT || e->ending)
        return;
    char what[64] = "evaluating", line[256];
    if (training && e->x->edge.modelled)
        snprintf(what, sizeof what, "step %llu  (modelled)  %.0f tokens/s",
            (unsigned long long)e->global_step, tokens);
    else if (training)
        snprintf(what, sizeof what, "step %llu  loss %.4f  %.0f tokens/s", (unsigned long long)e->global_step,
            e->loss, tokens);
    snprintf(line, sizeof line,
        "%s  up %.1f  down %.1f Mbit/s  devices %u  retransmissions %llu  p99 %.0f ms", what, up, down,
        e->n_joined, (unsigned long long)endpoint.retransmits, latency_ms(e, 0.99));
    if (e->live.tty)
        printf("\r\033[K%.*s", columns(), line);
    else
        puts(line);
    e->live.open = e->live.tty;
    fflush(stdout);
}

static void log_interval(struct edge *e, uint64_t now)
{
    double at = (double)(e->interval_ns - e->start_ns) * 1e-9, length = (double)(now - e->interval_ns) * 1e-9;
    if (e->latency_interval.count) {
        sl_histogram_log(&e->latency_interval, e->latency_log, "message", at, length, e->interval_first);
        fflush(e->latency_log);
        e->interval_first = false;
    }
    sl_histogram_reset(&e->latency_interval);
    e->interval_ns = now;
}

void edge_poll_report(struct edge *e, uint64_t now)
{
    uint32_t latencies[LATENCIES];
    unsigned n;
    while ((n = sl_ring_spsc_pop(e->latency_ring, latencies, LATENCIES))) {
        for (unsigned i = 0; i < n; i++) {
            sl_histogram_record(&e->latency, latencies[i] * UINT64_C(100));
            sl_histogram_record(&e->latency_interval, latencies[i] * UINT64_C(100));
        }
    }
    if (now - e->interval_ns >= HLOG_S * SECOND_NS)
        log_interval(e, now);
    if (now - e->live.shown_ns >= (e->live.tty ? LIVE_TTY_S : LIVE_PLAIN_S) * SECOND_NS)
        show_live(e, now);
}

/* --------------------------------------------------------------------------------------------------- the end
 */

static void add_numbers(cJSON *o, const struct edge_counter *c, const uint64_t *sums)
{
    for (; c->name; c++)
        cJSON_AddNumberToObject(o, c->name, (double)sums[c->offset / sizeof(uint64_t)]);
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Of all lcores together. */
static cJSON *ingest_numbers(const struct edge *e)
{
    struct sl_ingest_stats s;
    uint64_t sums[offsetof(struct sl_ingest_stats, slots_free) / sizeof(uint64_t)] = {0};
    uint32_t in_use = 0, in_use_max = 0;
    cJSON *o = cJSON_CreateObject();
    for (uint32_t i = 0; i < e->n_lcores; i++) {
        sl_ingest_stats(e->lcores[i].ingest, &s);
        for (size_t k = 0; k < COUNT(sums); k++)
            sums[k] += ((const uint64_t *)&s)[k];
        in_use += s.slots_in_use;
        in_use_max += s.slots_in_use_max;
    }
    add_numbers(o, edge_ingest_counters, sums);
    cJSON_AddNumberToObject(o, "slots_in_use", in_use);
    cJSON_AddNumberToObject(o, "slots_in_use_max", in_use_max);
    return o;
}

static void lcore_sums(const struct edge *e, uint32_t first, uint32_t end, uint64_t *sums)
{
    for (uint32_t i = first; i < end; i++) {
        struct sl_lcore_stats s;
        sl_lcore_stats(e->lcores[i].lcore, &s);
        for (size_t k = 0; k < sizeof s / sizeof(uint64_t); k++)
            sums[k] += ((const uint64_t *)&s)[k];
    }
}

static cJSON *lcore_numbers(const struct edge *e)
{
    uint64_t sums[sizeof(struct sl_lcore_stats) / sizeof(uint64_t)] = {0};
    cJSON *o = cJSON_CreateObject();
    lcore_sums(e, 0, e->n_lcores, sums);
    add_numbers(o, edge_lcore_counters, sums);
    return o;
}

/* Busy: the share of its cycles that a lcore spent in turns with work, sleeps included in the whole. */
static cJSON *each_lcore(const struct edge *e)
{
    cJSON *all = cJSON_CreateArray();
    for (uint32_t i = 0; i < e->n_lcores; i++) {
        const struct edge_lcore *l = &e->lcores[i];
        struct sl_lcore_stats s = {0};
        struct sl_ingest_stats in;
        cJSON *o = cJSON_CreateObject();
        lcore_sums(e, i, i + 1, (uint64_t *)&s);
        sl_ingest_stats(l->ingest, &in);
        cJSON_AddNumberToObject(o, "lcore", i);
        cJSON_AddNumberToObject(o, "cpu", l->cpu);
        cJSON_AddNumberToObject(o, "devices", l->n_devices);
        cJSON_AddNumberToObject(
            o, "busy", s.cycles_total ? (double)s.cycles_busy / (double)s.cycles_total : 0);
        cJSON_AddNumberToObject(o, "slots", l->n_slots);
        cJSON_AddNumberToObject(o, "slots_in_use_max", in.slots_in_use_max);
        cJSON_AddNumberToObject(o, "ready", (double)in.ready);
        add_numbers(o, edge_lcore_counters, (const uint64_t *)&s);
        cJSON_AddItemToArray(all, o);
    }
    return all;
}

static cJSON *drop_numbers(struct edge *e, const struct sl_endpoint_stats *endpoint)
{
    struct sl_port_stats port;
    cJSON *o = cJSON_CreateObject();
    sl_port_stats(e->port, &port);
    for (unsigned i = SL_DROP_NONE + 1; i < SL_DROP_COUNT; i++)
        cJSON_AddNumberToObject(o, sl_drop_name((enum sl_drop)i), (double)endpoint->drops[i]);
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        cJSON_AddNumberToObject(o, sl_port_drop_name((enum sl_port_drop)i), (double)port.drops[i]);
    return o;
}

/* Of ports that need system calls (io_uring's): how many datagrams one of them moved. */
static void add_kernel_calls(struct edge *e, cJSON *o)
{
    struct sl_port_stats s;
    sl_port_stats(e->port, &s);
    if (s.kernel_calls == 0)
        return;
    cJSON_AddNumberToObject(o, "kernel_calls", (double)s.kernel_calls);
    cJSON_AddNumberToObject(
        o, "packets_per_kernel_call", (double)(s.rx_packets + s.tx_packets) / (double)s.kernel_calls);
}

static void say_capture(struct edge *e)
{
    struct sl_port_stats s;
    sl_port_stats(e->port, &s);
    if (e->options.capture)
        edge_say(e, "%s: %llu packets, %llu missed", e->options.capture, (unsigned long long)s.captured,
            (unsigned long long)s.capture_missed);
}

/* From the NIC's stamp to the data lcore, on ports that stamp (io/dpdk/stamp.h): upper bounds, powers of two.
 */
static void add_nic_wait(struct edge *e, cJSON *end)
{
    struct sl_port_stats s;
    sl_port_stats(e->port, &s);
    if (sl_port_wait_quantile(s.rx_wait, 1) == 0)
        return;
    cJSON *o = cJSON_AddObjectToObject(end, "nic_to_lcore_below_ns");
    cJSON_AddNumberToObject(o, "p50", (double)sl_port_wait_quantile(s.rx_wait, 0.5));
    cJSON_AddNumberToObject(o, "p99", (double)sl_port_wait_quantile(s.rx_wait, 0.99));
    cJSON_AddNumberToObject(o, "p999", (double)sl_port_wait_quantile(s.rx_wait, 0.999));
}

/* Shares of the training time: busy, idle while work was offered, idle without (pipeline/load.h). */
static void add_load(const struct edge *e, cJSON *end)
{
    struct sl_load_times l;
    sl_load_read(&e->load, &l);
    uint64_t all = l.busy_ns + l.stall_ns + l.idle_ns;
    cJSON_AddNumberToObject(end, "busy", all ? (double)l.busy_ns / (double)all : 0);
    cJSON_AddNumberToObject(end, "stall", all ? (double)l.stall_ns / (double)all : 0);
    cJSON_AddNumberToObject(end, "stall_s", (double)l.stall_ns * 1e-9);
}

static void add_held_out(const struct edge *e, cJSON *end)
{
    static const char *const when[] = {"before", "after"};
    cJSON *all = cJSON_AddObjectToObject(end, "held_out");
    for (unsigned i = 0; i < 2; i++) {
        const struct held_out *h = &e->held_out[i];
        if (!h->devices)
            continue;
        cJSON *o = cJSON_AddObjectToObject(all, when[i]);
        sl_metrics_number(o, "nll", h->nll);
        sl_metrics_number(o, "median", h->median);
        sl_metrics_number(o, "worst", h->worst);
        cJSON_AddStringToObject(o, "worst_device", h->worst_device);
        cJSON_AddNumberToObject(o, "devices", h->devices);
        cJSON_AddNumberToObject(o, "tokens", (double)h->tokens);
    }
}

/* Personal adapters: what moved between memory and disk up to the last checkpoint, and what it cost. */
static void add_adapters(const struct edge *e, cJSON *end)
{
    struct sl_record_file_stats f;
    const struct sl_personal_stats *p = &e->personal_stats;
    if (!e->disk)
        return;
    sl_record_file_stats(sl_adapter_disk_file(e->disk), &f);
    cJSON *o = cJSON_AddObjectToObject(end, "adapters");
    cJSON_AddNumberToObject(o, "resident", edge_resident(e));
    cJSON_AddNumberToObject(o, "record_bytes", (double)sl_adapter_record_bytes(&e->record_shape));
    cJSON_AddNumberToObject(o, "hits", (double)p->store.hits);
    cJSON_AddNumberToObject(o, "misses", (double)p->store.misses);
    cJSON_AddNumberToObject(o, "loads", (double)p->store.loads);
    cJSON_AddNumberToObject(o, "evictions", (double)p->store.evictions);
    cJSON_AddNumberToObject(o, "saves", (double)p->store.saves);
    cJSON_AddNumberToObject(
        o, "load_ms", p->store.loads ? (double)p->store.load_ns * 1e-6 / (double)p->store.loads : 0);
    cJSON_AddNumberToObject(o, "load_ms_max", (double)p->store.load_ns_max * 1e-6);
    cJSON_AddNumberToObject(o, "gangs", (double)p->gangs);
    cJSON_AddNumberToObject(o, "gangs_waited", (double)p->gangs_waited);
    cJSON_AddNumberToObject(o, "waited_ms", (double)p->waited_ns * 1e-6);
    cJSON_AddNumberToObject(o, "reads", (double)f.reads);
    cJSON_AddNumberToObject(o, "writes", (double)f.writes);
    cJSON_AddNumberToObject(o, "bytes_read", (double)f.bytes_read);
    cJSON_AddNumberToObject(o, "bytes_written", (double)f.bytes_written);
    cJSON_AddNumberToObject(o, "read_ms", f.reads ? (double)f.read_ns * 1e-6 / (double)f.reads : 0);
    cJSON_AddNumberToObject(o, "write_ms", f.writes ? (double)f.write_ns * 1e-6 / (double)f.writes : 0);
}

void edge_report_end(struct edge *e)
{
    say_capture(e);
    struct sl_endpoint_stats endpoint;
    uint64_t now = sl_loop_now_ns();
    edge_endpoint_stats(e, &endpoint);
    log_interval(e, now);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "steps", (double)e->global_step);
    cJSON_AddNumberToObject(o, "tokens", (double)e->tokens);
    cJSON_AddNumberToObject(o, "wall_s", (double)(now - e->start_ns) * 1e-9);
    cJSON_AddNumberToObject(o, "train_s", (double)e->train_ns * 1e-9);
    cJSON_AddNumberToObject(o, "tokens_per_s", per_s((double)e->tokens, e->train_ns));
    cJSON_AddStringToObject(o, "compute", e->x->edge.modelled ? "modelled" : "real");
    add_load(e, o);
    cJSON_AddNumberToObject(o, "packets_rx", (double)endpoint.packets_rx);
    cJSON_AddNumberToObject(o, "packets_tx", (double)endpoint.packets_tx);
    cJSON_AddNumberToObject(o, "bytes_rx", (double)endpoint.bytes_rx);
    cJSON_AddNumberToObject(o, "bytes_tx", (double)endpoint.bytes_tx);
    cJSON_AddNumberToObject(o, "retransmits", (double)endpoint.retransmits);
    add_kernel_calls(e, o);
    cJSON_AddItemToObject(o, "drops", drop_numbers(e, &endpoint));
    cJSON_AddNumberToObject(o, "latency_p50_ms", latency_ms(e, 0.5));
    cJSON_AddNumberToObject(o, "latency_p99_ms", latency_ms(e, 0.99));
    cJSON_AddNumberToObject(o, "latency_p999_ms", latency_ms(e, 0.999));
    cJSON_AddItemToObject(o, "ingest", ingest_numbers(e));
    add_nic_wait(e, o);
    cJSON_AddItemToObject(o, "lcore", lcore_numbers(e));
    cJSON_AddItemToObject(o, "lcores", each_lcore(e));
    cJSON_AddNumberToObject(o, "old_cut_messages", (double)e->old_cuts);
    add_held_out(e, o);
    add_adapters(e, o);
    cJSON_AddItemToObject(o, "events_left_out", left_out_numbers(e));
    cJSON_AddStringToObject(o, "reason", e->end_reason ? e->end_reason : "");
    end_live_line(e);
    if (e->options.json) {
        char *text = cJSON_PrintUnformatted(o);
        if (text)
            puts(text);
        free(text);
    } else if (e->exit_code == EXIT_SUCCESS) {
        printf("%llu steps, %.0f tokens/s while training; %s\n", (unsigned long long)e->global_step,
            per_s((double)e->tokens, e->train_ns), e->end_reason ? e->end_reason : "");
    }
    fflush(stdout);
    edge_event(e, "end", o);
}

void edge_close_report(struct edge *e)
{
    if (e->metrics)
        sl_metrics_close(e->metrics);
    if (e->latency_log)
        fclose(e->latency_log);
    end_live_line(e);
}
