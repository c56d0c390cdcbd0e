/* Uneven shards: the draws against closed forms, and the dealing of records. Seeds are fixed, so a test
 * passes or fails for good; a bound at 99 % would fail for one seed in a hundred. */
#include "trainer/data/deal.h"
#include "trainer/data/dirichlet.h"
#include "trainer/tensor/rng.h"

#include "tests/data/scratch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double ks_99 = 1.628;       /* Kolmogorov's distribution, 99 % */
static const double ks_99_of_12 = 1.973; /* 99 % for the largest of a dozen (Bonferroni) */
enum { SAMPLES = 20000 };
static char err[256];

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* sqrt(n) times the largest distance between samples of known probabilities and the uniform distribution. */
static double ks(double *p, size_t n)
{
    double most = 0;
    qsort(p, n, sizeof(*p), ascending);
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fmax(p[i] - (double)i / (double)n, (double)(i + 1) / (double)n - p[i]));
    return most * sqrt((double)n);
}

/* Regularised incomplete gamma function P(a, exp(log_x)), by its power series. */
static double gamma_cdf(double a, double log_x)
{
    double x = exp(log_x), term = exp(a * log_x - x - lgamma(a + 1)), sum = term;
    for (int n = 1; n < 10000 && term > sum * 1e-16; n++) {
        term *= x / (a + n);
        sum += term;
    }
    return fmin(sum, 1);
}

/* Regularised incomplete beta function, by the power series of its smaller side. */
static double beta_cdf(double a, double b, double x)
{
    if (x > 0.5)
        return 1 - beta_cdf(b, a, 1 - x);
    double term = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x)), sum = term / a;
    for (int n = 1; n < 10000 && (n < 10 || fabs(term) > sum * 1e-16); n++) {
        term *= (n - b) / n * x;
        sum += term / (a + n);
    }
    return sum;
}

static void gamma__follows_its_distribution(void **state)
{
    static const double shape[] = {0.01, 0.1, 0.5, 1, 2.5, 40};
    double *p = malloc(SAMPLES * sizeof(*p));
    for (size_t s = 0; s < sizeof(shape) / sizeof(shape[0]); s++) {
        for (uint64_t i = 0; i < SAMPLES; i++)
            p[i] = gamma_cdf(shape[s], sl_gamma_log(sl_rng_key(1, "test"), i, shape[s]));
        assert_true(ks(p, SAMPLES) < ks_99);
        for (uint64_t i = 0; i < SAMPLES; i++)
            p[i] = gamma_cdf(shape[s] * 1.1, sl_gamma_log(sl_rng_key(1, "test"), i, shape[s]));
        assert_true(ks(p, SAMPLES) > ks_99); /* the test can tell */
    }
    free(p);
}

/* The share of group j is Beta(alpha k share_j, alpha k (1 - share_j)). */
static void mixture__marginals_are_beta(void **state)
{
    static const double share[] = {0.5, 0.3, 0, 0.15, 0.05}, alpha[] = {0.1, 0.5, 5};
    double *p = malloc(SAMPLES * sizeof(*p)), q[5];
    for (size_t a = 0; a < 3; a++) {
        for (uint32_t j = 0; j < 5; j++) {
            for (uint32_t i = 0; i < SAMPLES; i++) {
                double sum = 0;
                sl_dirichlet_draw(77, i, alpha[a], share, 5, q);
                for (int k = 0; k < 5; k++)
                    sum += q[k];
                assert_true(fabs(sum - 1) < 1e-12);
                p[i] = share[j] > 0 ? beta_cdf(alpha[a] * 4 * share[j], alpha[a] * 4 * (1 - share[j]), q[j])
                                    : q[j];
            }
            if (share[j] > 0)
                assert_true(ks(p, SAMPLES) < ks_99_of_12);
            else
                assert_true(p[0] == 0 && p[SAMPLES - 1] == 0);
        }
    }
    sl_dirichlet_draw(77, 3, INFINITY, share, 5, q);
    for (int k = 0; k < 5; k++)
        assert_true(fabs(q[k] - share[k]) < 1e-15);
    free(p);
}

/* The logarithm of the ratio of two sizes is normal with variance 2 sigma^2. */
static void sizes__are_lognormal(void **state)
{
    double *size = malloc(2 * SAMPLES * sizeof(*size)), *p = malloc(SAMPLES * sizeof(*p)), sum = 0;
    assert_true(sl_shard_sizes(5, 2 * SAMPLES, 0.7, 1e9, 0, size));
    for (int i = 0; i < SAMPLES; i++) {
        p[i] = 0.5 * erfc(-log(size[2 * i] / size[2 * i + 1]) / (0.7 * sqrt(2) * sqrt(2)));
        sum += size[2 * i] + size[2 * i + 1];
    }
    assert_true(fabs(sum - 1e9) < 1);
    assert_true(ks(p, SAMPLES) < ks_99);
    free(size);
    free(p);
}

static void sizes__are_not_under_the_least(void **state)
{
    enum { N = 100 };
    double size[N], free_size[N], sum = 0, ratio = 0;
    int raised = 0;
    assert_true(sl_shard_sizes(5, N, 1, 1e6, 0, free_size));
    assert_true(sl_shard_sizes(5, N, 1, 1e6, 6000, size));
    for (int i = 0; i < N; i++) {
        sum += size[i];
        assert_true(size[i] >= 6000);
        if (size[i] == 6000) {
            raised++;
            continue;
        }
        ratio = ratio > 0 ? ratio : size[i] / free_size[i];
        assert_true(fabs(size[i] / free_size[i] - ratio) < 1e-9);
    }
    assert_true(fabs(sum - 1e6) < 1e-3);
    assert_in_range(raised, 20, 80);
    assert_true(ratio > 0 && ratio < 1);
    assert_true(sl_shard_sizes(5, N, 1, 6e5, 6000, size));
    assert_true(size[0] == 6000 && size[N - 1] == 6000);
    assert_false(sl_shard_sizes(5, N, 1, 6e5 - 1, 6000, size));
}

static void fit__keeps_rows_and_columns(void **state)
{
    double table[] = {0.9, 0.1, 0, 0.2, 0.3, 0.5, 0, 0, 1};
    const double row[] = {10, 20, 30}, column[] = {15, 25, 20};
    sl_shard_fit(table, 3, 3, row, column);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(table[3 * i] + table[3 * i + 1] + table[3 * i + 2] - row[i]) < 1e-3);
        assert_true(fabs(table[i] + table[3 + i] + table[6 + i] - column[i]) < 1e-9);
    }
}

/* ---- dealing ---- */

enum { FILES = 8, RECORDS = 600, PHONES = 12 };

/* Files of 600, 500, ... records of 20 to 200 bytes; as JSON lines with two labels to a file, or as plain
 * text. */
static struct sl_records make_records(bool json)
{
    struct sl_records r = {0};
    size_t cap = RECORDS * 300;
    char *text = malloc(cap), name[16];
    for (int f = 0; f < FILES; f++) {
        size_t at = 0;
        for (int i = 0; i < RECORDS - 60 * f; i++) {
            int len = 20 + (int)(sl_rng_u64(1, (uint64_t)(f * RECORDS + i)) % 181);
            at += (size_t)snprintf(text + at, cap - at,
                json ? "{\"text\": \"%0*d\", \"label\": \"%c%d\"}\n" : "%0*d\n%%\n", len, f * RECORDS + i,
                i % 2 ? 'a' : 'b', f);
        }
        snprintf(name, sizeof(name), json ? "f%d.jsonl" : "f%d", f);
        assert_int_equal(sl_records_append_bytes(&r, name, text, at, err, sizeof(err)), 0);
    }
    free(text);
    return r;
}

struct hand {
    uint32_t phone[FILES * RECORDS];
    size_t bytes[FILES * RECORDS];
};

static int deal(const struct sl_records *r, const struct sl_shard_config *c, uint32_t n, struct hand *h)
{
    memset(h->phone, 0xff, sizeof(h->phone));
    err[0] = '\0';
    return sl_deal_dirichlet(r, c, n, h->phone, h->bytes, err, sizeof(err));
}

/* Mean over phones of half the distance between its mixture of files and that of the text. */
static double skew(
    const struct sl_records *r, const struct hand *h, const struct sl_shard_config *c, uint32_t n)
{
    double of[PHONES][FILES] = {0}, all[FILES] = {0}, sum[PHONES] = {0}, total = 0, tv = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (sl_record_held_out(&r->rec[i], c->held_out))
            continue;
        double len = (double)r->rec[i].len;
        of[h->phone[i]][r->rec[i].file] += len;
        sum[h->phone[i]] += len;
        all[r->rec[i].file] += len;
        total += len;
    }
    for (uint32_t p = 0; p < n; p++)
        for (int f = 0; f < FILES; f++)
            tv += fabs(of[p][f] / sum[p] - all[f] / total) / 2 / n;
    return tv;
}

static void deal__gives_every_record_to_one_phone(void **state)
{
    static const double alpha[] = {0.05, 0.5, 10, INFINITY}, sigma[] = {0, 1};
    static struct hand h, again;
    struct sl_records r = make_records(true);
    for (int a = 0; a < 4; a++) {
        for (int s = 0; s < 2; s++) {
            for (int label = 0; label < 2; label++) {
                struct sl_shard_config c = {.held_out = 0.2,
                    .min_bytes = 15000,
                    .dirichlet = true,
                    .alpha = alpha[a],
                    .by_label = label,
                    .size_sigma = sigma[s],
                    .seed = 4};
                size_t bytes[PHONES] = {0};
                assert_int_equal(deal(&r, &c, PHONES, &h), 0);
                for (size_t i = 0; i < r.n; i++) {
                    assert_in_range(h.phone[i], 0, PHONES - 1);
                    bytes[h.phone[i]] += sl_record_held_out(&r.rec[i], 0.2) ? 0 : r.rec[i].len;
                }
                for (int p = 0; p < PHONES; p++) {
                    assert_int_equal(bytes[p], h.bytes[p]);
                    assert_true(bytes[p] >= c.min_bytes);
                }
                assert_int_equal(deal(&r, &c, PHONES, &again), 0);
                assert_memory_equal(&h, &again, sizeof(h));
                c.seed = 5;
                assert_int_equal(deal(&r, &c, PHONES, &again), 0);
                assert_memory_not_equal(&h, &again, sizeof(h));
            }
        }
    }
    sl_records_free(&r);
}

static void deal__is_the_more_uneven_the_smaller_alpha(void **state)
{
    static const double alpha[] = {INFINITY, 5, 0.5, 0.1};
    static struct hand h;
    struct sl_records r = make_records(false);
    double last = 0;
    for (int a = 0; a < 4; a++) {
        struct sl_shard_config c = {
            .held_out = 0.1, .min_bytes = 15000, .dirichlet = true, .alpha = alpha[a], .seed = 1};
        assert_int_equal(deal(&r, &c, PHONES, &h), 0);
        double tv = skew(&r, &h, &c, PHONES);
        assert_true(a == 0 ? tv < 0.02 : tv > last + 0.05);
        last = tv;
    }
    assert_true(last > 0.6); /* alpha 0.1: one or two files are most of a phone's text */
    sl_records_free(&r);
}

/* Held-out text of a phone is of its own kind: files that are most of its training text are most of that. */
static void deal__held_out_records_follow_the_mixture(void **state)
{
    static struct hand h;
    struct sl_records r = make_records(false);
    struct sl_shard_config c = {
        .held_out = 0.3, .min_bytes = 15000, .dirichlet = true, .alpha = 0.1, .seed = 1};
    double train[PHONES][FILES] = {0}, held[PHONES][FILES] = {0};
    assert_int_equal(deal(&r, &c, PHONES, &h), 0);
    for (size_t i = 0; i < r.n; i++)
        (sl_record_held_out(&r.rec[i], 0.3) ? held : train)[h.phone[i]][r.rec[i].file] +=
            (double)r.rec[i].len;
    for (int p = 0; p < PHONES; p++) {
        for (int f = 0; f < FILES; f++) {
            double all = train[p][f] + held[p][f];
            if (all > 10000)
                assert_true(fabs(held[p][f] / all - 0.3) < 0.12);
        }
    }
    sl_records_free(&r);
}

static void deal__too_many_phones_names_the_most(void **state)
{
    static struct hand h;
    struct sl_records r = make_records(false);
    struct sl_shard_config c = {
        .held_out = 0.1, .min_bytes = 30000, .dirichlet = true, .alpha = 0.3, .size_sigma = 1, .seed = 1};
    unsigned most;
    assert_int_equal(deal(&r, &c, 400, &h), -ERANGE);
    const char *at = strstr(err, "enough for ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "enough for %u phones at most, not 400", &most), 1);
    assert_int_equal(deal(&r, &c, most, &h), 0);
    assert_int_equal(deal(&r, &c, most + 1, &h), -ERANGE);
    sl_records_free(&r);
}

static void deal__by_label_needs_labels(void **state)
{
    static struct hand h;
    struct sl_records r = {0};
    struct sl_shard_config c = {.dirichlet = true, .alpha = 1, .by_label = true, .seed = 1};
    const char *json = "{\"text\": \"one\", \"label\": 3}\n\n{\"text\": \"two\", \"label\": [1]}\n";
    assert_int_equal(sl_records_append_bytes(&r, "x.jsonl", json, strlen(json), err, sizeof(err)), 0);
    assert_string_equal(r.labels[0], "3");
    assert_int_equal(deal(&r, &c, 1, &h), -EINVAL);
    assert_non_null(strstr(err, "x.jsonl:3: has no \"label\""));
    sl_records_free(&r);
    assert_int_equal(sl_records_append_bytes(&r, "x.txt", "text", 4, err, sizeof(err)), 0);
    assert_int_equal(deal(&r, &c, 1, &h), -EINVAL);
    assert_non_null(strstr(err, "x.txt:1: is no .jsonl file"));
    sl_records_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gamma__follows_its_distribution),
        cmocka_unit_test(mixture__marginals_are_beta),
        cmocka_unit_test(sizes__are_lognormal),
        cmocka_unit_test(sizes__are_not_under_the_least),
        cmocka_unit_test(fit__keeps_rows_and_columns),
        cmocka_unit_test(deal__gives_every_record_to_one_phone),
        cmocka_unit_test(deal__is_the_more_uneven_the_smaller_alpha),
        cmocka_unit_test(deal__held_out_records_follow_the_mixture),
        cmocka_unit_test(deal__too_many_phones_names_the_most),
        cmocka_unit_test(deal__by_label_needs_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
