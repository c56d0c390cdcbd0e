/* sluice-bench swap: personal adapters that go to disk and come back, as the edge node does it: the store on
 * this thread, the disk's operations in an io_uring loop on another. */
#include "tests/bench/verb.h"
#include "trainer/edge/adapter_disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BUFFERS = 8, POLL_NS = 2000000, IDLE_NS = 100000, FRONT_CUT = 1 };

static double seconds = 5, compute_ms = 20;
static uint64_t devices = 256, resident = 64, gang, layers = 8, width = 512, rank = 8;
static const char *dir = "/var/tmp";

static const struct bench_option options[] = {
    {"seconds", BENCH_REAL, &seconds, "S", "how long", 0.01, 3600, NULL},
    {"devices", BENCH_NUMBER, &devices, "N", "devices, each with an adapter, in turn", 1, 100000, NULL},
    {"resident", BENCH_NUMBER, &resident, "N", "adapters in memory", 2, 100000, NULL},
    {"gang", BENCH_NUMBER, &gang, "N", "adapters in a gang; 0: half of those in memory", 0, 100000, NULL},
    {"compute-ms", BENCH_REAL, &compute_ms, "MS", "what computing a gang takes", 0, 10000, NULL},
    {"layers", BENCH_NUMBER, &layers, "N", "of the model; the edge has all but one", 2, 128, NULL},
    {"width", BENCH_NUMBER, &width, "N", "of the model", 64, 16384, NULL},
    {"rank", BENCH_NUMBER, &rank, "N", "of the adapters: of q, v and down", 1, 256, NULL},
    {"dir", BENCH_TEXT, &dir, "DIR", "where the file of records is", 0, 0, NULL},
    {0},
};

struct swap {
    struct sl_loop *loop;
    struct sl_adapter_disk *disk;
    struct sl_adapter_store *store;
    struct sl_model_config shape;
    float *initial;
    char path[4096];
    uint64_t usable, latest_ns;
    uint64_t gangs, waited, waited_ns, failed;
};

static void usable(void *app, uint32_t device, uint64_t since_ns)
{
    struct swap *s = app;
    (void)device;
    s->usable++;
    s->latest_ns = since_ns > s->latest_ns ? since_ns : s->latest_ns;
}

static int fetched(void *app, const struct sl_disk_op *op, const uint8_t *record, char *why, size_t cap)
{
    (void)app, (void)op, (void)record, (void)why, (void)cap;
    return 0;
}

static void not_fetched(void *app, const struct sl_disk_op *op, int status)
{
    (void)app, (void)op, (void)status;
}

static void poll(void *app, uint64_t now_ns)
{
    struct swap *s = app;
    (void)now_ns;
    sl_adapter_disk_poll(s->disk, s->store);
}

static void *run_loop(void *app)
{
    struct swap *s = app;
    s->failed = sl_loop_run(s->loop, poll, s, POLL_NS) != 0;
    return NULL;
}

static void turn(struct swap *s)
{
    sl_adapter_store_turn(s->store, sl_loop_now_ns());
    if (sl_adapter_store_asked(s->store))
        sl_loop_wake(s->loop);
}

static void want(struct swap *s, uint64_t first)
{
    for (uint64_t i = 0; i < gang; i++)
        sl_adapter_store_want(s->store, (uint32_t)((first + i) % devices), sl_loop_now_ns());
    if (sl_adapter_store_asked(s->store))
        sl_loop_wake(s->loop);
}

static void step(struct swap *s, uint64_t first, uint64_t round)
{
    for (uint64_t i = 0; i < gang; i++) {
        uint32_t d = (uint32_t)((first + i) % devices);
        sl_adapter_store_stepped(s->store, d, round);
        sl_adapter_store_unwant(s->store, d);
    }
}

/* The messages of the next gang are there while this one is computed. */
static void gangs(struct swap *s, uint64_t until_ns)
{
    uint64_t wanted = gang, first = 0, opened = sl_loop_now_ns();
    want(s, 0);
    while (sl_loop_now_ns() < until_ns && !sl_adapter_store_error(s->store)) {
        turn(s);
        if (s->usable < wanted) {
            nanosleep(&(struct timespec){.tv_nsec = IDLE_NS}, NULL);
            continue;
        }
        uint64_t now = sl_loop_now_ns();
        s->waited += s->latest_ns > opened;
        s->waited_ns += s->latest_ns > opened ? now - opened : 0;
        s->gangs++;
        want(s, first + gang);
        wanted += gang;
        while ((double)(sl_loop_now_ns() - now) < compute_ms * 1e6)
            ;
        step(s, first, s->gangs);
        first += gang;
        s->latest_ns = 0;
        opened = sl_loop_now_ns();
    }
}

static int open_swap(struct swap *s, char *err, size_t cap)
{
    s->shape = (struct sl_model_config){.family = SL_FAMILY_LLAMA,
        .n_layers = (uint32_t)layers,
        .d_model = (uint32_t)width,
        .n_heads = 8,
        .n_kv_heads = 8,
        .head_dim = (uint32_t)width / 8,
        .d_ff = (uint32_t)(width * 8 / 3 / 64 * 64),
        .vocab = 1024,
        .max_positions = 128,
        .norm_eps = 1e-5f};
    struct sl_lora_config lora = {.rank = (uint32_t)rank,
        .alpha = 16,
        .targets = 1u << SL_Q_PROJ | 1u << SL_V_PROJ | 1u << SL_DOWN_PROJ,
        .seed = 1};
    size_t block = sl_adapter_block_size(&s->shape, &lora);
    s->initial = calloc(layers * block, sizeof *s->initial);
    struct sl_adapter_store_config c = {.model = &s->shape,
        .lora = lora,
        .optim = {.kind = SL_ADAMW, .lr = 1e-3f},
        .first = FRONT_CUT,
        .max_cut = FRONT_CUT,
        .max_devices = (uint32_t)devices,
        .resident = (uint32_t)resident,
        .initial = s->initial,
        .usable = usable,
        .app = s};
    int status = s->initial ? sl_adapter_store_create(&c, &s->store) : -ENOMEM;
    if (status) {
        snprintf(err, cap, "not enough memory for %u adapters", c.resident);
        return status;
    }
    for (uint32_t i = 0; i < c.max_devices; i++) {
        char id[SL_ADAPTER_RECORD_ID_BYTES];
        snprintf(id, sizeof id, "device-%05u", i);
        sl_adapter_store_know(s->store, i, id);
    }
    status = sl_loop_create(4, &s->loop, err, cap);
    if (status)
        return status;
    snprintf(s->path, sizeof s->path, "%s/sluice-bench-swap-%d", dir, getpid());
    struct sl_adapter_disk_config d = {.loop = s->loop,
        .path = s->path,
        .buffers = RECORD_BUFFERS,
        .fetched = fetched,
        .not_fetched = not_fetched,
        .app = s};
    sl_adapter_store_shape(s->store, &d.shape);
    return sl_adapter_disk_open(&d, &s->disk, err, cap);
}

static void close_swap(struct swap *s)
{
    if (s->loop)
        sl_loop_free(s->loop);
    sl_adapter_disk_close(s->disk);
    sl_adapter_store_free(s->store);
    if (s->path[0])
        unlink(s->path);
    free(s->initial);
}

static void describe(struct swap *s, cJSON *result, double spent_s)
{
    char text[200];
    struct sl_adapter_store_stats t;
    struct sl_record_file_stats f;
    struct sl_adapter_record_shape shape;
    sl_adapter_store_stats(s->store, &t);
    sl_adapter_store_shape(s->store, &shape);
    sl_record_file_stats(sl_adapter_disk_file(s->disk), &f);
    sl_record_file_describe(sl_adapter_disk_file(s->disk), text, sizeof text);
    cJSON_AddStringToObject(result, "file", text);
    cJSON_AddNumberToObject(result, "record_bytes", (double)sl_adapter_record_bytes(&shape));
    cJSON_AddNumberToObject(result, "swap_bytes", 2 * (double)sl_adapter_record_edge_bytes(&shape));
    cJSON_AddNumberToObject(result, "resident_bytes",
        (double)resident * (double)sl_adapter_record_edge_bytes(&shape) * 4 / 3); /* and the gradient */
    cJSON_AddNumberToObject(result, "file_bytes",
        (double)sl_adapter_store_places(s->store) * (double)sl_adapter_record_bytes(&shape));
    cJSON_AddNumberToObject(result, "gangs", (double)s->gangs);
    cJSON_AddNumberToObject(result, "gangs_waited", s->gangs ? (double)s->waited / (double)s->gangs : 0);
    cJSON_AddNumberToObject(
        result, "wait_ms_per_gang", s->gangs ? (double)s->waited_ns * 1e-6 / (double)s->gangs : 0);
    cJSON_AddNumberToObject(result, "loads", (double)t.loads);
    cJSON_AddNumberToObject(result, "evictions", (double)t.evictions);
    cJSON_AddNumberToObject(result, "loads_per_s", (double)t.loads / spent_s);
    cJSON_AddNumberToObject(result, "load_ms", t.loads ? (double)t.load_ns * 1e-6 / (double)t.loads : 0);
    cJSON_AddNumberToObject(result, "load_ms_max", (double)t.load_ns_max * 1e-6);
    cJSON_AddNumberToObject(result, "read_ms", f.reads ? (double)f.read_ns * 1e-6 / (double)f.reads : 0);
    cJSON_AddNumberToObject(result, "write_ms", f.writes ? (double)f.write_ns * 1e-6 / (double)f.writes : 0);
    cJSON_AddNumberToObject(result, "mb_per_s", (double)(f.bytes_read + f.bytes_written) * 1e-6 / spent_s);
}

static int run(cJSON *result, char *err, size_t cap)
{
    static struct swap s;
    pthread_t thread;
    gang = gang ? gang : resident / 2;
    if (2 * gang > resident || gang > devices) {
        snprintf(err, cap, "--gang: half of --resident at most, and no more than --devices");
        return BENCH_FAILED;
    }
    if (open_swap(&s, err, cap)) {
        close_swap(&s);
        return BENCH_FAILED;
    }
    if (pthread_create(&thread, NULL, run_loop, &s) != 0) {
        snprintf(err, cap, "cannot start a thread");
        close_swap(&s);
        return BENCH_FAILED;
    }
    uint64_t from = sl_loop_now_ns();
    gangs(&s, from + (uint64_t)(seconds * 1e9));
    double spent_s = (double)(sl_loop_now_ns() - from) * 1e-9;
    sl_loop_stop(s.loop);
    pthread_join(thread, NULL);
    describe(&s, result, spent_s);
    bool failed = s.failed || sl_adapter_store_error(s.store);
    if (failed)
        snprintf(err, cap, "%s",
            sl_adapter_store_error(s.store) ? sl_adapter_store_error(s.store) : "io_uring failed");
    close_swap(&s);
    return failed ? BENCH_FAILED : BENCH_OK;
}

const struct bench_verb bench_swap = {
    .name = "swap",
    .summary = "personal adapters to disk and back: bytes and time of a swap, gangs that waited",
    .about =
        "Gangs of devices in turn, so that no adapter is still in memory when its device comes again. While "
        "a gang is\n\"computed\" the next one's adapters are asked for, as messages that wait do.",
    .examples = "  sluice-bench swap --devices 1000 --resident 64 --json\n"
                "  sluice-bench swap --compute-ms 0    what the disk gives\n",
    .options = options,
    .run = run,
};
