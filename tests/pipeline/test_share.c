/* Shares of the edge's work (share.h, trainer_share.c): asynchronous gangs of one message, devices that wait
 * all the time or some of it, against what a fluid server that serves all who wait at once would have done
 * (GPS; Parekh and Gallager, 1993). */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include <math.h>
#include <stdlib.h>

enum { DEVICES = 3, ROWS = 12, WINDOW = ROWS + 1 };

static double cost(const struct world *w, uint32_t d)
{
    return ROWS * (double)(LAYERS - w->phones[d].cut);
}

static void open_world(struct world *w, uint32_t max, const double *share)
{
    struct world_config c = {.optim = sgd(0),
        .n_phones = DEVICES,
        .aggregate_every = 1000000,
        .async = true,
        .staleness = 8,
        .gang_max = max,
        .cut = {1, 2, 3}};
    fake_now_ns = 1;
    world_open(w, &c);
    world_phase(w, SL_TRAINER_TRAIN);
    for (uint32_t d = 0; d < DEVICES && share; d++) {
        struct sl_command *k = sl_trainer_command(w->trainer);
        *k = (struct sl_command){.kind = SL_COMMAND_SHARE, .device = d, .share = share[d]};
        sl_trainer_post(w->trainer, k);
    }
    sl_trainer_turn(w->trainer);
}

struct account {
    double work[DEVICES], fluid[DEVICES];
    uint32_t messages[DEVICES];
};

/* One gang with those of `here` waiting: books what it served, and what the fluid server would have. */
static void gang(struct world *w, const bool *here, const double *share, struct account *a)
{
    uint64_t before[DEVICES];
    double done = 0, all = 0;
    for (uint32_t d = 0; d < DEVICES; d++) {
        const uint32_t *text = text_window(d, WINDOW), len = WINDOW;
        if (here[d] && !w->phones[d].slot)
            phone_send(&w->phones[d], w->lcore, &text, &len, 1, SL_REQUEST_TRAIN);
        before[d] = w->phones[d].returned;
    }
    world_turn(w);
    bool backlogged[DEVICES];
    for (uint32_t d = 0; d < DEVICES; d++) {
        uint64_t served = w->phones[d].returned - before[d];
        backlogged[d] = served || w->phones[d].slot;
        a->messages[d] += (uint32_t)served;
        a->work[d] += (double)served * cost(w, d);
        done += (double)served * cost(w, d);
        all += backlogged[d] ? share[d] : 0;
    }
    for (uint32_t d = 0; d < DEVICES; d++)
        a->fluid[d] += backlogged[d] ? done * share[d] / all : 0;
}

static double messages_of_all(const struct world *w)
{
    double sum = 0;
    for (uint32_t d = 0; d < DEVICES; d++)
        sum += cost(w, d);
    return sum;
}

/* At every moment: no device's work is further from its share than a message of each device. */
static void shares__of_1_2_4_are_the_works(void **state)
{
    static const double share[] = {1.0 / 7, 2.0 / 7, 4.0 / 7};
    static const bool all[] = {true, true, true};
    struct world w;
    struct account a = {0};
    open_world(&w, 1, share);
    for (uint32_t g = 0; g < 700; g++) {
        gang(&w, all, share, &a);
        for (uint32_t d = 0; d < DEVICES; d++)
            if (fabs(a.work[d] - a.fluid[d]) > messages_of_all(&w))
                fail_msg("gang %u: device %u has had %g instead of %g", g, d, a.work[d], a.fluid[d]);
        for (uint32_t d = 1; d < DEVICES; d++) { /* the rule's own bound, between any two */
            double apart = fabs(a.work[d] / share[d] - a.work[0] / share[0]);
            assert_true(apart <= 1.01 * (cost(&w, d) / share[d] + cost(&w, 0) / share[0]));
        }
    }
    assert_int_equal(a.messages[0] + a.messages[1] + a.messages[2], 700);
    assert_true(fabs(a.work[1] / a.work[0] - 2) < 0.05);
    assert_true(fabs(a.work[2] / a.work[0] - 4) < 0.1);
    world_close(&w);
}

/* Who is away loses its turn and no more: it neither makes up for it, nor is held back. */
static void shares__who_was_away_has_its_share_from_then_on(void **state)
{
    static const double share[] = {0.2, 0.3, 0.5};
    struct world w;
    struct account a = {0};
    uint64_t random = 1;
    open_world(&w, 1, share);
    bool here[DEVICES] = {true, true, true};
    for (uint32_t g = 0; g < 1500; g++) {
        if (g % 40 == 0)
            for (uint32_t d = 0; d < DEVICES; d++) {
                random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
                here[d] = random >> 62 != 0;
            }
        here[0] = here[0] || !(here[1] || here[2]);
        gang(&w, here, share, &a);
    }
    /* Each coming is another message of each, and there were about 14 of a device. */
    for (uint32_t d = 0; d < DEVICES; d++)
        if (fabs(a.work[d] - a.fluid[d]) > 15 * messages_of_all(&w) || a.work[d] < 0.9 * a.fluid[d])
            fail_msg("device %u has had %g instead of %g", d, a.work[d], a.fluid[d]);
    world_close(&w);
}

static void shares__the_least_is_served_too(void **state)
{
    static const double share[] = {0.01, 0.495, 0.495};
    static const bool all[] = {true, true, true};
    struct world w;
    struct account a = {0};
    open_world(&w, 1, share);
    for (uint32_t g = 0; g < 1000; g++)
        gang(&w, all, share, &a);
    assert_in_range(a.messages[0], 3, 12); /* 1 % of the work, its messages the largest */
    world_close(&w);
}

/* Without a plan: as many messages for all, whatever their cuts. */
static void shares__without_a_plan_are_equal(void **state)
{
    static const double share[] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
    static const bool all[] = {true, true, true};
    struct world w;
    struct account a = {0};
    open_world(&w, 1, NULL);
    for (uint32_t g = 0; g < 330; g++)
        gang(&w, all, share, &a);
    for (uint32_t d = 0; d < DEVICES; d++)
        assert_in_range(a.messages[d], 109, 111);
    world_close(&w);
}

static void gang__takes_at_most_so_many(void **state)
{
    static const double share[] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
    static const bool all[] = {true, true, true};
    struct world w;
    struct account a = {0};
    open_world(&w, 2, NULL);
    gang(&w, all, share, &a);
    assert_int_equal(w.step_devices, 2);
    assert_int_equal(a.messages[0] + a.messages[1] + a.messages[2], 2);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares__of_1_2_4_are_the_works),
        cmocka_unit_test(shares__who_was_away_has_its_share_from_then_on),
        cmocka_unit_test(shares__the_least_is_served_too),
        cmocka_unit_test(shares__without_a_plan_are_equal),
        cmocka_unit_test(gang__takes_at_most_so_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
