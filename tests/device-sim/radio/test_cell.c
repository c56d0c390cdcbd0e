/* Cells that serve links, in the links' own time: shares, delays and handovers against closed forms and by
 * hand. */
#include "device-sim/radio/radio.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ms = 1000000, s_ns = 1000000000;
enum { IP = SL_LINK_IP_UDP_BYTES, PHONES_MAX = 16 };

/* One cell of 10 MHz, everybody near it, nothing random. */
static struct sl_radio_config plain(void)
{
    return (struct sl_radio_config){.geometry = {2, 25, 1.5},
        .path_loss = SL_PATH_FREE,
        .bandwidth_hz = 10e6,
        .usable = 0.9,
        .share = {1, 1},
        .layers = {1, 1},
        .tx_dbm = {23, 43},
        .noise_figure_db = {5, 9},
        .n_cells = 1,
        .cell_m = {{500, 500}},
        .mobility = {.kind = SL_MOBILITY_STATIC, .width_m = 1000, .height_m = 1000},
        .scheduler = SL_SCHEDULE_PF,
        .pf_window_s = 0.1,
        .tti_ns = ms,
        .measure_ns = 100 * ms,
        .time_to_trigger_ns = 300 * ms,
        .interruption_ns = 50 * ms,
        .hysteresis_db = 3};
}

struct world {
    struct sl_radio_config cfg;
    struct sl_radio *radio;
    struct sl_links *links[SL_RADIO_DIRECTIONS];
    uint64_t now, moved;
    uint32_t n;
};

static void on_moved(void *app, uint32_t phone, uint64_t now_ns)
{
    ((struct world *)app)->moved++;
}

static void open_world(struct world *w, uint32_t n, uint64_t seed)
{
    struct sl_radio_place place[PHONES_MAX] = {{0}};
    struct sl_link_params p = {
        .service.kind = SL_SERVICE_GRANTED, .queue = {.kind = SL_DISCIPLINE_DROPTAIL, .bytes = 100000}};

    for (uint32_t i = 0; i < n; i++)
        place[i].cell = UINT32_MAX;
    w->n = n;
    for (int d = 0; d < SL_RADIO_DIRECTIONS; d++) {
        assert_int_equal(sl_links_create(n, 10000, &w->links[d]), 0);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(sl_links_set(w->links[d], i, &p, i), 0);
    }
    assert_int_equal(sl_radio_create(&w->cfg, 1, place, n, seed, 0, on_moved, w, &w->radio), 0);
    sl_radio_bind(w->radio, w->links[SL_RADIO_UP], w->links[SL_RADIO_DOWN]);
}

static void close_world(struct world *w)
{
    sl_radio_free(w->radio);
    for (int d = 0; d < SL_RADIO_DIRECTIONS; d++)
        sl_links_free(w->links[d]);
}

/* Keeps the first n phones' queues full until then. */
static void saturate(struct world *w, int d, uint32_t n, uint64_t until)
{
    struct sl_link_out out;

    while (w->now < until) {
        for (uint32_t i = 0; i < n; i++)
            while (sl_links_offer(w->links[d], i, 0, 1400 - IP, w->now) == SL_LINK_TAKEN)
                ;
        uint64_t next = sl_links_deadline(w->links[d]);
        w->now = next > w->now + ms ? next : w->now + ms;
        while (sl_link_next(w->links[d], w->now, &out))
            ;
    }
}

static double delivered(struct world *w, int d, uint32_t i)
{
    struct sl_link_stats st;

    sl_links_stats(w->links[d], i, &st);
    return (double)st.delivered_bytes;
}

/* Alone in a cell a phone gets what its CQI says: 5.5547 bit/s/Hz of 9 MHz, a packet less. */
static void cell__serves_at_the_rate_of_the_cqi(void **state)
{
    struct world w = {.cfg = plain()};
    struct sl_radio_state st;

    open_world(&w, 1, 1);
    sl_radio_state(w.radio, 0, &st);
    assert_int_equal(st.cqi[SL_RADIO_DOWN], 15);
    assert_true(fabs(st.rate_bps[SL_RADIO_DOWN] - 5.5547 * 9e6) < 1);
    saturate(&w, SL_RADIO_DOWN, 1, 10 * s_ns);
    double expected = 5.5547 * 9e6 / 8 * 10;
    assert_true(fabs(delivered(&w, SL_RADIO_DOWN, 0) - expected) < 0.002 * expected);
    close_world(&w);
}

/* n phones with independent Rayleigh fading of equal strength: proportional fairness gives each an n-th of
 * the slots, and with rates in proportion to the power multi-user diversity gains H_n = 1 + 1/2 + ... + 1/n;
 * steps of the CQI table and its end make it less, but never less than none. */
static void pf__equal_phones_get_equal_parts_and_gain_by_fading(void **state)
{
    struct world w = {.cfg = plain()};
    double sum = 0, alone;

    w.cfg.tx_dbm[SL_RADIO_DOWN] = -4; /* some 12 dB: in the middle of the table */
    w.cfg.mobility.width_m = w.cfg.mobility.height_m = 0;
    w.cfg.cell_m[0][0] = w.cfg.cell_m[0][1] = 300;
    w.cfg.fading = (struct sl_fading){.branches = 1, .doppler_hz = 50};
    open_world(&w, 8, 3);
    saturate(&w, SL_RADIO_DOWN, 1, 20 * s_ns);
    alone = delivered(&w, SL_RADIO_DOWN, 0);
    close_world(&w);
    w.now = 0;
    open_world(&w, 8, 3);
    saturate(&w, SL_RADIO_DOWN, 8, 20 * s_ns);
    for (uint32_t i = 0; i < 8; i++)
        sum += delivered(&w, SL_RADIO_DOWN, i);
    for (uint32_t i = 0; i < 8; i++)
        assert_true(fabs(delivered(&w, SL_RADIO_DOWN, i) - sum / 8) < 0.06 * sum / 8);
    assert_true(sum > 1.2 * alone && sum < 2.718 * alone); /* H_8 */
    close_world(&w);
}

/* One phone near, one far: fair in time, so each gets half of what it would get alone; the greatest rate
 * starves one. */
static void scheduler__pf_shares_time_and_max_starves(void **state)
{
    for (int k = 0; k < 3; k++) {
        static const enum sl_radio_scheduler kinds[] = {SL_SCHEDULE_PF, SL_SCHEDULE_RR, SL_SCHEDULE_MAX};
        struct world w = {.cfg = plain()};
        struct sl_radio_state a, b;
        w.cfg.scheduler = kinds[k];
        w.cfg.tx_dbm[SL_RADIO_DOWN] = 0;
        w.cfg.path_loss = SL_PATH_MACRO;
        w.cfg.mobility.width_m = w.cfg.mobility.height_m = 120;
        w.cfg.cell_m[0][0] = w.cfg.cell_m[0][1] = 0;
        open_world(&w, 2, 4);
        sl_radio_state(w.radio, 0, &a);
        sl_radio_state(w.radio, 1, &b);
        assert_true(fabs(a.rate_bps[1] / b.rate_bps[1] - 1) > 0.2);
        saturate(&w, SL_RADIO_DOWN, 2, 5 * s_ns);
        double pa = delivered(&w, SL_RADIO_DOWN, 0) * 8 / 5 / a.rate_bps[1],
               pb = delivered(&w, SL_RADIO_DOWN, 1) * 8 / 5 / b.rate_bps[1];
        if (kinds[k] == SL_SCHEDULE_MAX)
            assert_true((a.rate_bps[1] > b.rate_bps[1] ? pb : pa) < 0.01);
        else
            assert_true(fabs(pa - 0.5) < 0.02 && fabs(pb - 0.5) < 0.02);
        close_world(&w);
    }
}

/* A first packet waits for the phone's next occasion (uniform in the period), for the grant, and for its
 * slot's end. */
static void uplink__waits_for_request_and_grant(void **state)
{
    enum { N = 2000 };
    struct world w = {.cfg = plain()};
    double sum = 0, least = 1e9, most = 0;
    struct sl_link_out out;

    w.cfg.sr_period_ns = 10 * ms;
    w.cfg.grant_ns = 4 * ms;
    open_world(&w, 1, 7);
    for (uint32_t i = 0; i < N; i++) {
        w.now += 100 * ms + sl_rng_u64(8, i) % (10 * ms);
        uint64_t sent = w.now;
        sl_links_offer(w.links[SL_RADIO_UP], 0, i, 100 - IP, sent);
        while (!sl_link_next(w.links[SL_RADIO_UP], w.now = sl_links_deadline(w.links[SL_RADIO_UP]), &out))
            ;
        double wait = (double)(out.due_ns - sent) * 1e-6;
        sum += wait;
        least = fmin(least, wait);
        most = fmax(most, wait);
    }
    /* Uniform in [0, 10) ms, 4 ms, rounded up to a slot, and a slot: 4 to 16 ms, on average some 10.5. */
    assert_true(least >= 5 && most <= 16);
    assert_true(fabs(sum / N - 10.5) < 0.5 + 3.3 * 2.9 / sqrt(N));
    close_world(&w);
}

/* A tenth of the blocks comes 8 ms later, a hundredth 16 ms: in order. */
static void harq__delays_a_tenth(void **state)
{
    enum { N = 5000 };
    struct world w = {.cfg = plain()};
    unsigned late[3] = {0};
    struct sl_link_out out;

    w.cfg.bler = 0.1;
    w.cfg.harq_ns = 8 * ms;
    open_world(&w, 1, 7);
    for (uint32_t i = 0; i < N; i++) {
        w.now = (w.now / (100 * ms) + 1) * 100 * ms;
        sl_links_offer(w.links[SL_RADIO_DOWN], 0, i, 100 - IP, w.now);
        uint64_t sent = w.now;
        while (!sl_link_next(w.links[SL_RADIO_DOWN], w.now = sl_links_deadline(w.links[SL_RADIO_DOWN]), &out))
            ;
        uint64_t extra = (out.due_ns - sent) / (8 * ms);
        late[extra < 2 ? extra : 2]++;
    }
    assert_true(fabs((double)late[1] / N - 0.09) < 3.3 * sqrt(0.09 * 0.91 / N));
    assert_true(fabs((double)late[2] / N - 0.01) < 3.3 * sqrt(0.01 * 0.99 / N));
    close_world(&w);
}

/* Others' phones: with k of them on at a time a phone gets 1 / (k + 1); 4 phones, half of the time on each.
 */
static void background__takes_its_part(void **state)
{
    struct world w = {.cfg = plain()};
    double alone = 5.5547 * 9e6 / 8, expected = 0;

    w.cfg.background = 4;
    w.cfg.background_on_s = w.cfg.background_off_s = 1;
    open_world(&w, 1, 5);
    saturate(&w, SL_RADIO_DOWN, 1, 400 * s_ns);
    /* Binomial(4, 1/2): the mean of 1 / (k + 1) = (1 - 2^-5) / (5 / 2). */
    expected = (1 - 1.0 / 32) / 2.5;
    assert_true(fabs(delivered(&w, SL_RADIO_DOWN, 0) / 400 / alone - expected) < 0.04);
    close_world(&w);
}

/* Along a line between two cells, there and back: one handover each time, after the middle by the hysteresis'
 * way and the time to trigger, with a gap of the interruption and a new address. */
static void handover__once_per_crossing(void **state)
{
    double t_s[] = {0, 100}, x_m[] = {0, 1000}, y_m[] = {10, 10};
    struct sl_path path = {t_s, x_m, y_m, 2};
    struct world w = {.cfg = plain()};
    struct sl_radio_state st;

    w.cfg.path_loss = SL_PATH_MACRO;
    w.cfg.n_cells = 2;
    w.cfg.cell_m[0][0] = 0;
    w.cfg.cell_m[0][1] = 0;
    w.cfg.cell_m[1][0] = 1000;
    w.cfg.cell_m[1][1] = 0;
    w.cfg.mobility =
        (struct sl_mobility_config){.kind = SL_MOBILITY_PATH, .width_m = 1000, .height_m = 20, .path = &path};
    w.cfg.new_address = true;
    open_world(&w, 1, 1);
    sl_radio_state(w.radio, 0, &st);
    assert_int_equal(st.cell, 0);
    /* 37.6 log10(x / (1000 - x)) = 3 dB at x = 546 m, 54.6 s; and then 0.3 s, seen each 0.1 s. */
    saturate(&w, SL_RADIO_DOWN, 1, 54 * s_ns + 600 * ms);
    sl_radio_state(w.radio, 0, &st);
    assert_int_equal(st.handovers, 0);
    saturate(&w, SL_RADIO_DOWN, 1, 55 * s_ns + 300 * ms);
    sl_radio_state(w.radio, 0, &st);
    assert_int_equal(st.handovers, 1);
    assert_int_equal(st.cell, 1);
    assert_int_equal(w.moved, 1);
    saturate(&w, SL_RADIO_DOWN, 1, 400 * s_ns);
    sl_radio_state(w.radio, 0, &st);
    assert_int_equal(st.handovers, 4);
    close_world(&w);
}

/* A tunnel of 100 dB: nothing comes through, and what waits comes after it. */
static void zone__is_without_service(void **state)
{
    double t_s[] = {0, 100}, x_m[] = {0, 1000}, y_m[] = {10, 10};
    struct sl_path path = {t_s, x_m, y_m, 2};
    struct world w = {.cfg = plain()};

    w.cfg.mobility =
        (struct sl_mobility_config){.kind = SL_MOBILITY_PATH, .width_m = 1000, .height_m = 20, .path = &path};
    w.cfg.n_zones = 1;
    w.cfg.zone[0].x0 = 200;
    w.cfg.zone[0].x1 = 300;
    w.cfg.zone[0].y1 = 20;
    w.cfg.zone[0].loss_db = 100;
    open_world(&w, 1, 1);
    saturate(&w, SL_RADIO_DOWN, 1, 21 * s_ns);
    double before = delivered(&w, SL_RADIO_DOWN, 0);
    saturate(&w, SL_RADIO_DOWN, 1, 29 * s_ns);
    assert_true(delivered(&w, SL_RADIO_DOWN, 0) == before);
    saturate(&w, SL_RADIO_DOWN, 1, 31 * s_ns);
    assert_true(delivered(&w, SL_RADIO_DOWN, 0) > before);
    close_world(&w);
}

/* A far phone's power is too little for the whole band: it fills a part, and gets more by it. */
static void uplink__narrows_where_power_is_short(void **state)
{
    struct world w = {.cfg = plain()};
    struct sl_radio_state st;

    w.cfg.path_loss = SL_PATH_MACRO;
    w.cfg.mobility.width_m = w.cfg.mobility.height_m = 0;
    w.cfg.cell_m[0][0] = 2000;
    w.cfg.cell_m[0][1] = 0;
    open_world(&w, 1, 1);
    sl_radio_state(w.radio, 0, &st);
    assert_int_equal(st.cqi[SL_RADIO_UP], 0); /* over the whole band */
    assert_true(st.rate_bps[SL_RADIO_UP] > 1e4 && st.covered);
    saturate(&w, SL_RADIO_UP, 1, 5 * s_ns);
    assert_true(fabs(delivered(&w, SL_RADIO_UP, 0) * 8 / 5 / st.rate_bps[SL_RADIO_UP] - 1) < 0.05);
    close_world(&w);
}

static void same_seed__same_deliveries(void **state)
{
    double got[2][4];

    for (int run = 0; run < 2; run++) {
        struct world w = {.cfg = plain()};
        w.cfg.path_loss = SL_PATH_UMI;
        w.cfg.shadowing = true;
        w.cfg.fading = (struct sl_fading){.branches = 2, .doppler_hz = 5};
        w.cfg.bler = 0.1;
        w.cfg.harq_ns = 4 * ms;
        w.cfg.mobility = (struct sl_mobility_config){.kind = SL_MOBILITY_WAYPOINT,
            .width_m = 800,
            .height_m = 800,
            .speed_min_mps = 1,
            .speed_max_mps = 15};
        w.cfg.background = 3;
        w.cfg.background_on_s = w.cfg.background_off_s = 2;
        open_world(&w, 4, 77);
        saturate(&w, SL_RADIO_UP, 4, 20 * s_ns);
        for (uint32_t i = 0; i < 4; i++)
            got[run][i] = delivered(&w, SL_RADIO_UP, i);
        close_world(&w);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    assert_true(got[0][0] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cell__serves_at_the_rate_of_the_cqi),
        cmocka_unit_test(pf__equal_phones_get_equal_parts_and_gain_by_fading),
        cmocka_unit_test(scheduler__pf_shares_time_and_max_starves),
        cmocka_unit_test(uplink__waits_for_request_and_grant),
        cmocka_unit_test(harq__delays_a_tenth),
        cmocka_unit_test(background__takes_its_part),
        cmocka_unit_test(handover__once_per_crossing),
        cmocka_unit_test(zone__is_without_service),
        cmocka_unit_test(uplink__narrows_where_power_is_short),
        cmocka_unit_test(same_seed__same_deliveries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
