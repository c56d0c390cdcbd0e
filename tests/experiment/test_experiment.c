#include "trainer/experiment/experiment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char small[] =
    "model: {path: m}\n"
    "data: {path: d}\n"
    "fleet:\n"
    "  - {class: a, count: 3, compute_gflops: 8, battery_mah: 4500, compute_w: 4, radio_tx_w: 1,\n"
    "     radio_rx_w: 1, link: {up_mbps: 40, down_mbps: 80, rtt_ms: 40}}\n"
    "plan: {cut: 2}\n"
    "run: {steps: 5}\n";

static int parse(const char *yaml, struct sl_experiment *e, char err[256])
{
    err[0] = 0;
    return sl_experiment_parse(yaml, strlen(yaml), "x.yaml", e, err, 256);
}

/* `small` with one text replaced. */
static char *edited(const char *from, const char *to)
{
    const char *at = strstr(small, from);
    char *out = calloc(1, sizeof small + strlen(to));

    assert_non_null(at);
    memcpy(out, small, (size_t)(at - small));
    strcat(strcat(out, to), at + strlen(from));
    return out;
}

static void assert_refused(const char *from, const char *to, const char *expected)
{
    struct sl_experiment e;
    char err[256];
    char *yaml = edited(from, to);

    assert_int_not_equal(parse(yaml, &e, err), 0);
    if (!strstr(err, expected))
        fail_msg("'%s' for: %s\nwanted: %s", err, to, expected);
    assert_null(strchr(err, '\n'));
    free(yaml);
}

static void parse__small_file_gets_defaults(void **state)
{
    struct sl_experiment e;
    char err[256];

    assert_int_equal(parse(small, &e, err), 0);
    assert_int_equal(e.n_devices, 3);
    assert_int_equal(e.fleet[0].cut, 2);
    assert_int_equal(e.data.seq, 128);
    assert_int_equal(e.training.lora.n_targets, 2);
    assert_string_equal(e.training.lora.targets[0], "q_proj");
    assert_string_equal(e.edge.data.backend, "memif");
    assert_string_equal(e.edge.data.fleet_backend, "memif");
    assert_int_equal(e.fleet[0].seq, 128);
    assert_true(e.fleet[0].battery_v == 3.85);
    assert_int_equal(e.training.gang.deadline_ms, 0);
    assert_int_equal(e.edge.limits.handshakes, 8);
    assert_int_equal(e.edge.limits.grants_per_device, 2);
    assert_int_equal(e.edge.limits.grant_s, 60);
    assert_false(e.training.lora.freeze_a);
}

static void parse__values_reach_their_fields(void **state)
{
    struct sl_experiment e;
    char err[256];
    char *yaml = edited("run: {steps: 5}", "seed: 18446744073709551615\n"
                                           "training: {lora: {rank: 4, alpha: 2.5, targets: [c_attn], how: "
                                           "freeze_a}, gang: {deadline: 1.5, quorum: 0.5}}\n"
                                           "edge: {data: {eal_extra: [--log-level=8, \"-v\"], backend: "
                                           "\"0000:00:03.0\", fleet_backend: \"0000:00:04.0\"}}\n"
                                           "run: {steps: 7, seconds: 2.5}");

    assert_int_equal(parse(yaml, &e, err), 0);
    assert_true(e.seed == UINT64_MAX);
    assert_int_equal(e.training.lora.rank, 4);
    assert_true(e.training.lora.alpha == 2.5);
    assert_int_equal(e.training.lora.n_targets, 1);
    assert_true(e.training.lora.freeze_a);
    assert_int_equal(e.training.gang.deadline_ms, 1500);
    assert_int_equal(e.edge.data.n_eal_extra, 2);
    assert_string_equal(e.edge.data.eal_extra[1], "-v");
    assert_string_equal(e.edge.data.backend, "0000:00:03.0");
    assert_string_equal(e.edge.data.fleet_backend, "0000:00:04.0");
    assert_int_equal(e.run.steps, 7);
    free(yaml);
}

static void parse__refuses_and_names_the_line(void **state)
{
    static const struct {
        const char *from, *to, *expected;
    } cases[] = {
        {"run: {steps: 5}", "run: {steps: 5, stepz: 6}", "x.yaml:7: run.stepz: unknown key"},
        {"model: {path: m}", "modell: {path: m}", "x.yaml:1: modell: unknown key"},
        {"run: {steps: 5}", "run: {steps: 5}\nrun: {steps: 6}", "x.yaml:8: run: repeats the key of line 7"},
        {"steps: 5", "steps: 5m", "x.yaml:7: run.steps: '5m' is not a number"},
        {"steps: 5", "steps: 2.5", "not a whole number"},
        {"steps: 5", "steps: 1e3", "not a whole number"},
        {"steps: 5", "steps: 0", "out of range"},
        {"steps: 5", "steps: -1", "out of range"},
        {"steps: 5", "steps: \"5\"", "not a number"},
        {"steps: 5", "steps: [5]", "not a number"},
        {"steps: 5", "seconds: .inf", "not a number"},
        {"steps: 5", "seconds: nan", "not a number"},
        {"steps: 5", "seconds: 1e999", "not a finite"},
        {"steps: 5", "seconds: 0x10", "not a number"},
        {"steps: 5", "seconds: 1e", "not a finite"},
        {"run: {steps: 5}", "seed: 18446744073709551616\nrun: {steps: 5}", "x.yaml:7: seed:"},
        {"run: {steps: 5}", "run: {dir: r}", "give run.steps or run.seconds"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {deterministic: yes}", "give true or false"},
        {"run: {steps: 5}", "run: {steps: 5, seconds: 3}\ntraining: {deterministic: true}",
            "training.deterministic"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {lcores: 17}}", "out of range"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {adapters: {resident: 4}}",
            "edge.adapters.resident: for training.adapters: personal alone"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {adapters: personal, gang: {policy: async}}",
            "training.gang.policy: personal adapters have no version"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {adapters: personal, accumulate: 2}",
            "personal adapters are not aggregated"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {adapters: personal, lora: {how: svd}}",
            "personal adapters are not averaged"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {adapters: personal, fedprox_mu: 0.1}",
            "personal adapters have no common one"},
        {"run: {steps: 5}",
            "run: {steps: 5}\ntraining: {adapters: personal, deterministic: true}\nedge: {adapters: "
            "{resident: 1}}",
            "edge.adapters.resident: a deterministic gang"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {gang: {policy: async}, deterministic: true}",
            "take training.gang.policy: sync"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {gang: {staleness: 4}}",
            "training.gang.staleness: for training.gang.policy: async alone"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {gang: {max: 4}}",
            "training.gang.max: for training.gang.policy: async alone"},
        {"cut: 2", "cut: 2, fixed: 3",
            "x.yaml:6: plan.fixed: give clock_hz, power_w, rate_up_mbps and share"},
        {"cut: 2", "cut: 2, fixed: {clock: 1e9}",
            "plan.fixed: has clock_hz, power_w, rate_up_mbps and share"},
        {"cut: 2", "cut: 2, fixed: {share: 0.5, share: 0.5}", "once each"},
        {"cut: 2", "cut: 2, fixed: {share: 2}", "plan.fixed.share: 2 is out of range"},
        {"cut: 2", "cut: 2, fixed: {clock_hz: -1}", "out of range"},
        {"cut: 2", "cut: 2, fixed: {power_w: .nan}", "plan.fixed.power_w"},
        {"cut: 2", "cut: 2, fixed: {rate_up_mbps: [1, 2]}",
            "x.yaml:6: plan.fixed.rate_up_mbps: give one value for all classes"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {gang: {policy: async, staleness: 0}}",
            "out of range"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {aggregation: gradients, fedprox_mu: 0.1}",
            "training.fedprox_mu: where gradients are aggregated"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {aggregation: gradients, server: {kind: fedadam}}",
            "training.server.kind: a server's optimiser needs"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {lora: {how: svd}, server: {kind: fedadam}}",
            "training.server.kind: a server's optimiser needs"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {server: {kind: yogi}}",
            "is not one of none|fedadam"},
        {"count: 3", "count: 3, rank: 9", "a class has a rank above training.lora.rank"},
        {"count: 3", "count: 3, rank: 4", "which needs training.lora.how: svd"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {lora: {how: svd}, gang: {policy: async}}",
            "use factors or freeze_a"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {lora: {how: svd}, aggregation: gradients}",
            "take factors or freeze_a"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {lcores: 2, queues: 3}}",
            "edge.data.queues: more than edge.data.lcores"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {lcores: 2, cpus: [1]}}",
            "edge.data.cpus: name one CPU for each"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {lcores: 2, cpus: [1, 1]}}",
            "x.yaml:8: edge.data.cpus: CPU 1 twice"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {cpus: 1}}", "give a list of CPUs"},
        {"cut: 2", "cut: [auto]", "x.yaml:6: plan.cut: 'auto' is not a number"},
        {"cut: 2", "cut: auto, changes: [{step: 3, cut: 1}]", "x.yaml:6: plan.changes: with plan.cut: auto"},
        {"cut: 2}\nrun: {steps: 5}", "cut: auto}\ntraining: {deterministic: true}\nrun: {steps: 5}",
            "x.yaml:6: plan.cut: auto goes by measured times"},
        {"cut: 2}\nrun: {steps: 5}", "cut: auto}\ntraining: {adapters: personal}\nrun: {steps: 5}",
            "personal adapters have none"},
        {"cut: 2}\nrun: {steps: 5}", "cut: auto}\nsim: {compute: replay, recording: r}\nrun: {steps: 5}",
            "a recording has the messages"},
        {"cut: 2", "cut: auto, weights: {delay: 0, energy: 0}", "delay and energy cannot both be 0"},
        {"cut: 2", "cut: auto, min_cut: 3, max_cut: 2", "must not fall in this order"},
        {"cut: 2", "cut: auto, min_cut: 3, start_cut: 2", "must not fall in this order"},
        {"cut: 2", "cut: auto, max_cut: [3, 4]", "x.yaml:6: plan.max_cut: give one cut for all classes"},
        {"cut: 2", "cut: auto, objective: best", "plan.objective: 'best' is not one of physical|printed"},
        {"cut: 2", "cut: auto, replan_s: 0.5", "plan.replan_s: 0.5 is out of range"},
        {"cut: 2", "cut: 2, replan_s: 30", "are for plan.cut: auto"},
        {"cut: 2", "cut: 2, min_cut: 1", "are for plan.cut: auto"},
        {"cut: 2", "cut: [2, 3]", "x.yaml:6: plan.cut: give one cut for all classes"},
        {"cut: 2", "cut: 0", "out of range"},
        {"cut: 2", "cut: 2, changes: {step: 3, cut: 1}", "x.yaml:6: plan.changes: give a list"},
        {"cut: 2", "cut: 2, changes: [3]", "plan.changes: give a list like"},
        {"cut: 2", "cut: 2, changes: [{step: 3}]", "plan.changes: needs step and cut"},
        {"cut: 2", "cut: 2, changes: [{step: 3, cut: 1, step: 4}]", "has one step and one cut each"},
        {"cut: 2", "cut: 2, changes: [{step: 3, cut: 1, at: 4}]", "has one step and one cut each"},
        {"cut: 2", "cut: 2, changes: [{step: 0, cut: 1}]", "out of range"},
        {"cut: 2", "cut: 2, changes: [{step: 3, cut: [1, 2]}]", "plan.changes: give one cut for all classes"},
        {"cut: 2", "cut: 2, changes: [{step: 3, cut: 1}, {step: 3, cut: 2}]",
            "plan.changes: steps must rise"},
        {"run: {steps: 5}", "run: {seconds: 5}\ntraining: {optimizer: {schedule: linear}}", "give run.steps"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {optimizer: {warmup: 6}}",
            "warmup: more than run.steps"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {accumulate: 3}",
            "not a multiple of training.accumulate"},
        {"run: {steps: 5}", "run: {steps: 5}\ntraining: {aggregation: gradients, gang: {policy: async}}",
            "asynchronous gangs make a step of each message"},
        {"cut: 2", "cut: 2, objective: physical", "are for plan.cut: auto"},
        {"cut: 2", "cut: random, start_cut: 2", "are for plan.cut: auto"},
        {"cut: 2", "cut: random, min_cut: 3, max_cut: 2", "must not fall in this order"},
        {"cut: 2", "cut: random, changes: [{step: 3, cut: 1}]", "keeps the cut that was drawn"},
        {"rtt_ms: 40", "rtt_ms: 40, trace: {up: a, down: b}", "x.yaml:4: link: say once how fast it is"},
        {"up_mbps: 40, down_mbps: 80, rtt_ms: 40", "rtt_ms: 40", "link: say once how fast it is"},
        {"up_mbps: 40, down_mbps: 80", "up_mbps: 40", "up_mbps and down_mbps belong together"},
        {"up_mbps: 40, down_mbps: 80", "trace: {up: a}", "link.trace: up and down belong together"},
        {"up_mbps: 40, down_mbps: 80", "trace: {up: a, down: b, phase: -1}", "out of range"},
        {"up_mbps: 40, down_mbps: 80", "trace: {up_light: a}", "link.trace: up and down belong together"},
        {"up_mbps: 40, down_mbps: 80", "trace: {up: a, down: b, idle_ms: 5}", "give up_light or down_light"},
        {"up_mbps: 40, down_mbps: 80", "up_mbps: -1, down_mbps: 80", "out of range"},
        {"rtt_ms: 40", "rtt_ms: 40, outages: {every_s: 5}", "every_s and for_s belong together"},
        {"rtt_ms: 40", "rtt_ms: 40, outages: {every_s: 5, for_s: 5, regular: true}",
            "regular ones must be shorter"},
        {"model: {path: m}", "model: {path: m, precision: f64}", "is not one of f32|bf16"},
        {"model: {path: m}", "model: {}", "model.path: is missing"},
        {"model: {path: m}", "model: m", "model: give keys and values"},
        {"model: {path: m}", "model: {path: \"a\\0b\"}", "model.path: give a text"},
        {"count: 3", "count: 50000", "out of range"},
        {"count: 3, ", "", "count: is missing"},
        {"class: a", "class: a, colour: red", "x.yaml:4: colour: unknown key"},
        {"run: {steps: 5}", "run: {steps: 5}\n---\na: b", "second YAML document"},
        {"run: {steps: 5}", "run: {steps: 5", "not YAML"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {codec: bf16+lz4}}",
            "edge.data.codec: 'bf16+lz4' is not supported"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {data: {codec: int4}}",
            "'int4' is not one of bf16|f32|int8|int8+lz4"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {limits: {grants_per_device: 9}}",
            "edge.limits.grants_per_device"},
        {"run: {steps: 5}", "run: {steps: 5}\nedge: {limits: {joins: 9}}", "joins"},
        {"run: {steps: 5}", "run: {steps: 5}\n? [a, b]\n: c", "a key must be a plain word"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].from, cases[i].to, cases[i].expected);
}

static void parse__staleness_follows_the_fleet(void **state)
{
    static const struct {
        const char *gang;
        uint32_t bound;
    } cases[] = {{"{policy: sync}", 0}, {"{policy: async}", 12}, {"{policy: async, staleness: auto}", 12},
        {"{policy: async, staleness: 3}", 3}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sl_experiment e;
        char err[256], text[128];
        snprintf(text, sizeof text, "run: {steps: 5}\ntraining: {gang: %s}\n", cases[i].gang);
        char *yaml = edited("run: {steps: 5}\n", text);
        assert_int_equal(parse(yaml, &e, err), 0);
        assert_int_equal(e.training.gang.staleness, cases[i].bound);
        assert_int_equal(e.training.gang.async, i > 0);
        free(yaml);
    }
}

static void parse__empty_file(void **state)
{
    struct sl_experiment e;
    char err[256];

    assert_int_not_equal(parse("", &e, err), 0);
    assert_non_null(strstr(err, "empty"));
}

static void load__no_file(void **state)
{
    struct sl_experiment e;
    char err[256];

    assert_int_not_equal(sl_experiment_load("/nonexistent/x.yaml", &e, err, sizeof err), 0);
    assert_non_null(strstr(err, "No such file"));
}

static void load__bundled_demo(void **state)
{
    struct sl_experiment e;
    char err[256] = "";

    if (sl_experiment_load(SOURCE_ROOT "/device-sim/scenarios/demo.yaml", &e, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(e.n_devices, 8);
    assert_int_not_equal(e.fleet[0].cut, e.fleet[1].cut);
    assert_int_equal(e.run.steps, 60);
}

static void class_of__follows_the_order_of_the_fleet(void **state)
{
    struct sl_experiment e = {
        .n_classes = 3, .n_devices = 6, .fleet = {{.count = 2}, {.count = 1}, {.count = 3}}};
    static const uint32_t expected[] = {0, 0, 1, 2, 2, 2};

    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(sl_experiment_class_of(&e, i), expected[i]);
}

static void sl_experiment_cut__follows_the_changes(void **state)
{
    struct sl_experiment *e = calloc(1, sizeof *e);
    char err[256], *yaml = edited("cut: 2", "cut: 2, changes: [{step: 3, cut: 1}, {step: 9, cut: [4]}]");
    assert_int_equal(parse(yaml, e, err), 0);
    assert_int_equal(e->n_changes, 2);
    static const uint32_t expected[] = {2, 2, 2, 1, 1, 1, 1, 1, 1, 4, 4};
    for (uint64_t step = 0; step < 11; step++)
        assert_int_equal(sl_experiment_cut(e, 0, step), expected[step]);
    uint32_t lowest, highest;
    sl_experiment_cuts(e, &lowest, &highest);
    assert_true(lowest == 1 && highest == 4);
    free(yaml);
    free(e);
}

static void settle_cuts__follow_the_models_depth(void **state)
{
    struct sl_experiment *e = calloc(1, sizeof *e);
    char err[256], *yaml = edited("cut: 2", "cut: auto, min_cut: 2");
    uint32_t lowest, highest;

    assert_int_equal(parse(yaml, e, err), 0);
    assert_true(
        e->plan.live && !e->plan.printed && e->plan.weight_delay == 1 && e->plan.weight_stability == 0);
    assert_true(e->plan.replan_s == 30 && e->plan.hysteresis == 0.05);
    assert_int_equal(sl_experiment_settle_cuts(e, 12, err, sizeof err), 0);
    assert_int_equal(e->fleet[0].cut, 6);
    sl_experiment_cuts(e, &lowest, &highest);
    assert_true(lowest == 2 && highest == 11);
    free(yaml);
    yaml = edited("cut: 2", "cut: auto, max_cut: 12, start_cut: 3");
    assert_int_equal(parse(yaml, e, err), 0);
    assert_int_equal(sl_experiment_settle_cuts(e, 12, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "plan.max_cut"));
    assert_int_equal(sl_experiment_settle_cuts(e, 13, err, sizeof err), 0);
    assert_int_equal(e->fleet[0].cut, 3);
    free(yaml);
    free(e);
}

static void device_cut__random__every_cut_of_the_bounds_and_always_the_same(void **state)
{
    enum { DEVICES = 1000 };
    struct sl_experiment *e = calloc(1, sizeof *e);
    char err[256], *yaml = edited("cut: 2", "cut: random, min_cut: 2, max_cut: 5");
    uint32_t lowest, highest, times[8] = {0}, differ = 0;

    assert_int_equal(parse(yaml, e, err), 0);
    assert_true(e->plan.random && !e->plan.live);
    assert_int_equal(sl_experiment_settle_cuts(e, 8, err, sizeof err), 0);
    sl_experiment_cuts(e, &lowest, &highest);
    assert_true(lowest == 2 && highest == 5);
    for (uint32_t i = 0; i < DEVICES; i++) {
        uint32_t cut = sl_experiment_device_cut(e, 0, i, 0);
        assert_in_range(cut, 2, 5);
        assert_int_equal(sl_experiment_device_cut(e, 0, i, 77), cut);
        times[cut]++;
        e->seed++;
        differ += sl_experiment_device_cut(e, 0, i, 0) != cut;
        e->seed--;
    }
    for (uint32_t cut = 2; cut <= 5; cut++) /* 250, deviation 13.7: four of them */
        assert_in_range(times[cut], 195, 305);
    assert_in_range(differ, 695, 805); /* 750 likewise: another seed draws anew */
    free(yaml);
    yaml = edited("cut: 2", "cut: random");
    assert_int_equal(parse(yaml, e, err), 0);
    assert_int_equal(sl_experiment_settle_cuts(e, 8, err, sizeof err), 0);
    sl_experiment_cuts(e, &lowest, &highest);
    assert_true(lowest == 1 && highest == 7);
    free(yaml);
    free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_experiment_cut__follows_the_changes),
        cmocka_unit_test(settle_cuts__follow_the_models_depth),
        cmocka_unit_test(device_cut__random__every_cut_of_the_bounds_and_always_the_same),
        cmocka_unit_test(parse__small_file_gets_defaults),
        cmocka_unit_test(parse__values_reach_their_fields),
        cmocka_unit_test(parse__refuses_and_names_the_line),
        cmocka_unit_test(parse__staleness_follows_the_fleet),
        cmocka_unit_test(parse__empty_file),
        cmocka_unit_test(load__no_file),
        cmocka_unit_test(load__bundled_demo),
        cmocka_unit_test(class_of__follows_the_order_of_the_fleet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
