/* Traffic for other systems: whom it may reach and how much, when the edge answers, and that every packet is
 * accounted for. */
#include "device-sim/sink/bounds.h"
#include "device-sim/sink/flows.h"
#include "device-sim/sink/timers.h"
#include "trainer/tensor/rng.h"

#include "dataplane/io/lcore/address.h"
#include "tests/wire/test.h"

#include <stdlib.h>

static const uint64_t ms = 1000000;

/* ---- bounds ---- */

static void reach__private_and_documentation_ranges_are_near(void **state)
{
    static const struct {
        const char *text;
        enum sl_sink_reach reach;
    } cases[] = {{"10.1.2.3:1", SL_SINK_NEAR}, {"172.15.255.255:1", SL_SINK_FAR},
        {"172.16.0.1:1", SL_SINK_NEAR}, {"172.31.255.255:1", SL_SINK_NEAR}, {"172.32.0.0:1", SL_SINK_FAR},
        {"192.168.9.9:1", SL_SINK_NEAR}, {"192.169.0.1:1", SL_SINK_FAR}, {"127.9.9.9:1", SL_SINK_NEAR},
        {"169.254.1.1:1", SL_SINK_NEAR}, {"192.0.2.9:1", SL_SINK_NEAR}, {"198.51.100.1:1", SL_SINK_NEAR},
        {"203.0.113.1:1", SL_SINK_NEAR}, {"198.19.255.1:1", SL_SINK_NEAR}, {"198.20.0.1:1", SL_SINK_FAR},
        {"100.64.0.1:1", SL_SINK_FAR}, {"8.8.8.8:1", SL_SINK_FAR}, {"224.0.0.1:1", SL_SINK_NEVER},
        {"239.1.1.1:1", SL_SINK_NEVER}, {"255.255.255.255:1", SL_SINK_NEVER}, {"0.0.0.1:1", SL_SINK_NEVER},
        {"[::1]:1", SL_SINK_NEAR}, {"[fe80::1]:1", SL_SINK_NEAR}, {"[fd00::1]:1", SL_SINK_NEAR},
        {"[2001:db8::1]:1", SL_SINK_NEAR}, {"[2001:db9::1]:1", SL_SINK_FAR}, {"[2a00::1]:1", SL_SINK_FAR},
        {"[ff02::1]:1", SL_SINK_NEVER}};
    struct sl_addr a;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(sl_addr_parse(cases[i].text, &a), 0);
        if (sl_sink_reach(&a) != cases[i].reach)
            fail_msg("%s: %d", cases[i].text, (int)sl_sink_reach(&a));
    }
}

static void limit__lets_through_the_rate_and_one_bucket(void **state)
{
    struct sl_sink_limit l;
    uint64_t bytes = 0;

    sl_sink_limit_init(&l, 8, 0); /* 1 byte a microsecond */
    for (uint64_t t = 0; t < 2000 * ms; t += ms / 10)
        bytes += sl_sink_limit_take(&l, 1000, t) ? 1000 : 0;
    /* 50 ms are 50,000 bytes, and two seconds 2,000,000; one packet may not have fitted */
    assert_in_range(bytes, 2047000, 2050000);
}

/* ---- timers ---- */

static void timers__come_in_order_of_time_and_number(void **state)
{
    enum { N = 200 };
    uint64_t at[N], last = 0;
    int64_t i, before = -1;
    struct sl_timers *t;

    assert_int_equal(sl_timers_create(N, &t), 0);
    assert_int_equal(sl_timers_deadline(t), UINT64_MAX);
    for (uint32_t round = 0; round < 20; round++)
        for (uint32_t k = 0; k < N; k++) {
            at[k] = 1 + sl_rng_u64(round, k) % 50;
            if (at[k] == 7)
                at[k] = UINT64_MAX;
            sl_timers_set(t, k, at[k]);
        }
    uint32_t left = 0, set = 0;
    for (uint32_t k = 0; k < N; k++)
        set += at[k] != UINT64_MAX;
    assert_int_equal(sl_timers_next(t, sl_timers_deadline(t) - 1), -1);
    while ((i = sl_timers_next(t, 1000)) >= 0) {
        assert_true(left++ == 0 || at[i] > last || (at[i] == last && i > before));
        last = at[i];
        before = i;
    }
    assert_int_equal(left, set);
    sl_timers_free(t);
}

/* ---- gangs ---- */

static uint32_t answers(struct sl_rounds *r, uint64_t now)
{
    uint32_t phone, n = 0;

    while (sl_rounds_next(r, now, &phone))
        n++;
    return n;
}

static void rounds__a_synchronous_gang_waits_for_all(void **state)
{
    const uint64_t edge_ns[4] = {10, 20, 30, 40};
    struct sl_rounds *r;

    assert_int_equal(
        sl_rounds_create(
            &(struct sl_rounds_config){.n = 4, .sync = true, .quorum = 0.75, .edge_ns = edge_ns}, &r),
        0);
    for (uint32_t i = 0; i < 3; i++)
        sl_rounds_ready(r, i);
    assert_int_equal(answers(r, 1000), 0);
    assert_int_equal(sl_rounds_deadline(r), UINT64_MAX); /* no gang time is known yet */
    sl_rounds_ready(r, 3);
    assert_int_equal(answers(r, 1000), 0);
    assert_int_equal(sl_rounds_deadline(r), 1100);
    assert_int_equal(answers(r, 1099), 0);
    assert_int_equal(answers(r, 1100), 4);
    sl_rounds_free(r);
}

static void rounds__the_quorum_starts_at_the_deadline(void **state)
{
    const uint64_t edge_ns[4] = {10, 10, 10, 10};
    struct sl_rounds *r;

    assert_int_equal(sl_rounds_create(
                         &(struct sl_rounds_config){
                             .n = 4, .sync = true, .quorum = 0.75, .deadline_ns = 500, .edge_ns = edge_ns},
                         &r),
        0);
    sl_rounds_ready(r, 0);
    sl_rounds_ready(r, 1);
    assert_int_equal(answers(r, 600), 0);
    sl_rounds_ready(r, 2);
    assert_int_equal(answers(r, 600), 0);
    sl_rounds_ready(r, 3); /* too late for this gang, in time for the next */
    assert_int_equal(answers(r, 630), 3);
    assert_int_equal(sl_rounds_deadline(r), UINT64_MAX);
    sl_rounds_free(r);
}

/* ---- flows over a link of the test's own: every packet takes 1 ms, every k-th is dropped ---- */

enum { LINK_MAX = 4096 };
struct link {
    struct sl_queue *queue;
    unsigned drop_every, offered, n;
    struct sl_dgram held[LINK_MAX];
    uint64_t at[LINK_MAX];
    bool up[LINK_MAX];
};

static void take(struct link *l, struct sl_dgram *d, bool up, uint64_t now)
{
    if (l->drop_every && ++l->offered % l->drop_every == 0) {
        sl_queue_free(l->queue, d, 1);
        return;
    }
    assert_true(l->n < LINK_MAX);
    l->held[l->n] = *d;
    l->up[l->n] = up;
    l->at[l->n++] = now + ms;
}
static void link_up(void *ctx, struct sl_dgram *d, unsigned n, uint64_t now)
{
    take(ctx, d, true, now);
}
static void link_down(void *ctx, struct sl_dgram *d, unsigned n, uint64_t now)
{
    take(ctx, d, false, now);
}
static unsigned ready(struct link *l, struct sl_dgram *out, bool up, uint64_t now)
{
    for (unsigned i = 0; i < l->n; i++) {
        if (l->up[i] != up || l->at[i] > now)
            continue;
        *out = l->held[i];
        l->n--;
        for (unsigned k = i; k < l->n; k++) {
            l->held[k] = l->held[k + 1];
            l->at[k] = l->at[k + 1];
            l->up[k] = l->up[k + 1];
        }
        return 1;
    }
    return 0;
}
static unsigned up_ready(void *ctx, struct sl_dgram *out, unsigned n, uint64_t now)
{
    return ready(ctx, out, true, now);
}
static unsigned down_ready(void *ctx, struct sl_dgram *out, unsigned n, uint64_t now)
{
    return ready(ctx, out, false, now);
}
static uint64_t link_deadline(void *ctx)
{
    struct link *l = ctx;
    uint64_t first = UINT64_MAX;

    for (unsigned i = 0; i < l->n; i++)
        first = l->at[i] < first ? l->at[i] : first;
    return first;
}
static const struct sl_emulator_ops link_ops = {.up = link_up,
    .down = link_down,
    .up_ready = up_ready,
    .down_ready = down_ready,
    .deadline = link_deadline};

static uint64_t compute_100_ms(void *ctx, uint32_t phone, bool backward, uint64_t now)
{
    return 50 * ms;
}

enum { PHONES = 3, FRAGMENTS = 40 };
struct seen {
    uint64_t packets, again, last_sequence[PHONES], gaps;
    uint8_t have[PHONES][64][FRAGMENTS];
};
static void note(void *ctx, const struct sl_flow_packet *p)
{
    struct seen *s = ctx;

    if (p->down)
        return;
    assert_true(p->phone < PHONES && p->fragment < FRAGMENTS && p->fragments == FRAGMENTS && p->message < 64);
    assert_int_equal(p->payload_bytes, p->fragment == FRAGMENTS - 1 ? 48 + 64 : 48 + 1344);
    s->packets++;
    s->again += p->again;
    s->gaps += p->sequence - s->last_sequence[p->phone] - (s->last_sequence[p->phone] || p->sequence ? 1 : 0);
    s->last_sequence[p->phone] = p->sequence;
    s->have[p->phone][p->message][p->fragment]++;
}

static void run_flows(struct link *l, struct seen *s, uint64_t until, struct sl_flow_totals *up)
{
    struct sl_flow_shape shape[PHONES];
    struct sl_flow_totals down;
    struct sl_flows *f;

    for (uint32_t i = 0; i < PHONES; i++) {
        shape[i] = (struct sl_flow_shape){.up_units = (FRAGMENTS - 1) * 21 + 1,
            .down_units = 100,
            .fragment_units = 21,
            .head_bytes = 48,
            .edge_ns = ms};
        sl_addr_parse("10.77.1.1:5000", &shape[i].address);
    }
    struct sl_flows_config c = {.n = PHONES,
        .max_packets = 4096,
        .seed = 5,
        .shape = shape,
        .gang = {.sync = true, .quorum = 1},
        .emulator = &link_ops,
        .emulator_ctx = l,
        .compute_ns = compute_100_ms,
        .packet = note,
        .ctx = s};
    assert_int_equal(sl_flows_create(&c, &f), 0);
    l->queue = sl_flows_queue(f);
    for (uint64_t now = sl_flows_deadline(f); now < until; now = sl_flows_deadline(f))
        sl_flows_run(f, now);
    sl_flows_totals(f, up, &down);
    sl_flows_close(f);
    sl_flows_free(f);
}

static void flows__every_fragment_arrives_once(void **state)
{
    static struct seen s;
    static struct link l;
    struct sl_flow_totals up;

    run_flows(&l, &s, 5000 * ms, &up);
    assert_int_equal(up.dropped, 0);
    assert_int_equal(s.again + s.gaps, 0);
    assert_int_equal(up.arrived, s.packets);
    assert_int_equal(up.offered - up.arrived, l.n);
    /* A cycle is 100 ms of computing, 3 ms at the edge, and some windows of 1 ms each. */
    assert_in_range(up.messages / PHONES, 4000 / 115, 5000 / 105);
    for (uint32_t i = 0; i < PHONES; i++)
        for (uint32_t m = 1; m < up.messages / PHONES; m++)
            for (uint32_t k = 0; k < FRAGMENTS; k++)
                assert_int_equal(s.have[i][m][k], 1);
}

static void flows__what_the_link_drops_is_sent_again_under_a_new_number(void **state)
{
    static struct seen s;
    static struct link l = {.drop_every = 10};
    struct sl_flow_totals up;

    run_flows(&l, &s, 8000 * ms, &up);
    assert_true(up.dropped > 100);
    assert_true(s.again > 0 && s.again <= up.dropped);
    /* A receiver counts the losses by the gaps; those after its last packet it cannot know. */
    assert_in_range(up.dropped - s.gaps, 0, 20);
    assert_true(up.messages > 20);
    for (uint32_t i = 0; i < PHONES; i++)
        for (uint32_t m = 1; m < up.messages / PHONES; m++)
            for (uint32_t k = 0; k < FRAGMENTS; k++)
                assert_int_equal(s.have[i][m][k], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reach__private_and_documentation_ranges_are_near),
        cmocka_unit_test(limit__lets_through_the_rate_and_one_bucket),
        cmocka_unit_test(timers__come_in_order_of_time_and_number),
        cmocka_unit_test(rounds__a_synchronous_gang_waits_for_all),
        cmocka_unit_test(rounds__the_quorum_starts_at_the_deadline),
        cmocka_unit_test(flows__every_fragment_arrives_once),
        cmocka_unit_test(flows__what_the_link_drops_is_sent_again_under_a_new_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
