/* Aggregation of gradients equals central training whatever the devices, their cuts and the optimiser (rules
 * L4), and nothing waits for who is lost. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 40, PHONES = 3 };
static const uint32_t lengths[PHONES][2] = {{17, 9}, {30, 5}, {12, 23}};

/* Every phone's two windows of step s; puts them where central training finds them too. */
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

struct how {
    enum sl_family family;
    struct sl_optim_config optim;
    uint32_t n, cut[PHONES], accumulate;
    bool freeze_a, weights;
};

static void equals_central(const struct how *h, double tolerance)
{
    struct world w;
    struct central c;
    struct sl_lora_config lora = tiny_lora(h->family, h->freeze_a);
    world_open(&w, &(struct world_config){.family = h->family,
                       .optim = h->optim,
                       .gradients = !h->weights,
                       .accumulate = h->accumulate,
                       .n_phones = h->n,
                       .cut = {h->cut[0], h->cut[1], h->cut[2]},
                       .aggregate_every = h->weights ? h->accumulate : 7,
                       .steps = STEPS,
                       .freeze_a = h->freeze_a,
                       .deterministic = true});
    central_init(&c, w.model, &lora, &h->optim, 128);
    c.accumulate = h->accumulate;
    world_phase(&w, SL_TRAINER_TRAIN);
    double first = 0;
    for (uint32_t s = 0; s < STEPS; s++) {
        const uint32_t *windows[2 * PHONES];
        uint32_t len[2 * PHONES];
        send_step(&w, s, h->n, windows, len);
        world_run(&w);
        double loss = central_step(&c, windows, len, 2 * h->n);
        first = s ? first : loss;
        assert_int_equal(w.global_step, s + 1);
        assert_int_equal(w.step_devices, h->n);
        if (!(fabs(w.loss - loss) <= tolerance * loss))
            fail_msg("step %u: split %.9f, central %.9f", s, w.loss, loss);
    }
    assert_int_equal(w.finished, 1);
    assert_int_equal(w.left_out, 0);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block b = sl_adapter_block(c.adapter, l);
        for (size_t i = 0; i < b.n; i++)
            assert_true(fabsf(w.g[l * b.n + i] - b.data[i]) <= 2e-5f);
    }
    central_free(&c);
    world_close(&w);
}

static void gradients__any_devices_at_any_cuts_equal_central_training(void **state)
{
    static const uint32_t cuts[][PHONES] = {{1, 2, 3}, {3, 1, 1}, {2, 2, 2}, {3, 3, 3}};
    for (unsigned i = 0; i < 4; i++) {
        struct how h = {.optim = adamw(1e-3f), .n = PHONES};
        memcpy(h.cut, cuts[i], sizeof h.cut);
        equals_central(&h, 1e-6);
        h.optim = sgd(0.5f);
        equals_central(&h, 1e-6);
        h.family = SL_FAMILY_GPT2;
        h.n = 2;
        equals_central(&h, 1e-6);
    }
}

static void gradients__one_device_is_bit_identical(void **state)
{
    equals_central(&(struct how){.optim = adamw(1e-2f), .n = 1, .cut = {2}}, 0);
    equals_central(&(struct how){.optim = adamw(1e-2f), .n = 1, .cut = {1}, .accumulate = 5}, 0);
    equals_central(&(struct how){.optim = adamw(1e-2f), .n = 1, .cut = {3}, .freeze_a = true}, 0);
}

static struct sl_optim_config scheduled(struct sl_optim_config optim)
{
    optim.schedule =
        (struct sl_lr_schedule){.kind = SL_SCHEDULE_COSINE, .steps = STEPS, .warmup = 5, .floor = 0.1};
    optim.clip = 0.05;
    return optim;
}

static void gradients__accumulated_scheduled_and_clipped(void **state)
{
    equals_central(
        &(struct how){.optim = scheduled(adamw(1e-3f)), .n = 3, .cut = {1, 3, 2}, .accumulate = 4}, 1e-6);
    equals_central(
        &(struct how){.optim = scheduled(sgd(0.5f)), .n = 3, .cut = {1, 3, 2}, .freeze_a = true}, 1e-6);
}

/* The same matters with weights: one device is exact to the bit, several with SGD. */
static void weights__accumulated_scheduled_and_clipped(void **state)
{
    struct how one = {.optim = scheduled(adamw(1e-2f)), .n = 1, .cut = {2}, .accumulate = 4, .weights = true};
    equals_central(&one, 0);
    struct how several = {.optim = sgd(0.5f), .n = 3, .cut = {1, 3, 2}, .accumulate = 4, .weights = true};
    several.optim.schedule = one.optim.schedule;
    equals_central(&several, 1e-6);
}

/* The stability term (rules P8) enters every copy's step once, whoever takes it, whatever the cut. */
static void proximal__split_equals_central_training(void **state)
{
    struct how one = {.optim = scheduled(adamw(1e-2f)), .n = 1, .cut = {2}, .accumulate = 4, .weights = true};
    one.optim.proximal = 0.3;
    equals_central(&one, 0);
    one.weights = false;
    equals_central(&one, 0);
    one.freeze_a = true; /* G's frozen A below the edge's first block is needed too */
    equals_central(&one, 0);
    struct how several = {.optim = sgd(0.5f), .n = 3, .cut = {1, 3, 2}, .accumulate = 2, .weights = true};
    several.optim.proximal = 0.3;
    equals_central(&several, 1e-6);
    several.weights = false;
    equals_central(&several, 1e-6);
    several.optim = adamw(1e-3f);
    several.optim.proximal = 0.3;
    several.freeze_a = true;
    equals_central(&several, 1e-6);
}

static void train_open(struct world *w, uint32_t accumulate, double quorum)
{
    world_open(w, &(struct world_config){.optim = adamw(1e-3f),
                      .gradients = true,
                      .accumulate = accumulate,
                      .n_phones = PHONES,
                      .cut = {1, 2, 3},
                      .aggregate_every = 2,
                      .quorum = quorum});
    world_phase(w, SL_TRAINER_TRAIN);
}

/* Phone 2's sums never come: at the deadline G steps without them, and the phone is told later. */
static void push__that_does_not_come_is_left_out(void **state)
{
    struct world w;
    const uint32_t *windows[2 * PHONES];
    uint32_t len[2 * PHONES], handle;
    train_open(&w, 1, 0.5);
    send_step(&w, 0, PHONES, windows, len);
    while (sl_trainer_turn(w.trainer))
        ;
    for (unsigned i = 0; i < PHONES; i++) { /* all get their gradient, two push */
        assert_int_equal(sl_ring_spsc_pop(w.lcore[0].returned, &handle, 1), 1);
        struct phone *p = &w.phones[sl_slot_get(w.lcore[0].slots, handle)->device];
        phone_receive(p);
        if (p->index != 2)
            world_push(&w, p);
    }
    world_run(&w);
    assert_int_equal(w.version, 0); /* it waits */
    fake_now_ns += SL_PUSH_TIMEOUT_NS;
    world_run(&w);
    assert_int_equal(w.version, 1);
    assert_int_equal(w.left_out, 1);
    assert_int_equal(w.phones[2].version, 0);
    float before[64];
    memcpy(before, w.g, sizeof before);
    world_push(
        &w, &w.phones[2]); /* too late: it waits for the next round, and the phone gets the present G */
    world_run(&w);
    assert_int_equal(w.installs, 1);
    assert_int_equal(w.phones[2].version, 1);
    assert_memory_equal(before, w.g, sizeof before);
    for (uint32_t s = 1; s < 4; s++) { /* and all goes on */
        send_step(&w, s, PHONES, windows, len);
        world_run(&w);
        assert_int_equal(w.version, s + 1);
    }
    assert_int_equal(w.left_out, 1);
    world_close(&w);
}

static void push__of_who_has_left_is_not_waited_for(void **state)
{
    struct world w;
    const uint32_t *windows[2 * PHONES];
    uint32_t len[2 * PHONES], handle;
    train_open(&w, 1, 0.5);
    send_step(&w, 0, PHONES, windows, len);
    while (sl_trainer_turn(w.trainer))
        ;
    for (unsigned i = 0; i < PHONES; i++) {
        assert_int_equal(sl_ring_spsc_pop(w.lcore[0].returned, &handle, 1), 1);
        struct phone *p = &w.phones[sl_slot_get(w.lcore[0].slots, handle)->device];
        phone_receive(p);
        if (p->index != 1)
            world_push(&w, p);
    }
    struct sl_command *c = sl_trainer_command(w.trainer);
    c->kind = SL_COMMAND_LEAVE;
    c->device = 1;
    sl_trainer_post(w.trainer, c);
    world_run(&w);
    assert_int_equal(w.version, 1);
    world_join(&w, 1); /* it comes back, takes the present G and is one of them again */
    world_run(&w);
    phone_install(&w.phones[1], w.g, w.version);
    send_step(&w, 1, PHONES, windows, len);
    world_run(&w);
    assert_int_equal(w.version, 2);
    assert_int_equal(w.step_devices, PHONES);
    world_close(&w);
}

static void push__of_the_wrong_kind_or_not_finite_is_refused(void **state)
{
    struct world w;
    const uint32_t *windows[2 * PHONES];
    uint32_t len[2 * PHONES];
    train_open(&w, 2, 0.5);
    send_step(&w, 0, PHONES, windows, len); /* no boundary yet */
    world_run(&w);
    w.phones[0].gradients = false;
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.push_refused, 1);
    w.phones[1].sum[3] = NAN;
    world_push(&w, &w.phones[1]);
    world_run(&w);
    assert_int_equal(w.push_refused, 2);
    w.phones[2].sum[3] = 1e30f;
    world_push(&w, &w.phones[2]);
    world_run(&w);
    assert_int_equal(w.push_refused, 3);
    assert_int_equal(w.version, 0);
    world_close(&w);
}

/* Rules T12: from the last checkpoint, with the moments of all blocks, training goes on to the bit. */
static void checkpoint__goes_on_to_the_bit(void **state)
{
    struct world w;
    const uint32_t *windows[2 * PHONES];
    uint32_t len[2 * PHONES];
    double losses[8];
    struct world_config config = {.optim = adamw(1e-2f),
        .gradients = true,
        .n_phones = PHONES,
        .cut = {1, 2, 3},
        .aggregate_every = 2,
        .deterministic = true};
    world_open(&w, &config);
    world_phase(&w, SL_TRAINER_TRAIN);
    struct sl_checkpoint *kept = NULL;
    for (uint32_t s = 0; s < 8; s++) {
        send_step(&w, s, PHONES, windows, len);
        world_run(&w);
        losses[s] = w.loss;
        if (s != 4)
            continue;
        kept = world_checkpoint(&w); /* version 4, as 5 is none of every second */
        assert_int_equal(kept->version, 4);
        assert_int_equal(kept->first, 0);
    }
    world_close(&w);
    config.resume = kept;
    world_open(&w, &config);
    assert_int_equal(w.version, 4);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 4; s < 8; s++) {
        for (uint32_t d = 0; d < PHONES; d++)
            w.phones[d].step = s;
        send_step(&w, s, PHONES, windows, len);
        world_run(&w);
        assert_memory_equal(&w.loss, &losses[s], sizeof w.loss);
    }
    world_close(&w);
    sl_checkpoint_clear(kept);
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients__any_devices_at_any_cuts_equal_central_training),
        cmocka_unit_test(gradients__one_device_is_bit_identical),
        cmocka_unit_test(gradients__accumulated_scheduled_and_clipped),
        cmocka_unit_test(weights__accumulated_scheduled_and_clipped),
        cmocka_unit_test(proximal__split_equals_central_training),
        cmocka_unit_test(push__that_does_not_come_is_left_out),
        cmocka_unit_test(push__of_who_has_left_is_not_waited_for),
        cmocka_unit_test(push__of_the_wrong_kind_or_not_finite_is_refused),
        cmocka_unit_test(checkpoint__goes_on_to_the_bit),
    };
    return cmocka_run_group_tests_name("pipeline/gradient_round", tests, NULL, NULL);
}
