/* The transport behind the simulator's link emulator, in virtual time: recovery through bursty loss,
 * reordering, jitter and queue disciplines; and what a fixed window does to a queue, against closed forms. */
#include "tests/transport/model.h"

#include <math.h>

enum {
    N_MESSAGES = 8,
    UNITS = 2048,
    ROOM = 8192,
    IP_BYTES = 48 + MODEL_UNITS * SL_UNIT_BYTES + SL_LINK_IP_UDP_BYTES, /* of a full DATA packet */
    PACKETS = N_MESSAGES * UNITS / MODEL_UNITS,
};
static const double rate_bps = 4e6;
static const uint64_t delay_ns = 20 * MS;

static double service_ms(void)
{
    return IP_BYTES * 8e3 / rate_bps;
}

static struct sl_link_params link(enum sl_discipline_kind kind, uint64_t queue_bytes)
{
    return (struct sl_link_params){.service = {.kind = SL_SERVICE_RATE, .rate_bps = rate_bps},
        .queue = {.kind = kind, .bytes = queue_bytes},
        .delay_ns = delay_ns};
}

static struct sl_link_params wide(void)
{
    struct sl_link_params p = link(SL_DISCIPLINE_NONE, 0);
    p.service.rate_bps = 1e9;
    return p;
}

static bool all_up(struct rig *r)
{
    for (unsigned i = 0; i < r->device_model.n_out; i++)
        if (r->device_model.out[i].done[SL_DONE_ACKED] == 0)
            return false;
    return true;
}

/* Sends N_MESSAGES up, all offered at once, and checks that each arrives once and byte-exact. Returns
 * seconds. */
static double transfer(struct rig *r)
{
    uint64_t began = r->now_ns;
    for (unsigned i = 1; i <= N_MESSAGES; i++) {
        model_expect(&r->edge_model, 1, i, UNITS);
        model_offer(&r->device_model, 1, i, UNITS, i);
        assert_int_equal(sl_endpoint_send(r->device, 1, i, UNITS, r->now_ns), 0);
    }
    if (!rig_run(r, r->now_ns + 600000 * MS, all_up))
        fail_msg("not finished after ten minutes");
    for (unsigned i = 0; i < N_MESSAGES; i++) {
        const struct model_message *to = &r->edge_model.in[i], *from = &r->device_model.out[i];
        assert_int_equal(to->completed, 1);
        assert_memory_equal(to->bytes, from->bytes, (size_t)UNITS * SL_UNIT_BYTES);
    }
    assert_accounts(r->edge);
    assert_accounts(r->device);
    return 1e-9 * (double)(r->now_ns - began);
}

static double sojourn_ms(const struct rig *r, double q)
{
    return 1e-6 * (double)(sl_histogram_quantile(&r->up.sojourn, q) - delay_ns);
}

static struct sl_link_stats stats(const struct rig *r)
{
    struct sl_link_stats s;
    sl_links_stats(r->up.links, 0, &s);
    return s;
}

static uint64_t sent_again(const struct rig *r)
{
    struct sl_endpoint_stats s;
    sl_endpoint_stats(r->device, &s);
    return s.retransmits;
}

/* A queue with room for the whole window holds what is not on the way: W packets less those that the round
 * trip takes. That is bufferbloat: at 512 packets 300 ms, at 32 none. */
static void deep_droptail__holds_the_window_less_the_path(void **state)
{
    static const uint32_t windows[] = {32, 128, 512};
    double path = 1e-6 * 2 * (double)delay_ns / service_ms(); /* packets */
    for (unsigned i = 0; i < 3; i++) {
        struct rig r;
        struct sl_link_params up = link(SL_DISCIPLINE_DROPTAIL, 1 << 20), down = wide();
        rig_init_links(&r, windows[i], &up, &down, ROOM, 1);
        double took = transfer(&r), expected = fmax(1, windows[i] - path) * service_ms();
        print_message("window %u: sojourn p50 %.1f ms, expected %.1f; %.2f s\n", windows[i],
            sojourn_ms(&r, 0.5), expected, took);
        assert_int_equal(sent_again(&r), 0);
        if (windows[i] > path) {
            assert_true(fabs(sojourn_ms(&r, 0.5) / expected - 1) < 0.05);
            /* the link never rests */
            assert_true(fabs(took / (1e-3 * PACKETS * service_ms() + 2e-9 * (double)delay_ns) - 1) < 0.02);
        } else {
            assert_true(sojourn_ms(&r, 0.5) < windows[i] * service_ms());
        }
        rig_free(&r);
    }
}

/* A shallow one drops what does not fit; every loss is repaired, and the queue is never longer than its
 * limit. */
static void shallow_droptail__drops_and_recovers(void **state)
{
    struct rig r;
    struct sl_link_params up = link(SL_DISCIPLINE_DROPTAIL, 20 * IP_BYTES), down = wide();
    rig_init_links(&r, 128, &up, &down, ROOM, 2);
    transfer(&r);
    struct sl_link_stats s = stats(&r);
    assert_true(s.drops[SL_LINK_QUEUE_FULL] > 100);
    assert_true(sent_again(&r) >= s.drops[SL_LINK_QUEUE_FULL] / 2);
    assert_true(sojourn_ms(&r, 1) < 20.2 * service_ms());
    rig_free(&r);
}

/* CoDel and PIE drop although there is room. A fixed window does not yield to that; what it sends again takes
 * its place in the queue, so the queue falls only by what is lost and not yet noticed. */
static void codel_and_pie__drop_and_every_message_arrives(void **state)
{
    struct rig r;
    struct sl_link_params down = wide(), droptail = link(SL_DISCIPLINE_DROPTAIL, 1 << 20);
    rig_init_links(&r, 256, &droptail, &down, ROOM, 3);
    transfer(&r);
    double standing = sojourn_ms(&r, 0.5);
    rig_free(&r);
    static const enum sl_discipline_kind kinds[] = {SL_DISCIPLINE_CODEL, SL_DISCIPLINE_PIE};
    static const enum sl_link_verdict names[] = {SL_LINK_QUEUE_DELAY, SL_LINK_QUEUE_EARLY};
    for (unsigned i = 0; i < 2; i++) {
        struct sl_link_params up = link(kinds[i], 1 << 20);
        rig_init_links(&r, 256, &up, &down, ROOM, 3);
        transfer(&r);
        struct sl_link_stats s = stats(&r);
        print_message("%s: %llu dropped, %llu sent again, sojourn p50 %.1f ms of %.1f\n",
            sl_discipline_name(kinds[i]), (unsigned long long)s.drops[names[i]],
            (unsigned long long)sent_again(&r), sojourn_ms(&r, 0.5), standing);
        assert_true(s.drops[names[i]] > 20);
        assert_int_equal(s.drops[SL_LINK_QUEUE_FULL], 0);
        assert_true(sojourn_ms(&r, 0.5) < standing);
        rig_free(&r);
    }
}

/* A trace with holes, bursts of loss in both directions, jitter and reordering. */
static void everything_at_once__every_message_arrives(void **state)
{
    uint32_t at_ms[400];
    for (uint32_t i = 0; i < 400; i++)
        at_ms[i] = i / 4 + (i > 150 ? 300 : 0); /* 1500 bytes four times a ms, and a hole of 300 ms */
    const struct sl_trace trace = {at_ms, 400};
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct rig r;
        struct sl_link_params up = link(SL_DISCIPLINE_CODEL, 1 << 18), down = wide();
        up.service =
            (struct sl_service_params){.kind = SL_SERVICE_TRACE, .trace = &trace, .phase_ns = seed * 37 * MS};
        up.impairment.loss = (struct sl_loss_params){.bad = 0.7, .good_to_bad = 0.01, .bad_to_good = 0.2};
        up.impairment.jitter =
            (struct sl_jitter_params){.mean_ns = 2 * MS, .reorder = 0.03, .reorder_by_ns = 8 * MS};
        down.impairment = up.impairment;
        rig_init_links(&r, 128, &up, &down, ROOM, seed);
        transfer(&r);
        assert_true(stats(&r).drops[SL_LINK_LOST] > 20 && r.up.reordered > 20 && sent_again(&r) > 20);
        rig_free(&r);
    }
}

/* Reordering by less than the time threshold of RFC 9002 6.1.2 (an eighth of the round trip) and fewer than
 * three packets causes nothing to be sent again; by more it does, and the duplicates are recognised. */
static void reordering__within_the_thresholds_costs_nothing(void **state)
{
    for (unsigned far = 0; far < 2; far++) {
        struct rig r;
        struct sl_link_params up = link(SL_DISCIPLINE_DROPTAIL, 1 << 20), down = wide();
        up.impairment.jitter =
            (struct sl_jitter_params){.reorder = 0.02, .reorder_by_ns = (far ? 15 : 1) * MS};
        rig_init_links(&r, 32, &up, &down, ROOM, 5);
        transfer(&r);
        assert_true(r.up.reordered > 20);
        assert_true(far ? sent_again(&r) > 20 : sent_again(&r) == 0);
        rig_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deep_droptail__holds_the_window_less_the_path),
        cmocka_unit_test(shallow_droptail__drops_and_recovers),
        cmocka_unit_test(codel_and_pie__drop_and_every_message_arrives),
        cmocka_unit_test(everything_at_once__every_message_arrives),
        cmocka_unit_test(reordering__within_the_thresholds_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
