/* The sealed packets of docs/protocol.md, made with Python's hmac and cryptography modules. */
#include "tests/transport/model.h"
#include "tests/wire/test.h"

#include "dataplane/transport/session.h"

static const char request_hex[] = "010000000000000000000001000e000e00000000000000009a6264ee8334eeaf74406e709f"
                                  "72ebde37260839433b0db4f407dcb342d20e1f"
                                  "c0894a7d32e0";
static const char data_hex[] = "010100000000000500000001000e000e00000000000000010000002c00010000e24fa9238f4fb"
                               "ae24edf3f19e4e3e651e671b3939a44d375"
                               "63bde6d16a9a5cbbac0c745689fb1ada9e21330e5f817191d8668d980cbee58dd35e05136bf7b"
                               "17bfb66e0899f45a93326f5d84bd3871b5b";
static const char ack_hex[] = "010000000000000000000001000d000d00000000003fffff94221da7f83151b88153f760702e5b"
                              "8e028bfeba8b2d84d984cdfb0bfdf9e951"
                              "9bc4";
static const char ping_hex[] =
    "010001000000000000000001000e000e0000000000400000c52fa1c8e0c4383af438d6a6232f7f5"
    "440"; /* the first packet of the next phase */
static struct model model;

static uint16_t receive(struct sl_endpoint *ep, const char *hex)
{
    uint8_t p[600];
    uint16_t len = (uint16_t)from_hex(hex, p);
    struct sl_rx r = rx_of(p, len);
    assert_int_equal(sl_rx_burst(ep, &r, 1, MS), 1);
    return len;
}

static void sl_rx_burst__opens_the_vectors(void **state)
{
    struct sl_endpoint *ep = open_one(true, &model, 16);
    struct model_message *m = model_expect(&model, 1, 5, 45); /* a fragment of one unit: the last of 45 */
    receive(ep, request_hex);
    const struct sl_request *r = &model.last_frame.request;
    assert_int_equal(model.last_frame.type, SL_FRAME_REQUEST);
    assert_true(r->step == 41 && r->kind == SL_REQUEST_EVAL && r->n_seqs == 3 && r->len[2] == 1);
    receive(ep, data_hex);
    for (unsigned i = 0; i < SL_UNIT_BYTES; i++)
        assert_int_equal(m->bytes[44 * SL_UNIT_BYTES + i], i);
    receive(ep, ping_hex);
    assert_int_equal(ep->sessions[1].rx_updates, 1);
    sl_endpoint_free(ep);
    model_free(&model);

    ep = open_one(false, &model, 16);
    ep->sessions[1].next_pn = 10; /* as if what it acknowledges had been sent */
    receive(ep, ack_hex);
    sl_endpoint_free(ep);
    model_free(&model);
}

static void sl_tx_burst__seals_the_vectors(void **state)
{
    uint8_t want[600], got[600];
    struct sl_tx tx = {.buf = got, .cap = sizeof(got)};
    struct sl_frame request = {.type = SL_FRAME_REQUEST,
        .request = {
            .step = 41, .kind = SL_REQUEST_EVAL, .ready_in_ms = 250, .n_seqs = 3, .len = {127, 63, 1}}};
    struct sl_endpoint *ep = open_one(false, &model, 16);
    assert_int_equal(sl_endpoint_frame(ep, 1, &request, MS), 0);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, MS), 1);
    assert_int_equal(tx.len, from_hex(request_hex, want));
    assert_memory_equal(got, want, tx.len);

    struct model_message *m = model_offer(&model, 1, 5, 45, 1);
    for (unsigned i = 0; i < SL_UNIT_BYTES; i++)
        m->bytes[44 * SL_UNIT_BYTES + i] = (uint8_t)i;
    assert_int_equal(sl_endpoint_send(ep, 1, 5, 45, MS), 0);
    ep->sends.sends[0].next = 11; /* the last fragment */
    assert_int_equal(sl_tx_burst(ep, &tx, 1, MS), 1);
    assert_int_equal(tx.len, from_hex(data_hex, want));
    assert_memory_equal(got, want, tx.len);
    sl_endpoint_free(ep);
    model_free(&model);

    ep = open_one(false, &model, 16);
    struct sl_session *s = &ep->sessions[1];
    s->next_pn = UINT64_C(1) << 22;
    s->tx_confirmed = true;
    s->remote_known = true;
    s->probes = 1; /* a PING */
    sl_session_update(ep, 1, MS);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, MS), 1);
    assert_int_equal(tx.len, from_hex(ping_hex, want));
    assert_memory_equal(got, want, tx.len);
    sl_endpoint_free(ep);
    model_free(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_rx_burst__opens_the_vectors),
        cmocka_unit_test(sl_tx_burst__seals_the_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
