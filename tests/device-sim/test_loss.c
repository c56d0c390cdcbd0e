/* Gilbert and Elliott's channel against its closed forms. Chi-square tests at the 99.9 % quantile with fixed
 * seeds: a true generator fails one such test in a thousand seeds, these seeds do not. */
#include "device-sim/link/loss.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>

enum { N = 2000000, CELLS = 21 };

/* Wilson and Hilferty's approximation of chi-square's quantile; z is the normal's at 99.9 %. */
static double chi_square_999(double degrees)
{
    double a = 2 / (9 * degrees), z = 3.0902;

    return degrees * pow(1 - a + z * sqrt(a), 3);
}

/* Lengths 1..20 and "longer" against the geometric distribution with mean 1 / r. */
static double chi_square_geometric(const double *seen, double r)
{
    double n = 0, sum = 0, p = r;

    for (unsigned i = 0; i < CELLS; i++)
        n += seen[i];
    for (unsigned i = 0; i < CELLS; i++) {
        double expected = n * (i < CELLS - 1 ? p : p / r);
        sum += (seen[i] - expected) * (seen[i] - expected) / expected;
        p *= 1 - r;
    }
    return sum;
}

static void count(double *cells, unsigned length)
{
    cells[length < CELLS ? length - 1 : CELLS - 1]++;
}

/* Loss only and always in the bad state: runs of losses and of arrivals are both geometric. */
static void gilbert__runs_are_geometric(void **state)
{
    static const double rates[][2] = {{0.05, 0.3}, {0.2, 0.25}, {0.1, 0.5}};

    for (unsigned k = 0; k < 3; k++) {
        struct sl_loss_params p = {.bad = 1, .good_to_bad = rates[k][0], .bad_to_good = rates[k][1]};
        struct sl_loss l;
        double lost_runs[CELLS] = {0}, good_runs[CELLS] = {0}, lost = 0, bursts = 0;
        unsigned run = 0;
        bool was = false;
        assert_int_equal(sl_loss_init(&l, &p, sl_rng_key(11 + k, "link 0 up")), 0);
        for (unsigned i = 0; i < N; i++) {
            bool is = sl_loss_next(&l);
            lost += is;
            if (i > 0 && is != was) {
                if (i > run) /* the first run began before the first packet */
                    count(was ? lost_runs : good_runs, run);
                bursts += was;
                run = 0;
            }
            run++;
            was = is;
        }
        double limit = chi_square_999(CELLS - 1);
        double a = chi_square_geometric(lost_runs, p.bad_to_good);
        double b = chi_square_geometric(good_runs, p.good_to_bad);
        print_message("p %.2f r %.2f: chi-square of bursts %.1f, of gaps %.1f, limit %.1f\n", p.good_to_bad,
            p.bad_to_good, a, b, limit);
        assert_true(a < limit && b < limit);
        /* mean length 1 / r, its deviation sqrt(1 - r) / r / sqrt(n) */
        assert_true(fabs(lost / bursts - 1 / p.bad_to_good) <
                    3.3 * sqrt(1 - p.bad_to_good) / p.bad_to_good / sqrt(bursts));
        assert_true(sl_loss_mean(&p) == p.good_to_bad / (p.good_to_bad + p.bad_to_good));
    }
}

/* Both states lose: the share lost is the stationary mean. Consecutive packets are correlated, so the
 * deviation is that of the two-state chain: variance of the mean times n is v0 + 2 s0 rho / (1 - rho), rho =
 * 1 - p - r. */
static void elliott__loss_is_the_stationary_mean(void **state)
{
    static const struct sl_loss_params params[] = {
        {.good = 0.01, .bad = 0.4, .good_to_bad = 0.02, .bad_to_good = 0.2},
        {.good = 0.001, .bad = 0.9, .good_to_bad = 0.001, .bad_to_good = 0.05},
        {.good = 0.03},
        {.good = 0.5},
    };

    for (unsigned k = 0; k < 4; k++) {
        const struct sl_loss_params *p = &params[k];
        struct sl_loss l;
        double lost = 0, mean = sl_loss_mean(p), covariance = 0;
        double sum = p->good_to_bad + p->bad_to_good;
        assert_int_equal(sl_loss_init(&l, p, sl_rng_key(k, "link 3 down")), 0);
        for (unsigned i = 0; i < N; i++)
            lost += sl_loss_next(&l);
        if (sum > 0) {
            double bad = p->good_to_bad / sum, d = p->bad - p->good;
            covariance = bad * (1 - bad) * d * d * (1 - sum) / sum;
        }
        double deviation = sqrt((mean * (1 - mean) + 2 * covariance) / N);
        print_message("loss %.5f, expected %.5f, deviation %.5f\n", lost / N, mean, deviation);
        assert_true(fabs(lost / N - mean) < 3.3 * deviation); /* 99.9 % */
    }
}

/* Independent losses: no correlation of neighbours, and the same ones for the same key whatever else is
 * asked. */
static void bernoulli__is_independent_and_a_function_of_key_and_index(void **state)
{
    struct sl_loss_params p = {.good = 0.2};
    struct sl_loss a, b, other;
    double both = 0;
    unsigned differ = 0;
    bool was = false;

    sl_loss_init(&a, &p, 5);
    sl_loss_init(&b, &p, 5);
    sl_loss_init(&other, &p, 6);
    for (unsigned i = 0; i < N; i++) {
        bool is = sl_loss_next(&a);
        assert_int_equal(is, sl_loss_next(&b));
        differ += is != sl_loss_next(&other);
        both += is && was;
        was = is;
    }
    assert_true(fabs(both / N - 0.04) < 3.3 * sqrt(0.04 * 0.96 / N) * 1.2);
    assert_true(differ > N / 4);
}

/* The first packet finds the stationary state: over many links a third is bad. */
static void first_packet__is_stationary(void **state)
{
    struct sl_loss_params p = {.bad = 1, .good_to_bad = 0.001, .bad_to_good = 0.002};
    struct sl_loss l;
    double lost = 0;

    for (unsigned i = 0; i < 100000; i++) {
        sl_loss_init(&l, &p, sl_rng_u64(99, i));
        lost += sl_loss_next(&l);
    }
    assert_true(fabs(lost / 100000 - 1.0 / 3) < 3.3 * sqrt(2.0 / 9 / 100000));
}

static void ends__are_certain(void **state)
{
    struct sl_loss never, always;

    sl_loss_init(&never, &(struct sl_loss_params){0}, 1);
    sl_loss_init(&always, &(struct sl_loss_params){.good = 1}, 1);
    for (unsigned i = 0; i < 1000; i++) {
        assert_false(sl_loss_next(&never));
        assert_true(sl_loss_next(&always));
    }
}

static void init__refuses_what_is_no_channel(void **state)
{
    static const struct sl_loss_params bad[] = {{.good = -0.1}, {.good = 1.1}, {.good = NAN}, {.bad = 2},
        {.good_to_bad = 0.1}, {.bad_to_good = 0.1}, {.good_to_bad = 0.1, .bad_to_good = NAN}};
    struct sl_loss l;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_loss_init(&l, &bad[i], 0), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gilbert__runs_are_geometric),
        cmocka_unit_test(elliott__loss_is_the_stationary_mean),
        cmocka_unit_test(bernoulli__is_independent_and_a_function_of_key_and_index),
        cmocka_unit_test(first_packet__is_stationary),
        cmocka_unit_test(ends__are_certain),
        cmocka_unit_test(init__refuses_what_is_no_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
