/* An edge and a device, both ours: the life of a connection. */
#include "tests/control/pair.h"

#include <errno.h>

struct pair {
    struct seen edge, device;
    uint64_t now;
};

static void pair_init(struct pair *p)
{
    memset(p, 0, sizeof(*p));
    p->now = 100 * second;
    control_create(SL_CONTROL_EDGE, &p->edge, p->now);
    control_create(SL_CONTROL_DEVICE, &p->device, p->now);
    p->edge.on_message = welcome_after_hello;
    p->device.on_established = hello_when_established;
}

static void pair_run(struct pair *p)
{
    run_controls(p->device.control, p->edge.control, 16384, p->now);
}

static void pair_open(struct pair *p)
{
    pair_init(p);
    pair_run(p);
    assert_int_equal(p->device.kinds[SLUICE__ENVELOPE__BODY_WELCOME], 1);
}

static void pair_free(struct pair *p)
{
    sl_control_free(p->edge.control);
    sl_control_free(p->device.control);
    free(p->edge.floats);
    free(p->device.floats);
}

static void create__joins_in_pieces_of_any_size(void **state)
{
    const size_t steps[] = {1, 2, 3, 5, 100, 16384};

    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct pair p;
        char name[65];

        pair_init(&p);
        run_controls(p.device.control, p.edge.control, steps[i], p.now);
        assert_int_equal(p.edge.established, 1);
        assert_int_equal(p.device.established, 1);
        assert_int_equal(p.edge.kinds[SLUICE__ENVELOPE__BODY_HELLO], 1);
        assert_int_equal(p.device.kinds[SLUICE__ENVELOPE__BODY_WELCOME], 1);
        assert_int_equal(send_heartbeat(p.device.control, 1), 0);
        run_controls(p.device.control, p.edge.control, steps[i], p.now);
        assert_int_equal(p.edge.kinds[SLUICE__ENVELOPE__BODY_HEARTBEAT], 1);
        assert_int_equal(sl_tls_peer_name(sl_control_tls(p.edge.control), name), 0);
        assert_string_equal(name, "device-00001");
        pair_free(&p);
    }
}

static void send__only_what_is_due(void **state)
{
    struct pair p;

    pair_init(&p);
    p.device.on_established = NULL;
    assert_int_equal(send_hello(p.device.control), -ENOTCONN);
    pair_run(&p);
    assert_int_equal(send_heartbeat(p.device.control, 1), -EPROTO);
    assert_int_equal(send_welcome(p.edge.control), -EPROTO);
    assert_int_equal(send_hello(p.edge.control), -EPROTO);
    assert_int_equal(send_hello(p.device.control), 0);
    assert_int_equal(send_hello(p.device.control), -EPROTO);
    pair_run(&p);
    assert_int_equal(send_welcome(p.edge.control), -EPROTO); /* the callback sent it */
    assert_int_equal(send_heartbeat(p.edge.control, 1), -EPROTO);
    assert_int_equal(send_heartbeat(p.device.control, 1), 0);
    pair_run(&p);
    sl_control_bye(p.device.control, "done");
    assert_int_equal(send_heartbeat(p.device.control, 2), -EPIPE);
    pair_free(&p);
}

static void send_adapter__arrives_whole(void **state)
{
    const size_t counts[] = {1, 4096, 65536, 65537, 65536 + 4095, 1500000};

    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct sl_adapter_transfer t = {
            .version = 9, .tokens = 1234, .step = 55, .first = 2, .last = 7, .n = counts[i]};
        float *data = malloc(counts[i] * sizeof(float));
        struct pair p;

        for (size_t k = 0; k < counts[i]; k++)
            data[k] = (float)k * 0.5f;
        t.data = data;
        pair_open(&p);
        assert_int_equal(sl_control_send_adapter(p.device.control, &t), 0);
        assert_int_equal(send_heartbeat(p.device.control, 3), 0); /* leaves after it */
        assert_int_equal(sl_control_send_adapter(p.edge.control, &t), 0);
        memset(data, 0, counts[i] * sizeof(float)); /* it was copied */
        pair_run(&p);
        for (size_t k = 0; k < counts[i]; k++)
            data[k] = (float)k * 0.5f;
        for (int way = 0; way < 2; way++) {
            struct seen *s = way ? &p.device : &p.edge;

            assert_int_equal(s->adapters, 1);
            assert_int_equal(s->transfer.n, counts[i]);
            assert_int_equal(s->transfer.version, 9);
            assert_int_equal(s->transfer.tokens, 1234);
            assert_int_equal(s->transfer.step, 55);
            assert_int_equal(s->transfer.first, 2);
            assert_int_equal(s->transfer.last, 7);
            assert_memory_equal(s->floats, data, counts[i] * sizeof(float));
        }
        assert_int_equal(p.edge.kinds[SLUICE__ENVELOPE__BODY_HEARTBEAT], 1);
        assert_int_equal(sl_control_pending_out(p.edge.control), 0);
        free(data);
        pair_free(&p);
    }
}

static void send_adapter__refuses_nonsense(void **state)
{
    float one = 1;
    struct sl_adapter_transfer t = {.first = 0, .last = 1, .data = &one, .n = 0},
                               shape = {.first = 3, .last = 3, .data = &one, .n = 1};
    struct pair p;

    pair_open(&p);
    assert_int_equal(sl_control_send_adapter(p.edge.control, &t), -EINVAL);
    assert_int_equal(sl_control_send_adapter(p.edge.control, &shape), -EINVAL);
    pair_free(&p);
}

/* A peer that does not read costs a bounded amount of memory. */
static void send_adapter__queue_is_bounded(void **state)
{
    struct sl_adapter_transfer t = {.first = 0, .last = 1, .n = 1 << 20};
    float *data = calloc(t.n, sizeof(float));
    int err = 0, sent = 0;
    struct pair p;

    t.data = data;
    pair_open(&p);
    while (!(err = sl_control_send_adapter(p.edge.control, &t)) && sent < 100)
        sent++;
    assert_int_equal(err, -ENOBUFS);
    assert_in_range(sent, 4, 12);
    pair_run(&p);
    assert_int_equal(p.device.adapters, sent);
    free(data);
    pair_free(&p);
}

static void bye__what_was_sent_before_arrives(void **state)
{
    struct sl_adapter_transfer t = {.first = 0, .last = 1, .n = 300000};
    float *data = calloc(t.n, sizeof(float));
    struct pair p;

    t.data = data;
    pair_open(&p);
    assert_int_equal(sl_control_send_adapter(p.device.control, &t), 0);
    sl_control_bye(p.device.control, "battery is low");
    assert_false(sl_control_wants_close(p.device.control));
    pair_run(&p);
    assert_true(sl_control_wants_close(p.device.control));
    assert_int_equal(p.edge.adapters, 1);
    assert_int_equal(p.edge.kinds[SLUICE__ENVELOPE__BODY_BYE], 1);
    assert_int_equal(p.edge.closed, 0);
    assert_true(sl_control_wants_close(p.edge.control));
    sl_control_eof(p.edge.control, NULL);
    sl_control_eof(p.device.control, NULL);
    sl_control_eof(p.device.control, NULL);
    assert_int_equal(p.edge.closed, 1);
    assert_int_equal(p.device.closed, 1);
    assert_int_equal(p.edge.code, SLUICE__ERROR_CODE__ERROR_NONE);
    assert_string_equal(p.edge.text, "battery is low");
    free(data);
    pair_free(&p);
}

static void refuse__code_and_sentence_arrive(void **state)
{
    struct pair p;

    pair_init(&p);
    p.edge.on_message = NULL;
    pair_run(&p);
    sl_control_refuse(p.edge.control, SLUICE__ERROR_CODE__ERROR_MODEL_HASH,
        "another base model:\nuse the edge's model folder\x1b[31m");
    pair_run(&p);
    assert_int_equal(p.device.kinds[SLUICE__ENVELOPE__BODY_ERROR], 1);
    assert_true(sl_control_wants_close(p.edge.control));
    assert_true(sl_control_wants_close(p.device.control));
    sl_control_eof(p.edge.control, NULL);
    sl_control_eof(p.device.control, "connection reset");
    assert_int_equal(p.device.code, SLUICE__ERROR_CODE__ERROR_MODEL_HASH);
    assert_string_equal(p.device.text, "another base model: use the edge's model folder?[31m");
    assert_string_equal(p.edge.text, p.device.text);
    pair_free(&p);
}

static void refuse_in_established(struct seen *s)
{
    sl_control_refuse(s->control, SLUICE__ERROR_CODE__ERROR_FULL, "no session is free; try again later");
}

static void refuse__in_a_callback(void **state)
{
    struct pair p;

    pair_init(&p);
    p.edge.on_established = refuse_in_established;
    p.edge.free_in_closed = true;
    pair_run(&p);
    sl_control_eof(p.edge.control, NULL);
    assert_null(p.edge.control);
    sl_control_eof(p.device.control, NULL);
    assert_int_equal(p.device.code, SLUICE__ERROR_CODE__ERROR_FULL);
    assert_int_equal(p.edge.messages, 0); /* the Hello that came along is not looked at */
    pair_free(&p);
}

static void eof__without_a_word(void **state)
{
    struct pair p;

    pair_open(&p);
    sl_control_eof(p.edge.control, "connection reset by peer");
    assert_int_equal(p.edge.closed, 1);
    assert_int_equal(p.edge.code, SLUICE__ERROR_CODE__ERROR_NONE);
    assert_string_equal(p.edge.text, "connection reset by peer");
    assert_int_equal(sl_control_feed(p.edge.control, (const uint8_t *)"x", 1, p.now), -EPIPE);
    assert_int_equal(sl_control_deadline(p.edge.control), UINT64_MAX);
    pair_free(&p);
}

static void tick__handshake_takes_too_long(void **state)
{
    struct seen edge = {0};
    struct sl_control *c = control_create(SL_CONTROL_EDGE, &edge, 100 * second);

    assert_int_equal(sl_control_deadline(c), 110 * second);
    sl_control_tick(c, 110 * second - 1);
    assert_false(sl_control_wants_close(c));
    sl_control_tick(c, 110 * second);
    assert_true(sl_control_wants_close(c));
    sl_control_eof(c, NULL);
    assert_int_equal(edge.code, SLUICE__ERROR_CODE__ERROR_TIMEOUT);
    assert_string_equal(edge.text, "no TLS handshake within 10 s");
    sl_control_free(c);
}

static void tick__hello_and_welcome_take_too_long(void **state)
{
    struct pair p;

    pair_init(&p);
    p.device.on_established = NULL;
    pair_run(&p);
    sl_control_tick(p.edge.control, p.now + 10 * second);
    pair_run(&p);
    sl_control_eof(p.edge.control, NULL);
    sl_control_eof(p.device.control, NULL);
    assert_string_equal(p.edge.text, "no Hello within 10 s");
    assert_int_equal(p.device.code, SLUICE__ERROR_CODE__ERROR_TIMEOUT);
    pair_free(&p);

    pair_init(&p);
    p.edge.on_message = NULL;
    pair_run(&p);
    sl_control_tick(p.device.control, p.now + 10 * second);
    sl_control_eof(p.device.control, NULL);
    assert_string_equal(p.device.text, "no Welcome within 10 s");
    pair_free(&p);
}

static void tick__idle(void **state)
{
    struct pair p;

    pair_open(&p);
    p.now += 59 * second;
    send_heartbeat(p.device.control, 1);
    pair_run(&p);
    assert_int_equal(sl_control_deadline(p.edge.control), p.now + 60 * second);
    sl_control_tick(p.edge.control, p.now + 59 * second);
    assert_false(sl_control_wants_close(p.edge.control));
    sl_control_tick(p.edge.control, p.now + 60 * second);
    pair_run(&p);
    sl_control_eof(p.device.control, NULL);
    assert_int_equal(p.device.code, SLUICE__ERROR_CODE__ERROR_TIMEOUT);
    assert_string_equal(p.device.text, "no message for 60 s");
    pair_free(&p);
}

/* The peer reads nothing any more: the connection ends all the same. */
static void tick__closing_is_bounded(void **state)
{
    struct pair p;

    pair_open(&p);
    sl_control_bye(p.edge.control, "run over");
    assert_true(sl_control_pending_out(p.edge.control) > 0);
    assert_true(sl_control_deadline(p.edge.control) <= p.now);
    sl_control_tick(p.edge.control, p.now);
    assert_int_equal(sl_control_deadline(p.edge.control), p.now + SL_CONTROL_CLOSE_TIMEOUT_S * second);
    assert_false(sl_control_wants_close(p.edge.control));
    sl_control_tick(p.edge.control, p.now + SL_CONTROL_CLOSE_TIMEOUT_S * second);
    assert_true(sl_control_wants_close(p.edge.control));
    pair_free(&p);
}

static void feed__refused_certificate_is_explained(void **state)
{
    struct sl_control_config config = {.role = SL_CONTROL_DEVICE};
    struct seen edge = {0}, device = {.on_established = hello_when_established};

    control_create(SL_CONTROL_EDGE, &edge, 0);
    assert_int_equal(sl_control_create(&config, stranger_ctx, &seen_ops, &device, 0, &device.control), 0);
    run_controls(device.control, edge.control, 16384, 0);
    assert_true(sl_control_wants_close(edge.control));
    assert_true(sl_control_wants_close(device.control));
    sl_control_eof(edge.control, NULL);
    sl_control_eof(device.control, "connection reset by peer");
    assert_int_equal(edge.established, 0);
    assert_int_equal(edge.code, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
    assert_string_equal(edge.text, "the device's certificate device-00001 is refused: it is not of this "
                                   "fleet's CA; issue one with scripts/pki");
    assert_int_equal(device.code, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
    assert_string_equal(device.text, "the edge refused our certificate: it is not of the peer's CA");
    sl_control_free(edge.control);
    sl_control_free(device.control);
}

static void export__same_secret_at_both_ends(void **state)
{
    uint8_t context[12] = {1}, a[32], b[32];
    struct pair p;

    pair_open(&p);
    assert_int_equal(
        sl_tls_export(sl_control_tls(p.edge.control), "EXPORTER-Sluice data v1", context, 12, a, 32), 0);
    assert_int_equal(
        sl_tls_export(sl_control_tls(p.device.control), "EXPORTER-Sluice data v1", context, 12, b, 32), 0);
    assert_memory_equal(a, b, 32);
    pair_free(&p);
}

static void free__at_any_time(void **state)
{
    for (size_t bytes = 0; bytes < 6000; bytes += 37) {
        struct pair p;
        uint8_t buf[6000];
        size_t left = bytes;

        pair_init(&p);
        for (int turn = 0; turn < 8 && left; turn++) {
            struct sl_control *from = turn % 2 ? p.edge.control : p.device.control,
                              *to = turn % 2 ? p.device.control : p.edge.control;
            size_t n = sl_control_drain(from, buf, left);

            sl_control_feed(to, buf, n, p.now);
            left -= n;
        }
        pair_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create__joins_in_pieces_of_any_size),
        cmocka_unit_test(free__at_any_time),
        cmocka_unit_test(feed__refused_certificate_is_explained),
        cmocka_unit_test(eof__without_a_word),
        cmocka_unit_test(tick__handshake_takes_too_long),
        cmocka_unit_test(tick__hello_and_welcome_take_too_long),
        cmocka_unit_test(tick__idle),
        cmocka_unit_test(tick__closing_is_bounded),
        cmocka_unit_test(send__only_what_is_due),
        cmocka_unit_test(send_adapter__arrives_whole),
        cmocka_unit_test(send_adapter__refuses_nonsense),
        cmocka_unit_test(send_adapter__queue_is_bounded),
        cmocka_unit_test(refuse__code_and_sentence_arrive),
        cmocka_unit_test(refuse__in_a_callback),
        cmocka_unit_test(bye__what_was_sent_before_arrives),
        cmocka_unit_test(export__same_secret_at_both_ends),
    };

    return cmocka_run_group_tests_name("control/peer", tests, contexts_create, contexts_free);
}
