/* A session's pace, in virtual time over wide links: bytes over time are the pace, and never a burst beyond
 * what it says; a session without one does not notice. */
#include "tests/transport/model.h"

#include <math.h>

enum {
    UNITS = 4096,
    IP_BYTES = 48 + MODEL_UNITS * SL_UNIT_BYTES + SL_LINK_IP_UDP_BYTES, /* of a full DATA packet */
    PACKETS = UNITS / MODEL_UNITS,
};
static const uint64_t catch_up_ns = 2 * MS, tick_ns = 65536;

static void open_rig(struct rig *r, double loss)
{
    struct sl_link_params p = {.service = {.kind = SL_SERVICE_RATE, .rate_bps = 1e9},
        .queue = {.kind = SL_DISCIPLINE_NONE},
        .impairment = {.loss = {.good = loss}},
        .delay_ns = 5 * MS};
    rig_init_links(r, 128, &p, &p, 8192, 3);
}

static void offer(struct rig *r, uint32_t grant)
{
    model_expect(&r->edge_model, 1, grant, UNITS);
    model_offer(&r->device_model, 1, grant, UNITS, grant);
    assert_int_equal(sl_endpoint_send(r->device, 1, grant, UNITS, r->now_ns), 0);
}

static uint64_t offered(const struct rig *r)
{
    struct sl_link_stats s;
    sl_links_stats(r->up.links, 0, &s);
    return s.offered_bytes;
}

static bool all_up(struct rig *r)
{
    for (unsigned i = 0; i < r->device_model.n_out; i++)
        if (r->device_model.out[i].done[SL_DONE_ACKED] == 0)
            return false;
    return true;
}

static bool never(struct rig *r)
{
    return false;
}

/* Seconds that one message takes. */
static double transfer(struct rig *r, uint32_t grant)
{
    uint64_t began = r->now_ns;
    offer(r, grant);
    if (!rig_run(r, r->now_ns + 600000 * MS, all_up))
        fail_msg("not finished after ten minutes");
    return 1e-9 * (double)(r->now_ns - began);
}

static void pace__bytes_over_time_are_the_pace(void **state)
{
    static const double paces[] = {3e5, 1e6, 5e6, 2e7};
    for (unsigned i = 0; i < sizeof paces / sizeof *paces; i++) {
        struct rig r;
        open_rig(&r, 0);
        sl_endpoint_set_pace(r.device, 1, paces[i]);
        double wants = (double)PACKETS * IP_BYTES * 8 / paces[i], took = transfer(&r, 1) - 0.010;
        if (fabs(took / wants - 1) >
            0.01 + 0.003 / wants) /* what it catches up with at first, and ACKs' delay */
            fail_msg("%g bit/s: %g s instead of %g", paces[i], took, wants);
        rig_free(&r);
    }
}

/* In any stretch of 5 ms: what the pace lets through, what it may catch up with, and a packet. */
static void pace__no_burst_beyond_the_quantum(void **state)
{
    const double pace = 8e6;
    const uint64_t stretch = 5 * MS;
    struct rig r;
    open_rig(&r, 0);
    sl_endpoint_set_pace(r.device, 1, pace);
    for (uint32_t grant = 1; grant <= 3; grant++) {
        rig_run(&r, r.now_ns + 300 * MS, never); /* idle: nothing is saved up */
        offer(&r, grant);
        double most = pace / 8e9 * (double)(stretch + catch_up_ns + tick_ns) + 2 * IP_BYTES;
        while (!all_up(&r)) {
            uint64_t before = offered(&r);
            rig_run(&r, r.now_ns + stretch, never);
            if ((double)(offered(&r) - before) > most)
                fail_msg("%llu bytes in 5 ms", (unsigned long long)(offered(&r) - before));
        }
    }
    rig_free(&r);
}

/* Lost fragments are sent again at the pace, too, and all arrive. */
static void pace__holds_through_loss(void **state)
{
    struct rig r;
    struct sl_link_stats s;
    open_rig(&r, 0.05);
    sl_endpoint_set_pace(r.device, 1, 4e6);
    double took = transfer(&r, 1);
    sl_links_stats(r.up.links, 0, &s);
    double wants = (double)s.offered_bytes * 8 / 4e6;
    assert_true(took > 0.97 * wants && took < 1.15 * wants);
    assert_int_equal(r.edge_model.in[0].completed, 1);
    rig_free(&r);
}

static void pace__of_zero_is_none_and_can_be_taken_back(void **state)
{
    struct rig r;
    open_rig(&r, 0);
    double free_s = transfer(&r, 1);
    sl_endpoint_set_pace(r.device, 1, 1000); /* 2,656 ms a packet */
    offer(&r, 2);
    rig_run(&r, r.now_ns + 3000 * MS, never);
    assert_false(all_up(&r));
    uint64_t began = r.now_ns;
    sl_endpoint_set_pace(r.device, 1, 0);
    assert_true(rig_run(&r, r.now_ns + 1000 * MS, all_up));
    assert_true(1e-9 * (double)(r.now_ns - began) < 2 * free_s + 0.2);
    rig_free(&r);
}

/* Frames do not wait for the DATA before them. */
static bool frame_came(struct rig *r)
{
    return r->edge_model.frames[SL_FRAME_REQUEST][1] != 0;
}

static void pace__frames_do_not_wait(void **state)
{
    struct rig r;
    open_rig(&r, 0);
    sl_endpoint_set_pace(r.device, 1, 1000);
    offer(&r, 1);
    rig_run(&r, r.now_ns + 10 * MS, never);
    struct sl_frame f = {
        .type = SL_FRAME_REQUEST, .request = {.kind = SL_REQUEST_TRAIN, .step = 1, .n_seqs = 1, .len = {8}}};
    assert_int_equal(sl_endpoint_frame(r.device, 1, &f, r.now_ns), 0);
    assert_true(rig_run(&r, r.now_ns + 20 * MS, frame_came));
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace__bytes_over_time_are_the_pace),
        cmocka_unit_test(pace__no_burst_beyond_the_quantum),
        cmocka_unit_test(pace__holds_through_loss),
        cmocka_unit_test(pace__of_zero_is_none_and_can_be_taken_back),
        cmocka_unit_test(pace__frames_do_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
