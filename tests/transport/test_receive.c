#include "tests/transport/model.h"

enum { GRANT = 5, N_UNITS = 42, LAST0 = 40 /* the last fragment has 2 units */ };

static struct model model;
static struct sl_endpoint *ep;
static struct sealer device;
static struct model_message *message;
static uint8_t bytes[256][1024];
static struct sl_rx rx[256];

static int setup_role(bool is_edge)
{
    ep = open_one(is_edge, &model, 16);
    sealer_init(&device, is_edge, id_of(is_edge));
    message = model_expect(&model, 1, GRANT, N_UNITS);
    return 0;
}

static int setup(void **state)
{
    return setup_role(true);
}

static int teardown(void **state)
{
    assert_accounts(ep);
    sl_endpoint_free(ep);
    model_free(&model);
    sealer_free(&device);
    return 0;
}

/* Packet i of the burst: a DATA packet; `forged` spoils its tag. */
static void data(unsigned i, uint64_t pn, uint32_t unit0, uint8_t fill, bool forged)
{
    uint16_t n = unit0 == LAST0 ? N_UNITS - LAST0 : MODEL_UNITS;
    uint16_t len = seal_data(&device, pn, GRANT, unit0, n, fill, bytes[i]);
    if (forged)
        bytes[i][len - 1] ^= 1;
    rx[i] = rx_of(bytes[i], len);
}

static void frame(unsigned i, uint64_t pn, const struct sl_frame *f)
{
    rx[i] = rx_of(bytes[i], seal_frame(&device, pn, f, bytes[i]));
}

static struct sl_endpoint_stats stats(void)
{
    struct sl_endpoint_stats s;
    sl_endpoint_stats(ep, &s);
    return s;
}

static void assert_unit(uint32_t unit, uint8_t fill)
{
    for (unsigned i = 0; i < SL_UNIT_BYTES; i++)
        assert_int_equal(message->bytes[unit * SL_UNIT_BYTES + i], fill);
}

/* What the endpoint sends next; the frames of its first FRAMES packet. */
static unsigned reply(struct sl_frame *out, unsigned cap, uint64_t now_ns)
{
    uint8_t buf[600];
    struct sl_tx tx = {.buf = buf, .cap = sizeof(buf)};
    if (sl_tx_burst(ep, &tx, 1, now_ns) == 0)
        return 0;
    return open_frames_of(false, buf, tx.len, out, cap);
}

static bool acked(const struct sl_frame *f, uint64_t pn)
{
    if (f->type != SL_FRAME_ACK)
        return false;
    for (unsigned i = 0; i < f->ack.n_ranges; i++)
        if (f->ack.range[i].first <= pn && pn <= f->ack.range[i].last)
            return true;
    return false;
}

/* ---- rules T3 ---- */

static void sl_rx_burst__valid_then_forged(void **state)
{
    data(0, 0, 8, 0xaa, false);
    data(1, 1, 8, 0xbb, true);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 1);
    assert_unit(8, 0xaa);
    assert_int_equal(message->n_received, MODEL_UNITS);
    assert_int_equal(model.placed[SL_DEFER], 1);
    assert_int_equal(
        model.placed[SL_SCRATCH], 1); /* the forged one in the serial pass: not over the valid one's units */
    assert_int_equal(drops(ep, SL_DROP_BAD_TAG), 1);
    assert_int_equal(stats().delivered_data, 1);
    data(0, 1, 12, 0xcc, false); /* the forged number was not spent */
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 1);
}

static void sl_rx_burst__forged_then_valid(void **state)
{
    data(0, 0, 8, 0xbb, true);
    data(1, 1, 8, 0xaa, false);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 1);
    assert_unit(8, 0xaa);
    assert_int_equal(message->n_received, MODEL_UNITS);
    assert_int_equal(model.placed[SL_PLACE], 2); /* the claim was released */
    assert_int_equal(drops(ep, SL_DROP_BAD_TAG), 1);
    assert_int_equal(stats().delivered_data, 1);
}

static void sl_rx_burst__valid_then_valid(void **state)
{
    data(0, 0, 8, 0xaa, false);
    data(1, 1, 8, 0xaa, false);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 1);
    assert_int_equal(message->n_received, MODEL_UNITS);
    assert_int_equal(model.placed[SL_SCRATCH], 1);
    assert_int_equal(stats().scratch, 1);
    struct sl_frame f[4];
    assert_int_equal(reply(f, 4, MS), 1);
    assert_true(acked(&f[0], 0) && acked(&f[0], 1));
}

static void sl_rx_burst__same_number_valid_then_forged(void **state)
{
    data(0, 7, 8, 0xaa, false);
    data(1, 7, 12, 0xbb, true);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 1);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 1);
    assert_int_equal(drops(ep, SL_DROP_BAD_TAG), 0); /* never opened */
    assert_int_equal(message->n_received, MODEL_UNITS);
}

static void sl_rx_burst__same_number_forged_then_valid(void **state)
{
    data(0, 7, 8, 0xbb, true);
    data(1, 7, 8, 0xaa, false);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 1);
    assert_int_equal(drops(ep, SL_DROP_BAD_TAG), 1);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 0);
    assert_unit(8, 0xaa);
}

static void sl_rx_burst__same_packet_three_times(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        data(i, 7, 8, 0xaa, false);
    assert_int_equal(sl_rx_burst(ep, rx, 3, MS), 1);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 2);
    assert_int_equal(message->n_received, MODEL_UNITS);
}

static void sl_rx_burst__whole_message_with_every_packet_forged_too(void **state)
{
    unsigned n = 0;
    for (uint32_t unit0 = 0; unit0 < N_UNITS; unit0 += MODEL_UNITS) {
        data(n++, 100 + unit0, unit0, 0xbb, true);
        data(n++, unit0, unit0, (uint8_t)(unit0 + 1), false);
        data(n++, unit0, unit0, 0xcc, true);
    }
    assert_int_equal(sl_rx_burst(ep, rx, n, MS), n / 3);
    assert_int_equal(message->completed, 1);
    for (uint32_t unit = 0; unit < N_UNITS; unit++)
        assert_unit(unit, (uint8_t)(unit / MODEL_UNITS * MODEL_UNITS + 1));
    assert_int_equal(drops(ep, SL_DROP_BAD_TAG) + drops(ep, SL_DROP_REPLAYED), 2 * n / 3);
}

static void sl_rx_burst__more_than_a_burst(void **state)
{
    unsigned n = 0;
    for (unsigned round = 0; round < 15; round++)
        for (uint32_t unit0 = 0; unit0 < N_UNITS; unit0 += MODEL_UNITS, n++)
            data(n, n, unit0, (uint8_t)(unit0 + 1), false);
    assert_int_equal(n, 165);
    assert_int_equal(sl_rx_burst(ep, rx, n, MS), 11);
    assert_int_equal(message->completed, 1);
    assert_int_equal(stats().scratch, n - 11);
    assert_int_equal(sl_rx_burst(ep, rx, 0, MS), 0);
}

/* ---- rules T4 ---- */

static void sl_rx_burst__duplicate_fragment_is_acknowledged(void **state)
{
    struct sl_frame f[4];
    data(0, 0, 8, 0xaa, false);
    sl_rx_burst(ep, rx, 1, MS);
    reply(f, 4, 100 * MS);
    data(0, 1, 8, 0xaa, false); /* sent again: its acknowledgement was lost */
    assert_int_equal(sl_rx_burst(ep, rx, 1, 101 * MS), 0);
    assert_int_equal(stats().scratch, 1);
    assert_int_equal(message->n_received, MODEL_UNITS);
    assert_int_equal(reply(f, 4, 200 * MS), 1);
    assert_true(acked(&f[0], 1));
    struct sl_session_stats s;
    assert_int_equal(sl_session_stats(ep, 1, &s), 0);
    assert_int_equal(s.duplicates, 1);
}

static void sl_rx_burst__fragment_of_a_finished_message_is_acknowledged(void **state)
{
    struct sl_frame f[4];
    unsigned n = 0;
    for (uint32_t unit0 = 0; unit0 < N_UNITS; unit0 += MODEL_UNITS, n++)
        data(n, n, unit0, 1, false);
    sl_rx_burst(ep, rx, n, MS);
    assert_int_equal(message->completed, 1);
    data(0, 50, 0, 2, false);
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(message->completed, 1);
    assert_unit(0, 1); /* discarded */
    assert_int_equal(reply(f, 4, MS), 1);
    assert_true(acked(&f[0], 50));
}

static void sl_rx_burst__replayed_number_is_not_opened(void **state)
{
    data(0, 3, 8, 0xaa, false);
    sl_rx_burst(ep, rx, 1, MS);
    unsigned places = model.places;
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 1);
    assert_int_equal(model.places, places);
    data(0, 5000, 12, 0xaa, false);
    sl_rx_burst(ep, rx, 1, MS);
    data(0, 4, 16, 0xaa, false); /* never seen, but out of the window */
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 2);
}

/* ---- every drop ---- */

static void one(const uint8_t *p, uint16_t len)
{
    uint8_t copy[9100];
    memcpy(copy, p, len);
    struct sl_rx r = rx_of(copy, len);
    assert_int_equal(sl_rx_burst(ep, &r, 1, MS), 0);
}

static void sl_rx_burst__each_drop_by_its_name(void **state)
{
    uint8_t p[9100] = {0}, good[1024];
    uint16_t len = seal_data(&device, 9, GRANT, 0, MODEL_UNITS, 1, good);
#define REFUSED(why, at, value)                                                                              \
    do {                                                                                                     \
        memcpy(p, good, len);                                                                                \
        p[at] = (value);                                                                                     \
        one(p, len);                                                                                         \
        assert_int_equal(drops(ep, why), 1);                                                                 \
    } while (0)
    one(good, 40);
    assert_int_equal(drops(ep, SL_DROP_TOO_SHORT), 1);
    memcpy(p, good, len);
    one(p, SL_DATAGRAM_MAX_BYTES + 1);
    assert_int_equal(drops(ep, SL_DROP_TOO_LONG), 1);
    REFUSED(SL_DROP_VERSION, 0, 2);
    REFUSED(SL_DROP_TYPE, 1, 2);
    REFUSED(SL_DROP_RESERVED_BITS, 2, 4);
    one(good, len - 1);
    assert_int_equal(drops(ep, SL_DROP_LENGTH_MISMATCH), 1);
    REFUSED(SL_DROP_UNKNOWN_SESSION, 15, 0xff);
    REFUSED(SL_DROP_BAD_TAG, 40, 0xff);
    len = seal_data(&device, 10, GRANT + 1, 0, MODEL_UNITS, 1, good);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_NO_GRANT), 1);
    len = seal_data(&device, 11, GRANT, 1, MODEL_UNITS, 1, good);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_OFF_GRID), 1);
    len = seal_data(&device, 12, GRANT, UINT32_MAX - 1, MODEL_UNITS, 1, good);
    unsigned places = model.places;
    one(good, len); /* the run wraps: the sink is not asked */
    assert_int_equal(drops(ep, SL_DROP_OFF_GRID), 2);
    assert_int_equal(model.places, places);
    len = seal_data(&device, 1u << 23, GRANT, 0, MODEL_UNITS, 1, good);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_KEY_EXHAUSTED), 1);
    const uint8_t bad_frame[] = {0x55};
    len = seal_bytes(&device, 13, bad_frame, 1, good);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_BAD_FRAME), 1);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 1); /* its tag was right */
    len = seal_coded(&device, 15, GRANT, 0, 1, 0, good);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_BAD_CODING), 1);
    model.defer_always = true;
    len = seal_data(&device, 14, GRANT, 0, MODEL_UNITS, 1, good);
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_NO_MEMORY), 1); /* deferred when alone */
    model.defer_always = false;
    model.refuse_unnamed = true;
    one(good, len);
    assert_int_equal(drops(ep, SL_DROP_NO_GRANT), 2); /* a sink that gives no reason */
    model.refuse_unnamed = false;
    const uint8_t padding[] = {0};
    sealer_next_phase(&device);
    struct sl_rx r = rx_of(good, seal_bytes(&device, 20, padding, 1, good));
    assert_int_equal(sl_rx_burst(ep, &r, 1, MS), 1);
    sealer_next_phase(&device);
    one(good, seal_bytes(&device, 21, padding, 1, good)); /* two key updates without an ACK between */
    assert_int_equal(drops(ep, SL_DROP_NO_KEY), 1);
    for (unsigned d = SL_DROP_NONE + 1; d < SL_DROP_COUNT; d++)
        assert_true(drops(ep, (enum sl_drop)d) >= 1);
}

static void sl_rx_burst__refused_changes_nothing(void **state)
{
    struct sl_session_stats before, after;
    sl_session_stats(ep, 1, &before);
    data(0, 1000, 8, 0xaa, true);
    rx[0].remote.port = 666;
    sl_rx_burst(ep, rx, 1, 77 * MS);
    sl_session_stats(ep, 1, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_true(sl_next_deadline(ep) == UINT64_MAX);
}

static void sl_rx_burst__header_is_authenticated(void **state)
{
    /* every bit of a DATA header, of whose change the endpoint must notice */
    for (unsigned bit = 0; bit < SL_HEADER_DATA_BYTES * 8; bit++) {
        data(0, 9, 8, 0xaa, false);
        bytes[0][bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 0);
    }
    assert_int_equal(message->n_received, 0);
    struct sl_session_stats s;
    sl_session_stats(ep, 1, &s);
    assert_int_equal(s.packets_rx, 0);
}

static void sl_rx_burst__closed_session_is_unknown(void **state)
{
    sl_endpoint_close(ep, 1);
    data(0, 0, 0, 1, false);
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 0);
    assert_int_equal(drops(ep, SL_DROP_UNKNOWN_SESSION), 1);
}

/* ---- frames ---- */

static void sl_rx_burst__bad_frame_applies_nothing(void **state)
{
    uint8_t plain[300];
    struct sl_frame request = {.type = SL_FRAME_REQUEST, .request = {.step = 2, .n_seqs = 1, .len = {9}}};
    size_t n = sl_frame_encode(&request, plain, sizeof(plain));
    plain[n] = 0x77; /* after a good one */
    rx[0] = rx_of(bytes[0], seal_bytes(&device, 0, plain, n + 1, bytes[0]));
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 0);
    assert_int_equal(model.frames[SL_FRAME_REQUEST][2], 0);
    assert_int_equal(drops(ep, SL_DROP_BAD_FRAME), 1);
    struct sl_frame f[4];
    assert_int_equal(reply(f, 4, 100 * MS), 0); /* nor is it acknowledged */
}

static void sl_rx_burst__frame_of_the_wrong_direction(void **state)
{
    struct sl_frame grant = {.type = SL_FRAME_GRANT, .grant = {.index = 1}};
    frame(0, 0, &grant);
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(drops(ep, SL_DROP_BAD_FRAME), 1);
    assert_int_equal(model.frames[SL_FRAME_GRANT][0], 0);
}

static void sl_rx_burst__ack_of_what_was_never_sent(void **state)
{
    struct sl_frame ack = {.type = SL_FRAME_ACK, .ack = {.n_ranges = 1, .range = {{0, 0}}}};
    frame(0, 0, &ack);
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(drops(ep, SL_DROP_BAD_FRAME), 1);
}

static void sl_rx_burst__frames_are_delivered_each_time(void **state)
{
    struct sl_frame f[4],
        request = {.type = SL_FRAME_REQUEST, .request = {.step = 2, .n_seqs = 1, .len = {9}}};
    frame(0, 0, &request);
    frame(1, 1, &request);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 2);
    assert_int_equal(model.frames[SL_FRAME_REQUEST][2], 2);
    assert_int_equal(reply(f, 4, MS), 1);
    assert_true(acked(&f[0], 0) && acked(&f[0], 1));
}

static void sl_rx_burst__path_challenge_is_answered(void **state)
{
    struct sl_frame f[4], challenge = {.type = SL_FRAME_PATH_CHALLENGE, .challenge = 0xfeed};
    frame(0, 0, &challenge);
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(reply(f, 4, MS), 2);
    assert_int_equal(f[1].type, SL_FRAME_PATH_RESPONSE);
    assert_int_equal(f[1].challenge, 0xfeed);
}

static void sl_rx_burst__padding_alone_is_not_acknowledged(void **state)
{
    struct sl_frame f[4], padding = {.type = SL_FRAME_PADDING};
    frame(0, 0, &padding);
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 1);
    assert_int_equal(reply(f, 4, 1000 * MS), 0);
}

/* ---- acknowledgements ---- */

static void sl_rx_burst__one_ack_for_a_burst(void **state)
{
    struct sl_frame f[4];
    for (unsigned i = 0; i < 10; i++)
        data(i, i, i * MODEL_UNITS, 1, false);
    sl_rx_burst(ep, rx, 10, MS);
    assert_int_equal(sl_next_deadline(ep), 0);
    assert_int_equal(reply(f, 4, MS + 3000), 1);
    assert_int_equal(f[0].ack.n_ranges, 1);
    assert_true(f[0].ack.range[0].first == 0 && f[0].ack.range[0].last == 9);
    assert_int_equal(f[0].ack.delay_us, 3);
    assert_int_equal(reply(f, 4, MS + 3000), 0);
}

static void sl_rx_burst__lone_packet_waits_for_the_ack_delay(void **state)
{
    struct sl_frame f[4];
    data(0, 0, 0, 1, false);
    sl_rx_burst(ep, rx, 1, 10 * MS);
    assert_int_equal(reply(f, 4, 10 * MS), 0);
    uint64_t at = sl_next_deadline(ep);
    assert_true(at > 10 * MS && at <= 15 * MS + 100000);
    assert_int_equal(reply(f, 4, 14 * MS), 0);
    assert_int_equal(reply(f, 4, 15 * MS + 100000), 1);
    assert_true(acked(&f[0], 0));
}

static void sl_rx_burst__gap_is_told_at_once(void **state)
{
    struct sl_frame f[4];
    data(0, 0, 0, 1, false);
    sl_rx_burst(ep, rx, 1, 10 * MS);
    reply(f, 4, 20 * MS);
    data(0, 2, 4, 1, false);
    sl_rx_burst(ep, rx, 1, 20 * MS);
    assert_int_equal(reply(f, 4, 20 * MS), 1);
    assert_int_equal(f[0].ack.n_ranges, 2);
    assert_false(acked(&f[0], 1));
}

/* ---- rules T9 ---- */

static void sl_rx_burst__address_follows_the_highest_number(void **state)
{
    uint8_t buf[600];
    struct sl_tx tx = {.buf = buf, .cap = sizeof(buf)};
    struct sl_frame ping = {.type = SL_FRAME_PING};
    struct sl_addr a = device_addr, b = device_addr, c = device_addr;
    a.port = 1;
    b.port = 2;
    c.port = 3;

    frame(0, 10, &ping);
    rx[0].remote = a;
    bytes[0][30] ^= 1; /* not authentic: nothing is learnt, nothing sent */
    sl_rx_burst(ep, rx, 1, MS);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, 100 * MS), 0);

    frame(0, 10, &ping);
    rx[0].remote = a;
    sl_rx_burst(ep, rx, 1, 100 * MS);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, 100 * MS), 1);
    assert_memory_equal(&tx.remote, &a, sizeof(a));
    assert_memory_equal(&tx.local, &edge_addr, sizeof(a));

    frame(0, 9, &ping); /* late, from where the phone was before */
    rx[0].remote = b;
    sl_rx_burst(ep, rx, 1, 200 * MS);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, 200 * MS), 1);
    assert_memory_equal(&tx.remote, &a, sizeof(a));

    frame(0, 12, &ping);
    rx[0].remote = c;
    sl_rx_burst(ep, rx, 1, 300 * MS);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, 300 * MS), 1);
    assert_memory_equal(&tx.remote, &c, sizeof(c));
}

static void sl_rx_burst__device_stays_with_its_edge(void **state)
{
    teardown(NULL);
    setup_role(false);
    uint8_t buf[600];
    struct sl_tx tx = {.buf = buf, .cap = sizeof(buf)};
    struct sl_frame ping = {.type = SL_FRAME_PING};
    frame(0, 0, &ping);
    rx[0].remote.port = 1234;
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 1);
    assert_int_equal(sl_tx_burst(ep, &tx, 1, 100 * MS), 1);
    assert_memory_equal(&tx.remote, &edge_addr, sizeof(edge_addr));
}

/* ---- compressed fragments ---- */

static void coded(unsigned i, uint64_t pn, uint32_t unit0, uint8_t fill, uint8_t mark)
{
    rx[i] = rx_of(bytes[i], seal_coded(&device, pn, GRANT, unit0, fill, mark, bytes[i]));
}

static void sl_rx_burst__compressed_fragment(void **state)
{
    coded(0, 0, 8, 0xaa, MODEL_CODED_MARK);
    data(1, 1, 12, 0xbb, false);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 2);
    for (uint32_t u = 8; u < 16; u++)
        assert_unit(u, u < 12 ? 0xaa : 0xbb);
    coded(0, 2, 4, 0xcc, MODEL_CODED_MARK);
    bytes[0][2] = 0; /* the flag is authenticated, and without it the length is wrong */
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 0);
    assert_int_equal(message->n_received, 2 * MODEL_UNITS);
}

/* Authentic, but nothing comes of it: the claim is given up, the number is spent, later ACKs name it. */
static void sl_rx_burst__compressed_fragment_makes_no_sense(void **state)
{
    struct sl_frame f[4];
    coded(0, 0, 8, 0xaa, 0);
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 0);
    assert_int_equal(drops(ep, SL_DROP_BAD_CODING), 1);
    assert_int_equal(message->n_received, 0);
    assert_int_equal(sl_rx_burst(ep, rx, 1, MS), 0);
    assert_int_equal(drops(ep, SL_DROP_REPLAYED), 1);
    data(0, 1, 8, 0xbb, false);
    data(1, 2, 12, 0xbb, false);
    assert_int_equal(sl_rx_burst(ep, rx, 2, MS), 2);
    assert_unit(8, 0xbb);
    assert_int_equal(reply(f, 4, MS), 1);
    assert_true(acked(&f[0], 0) && acked(&f[0], 2));
}

#define WITH_EDGE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_EDGE(sl_rx_burst__valid_then_forged),
        WITH_EDGE(sl_rx_burst__forged_then_valid),
        WITH_EDGE(sl_rx_burst__valid_then_valid),
        WITH_EDGE(sl_rx_burst__same_number_valid_then_forged),
        WITH_EDGE(sl_rx_burst__same_number_forged_then_valid),
        WITH_EDGE(sl_rx_burst__same_packet_three_times),
        WITH_EDGE(sl_rx_burst__whole_message_with_every_packet_forged_too),
        WITH_EDGE(sl_rx_burst__more_than_a_burst),
        WITH_EDGE(sl_rx_burst__duplicate_fragment_is_acknowledged),
        WITH_EDGE(sl_rx_burst__fragment_of_a_finished_message_is_acknowledged),
        WITH_EDGE(sl_rx_burst__replayed_number_is_not_opened),
        WITH_EDGE(sl_rx_burst__each_drop_by_its_name),
        WITH_EDGE(sl_rx_burst__refused_changes_nothing),
        WITH_EDGE(sl_rx_burst__header_is_authenticated),
        WITH_EDGE(sl_rx_burst__closed_session_is_unknown),
        WITH_EDGE(sl_rx_burst__bad_frame_applies_nothing),
        WITH_EDGE(sl_rx_burst__frame_of_the_wrong_direction),
        WITH_EDGE(sl_rx_burst__ack_of_what_was_never_sent),
        WITH_EDGE(sl_rx_burst__frames_are_delivered_each_time),
        WITH_EDGE(sl_rx_burst__path_challenge_is_answered),
        WITH_EDGE(sl_rx_burst__padding_alone_is_not_acknowledged),
        WITH_EDGE(sl_rx_burst__one_ack_for_a_burst),
        WITH_EDGE(sl_rx_burst__lone_packet_waits_for_the_ack_delay),
        WITH_EDGE(sl_rx_burst__gap_is_told_at_once),
        WITH_EDGE(sl_rx_burst__address_follows_the_highest_number),
        WITH_EDGE(sl_rx_burst__compressed_fragment),
        WITH_EDGE(sl_rx_burst__compressed_fragment_makes_no_sense),
        WITH_EDGE(sl_rx_burst__device_stays_with_its_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
