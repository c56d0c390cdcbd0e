/* Asynchronous gangs (rules L8). */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 13 };

static void send_one(struct world *w, uint32_t device, uint32_t window)
{
    const uint32_t *text = text_window(window, WINDOW), len = WINDOW;
    phone_send(&w->phones[device], w->lcore, &text, &len, 1, SL_REQUEST_TRAIN);
}

static void open_world_of(struct world *w, struct sl_optim_config optim, uint32_t n_phones, uint32_t every,
    uint32_t staleness, uint64_t steps)
{
    struct world_config c = {.optim = optim,
        .n_phones = n_phones,
        .aggregate_every = every,
        .async = true,
        .staleness = staleness,
        .steps = steps};
    for (uint32_t i = 0; i < n_phones; i++)
        c.cut[i] = 1 + i % 2;
    fake_now_ns = 1;
    world_open(w, &c);
    world_phase(w, SL_TRAINER_TRAIN);
}

static void open_world(struct world *w, uint32_t n_phones, uint32_t every, uint32_t staleness, uint64_t steps)
{
    open_world_of(w, sgd(0.1f), n_phones, every, staleness, steps);
}

static void gang__is_whatever_is_ready(void **state)
{
    struct world w;
    open_world(&w, 4, 100, 8, 0);
    send_one(&w, 2, 0);
    world_run(&w);
    assert_int_equal(w.global_step, 1);
    assert_int_equal(w.step_devices, 1);
    for (uint32_t d = 0; d < 3; d++)
        send_one(&w, d, d);
    world_run(&w);
    assert_int_equal(w.global_step, 2);
    assert_int_equal(w.step_devices, 3);
    world_close(&w);
}

/* One device is central training, as it is with synchronous gangs. */
static void one_device__is_central_training(void **state)
{
    struct world w;
    struct central c;
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct sl_optim_config optim = sgd(0.1f);
    open_world(&w, 1, 2, 4, 0);
    central_init(&c, w.model, &lora, &optim, 64);
    for (uint32_t s = 0; s < 8; s++) {
        const uint32_t *text = text_window(s, WINDOW), len = WINDOW;
        send_one(&w, 0, s);
        world_run(&w);
        assert_true(w.loss == central_step(&c, &text, &len, 1));
    }
    assert_int_equal(w.version, 4);
    size_t block = sl_adapter_block(c.adapter, 0).n;
    for (uint32_t l = 0; l < LAYERS; l++)
        assert_memory_equal(w.g + l * block, sl_adapter_block(c.adapter, l).data, block * sizeof(float));
    central_free(&c);
    world_close(&w);
}

/* Each push makes a version, and only its device gets that. */
static void push__is_merged_as_it_comes(void **state)
{
    struct world w;
    open_world(&w, 3, 2, 8, 0);
    for (uint32_t s = 0; s < 2; s++) {
        send_one(&w, 0, s);
        world_run(&w);
    }
    assert_int_equal(w.version, 1);
    assert_int_equal(w.phones[0].version, 1);
    assert_int_equal(w.phones[1].version, 0);
    send_one(&w, 1, 3);
    world_run(&w);
    assert_int_equal(w.version, 1); /* only its first step */
    send_one(&w, 1, 4);
    world_run(&w);
    assert_int_equal(w.version, 2);
    assert_int_equal(w.phones[1].version, 2);
    assert_int_equal(w.phones[0].version, 1);
    assert_int_equal(w.phones[2].version, 0);
    assert_int_equal(w.push_refused, 0);
    world_close(&w);
}

/* A slow device among fast ones: it is told to push when half of the bound is used up, long before its own
 * aggregate_every. */
static void push__is_asked_for_at_half_of_the_bound(void **state)
{
    struct world w;
    open_world(&w, 2, 2, 4, 0);
    send_one(&w, 1, 0);
    world_run(&w);
    for (uint32_t s = 0; s < 4; s++) {
        send_one(&w, 0, s);
        world_run(&w);
    }
    assert_int_equal(w.version, 2);
    assert_int_equal(w.phones[1].version, 0);
    send_one(&w, 1, 1);
    world_run(&w);
    assert_int_equal(w.version, 3);
    assert_int_equal(w.phones[1].version, 3);
    world_close(&w);
}

/* Beyond the bound a message is refused; within it, to the last version, taken. */
static void message__beyond_the_bound_is_refused(void **state)
{
    enum { BOUND = 3 };
    for (uint32_t behind = BOUND; behind <= BOUND + 1; behind++) {
        struct world w;
        open_world(&w, 2, 1, BOUND, 0);
        for (uint32_t s = 0; s < behind; s++) {
            send_one(&w, 0, s);
            world_run(&w);
        }
        assert_int_equal(w.version, behind);
        send_one(&w, 1, 0);
        struct sl_slot *slot = w.phones[1].slot;
        uint64_t before = w.global_step;
        world_run(&w);
        assert_int_equal(w.stale, behind > BOUND);
        assert_int_equal(slot->outcome.status, behind > BOUND ? SL_OUTCOME_STALE : SL_RESULT_GRADIENT);
        assert_int_equal(w.global_step, before + (behind <= BOUND));
        if (behind > BOUND) { /* it takes the present G, says so, and goes on */
            phone_install(&w.phones[1], w.g, w.version);
            struct sl_command *c = sl_trainer_command(w.trainer);
            c->kind = SL_COMMAND_SENT;
            c->device = 1;
            c->version = w.version;
            sl_trainer_post(w.trainer, c);
            send_one(&w, 1, 0);
            world_run(&w);
            assert_int_equal(w.global_step, before + 1);
            assert_int_equal(w.stale, 1);
        }
        world_close(&w);
    }
}

static void push__beyond_the_bound_is_refused(void **state)
{
    struct world w;
    open_world(&w, 2, 1, 2, 0);
    for (uint32_t s = 0; s < 3; s++) {
        send_one(&w, 0, s);
        world_run(&w);
    }
    w.phones[0].version = 0; /* three behind */
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.push_refused, 1);
    assert_int_equal(w.version, 3);
    w.phones[0].version = 1; /* two */
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.push_refused, 1);
    world_close(&w);
}

/* At the end everybody who has trained since its version pushes, whether it is at a boundary or not, and what
 * still comes is not trained on. */
static void finish__takes_everybody_in(void **state)
{
    struct world w;
    open_world(&w, 4, 100, 8, 3);
    for (uint32_t d = 0; d < 2; d++) {
        send_one(&w, d, d);
        world_run(&w);
    }
    size_t bytes = LAYERS * sl_adapter_block(w.phones[0].adapter, 0).n * sizeof(float);
    float *before = malloc(bytes);
    memcpy(before, w.g, bytes);
    send_one(&w, 2, 2); /* the last step */
    world_run(&w);
    assert_int_equal(w.global_step, 3);
    assert_int_equal(w.finished, 0);
    assert_int_equal(w.version, 0);
    for (uint32_t d = 0; d < 2; d++) { /* they go on, and are told */
        send_one(&w, d, 10 + d);
        world_run(&w);
    }
    assert_int_equal(w.finished, 1);
    assert_int_equal(w.version, 1);
    assert_int_equal(w.global_step, 3);
    for (uint32_t d = 0; d < 3; d++)
        assert_int_equal(w.phones[d].version, 1);
    assert_memory_not_equal(w.g, before, bytes / LAYERS); /* block 0: the devices' alone */
    free(before);
    world_close(&w);
}

static void finish__does_not_wait_for_who_is_gone(void **state)
{
    struct world w;
    open_world(&w, 2, 100, 8, 2);
    send_one(&w, 0, 0);
    world_run(&w);
    send_one(&w, 1, 1);
    world_run(&w);
    assert_int_equal(w.finished, 0);
    struct sl_command *c = sl_trainer_command(w.trainer);
    c->kind = SL_COMMAND_LEAVE;
    c->device = 0;
    sl_trainer_post(w.trainer, c);
    world_run(&w);
    assert_int_equal(w.finished, 1);
    assert_int_equal(w.version, 1);
    world_close(&w);
}

/* Many steps of devices that are quick and slow: the loss falls, nothing is refused within the bound, and
 * after the end everybody has the same G. */
static void run__of_uneven_devices_learns(void **state)
{
    enum { STEPS = 300, MEAN = 30 };
    struct world w;
    double first = 0, last = 0;
    open_world_of(&w, adamw(1e-2f), 6, 2, 24, STEPS);
    for (uint32_t turn = 0; !w.finished; turn++) {
        assert_true(turn < 10 * STEPS);
        for (uint32_t d = 0; d < 6; d++)
            if (turn % (1 + d) == 0 && !w.finished)
                send_one(&w, d, (turn + d) % 12);
        world_run(&w);
        first += w.global_step <= MEAN ? w.loss : 0;
        last += w.global_step > STEPS - MEAN && !w.finished ? w.loss : 0;
    }
    assert_int_equal(w.global_step, STEPS);
    assert_true(last < 0.95 * first);
    assert_int_equal(w.stale, 0);
    assert_int_equal(w.push_refused, 0);
    assert_true(w.version > STEPS / 4);
    world_close(&w);
}

/* A gang that holds two messages, and up to eight devices that are always ready again: none is ever more than
 * a message from an equal share, and none that came late makes up for what it missed. */
static void gang__shares_its_places(void **state)
{
    enum { PHONES = 8, GANGS = 120 };
    for (uint32_t policy = 0; policy < 2; policy++) {
        struct world w;
        struct world_config c = {.optim = sgd(0.01f),
            .n_phones = PHONES,
            .aggregate_every = 1000,
            .async = policy,
            .staleness = 8,
            .slots = PHONES,
            .gang_rows = 2 * (WINDOW - 1)};
        uint64_t base[PHONES] = {0};
        for (uint32_t d = 0; d < PHONES; d++)
            c.cut[d] = 1 + d % 2;
        fake_now_ns = 1;
        world_open(&w, &c);
        for (uint32_t d = PHONES - 3; d < PHONES; d++) { /* they come later */
            struct sl_command *leave = sl_trainer_command(w.trainer);
            leave->kind = SL_COMMAND_LEAVE;
            leave->device = d;
            sl_trainer_post(w.trainer, leave);
        }
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t gang = 0; gang < GANGS; gang++) {
            uint32_t present = gang < GANGS / 2 ? PHONES - 3 : PHONES;
            if (gang == GANGS / 2)
                for (uint32_t d = 0; d < PHONES; d++) {
                    base[d] = w.phones[d].step - (w.phones[d].slot != NULL);
                    if (d >= PHONES - 3)
                        world_join(&w, d);
                }
            for (uint32_t d = 0; d < present; d++)
                if (!w.phones[d].slot)
                    send_one(&w, d, gang);
            for (uint64_t before = w.global_step; w.global_step == before;)
                assert_true(world_turn(&w));
            assert_int_equal(w.step_devices, 2);
            uint64_t least = UINT64_MAX, most = 0;
            for (uint32_t d = 0; d < present; d++) {
                uint64_t served = w.phones[d].step - (w.phones[d].slot != NULL) - base[d];
                least = served < least ? served : least;
                most = served > most ? served : most;
            }
            assert_true(most - least <= 1 + (gang >= GANGS / 2));
        }
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gang__is_whatever_is_ready),
        cmocka_unit_test(one_device__is_central_training),
        cmocka_unit_test(push__is_merged_as_it_comes),
        cmocka_unit_test(push__is_asked_for_at_half_of_the_bound),
        cmocka_unit_test(message__beyond_the_bound_is_refused),
        cmocka_unit_test(push__beyond_the_bound_is_refused),
        cmocka_unit_test(finish__takes_everybody_in),
        cmocka_unit_test(finish__does_not_wait_for_who_is_gone),
        cmocka_unit_test(gang__shares_its_places),
        cmocka_unit_test(run__of_uneven_devices_learns),
    };
    return cmocka_run_group_tests_name("pipeline/async", tests, NULL, NULL);
}
