/* Coming and going, and uneven shards, as the experiment file says them. */
#include "trainer/experiment/experiment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

static struct sl_experiment e;
static char err[256];

/* A file whose line 2 is `data` and whose line 5 holds `keys` of its only class. */
static int parse(const char *data, const char *keys, const char *training)
{
    char yaml[2048];
    int n = snprintf(yaml, sizeof(yaml),
        "model: {path: m}\n"
        "data: {path: d%s}\n"
        "fleet:\n"
        "  - {class: a, count: 3, compute_gflops: 8, battery_mah: 4500, compute_w: 4, radio_tx_w: 1,\n"
        "     %sradio_rx_w: 1, link: {up_mbps: 40, down_mbps: 80, rtt_ms: 40}}\n"
        "plan: {cut: 2}\nrun: {steps: 5}\n%s",
        data, keys, training);

    err[0] = '\0';
    return sl_experiment_parse(yaml, (size_t)n, "x.yaml", &e, err, sizeof(err));
}

static void life__is_there_or_not(void **state)
{
    assert_int_equal(parse("", "", ""), 0);
    assert_false(sl_experiment_comes_and_goes(&e));
    assert_int_equal(parse("", "arrivals: {per_hour: 6, stay_s: 600, stay_sigma: 1}, ", ""), 0);
    assert_true(sl_experiment_comes_and_goes(&e));
    assert_true(e.fleet[0].life.arrivals_per_hour == 6 && e.fleet[0].life.present < 0);
    assert_int_equal(
        parse("", "arrivals: {trace: t.csv}, crash: {per_hour: 2}, kill: {per_hour: 3}, ", ""), 0);
    assert_string_equal(e.fleet[0].life.trace, "t.csv");
    assert_true(e.fleet[0].life.crash_per_hour == 2 && e.fleet[0].life.reboot_s == 45);
    assert_true(e.fleet[0].life.kill_per_hour == 3 && e.fleet[0].life.restart_s == 10);
    assert_int_equal(parse("", "availability: {start_h: 21, time_scale: 60, charging: {hours: 6}}, ", ""), 0);
    assert_true(e.fleet[0].life.diurnal);
    assert_string_equal(e.fleet[0].life.policy, "charging_and_idle");
    assert_true(e.fleet[0].life.charging.hours == 6 && e.fleet[0].life.charging.begin_h == 22.5);
    assert_int_equal(parse("", "crash: {per_hour: 0}, ", ""), 0);
    assert_false(sl_experiment_comes_and_goes(&e));
}

static void shards__are_by_file_or_dirichlet(void **state)
{
    assert_int_equal(parse("", "", ""), 0);
    assert_string_equal(e.data.shards, "by-file");
    assert_int_equal(
        parse(", shards: dirichlet, dirichlet: {alpha: 0.1, by: label, size_sigma: 1}", "", ""), 0);
    assert_true(e.data.dirichlet.alpha == 0.1 && e.data.dirichlet.size_sigma == 1);
    assert_string_equal(e.data.dirichlet.by, "label");
    assert_int_equal(parse(", shards: dirichlet, dirichlet: {alpha: uniform}", "", ""), 0);
    assert_true(isinf(e.data.dirichlet.alpha));
    assert_string_equal(e.data.dirichlet.by, "file");
}

static void errors__name_the_line(void **state)
{
    static const struct {
        const char *data, *keys, *training, *says;
    } cases[] = {
        {", shards: dirichlet", "", "", "data.shards: dirichlet needs its alpha"},
        {", dirichlet: {alpha: 1}", "", "", "x.yaml:2: data.dirichlet: for data.shards: dirichlet alone"},
        {", shards: dirichlet, dirichlet: {alpha: 0}", "", "",
            "x.yaml:2: data.dirichlet.alpha (or uniform): 0 is out"},
        {", shards: dirichlet, dirichlet: {alpha: -1}", "", "", "x.yaml:2: data.dirichlet.alpha"},
        {", shards: dirichlet, dirichlet: {by: file}", "", "", "x.yaml:2: alpha: is missing"},
        {", shards: dirichlet, dirichlet: {alpha: 1, by: author}", "", "",
            "x.yaml:2: by: 'author' is not one of"},
        {"", "arrivals: {per_hour: 6}, ", "", "x.yaml:5: arrivals: give per_hour and stay_s"},
        {"", "arrivals: {per_hour: 6, stay_s: 6, trace: x}, ", "", "x.yaml:5: arrivals: give per_hour"},
        {"", "arrivals: {per_hour: -6, stay_s: 6}, ", "", "x.yaml:5: per_hour: -6 is out of range"},
        {"", "availability: {policy: sometimes}, ", "", "x.yaml:5: policy: 'sometimes' is not one of"},
        {"", "availability: {charging: {hours: 25}}, ", "", "x.yaml:5: charging.hours: 25 is out of range"},
        {"", "crash: {reboot_s: 5}, ", "", "x.yaml:5: per_hour: is missing"},
        {"", "kill: {per_hour: 1}, ", "training: {deterministic: true}\n",
            "x.yaml:5: training.deterministic: needs all phones all the time"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_not_equal(parse(cases[i].data, cases[i].keys, cases[i].training), 0);
        if (!strstr(err, cases[i].says))
            fail_msg("'%s', wanted '%s'", err, cases[i].says);
        assert_null(strchr(err, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(life__is_there_or_not),
        cmocka_unit_test(shards__are_by_file_or_dirichlet),
        cmocka_unit_test(errors__name_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
