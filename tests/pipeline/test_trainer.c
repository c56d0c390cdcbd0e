/* What becomes of messages, pushes and versions when not everything is as it should be. */
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

static void open_world(struct world *w, uint32_t n_phones, uint32_t every, uint64_t steps)
{
    struct world_config c = {
        .optim = sgd(0.1f), .n_phones = n_phones, .aggregate_every = every, .steps = steps};
    for (uint32_t i = 0; i < n_phones; i++)
        c.cut[i] = 1 + i % 2;
    fake_now_ns = 1;
    world_open(w, &c);
    world_phase(w, SL_TRAINER_TRAIN);
}

/* One GEMM per layer and matrix over all rows of all devices. */
static void gang__of_eight_makes_as_many_gemms_as_of_one(void **state)
{
    uint64_t gemms[2];
    for (unsigned k = 0; k < 2; k++) {
        struct world w;
        uint32_t n = k ? 8 : 1;
        open_world(&w, n, 8, 0);
        for (uint32_t d = 0; d < n; d++)
            send_one(&w, d, d);
        world_run(&w);
        assert_int_equal(w.step_devices, n);
        gemms[k] = sl_trainer_gemms(w.trainer);
        world_close(&w);
    }
    assert_true(gemms[0] > 0);
    assert_int_equal(gemms[0], gemms[1]);
}

/* Rules L7: a gang's rows are in device order, wherever its devices' messages came by. */
static void lcores__spread_devices_without_changing_a_bit(void **state)
{
    float *g[2];
    double loss[2];
    size_t n = 0;
    for (uint32_t k = 0; k < 2; k++) {
        struct world w;
        struct world_config c = {.optim = adamw(1e-2f),
            .n_phones = 5,
            .cut = {1, 2, 1, 2, 1},
            .aggregate_every = 2,
            .n_lcores = k ? 3 : 1,
            .deterministic = true};
        for (uint32_t d = 0; d < c.n_phones; d++)
            c.lcore[d] = k ? (2 * d + 1) % 3 : 0;
        fake_now_ns = 1;
        world_open(&w, &c);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t s = 0; s < 4; s++) {
            for (uint32_t d = 0; d < c.n_phones; d++)
                send_one(&w, k ? c.n_phones - 1 - d : d, 7 * s + (k ? c.n_phones - 1 - d : d));
            world_run(&w);
        }
        assert_int_equal(w.global_step, 4);
        loss[k] = w.loss;
        g[k] = world_g(&w, &n);
        world_close(&w);
    }
    assert_true(loss[0] == loss[1]);
    assert_memory_equal(g[0], g[1], n * sizeof(float));
    free(g[0]);
    free(g[1]);
}

/* Rules T2: a gang never waits for a device that its lcore has no slot for, however crooked the spread. With
 * a quorum of all and a clock that stands still, a wait for more than can come would be for ever. */
static void lcores__no_split_of_slots_holds_a_gang_up(void **state)
{
    for (uint32_t split = 0; split < 1u << 6; split++) {
        struct world w;
        struct world_config c = {.optim = sgd(0.1f),
            .n_phones = 6,
            .aggregate_every = 100,
            .slots = 2,
            .n_lcores = 2,
            .quorum = 1.0};
        uint64_t steps[6] = {0};
        for (uint32_t d = 0; d < 6; d++) {
            c.cut[d] = 1;
            c.lcore[d] = split >> d & 1;
        }
        fake_now_ns = 1;
        world_open(&w, &c);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t turn = 0; turn < 8; turn++) {
            for (uint32_t i = 0; i < 6; i++) { /* who has waited longest is granted first */
                uint32_t d = (turn * 2 + i) % 6;
                if (phone_can_send(&w.phones[d], w.lcore))
                    send_one(&w, d, d);
            }
            uint64_t before = w.global_step;
            world_run(&w);
            assert_true(w.global_step > before);
            for (uint32_t d = 0; d < 6; d++)
                steps[d] += !w.phones[d].slot;
        }
        for (uint32_t d = 0; d < 6; d++)
            assert_true(steps[d] > 0);
        world_close(&w);
    }
}

/* Session handles are numbers of each lcore's own: the same one on another lcore is another session. */
static void message__by_another_lcore_than_the_session_is_given_back(void **state)
{
    struct world w;
    struct world_config c = {
        .optim = sgd(0.1f), .n_phones = 1, .cut = {1}, .aggregate_every = 8, .n_lcores = 2};
    fake_now_ns = 1;
    world_open(&w, &c);
    world_phase(&w, SL_TRAINER_TRAIN);
    w.phones[0].lcore = 1;
    send_one(&w, 0, 0);
    struct sl_slot *slot = w.phones[0].slot;
    world_run(&w);
    assert_int_equal(slot->outcome.status, SL_RESULT_SKIPPED);
    assert_int_equal(w.global_step, 0);
    world_join(&w, 0); /* and now it is that one's */
    w.phones[0].step--;
    send_one(&w, 0, 0);
    world_run(&w);
    assert_int_equal(w.global_step, 1);
    world_close(&w);
}

static void poison(struct world *w, uint32_t device, float value, uint32_t row)
{
    float *x = (float *)(void *)w->phones[device].slot->data;
    x[(size_t)row * WIDTH + 3] = value;
}

/* Rules T15: the others' losses and weights are those of a gang that the poisoner never was in. */
static void poisoned(float value)
{
    struct world bad, good;
    open_world(&bad, 3, 8, 0);
    for (uint32_t d = 0; d < 3; d++)
        send_one(&bad, d, d);
    poison(&bad, 1, value, 5);
    uint8_t *untouched = malloc(12 * WIDTH * 4);
    memcpy(untouched, bad.phones[1].slot->data, 12 * WIDTH * 4);
    struct sl_slot *slot = bad.phones[1].slot;
    world_run(&bad);
    assert_int_equal(bad.refused, 1);
    assert_int_equal(slot->outcome.status, SL_RESULT_REFUSED);
    assert_memory_equal(untouched, slot->data, 12 * WIDTH * 4);
    assert_int_equal(bad.step_devices, 2);
    free(untouched);

    open_world(&good, 3, 8, 0);
    send_one(&good, 0, 0);
    send_one(&good, 2, 2);
    fake_now_ns += SL_GANG_FIRST_DEADLINE_NS * 2;
    world_run(&good);
    assert_int_equal(good.step_devices, 0); /* two of three are below a quorum of three quarters */
    struct sl_command *c = sl_trainer_command(good.trainer);
    c->kind = SL_COMMAND_LEAVE;
    c->device = 1;
    sl_trainer_post(good.trainer, c);
    world_run(&good);
    assert_int_equal(good.step_devices, 2);
    assert_memory_equal(&bad.loss, &good.loss, sizeof good.loss);
    struct sl_block a = sl_adapter_block(sl_trainer_adapter(bad.trainer), 3);
    struct sl_block b = sl_adapter_block(sl_trainer_adapter(good.trainer), 3);
    assert_memory_equal(a.data, b.data, a.n * sizeof *a.data);
    world_close(&bad);
    world_close(&good);
}

static void content__nan_or_absurd_rows_leave_the_gang_alone(void **state)
{
    poisoned(NAN);
    poisoned(INFINITY);
    poisoned(1e20f); /* its square overflows */
    poisoned(1e7f);
}

static void content__a_message_absurd_as_a_whole_is_refused(void **state)
{
    struct world w;
    open_world(&w, 3, 8, 0);
    for (uint32_t d = 0; d < 3; d++)
        send_one(&w, d, d);
    float *x = (float *)(void *)w.phones[2].slot->data;
    for (uint32_t i = 0; i < 12 * WIDTH; i++)
        x[i] *= 1e6f;
    world_run(&w);
    assert_int_equal(w.refused, 1);
    assert_int_equal(w.step_devices, 2);
    world_close(&w);
}

static void content__a_target_beyond_the_vocabulary_is_refused(void **state)
{
    struct world w;
    open_world(&w, 2, 8, 0);
    send_one(&w, 0, 0);
    send_one(&w, 1, 1);
    struct sl_slot *s = w.phones[0].slot;
    ((uint32_t *)(void *)(s->data + (size_t)s->grid.tensor_units * 64))[11] = VOCAB;
    world_run(&w);
    assert_int_equal(w.refused, 1);
    assert_int_equal(w.step_devices, 1);
    world_close(&w);
}

static void content__lengths_that_are_not_the_granted_rows_are_refused(void **state)
{
    struct world w;
    open_world(&w, 1, 8, 0);
    send_one(&w, 0, 0);
    w.phones[0].slot->request.len[0] = 40;
    world_run(&w);
    assert_int_equal(w.refused, 1);
    assert_int_equal(w.global_step, 0);
    world_close(&w);
}

static void gradient__not_finite_skips_the_step(void **state)
{
    struct world w;
    open_world(&w, 1, 8, 0);
    /* An adapter that overflows in the last block: the activations that came are innocent. */
    struct sl_block b = sl_adapter_block(sl_trainer_adapter(w.trainer), 3);
    float kept = b.data[0];
    b.data[0] = NAN;
    for (uint32_t i = 0; i < SL_TRAINER_SKIPS_MAX; i++) {
        send_one(&w, 0, i);
        struct sl_slot *s = w.phones[0].slot;
        world_run(&w);
        assert_int_equal(s->outcome.status, SL_RESULT_SKIPPED);
    }
    assert_int_equal(w.skipped, SL_TRAINER_SKIPS_MAX - 1);
    assert_int_equal(w.diverged, 1);
    assert_int_equal(w.global_step, 0);
    b.data[0] = kept;
    send_one(&w, 0, 3);
    world_run(&w);
    assert_int_equal(w.global_step, 1);
    world_close(&w);
}

/* The edge's own copy overflows by its optimiser: G, which the checkpoint holds, stays finite. */
static void aggregate__that_is_not_finite_keeps_the_last_version(void **state)
{
    struct world w;
    open_world(&w, 1, 1, 0);
    send_one(&w, 0, 0);
    sl_trainer_turn(w.trainer);
    sl_adapter_block(sl_trainer_adapter(w.trainer), 3).data[0] = INFINITY;
    world_run(&w);
    assert_int_equal(w.diverged, 1);
    assert_int_equal(w.version, 0);
    assert_true(isfinite(w.g[3 * sl_adapter_block(sl_trainer_adapter(w.trainer), 3).n]));
    world_close(&w);
}

/* Rules T12: applied once. */
static void step__already_applied_is_not_applied_again(void **state)
{
    struct world w;
    open_world(&w, 1, 8, 0);
    send_one(&w, 0, 0);
    world_run(&w);
    assert_int_equal(w.global_step, 1);
    w.phones[0].step = 0; /* its gradient was lost: the device does step 1 again */
    send_one(&w, 0, 0);
    struct sl_slot *s = w.phones[0].slot;
    world_run(&w);
    assert_int_equal(s->outcome.status, SL_RESULT_SKIPPED);
    assert_int_equal(w.global_step, 1);
    world_close(&w);
}

static void message__of_an_older_session_is_not_trained_on(void **state)
{
    struct world w;
    open_world(&w, 1, 8, 0);
    send_one(&w, 0, 0);
    w.phones[0].slot->session = 5;
    struct sl_slot *s = w.phones[0].slot;
    world_run(&w);
    assert_int_equal(s->outcome.status, SL_RESULT_SKIPPED);
    assert_int_equal(w.global_step, 0);
    world_close(&w);
}

static void leave__gives_back_the_waiting_message_and_frees_the_gang(void **state)
{
    struct world w;
    open_world(&w, 3, 8, 0);
    for (uint32_t d = 0; d < 3; d += 2)
        send_one(&w, d, d);
    struct sl_slot *s = w.phones[2].slot;
    world_run(&w);
    assert_int_equal(w.global_step, 0);
    for (uint32_t d = 1; d < 3; d++) {
        struct sl_command *c = sl_trainer_command(w.trainer);
        c->kind = SL_COMMAND_LEAVE;
        c->device = d;
        sl_trainer_post(w.trainer, c);
    }
    world_run(&w);
    assert_int_equal(s->outcome.status, SL_RESULT_SKIPPED);
    assert_int_equal(w.global_step, 1);
    assert_int_equal(w.step_devices, 1);
    world_close(&w);
}

/* A device that comes late for the boundary's gang joins the next one, where it is told to push; it gets the
 * present G, and its work goes in at the next aggregation. */
static void push__of_a_latecomer_goes_into_the_next_aggregation(void **state)
{
    struct world w;
    open_world(&w, 4, 2, 0);
    for (uint32_t s = 0; s < 2; s++) {
        for (uint32_t d = 0; d < 3; d++)
            send_one(&w, d, 4 * s + d);
        fake_now_ns += 2 * SL_GANG_FIRST_DEADLINE_NS;
        world_run(&w);
    }
    assert_int_equal(w.version, 1); /* of the three that were there */
    assert_int_equal(w.phones[3].version, 0);
    for (uint32_t d = 0; d < 4; d++)
        send_one(&w, d, 20 + d);
    world_run(&w);
    assert_int_equal(w.installs, 1);
    assert_int_equal(w.phones[3].version, 1);
    assert_int_equal(w.version, 1);
    for (uint32_t d = 0; d < 4; d++)
        send_one(&w, d, 30 + d);
    world_run(&w);
    assert_int_equal(w.version, 2);
    for (uint32_t d = 0; d < 4; d++)
        assert_int_equal(w.phones[d].version, 2);
    assert_true(w.factor_error > 0 && w.factor_error < 1);
    world_close(&w);
}

static void push__from_a_version_no_longer_kept_is_refused(void **state)
{
    struct world w;
    open_world(&w, 1, 1, 0);
    for (uint32_t s = 0; s < SL_TRAINER_HISTORY; s++) {
        send_one(&w, 0, s);
        world_run(&w);
    }
    assert_int_equal(w.version, SL_TRAINER_HISTORY);
    w.phones[0].version = 1; /* the oldest kept */
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.push_refused, 0);
    assert_int_equal(w.installs, 1);
    w.phones[0].version = 0;
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.push_refused, 1);
    w.phones[0].version = w.version + 1; /* one that does not exist yet */
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.push_refused, 2);
    world_close(&w);
}

static void push__not_finite_or_out_of_bounds_is_refused(void **state)
{
    static const float values[] = {NAN, INFINITY, 1e9f};
    for (unsigned i = 0; i < 3; i++) {
        struct world w;
        open_world(&w, 2, 1, 0);
        send_one(&w, 0, 0);
        send_one(&w, 1, 1);
        sl_adapter_block(w.phones[1].adapter, 0).data[7] = values[i];
        float before = w.g[7];
        world_run(&w);
        assert_int_equal(w.push_refused, 1);
        assert_int_equal(w.version, 1); /* the aggregation did not wait for it for ever */
        assert_true(fabsf(w.g[7] - before) < 1);
        world_close(&w);
    }
}

static void push__may_not_claim_more_tokens_than_its_gradients_had(void **state)
{
    float g[2];
    for (unsigned greedy = 0; greedy < 2; greedy++) {
        struct world w;
        open_world(&w, 3, 1, 0);
        for (uint32_t d = 0; d < 3; d++)
            send_one(&w, d, d);
        if (greedy)
            w.phones[0].tokens_since = 1000000;
        world_run(&w);
        assert_int_equal(w.version, 1);
        g[greedy] = w.g[300];
        world_close(&w);
    }
    assert_true(g[0] == g[1]);
}

/* Nobody asked for it, and there is no newer G: the only device of the run would wait for ever. */
static void push__unasked_of_the_only_device_makes_a_version(void **state)
{
    struct world w;
    open_world(&w, 1, 8, 0);
    send_one(&w, 0, 0);
    world_run(&w);
    assert_int_equal(w.version, 0);
    world_push(&w, &w.phones[0]);
    world_run(&w);
    assert_int_equal(w.version, 1);
    assert_int_equal(w.phones[0].version, 1);
    send_one(&w, 0, 1);
    world_run(&w);
    assert_int_equal(w.global_step, 2);
    world_close(&w);
}

/* The connection broke after the push: the device comes back with the same work and pushes it again. It
 * counts once. */
static void push__repeated_after_a_new_connection_counts_once(void **state)
{
    float g[2];
    for (unsigned again = 0; again < 2; again++) {
        struct world w;
        open_world(&w, 3, 2, 0);
        for (uint32_t d = 0; d < 3; d++)
            send_one(&w, d, d);
        world_run(&w);
        uint64_t tokens = w.phones[0].tokens_since;
        assert_true(tokens > 0);
        world_push(&w, &w.phones[0]);
        world_run(&w);
        if (again) {
            world_join(&w, 0);
            w.phones[0].tokens_since = tokens;
            world_push(&w, &w.phones[0]);
            world_run(&w);
        }
        for (uint32_t d = 1; d < 3; d++)
            send_one(&w, d, 10 + d);
        world_run(&w);
        assert_int_equal(w.version, 1);
        g[again] = w.g[300];
        world_close(&w);
    }
    assert_true(g[0] == g[1]);
}

static void push__that_never_comes_is_given_up_at_its_deadline(void **state)
{
    struct world w;
    open_world(&w, 2, 1, 0);
    send_one(&w, 0, 0);
    send_one(&w, 1, 1);
    while (sl_trainer_turn(w.trainer))
        ;
    uint32_t handle;
    while (sl_ring_spsc_pop(w.lcore[0].returned, &handle, 1)) {
        struct phone *p = &w.phones[sl_slot_get(w.lcore[0].slots, handle)->device];
        phone_receive(p);
        if (p->index == 0)
            world_push(&w, p); /* the other one hangs */
    }
    world_run(&w);
    assert_int_equal(w.version, 0);
    fake_now_ns += SL_PUSH_TIMEOUT_NS;
    world_run(&w);
    assert_int_equal(w.version, 1);
    assert_int_equal(w.phones[0].version, 1);
    assert_int_equal(w.phones[1].version, 0);
    world_push(&w, &w.phones[1]); /* it wakes up */
    world_run(&w);
    assert_int_equal(w.installs, 1);
    assert_int_equal(w.phones[1].version, 1);
    world_close(&w);
}

/* More devices than slots: while the pushes of a boundary are on their way, the others' messages are computed
 * as the gang that they are. Where each device has a slot of its own, nothing is. */
static void aggregate__lets_others_train_while_pushes_are_awaited(void **state)
{
    for (uint32_t slots = 4; slots <= 6; slots += 2) {
        struct world w;
        struct world_config c = {
            .optim = sgd(0.1f), .n_phones = 6, .aggregate_every = 1, .slots = slots, .quorum = 0.25};
        for (uint32_t d = 0; d < 6; d++)
            c.cut[d] = 1 + d % 2;
        fake_now_ns = 1;
        world_open(&w, &c);
        world_phase(&w, SL_TRAINER_TRAIN);
        send_one(&w, 0, 0);
        send_one(&w, 1, 1);
        fake_now_ns += 2 * SL_GANG_FIRST_DEADLINE_NS;
        uint32_t handle[2];
        while (sl_trainer_turn(w.trainer))
            ;
        assert_int_equal(sl_ring_spsc_pop(w.lcore[0].returned, handle, 2), 2);
        for (uint32_t d = 0; d < 2; d++) {
            assert_int_equal(w.phones[d].slot->outcome.flags, SL_RESULT_BOUNDARY);
            phone_receive(&w.phones[d]);
        }
        send_one(&w, 2, 2);
        send_one(&w, 3, 3);
        world_run(&w);
        assert_int_equal(w.global_step, slots < 6 ? 2 : 1);
        assert_int_equal(w.version, 0);
        for (uint32_t d = 0; d < 2; d++)
            world_push(&w, &w.phones[d]);
        world_run(&w);
        assert_true(w.version > 0);
        assert_int_equal(w.phones[0].version, 1);
        assert_int_equal(w.phones[1].version, 1);
        for (uint32_t s = 0; s < 4; s++) { /* and on it goes, nobody waits for ever */
            uint64_t before = w.global_step;
            for (uint32_t d = 0; d < 6; d++)
                if (phone_can_send(&w.phones[d], w.lcore))
                    send_one(&w, d, 6 * s + d);
            fake_now_ns += 1000000000000;
            world_run(&w);
            assert_true(w.global_step > before);
        }
        assert_int_equal(w.push_refused, 0);
        world_close(&w);
    }
}

static void finish__aggregates_once_more_and_ends(void **state)
{
    struct world w;
    open_world(&w, 2, 100, 0);
    for (uint32_t s = 0; s < 2; s++) {
        if (s == 1) {
            struct sl_command *c = sl_trainer_command(w.trainer);
            c->kind = SL_COMMAND_FINISH;
            sl_trainer_post(w.trainer, c);
        }
        send_one(&w, 0, 2 * s);
        send_one(&w, 1, 2 * s + 1);
        world_run(&w);
    }
    assert_int_equal(w.finished, 1);
    assert_int_equal(w.version, 1);
    send_one(&w, 0, 9);
    struct sl_slot *slot = w.phones[0].slot;
    world_run(&w);
    assert_int_equal(slot->outcome.status, SL_RESULT_SKIPPED);
    world_close(&w);
}

static void finish__at_a_boundary_ends_at_once(void **state)
{
    struct world w;
    open_world(&w, 1, 1, 0);
    send_one(&w, 0, 0);
    world_run(&w);
    struct sl_command *c = sl_trainer_command(w.trainer);
    c->kind = SL_COMMAND_FINISH;
    sl_trainer_post(w.trainer, c);
    world_run(&w);
    assert_int_equal(w.finished, 1);
    assert_int_equal(w.version, 1);
    world_close(&w);
}

/* Forward only, by window, and the same numbers as a whole half has. */
static void eval__gives_each_window_its_loss(void **state)
{
    struct world w;
    struct central c;
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct sl_optim_config none = sgd(0);
    world_open(
        &w, &(struct world_config){.optim = sgd(0.1f), .n_phones = 1, .cut = {2}, .aggregate_every = 1});
    central_init(&c, w.model, &lora, &none, 64);
    world_phase(&w, SL_TRAINER_EVAL);
    const uint32_t *windows[3], len[3] = {17, 9, 2};
    for (uint32_t i = 0; i < 3; i++)
        windows[i] = text_window(i, len[i]);
    phone_send(&w.phones[0], w.lcore, windows, len, 3, SL_REQUEST_EVAL);
    struct sl_slot *s = w.phones[0].slot;
    world_run(&w);
    assert_int_equal(s->outcome.status, SL_RESULT_EVAL);
    assert_int_equal(w.n_evals, 3);
    for (uint32_t i = 0; i < 3; i++) {
        double loss = central_step(&c, &windows[i], &len[i], 1);
        assert_true(fabs(w.eval_nll[i] / (len[i] - 1) - loss) <= 1e-6 * loss);
    }
    assert_int_equal(w.global_step, 0);
    central_free(&c);
    world_close(&w);
}

/* Two messages fill a batch; the third waits for the next one while its device leaves. */
static void eval__message_of_a_device_that_left_is_given_back(void **state)
{
    enum { LONG = 60 };
    struct world w;
    world_open(&w,
        &(struct world_config){.optim = sgd(0.1f), .n_phones = 3, .cut = {2, 2, 2}, .aggregate_every = 1});
    world_phase(&w, SL_TRAINER_EVAL);
    for (uint32_t d = 0; d < 3; d++) {
        const uint32_t *windows[2] = {text_window(2 * d, LONG), text_window(2 * d + 1, LONG)};
        const uint32_t len[2] = {LONG, LONG};
        phone_send(&w.phones[d], w.lcore, windows, len, 2, SL_REQUEST_EVAL);
    }
    struct sl_slot *s = w.phones[2].slot;
    assert_true(sl_trainer_turn(w.trainer));
    struct sl_command *c = sl_trainer_command(w.trainer);
    c->kind = SL_COMMAND_LEAVE;
    c->device = 2;
    sl_trainer_post(w.trainer, c);
    world_run(&w);
    assert_int_equal(s->outcome.status, SL_RESULT_SKIPPED);
    assert_int_equal(w.n_evals, 4);
    world_close(&w);
}

/* A run that was killed after step 6 of 10 and resumed from its checkpoint ends with the bytes of one that
 * was not. */
static void checkpoint__resumes_bit_for_bit(void **state)
{
    float *g[2];
    size_t n = 0;
    for (unsigned killed = 0; killed < 2; killed++) {
        struct world w;
        struct world_config config = {
            .optim = adamw(1e-2f), .n_phones = 2, .cut = {1, 2}, .aggregate_every = 2, .steps = 10};
        world_open(&w, &config);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t s = 0; s < 10; s++) {
            if (killed && s == 6) {
                struct sl_checkpoint *c = world_checkpoint(&w);
                assert_int_equal(c->global_step, 6);
                assert_int_equal(c->n_devices, 2);
                assert_int_equal(c->devices[0].last_step, 6);
                struct phone before[2] = {w.phones[0], w.phones[1]};
                w.n_phones = 0; /* the phones live on */
                world_close(&w);
                config.resume = c;
                world_open(&w, &config);
                assert_int_equal(w.global_step, 0);
                assert_int_equal(w.version, 3);
                for (uint32_t d = 0; d < 2; d++) {
                    for (uint32_t l = 0; l < before[d].cut; l++) {
                        struct sl_moments swap = w.phones[d].moments[l];
                        w.phones[d].moments[l] = before[d].moments[l];
                        before[d].moments[l] = swap;
                    }
                    w.phones[d].step = before[d].step;
                    phone_free(&before[d]);
                }
                sl_checkpoint_clear(c);
                free(c);
                world_phase(&w, SL_TRAINER_TRAIN);
            }
            send_one(&w, 0, 2 * s);
            send_one(&w, 1, 2 * s + 1);
            world_run(&w);
            assert_int_equal(w.global_step, s + 1);
        }
        g[killed] = world_g(&w, &n);
        world_close(&w);
    }
    assert_memory_equal(g[0], g[1], n * sizeof(float));
    free(g[0]);
    free(g[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gang__of_eight_makes_as_many_gemms_as_of_one),
        cmocka_unit_test(lcores__spread_devices_without_changing_a_bit),
        cmocka_unit_test(lcores__no_split_of_slots_holds_a_gang_up),
        cmocka_unit_test(message__by_another_lcore_than_the_session_is_given_back),
        cmocka_unit_test(content__nan_or_absurd_rows_leave_the_gang_alone),
        cmocka_unit_test(content__a_message_absurd_as_a_whole_is_refused),
        cmocka_unit_test(content__a_target_beyond_the_vocabulary_is_refused),
        cmocka_unit_test(content__lengths_that_are_not_the_granted_rows_are_refused),
        cmocka_unit_test(gradient__not_finite_skips_the_step),
        cmocka_unit_test(aggregate__that_is_not_finite_keeps_the_last_version),
        cmocka_unit_test(step__already_applied_is_not_applied_again),
        cmocka_unit_test(message__of_an_older_session_is_not_trained_on),
        cmocka_unit_test(leave__gives_back_the_waiting_message_and_frees_the_gang),
        cmocka_unit_test(push__of_a_latecomer_goes_into_the_next_aggregation),
        cmocka_unit_test(push__from_a_version_no_longer_kept_is_refused),
        cmocka_unit_test(push__not_finite_or_out_of_bounds_is_refused),
        cmocka_unit_test(push__may_not_claim_more_tokens_than_its_gradients_had),
        cmocka_unit_test(push__unasked_of_the_only_device_makes_a_version),
        cmocka_unit_test(push__repeated_after_a_new_connection_counts_once),
        cmocka_unit_test(push__that_never_comes_is_given_up_at_its_deadline),
        cmocka_unit_test(aggregate__lets_others_train_while_pushes_are_awaited),
        cmocka_unit_test(finish__aggregates_once_more_and_ends),
        cmocka_unit_test(finish__at_a_boundary_ends_at_once),
        cmocka_unit_test(eval__gives_each_window_its_loss),
        cmocka_unit_test(eval__message_of_a_device_that_left_is_given_back),
        cmocka_unit_test(checkpoint__resumes_bit_for_bit),
    };
    return cmocka_run_group_tests_name("pipeline/trainer", tests, NULL, NULL);
}
