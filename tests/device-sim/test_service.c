/* Traces and series under random traffic, with rests and at saturation, against plain loops over the whole
 * record. */
#include "device-sim/link/service.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

static const uint64_t ms = 1000000;

struct draws {
    uint64_t key, i;
};

static uint64_t draw(struct draws *d, uint64_t below)
{
    return sl_rng_u64(d->key, d->i++) % below;
}

/* Mostly packets close together or at once, now and then a rest that goes past the record's end. */
static uint64_t next_packet(struct draws *d, uint64_t t, uint32_t *bytes)
{
    *bytes = 28 + (uint32_t)draw(d, 1473);
    switch (draw(d, 16)) {
    case 0:
        return t + draw(d, 3000) * ms + draw(d, 2) * draw(d, ms);
    case 1:
    case 2:
    case 3:
        return t + draw(d, 4 * ms);
    default:
        return t;
    }
}

/* All opportunities of as many cycles as the packets need, each with its bytes. */
static void trace__is_a_plain_loop(void **state)
{
    enum { LINES = 60, OPPORTUNITIES = 400000, PACKETS = 4000 };
    uint64_t *at = malloc(OPPORTUNITIES * sizeof *at);
    uint32_t *left = malloc(OPPORTUNITIES * sizeof *left);

    for (uint64_t round = 0; round < 20; round++) {
        struct draws d = {round, 0};
        uint32_t at_ms[LINES];
        for (uint32_t i = 0, t = (uint32_t)draw(&d, 3); i < LINES; i++)
            at_ms[i] = t += (uint32_t)(draw(&d, 8) == 0 ? draw(&d, 200) : draw(&d, 3)) + (i + 1 == LINES);
        struct sl_trace trace = {at_ms, LINES};
        uint64_t period = at_ms[LINES - 1] * ms, phase = draw(&d, period / ms) * ms, free_ns = 0, t = 0;
        if (round % 2)
            phase += draw(&d, ms); /* between two milliseconds */
        for (uint64_t k = 0, i = 0; k < OPPORTUNITIES; i++) {
            uint64_t when = i / LINES * period + at_ms[i % LINES] * ms;
            if (when < phase)
                continue;
            at[k] = when - phase;
            left[k++] = SL_OPPORTUNITY_BYTES;
        }
        struct sl_service v;
        assert_int_equal(
            sl_service_init(&v,
                &(struct sl_service_params){.kind = SL_SERVICE_TRACE, .trace = &trace, .phase_ns = phase}),
            0);
        size_t k = 0;
        for (int i = 0; i < PACKETS; i++) {
            uint32_t bytes;
            t = next_packet(&d, t, &bytes);
            if (draw(&d, 20) == 0) /* exactly where the record begins again: its last opportunity is there */
                t += period - (t + phase) % period;
            uint64_t begin = sl_service_begin(&v, t), end = sl_service_end(&v, begin, bytes);
            uint64_t from = t > free_ns ? t : free_ns;
            while (at[k] < from || left[k] == 0)
                k++;
            assert_true(begin == at[k]);
            while (bytes) {
                assert_true(k < OPPORTUNITIES - 1);
                uint32_t used = bytes < left[k] ? bytes : left[k];
                left[k] -= used;
                bytes -= used;
                if (bytes)
                    k++;
            }
            assert_true(end == at[k]);
            free_ns = end;
        }
    }
    free(at);
    free(left);
}

/* A packet ends where the integral of the rate from its beginning is its bits: summed up row by row. */
static void series__is_a_plain_integral(void **state)
{
    enum { ROWS = 25, PACKETS = 4000 };

    for (uint64_t round = 0; round < 20; round++) {
        struct draws d = {1000 + round, 0};
        uint64_t at_ns[ROWS] = {0}, t = 0;
        double rate[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            if (i > 0)
                at_ns[i] = at_ns[i - 1] + 1 + draw(&d, 900 * ms);
            rate[i] = draw(&d, 4) == 0 ? 0 : (double)(1000 + draw(&d, 30000000));
        }
        rate[3] = 5e6;
        struct sl_series series = {at_ns, rate, ROWS};
        uint64_t phase = draw(&d, at_ns[ROWS - 1]), free_ns = 0;
        struct sl_service v;
        assert_int_equal(
            sl_service_init(&v,
                &(struct sl_service_params){.kind = SL_SERVICE_SERIES, .series = &series, .phase_ns = phase}),
            0);
        for (int i = 0; i < PACKETS; i++) {
            uint32_t bytes;
            t = next_packet(&d, t, &bytes);
            uint64_t begin = sl_service_begin(&v, t), end = sl_service_end(&v, begin, bytes);
            assert_true(begin == (t > free_ns ? t : free_ns));
            double bits = 0, last_rate = 0;
            uint64_t from = begin + phase;
            while (from < end + phase) {
                uint64_t within = from % at_ns[ROWS - 1], row = 0;
                while (at_ns[row + 1] <= within)
                    row++;
                uint64_t till = from - within + at_ns[row + 1];
                till = till < end + phase ? till : end + phase;
                bits += rate[row] * (double)(till - from) / 1e9;
                last_rate = rate[row] > 0 ? rate[row] : last_rate;
                from = till;
            }
            /* End is a whole nanosecond, and not later than it must be. */
            assert_true(fabs(bits - 8.0 * bytes) <= last_rate * 1.01e-9 + 1e-6);
            free_ns = end;
        }
    }
}

/* A rate's departures over a million packets: bits / rate to the nanosecond, no drift. */
static void rate__does_not_drift(void **state)
{
    struct sl_service v;
    uint64_t end = 0;
    const uint64_t rate_bps = 7123457, n = 1000000, bytes = 1111;

    assert_int_equal(
        sl_service_init(&v, &(struct sl_service_params){.kind = SL_SERVICE_RATE, .rate_bps = rate_bps}), 0);
    for (uint64_t i = 0; i < n; i++)
        end = sl_service_end(&v, sl_service_begin(&v, 0), bytes);
    unsigned __int128 exact = (unsigned __int128)n * bytes * 8 * 1000000000 / rate_bps;
    /* The factor is right to 2^-33 ns a byte: 0.13 ns for all of them. */
    assert_in_range(end, (uint64_t)exact - 1, (uint64_t)exact + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace__is_a_plain_loop),
        cmocka_unit_test(series__is_a_plain_integral),
        cmocka_unit_test(rate__does_not_drift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
