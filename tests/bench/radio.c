/* sluice-bench radio: what phones in radio cells cost, on a clock of their own. */
#include "device-sim/radio/radio.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD = 1472, UNDER_WAY = 1 << 20, MESSAGE = 131, LOOK_MS = 10 }; /* 131 packets: 192 KiB */
static const uint64_t ms_ns = 1000000;
static const double spacing_m = 500;

static double seconds = 10, mbps = 500;
static uint64_t n_phones = 10000, n_side = 10;
static const char *mobility = "static";
static const char *const mobilities[] = {"static", "waypoint", NULL};

static const struct bench_option options[] = {
    {"seconds", BENCH_REAL, &seconds, "S", "of modelled time", 0.1, 3600, NULL},
    {"phones", BENCH_NUMBER, &n_phones, "N", "", 1, 100000, NULL},
    {"side", BENCH_NUMBER, &n_side, "N", "cells in a row, and rows", 1, 16, NULL},
    {"mbps", BENCH_REAL, &mbps, "R", "each way, all phones together", 0.1, 100000, NULL},
    {"mobility", BENCH_TEXT, &mobility, "KIND", "", 0, 0, mobilities},
    {0},
};

struct town {
    struct sl_radio_config cfg;
    struct sl_radio *radio;
    struct sl_links *links[SL_RADIO_DIRECTIONS];
    double owed; /* packets each way */
    uint64_t message;
    uint32_t left, phone; /* of the message that is being offered */
    uint64_t offered, delivered, backlogged;
};

/* 100 MHz at 3.5 GHz, UMa, everything on. */
static void describe(struct sl_radio_config *g)
{
    double side_m = (double)n_side * spacing_m;

    *g = (struct sl_radio_config){.geometry = {3.5, 25, 1.5},
        .path_loss = SL_PATH_UMA,
        .shadowing = true,
        .fading = {.branches = 2, .doppler_hz = 5},
        .bandwidth_hz = 100e6,
        .usable = 0.95,
        .share = {0.25, 0.65},
        .layers = {1, 2},
        .table = SL_CQI_256QAM,
        .tx_dbm = {23, 49},
        .noise_figure_db = {5, 9},
        .interference_db = 3,
        .n_cells = (uint32_t)(n_side * n_side),
        .mobility = {.kind = strcmp(mobility, "static") ? SL_MOBILITY_WAYPOINT : SL_MOBILITY_STATIC,
            .width_m = side_m,
            .height_m = side_m,
            .speed_min_mps = 1,
            .speed_max_mps = 15},
        .scheduler = SL_SCHEDULE_PF,
        .pf_window_s = 0.1,
        .tti_ns = ms_ns,
        .sr_period_ns = 10 * ms_ns,
        .grant_ns = 4 * ms_ns,
        .harq_ns = 4 * ms_ns,
        .bler = 0.1,
        .measure_ns = 200 * ms_ns,
        .time_to_trigger_ns = 320 * ms_ns,
        .interruption_ns = 50 * ms_ns,
        .hysteresis_db = 3};
    for (uint32_t i = 0; i < g->n_cells; i++) {
        g->cell_m[i][0] = spacing_m * (0.5 + (double)(i % n_side));
        g->cell_m[i][1] = spacing_m * (0.5 + (double)(i / n_side));
    }
}

static int build(struct town *t)
{
    struct sl_link_params p = {
        .service.kind = SL_SERVICE_GRANTED, .queue.kind = SL_DISCIPLINE_NONE, .delay_ns = 15 * ms_ns};
    struct sl_radio_place *place = calloc(n_phones, sizeof *place);
    int rc = place ? 0 : -ENOMEM;

    describe(&t->cfg);
    for (uint32_t i = 0; i < n_phones && place; i++)
        place[i].cell = UINT32_MAX;
    if (!rc)
        rc = sl_radio_create(&t->cfg, 1, place, (uint32_t)n_phones, 1, 0, NULL, NULL, &t->radio);
    free(place);
    for (int w = 0; w < SL_RADIO_DIRECTIONS && !rc; w++) {
        rc = sl_links_create((uint32_t)n_phones, UNDER_WAY, &t->links[w]);
        for (uint32_t i = 0; i < n_phones && !rc; i++)
            rc = sl_links_set(t->links[w], i, &p, sl_rng_u64(2, 2 * (uint64_t)i + (uint64_t)w));
    }
    if (!rc)
        sl_radio_bind(t->radio, t->links[SL_RADIO_UP], t->links[SL_RADIO_DOWN]);
    return rc;
}

static void demolish(struct town *t)
{
    sl_links_free(t->links[SL_RADIO_UP]);
    sl_links_free(t->links[SL_RADIO_DOWN]);
    sl_radio_free(t->radio);
}

/* Messages of 192 KiB each way, to phones at random, one packet after the other. */
static void offer(struct town *t, uint64_t now_ns)
{
    for (t->owed += mbps * 1e6 / 8 / (PAYLOAD + SL_LINK_IP_UDP_BYTES) * (double)ms_ns * 1e-9; t->owed >= 1;
         t->owed--) {
        if (t->left == 0) {
            t->phone = (uint32_t)(sl_rng_u64(3, t->message++) % n_phones);
            t->left = MESSAGE;
        }
        t->left--;
        for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
            t->offered += sl_links_offer(t->links[w], t->phone, 0, PAYLOAD, now_ns) == SL_LINK_TAKEN;
    }
}

static uint64_t own_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int run(cJSON *result, char *err, size_t cap)
{
    struct town t = {.owed = 0};
    struct sl_link_out out;
    struct sl_radio_state s;
    uint64_t begin = own_ns(), handovers = 0, covered = 0;
    int rc = build(&t);

    if (rc) {
        demolish(&t);
        snprintf(err, cap, "cells and links: %s", strerror(-rc));
        return BENCH_FAILED;
    }
    cJSON_AddNumberToObject(result, "setup_s", (double)(own_ns() - begin) * 1e-9);
    uint64_t spent = 0, until = (uint64_t)(seconds * 1e3);
    for (uint64_t ms = 0; ms < until && !bench_stopping(); ms++) {
        begin = own_ns();
        for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
            while (sl_link_next(t.links[w], ms * ms_ns, &out))
                t.delivered++;
        offer(&t, ms * ms_ns);
        spent += own_ns() - begin;
        for (uint32_t i = 0; i < n_phones && ms % LOOK_MS == 0; i++)
            for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
                t.backlogged += LOOK_MS * (sl_links_backlog_bytes(t.links[w], i) > 0);
        if (ms % 1000 == 0)
            bench_progress("radio: %llu s", (unsigned long long)(ms / 1000));
    }
    for (uint32_t i = 0; i < n_phones; i++) {
        sl_radio_state(t.radio, i, &s);
        handovers += s.handovers;
        covered += s.covered;
    }
    cJSON_AddNumberToObject(result, "share_of_core", (double)spent * 1e-9 / seconds);
    cJSON_AddNumberToObject(result, "ns_per_packet", (double)spent / fmax(1, (double)t.offered));
    cJSON_AddNumberToObject(result, "ns_per_phone_tti", (double)spent / fmax(1, (double)t.backlogged));
    cJSON_AddNumberToObject(result, "backlogged", (double)t.backlogged / (seconds * 1e3));
    cJSON_AddNumberToObject(result, "offered", (double)t.offered);
    cJSON_AddNumberToObject(result, "delivered", (double)t.delivered);
    cJSON_AddNumberToObject(result, "handovers", (double)handovers);
    cJSON_AddNumberToObject(result, "covered", (double)covered);
    uint32_t handle;
    uint64_t under_way = 0;
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
        while (sl_links_evict(t.links[w], &handle))
            under_way++;
    cJSON_AddNumberToObject(result, "under_way", (double)under_way);
    demolish(&t);
    snprintf(err, cap, "%llu packets offered, %llu accounted for", (unsigned long long)t.offered,
        (unsigned long long)(t.delivered + under_way));
    return t.offered == t.delivered + under_way ? BENCH_OK : BENCH_UNCOUNTED;
}

const struct bench_verb bench_radio = {
    .name = "radio",
    .summary = "what phones in radio cells cost",
    .about = "One thread, cells of 100 MHz 500 m apart, messages of 192 KiB each way to phones at random; "
             "time is the model's\n"
             "own and goes as fast as it can. share_of_core: processor time for a modelled second, links "
             "included. A phone-TTI:\n"
             "a slot in which a phone has something waiting in one direction.\n",
    .examples = "  sluice-bench radio\n"
                "  sluice-bench radio --mobility waypoint --json\n",
    .options = options,
    .run = run,
};
