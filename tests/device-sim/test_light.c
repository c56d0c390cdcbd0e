/* Light load: recorded packet trains by hand, and against a plain loop over all opportunities. */
#include "device-sim/link/link.h"
#include "device-sim/link/record.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { IP = SL_LINK_IP_UDP_BYTES };
static const uint64_t ms = 1000000;

/* A train of four at 0 s, of two at 1 s; 2 s long. Saturated: an opportunity every 100 ms. */
static const char record_text[] = "0 30 0 0 5 5\n1000 50 0 2\n2000 40 0\n";
static uint32_t heavy_ms[] = {100};
static struct sl_trace heavy = {heavy_ms, 1};

static struct sl_light read_light(const char *text)
{
    struct sl_light r;
    char err[200];

    assert_int_equal(sl_light_parse(text, strlen(text), "t", &r, err, sizeof err), 0);
    return r;
}

static struct sl_links *link_with(const struct sl_light *r, uint64_t idle_ns)
{
    struct sl_links *s;
    struct sl_link_params p = {
        .service = {.kind = SL_SERVICE_TRACE, .trace = &heavy, .light = r, .light_idle_ns = idle_ns},
        .queue = {.kind = SL_DISCIPLINE_DROPTAIL, .bytes = 1 << 20}};

    assert_int_equal(sl_links_create(1, 100, &s), 0);
    assert_int_equal(sl_links_set(s, 0, &p, 1), 0);
    return s;
}

static void send(struct sl_links *s, uint32_t n, uint32_t bytes, uint64_t now_ns)
{
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(sl_links_offer(s, 0, i, bytes - IP, now_ns), SL_LINK_TAKEN);
}

static uint64_t arrival(struct sl_links *s)
{
    struct sl_link_out out;
    uint64_t now;

    while ((now = sl_links_deadline(s)) != UINT64_MAX)
        if (sl_link_next(s, now, &out))
            return now;
    return UINT64_MAX;
}

/* Its opportunities and delay first; what the record says nothing about waits for the heavy one. */
static void train__is_served_as_recorded(void **state)
{
    struct sl_light r = read_light(record_text);
    struct sl_links *s = link_with(&r, 0);

    send(s, 5, 1500, 10 * ms);
    static const double due_ms[] = {40.2, 40.2, 45.2, 45.2, 130.2}; /* delay 30 + 20 * 10 / 1000 */
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(arrival(s), (uint64_t)(due_ms[i] * 1e6 + 0.5));
    send(s, 3, 1500, 1500 * ms);
    assert_int_equal(arrival(s), 1545 * ms); /* the second train, delay between 50 and 40 */
    assert_int_equal(arrival(s), 1547 * ms);
    assert_int_equal(arrival(s), 1645 * ms);
    send(s, 1, 1500, 2010 * ms); /* the record has begun again */
    assert_int_equal(arrival(s), 2040 * ms + ms / 5);
    sl_links_free(s);
    sl_light_free(&r);
}

/* A packet 3.2 ms after the first: another train's first where the link may not rest at all; the same train's
 * third where it may, as the first two opportunities have passed. */
static void train__ends_with_rest(void **state)
{
    struct sl_light r = read_light("0 30 0 0 5 5\n100000 30 0\n");

    for (int patient = 0; patient < 2; patient++) {
        struct sl_links *s = link_with(&r, patient ? 4 * ms : 0);
        send(s, 1, 1500, 10 * ms);
        assert_int_equal(arrival(s), 40 * ms);
        send(s, 1, 1500, 13 * ms + ms / 5 + 30 * ms);
        assert_int_equal(arrival(s), 73 * ms + ms / 5); /* 33 ms later: a new one, either way */
        send(s, 1, 1500, 76 * ms);
        assert_int_equal(arrival(s), 106 * ms);
        sl_links_free(s);
        s = link_with(&r, patient ? 4 * ms : 0);
        send(s, 1, 1500, 10 * ms);
        send(s, 1, 1500, 13 * ms + ms / 5);
        assert_int_equal(arrival(s), 40 * ms);
        assert_int_equal(arrival(s), patient ? 45 * ms : 43 * ms + ms / 5);
        sl_links_free(s);
    }
    sl_light_free(&r);
}

static void train__packets_straddle_opportunities(void **state)
{
    struct sl_light r = read_light("0 0 0 5\n100000 0 0\n");
    struct sl_links *s = link_with(&r, 0);
    static const uint64_t due_ms[] = {10, 15, 15, 100, 200};

    send(s, 5, 1000, 10 * ms);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(arrival(s), due_ms[i] * ms);
    sl_links_free(s);
    sl_light_free(&r);
    r = read_light("0 0 0\n100000 0 0\n");
    s = link_with(&r, 0);
    send(s, 2, 1000, 10 * ms); /* the second one: 500 bytes in the train's, 500 in the heavy record's */
    assert_int_equal(arrival(s), 10 * ms);
    assert_int_equal(arrival(s), 100 * ms);
    sl_links_free(s);
    sl_light_free(&r);
}

static void train__does_not_overtake_an_earlier_one(void **state)
{
    struct sl_light r = read_light("0 500 0\n20 0 0\n100000 0 0\n");
    struct sl_links *s = link_with(&r, 0);

    send(s, 1, 1500, 0);
    send(s, 1, 1500, 30 * ms);
    assert_int_equal(arrival(s), 500 * ms);
    assert_int_equal(arrival(s), 500 * ms);
    sl_links_free(s);
    sl_light_free(&r);
}

static void init__refuses_what_is_no_record(void **state)
{
    uint32_t at[] = {0, 10}, delay[] = {1, 1}, first[] = {0, 2, 2}, offset[] = {3, 4};
    struct sl_light r = {at, delay, first, offset, 2};
    struct sl_light_service s;

    assert_int_equal(sl_light_init(&s, &r, 0, 0), 0);
    offset[1] = 2;
    assert_int_equal(sl_light_init(&s, &r, 0, 0), -EINVAL);
    offset[1] = 3;
    at[0] = 11;
    assert_int_equal(sl_light_init(&s, &r, 0, 0), -EINVAL);
    at[0] = at[1] = 0;
    assert_int_equal(sl_light_init(&s, &r, 0, 0), -EINVAL);
    at[1] = 10;
    r.n = 1;
    assert_int_equal(sl_light_init(&s, &r, 0, 0), -EINVAL);
    assert_int_equal(sl_light_init(&s, NULL, 0, 0), -EINVAL);
}

/* ---- a plain loop ---- */

enum { TRAINS = 40, HEAVY = 90, OPPORTUNITIES = 200000 };

struct plain {
    const struct sl_light *r;
    uint64_t phase_ns, idle_ns;
    uint64_t heavy_ns[OPPORTUNITIES]; /* all of them, in order, on the link's clock; heavy_left bytes each */
    uint32_t heavy_left[OPPORTUNITIES];
    uint64_t train_ns[20], free_ns, start_ns; /* of the train under way: its opportunities' times */
    uint32_t train_left[20], n_train;
    bool begun;
    double delay_ms;
};

static void plain_train(struct plain *p, uint64_t at)
{
    uint64_t within = (at + p->phase_ns) % (p->r->at_ms[p->r->n - 1] * ms);
    size_t i = 0;

    for (size_t k = 0; k + 1 < p->r->n; k++)
        if (p->r->at_ms[k] * ms <= within)
            i = k;
    double x = ((double)within / 1e6 - p->r->at_ms[i]) / (p->r->at_ms[i + 1] - p->r->at_ms[i]);
    x = x < 0 ? 0 : x; /* before the first train */
    p->delay_ms = p->r->delay_ms[i] * (1 - x) + p->r->delay_ms[i + 1] * x;
    p->n_train = 0;
    for (uint32_t k = p->r->first[i]; k < p->r->first[i + 1]; k++) {
        p->train_ns[p->n_train] = at + p->r->offset_ms[k] * ms;
        p->train_left[p->n_train++] = 1500;
    }
    p->start_ns = at;
    p->begun = true;
}

/* When a packet has left that comes at `came`. */
static uint64_t plain_serve(struct plain *p, uint64_t came, uint32_t bytes)
{
    uint64_t at = came > p->free_ns ? came : p->free_ns, first = at;

    if (!p->begun || came > p->free_ns + p->idle_ns)
        plain_train(p, at);
    for (uint32_t k = 0; k < p->n_train && bytes; k++) {
        bool passed = (p->train_ns[k] - p->start_ns) / ms < (first - p->start_ns) / ms;
        uint32_t used = passed ? 0 : bytes < p->train_left[k] ? bytes : p->train_left[k];
        p->train_left[k] -= used;
        bytes -= used;
        if (used && p->train_ns[k] > at)
            at = p->train_ns[k];
    }
    for (size_t k = 0; bytes; k++) {
        if (p->heavy_ns[k] < at)
            continue;
        uint32_t used = bytes < p->heavy_left[k] ? bytes : p->heavy_left[k];
        p->heavy_left[k] -= used;
        bytes -= used;
        if (used)
            at = p->heavy_ns[k];
    }
    return p->free_ns = at;
}

static void service__is_a_plain_loop(void **state)
{
    struct plain *p = malloc(sizeof *p);

    for (uint64_t round = 0; round < 12; round++) {
        uint32_t at[TRAINS], delay[TRAINS], first[TRAINS + 1], offset[20 * TRAINS], heavy_at[HEAVY], n = 0;
        uint64_t draw = 0, t = 0;
#define DRAW(below) (uint32_t)(sl_rng_u64(round, draw++) % (below))
        for (uint32_t i = 0; i < TRAINS; i++) {
            at[i] = i * 250 + DRAW(100);
            delay[i] = 20 + DRAW(40);
            first[i] = n;
            for (uint32_t k = DRAW(20), o = 0; k > 0; k--)
                offset[n++] = o += DRAW(4);
        }
        first[TRAINS] = n;
        for (uint32_t i = 0, o = 0; i < HEAVY; i++)
            heavy_at[i] = o += DRAW(9) == 0 ? DRAW(60) : DRAW(3) + (i + 1 == HEAVY);
        struct sl_light r = {at, delay, first, offset, TRAINS};
        struct sl_trace h = {heavy_at, HEAVY};
        uint64_t heavy_phase = DRAW(heavy_at[HEAVY - 1]) * ms;
        *p = (struct plain){.r = &r, .phase_ns = DRAW(9000) * ms, .idle_ns = round % 2 * 30 * ms};
        for (uint64_t k = 0, i = 0; k < OPPORTUNITIES; i++) {
            uint64_t when = (i / HEAVY * heavy_at[HEAVY - 1] + heavy_at[i % HEAVY]) * ms;
            if (when < heavy_phase)
                continue;
            p->heavy_ns[k] = when - heavy_phase;
            p->heavy_left[k++] = 1500;
        }
        struct sl_service v;
        assert_int_equal(sl_service_init(&v, &(struct sl_service_params){.kind = SL_SERVICE_TRACE,
                                                 .trace = &h,
                                                 .phase_ns = heavy_phase,
                                                 .light = &r,
                                                 .light_phase_ns = p->phase_ns,
                                                 .light_idle_ns = p->idle_ns}),
            0);
        uint64_t last = 0;
        for (int i = 0; i < 3000; i++) {
            /* Trains of some length, packets 0 to 2 ms apart, then rest up to a second. */
            t += DRAW(12) ? DRAW(3) * UINT64_C(700000) : DRAW(1000) * ms;
            uint32_t bytes = 40 + DRAW(1461);
            uint64_t begin = sl_service_begin(&v, t);
            assert_true(begin == sl_service_begin(&v, begin)); /* asked again when it comes */
            uint64_t end = sl_service_end(&v, begin, bytes), expected = plain_serve(p, t, bytes);
            assert_true(end == expected);
            uint64_t through = sl_service_arrival(&v, end), due = end + (uint64_t)(p->delay_ms * 1e6);
            assert_true(through >= last && (through == last || through + 1 - due <= 2));
            last = through;
        }
    }
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(train__is_served_as_recorded),
        cmocka_unit_test(train__ends_with_rest),
        cmocka_unit_test(train__packets_straddle_opportunities),
        cmocka_unit_test(train__does_not_overtake_an_earlier_one),
        cmocka_unit_test(init__refuses_what_is_no_record),
        cmocka_unit_test(service__is_a_plain_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
