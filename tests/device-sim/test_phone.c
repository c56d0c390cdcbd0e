/* The phone's state machine against an edge that the test plays, on a virtual clock, with a small random
 * model. */
#include "device-sim/device/phone.h"

#include "tests/wire/test.h"

#include <math.h>
#include <stdlib.h>

enum { SEQ = 9, ROWS = SEQ - 1, BATCH = 2, TRAIN_WINDOWS = 5, HELD_OUT = 11, VOCAB = 40, CUT = 2 };
static const uint64_t ms = 1000000;
static const double modelled_s = 0.010; /* forward; backward twice that */

struct world {
    struct sl_model *model;
    struct sl_phone phone;
    uint32_t train[SEQ * TRAIN_WINDOWS], held_out[SEQ * HELD_OUT];
    uint8_t messages[2 << 16], gradient[1 << 14];
    float workspace[1 << 14];
    float *g; /* the edge's adapter of [0, CUT) */
    size_t g_floats;
    uint64_t now;
    /* what the phone asked for */
    unsigned hellos, pulls, pushes, phase_dones, requests, sends, drops, jobs, leaves;
    struct {
        uint64_t last_step, run, version;
        uint32_t held_out;
    } hello;
    struct {
        Sluice__AdapterKind kind;
        uint64_t version, tokens, step;
        float *data;
    } push;
    unsigned moments; /* of blocks, given to the edge: the last one */
    uint32_t moments_block;
    uint64_t moments_step;
    uint32_t cut; /* that the edge says */
    Sluice__Aggregation aggregation;
    uint32_t accumulate;
    Sluice__Phase done_phase;
};

static int op_control(void *app, struct sl_phone *p, const Sluice__Envelope *e)
{
    struct world *w = app;

    switch (e->body_case) {
    case SLUICE__ENVELOPE__BODY_HELLO:
        w->hellos++;
        w->hello.last_step = e->hello->last_step;
        w->hello.run = e->hello->run;
        w->hello.version = e->hello->adapter_version;
        w->hello.held_out = e->hello->held_out_windows;
        break;
    case SLUICE__ENVELOPE__BODY_ADAPTER_PULL:
        w->pulls++;
        break;
    case SLUICE__ENVELOPE__BODY_PHASE_DONE:
        w->phase_dones++;
        w->done_phase = e->phase_done->phase;
        break;
    default:
        break;
    }
    return 0;
}

static int op_push(void *app, struct sl_phone *p, const struct sl_adapter_transfer *t)
{
    struct world *w = app;

    if (t->kind == SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS) {
        w->moments++;
        w->moments_block = t->first;
        w->moments_step = t->step;
        assert_int_equal(t->last, t->first + 1);
        assert_int_equal(t->n, 2 * w->g_floats / CUT);
        return 0;
    }
    w->pushes++;
    w->push.kind = t->kind;
    w->push.version = t->version;
    w->push.tokens = t->tokens;
    w->push.step = t->step;
    assert_int_equal(t->first, 0);
    assert_int_equal(t->last, p->cut);
    assert_int_equal(t->n, w->g_floats / CUT * p->cut);
    memcpy(w->push.data, t->data, t->n * sizeof(float));
    return 0;
}

static void op_install(void *app, struct sl_phone *p, const Sluice__Welcome *welcome)
{
}

static void op_request(void *app, struct sl_phone *p)
{
    ((struct world *)app)->requests++;
}

static void op_send(void *app, struct sl_phone *p)
{
    ((struct world *)app)->sends++;
}

static void op_drop(void *app, struct sl_phone *p)
{
    ((struct world *)app)->drops++;
}

static void op_compute(void *app, struct sl_phone *p)
{
    ((struct world *)app)->jobs++;
}

static double op_modelled_s(void *app, struct sl_phone *p, const struct sl_request *r, bool backward)
{
    return backward ? 2 * modelled_s : modelled_s;
}

static void op_leave(void *app, struct sl_phone *p, const char *text)
{
    ((struct world *)app)->leaves++;
}

static const struct sl_phone_ops ops = {
    op_control, op_push, op_install, op_request, op_send, op_drop, op_compute, op_modelled_s, NULL, op_leave};

static uint8_t *message(struct world *w)
{
    return w->messages + w->phone.request.step % 2 * (sizeof(w->messages) / 2);
}

static struct world *setup(void)
{
    struct world *w = calloc(1, sizeof(*w));
    struct sl_model_config shape = {.family = SL_FAMILY_LLAMA,
        .n_layers = 3,
        .d_model = 16,
        .n_heads = 2,
        .n_kv_heads = 1,
        .head_dim = 8,
        .d_ff = 24,
        .vocab = VOCAB,
        .max_positions = 32,
        .norm_eps = 1e-5f,
        .rope_theta = 1e4f,
        .tied_embeddings = true,
        .bos_id = -1,
        .eos_id = 0};
    struct sl_lora_config lora = {
        .rank = 2, .alpha = 4, .targets = 1u << SL_Q_PROJ | 1u << SL_DOWN_PROJ, .seed = 3};
    struct sl_adapter *a;

    assert_int_equal(sl_model_create(&shape, 1, &w->model), 0);
    for (uint32_t i = 0; i < SEQ * TRAIN_WINDOWS; i++)
        w->train[i] = (i * 7 + i / 5) % VOCAB;
    for (uint32_t i = 0; i < SEQ * HELD_OUT; i++)
        w->held_out[i] = (i * 11 + 3) % VOCAB;
    w->g_floats = sl_adapter_block_size(&shape, &lora) * CUT;
    w->g = calloc(w->g_floats, sizeof(float));
    w->push.data = calloc(w->g_floats, sizeof(float));
    assert_int_equal(sl_adapter_create(&shape, &lora, 0, CUT, &a), 0);
    for (uint32_t l = 0; l < CUT; l++) {
        struct sl_block b = sl_adapter_block(a, l);
        memcpy(w->g + l * b.n, b.data, b.n * sizeof(float));
        for (size_t i = 0; i < b.n; i++)
            w->g[l * b.n + i] += 0.01f * (float)((i + l) % 5); /* B is not zero, so that A has a gradient */
    }
    sl_adapter_free(a);
    struct sl_phone_config c = {.index = 1,
        .device_class = "budget",
        .model = w->model,
        .codec = SL_CODEC_F32,
        .mtu = 1500,
        .seq = SEQ,
        .batch = BATCH,
        .train = {w->train, SEQ * TRAIN_WINDOWS},
        .held_out = {w->held_out, SEQ * HELD_OUT},
        .held_out_windows = HELD_OUT,
        .messages = w->messages,
        .gradient = w->gradient,
        .message_bytes = sizeof(w->messages) / 2};
    assert_int_equal(sl_phone_init(&w->phone, &c, &ops, w), 0);
    w->now = 1000 * ms;
    w->cut = CUT;
    return w;
}

static void teardown(struct world *w)
{
    sl_phone_fini(&w->phone);
    sl_model_free(w->model);
    free(w->g);
    free(w->push.data);
    free(w);
}

static void welcome_as(
    struct world *w, uint64_t incarnation, uint64_t version, uint64_t last_step, Sluice__Phase phase)
{
    char *targets[] = {(char *)"q_proj", (char *)"down_proj"};
    Sluice__LoraConfig lora = SLUICE__LORA_CONFIG__INIT;
    Sluice__OptimizerConfig optimizer = SLUICE__OPTIMIZER_CONFIG__INIT;
    Sluice__Welcome m = SLUICE__WELCOME__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    lora.rank = 2;
    lora.alpha = 4;
    lora.n_targets = 2;
    lora.targets = targets;
    lora.seed = 3;
    optimizer.kind = (char *)"adamw";
    optimizer.lr = 0.01f;
    optimizer.beta1 = 0.9f;
    optimizer.beta2 = 0.999f;
    optimizer.eps = 1e-8f;
    m.run = 77;
    m.incarnation = incarnation;
    m.adapter_version = version;
    m.last_step = last_step;
    m.cut = w->cut;
    m.aggregation = w->aggregation;
    optimizer.accumulate = w->accumulate;
    m.codec = SLUICE__CODEC__CODEC_F32;
    m.fragment_units = 22;
    m.slot_bytes = 1 << 16;
    m.lora = &lora;
    m.optimizer = &optimizer;
    m.seq = SEQ;
    m.batch = BATCH;
    m.phase = phase;
    m.heartbeat_ms = 1000;
    m.device_index = 1;
    e.body_case = SLUICE__ENVELOPE__BODY_WELCOME;
    e.welcome = &m;
    sl_phone_established(&w->phone, 42);
    sl_phone_message(&w->phone, &e, w->now);
    sl_phone_installed(&w->phone, w->now);
}

static void plan(struct world *w, Sluice__Phase phase, uint64_t version)
{
    Sluice__Plan m = SLUICE__PLAN__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    m.phase = phase;
    m.adapter_version = version;
    m.cut = w->cut;
    m.give_moments = w->cut < w->phone.cut;
    e.body_case = SLUICE__ENVELOPE__BODY_PLAN;
    e.plan = &m;
    sl_phone_message(&w->phone, &e, w->now);
}

static void send_g(struct world *w, uint64_t version, const float *data)
{
    struct sl_adapter_transfer t = {
        .version = version, .first = 0, .last = w->cut, .data = data, .n = w->g_floats / CUT * w->cut};

    sl_phone_adapter(&w->phone, &t, w->now);
}

static uint64_t compute(struct world *w, uint64_t host_ns)
{
    uint64_t excess;

    w->now += host_ns;
    sl_phone_compute(&w->phone, w->workspace);
    sl_phone_computed(&w->phone, w->now, &excess);
    return excess;
}

static void granted(struct world *w)
{
    struct sl_store_event e = {.kind = SL_STORE_GRANTED, .step = w->phone.request.step};

    sl_phone_event(&w->phone, &e, w->now);
}

static void advance(struct world *w)
{
    uint64_t d = sl_phone_deadline(&w->phone);

    assert_true(d != UINT64_MAX);
    if (d > w->now)
        w->now = d;
    sl_phone_tick(&w->phone, w->now);
}

static void outcome(struct world *w, uint8_t status, uint8_t flags, uint64_t global_step)
{
    struct sl_store_event e = {.kind = SL_STORE_RESULT,
        .step = w->phone.request.step,
        .result = {
            .step = w->phone.request.step, .status = status, .flags = flags, .global_step = global_step}};

    sl_phone_event(&w->phone, &e, w->now);
}

static void lost(struct world *w, uint8_t reason)
{
    struct sl_store_event e = {.kind = SL_STORE_LOST, .step = w->phone.request.step, .reason = reason};

    sl_phone_event(&w->phone, &e, w->now);
}

/* The gradient that the test's edge gives: a function of the message alone, as a real one is. */
static void fill_gradient(struct world *w)
{
    const float *x = (const float *)(const void *)message(w);
    float *dx = (float *)(void *)w->gradient;

    for (uint32_t i = 0; i < BATCH * ROWS * 16; i++)
        dx[i] = 0.3f * x[i] + 0.01f * (float)(i % 7);
}

/* A whole training step; ends in IDLE's next step, or MERGING. */
static void train(struct world *w, uint8_t flags, uint64_t global_step)
{
    assert_int_equal(w->phone.state, SL_PHONE_COMPUTING);
    granted(w);
    compute(w, ms);
    advance(w);
    assert_int_equal(w->phone.state, SL_PHONE_WAITING);
    fill_gradient(w);
    outcome(w, SL_RESULT_GRADIENT, flags, global_step);
    assert_int_equal(w->phone.state, SL_PHONE_UPDATING);
    compute(w, ms);
    advance(w);
}

static struct world *training(void)
{
    struct world *w = setup();

    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_TRAIN);
    send_g(w, 1, w->g);
    return w;
}

static void join__says_hello_pulls_and_waits_for_the_phase(void **state)
{
    struct world *w = setup();

    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_WAIT);
    assert_int_equal(w->hellos, 1);
    assert_int_equal(w->hello.held_out, HELD_OUT);
    assert_int_equal(w->hello.run, 0);
    assert_int_equal(w->pulls, 1);
    plan(w, SLUICE__PHASE__PHASE_EVAL_BEFORE, 1);
    assert_int_equal(w->requests, 0); /* no adapter yet */
    send_g(w, 1, w->g);
    assert_int_equal(w->requests, 1);
    assert_int_equal(w->phone.request.kind, SL_REQUEST_EVAL);
    teardown(w);
}

/* 11 windows: a message of 8 and one of 3, without modelled time, then PhaseDone. */
static void evaluation__sends_all_windows_once(void **state)
{
    struct world *w = setup();

    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_EVAL_BEFORE);
    send_g(w, 1, w->g);
    assert_int_equal(w->phone.request.n_seqs, 8);
    granted(w);
    assert_int_equal(compute(w, 50 * ms), 0); /* no excess: there is no modelled time to exceed */
    assert_int_equal(w->sends, 1);
    const uint32_t *targets = (const uint32_t *)(const void *)(message(w) + w->phone.grid.tensor_units * 64);
    for (uint32_t i = 0; i < 8; i++)
        assert_memory_equal(targets + i * ROWS, w->held_out + i * SEQ + 1, ROWS * 4);
    outcome(w, SL_RESULT_EVAL, 0, 0);
    assert_int_equal(w->phone.request.n_seqs, 3);
    compute(w, ms);
    granted(w);
    outcome(w, SL_RESULT_EVAL, 0, 0);
    assert_int_equal(w->phase_dones, 1);
    assert_int_equal(w->done_phase, SLUICE__PHASE__PHASE_EVAL_BEFORE);
    assert_int_equal(w->phone.totals.steps, 0);
    assert_true(w->phone.totals.modelled_s == 0);
    teardown(w);
}

/* The edge may have scored what was under way as the connection broke: it tells by the step's number. */
static void evaluation__cut_short_is_repeated_under_its_own_number(void **state)
{
    struct world *w = setup();
    bool again;

    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_EVAL_BEFORE);
    send_g(w, 1, w->g);
    granted(w);
    compute(w, ms);
    outcome(w, SL_RESULT_EVAL, 0, 0);
    assert_int_equal(w->phone.request.step, 2);
    sl_phone_closed(&w->phone, SLUICE__ERROR_CODE__ERROR_NONE, "the connection was lost", &again);
    compute(w, ms);
    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_EVAL_BEFORE);
    send_g(w, 1, w->g);
    assert_int_equal(w->phone.request.n_seqs, 3); /* not the eight that were answered */
    assert_int_equal(w->phone.request.step, 2);
    teardown(w);
}

static void step__leaves_when_modelled_time_and_grant_are_there(void **state)
{
    struct world *w = training();
    uint64_t start = w->now;

    assert_int_equal(w->requests, 1);
    assert_int_equal(w->phone.request.step, 1);
    assert_int_equal(w->phone.request.ready_in_ms, 10);
    assert_int_equal(compute(w, 3 * ms), 0);
    assert_int_equal(w->phone.state, SL_PHONE_SENDING);
    assert_int_equal(w->sends, 0);
    assert_int_equal(sl_phone_deadline(&w->phone), UINT64_MAX); /* no grant yet */
    granted(w);
    assert_int_equal(w->sends, 0);
    assert_int_equal(sl_phone_deadline(&w->phone), start + 10 * ms);
    advance(w);
    assert_int_equal(w->sends, 1);
    fill_gradient(w);
    uint64_t back = w->now += 40 * ms;
    outcome(w, SL_RESULT_GRADIENT, 0, 1);
    assert_int_equal(compute(w, 25 * ms), 5 * ms); /* the host took 25 ms, the phone 20: rules L13 */
    assert_true(w->now > back + 20 * ms);
    assert_int_equal(w->phone.totals.steps, 1);
    assert_int_equal(w->phone.request.step, 2);                  /* on to the next */
    assert_true(fabs(w->phone.totals.modelled_s - 0.04) < 1e-9); /* 10 + 20, and 10 of the next */
    assert_true(fabs(w->phone.totals.host_excess_s - 0.005) < 1e-9);
    teardown(w);
}

static void windows__go_in_order_and_wrap(void **state)
{
    struct world *w = training();

    for (uint32_t s = 0; s < 6; s++) {
        for (uint32_t i = 0; i < BATCH; i++)
            assert_ptr_equal(w->phone.batch.window[i], w->train + (s * BATCH + i) % TRAIN_WINDOWS * SEQ);
        train(w, 0, s + 1);
    }
    assert_int_equal(w->phone.n_trained, 6);
    assert_int_equal(w->phone.trained[5].cursor, 10);
    assert_int_equal(w->phone.trained[5].global_step, 6);
    teardown(w);
}

static void boundary__pushes_and_waits_for_the_new_adapter(void **state)
{
    struct world *w = training();

    train(w, 0, 1);
    train(w, SL_RESULT_BOUNDARY, 2);
    assert_int_equal(w->phone.state, SL_PHONE_MERGING);
    assert_int_equal(w->pushes, 1);
    assert_int_equal(w->push.version, 1);
    assert_int_equal(w->push.tokens, 2 * BATCH * ROWS);
    assert_int_equal(w->push.step, 2);
    assert_memory_not_equal(w->push.data, w->g, w->g_floats * sizeof(float));
    send_g(w, 1, w->g); /* the old one: not what is waited for */
    assert_int_equal(w->phone.state, SL_PHONE_MERGING);
    send_g(w, 2, w->push.data);
    assert_int_equal(w->phone.state, SL_PHONE_COMPUTING);
    assert_int_equal(w->phone.version, 2);
    assert_int_equal(w->phone.tokens_since, 0);
    teardown(w);
}

static void adapter__is_not_installed_over_a_step_in_flight(void **state)
{
    struct world *w = training();

    send_g(w, 2, w->g);
    assert_int_equal(w->phone.version, 1);
    train(w, 0, 1);
    assert_int_equal(w->phone.version, 1); /* trained on since: kept until pushed */
    train(w, SL_RESULT_BOUNDARY, 2);
    assert_int_equal(w->phone.version, 2);
    teardown(w);
}

static void lost__repeats_the_step_unless_refused(void **state)
{
    struct world *w = training();
    const uint32_t *window = w->phone.batch.window[0];

    compute(w, ms);
    granted(w);
    advance(w);
    lost(w, SL_LOST_EXPIRED);
    assert_int_equal(w->requests, 2);
    assert_int_equal(w->phone.request.step, 1);
    assert_ptr_equal(w->phone.batch.window[0], window);
    assert_int_equal(w->jobs, 1); /* the message is still there */
    granted(w);
    assert_int_equal(w->sends, 2);
    lost(w, SL_LOST_CONTENT);
    assert_int_equal(w->phone.request.step, 2);
    assert_ptr_equal(w->phone.batch.window[0], w->train + BATCH * SEQ);
    compute(w, ms);
    granted(w);
    advance(w);
    outcome(w, SL_RESULT_REFUSED, 0, 0);
    assert_int_equal(w->phone.request.step, 3);
    assert_int_equal(w->phone.totals.steps_refused, 2);
    assert_int_equal(w->phone.totals.steps_lost, 1);
    assert_int_equal(w->phone.n_trained, 0);
    teardown(w);
}

/* Too many versions behind (rules L8): what it has trained since is given up, the present G pulled. */
static void lost__stale_takes_the_present_adapter(void **state)
{
    struct world *w = training();
    uint32_t pulls = w->pulls;

    train(w, 0, 1);
    compute(w, ms);
    granted(w);
    advance(w);
    assert_true(w->phone.tokens_since > 0);
    lost(w, SL_LOST_STALE);
    assert_int_equal(w->pulls, pulls + 1);
    assert_int_equal(w->phone.state, SL_PHONE_IDLE);
    assert_int_equal(w->phone.tokens_since, 0);
    send_g(w, 9, w->g);
    assert_int_equal(w->phone.version, 9);
    assert_int_equal(w->phone.state, SL_PHONE_COMPUTING);
    assert_int_equal(w->phone.request.step, 3);
    train(w, SL_RESULT_BOUNDARY, 2);
    assert_int_equal(w->push.version, 9);
    assert_int_equal(w->push.tokens, BATCH * ROWS);
    teardown(w);
}

static void gradient__that_is_not_finite_changes_nothing(void **state)
{
    struct world *w = training();
    float before[4096], after[4096];

    assert_true(w->g_floats <= 4096);
    sl_front_get(w->phone.front, before);
    granted(w);
    compute(w, ms);
    advance(w);
    fill_gradient(w);
    ((float *)(void *)w->gradient)[5] = INFINITY;
    outcome(w, SL_RESULT_GRADIENT, 0, 1);
    compute(w, ms);
    advance(w);
    sl_front_get(w->phone.front, after);
    assert_memory_equal(before, after, w->g_floats * sizeof(float));
    assert_int_equal(w->phone.n_trained, 0);
    assert_int_equal(w->phone.request.step, 2);
    teardown(w);
}

static void plan__of_another_phase_abandons_the_step(void **state)
{
    struct world *w = training();

    plan(w, SLUICE__PHASE__PHASE_EVAL_AFTER, 1);
    assert_int_equal(w->drops, 1);
    assert_int_equal(w->requests, 1); /* the front half is still busy */
    compute(w, ms);
    assert_int_equal(w->requests, 2);
    assert_int_equal(w->phone.request.kind, SL_REQUEST_EVAL);
    teardown(w);
}

static void plan__with_a_newer_adapter_pulls_it_first(void **state)
{
    struct world *w = training();

    train(w, 0, 1);
    compute(w, ms);
    plan(w, SLUICE__PHASE__PHASE_EVAL_AFTER, 2);
    assert_int_equal(w->pulls, 2);
    assert_int_equal(w->phone.state, SL_PHONE_IDLE);
    send_g(w, 2, w->g);
    assert_int_equal(w->phone.request.kind, SL_REQUEST_EVAL);
    float now[4096];
    sl_front_get(w->phone.front, now);
    assert_memory_equal(now, w->g, w->g_floats * sizeof(float));
    plan(w, SLUICE__PHASE__PHASE_DONE, 2);
    compute(w, ms);
    assert_int_equal(w->leaves, 1);
    assert_string_equal(w->phone.reason, "done");
    teardown(w);
}

static void reconnect(struct world *w, uint64_t incarnation, uint64_t version, uint64_t last_step)
{
    bool again;

    sl_phone_closed(&w->phone, SLUICE__ERROR_CODE__ERROR_NONE, "the connection was lost", &again);
    assert_true(again);
    if (w->phone.job != SL_JOB_NONE)
        compute(w, ms);
    welcome_as(w, incarnation, version, last_step, SLUICE__PHASE__PHASE_TRAIN);
}

/* Rules T12: rolled back to version 2 (or 1), the same steps give the same bits as without the interruption.
 */
static void rollback__redoes_the_steps_bit_for_bit(void **state)
{
    for (uint64_t back_to = 1; back_to <= 2; back_to++) {
        struct world *w = training();
        float g2[4096], expected[4096], got[4096];

        train(w, SL_RESULT_BOUNDARY, 1);
        memcpy(g2, w->push.data, w->g_floats * sizeof(float));
        send_g(w, 2, g2);
        train(w, 0, 2);
        train(w, 0, 3);
        sl_front_get(w->phone.front, expected);
        reconnect(w, 2, back_to, back_to == 2 ? 1 : 0);
        assert_int_equal(w->hello.last_step, 3);
        assert_int_equal(w->hello.run, 77);
        assert_int_equal(w->hello.version, 2);
        assert_int_equal(w->phone.totals.rollbacks, 1);
        assert_int_equal(w->phone.n_trained, back_to == 2 ? 1 : 0);
        send_g(w, back_to, back_to == 2 ? g2 : w->g);
        if (back_to == 1) {
            assert_int_equal(w->phone.request.step, 1);
            train(w, SL_RESULT_BOUNDARY, 1);
            assert_memory_equal(w->push.data, g2, w->g_floats * sizeof(float));
            send_g(w, 2, w->push.data);
        }
        assert_int_equal(w->phone.request.step, 2);
        train(w, 0, 2);
        train(w, 0, 3);
        sl_front_get(w->phone.front, got);
        assert_memory_equal(got, expected, w->g_floats * sizeof(float));
        assert_int_equal(w->phone.n_trained, 3);
        for (uint64_t i = 0; i < 3; i++)
            assert_int_equal(w->phone.trained[i].cursor, i * BATCH);
        teardown(w);
    }
}

static void rollback__without_a_snapshot_takes_fresh_moments(void **state)
{
    struct world *w = training(), *fresh;
    float a[4096], b[4096];

    train(w, SL_RESULT_BOUNDARY, 1);
    send_g(w, 5, w->push.data);
    train(w, SL_RESULT_BOUNDARY, 2);
    send_g(w, 6, w->push.data);
    reconnect(w, 2, 1, 0); /* version 1 is two boundaries ago */
    send_g(w, 1, w->g);
    train(w, 0, 1);
    sl_front_get(w->phone.front, a);
    fresh = training();
    train(fresh, 0, 1);
    sl_front_get(fresh->phone.front, b);
    assert_memory_equal(a, b, w->g_floats * sizeof(float));
    teardown(w);
    teardown(fresh);
}

static void rejoin__of_a_living_edge_keeps_what_was_learnt(void **state)
{
    struct world *w = training();
    float before[4096], after[4096];

    train(w, 0, 1);
    sl_front_get(w->phone.front, before);
    reconnect(w, 1, 1, 1);
    send_g(w, 1, w->g); /* the answer to the pull: what the phone started from */
    sl_front_get(w->phone.front, after);
    assert_memory_equal(before, after, w->g_floats * sizeof(float));
    assert_int_equal(w->phone.totals.rollbacks, 0);
    assert_int_equal(w->phone.request.step, 3); /* step 2 had begun */
    assert_int_equal(w->phone.cursor, BATCH);
    assert_int_equal(w->phone.tokens_since, BATCH * ROWS);
    teardown(w);
}

/* Killed in mid-training: it has the boundary's adapter and position again, and the edge, which lives, tells
 * it which steps are taken. What it does from there is what it did then, but for the gradients' numbers. */
static void forget__goes_back_to_the_boundary(void **state)
{
    struct world *w = training();
    float g2[4096], expected[4096], got[4096];

    train(w, SL_RESULT_BOUNDARY, 1);
    memcpy(g2, w->push.data, w->g_floats * sizeof(float));
    send_g(w, 2, g2);
    train(w, 0, 2);
    sl_front_get(w->phone.front, expected);
    train(w, 0, 3);
    bool again;
    sl_phone_closed(&w->phone, SLUICE__ERROR_CODE__ERROR_TIMEOUT, "killed", &again);
    assert_true(again);
    if (w->phone.job != SL_JOB_NONE)
        compute(w, ms);
    sl_phone_forget(&w->phone);
    assert_int_equal(w->phone.tokens_since, 0);
    sl_front_get(w->phone.front, got);
    assert_memory_equal(got, g2, w->g_floats * sizeof(float));
    reconnect(w, 1, 2, 3);
    assert_int_equal(w->hello.last_step, 1);
    assert_int_equal(w->hello.version, 2);
    assert_int_equal(w->hello.run, 77);
    assert_int_equal(w->phone.totals.rollbacks, 0);
    send_g(w, 2, g2);
    assert_int_equal(w->phone.request.step, 4);
    assert_int_equal(w->phone.cursor, BATCH);
    train(w, 0, 2);
    sl_front_get(w->phone.front, got);
    assert_memory_equal(got, expected, w->g_floats * sizeof(float));
    teardown(w);
}

/* Killed before its first adapter: it starts with nothing. */
static void forget__without_a_boundary_has_nothing(void **state)
{
    struct world *w = setup();
    bool again;

    sl_phone_forget(&w->phone); /* never welcomed */
    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_TRAIN);
    sl_phone_closed(&w->phone, SLUICE__ERROR_CODE__ERROR_TIMEOUT, "killed", &again);
    sl_phone_forget(&w->phone);
    assert_false(w->phone.have_adapter);
    assert_int_equal(w->phone.version, 0);
    teardown(w);
}

static void closed__tells_refusals_from_lost_connections(void **state)
{
    static const struct {
        Sluice__ErrorCode code;
        bool again;
    } cases[] = {{SLUICE__ERROR_CODE__ERROR_NONE, true}, {SLUICE__ERROR_CODE__ERROR_TIMEOUT, true},
        {SLUICE__ERROR_CODE__ERROR_STALE, true}, {SLUICE__ERROR_CODE__ERROR_SHUTTING_DOWN, false},
        {SLUICE__ERROR_CODE__ERROR_MODEL_HASH, false}, {SLUICE__ERROR_CODE__ERROR_CONTENT, false},
        {SLUICE__ERROR_CODE__ERROR_SUPERSEDED, false}, {SLUICE__ERROR_CODE__ERROR_PROTOCOL, false}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *w = setup();
        bool again;
        sl_phone_established(&w->phone, 1);
        sl_phone_closed(&w->phone, cases[i].code, "a reason", &again);
        assert_int_equal(again, cases[i].again);
        assert_string_equal(w->phone.reason, "a reason");
        teardown(w);
    }
}

/* A phone that was never in is told at once that there is no room; one that was waits for its place. */
static void closed__full_is_final_only_for_who_was_never_in(void **state)
{
    struct world *w = setup();
    bool again;

    sl_phone_established(&w->phone, 1);
    sl_phone_closed(&w->phone, SLUICE__ERROR_CODE__ERROR_FULL, "full", &again);
    assert_false(again);
    teardown(w);
    w = training();
    sl_phone_closed(&w->phone, SLUICE__ERROR_CODE__ERROR_FULL, "full", &again);
    assert_true(again);
    teardown(w);
}

/* Rules L9: Plan says which cut comes, the adapter brings it; moments of the block that goes are given. */
static void plan__of_another_cut_waits_for_its_adapter(void **state)
{
    struct world *w = training();
    float kept[4096], now[4096];
    size_t block = w->g_floats / CUT;

    train(w, 0, 1);
    w->cut = 1;
    plan(w, SLUICE__PHASE__PHASE_TRAIN, 0);
    assert_int_equal(w->phone.cut, CUT); /* a step is under way */
    assert_int_equal(w->phone.request.cut, CUT);
    train(w, SL_RESULT_BOUNDARY, 2);
    assert_int_equal(w->pushes, 1);
    assert_int_equal(w->phone.state, SL_PHONE_MERGING);
    memcpy(kept, w->push.data, w->g_floats * sizeof(float));
    send_g(w, 2, kept);
    assert_int_equal(w->phone.cut, 1);
    assert_int_equal(w->phone.request.cut, 1);
    assert_int_equal(w->moments, 1);
    assert_int_equal(w->moments_block, 1);
    assert_int_equal(w->moments_step, 2);
    assert_int_equal(sl_front_floats(w->phone.front), block);
    train(w, SL_RESULT_BOUNDARY, 3);
    assert_int_equal(w->pushes, 2);
    w->cut = 2; /* and back; its moments are not sent: fresh ones */
    plan(w, SLUICE__PHASE__PHASE_TRAIN, 0);
    send_g(w, 3, kept);
    assert_int_equal(w->phone.cut, 2);
    sl_front_get(w->phone.front, now);
    assert_memory_equal(now, kept, 2 * block * sizeof(float));
    assert_int_equal(w->moments, 1);
    teardown(w);
}

static void rejoin__with_another_cut(void **state)
{
    struct world *w = training();

    train(w, SL_RESULT_BOUNDARY, 1);
    w->cut = 1;
    reconnect(w, 1, 2, 1);
    assert_int_equal(w->phone.cut, 1);
    send_g(w, 2, w->g);
    assert_int_equal(w->phone.state, SL_PHONE_COMPUTING);
    assert_int_equal(w->phone.request.cut, 1);
    w->cut = 2; /* the edge was killed, and its checkpoint is of before the change */
    reconnect(w, 2, 1, 0);
    assert_int_equal(w->phone.cut, 2);
    assert_int_equal(w->phone.totals.rollbacks, 1);
    send_g(w, 1, w->g);
    assert_int_equal(w->phone.request.step, 1);
    train(w, 0, 1);
    teardown(w);
}

/* Rules L4: nothing steps on the phone; the sums of `accumulate` gangs are pushed. */
static void gradients__are_pushed_in_place_of_weights(void **state)
{
    struct world *w = setup();
    float weights[4096];

    w->aggregation = SLUICE__AGGREGATION__AGGREGATION_GRADIENTS;
    w->accumulate = 2;
    welcome_as(w, 1, 1, 0, SLUICE__PHASE__PHASE_TRAIN);
    send_g(w, 1, w->g);
    train(w, 0, 1);
    assert_int_equal(w->pushes, 0);
    train(w, SL_RESULT_BOUNDARY, 2);
    sl_front_get(w->phone.front, weights);
    assert_memory_equal(weights, w->g, w->g_floats * sizeof(float));
    assert_int_equal(w->push.kind, SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS);
    assert_int_equal(w->push.tokens, 2 * BATCH * ROWS);
    double sum = 0;
    for (size_t i = 0; i < w->g_floats; i++)
        sum += fabs((double)w->push.data[i]);
    assert_true(sum > 0);
    send_g(w, 2, w->g);
    train(w, 0, 3);
    reconnect(w, 1, 3, 3); /* a round was missed: what belongs to an older G is forgotten */
    send_g(w, 3, w->g);
    train(w, SL_RESULT_BOUNDARY, 4);
    assert_int_equal(w->push.tokens, BATCH * ROWS);
    teardown(w);
}

static void fault__spoils_one_step(void **state)
{
    for (int fault = SL_FAULT_NAN; fault <= SL_FAULT_ABSURD; fault++) {
        struct world *w = training();
        w->phone.cfg.fault = (enum sl_fault)fault;
        w->phone.cfg.fault_step = 2;
        for (int step = 1; step <= 3; step++) {
            float worst = 0, *x = (float *)(void *)message(w);
            bool nan = false;
            compute(w, ms);
            for (uint32_t i = 0; i < BATCH * ROWS * 16; i++) {
                nan |= isnan(x[i]);
                worst = fabsf(x[i]) > worst ? fabsf(x[i]) : worst;
            }
            assert_int_equal(nan, step == 2 && fault == SL_FAULT_NAN);
            assert_int_equal(worst > 1e3f, step == 2 && fault == SL_FAULT_ABSURD);
            granted(w);
            advance(w);
            outcome(w, SL_RESULT_REFUSED, 0, 0);
        }
        teardown(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(join__says_hello_pulls_and_waits_for_the_phase),
        cmocka_unit_test(evaluation__sends_all_windows_once),
        cmocka_unit_test(evaluation__cut_short_is_repeated_under_its_own_number),
        cmocka_unit_test(step__leaves_when_modelled_time_and_grant_are_there),
        cmocka_unit_test(windows__go_in_order_and_wrap),
        cmocka_unit_test(boundary__pushes_and_waits_for_the_new_adapter),
        cmocka_unit_test(adapter__is_not_installed_over_a_step_in_flight),
        cmocka_unit_test(lost__repeats_the_step_unless_refused),
        cmocka_unit_test(lost__stale_takes_the_present_adapter),
        cmocka_unit_test(gradient__that_is_not_finite_changes_nothing),
        cmocka_unit_test(plan__of_another_phase_abandons_the_step),
        cmocka_unit_test(plan__with_a_newer_adapter_pulls_it_first),
        cmocka_unit_test(rollback__redoes_the_steps_bit_for_bit),
        cmocka_unit_test(rollback__without_a_snapshot_takes_fresh_moments),
        cmocka_unit_test(rejoin__of_a_living_edge_keeps_what_was_learnt),
        cmocka_unit_test(forget__goes_back_to_the_boundary),
        cmocka_unit_test(forget__without_a_boundary_has_nothing),
        cmocka_unit_test(closed__tells_refusals_from_lost_connections),
        cmocka_unit_test(closed__full_is_final_only_for_who_was_never_in),
        cmocka_unit_test(plan__of_another_cut_waits_for_its_adapter),
        cmocka_unit_test(rejoin__with_another_cut),
        cmocka_unit_test(gradients__are_pushed_in_place_of_weights),
        cmocka_unit_test(fault__spoils_one_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
