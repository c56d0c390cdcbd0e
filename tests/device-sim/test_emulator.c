/* The emulator between port and endpoint: every datagram comes back once, at its time, or is freed under a
 * name. */
#include "device-sim/fleet/emulator.h"

#include "tests/wire/test.h"

#include <stdlib.h>

static const uint64_t ms = 1000000;
static unsigned freed;

/* The emulator needs no more of a queue. */
static void count_freed(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    freed += n;
}
static const struct sl_port_ops ops = {.free = count_freed};
static struct sl_queue queue = {.ops = &ops};
static const struct sl_phone_addresses addresses = {
    .first = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [13] = 77}, .port = SL_PHONE_PORT}};

static struct sl_emulator *emulator_of(uint32_t n_phones, uint32_t max_packets,
    const struct sl_discipline_params *discipline, const struct sl_impairment_params *impairment)
{
    struct sl_link_pair *link = calloc(n_phones, sizeof(*link));
    struct sl_emulator *e;

    for (uint32_t i = 0; i < n_phones; i++) {
        link[i].up = (struct sl_link_params){.service = {.kind = SL_SERVICE_RATE, .rate_bps = 8e6},
            .queue = *discipline,
            .impairment = *impairment,
            .delay_ns = (i + 1) * ms};
        link[i].down = link[i].up;
        link[i].down.service.rate_bps = 16e6;
    }
    assert_int_equal(sl_emulator_create(link, NULL, &addresses, n_phones, max_packets, 7, &e), 0);
    sl_emulator_bind(e, &queue);
    free(link);
    freed = 0;
    return e;
}

static struct sl_emulator *emulator(uint32_t n_phones, uint32_t max_packets, double loss)
{
    static const struct sl_discipline_params droptail = {.kind = SL_DISCIPLINE_DROPTAIL, .bytes = 1 << 20};

    return emulator_of(n_phones, max_packets, &droptail, &(struct sl_impairment_params){.loss.good = loss});
}

static struct sl_dgram dgram(struct sl_addr src, struct sl_addr dst, uintptr_t tag)
{
    return (struct sl_dgram){
        .len = 1000 - SL_LINK_IP_UDP_BYTES, .src = src, .dst = dst, .buffer = (void *)tag};
}

static void up_and_down__take_the_phones_own_link(void **state)
{
    struct sl_emulator *e = emulator(4, 100, 0);
    struct sl_addr edge = {.port = 4433};
    struct sl_dgram up[2] = {
        dgram(sl_phone_address(&addresses, 2), edge, 20), dgram(sl_phone_address(&addresses, 0), edge, 10)};
    struct sl_dgram down = dgram(edge, sl_phone_address(&addresses, 1), 30), out[4];

    sl_fleet_emulator.up(e, up, 2, 0);
    sl_fleet_emulator.down(e, &down, 1, 0);
    /* up: 1000 bytes at 8 Mbit/s are 1 ms, plus 1 ms or 3 ms; down: half a millisecond plus 2 ms */
    assert_int_equal(sl_fleet_emulator.deadline(e), ms / 2); /* served */
    assert_int_equal(sl_fleet_emulator.down_ready(e, out, 4, ms), 0);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, 2 * ms - 1), 0);
    assert_int_equal(sl_fleet_emulator.deadline(e), 2 * ms);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, 2 * ms), 1);
    assert_int_equal((uintptr_t)out[0].buffer, 10);
    assert_int_equal(sl_fleet_emulator.deadline(e), 2 * ms + ms / 2);
    assert_int_equal(sl_fleet_emulator.down_ready(e, out, 4, 4 * ms), 1);
    assert_int_equal((uintptr_t)out[0].buffer, 30);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, 4 * ms), 1);
    assert_int_equal((uintptr_t)out[0].buffer, 20);
    assert_int_equal(sl_fleet_emulator.deadline(e), UINT64_MAX);
    assert_int_equal(freed, 0);
    sl_emulator_free(e);
}

/* "A phone that computes for twelve seconds pays a second to send": packets of phone 0, whose radio is
 * released after 10 s; 1 ms of service and 1 ms of delay when it is awake. */
static void radio__an_idle_phone_pays_its_promotion(void **state)
{
    static const uint64_t second = 1000 * ms;
    struct sl_emulator *e = emulator(1, 100, 0);
    struct sl_addr edge = {.port = 4433}, phone = sl_phone_address(&addresses, 0);
    struct sl_rrc_config radio = {.inactivity_ns = 10 * second};
    struct sl_dgram up = dgram(phone, edge, 1), down = dgram(edge, phone, 2), out[4];
    uint64_t t = second, computed;

    sl_rrc_fit(&radio, 1, 1);
    sl_emulator_set_radio(e, 0, &radio, 7);
    sl_fleet_emulator.up(e, &up, 1, t); /* REQUEST: the phone had been idle */
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, t + second + 1 * ms), 0);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, t + second + 2 * ms + 1000), 1);
    t += second + 10 * ms;
    sl_fleet_emulator.down(e, &down, 1, t); /* GRANT: awake */
    assert_int_equal(sl_fleet_emulator.down_ready(e, out, 4, t + 2 * ms), 1);
    computed = t + 9 * second; /* nine seconds of computing: still connected */
    sl_fleet_emulator.up(e, &up, 1, computed);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, computed + 2 * ms), 1);
    computed += 12 * second; /* twelve: a second, also for what comes the other way meanwhile */
    sl_fleet_emulator.up(e, &up, 1, computed);
    sl_fleet_emulator.down(e, &down, 1, computed + 100 * ms);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, computed + second + 1 * ms), 0);
    assert_int_equal(sl_fleet_emulator.down_ready(e, out, 4, computed + second + 1 * ms), 0);
    assert_int_equal(sl_fleet_emulator.up_ready(e, out, 4, computed + second + 3 * ms), 1);
    assert_int_equal(sl_fleet_emulator.down_ready(e, out, 4, computed + second + 3 * ms), 1);
    assert_true(sl_emulator_radio(e, 0)->promotions == 2);
    assert_int_equal(freed, 0);
    sl_emulator_free(e);
}

static void strays__are_freed_and_counted(void **state)
{
    struct sl_emulator *e = emulator(2, 100, 0);
    struct sl_addr edge = {.port = 4433};
    struct sl_dgram d[2] = {dgram(edge, sl_phone_address(&addresses, 2), 1), dgram(edge, edge, 2)};

    sl_fleet_emulator.down(e, d, 2, 0);
    assert_int_equal(freed, 2);
    assert_int_equal(sl_emulator_strays(e), 2);
    assert_int_equal(sl_fleet_emulator.deadline(e), UINT64_MAX);
    sl_emulator_free(e);
}

/* ready + freed = given, and no datagram comes twice. */
static void assert_each_once(struct sl_emulator *e, unsigned n)
{
    struct sl_addr edge = {.port = 4433};
    uint8_t *seen = calloc(n, 1);
    unsigned got = 0;
    struct sl_dgram out[16];

    for (uint32_t i = 0; i < n; i++) {
        struct sl_dgram d = dgram(sl_phone_address(&addresses, i % 3), edge, i);
        sl_fleet_emulator.up(e, &d, 1, i * ms / 4);
        unsigned ready = i % 7 ? 0 : sl_fleet_emulator.up_ready(e, out, 16, i * ms / 4);
        for (unsigned k = 0; k < ready; k++) {
            assert_int_equal(seen[(uintptr_t)out[k].buffer]++, 0);
            got++;
        }
    }
    uint64_t due;
    while ((due = sl_fleet_emulator.deadline(e)) != UINT64_MAX) {
        unsigned ready = sl_fleet_emulator.up_ready(e, out, 16, due);
        for (unsigned k = 0; k < ready; k++)
            assert_int_equal(seen[(uintptr_t)out[k].buffer]++, 0);
        got += ready;
    }
    assert_int_equal(got + freed, n);
    assert_true(freed > n / 20);
    free(seen);
    sl_emulator_free(e);
}

/* Loss, a full queue, and a full table. */
static void every_datagram__comes_back_once(void **state)
{
    assert_each_once(emulator(3, 300, 0.1), 5000);
}

/* Dropped at the head of the queue, early at its end, in bursts on the air, and out of order. */
static void every_datagram__whatever_the_queue_and_the_air(void **state)
{
    static const struct sl_impairment_params air = {
        .loss = {.bad = 0.8, .good_to_bad = 0.05, .bad_to_good = 0.3},
        .jitter = {.mean_ns = 3000000, .reorder = 0.1, .reorder_by_ns = 20000000}};

    for (enum sl_discipline_kind kind = 0; kind < SL_DISCIPLINE_COUNT; kind++) {
        struct sl_discipline_params queue_of = {.kind = kind, .packets = 80};
        assert_each_once(emulator_of(3, 3000, &queue_of, &air), 5000);
    }
}

static void free__gives_back_what_is_under_way(void **state)
{
    struct sl_emulator *e = emulator(1, 100, 0);
    struct sl_addr edge = {.port = 4433};
    struct sl_dgram d = dgram(edge, sl_phone_address(&addresses, 0), 1);

    sl_fleet_emulator.down(e, &d, 1, 0);
    sl_fleet_emulator.down(e, &d, 1, 0);
    sl_emulator_free(e);
    assert_int_equal(freed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(up_and_down__take_the_phones_own_link),
        cmocka_unit_test(radio__an_idle_phone_pays_its_promotion),
        cmocka_unit_test(strays__are_freed_and_counted),
        cmocka_unit_test(every_datagram__comes_back_once),
        cmocka_unit_test(every_datagram__whatever_the_queue_and_the_air),
        cmocka_unit_test(free__gives_back_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
