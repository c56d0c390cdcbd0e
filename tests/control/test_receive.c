/* A peer that holds a good certificate and misbehaves: it writes frames by hand into a bare TLS connection.
 */
#include "tests/control/pair.h"

#include <stdint.h>

struct bare {
    struct seen seen; /* our end's application */
    struct sl_tls *peer;
    bool we_are_edge;
    uint64_t now;
    Sluice__ErrorCode got_code; /* of the Error that reached the bare end */
    char got_text[300];
};

/* Moves bytes both ways; reads our Error, if there is one, at the bare end. */
static void bare_run(struct bare *b)
{
    static uint8_t in[1 << 20];
    static size_t have;
    uint8_t buf[16384];
    size_t n;
    long got;

    have = 0;
    for (bool any = true; any;) {
        any = false;
        while ((n = sl_tls_drain(b->peer, buf, sizeof(buf)))) {
            sl_control_feed(b->seen.control, buf, n, b->now);
            any = true;
        }
        while ((n = sl_control_drain(b->seen.control, buf, sizeof(buf)))) {
            sl_tls_feed(b->peer, buf, n);
            any = true;
        }
    }
    while (have < sizeof(in) && (got = sl_tls_read(b->peer, in + have, sizeof(in) - have)) > 0)
        have += (size_t)got;
    for (size_t at = 0; at + 4 <= have;) {
        size_t len = (size_t)in[at] << 24 | (size_t)in[at + 1] << 16 | (size_t)in[at + 2] << 8 | in[at + 3];
        Sluice__Envelope *e = sluice__envelope__unpack(NULL, len, in + at + 4);

        assert_non_null(e);
        if (e->body_case == SLUICE__ENVELOPE__BODY_ERROR) {
            b->got_code = e->error->code;
            snprintf(b->got_text, sizeof(b->got_text), "%s", e->error->text);
        }
        sluice__envelope__free_unpacked(e, NULL);
        at += 4 + len;
    }
}

static void bare_init(struct bare *b, bool we_are_edge)
{
    memset(b, 0, sizeof(*b));
    b->we_are_edge = we_are_edge;
    b->now = 100 * second;
    control_create(we_are_edge ? SL_CONTROL_EDGE : SL_CONTROL_DEVICE, &b->seen, b->now);
    if (we_are_edge)
        b->seen.on_message = welcome_after_hello;
    else
        b->seen.on_established = hello_when_established;
    assert_int_equal(sl_tls_create(we_are_edge ? device_ctx : edge_ctx, &b->peer), 0);
    bare_run(b);
    assert_int_equal(b->seen.established, 1);
}

static void bare_free(struct bare *b)
{
    sl_control_free(b->seen.control);
    sl_tls_free(b->peer);
    free(b->seen.floats);
}

static void write_frame(struct bare *b, const uint8_t *body, size_t len, uint32_t length_field)
{
    uint8_t head[4] = {(uint8_t)(length_field >> 24), (uint8_t)(length_field >> 16),
        (uint8_t)(length_field >> 8), (uint8_t)length_field};

    assert_int_equal(sl_tls_write(b->peer, head, 4), 0);
    assert_int_equal(sl_tls_write(b->peer, body, len), 0);
    bare_run(b);
}

static void write_envelope(struct bare *b, const Sluice__Envelope *e)
{
    size_t len = sluice__envelope__get_packed_size(e);
    uint8_t *body = malloc(len + 1);

    sluice__envelope__pack(e, body);
    write_frame(b, body, len, (uint32_t)len);
    free(body);
}

#define WRITE(bare, kind, field, Type, INIT, ...)                                                            \
    do {                                                                                                     \
        Type inner_ = INIT;                                                                                  \
        Sluice__Envelope e_ = SLUICE__ENVELOPE__INIT;                                                        \
        __VA_ARGS__;                                                                                         \
        e_.body_case = SLUICE__ENVELOPE__BODY_##kind;                                                        \
        e_.field = &inner_;                                                                                  \
        write_envelope(bare, &e_);                                                                           \
    } while (0)
#define HELLO(b) WRITE(b, HELLO, hello, Sluice__Hello, SLUICE__HELLO__INIT, inner_.protocol = 1)
#define WELCOME(b) WRITE(b, WELCOME, welcome, Sluice__Welcome, SLUICE__WELCOME__INIT, inner_.session = 1)
#define HEARTBEAT(b)                                                                                         \
    WRITE(b, HEARTBEAT, heartbeat, Sluice__Heartbeat, SLUICE__HEARTBEAT__INIT, inner_.seq_no = 1)
#define PULL(b)                                                                                              \
    WRITE(b, ADAPTER_PULL, adapter_pull, Sluice__AdapterPull, SLUICE__ADAPTER_PULL__INIT, inner_.version = 1)
#define PLAN(b) WRITE(b, PLAN, plan, Sluice__Plan, SLUICE__PLAN__INIT, inner_.cut = 1)
#define ACK(b)                                                                                               \
    WRITE(b, HEARTBEAT_ACK, heartbeat_ack, Sluice__HeartbeatAck, SLUICE__HEARTBEAT_ACK__INIT,                \
        inner_.seq_no = 1)
#define KEPT(b)                                                                                              \
    WRITE(b, ADAPTER_KEPT, adapter_kept, Sluice__AdapterKept, SLUICE__ADAPTER_KEPT__INIT, inner_.version = 1)
#define DONE(b)                                                                                              \
    WRITE(b, PHASE_DONE, phase_done, Sluice__PhaseDone, SLUICE__PHASE_DONE__INIT, inner_.phase = 1)

/* Refused: told so with code and sentence, closing, and our application knows the same. */
static void assert_refused(struct bare *b, Sluice__ErrorCode code, const char *part)
{
    assert_true(sl_control_wants_close(b->seen.control));
    sl_control_eof(b->seen.control, NULL);
    assert_int_equal(b->seen.closed, 1);
    assert_int_equal(b->seen.code, code);
    if (!strstr(b->seen.text, part))
        fail_msg("\"%s\" lacks \"%s\"", b->seen.text, part);
    assert_int_equal(b->got_code, code);
    assert_string_equal(b->got_text, b->seen.text);
    bare_free(b);
}

static void input__bad_framing(void **state)
{
    static uint8_t junk[100];
    struct bare b;

    bare_init(&b, true);
    write_frame(&b, junk, 10, 0x47455420); /* "GET " */
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "more than 524288 bytes");

    bare_init(&b, true);
    write_frame(&b, junk, 0, SL_CONTROL_MESSAGE_MAX + 1);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "more than 524288 bytes");

    bare_init(&b, true);
    write_frame(&b, junk, 0, 0);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "empty");

    memset(junk, 0xff, sizeof(junk));
    bare_init(&b, true);
    write_frame(&b, junk, sizeof(junk), sizeof(junk));
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "malformed");
}

static void input__unknown_message(void **state)
{
    const uint8_t field_99[] = {0x98, 0x06, 0x01}; /* of the Envelope: unknown to this version */
    struct bare b;

    bare_init(&b, true);
    write_frame(&b, field_99, sizeof(field_99), sizeof(field_99));
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "unknown message is not allowed before hello");
}

/* Half a MiB of two-byte unknown fields would unpack to many MiB. */
static void input__message_that_unpacks_to_much_more(void **state)
{
    uint8_t *bomb = malloc(SL_CONTROL_MESSAGE_MAX);
    struct bare b;

    for (size_t i = 0; i < SL_CONTROL_MESSAGE_MAX; i += 2) {
        bomb[i] = 0x78; /* field 15, varint */
        bomb[i + 1] = 1;
    }
    bare_init(&b, true);
    write_frame(&b, bomb, SL_CONTROL_MESSAGE_MAX, SL_CONTROL_MESSAGE_MAX);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "malformed");
    free(bomb);
}

static void input__largest_message_is_taken(void **state)
{
    char *text = malloc(SL_CONTROL_MESSAGE_MAX);
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;
    struct bare b;

    memset(text, 'a', SL_CONTROL_MESSAGE_MAX);
    text[SL_CONTROL_MESSAGE_MAX - 8] = 0; /* field and length, of string and of Hello */
    hello.device_class = text;
    e.body_case = SLUICE__ENVELOPE__BODY_HELLO;
    e.hello = &hello;
    assert_int_equal(sluice__envelope__get_packed_size(&e), SL_CONTROL_MESSAGE_MAX);
    bare_init(&b, true);
    write_envelope(&b, &e);
    assert_int_equal(b.seen.kinds[SLUICE__ENVELOPE__BODY_HELLO], 1);
    assert_false(sl_control_wants_close(b.seen.control));
    bare_free(&b);
    free(text);
}

static void input__edge_wants_hello_first_and_once(void **state)
{
    struct bare b;

    bare_init(&b, true);
    HEARTBEAT(&b);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "heartbeat is not allowed before hello");

    bare_init(&b, true);
    HELLO(&b);
    HELLO(&b);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "hello is not allowed at this point");

    bare_init(&b, true);
    b.seen.on_message = NULL; /* Welcome is still to come */
    HELLO(&b);
    HEARTBEAT(&b);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "heartbeat is not allowed before welcome");
}

static void input__edge_refuses_what_only_edges_say(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct bare b;

        bare_init(&b, true);
        HELLO(&b);
        if (i == 3)
            KEPT(&b);
        else if (i == 0)
            WELCOME(&b);
        else if (i == 1)
            PLAN(&b);
        else
            ACK(&b);
        assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "is not allowed at this point");
    }
}

static void input__device_refuses_what_only_devices_say(void **state)
{
    for (int i = 0; i < 5; i++) {
        struct bare b;

        bare_init(&b, false);
        WELCOME(&b);
        if (i == 0)
            HELLO(&b);
        else if (i == 1)
            HEARTBEAT(&b);
        else if (i == 2)
            PULL(&b);
        else if (i == 3)
            DONE(&b);
        else
            WELCOME(&b);
        assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "is not allowed at this point");
    }
}

static void input__device_wants_welcome_first(void **state)
{
    struct bare b;

    bare_init(&b, false);
    PLAN(&b);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "plan is not allowed before welcome");
}

static void input__every_message_of_the_device(void **state)
{
    struct bare b;

    bare_init(&b, true);
    HELLO(&b);
    HEARTBEAT(&b);
    PULL(&b);
    DONE(&b);
    assert_int_equal(b.seen.messages, 4);
    assert_false(sl_control_wants_close(b.seen.control));
    bare_free(&b);
}

static void input__too_many_messages(void **state)
{
    struct bare b;

    bare_init(&b, true);
    HELLO(&b);
    for (int i = 0; i < 199; i++)
        HEARTBEAT(&b);
    assert_int_equal(b.seen.messages, 200);
    b.now += second / 2; /* pays for 100 more */
    for (int i = 0; i < 100; i++)
        HEARTBEAT(&b);
    assert_int_equal(b.seen.messages, 300);
    HEARTBEAT(&b);
    assert_int_equal(b.seen.messages, 300);
    assert_refused(&b, SLUICE__ERROR_CODE__ERROR_LIMIT, "too many messages");
}

struct chunk {
    uint64_t version, total, offset;
    uint32_t first, last;
    size_t len;
    Sluice__AdapterKind kind;
};

static void write_chunk(struct bare *b, struct chunk c)
{
    uint8_t *data = calloc(1, c.len + 1);

    WRITE(b, ADAPTER_CHUNK, adapter_chunk, Sluice__AdapterChunk, SLUICE__ADAPTER_CHUNK__INIT,
        inner_.version = c.version, inner_.total_bytes = c.total, inner_.offset = c.offset,
        inner_.first = c.first, inner_.last = c.last, inner_.data.data = data, inner_.data.len = c.len,
        inner_.kind = c.kind);
    free(data);
}

static const struct chunk good = {
    .version = 1, .total = 100000, .offset = 0, .first = 0, .last = 2, .len = 20000};

static void chunk__bad_ones(void **state)
{
    static const struct {
        struct chunk second;
        Sluice__ErrorCode code;
        const char *says;
        bool alone; /* is the first chunk itself */
    } cases[] = {
        {{1, 100000, 24000, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "out of order", false},
        {{1, 100000, 0, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "out of order", false},
        {{1, 100000, 16000, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "out of order", false},
        {{2, 100000, 20000, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "another adapter", false},
        {{1, 100004, 20000, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "another adapter", false},
        {{1, 100000, 20000, 1, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "another adapter", false},
        {{1, 100000, 20000, 0, 2, 80004, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "beyond", false},
        {{1, 100000, UINT64_MAX - 3, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "beyond", false},
        {{1, 100000, 20000, 0, 2, 100, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "too small", false},
        {{1, 100000, 20000, 0, 2, 0, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "size", false},
        {{1, 100000, 20000, 0, 2, 20002, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "size", false},
        {{1, 1000000, 0, 0, 2, SL_CONTROL_CHUNK_MAX + 4, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "size",
            true},
        {{1, 100000, 20000, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "out of order", true},
        {{1, 100000, 0, 2, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "shape", true},
        {{1, 100001, 0, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "shape", true},
        {{1, 100000, 20000, 0, 2, 20000, SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS},
            SLUICE__ERROR_CODE__ERROR_PROTOCOL, "another adapter", false},
        {{1, 100000, 0, 0, 2, 20000, SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS},
            SLUICE__ERROR_CODE__ERROR_PROTOCOL, "more than one block", true},
        {{1, 100000, 0, 0, 2, 20000, (Sluice__AdapterKind)7}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "of a kind",
            true},
        {{1, 0, 0, 0, 2, 4, 0}, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "beyond", true},
        {{1, (8 << 20) + 4, 0, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_LIMIT, "at most 8388608", true},
        {{1, UINT64_MAX - 3, 0, 0, 2, 20000, 0}, SLUICE__ERROR_CODE__ERROR_LIMIT, "at most 8388608", true},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bare b;

        bare_init(&b, true);
        HELLO(&b);
        if (!cases[i].alone)
            write_chunk(&b, good);
        assert_false(sl_control_wants_close(b.seen.control));
        write_chunk(&b, cases[i].second);
        assert_int_equal(b.seen.adapters, 0);
        assert_refused(&b, cases[i].code, cases[i].says);
    }
}

static void chunk__others_may_come_between(void **state)
{
    struct chunk c = good;
    struct bare b;

    bare_init(&b, true);
    HELLO(&b);
    for (c.offset = 0; c.offset < c.total; c.offset += c.len) {
        write_chunk(&b, c);
        HEARTBEAT(&b);
    }
    assert_int_equal(b.seen.adapters, 1);
    assert_int_equal(b.seen.transfer.n, 25000);
    write_chunk(&b, good); /* and another adapter may follow */
    assert_false(sl_control_wants_close(b.seen.control));
    bare_free(&b);
}

static void chunk__kinds_and_their_directions(void **state)
{
    struct chunk c = good;
    struct bare b;

    c.total = c.len;
    c.last = 1;
    for (int kind = SLUICE__ADAPTER_KIND__ADAPTER_WEIGHTS; kind <= SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS;
         kind++) {
        for (int edge = 0; edge < 2; edge++) {
            bool taken = edge || kind != SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS;
            bare_init(&b, edge);
            if (edge)
                HELLO(&b);
            else
                WELCOME(&b);
            c.kind = (Sluice__AdapterKind)kind;
            write_chunk(&b, c);
            assert_int_equal(b.seen.adapters, taken);
            if (taken)
                assert_int_equal(b.seen.transfer.kind, kind);
            bare_free(&b);
        }
    }
}

static void error__of_the_peer_ends_it(void **state)
{
    struct bare b;

    bare_init(&b, false);
    WRITE(&b, ERROR, error, Sluice__Error, SLUICE__ERROR__INIT, inner_.code = SLUICE__ERROR_CODE__ERROR_FULL,
        inner_.text = (char *)"the edge is full\r\nreally");
    assert_int_equal(b.seen.kinds[SLUICE__ENVELOPE__BODY_ERROR], 1);
    assert_true(sl_control_wants_close(b.seen.control));
    sl_control_eof(b.seen.control, NULL);
    assert_int_equal(b.seen.code, SLUICE__ERROR_CODE__ERROR_FULL);
    assert_string_equal(b.seen.text, "the edge is full? really");
    bare_free(&b);
}

static void closed__by_the_peer_without_bye(void **state)
{
    struct bare b;

    bare_init(&b, true);
    HELLO(&b);
    sl_tls_close(b.peer);
    bare_run(&b);
    assert_true(sl_control_wants_close(b.seen.control));
    sl_control_eof(b.seen.control, NULL);
    assert_int_equal(b.seen.code, SLUICE__ERROR_CODE__ERROR_NONE);
    assert_string_equal(b.seen.text, "the peer closed the connection");
    bare_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input__bad_framing),
        cmocka_unit_test(input__unknown_message),
        cmocka_unit_test(input__message_that_unpacks_to_much_more),
        cmocka_unit_test(input__largest_message_is_taken),
        cmocka_unit_test(input__edge_wants_hello_first_and_once),
        cmocka_unit_test(input__edge_refuses_what_only_edges_say),
        cmocka_unit_test(input__device_refuses_what_only_devices_say),
        cmocka_unit_test(input__device_wants_welcome_first),
        cmocka_unit_test(input__every_message_of_the_device),
        cmocka_unit_test(input__too_many_messages),
        cmocka_unit_test(chunk__bad_ones),
        cmocka_unit_test(chunk__others_may_come_between),
        cmocka_unit_test(chunk__kinds_and_their_directions),
        cmocka_unit_test(error__of_the_peer_ends_it),
        cmocka_unit_test(closed__by_the_peer_without_bye),
    };

    return cmocka_run_group_tests_name("control/receive", tests, contexts_create, contexts_free);
}
