/* A change of cut in mid-run (rules L9): the losses do not notice, moments go where they belong, and nothing
 * waits for who is lost. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 24, PHONES = 3, EVERY = 3 };
static const uint32_t lengths[PHONES][2] = {{17, 9}, {30, 5}, {12, 23}};

static void send_step(struct world *w, uint32_t s, uint32_t n, const uint32_t **windows, uint32_t *len)
{
    for (uint32_t d = 0; d < n; d++) {
        for (uint32_t i = 0; i < 2; i++) {
            len[2 * d + i] = lengths[d][i];
            windows[2 * d + i] = text_window(s * 6 + 2 * d + i, lengths[d][i]);
        }
        phone_send(&w->phones[d], w->lcore, windows + 2 * d, len + 2 * d, 2, SL_REQUEST_TRAIN);
    }
}

/* Trains STEPS steps beside central training; the losses differ by `tolerance` at most. */
static void beside_central(struct world *w, struct world_config *config, double tolerance)
{
    struct central c;
    struct sl_lora_config lora = tiny_lora(config->family, config->freeze_a);
    config->steps = STEPS;
    config->min_cut = 1;
    config->deterministic = true;
    world_open(w, config);
    central_init(&c, w->model, &lora, &config->optim, 128);
    world_phase(w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < STEPS; s++) {
        const uint32_t *windows[2 * PHONES];
        uint32_t len[2 * PHONES];
        send_step(w, s, config->n_phones, windows, len);
        world_run(w);
        double loss = central_step(&c, windows, len, 2 * config->n_phones);
        assert_int_equal(w->global_step, s + 1);
        assert_int_equal(w->step_devices, config->n_phones);
        if (!(fabs(w->loss - loss) <= tolerance * loss))
            fail_msg("step %u: split %.9f, central %.9f", s + 1, w->loss, loss);
    }
    assert_int_equal(w->finished, 1);
    assert_int_equal(w->old_cuts, 0);
    central_free(&c);
}

static void gradients__losses_do_not_notice_a_change_of_cut(void **state)
{
    const struct sl_cut_change changes[] = {{5, (const uint32_t[]){3, 1, 2}},
        {6, (const uint32_t[]){1, 1, 1}}, {13, (const uint32_t[]){2, 3, 1}}};
    const struct sl_optim_config optims[] = {adamw(1e-3f), sgd(0.5f)};
    for (unsigned family = 0; family < 2; family++) {
        struct world w;
        struct world_config config = {.family = family ? SL_FAMILY_GPT2 : SL_FAMILY_LLAMA,
            .optim = optims[family],
            .gradients = true,
            .n_phones = PHONES,
            .cut = {1, 2, 3},
            .class = {0, 1, 2},
            .aggregate_every = 4,
            .changes = changes,
            .n_changes = 3};
        beside_central(&w, &config, 1e-6);
        assert_int_equal(w.cuts, 3 + 2 + 2);
        assert_int_equal(w.moments_to_edge + w.moments_to_phones, 0);
        assert_true(w.phones[0].cut == 2 && w.phones[1].cut == 3 && w.phones[2].cut == 1);
        world_close(&w);
    }
}

/* With weights one device is central training, bit for bit, only if its moments go along. */
static void weights__one_device_takes_its_moments_along(void **state)
{
    const struct sl_cut_change changes[] = {
        {4, (const uint32_t[]){3}}, {9, (const uint32_t[]){1}}, {15, (const uint32_t[]){2}}};
    struct world w;
    struct world_config config = {.optim = adamw(1e-2f),
        .n_phones = 1,
        .cut = {2},
        .aggregate_every = EVERY,
        .changes = changes,
        .n_changes = 3};
    beside_central(&w, &config, 0);
    assert_int_equal(w.cuts, 3);
    assert_int_equal(w.moments_to_phones, 1 + 1); /* layer 2; layer 1 */
    assert_int_equal(w.moments_to_edge, 2);       /* layers 1 and 2 */
    world_close(&w);
}

/* Steps of the whole gang up to `until`. */
static void steps(struct world *w, uint32_t from, uint32_t until, uint32_t n)
{
    const uint32_t *windows[2 * PHONES];
    uint32_t len[2 * PHONES];
    for (uint32_t s = from; s < until; s++) {
        send_step(w, s, n, windows, len);
        world_run(w);
        assert_int_equal(w->global_step, s + 1);
    }
}

static void open(struct world *w, uint32_t n, const struct sl_cut_change *changes, uint32_t n_changes)
{
    world_open(w, &(struct world_config){.optim = adamw(1e-3f),
                      .n_phones = n,
                      .cut = {2, 3},
                      .class = {0, 1},
                      .min_cut = 1,
                      .aggregate_every = EVERY,
                      .changes = changes,
                      .n_changes = n_changes});
    world_phase(w, SL_TRAINER_TRAIN);
}

/* Layer 2 is phone 1's and the edge's (phone 0 is cut at 2): several copies, so fresh moments everywhere. */
static void weights__moments_of_several_copies_stay(void **state)
{
    const struct sl_cut_change changes[] = {{2, (const uint32_t[]){3, 3}}, {7, (const uint32_t[]){3, 2}}};
    struct world w;
    open(&w, 2, changes, 2);
    steps(&w, 0, 10, 2);
    assert_int_equal(w.cuts, 2);
    assert_int_equal(w.moments_to_edge + w.moments_to_phones, 0);
    assert_int_equal(w.phones[0].moments[2].t, 10 - EVERY); /* fresh since step 3 */
    steps(&w, 10, 12, 2);
    struct sl_checkpoint *c = world_checkpoint(&w);
    assert_int_equal(c->moments[2 - c->first].t, EVERY); /* the edge's, trained until 3 and since 9 */
    sl_checkpoint_clear(c);
    free(c);
    world_close(&w);
}

/* The moments of layer 1, asked for at step 3, never come. */
static void weights__moments_that_do_not_come_are_fresh(void **state)
{
    const struct sl_cut_change changes[] = {{2, (const uint32_t[]){1}}};
    const uint32_t *windows[2];
    uint32_t len[2];
    struct world w;
    for (int leaves = 0; leaves < 2; leaves++) {
        open(&w, 1, changes, 1);
        w.keep_moments = true;
        steps(&w, 0, 3, 1);
        assert_int_equal(w.phones[0].cut, 1);
        send_step(&w, 3, 1, windows, len);
        world_run(&w);
        assert_int_equal(w.global_step, 3); /* the gang waits */
        if (leaves) {
            phone_forget(&w.phones[0]);
            world_join(&w, 0);
            world_run(&w);
            send_step(&w, 3, 1, windows, len);
        } else {
            fake_now_ns += SL_PUSH_TIMEOUT_NS;
        }
        world_run(&w);
        assert_int_equal(w.global_step, 4);
        world_close(&w);
    }
}

static void joins__a_device_gets_the_present_cut(void **state)
{
    const struct sl_cut_change changes[] = {{2, (const uint32_t[]){1, 2}}};
    struct world w;
    open(&w, 2, changes, 1);
    struct sl_command *c = sl_trainer_command(w.trainer);
    c->kind = SL_COMMAND_LEAVE;
    c->device = 1;
    sl_trainer_post(w.trainer, c);
    steps(&w, 0, 3, 1);
    assert_int_equal(w.phones[0].cut, 1);
    assert_int_equal(w.cuts, 2); /* one is said of who is away */
    /* Its Welcome still said 3: it changes at the next boundary. */
    w.phones[1].next_cut = 0;
    world_join(&w, 1);
    world_run(&w);
    phone_install(&w.phones[1], w.g, w.version);
    steps(&w, 3, 6, 2);
    assert_int_equal(w.phones[1].cut, 2);
    steps(&w, 6, 9, 2);
    assert_int_equal(w.old_cuts, 0);
    world_close(&w);
}

static void command__changes_at_the_next_boundary(void **state)
{
    struct world w;
    open(&w, 2, NULL, 0);
    steps(&w, 0, 1, 2);
    for (uint32_t cut = 0; cut <= LAYERS; cut += LAYERS) { /* impossible ones are ignored */
        struct sl_command *c = sl_trainer_command(w.trainer);
        c->kind = SL_COMMAND_CUT;
        c->device = 1;
        c->cut = cut;
        sl_trainer_post(w.trainer, c);
    }
    struct sl_command *c = sl_trainer_command(w.trainer);
    c->kind = SL_COMMAND_CUT;
    c->device = 0;
    c->cut = 1;
    sl_trainer_post(w.trainer, c);
    steps(&w, 1, 2, 2);
    assert_int_equal(w.cuts, 0);
    steps(&w, 2, 6, 2);
    assert_int_equal(w.cuts, 1);
    assert_int_equal(w.phones[0].cut, 1);
    world_close(&w);
}

static void message__of_another_cut_is_skipped_and_said(void **state)
{
    const uint32_t *windows[2];
    uint32_t len[2];
    struct world w;
    open(&w, 1, NULL, 0);
    w.phones[0].cut = 1; /* what it says in REQUEST; the edge knows 2 */
    send_step(&w, 0, 1, windows, len);
    w.phones[0].cut = 2;
    world_run(&w);
    assert_int_equal(w.old_cuts, 1);
    assert_int_equal(w.global_step, 0);
    steps(&w, 0, 2, 1);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients__losses_do_not_notice_a_change_of_cut),
        cmocka_unit_test(weights__one_device_takes_its_moments_along),
        cmocka_unit_test(weights__moments_of_several_copies_stay),
        cmocka_unit_test(weights__moments_that_do_not_come_are_fresh),
        cmocka_unit_test(joins__a_device_gets_the_present_cut),
        cmocka_unit_test(command__changes_at_the_next_boundary),
        cmocka_unit_test(message__of_another_cut_is_skipped_and_said),
    };
    return cmocka_run_group_tests_name("pipeline/cut", tests, NULL, NULL);
}
