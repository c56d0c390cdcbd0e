/* The schedule of phones: its processes against closed forms, its rules one by one. Seeds are fixed, so a
 * test passes or fails for good; a bound at level p would fail for that share of the seeds. */
#include "device-sim/life/daily.h"
#include "device-sim/life/life.h"
#include "device-sim/life/trace.h"

#include "tests/wire/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const uint64_t second_ns = 1000000000, hour_ns = 3600000000000;
static const double ks_99 = 1.628; /* Kolmogorov's distribution, 99 % */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double exponential_cdf(double x, double mean, double unused)
{
    return 1 - exp(-x / mean);
}

/* Of that mean and sigma of the logarithm. */
static double lognormal_cdf(double x, double mean, double sigma)
{
    return 0.5 * erfc(-(log(x) - log(mean) + sigma * sigma / 2) / (sigma * sqrt(2)));
}

/* sqrt(n) times the largest distance between the samples' distribution and the given one. */
static double ks(double *x, size_t n, double (*cdf)(double, double, double), double a, double b)
{
    double most = 0;
    qsort(x, n, sizeof(*x), ascending);
    for (size_t i = 0; i < n; i++) {
        double f = cdf(x[i], a, b);
        most = fmax(most, fmax(f - (double)i / (double)n, (double)(i + 1) / (double)n - f));
    }
    return most * sqrt((double)n);
}

enum { SAMPLES = 20000 };

/* Stays and absences of one phone after another, as long as there are samples. */
static void lengths(const struct sl_life_config *c, double *away, double *stay)
{
    size_t n_away = 0, n_stay = 0;
    for (uint32_t phone = 0; n_away < SAMPLES || n_stay < SAMPLES; phone++) {
        struct sl_life l;
        struct sl_life_event e;
        uint64_t since = UINT64_MAX;
        sl_life_init(&l, c, 0, 11, phone, 5 * second_ns);
        for (int i = 0; i < 100; i++) {
            assert_true(sl_life_next(&l, UINT64_MAX - 1, &e));
            double s = (double)(e.at_ns - since) * 1e-9;
            if (e.kind == SL_LIFE_ARRIVE && since != UINT64_MAX && n_away < SAMPLES)
                away[n_away++] = s;
            if (e.kind == SL_LIFE_DEPART && n_stay < SAMPLES)
                stay[n_stay++] = s;
            since = e.at_ns;
        }
    }
}

static void arrivals__are_poisson_and_stays_as_asked(void **state)
{
    double *away = malloc(SAMPLES * sizeof(*away)), *stay = malloc(SAMPLES * sizeof(*stay));
    struct sl_life_config c = {.arrivals_per_hour = 12, .stay_s = 90, .present = 0};
    lengths(&c, away, stay);
    assert_true(ks(away, SAMPLES, exponential_cdf, 300, 0) < ks_99);
    assert_true(ks(stay, SAMPLES, exponential_cdf, 90, 0) < ks_99);
    assert_true(ks(stay, SAMPLES, exponential_cdf, 100, 0) > 2 * ks_99); /* the test can tell */
    c.stay_sigma = 0.8;
    lengths(&c, away, stay);
    assert_true(ks(away, SAMPLES, exponential_cdf, 300, 0) < ks_99);
    assert_true(ks(stay, SAMPLES, lognormal_cdf, 90, 0.8) < ks_99);
    assert_true(ks(stay, SAMPLES, lognormal_cdf, 90, 0.7) > 2 * ks_99);
    free(away);
    free(stay);
}

/* Arrivals of many phones that come once: counts in disjoint minutes have equal mean and variance (index of
 * dispersion 1, its standard error sqrt(2 / minutes): within 2.58 of them, 99 %). */
static void arrivals__of_a_fleet_have_dispersion_one(void **state)
{
    enum { PHONES = 20000, MINUTES = 600 };
    static int count[MINUTES];
    struct sl_life_config c = {.arrivals_per_hour = 0.01, .stay_s = 1e9, .present = 0};
    double mean = 0, var = 0;
    for (uint32_t p = 0; p < PHONES; p++) {
        struct sl_life l;
        struct sl_life_event e;
        sl_life_init(&l, &c, 0, 3, p, 0);
        if (sl_life_next(&l, 60 * (uint64_t)MINUTES * second_ns - 1, &e))
            count[e.at_ns / (60 * second_ns)]++;
    }
    for (int m = 0; m < MINUTES; m++)
        mean += (double)count[m] / MINUTES;
    for (int m = 0; m < MINUTES; m++)
        var += (count[m] - mean) * (count[m] - mean) / (MINUTES - 1);
    assert_true(
        fabs(mean / (PHONES * 0.01 / 60) - 0.953) < 0.06); /* (1 - exp(-0.1)) / 0.1 of them still come */
    assert_true(fabs(var / mean - 1) < 2.58 * sqrt(2.0 / MINUTES));
}

/* Share of phones that are there, at the start and an hour later: 60 / (60 + 120). Binomial, 99 %. */
static void arrivals__begin_in_the_long_run(void **state)
{
    enum { PHONES = 20000 };
    struct sl_life_config c = {.arrivals_per_hour = 30, .stay_s = 60, .present = -1};
    double first = 0, last = 0, bound = 2.58 * sqrt(2.0 / 9 / PHONES);
    for (uint32_t p = 0; p < PHONES; p++) {
        struct sl_life l;
        struct sl_life_event e;
        bool there = false;
        sl_life_init(&l, &c, 0, 5, p, 0);
        first += sl_life_next(&l, 0, &e) / (double)PHONES;
        there = l.present;
        while (sl_life_next(&l, hour_ns, &e))
            there = e.kind == SL_LIFE_ARRIVE;
        last += there / (double)PHONES;
    }
    assert_true(fabs(first - 1.0 / 3) < bound);
    assert_true(fabs(last - 1.0 / 3) < bound);
}

/* One phone alone gives the same events whatever the times at which it is asked, and whoever else lives. */
static void events__do_not_depend_on_when_one_asks(void **state)
{
    struct sl_life_config c = {.arrivals_per_hour = 20,
        .stay_s = 200,
        .stay_sigma = 1,
        .present = 0.5,
        .diurnal = true,
        .policy = SL_LIFE_CHARGING_AND_IDLE,
        .start_h = 20,
        .time_scale = 120,
        .charging = {22, 8, 1, 1, 0.9},
        .idle = {23, 7, 1, 0.5, 1},
        .crash_per_hour = 5,
        .reboot_s = 40,
        .reboot_sigma = 0.3,
        .kill_per_hour = 9,
        .restart_s = 10};
    for (uint32_t phone = 0; phone < 20; phone++) {
        struct sl_life a, b;
        struct sl_life_event x, y;
        uint64_t seen = 0, last = 0;
        sl_life_init(&a, &c, 0, 1, phone, 77);
        sl_life_init(&b, &c, 0, 1, phone, 77);
        for (uint64_t now = 77; now < 2 * hour_ns; now += 17 * second_ns) {
            while (sl_life_next(&a, now, &x)) {
                uint64_t due = sl_life_deadline(&b);
                assert_true(due != UINT64_MAX);
                while (!sl_life_next(&b, due, &y))
                    due = sl_life_deadline(&b);
                assert_int_equal(x.kind, y.kind);
                assert_int_equal(x.at_ns, y.at_ns);
                assert_true(x.at_ns >= last && x.at_ns <= now);
                last = x.at_ns;
                seen++;
            }
        }
        assert_true(seen > 20);
    }
}

/* Share of the day that a pattern is on: probability * hours / 24; of independent patterns, the product.
 * 2000 phones * 20 days; standard error below 0.5 % (days are independent, a day has at most 24 h). */
static void daily__shares_are_as_configured(void **state)
{
    enum { PHONES = 2000, DAYS = 20 };
    struct sl_life_config c = {.diurnal = true,
        .policy = SL_LIFE_CHARGING_AND_IDLE,
        .start_h = 12,
        .time_scale = 3600,
        .charging = {22.5, 8, 1, 0.75, 0.8},
        .idle = {23, 6, 6, 0.75, 1}};
    uint64_t end = DAYS * 24 * second_ns; /* an hour is a second */
    double on[3] = {0}, expected = 0;
    for (uint32_t p = 0; p < PHONES; p++) {
        struct sl_life l;
        struct sl_life_event e;
        uint64_t since[3] = {0};
        bool is[3] = {0};
        sl_life_init(&l, &c, 0, 21, p, 0);
        for (;;) {
            bool more = sl_life_next(&l, end, &e);
            int which = !more                                                        ? 3
                        : e.kind == SL_LIFE_PLUG || e.kind == SL_LIFE_UNPLUG         ? 0
                        : e.kind == SL_LIFE_IDLE_BEGIN || e.kind == SL_LIFE_IDLE_END ? 1
                                                                                     : 2;
            for (int k = 0; k < 3; k++) {
                if (is[k] && (k == which || !more))
                    on[k] += (double)((more ? e.at_ns : end) - since[k]) / (double)end / PHONES;
                if (k == which) {
                    is[k] = !is[k];
                    since[k] = e.at_ns;
                }
            }
            if (!more)
                break;
        }
    }
    assert_true(fabs(on[0] - 0.8 * 8 / 24) < 0.005);
    assert_true(fabs(on[1] - 6.0 / 24) < 0.005);
    /* Together: the overlap of the two, whose beginnings differ by a normal of the four deviations; its mean
     * by Simpson over that difference. */
    double sigma = sqrt(1 + 36 + 2 * 0.75 * 0.75), step = 0.01;
    for (double d = -6 * sigma; d < 6 * sigma; d += step) {
        double overlap = 0;
        for (int k = -1; k <= 1; k++) /* the idle stretch of the day before and after, too */
            overlap += fmax(0, fmin(8, 0.5 + d + 24 * k + 6) - fmax(0, 0.5 + d + 24 * k));
        expected += overlap * exp(-d * d / 2 / sigma / sigma) / sigma / sqrt(2 * M_PI) * step;
    }
    assert_true(fabs(on[2] - 0.8 * expected / 24) < 0.006);
}

static void daily__a_phone_that_is_ready_at_the_start_arrives_once(void **state)
{
    struct sl_life_config c = {.diurnal = true,
        .policy = SL_LIFE_CHARGING_AND_IDLE,
        .start_h = 2,
        .time_scale = 1,
        .charging = {22, 8, 0, 0, 1},
        .idle = {23, 6, 0, 0, 1}};
    static const struct {
        enum sl_life_kind kind;
        double hour;
    } wanted[] = {{SL_LIFE_PLUG, 2}, {SL_LIFE_IDLE_BEGIN, 2}, {SL_LIFE_ARRIVE, 2}, {SL_LIFE_IDLE_END, 5},
        {SL_LIFE_DEPART, 5}, {SL_LIFE_UNPLUG, 6}, {SL_LIFE_PLUG, 22}, {SL_LIFE_IDLE_BEGIN, 23},
        {SL_LIFE_ARRIVE, 23}, {SL_LIFE_IDLE_END, 29}};
    struct sl_life l;
    struct sl_life_event e;
    sl_life_init(&l, &c, 0, 1, 0, 0);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        assert_true(sl_life_next(&l, 100 * hour_ns, &e));
        assert_int_equal(e.kind, wanted[i].kind);
        assert_true(fabs((double)e.at_ns / (double)hour_ns - (wanted[i].hour - 2)) < 1e-9);
    }
}

static void daily__a_pattern_that_never_comes_has_no_change(void **state)
{
    struct sl_life_daily never = {22, 8, 1, 1, 0}, always = {0, 24, 0, 0, 1};
    assert_false(sl_daily_on(&never, 7, 23));
    assert_true(sl_daily_change(&never, 7, false, 23) == HUGE_VAL);
    assert_true(sl_daily_on(&always, 7, 23));
    assert_true(sl_daily_change(&always, 7, true, 23) == HUGE_VAL);
}

/* Hours of presence between crashes are exponential, whatever the stays between; reboots log-normal. */
static void crash__hazard_counts_presence_alone(void **state)
{
    enum { CRASHES = 5000 };
    static double between[CRASHES], down[CRASHES];
    struct sl_life_config c = {.arrivals_per_hour = 60,
        .stay_s = 30,
        .present = 0,
        .crash_per_hour = 20,
        .reboot_s = 10,
        .reboot_sigma = 0.5,
        .kill_per_hour = 10,
        .restart_s = 3};
    struct sl_life_config always = c;
    always.arrivals_per_hour = 0;
    always.kill_per_hour = 0;
    int n = 0;
    for (uint32_t p = 0; n < CRASHES; p++) {
        struct sl_life l;
        struct sl_life_event e;
        double present = 0, since = 0;
        sl_life_init(&l, &c, 0, 9, p, 0);
        while (n < CRASHES && sl_life_next(&l, 20 * hour_ns, &e)) {
            double at = (double)e.at_ns * 1e-9;
            if (e.kind == SL_LIFE_ARRIVE) {
                since = at;
                continue;
            }
            present += at - since;
            if (e.kind == SL_LIFE_CRASH) {
                between[n++] = present;
                present = 0;
            }
        }
    }
    assert_true(ks(between, CRASHES, exponential_cdf, 180, 0) < ks_99);
    n = 0;
    for (uint32_t p = 0; n < CRASHES; p++) {
        struct sl_life l;
        struct sl_life_event e;
        uint64_t since = 0;
        sl_life_init(&l, &always, 0, 9, p, 0);
        while (n < CRASHES && sl_life_next(&l, 20 * hour_ns, &e)) {
            if (e.kind == SL_LIFE_CRASH)
                since = e.at_ns;
            else if (since)
                down[n++] = (double)(e.at_ns - since) * 1e-9;
        }
    }
    assert_true(ks(down, CRASHES, lognormal_cdf, 10, 0.5) < ks_99);
}

static void life__without_any_process_is_one_arrival(void **state)
{
    struct sl_life_config c = {0};
    struct sl_life l;
    struct sl_life_event e;
    assert_false(sl_life_changes(&c));
    sl_life_init(&l, &c, 0, 1, 4, 1000);
    assert_int_equal(sl_life_deadline(&l), 1000);
    assert_false(sl_life_next(&l, 999, &e));
    assert_true(sl_life_next(&l, 1000, &e));
    assert_int_equal(e.kind, SL_LIFE_ARRIVE);
    assert_false(sl_life_next(&l, UINT64_MAX - 1, &e));
    assert_int_equal(sl_life_deadline(&l), UINT64_MAX);
}

/* ---- traces ---- */

static int parse(const char *text, struct sl_life_trace **t, char err[200])
{
    err[0] = '\0';
    return sl_life_trace_parse("x.csv", text, strlen(text), 3, t, err, 200);
}

static void trace__is_followed(void **state)
{
    static const char text[] =
        "time_s,device,event\n# a comment\n0,2,arrive\r\n\n1.5, 0 ,arrive\n1.5,2,depart\n"
        "7,0,depart\n9,2,arrive";
    struct sl_life_trace *t;
    char err[200];
    assert_int_equal(parse(text, &t, err), 0);
    assert_int_equal(sl_life_trace_change(t, 0, 0), 1500000000);
    assert_int_equal(sl_life_trace_change(t, 0, 1), 7 * second_ns);
    assert_int_equal(sl_life_trace_change(t, 0, 2), UINT64_MAX);
    assert_int_equal(sl_life_trace_change(t, 1, 0), UINT64_MAX);
    struct sl_life_config c = {.trace = t};
    static const struct sl_life_event wanted[] = {
        {SL_LIFE_ARRIVE, 50}, {SL_LIFE_DEPART, 1500000050}, {SL_LIFE_ARRIVE, 9000000050}};
    struct sl_life l;
    struct sl_life_event e;
    sl_life_init(&l, &c, 2, 1, 17, 50);
    for (int i = 0; i < 3; i++) {
        assert_true(sl_life_next(&l, hour_ns, &e));
        assert_int_equal(e.kind, wanted[i].kind);
        assert_int_equal(e.at_ns, wanted[i].at_ns);
    }
    assert_false(sl_life_next(&l, UINT64_MAX - 1, &e));
    sl_life_trace_free(t);
}

static void trace__errors_name_the_line(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "x.csv:1: no event"},
        {"time_s,device,event\n", "x.csv:1: no event"},
        {"1,0,arrive\n0.5,1,arrive\n", "x.csv:2: the time is before"},
        {"1,3,arrive\n", "x.csv:1: device '3' is none of the class's, which are 0 to 2"},
        {"1,-1,arrive\n", "x.csv:1: device '-1'"},
        {"1,0,arrive\n\n2,0,arrive\n", "x.csv:3: the device is there already"},
        {"1,0,depart\n", "x.csv:1: the device is not there"},
        {"1,0,come\n", "x.csv:1: the event is neither"},
        {"1,0\n", "x.csv:1: not `time_s"},
        {"1,0,arrive,now\n", "x.csv:1: not `time_s"},
        {"-1,0,arrive\n", "x.csv:1: the time is not"},
        {"nan,0,arrive\n", "x.csv:1: the time is not"},
        {"1x,0,arrive\n", "x.csv:1: the time is not"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_life_trace *t = NULL;
        char err[200];
        assert_int_equal(parse(cases[i].text, &t, err), -EINVAL);
        assert_non_null(strstr(err, cases[i].says));
        assert_null(strchr(err, '\n'));
        assert_null(t);
    }
    char err[200];
    struct sl_life_trace *t;
    assert_int_equal(sl_life_trace_read("/nowhere/x.csv", 3, &t, err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, "/nowhere/x.csv"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrivals__are_poisson_and_stays_as_asked),
        cmocka_unit_test(arrivals__of_a_fleet_have_dispersion_one),
        cmocka_unit_test(arrivals__begin_in_the_long_run),
        cmocka_unit_test(events__do_not_depend_on_when_one_asks),
        cmocka_unit_test(daily__shares_are_as_configured),
        cmocka_unit_test(daily__a_phone_that_is_ready_at_the_start_arrives_once),
        cmocka_unit_test(daily__a_pattern_that_never_comes_has_no_change),
        cmocka_unit_test(crash__hazard_counts_presence_alone),
        cmocka_unit_test(life__without_any_process_is_one_arrival),
        cmocka_unit_test(trace__is_followed),
        cmocka_unit_test(trace__errors_name_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
