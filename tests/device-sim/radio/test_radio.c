/* A cell's slots against closed forms: who is served how much, when a request is granted, when a phone is
 * handed over. Static phones without shadowing have signal-to-noise ratios that are known by hand, so what a
 * scheduler gives them follows from the CQI table alone. Seeds are fixed; limits say what they stand on. */
#include "device-sim/radio/radio.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

enum { MS = 1000000, SEED = 7, PACKETS = 4096, PAYLOAD = 1472, MOVES = 8 };
static const uint64_t second = 1000000000;

/* One environment and the links of its phones. Time begins at 0. */
struct rig {
    struct sl_radio_config cfg;
    struct sl_radio_place place[16];
    uint32_t n;
    struct sl_radio *radio;
    struct sl_links *links[SL_RADIO_DIRECTIONS];
    uint64_t moved_ns[MOVES], delivered_ns;
    uint32_t n_moved;
};

static void on_moved(void *app, uint32_t phone, uint64_t now_ns)
{
    struct rig *r = app;

    (void)phone;
    assert_true(r->n_moved < MOVES);
    r->moved_ns[r->n_moved++] = now_ns;
}

/* 20 MHz, one cell in the middle of a square kilometre, nothing random, phones that stand still. */
static struct sl_radio_config plain(void)
{
    return (struct sl_radio_config){.geometry = {2, 25, 1.5},
        .path_loss = SL_PATH_MACRO,
        .bandwidth_hz = 20e6,
        .usable = 0.9,
        .share = {0.5, 0.5},
        .layers = {1, 1},
        .table = SL_CQI_64QAM,
        .tx_dbm = {23, 40},
        .noise_figure_db = {5, 7},
        .n_cells = 1,
        .cell_m = {{500, 500}},
        .mobility = {.kind = SL_MOBILITY_STATIC, .width_m = 1000, .height_m = 1000},
        .scheduler = SL_SCHEDULE_PF,
        .pf_window_s = 1,
        .tti_ns = MS,
        .measure_ns = 40 * MS,
        .hysteresis_db = 3};
}

static void build(struct rig *r, uint32_t n)
{
    struct sl_link_params p = {
        .service = {.kind = SL_SERVICE_GRANTED}, .queue = {.kind = SL_DISCIPLINE_NONE}};

    r->n = n;
    for (uint32_t i = 0; i < n; i++)
        r->place[i] = (struct sl_radio_place){0, UINT32_MAX};
    assert_int_equal(sl_radio_create(&r->cfg, 1, r->place, n, SEED, 0, on_moved, r, &r->radio), 0);
    for (int w = 0; w < SL_RADIO_DIRECTIONS; w++) {
        assert_int_equal(sl_links_create(n, PACKETS, &r->links[w]), 0);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(sl_links_set(r->links[w], i, &p, i + 1), 0);
    }
    sl_radio_bind(r->radio, r->links[SL_RADIO_UP], r->links[SL_RADIO_DOWN]);
}

static void take_down(struct rig *r)
{
    sl_links_free(r->links[SL_RADIO_UP]);
    sl_links_free(r->links[SL_RADIO_DOWN]);
    sl_radio_free(r->radio);
}

static uint64_t served(const struct rig *r, int w, uint32_t i)
{
    struct sl_link_stats s;

    sl_links_stats(r->links[w], i, &s);
    return s.served_bytes;
}

/* Keeps every queue of a direction filled from one time to another. */
static void saturate(struct rig *r, int w, uint64_t from_ns, uint64_t until_ns)
{
    struct sl_link_out out;

    for (uint64_t t = from_ns; t < until_ns; t += MS) {
        while (sl_link_next(r->links[w], t, &out))
            r->delivered_ns = out.due_ns;
        for (uint32_t i = 0; i < r->n; i++)
            while (sl_links_backlog_bytes(r->links[w], i) < 30000)
                assert_int_equal(sl_links_offer(r->links[w], i, 0, PAYLOAD, t), SL_LINK_TAKEN);
    }
}

/* What a phone has by the table with a given part of the time. */
static double table_rate(const struct sl_radio_config *g, double efficiency)
{
    return efficiency * g->bandwidth_hz * g->usable * g->share[SL_RADIO_DOWN] * (1 - g->bler);
}

/* ---- the link budget ---- */

/* By hand: 128.1 + 37.6 log10(d_km) with d from antenna to antenna; noise -174 + 10 log10(18 MHz) + 7 =
 * -94.447 dBm. */
static void budget__is_power_less_loss_less_noise(void **state)
{
    struct rig r = {.cfg = plain()};
    struct sl_radio_state s;

    (void)state;
    r.cfg.interference_db = 2;
    build(&r, 8);
    for (uint32_t i = 0; i < 8; i++) {
        sl_radio_state(r.radio, i, &s);
        double d = sqrt((s.x_m - 500) * (s.x_m - 500) + (s.y_m - 500) * (s.y_m - 500) + 23.5 * 23.5);
        double loss = 128.1 + 37.6 * log10(d / 1000);
        assert_true(fabs(s.snr_db[SL_RADIO_DOWN] - (40 - loss + 94.447 - 2)) < 1e-3);
        assert_true(fabs(s.snr_db[SL_RADIO_UP] - (23 - loss + 96.447 - 2)) < 1e-3);
    }
    take_down(&r);
}

/* A tenth of the power is 10 dB less upwards, nothing downwards; twice the same is the same. */
static void power__moves_the_uplink_alone(void **state)
{
    struct rig r = {.cfg = plain()};
    struct sl_radio_state full, low;

    (void)state;
    r.cfg.mobility =
        (struct sl_mobility_config){.kind = SL_MOBILITY_STATIC, .width_m = 1000, .height_m = 1000};
    build(&r, 8);
    for (uint32_t i = 0; i < 8; i++) {
        sl_radio_state(r.radio, i, &full);
        for (int again = 0; again < 2; again++) {
            sl_radio_set_power(r.radio, i, 0.1);
            sl_radio_state(r.radio, i, &low);
            assert_true(fabs(low.snr_db[SL_RADIO_UP] - (full.snr_db[SL_RADIO_UP] - 10)) < 1e-9);
            assert_true(low.snr_db[SL_RADIO_DOWN] == full.snr_db[SL_RADIO_DOWN]);
            assert_true(low.rate_bps[SL_RADIO_UP] < full.rate_bps[SL_RADIO_UP]);
            assert_true(low.rate_bps[SL_RADIO_DOWN] == full.rate_bps[SL_RADIO_DOWN]);
        }
        sl_radio_set_power(r.radio, i, 1);
        sl_radio_state(r.radio, i, &low);
        assert_true(fabs(low.snr_db[SL_RADIO_UP] - full.snr_db[SL_RADIO_UP]) < 1e-9);
    }
    take_down(&r);
}

/* And stays so while the phone walks about and looks again and again: a walk's every place costs the same 10
 * dB. */
static void power__is_kept_from_look_to_look(void **state)
{
    struct rig rigs[2] = {{.cfg = plain()}, {.cfg = plain()}};
    struct sl_radio_state s[2];
    double x_m = 0;

    (void)state;
    for (int k = 0; k < 2; k++) {
        rigs[k].cfg.mobility = (struct sl_mobility_config){.kind = SL_MOBILITY_WAYPOINT,
            .width_m = 1000,
            .height_m = 1000,
            .speed_min_mps = 10,
            .speed_max_mps = 10};
        build(&rigs[k], 1);
        sl_radio_state(rigs[k].radio, 0, &s[k]);
        x_m = s[k].x_m;
        if (k == 1)
            sl_radio_set_power(rigs[k].radio, 0, 0.1);
        saturate(&rigs[k], SL_RADIO_DOWN, 0, 2 * second);
        sl_radio_state(rigs[k].radio, 0, &s[k]);
        take_down(&rigs[k]);
    }
    assert_true(s[0].x_m != x_m && s[0].x_m == s[1].x_m);
    assert_true(fabs(s[1].snr_db[SL_RADIO_UP] - (s[0].snr_db[SL_RADIO_UP] - 10)) < 1e-9);
}

/* The loss of phone i's way to cell 0 by what it hears: budget__ has the rest of the sum. */
static double loss_of(const struct rig *r, uint32_t i, double *distance_m, struct sl_radio_state *s)
{
    sl_radio_state(r->radio, i, s);
    *distance_m = hypot(s->x_m - 500, s->y_m - 500);
    return 40 + 174 - 10 * log10(18e6) - 7 - s->snr_db[SL_RADIO_DOWN];
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* 4,000 cities with two phones each: what is left after the path loss is normal with 8 dB (Kolmogorov and
 * Smirnov's test at 99.9 %), and the product of two phones' has the mean 64 exp(-d / 50 m): the sum of
 * products less means is within 3.3 of its standard deviations, sqrt(1 + rho^2) each. Near pairs alone, lest
 * the test be about nothing. */
static void shadowing__is_normal_and_remembers_the_place(void **state)
{
    enum { CITIES = 4000 };
    static double x[CITIES];
    double worst = 0, excess = 0, variance = 0, expected = 0;

    (void)state;
    for (uint32_t k = 0; k < CITIES; k++) {
        struct rig r = {.cfg = plain(), .n = 2, .place = {{0, UINT32_MAX}, {0, UINT32_MAX}}};
        struct sl_radio_state s[2];
        double d, z[2];
        r.cfg.shadowing = true;
        r.cfg.mobility.width_m = r.cfg.mobility.height_m = 100;
        assert_int_equal(sl_radio_create(&r.cfg, 1, r.place, 2, 1000 + k, 0, NULL, NULL, &r.radio), 0);
        for (uint32_t i = 0; i < 2; i++) {
            double loss = loss_of(&r, i, &d, &s[i]);
            z[i] = (loss - 128.1 - 37.6 * log10(hypot(d, 23.5) / 1000)) / 8;
        }
        double rho = exp(-hypot(s[0].x_m - s[1].x_m, s[0].y_m - s[1].y_m) / 50);
        excess += z[0] * z[1] - rho;
        variance += 1 + rho * rho;
        expected += rho;
        x[k] = z[0];
        sl_radio_free(r.radio);
    }
    assert_true(expected / CITIES > 0.3); /* mean correlation of two places in a square of 100 m */
    assert_true(fabs(excess) < 3.3 * sqrt(variance));
    qsort(x, CITIES, sizeof *x, ascending);
    for (uint32_t k = 0; k < CITIES; k++) {
        double f = 0.5 * erfc(-x[k] * M_SQRT1_2);
        worst = fmax(worst, fmax(fabs(f - k / (double)CITIES), fabs(f - (k + 1) / (double)CITIES)));
    }
    assert_true(worst * sqrt(CITIES) < 1.95);
}

/* Without shadowing the loss is one of two: how many phones of 4,000 cities see their cell, against the sum
 * of the probabilities at their distances. */
static void line_of_sight__is_as_frequent_as_the_table_says(void **state)
{
    enum { CITIES = 4000 };
    static const enum sl_path_loss models[] = {SL_PATH_UMA, SL_PATH_UMI};

    (void)state;
    for (int m = 0; m < 2; m++) {
        double seen = 0, expected = 0, variance = 0, near = m ? 36 : 63;
        for (uint32_t k = 0; k < CITIES; k++) {
            struct rig r = {.cfg = plain(), .place = {{0, UINT32_MAX}}};
            struct sl_radio_state s;
            double d;
            r.cfg.path_loss = models[m];
            r.cfg.mobility.width_m = r.cfg.mobility.height_m = 550; /* the cell is near a corner */
            assert_int_equal(sl_radio_create(&r.cfg, 1, r.place, 1, k, 0, NULL, NULL, &r.radio), 0);
            double loss = loss_of(&r, 0, &d, &s);
            double p = d <= 18 ? 1 : 18 / d + exp(-d / near) * (1 - 18 / d);
            double los = sl_path_loss_db(models[m], &r.cfg.geometry, d, true),
                   not = sl_path_loss_db(models[m], &r.cfg.geometry, d, false);
            bool sight = fabs(loss - los) < 1e-3;
            assert_true(sight || fabs(loss - not ) < 1e-3);
            seen += sight;
            expected += p;
            variance += p * (1 - p);
            sl_radio_free(r.radio);
        }
        print_message("in sight: %.0f, by the table %.1f\n", seen, expected);
        assert_true(fabs(seen - expected) < 3.3 * sqrt(variance));
    }
}

/* ---- sharing ---- */

/* Without fading each has the same part of the time, however good its own signal. */
static void fair__without_fading_each_has_its_part_of_the_time(void **state)
{
    for (int scheduler = SL_SCHEDULE_PF; scheduler <= SL_SCHEDULE_RR; scheduler++) {
        struct rig r = {.cfg = plain()};
        struct sl_radio_state s;
        r.cfg.scheduler = (enum sl_radio_scheduler)scheduler;
        build(&r, 5);
        saturate(&r, SL_RADIO_DOWN, 0, 10 * second);
        uint64_t before[5];
        for (uint32_t i = 0; i < 5; i++)
            before[i] = served(&r, SL_RADIO_DOWN, i);
        saturate(&r, SL_RADIO_DOWN, 10 * second, 40 * second);
        double least = INFINITY, most = 0;
        for (uint32_t i = 0; i < 5; i++) {
            sl_radio_state(r.radio, i, &s);
            double rate = table_rate(&r.cfg, sl_cqi_efficiency(r.cfg.table, s.cqi[SL_RADIO_DOWN]));
            double got = (double)(served(&r, SL_RADIO_DOWN, i) - before[i]) * 8 / 30;
            assert_true(fabs(got / rate - 0.2) < 0.002);
            least = fmin(least, rate);
            most = fmax(most, rate);
        }
        assert_true(most > 1.2 * least); /* or nothing was shown */
        take_down(&r);
    }
    (void)state;
}

/* Phones of like signal g with Rayleigh fading: the highest of n CQIs is c or less with probability
 * (1 - exp(-t / g))^n, t the threshold of c + 1. Proportional fairness serves the best of n, each as often;
 * round robin the mean one. */
static double mean_of_best(const struct sl_radio_config *g, double snr, uint32_t n)
{
    double sum = 0, below = pow(1 - exp(-sl_cqi_threshold(g->table, 1) / snr), n);

    for (uint32_t c = 1; c <= SL_CQI_MAX; c++) {
        double up_to = c == SL_CQI_MAX ? 1 : pow(1 - exp(-sl_cqi_threshold(g->table, c + 1) / snr), n);
        sum += (up_to - below) * sl_cqi_efficiency(g->table, c);
        below = up_to;
    }
    return table_rate(g, sum);
}

/* Tolerance: a channel of 50 Hz has some 140 independent states a second (J0^2 falls to 0 at 0.38 / 50 s), so
 * 60 s of a rate that varies by 0.8 of its mean give it within 0.9 % (one standard error) in round robin;
 * 3.3 of them, in which also lies what the window of 2 s costs, and that 12 waves fade a little less. */
static void fair__fading_is_ridden_as_far_as_the_best_of_n_goes(void **state)
{
    enum { N = 6 };
    struct sl_radio_state s;

    (void)state;
    for (int scheduler = SL_SCHEDULE_PF; scheduler <= SL_SCHEDULE_RR; scheduler++) {
        struct rig r = {.cfg = plain()};
        double sum = 0, squares = 0, expected = 0;
        r.cfg.scheduler = (enum sl_radio_scheduler)scheduler;
        r.cfg.pf_window_s = 2;
        r.cfg.fading = (struct sl_fading){.branches = 1, .doppler_hz = 50};
        r.cfg.mobility.width_m = r.cfg.mobility.height_m = 2; /* all in one place, near enough */
        r.cfg.cell_m[0][0] = -700;
        build(&r, N);
        saturate(&r, SL_RADIO_DOWN, 0, 10 * second);
        uint64_t before[N];
        for (uint32_t i = 0; i < N; i++)
            before[i] = served(&r, SL_RADIO_DOWN, i);
        saturate(&r, SL_RADIO_DOWN, 10 * second, 70 * second);
        for (uint32_t i = 0; i < N; i++) {
            double got = (double)(served(&r, SL_RADIO_DOWN, i) - before[i]) * 8 / 60;
            sl_radio_state(r.radio, i, &s);
            double snr = pow(10, s.snr_db[SL_RADIO_DOWN] / 10);
            expected += mean_of_best(&r.cfg, snr, scheduler == SL_SCHEDULE_PF ? N : 1) / N;
            sum += got;
            squares += got * got;
        }
        print_message("%s: %.3f Mbit/s, closed form %.3f\n",
            sl_radio_scheduler_name((enum sl_radio_scheduler)scheduler), sum / 1e6, expected / 1e6);
        assert_true(fabs(sum / expected - 1) < 0.03);
        assert_true(sum * sum / (N * squares) > 0.995); /* Jain's index */
        take_down(&r);
    }
}

static void max_rate__serves_the_best_alone(void **state)
{
    struct rig r = {.cfg = plain()};
    struct sl_radio_state s;
    uint32_t best = 0, ties = 0;

    (void)state;
    r.cfg.scheduler = SL_SCHEDULE_MAX;
    build(&r, 5);
    double rate[5];
    for (uint32_t i = 0; i < 5; i++) {
        sl_radio_state(r.radio, i, &s);
        rate[i] = s.rate_bps[SL_RADIO_DOWN];
        if (rate[i] > rate[best])
            best = i;
    }
    for (uint32_t i = 0; i < 5; i++)
        ties += rate[i] == rate[best];
    saturate(&r, SL_RADIO_DOWN, 0, 5 * second);
    for (uint32_t i = 0; i < 5; i++)
        if (rate[i] < rate[best])
            assert_int_equal(served(&r, SL_RADIO_DOWN, i), 0);
    assert_true(ties < 5 && served(&r, SL_RADIO_DOWN, best) > 0);
    take_down(&r);
}

/* Others' phones on half of the time: one of ours shares with k of m with the binomial's probability, and has
 * sum over k of P(k) / (k + 1) = (1 - (1 - p)^(m + 1)) / ((m + 1) p) of the time. With p = 1/2, m = 3: 15/32.
 * A period of 0.2 s gives 3,000 independent states in 300 s, of deviation 0.28: 0.5 %; a standard error of
 * the share is 0.005, and 3.3 of them are the limit. */
static void background__takes_its_turns(void **state)
{
    struct rig r = {.cfg = plain()};
    struct sl_radio_state s;

    (void)state;
    r.cfg.background = 3;
    r.cfg.background_on_s = r.cfg.background_off_s = 0.1;
    build(&r, 1);
    saturate(&r, SL_RADIO_DOWN, 0, 300 * second);
    sl_radio_state(r.radio, 0, &s);
    double share = (double)served(&r, SL_RADIO_DOWN, 0) * 8 / 300 / s.rate_bps[SL_RADIO_DOWN];
    print_message("share %.4f, closed form %.4f\n", share, 15.0 / 32);
    assert_true(fabs(share - 15.0 / 32) < 0.0165);
    take_down(&r);
}

/* ---- when ---- */

/* Single packets at random times; returns their delays in ns. */
static void single_packets(struct rig *r, int w, uint32_t n, double *delay)
{
    uint64_t t = 0;
    struct sl_link_out out;

    for (uint32_t k = 0; k < n; k++) {
        t += 100 * MS + sl_rng_u64(99, k) % (50 * MS);
        while (sl_link_next(r->links[w], t, &out))
            fail();
        assert_int_equal(sl_links_offer(r->links[w], 0, k, 100, t), SL_LINK_TAKEN);
        while (!sl_link_next(r->links[w], sl_links_deadline(r->links[w]), &out))
            assert_true(sl_links_deadline(r->links[w]) != UINT64_MAX);
        assert_int_equal(out.handle, k);
        delay[k] = (double)(out.due_ns - t);
    }
}

/* The wait for the next occasion of a period is uniform; then come the grant, the slot's beginning and the
 * slot. Kolmogorov and Smirnov's test at 99.9 %. */
static void request__waits_uniformly_for_its_occasion(void **state)
{
    enum { N = 4000 };
    static double delay[N];
    struct rig r = {.cfg = plain()};
    double worst = 0;

    (void)state;
    r.cfg.sr_period_ns = 10 * MS;
    r.cfg.grant_ns = 4 * MS;
    build(&r, 1);
    single_packets(&r, SL_RADIO_UP, N, delay);
    qsort(delay, N, sizeof *delay, ascending);
    assert_true(delay[0] >= 5 * MS && delay[0] < 6.1 * MS); /* grant, up to a slot's beginning, slot */
    assert_true(delay[N - 1] - delay[0] <= 10 * MS);
    for (uint32_t k = 0; k < N; k++) {
        double u = (delay[k] - delay[0]) / (10.0 * MS);
        worst = fmax(worst, fmax(fabs(u - k / (double)N), fabs(u - (k + 1) / (double)N)));
    }
    assert_true(worst * sqrt(N) < 1.95);
    take_down(&r);
}

/* Downwards nothing is asked for: the next slot, and a retransmission with probability 0.1 each time. */
static void harq__a_tenth_comes_later(void **state)
{
    enum { N = 20000 };
    static double delay[N];
    struct rig r = {.cfg = plain()};
    double count[5] = {0};

    (void)state;
    r.cfg.bler = 0.1;
    r.cfg.harq_ns = 8 * MS;
    build(&r, 1);
    single_packets(&r, SL_RADIO_DOWN, N, delay);
    for (uint32_t k = 0; k < N; k++) {
        assert_true(delay[k] >= MS && delay[k] <= 34 * MS);
        int times = (int)((delay[k] - MS) / (8 * MS));
        double in_slot = delay[k] - MS - times * 8.0 * MS;
        assert_true(times <= 4 && in_slot >= 0 && in_slot < MS);
        count[times]++;
    }
    for (int k = 0; k < 3; k++) {
        double p = pow(0.1, k) * 0.9;
        assert_true(fabs(count[k] / N - p) < 3.3 * sqrt(p * (1 - p) / N));
    }
    take_down(&r);
}

/* ---- handover ---- */

/* From one cell to the other, a kilometre in 50 s. */
static const double road_t[] = {0, 50}, road_x[] = {0, 1000}, road_y[] = {0, 0};

static void on_the_road(struct rig *r)
{
    static struct sl_path road;

    road = (struct sl_path){(double *)road_t, (double *)road_x, (double *)road_y, 2};
    r->cfg.n_cells = 2;
    r->cfg.cell_m[0][0] = 0;
    r->cfg.cell_m[0][1] = 0;
    r->cfg.cell_m[1][0] = 1000;
    r->cfg.cell_m[1][1] = 0;
    r->cfg.mobility = (struct sl_mobility_config){
        .kind = SL_MOBILITY_PATH, .width_m = 1000, .height_m = 1000, .path = &road};
    r->cfg.time_to_trigger_ns = 160 * MS;
    r->cfg.interruption_ns = 60 * MS;
    r->cfg.new_address = true;
}

/* The neighbour is better by h dB where 37.6 log10(d1 / d2) = h; d by bisection of the road. */
static double crossing_s(double hysteresis_db)
{
    double lo = 500, hi = 1000;

    for (int k = 0; k < 60; k++) {
        double x = (lo + hi) / 2, own = hypot(x, 23.5), other = hypot(1000 - x, 23.5);
        if (37.6 * log10(own / other) > hysteresis_db)
            hi = x;
        else
            lo = x;
    }
    return lo / 20;
}

static void handover__at_the_hysteresis_and_the_time_to_trigger(void **state)
{
    static const double hysteresis[] = {0, 3, 6};

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct rig r = {.cfg = plain()};
        struct sl_radio_state s;
        struct sl_link_stats before, after;
        on_the_road(&r);
        r.cfg.hysteresis_db = hysteresis[k];
        build(&r, 1);
        uint64_t t = 0;
        for (; t < 50 * second && r.n_moved == 0; t += MS)
            saturate(&r, SL_RADIO_DOWN, t, t + MS);
        assert_int_equal(r.n_moved, 1);
        double late = (double)r.moved_ns[0] * 1e-9 - crossing_s(hysteresis[k]);
        assert_true(late >= 0.160 && late <= 0.160 + 0.081); /* two looks, 40 ms apart at most */
        sl_radio_state(r.radio, 0, &s);
        assert_int_equal(s.cell, 1);
        assert_int_equal(s.handovers, 1);
        /* The interruption: nothing is served in it, and something right after. */
        saturate(&r, SL_RADIO_DOWN, t, r.moved_ns[0] + MS);
        sl_links_stats(r.links[SL_RADIO_DOWN], 0, &before);
        saturate(&r, SL_RADIO_DOWN, r.moved_ns[0] + MS, r.moved_ns[0] + 59 * MS);
        sl_links_stats(r.links[SL_RADIO_DOWN], 0, &after);
        assert_int_equal(after.served_bytes, before.served_bytes);
        saturate(&r, SL_RADIO_DOWN, r.moved_ns[0] + 59 * MS, r.moved_ns[0] + 65 * MS);
        sl_links_stats(r.links[SL_RADIO_DOWN], 0, &after);
        assert_true(after.served_bytes > before.served_bytes);
        saturate(&r, SL_RADIO_DOWN, r.moved_ns[0] + 65 * MS, 50 * second);
        assert_int_equal(r.n_moved, 1); /* and never back */
        take_down(&r);
    }
}

/* Up and down past the middle by 30 m: 1.96 dB at most, which 3 dB of hysteresis do not notice. */
static void handover__not_within_the_hysteresis(void **state)
{
    static const double t[] = {0, 10}, x[] = {470, 530}, y[] = {0, 0};
    struct sl_path path = {(double *)t, (double *)x, (double *)y, 2};

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct rig r = {.cfg = plain()};
        on_the_road(&r);
        r.cfg.mobility.path = &path;
        r.cfg.hysteresis_db = k ? 1 : 3;
        build(&r, 1);
        saturate(&r, SL_RADIO_DOWN, 0, 35 * second);
        if (k)
            assert_true(r.n_moved >= 3); /* each time it comes by */
        else
            assert_int_equal(r.n_moved, 0);
        take_down(&r);
    }
}

/* One that was quiet takes the best cell when it has traffic again: no handover, no interruption. */
static void reselection__without_traffic(void **state)
{
    struct rig r = {.cfg = plain()};
    struct sl_radio_state s;

    (void)state;
    on_the_road(&r);
    build(&r, 1);
    saturate(&r, SL_RADIO_DOWN, 0, second);
    struct sl_link_out out;
    while (sl_link_next(r.links[SL_RADIO_DOWN], 45 * second, &out)) {
    }
    saturate(&r, SL_RADIO_DOWN, 45 * second, 46 * second);
    sl_radio_state(r.radio, 0, &s);
    assert_int_equal(s.cell, 1);
    assert_int_equal(s.handovers, 0);
    assert_int_equal(r.n_moved, 0);
    take_down(&r);
}

/* A host that is late asks one direction after the other: the second one's slots are then older than what the
 * first has seen. Neither is the phone quiet for that, nor has its neighbour been better for long. */
static void handover__once_though_directions_take_turns(void **state)
{
    struct rig r = {.cfg = plain()};

    (void)state;
    on_the_road(&r);
    build(&r, 1);
    for (uint64_t t = 0; t < 50 * second; t += 100 * MS)
        for (int w = 0; w < SL_RADIO_DIRECTIONS; w++)
            saturate(&r, w, t, t + 100 * MS);
    assert_int_equal(r.n_moved, 1);
    double late = (double)r.moved_ns[0] * 1e-9 - crossing_s(3);
    assert_true(late >= 0.160 && late <= 0.160 + 0.081 + 0.1);
    take_down(&r);
}

/* In a tunnel nothing is served; behind it, all is as before. */
static void zone__nothing_gets_through(void **state)
{
    struct rig r = {.cfg = plain()};

    (void)state;
    on_the_road(&r);
    r.cfg.n_zones = 1;
    r.cfg.zone[0].x0 = 100;
    r.cfg.zone[0].x1 = 300;
    r.cfg.zone[0].y0 = -10;
    r.cfg.zone[0].y1 = 10;
    r.cfg.zone[0].loss_db = 150;
    build(&r, 1);
    saturate(&r, SL_RADIO_DOWN, 0, 5100 * (uint64_t)MS);
    uint64_t before = served(&r, SL_RADIO_DOWN, 0);
    saturate(&r, SL_RADIO_DOWN, 5100 * (uint64_t)MS, 15 * second);
    assert_true(before > 0);
    assert_int_equal(served(&r, SL_RADIO_DOWN, 0), before);
    saturate(&r, SL_RADIO_DOWN, 15 * second, 16 * second);
    assert_true(served(&r, SL_RADIO_DOWN, 0) > before);
    take_down(&r);
}

/* ---- random numbers ---- */

/* A phone's place and signal are its own: others beside it change neither. */
static void draws__are_a_phones_own(void **state)
{
    struct rig few = {.cfg = plain()}, many = {.cfg = plain()};
    struct sl_radio_state a, b;

    (void)state;
    few.cfg.shadowing = many.cfg.shadowing = true;
    few.cfg.path_loss = many.cfg.path_loss = SL_PATH_UMA;
    build(&few, 2);
    build(&many, 16);
    for (uint32_t i = 0; i < 2; i++) {
        sl_radio_state(few.radio, i, &a);
        sl_radio_state(many.radio, i, &b);
        assert_true(a.x_m == b.x_m && a.y_m == b.y_m && a.snr_db[0] == b.snr_db[0]);
    }
    sl_radio_state(many.radio, 0, &a);
    sl_radio_state(many.radio, 1, &b);
    assert_true(a.x_m != b.x_m && a.snr_db[0] != b.snr_db[0]);
    take_down(&few);
    take_down(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power__is_kept_from_look_to_look),
        cmocka_unit_test(power__moves_the_uplink_alone),
        cmocka_unit_test(budget__is_power_less_loss_less_noise),
        cmocka_unit_test(shadowing__is_normal_and_remembers_the_place),
        cmocka_unit_test(line_of_sight__is_as_frequent_as_the_table_says),
        cmocka_unit_test(fair__without_fading_each_has_its_part_of_the_time),
        cmocka_unit_test(fair__fading_is_ridden_as_far_as_the_best_of_n_goes),
        cmocka_unit_test(max_rate__serves_the_best_alone),
        cmocka_unit_test(background__takes_its_turns),
        cmocka_unit_test(request__waits_uniformly_for_its_occasion),
        cmocka_unit_test(harq__a_tenth_comes_later),
        cmocka_unit_test(handover__at_the_hysteresis_and_the_time_to_trigger),
        cmocka_unit_test(handover__not_within_the_hysteresis),
        cmocka_unit_test(reselection__without_traffic),
        cmocka_unit_test(handover__once_though_directions_take_turns),
        cmocka_unit_test(zone__nothing_gets_through),
        cmocka_unit_test(draws__are_a_phones_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
