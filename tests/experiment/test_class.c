/* Classes of phones: presets and what is laid over them, power from kappa or a table, shares, and refusals
 * that name the line. */
#include "tests/wire/test.h"
#include "trainer/experiment/experiment.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LINK "link: {up_mbps: 10, down_mbps: 20, rtt_ms: 40}"

/* The fleet begins on line 3. */
static int parse(const char *fleet, struct sl_experiment *e, char err[256])
{
    char yaml[4096];
    int n = snprintf(yaml, sizeof(yaml),
        "model: {path: m}\ndata: {path: d}\nfleet: %s\nplan: {cut: 2}\nrun: {steps: 5}\n", fleet);

    assert_true(n > 0 && (size_t)n < sizeof(yaml));
    err[0] = 0;
    return sl_experiment_parse(yaml, strlen(yaml), "x.yaml", e, err, 256);
}

static struct sl_experiment *parsed(const char *fleet)
{
    struct sl_experiment *e = calloc(1, sizeof(*e));
    char err[256];

    assert_non_null(e);
    if (parse(fleet, e, err))
        fail_msg("%s", err);
    return e;
}

static void assert_near(double a, double b)
{
    assert_true(fabs(a - b) <= 1e-9 * fabs(b));
}

static void preset__is_a_whole_phone(void **state)
{
    static const char *const names[] = {"low", "mid", "flagship"};
    double gflops = 0;

    for (int i = 0; i < 3; i++) {
        char fleet[256];
        snprintf(fleet, sizeof(fleet), "[{class: a, count: 1, preset: %s, " LINK "}]", names[i]);
        struct sl_experiment *e = parsed(fleet);
        const struct sl_class_config *c = &e->fleet[0];
        uint32_t last = c->dvfs.n - 1;
        assert_true(c->compute_gflops > gflops); /* they rise */
        gflops = c->compute_gflops;
        assert_true(c->battery_mah > 0 && c->battery_floor == 0.2 && c->memory_mib >= 512);
        /* kappa f_max^3 is the class's power (rules P6) */
        assert_near(c->kappa * pow(c->dvfs.ghz[last] * 1e9, 3), c->compute_w);
        assert_near(c->dvfs.power_w[last], c->compute_w);
        assert_near(c->dvfs.power_w[0], c->compute_w * pow(c->dvfs.ghz[0] / c->dvfs.ghz[last], 3));
        /* at the full clock for ever it would be throttled, at the lowest not */
        assert_true(c->thermal.ambient_c + c->thermal.resistance_c_w * c->compute_w > c->thermal.throttle_c);
        assert_true(
            c->thermal.ambient_c + c->thermal.resistance_c_w * c->dvfs.power_w[0] < c->thermal.release_c);
        assert_true(c->rrc.inactivity_s >= 8 && c->rrc.promotion_median_ms > 800);
        assert_int_equal(c->link.queue_kib, 256);
        free(e);
    }
}

static void preset__keys_override_it(void **state)
{
    struct sl_experiment *e =
        parsed("[{" LINK ", compute_gflops: 3, compute_w: 1.5, battery_mah: 100, rrc: none, "
               "thermal: none, idle_w: 0.1, dvfs: {ghz: [1, 2]}, preset: flagship, count: 2, "
               "class: a}]");
    const struct sl_class_config *c = &e->fleet[0];

    assert_true(c->compute_gflops == 3 && c->compute_w == 1.5 && c->battery_mah == 100 && c->idle_w == 0.1);
    assert_string_equal(c->rrc.kind, "none");
    assert_true(c->rrc.inactivity_s == 0 && c->thermal.capacity_j_c == 0 && c->dvfs.n == 2);
    assert_near(c->dvfs.power_w[0], 1.5 / 8);
    assert_int_equal(c->memory_mib, 2048); /* the preset's */
    free(e);
}

static void power__of_a_table_or_of_kappa(void **state)
{
    struct sl_experiment *e = parsed(
        "[{class: a, count: 1, preset: mid, dvfs: {ghz: [1, 2, 3]}, power: {table_w: [0.5, 1.5, 4]}, " LINK
        "},\n"
        " {class: b, count: 1, preset: mid, dvfs: {ghz: [1, 2]}, power: {kappa: 2e-28}, " LINK "}]");

    assert_true(e->fleet[0].dvfs.power_w[1] == 1.5 && e->fleet[0].compute_w == 4 && e->fleet[0].kappa == 0);
    assert_near(e->fleet[1].compute_w, 1.6);
    assert_near(e->fleet[1].dvfs.power_w[0], 0.2);
    free(e);
}

static void class__without_a_preset_is_as_it_says(void **state)
{
    struct sl_experiment *e =
        parsed("[{class: a, count: 1, compute_gflops: 2, battery_mah: 3000, compute_w: 2, "
               "radio_tx_w: 1, radio_rx_w: 0.5, " LINK "}]");
    const struct sl_class_config *c = &e->fleet[0];

    assert_true(c->dvfs.n == 1 && c->dvfs.power_w[0] == 2 && c->thermal.capacity_j_c == 0);
    assert_true(
        c->rrc.inactivity_s == 0 && c->battery_floor == 0 && c->idle_w == 0.3 && c->battery_v == 3.85);
    free(e);
}

static void rrc__a_preset_with_changes(void **state)
{
    struct sl_experiment *e = parsed(
        "[{class: a, count: 1, preset: low, rrc: {inactivity_s: 5, preset: nr_sa, tail_w: 0.7}, " LINK "}]");
    const struct sl_rrc_keys *k = &e->fleet[0].rrc;

    assert_string_equal(k->kind, "nr_sa");
    assert_true(k->inactivity_s == 5 && k->tail_w == 0.7 && k->promotion_median_ms == 1154);
    free(e);
}

static void shares__are_whole_phones_that_add_up(void **state)
{
    struct sl_experiment *e = parsed("\n  devices: 10\n  classes:\n"
                                     "  - {class: l, preset: low, share: 0.33, " LINK "}\n"
                                     "  - {class: m, preset: mid, share: 0.33, " LINK "}\n"
                                     "  - {class: f, preset: flagship, share: 0.34, " LINK "}");

    assert_int_equal(e->n_devices, 10);
    assert_int_equal(e->fleet[0].count, 3);
    assert_int_equal(e->fleet[1].count, 3);
    assert_int_equal(e->fleet[2].count, 4);
    assert_int_equal(sl_experiment_class_of(e, 9), 2);
    free(e);
}

static void fleet__refuses_and_names_the_line(void **state)
{
    static const struct {
        const char *fleet, *expected;
    } cases[] = {
        {"\n - {class: a, count: 1, compute_gflops: 2, compute_w: 2, radio_tx_w: 1, radio_rx_w: 1, " LINK "}",
            "x.yaml:4: battery_mah: is missing; add it, or a preset"},
        {"\n - {class: a, count: 1, battery_mah: 2, compute_w: 2, radio_tx_w: 1, radio_rx_w: 1, " LINK "}",
            "x.yaml:4: compute_gflops: is missing"},
        {"\n - {class: a, count: 1, compute_gflops: 2, battery_mah: 2, radio_tx_w: 1, radio_rx_w: 1, " LINK
         "}",
            "x.yaml:4: compute_w: is missing"},
        {"\n - {class: a, count: 1, preset: huge, " LINK "}", "x.yaml:4: preset: 'huge' is not one of"},
        {"\n - {class: a, preset: low, " LINK "}", "x.yaml:4: count: is missing"},
        {"\n - {class: a, preset: low, share: 1, " LINK "}", "x.yaml:4: share: needs fleet.devices"},
        {"\n - {class: a, count: 1, preset: low, compute_w: 2, power: {kappa: 1e-28}, " LINK "}",
            "give one of compute_w"},
        {"\n - {class: a, count: 1, preset: low, power: {kappa: 1e-20}, " LINK "}",
            "power.kappa: makes 8e+07 W"},
        {"\n - {class: a, count: 1, preset: low, power: {table_w: [1, 2]}, " LINK "}",
            "has 2 steps, dvfs.ghz has 5"},
        {"\n - {class: a, count: 1, preset: low, power: {table_w: [2, 1]}, " LINK "}",
            "power.table_w: must rise"},
        {"\n - {class: a, count: 1, preset: low, dvfs: {ghz: [2, 1]}, " LINK "}", "dvfs.ghz: must rise"},
        {"\n - {class: a, count: 1, preset: low, dvfs: {ghz: []}, " LINK "}", "at least one step"},
        {"\n - {class: a, count: 1, preset: low, dvfs: {ghz: [2]}, " LINK "}", "give two or more dvfs.ghz"},
        {"\n - {class: a, count: 1, preset: low, thermal: hot, " LINK "}", "x.yaml:4: thermal: give none"},
        {"\n - {class: a, count: 1, preset: low, thermal: {throttle_c: 40}, " LINK "}",
            "must rise in this order"},
        {"\n - {class: a, count: 1, preset: low, thermal: {capacity_j_c: -1}, " LINK "}", "out of range"},
        {"\n - {class: a, count: 1, preset: low, rrc: 3g, " LINK "}", "x.yaml:4: rrc: give none, lte"},
        {"\n - {class: a, count: 1, preset: low, rrc: {promotion_p95_ms: 10}, " LINK "}", "is below"},
        {"\n - {class: a, count: 1, preset: low, rrc: {inactivity_s: 0}, " LINK "}", "out of range"},
        {"\n - {class: a, count: 1, preset: low, battery_start: 0.1, " LINK "}", "never takes part"},
        {"{devices: 3, classes: [{class: a, preset: low, share: 0.5, " LINK "}]}", "shares add up to 0.5"},
        {"{devices: 3, classes: [{class: a, preset: low, count: 3, " LINK "}]}", "share: is missing"},
        {"{classes: [{class: a, preset: low, share: 1, " LINK "}]}", "give a list of classes, or {devices"},
        {"{devices: 3, class: a}", "has devices and classes"},
        {"{devices: 2, classes: [{class: a, preset: low, share: 0.99, " LINK
         "}, {class: b, preset: mid, share: 0.01, " LINK "}]}",
            "class 'b' gets none of 2 phones"},
    };
    struct sl_experiment *e = calloc(1, sizeof(*e));
    char err[256];

    assert_non_null(e);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(cases[i].fleet, e, err), -EINVAL);
        if (!strstr(err, cases[i].expected) || strncmp(err, "x.yaml:", 7))
            fail_msg("'%s' does not say '%s'", err, cases[i].expected);
    }
    free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preset__is_a_whole_phone),
        cmocka_unit_test(preset__keys_override_it),
        cmocka_unit_test(power__of_a_table_or_of_kappa),
        cmocka_unit_test(class__without_a_preset_is_as_it_says),
        cmocka_unit_test(rrc__a_preset_with_changes),
        cmocka_unit_test(shares__are_whole_phones_that_add_up),
        cmocka_unit_test(fleet__refuses_and_names_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
