/* The gradient store, driven through its sink as the endpoint drives it. */
#include "device-sim/device/store.h"

#include "tests/wire/test.h"

#include <errno.h>
#include <stdlib.h>

enum { FRAGMENT = 4, ROWS = 6, D_MODEL = 64 /* bf16: 128 bytes a row */, PHONES = 3 };

struct seen {
    unsigned n;
    uint32_t phone;
    struct sl_store_event last;
};

struct fixture {
    struct sl_store *store;
    struct sl_endpoint *endpoint;
    struct sl_grid grid; /* 12 tensor units, 1 of targets */
    struct sl_request request;
    struct seen seen;
};

static void on_event(void *app, uint32_t phone, const struct sl_store_event *e)
{
    struct seen *s = app;

    s->n++;
    s->phone = phone;
    s->last = *e;
}

static struct fixture *setup_with(
    const uint8_t *(*message)(void *, uint32_t, const struct sl_request *, const struct sl_grid *))
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct sl_store_config c = {.n_phones = PHONES,
        .message_bytes = 13 * 64,
        .gradient_bytes = 12 * 64,
        .message = message,
        .event = on_event,
        .app = &f->seen};
    struct sl_endpoint_config ec = {.max_sessions = PHONES, .max_sends = PHONES, .max_message_units = 64};

    assert_int_equal(sl_grid_make(&f->grid, ROWS, D_MODEL, SL_CODEC_BF16, 1, FRAGMENT), 0);
    assert_int_equal(f->grid.tensor_units, 12);
    f->request = (struct sl_request){.step = 5, .kind = SL_REQUEST_TRAIN, .n_seqs = 1, .len = {ROWS}};
    assert_int_equal(sl_store_create(&c, &f->store), 0);
    assert_int_equal(sl_endpoint_create(&ec, &sl_store_sink, f->store, &f->endpoint), 0);
    sl_store_bind(f->store, f->endpoint);
    for (uint32_t i = 0; i < PHONES; i++) {
        struct sl_session_config sc = {.local_id = sl_session_id(0, i, 77),
            .peer_id = 1 + i,
            .fragment_units = FRAGMENT,
            .mtu = 1500,
            .local = {.port = 1},
            .remote = {.port = 2}};
        assert_int_equal(sl_endpoint_open(f->endpoint, &sc, 0), 0);
        sl_store_session_opened(f->store, i);
    }
    return f;
}

static struct fixture *setup(void)
{
    return setup_with(NULL);
}

static void teardown(struct fixture *f)
{
    sl_endpoint_free(f->endpoint);
    sl_store_free(f->store);
    free(f);
}

static void frame(struct fixture *f, uint32_t phone, struct sl_frame fr)
{
    sl_store_sink.frame(f->store, phone, &fr, 0);
}

static void grant(struct fixture *f, uint32_t phone, uint32_t index, uint64_t step)
{
    frame(f, phone,
        (struct sl_frame){
            .type = SL_FRAME_GRANT, .grant = {.index = index, .step = step, .cumulative = index}});
}

static void result(struct fixture *f, uint32_t phone, uint32_t index, uint64_t step, uint8_t status)
{
    frame(f, phone,
        (struct sl_frame){.type = SL_FRAME_RESULT,
            .result = {.grant = index, .step = step, .global_step = 9, .status = status}});
}

static void lost(struct fixture *f, uint32_t phone, uint32_t index, uint64_t step)
{
    frame(f, phone,
        (struct sl_frame){.type = SL_FRAME_STEP_LOST,
            .step_lost = {.grant = index, .step = step, .reason = SL_LOST_EXPIRED}});
}

static struct sl_rx data(uint32_t phone, uint32_t grant_index, uint32_t unit0, uint32_t n)
{
    return (struct sl_rx){.session = phone, .grant = grant_index, .unit0 = unit0, .n_units = n};
}

/* As the endpoint does it: place all, "open" those that are to be opened, commit. Returns how many were
 * placed with a right tag. */
static unsigned burst(struct fixture *f, struct sl_rx *rx, unsigned n, uint64_t good)
{
    struct sl_rx *all[64] = {NULL}, *opened[64] = {NULL};
    uint64_t ok = 0;
    unsigned m = 0, placed = 0;

    for (unsigned i = 0; i < n; i++)
        all[i] = &rx[i];
    sl_store_sink.place(f->store, all, n);
    for (unsigned i = 0; i < n; i++) {
        if (rx[i].how != SL_PLACE && rx[i].how != SL_SCRATCH)
            continue;
        if (good >> i & 1) {
            ok |= UINT64_C(1) << m;
            if (rx[i].how == SL_PLACE) {
                memset(rx[i].dst, 0x40 + (int)rx[i].unit0, rx[i].n_units * 64);
                placed++;
            }
        } else if (rx[i].how == SL_PLACE) {
            memset(rx[i].dst, 0xee, rx[i].n_units * 64); /* an open writes before the tag is known */
        }
        opened[m++] = &rx[i];
    }
    if (m)
        sl_store_sink.commit(f->store, opened, m, ok);
    return placed;
}

/* Phone `phone` up to the point where its message is under way under grant 1. */
static void until_sent(struct fixture *f, uint32_t phone)
{
    assert_int_equal(sl_store_request(f->store, phone, &f->request, &f->grid, 0), 0);
    grant(f, phone, 1, f->request.step);
    assert_int_equal(f->seen.last.kind, SL_STORE_GRANTED);
    assert_int_equal(sl_store_send(f->store, phone, 0), 0);
}

static void step__ends_with_result_and_whole_gradient_in_any_order(void **state)
{
    for (int result_first = 0; result_first < 2; result_first++) {
        struct fixture *f = setup();
        until_sent(f, 1);
        f->seen.n = 0;
        struct sl_rx rx[3] = {data(1, 1, 8, 4), data(1, 1, 0, 4), data(1, 1, 4, 4)};
        if (result_first)
            result(f, 1, 1, 5, SL_RESULT_GRADIENT);
        assert_int_equal(burst(f, rx, 2, 3), 2);
        assert_int_equal(f->seen.n, 0);
        assert_int_equal(burst(f, rx + 2, 1, 1), 1);
        if (!result_first) {
            assert_int_equal(f->seen.n, 0);
            result(f, 1, 1, 5, SL_RESULT_GRADIENT);
        }
        assert_int_equal(f->seen.n, 1);
        assert_int_equal(f->seen.phone, 1);
        assert_int_equal(f->seen.last.kind, SL_STORE_RESULT);
        assert_int_equal(f->seen.last.result.global_step, 9);
        for (uint32_t u = 0; u < 12; u++)
            assert_int_equal(sl_store_gradient(f->store, 1)[u * 64 + 63], 0x40 + u / 4 * 4);
        teardown(f);
    }
}

/* Rules T3: [valid, forged], [forged, valid], [valid, valid] of the same fragment in one burst. */
static void burst__collisions_wait_for_the_serial_pass(void **state)
{
    static const struct {
        uint64_t good; /* tag of each */
        unsigned placed_first, placed_second;
        enum sl_how second;
    } cases[] = {{1, 1, 0, SL_SCRATCH}, {2, 0, 1, SL_PLACE}, {3, 1, 0, SL_SCRATCH}};

    for (size_t k = 0; k < 3; k++) {
        struct fixture *f = setup();
        struct sl_rx rx[2] = {data(0, 1, 4, 4), data(0, 1, 4, 4)};
        until_sent(f, 0);
        assert_int_equal(burst(f, rx, 2, cases[k].good), cases[k].placed_first);
        assert_int_equal(rx[0].how, SL_PLACE);
        assert_int_equal(rx[1].how, SL_DEFER);
        assert_int_equal(burst(f, rx + 1, 1, cases[k].good >> 1), cases[k].placed_second);
        assert_int_equal(rx[1].how, cases[k].second);
        assert_int_equal(sl_store_gradient(f->store, 0)[4 * 64], 0x44);
        teardown(f);
    }
}

static void forged__leaves_the_fragment_missing(void **state)
{
    struct fixture *f = setup();
    struct sl_store_stats st;
    struct sl_rx rx[3] = {data(0, 1, 0, 4), data(0, 1, 4, 4), data(0, 1, 8, 4)};

    until_sent(f, 0);
    result(f, 0, 1, 5, SL_RESULT_GRADIENT);
    f->seen.n = 0;
    assert_int_equal(burst(f, rx, 3, 5), 2);
    assert_int_equal(f->seen.n, 0);
    sl_store_stats(f->store, &st);
    assert_int_equal(st.fragments_released, 1);
    assert_int_equal(burst(f, rx + 1, 1, 1), 1);
    assert_int_equal(f->seen.n, 1);
    teardown(f);
}

/* Rules T4: duplicates, and fragments of what is over, are opened into scratch; the buffer is not touched
 * again. */
static void duplicate__goes_to_scratch(void **state)
{
    struct fixture *f = setup();
    struct sl_rx rx[3] = {data(0, 1, 0, 4), data(0, 1, 4, 4), data(0, 1, 8, 4)};

    until_sent(f, 0);
    burst(f, rx, 1, 1);
    burst(f, rx, 1, 1);
    assert_int_equal(rx[0].how, SL_SCRATCH);
    burst(f, rx + 1, 2, 3);
    result(f, 0, 1, 5, SL_RESULT_GRADIENT);
    assert_int_equal(f->seen.last.kind, SL_STORE_RESULT);
    burst(f, rx, 1, 1);
    assert_int_equal(rx[0].how, SL_SCRATCH);
    /* The next step, under grant 2: fragments of grant 1 are still duplicates, those of grant 3 nobody gave.
     */
    f->request.step = 6;
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), 0);
    grant(f, 0, 2, 6);
    assert_int_equal(sl_store_send(f->store, 0, 0), 0);
    burst(f, rx, 1, 1);
    assert_int_equal(rx[0].how, SL_SCRATCH);
    rx[0].grant = 3;
    burst(f, rx, 1, 1);
    assert_int_equal(rx[0].how, SL_REFUSE);
    assert_int_equal(rx[0].reason, SL_DROP_NO_GRANT);
    rx[0].grant = 0; /* names none: grants count from 1 */
    burst(f, rx, 1, 1);
    assert_int_equal(rx[0].how, SL_REFUSE);
    assert_int_equal(rx[0].reason, SL_DROP_NO_GRANT);
    rx[0].grant = 2;
    assert_int_equal(burst(f, rx, 1, 1), 1);
    teardown(f);
}

static void place__refuses_what_is_off_the_grid(void **state)
{
    static const uint32_t bad[][2] = {{1, 4}, {0, 3}, {0, 8}, {8, 3}, {12, 1}, {4, 0}, {UINT32_MAX, 4}};
    struct fixture *f = setup();

    until_sent(f, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_rx rx = data(0, 1, bad[i][0], bad[i][1]);
        burst(f, &rx, 1, 1);
        assert_int_equal(rx.how, SL_REFUSE);
        assert_int_equal(rx.reason, SL_DROP_OFF_GRID);
    }
    struct sl_rx nobody = data(PHONES, 1, 0, 4);
    burst(f, &nobody, 1, 1);
    assert_int_equal(nobody.how, SL_REFUSE);
    teardown(f);
}

static void phones__do_not_meet(void **state)
{
    struct fixture *f = setup();
    struct sl_rx rx[2] = {data(0, 1, 0, 4), data(2, 1, 0, 4)};

    until_sent(f, 0);
    until_sent(f, 2);
    assert_int_equal(burst(f, rx, 2, 3), 2); /* the same grant and units of two sessions do not collide */
    teardown(f);
}

static void lost__ends_the_step_once(void **state)
{
    struct fixture *f = setup();

    until_sent(f, 0);
    f->seen.n = 0;
    lost(f, 0, 1, 4); /* another step's */
    lost(f, 0, 2, 5); /* another grant's */
    assert_int_equal(f->seen.n, 0);
    lost(f, 0, 1, 5);
    lost(f, 0, 1, 5);
    assert_int_equal(f->seen.n, 1);
    assert_int_equal(f->seen.last.kind, SL_STORE_LOST);
    assert_int_equal(f->seen.last.reason, SL_LOST_EXPIRED);
    /* The same step again; a late repeat of the loss names the old grant and changes nothing. */
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), 0);
    lost(f, 0, 1, 5);
    grant(f, 0, 2, 5);
    assert_int_equal(sl_store_send(f->store, 0, 0), 0);
    result(f, 0, 1, 5, SL_RESULT_SKIPPED);
    f->seen.n = 0;
    result(f, 0, 2, 5, SL_RESULT_SKIPPED);
    assert_int_equal(f->seen.n, 1);
    teardown(f);
}

static void grant__for_a_step_that_was_given_up_is_ignored(void **state)
{
    struct fixture *f = setup();

    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), 0);
    sl_store_drop(f->store, 0);
    grant(f, 0, 1, 5);
    assert_int_equal(f->seen.n, 0);
    assert_int_equal(sl_store_send(f->store, 0, 0), -EINVAL);
    f->request.step = 6;
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), 0);
    grant(f, 0, 1, 5);
    assert_int_equal(f->seen.n, 0);
    grant(f, 0, 2, 6);
    grant(f, 0, 2, 6);
    assert_int_equal(f->seen.n, 1);
    teardown(f);
}

static void request__refuses_what_it_cannot_hold(void **state)
{
    struct fixture *f = setup();
    struct sl_grid big;

    sl_grid_make(&big, ROWS + 1, D_MODEL, SL_CODEC_BF16, 1, FRAGMENT);
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &big, 0), -EINVAL);
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), 0);
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), -EBUSY);
    sl_store_session_closed(f->store, 0);
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), -ENOENT);
    teardown(f);
}

/* Its message may be larger than any that has a gradient to come back. */
static void evaluation__needs_no_room_for_a_gradient(void **state)
{
    struct fixture *f = setup();
    struct sl_grid thirteen = f->grid;

    thirteen.tensor_units = thirteen.n_units = 13;
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &thirteen, 0), -EINVAL);
    f->request.kind = SL_REQUEST_EVAL;
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &thirteen, 0), 0);
    teardown(f);
}

static void evaluation__has_no_gradient(void **state)
{
    struct fixture *f = setup();
    struct sl_rx rx = data(0, 1, 0, 4);

    f->request.kind = SL_REQUEST_EVAL;
    until_sent(f, 0);
    burst(f, &rx, 1, 1);
    assert_int_equal(rx.how, SL_SCRATCH);
    f->seen.n = 0;
    result(f, 0, 1, 5, SL_RESULT_EVAL);
    assert_int_equal(f->seen.n, 1);
    teardown(f);
}

/* A step that was given up may still be read while the next is written. */
static void source__gives_the_message_of_its_step(void **state)
{
    struct fixture *f = setup();
    size_t bytes = sl_store_message_bytes(f->store);

    for (uint64_t step = 5; step <= 7; step++) {
        f->request.step = step;
        assert_int_equal(sl_store_request(f->store, 1, &f->request, &f->grid, 0), 0);
        assert_ptr_equal(sl_store_sink.source(f->store, 1, 1, 3, 2),
            sl_store_message(f->store, 1, 0) + step % 2 * bytes + 3 * 64);
        sl_store_drop(f->store, 1);
    }
    teardown(f);
}

static uint8_t shared_message[13 * 64];

static const uint8_t *shared(void *app, uint32_t phone, const struct sl_request *r, const struct sl_grid *g)
{
    assert_int_equal(g->n_units, 13);
    return r->step == 6 ? NULL : shared_message;
}

/* Replay: one message for all, one place for all gradients, and each phone's books its own. */
static void replay__phones_share_message_and_gradient_but_not_books(void **state)
{
    struct fixture *f = setup_with(shared);

    until_sent(f, 0);
    until_sent(f, 2);
    assert_ptr_equal(sl_store_sink.source(f->store, 0, 1, 3, 2), shared_message + 3 * 64);
    assert_ptr_equal(sl_store_sink.source(f->store, 2, 1, 0, 1), shared_message);
    assert_ptr_equal(sl_store_gradient(f->store, 0), sl_store_gradient(f->store, 2));
    struct sl_rx first[3] = {data(0, 1, 0, 4), data(2, 1, 0, 4), data(0, 1, 4, 4)};
    assert_int_equal(burst(f, first, 3, 7), 3);
    result(f, 0, 1, 5, SL_RESULT_GRADIENT);
    result(f, 2, 1, 5, SL_RESULT_GRADIENT);
    f->seen.n = 0;
    struct sl_rx forged[1] = {data(0, 1, 8, 4)}, last[1] = {data(0, 1, 8, 4)};
    assert_int_equal(burst(f, forged, 1, 0), 0);
    assert_int_equal(f->seen.n, 0);
    assert_int_equal(burst(f, last, 1, 1), 1);
    assert_int_equal(f->seen.n, 1);
    assert_int_equal(f->seen.phone, 0);
    f->request.step = 6;
    assert_int_equal(sl_store_request(f->store, 0, &f->request, &f->grid, 0), -EINVAL);
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step__ends_with_result_and_whole_gradient_in_any_order),
        cmocka_unit_test(burst__collisions_wait_for_the_serial_pass),
        cmocka_unit_test(forged__leaves_the_fragment_missing),
        cmocka_unit_test(duplicate__goes_to_scratch),
        cmocka_unit_test(place__refuses_what_is_off_the_grid),
        cmocka_unit_test(phones__do_not_meet),
        cmocka_unit_test(lost__ends_the_step_once),
        cmocka_unit_test(grant__for_a_step_that_was_given_up_is_ignored),
        cmocka_unit_test(request__refuses_what_it_cannot_hold),
        cmocka_unit_test(evaluation__has_no_gradient),
        cmocka_unit_test(evaluation__needs_no_room_for_a_gradient),
        cmocka_unit_test(source__gives_the_message_of_its_step),
        cmocka_unit_test(replay__phones_share_message_and_gradient_but_not_books),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
