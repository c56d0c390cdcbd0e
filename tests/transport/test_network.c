/* Both directions over a network that loses, repeats and reorders: every message arrives exactly once and
 * byte-exact, every frame at least once, on a virtual clock. argv[1]: how many seeds. */
#include "tests/transport/model.h"

#include <stdio.h>
#include <stdlib.h>

enum { N_UP = 3, N_DOWN = 3, N_FRAMES = 6 };
static unsigned n_seeds = 50;

static bool direction_finished(const struct model *from, const struct model *to)
{
    for (unsigned i = 0; i < from->n_out; i++)
        if (from->out[i].done[SL_DONE_ACKED] == 0 || to->in[i].completed == 0)
            return false;
    return true;
}

static bool frames_finished(const struct model *m, enum sl_frame_type type)
{
    for (unsigned i = 0; i < N_FRAMES; i++)
        if (m->frames[type][i] == 0)
            return false;
    return true;
}

static bool all_finished(struct rig *r)
{
    return direction_finished(&r->device_model, &r->edge_model) &&
           direction_finished(&r->edge_model, &r->device_model) &&
           frames_finished(&r->edge_model, SL_FRAME_REQUEST) &&
           frames_finished(&r->device_model, SL_FRAME_GRANT) &&
           frames_finished(&r->device_model, SL_FRAME_RESULT);
}

static void start_message(
    struct model *from, struct model *to, uint32_t grant, uint64_t *random, uint64_t now)
{
    uint32_t n_units = 1 + (uint32_t)(next_random(random) % 500);
    model_expect(to, 1, grant, n_units);
    model_offer(from, 1, grant, n_units, next_random(random));
    assert_int_equal(sl_endpoint_send(from->endpoint, 1, grant, n_units, now), 0);
}

static void start_frames(struct rig *r)
{
    for (unsigned i = 0; i < N_FRAMES; i++) {
        struct sl_frame request = {
            .type = SL_FRAME_REQUEST, .request = {.step = i, .n_seqs = 2, .len = {3, 4}}};
        struct sl_frame grant = {.type = SL_FRAME_GRANT, .grant = {.index = i + 1, .step = i}};
        struct sl_frame result = {.type = SL_FRAME_RESULT, .result = {.grant = i + 1, .step = i}};
        assert_int_equal(sl_endpoint_frame(r->device, 1, &request, r->now_ns), 0);
        assert_int_equal(sl_endpoint_frame(r->edge, 1, &grant, r->now_ns), 0);
        assert_int_equal(sl_endpoint_frame(r->edge, 1, &result, r->now_ns), 0);
    }
}

static void check_messages(const struct model *from, const struct model *to)
{
    for (unsigned i = 0; i < from->n_out; i++) {
        assert_int_equal(to->in[i].completed, 1);
        assert_int_equal(to->in[i].n_received, to->in[i].n_units);
        assert_memory_equal(
            to->in[i].bytes, from->out[i].bytes, (size_t)from->out[i].n_units * SL_UNIT_BYTES);
        assert_int_equal(from->out[i].done[SL_DONE_ACKED], 1);
        assert_int_equal(from->out[i].done[SL_DONE_CANCELLED] + from->out[i].done[SL_DONE_SESSION_GONE], 0);
    }
}

static void check_books(const struct rig *r, const struct network *in, const struct sl_endpoint *ep)
{
    struct sl_endpoint_stats s;
    sl_endpoint_stats(ep, &s);
    assert_accounts(ep);
    assert_int_equal(s.drops[SL_DROP_BAD_TAG] + s.drops[SL_DROP_BAD_FRAME] + s.drops[SL_DROP_NO_GRANT] +
                         s.drops[SL_DROP_OFF_GRID] + s.drops[SL_DROP_NO_MEMORY],
        0);
}

static void one_seed(uint64_t seed, double loss, double duplicate, uint64_t jitter_ns, uint64_t *totals)
{
    struct rig r;
    uint64_t random = seed;
    rig_init(&r, seed, loss, duplicate, jitter_ns);
    /* the first message of the edge waits for the device's address, as it would */
    for (unsigned i = 0; i < N_UP; i++)
        start_message(&r.device_model, &r.edge_model, 1 + i, &random, r.now_ns);
    for (unsigned i = 0; i < N_DOWN; i++)
        start_message(&r.edge_model, &r.device_model, 1 + i, &random, r.now_ns);
    start_frames(&r);
    if (!rig_run(&r, r.now_ns + 120000 * MS, all_finished))
        fail_msg("seed %llu: not finished after two minutes", (unsigned long long)seed);
    check_messages(&r.device_model, &r.edge_model);
    check_messages(&r.edge_model, &r.device_model);
    check_books(&r, &r.up, r.edge);
    check_books(&r, &r.down, r.device);
    totals[0] += r.up.lost + r.down.lost;
    totals[1] += r.up.reordered + r.down.reordered;
    totals[2] += drops(r.edge, SL_DROP_REPLAYED) + drops(r.device, SL_DROP_REPLAYED);
    struct sl_endpoint_stats s;
    sl_endpoint_stats(r.device, &s);
    totals[3] += s.retransmits;
    totals[4] += r.up.sent + r.down.sent;
    totals[5] += r.now_ns - 1000 * MS;
    totals[6] += s.key_updates_tx + s.key_updates_rx;
    rig_free(&r);
}

static void every_message__exactly_once_over_a_lossy_network(void **state)
{
    uint64_t totals[7] = {0};
    for (unsigned seed = 1; seed <= n_seeds; seed++)
        one_seed(seed, 0.05, 0.02, 10 * MS, totals);
    print_message(
        "%u seeds: %llu packets, %llu lost, %llu reordered, %llu replays dropped, %llu sent again, %.1f "
        "ms a seed, %llu key updates\n",
        n_seeds, (unsigned long long)totals[4], (unsigned long long)totals[0], (unsigned long long)totals[1],
        (unsigned long long)totals[2], (unsigned long long)totals[3], (double)totals[5] / 1e6 / n_seeds,
        (unsigned long long)totals[6]);
    for (unsigned i = 0; i < 4; i++)
        assert_true(totals[i] > n_seeds); /* the network did what the test is about */
    assert_true(totals[6] > 2 * n_seeds); /* and the keys changed under way */
}

static void every_message__exactly_once_at_a_third_lost(void **state)
{
    uint64_t totals[7] = {0};
    for (unsigned seed = 1; seed <= n_seeds / 5; seed++)
        one_seed(seed << 20, 0.33, 0.10, 3 * MS, totals);
}

static void clean_network__nothing_is_sent_twice(void **state)
{
    uint64_t totals[7] = {0};
    one_seed(7, 0, 0, 0, totals);
    assert_int_equal(totals[3], 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_network__nothing_is_sent_twice),
        cmocka_unit_test(every_message__exactly_once_over_a_lossy_network),
        cmocka_unit_test(every_message__exactly_once_at_a_third_lost),
    };
    if (argc > 1)
        n_seeds = (unsigned)strtoul(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
