/* The keys of a link's queue, loss, jitter and reordering: what they become, and refusals that name the line.
 */
#include "tests/wire/test.h"
#include "trainer/experiment/experiment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The link's own keys stand on line 4. */
static int parse(const char *keys, struct sl_experiment *e, char err[256])
{
    char yaml[2048];
    int n = snprintf(yaml, sizeof(yaml),
        "model: {path: m}\ndata: {path: d}\nfleet:\n - {class: a, count: 1, preset: mid, link: {up_mbps: 10, "
        "down_mbps: 20, rtt_ms: 40, %s}}\nplan: {cut: 2}\nrun: {steps: 5}\n",
        keys);

    assert_true(n > 0 && (size_t)n < sizeof(yaml));
    err[0] = 0;
    return sl_experiment_parse(yaml, strlen(yaml), "x.yaml", e, err, 256);
}

static struct sl_experiment *parsed(const char *keys)
{
    struct sl_experiment *e = calloc(1, sizeof(*e));
    char err[256];

    assert_non_null(e);
    if (parse(keys, e, err))
        fail_msg("%s", err);
    return e;
}

static void queue__every_form(void **state)
{
    struct sl_experiment *e = parsed("queue_kib: 64");
    assert_int_equal(e->fleet[0].link.queue_kib, 64);
    assert_int_equal(e->fleet[0].link.queue.packets, 0);
    free(e);
    e = parsed("queue: {kind: codel, kib: 128, target_ms: 10, interval_ms: 200}");
    assert_string_equal(e->fleet[0].link.queue.kind, "codel");
    assert_int_equal(e->fleet[0].link.queue_kib, 128);
    assert_true(e->fleet[0].link.queue.target_ms == 10 && e->fleet[0].link.queue.interval_ms == 200);
    free(e);
    e = parsed("queue: {kind: pie, packets: 100}");
    assert_int_equal(e->fleet[0].link.queue.packets, 100);
    free(e);
    e = parsed("queue: {kind: none}, jitter_ms: 2.5, reorder: 0.01");
    assert_true(e->fleet[0].link.jitter_ms == 2.5 && e->fleet[0].link.reorder.share == 0.01 &&
                e->fleet[0].link.reorder.by_ms == 5);
    assert_int_equal(e->fleet[0].link.queue_kib, 256);
    free(e);
}

static void loss__a_number_or_a_channel(void **state)
{
    struct sl_experiment *e = parsed("loss: 0.02");
    assert_true(e->fleet[0].link.loss.good == 0.02 && e->fleet[0].link.loss.good_to_bad == 0);
    free(e);
    e = parsed("loss: {good_to_bad: 0.01, bad_to_good: 0.2, bad: 0.5}, reorder: {share: 0.1, by_ms: 7}");
    const struct sl_loss_keys *l = &e->fleet[0].link.loss;
    assert_true(l->good == 0 && l->bad == 0.5 && l->good_to_bad == 0.01 && l->bad_to_good == 0.2);
    assert_true(e->fleet[0].link.reorder.share == 0.1 && e->fleet[0].link.reorder.by_ms == 7);
    free(e);
}

static void keys__refused_with_their_line(void **state)
{
    static const struct {
        const char *keys, *says;
    } bad[] = {
        {"queue: codel", "link.queue: give keys like"},
        {"queue: {kib: 4}", "kind"},
        {"queue: {kind: red}", "red"},
        {"queue: {kind: codel, kib: 64, packets: 10}", "not both"},
        {"queue: {kind: none, kib: 64}", "no limit"},
        {"queue: {kind: droptail, target_ms: 5}", "target_ms"},
        {"queue: {kind: pie, interval_ms: 5}", "interval_ms"},
        {"queue: {kind: codel, target_ms: 500}", "interval_ms (100)"},
        {"queue: {kind: codel, depth: 5}", "depth"},
        {"queue_kib: 64, queue: {kind: codel}", "both say"},
        {"queue: {kind: codel}, queue_kib: 64", "both say"},
        {"queue_kib: 2", "queue_kib"},
        {"loss: 1", "link.loss"},
        {"loss: -0.1", "link.loss"},
        {"loss: {bad: 0.5}", "good_to_bad"},
        {"loss: {good_to_bad: 0, bad_to_good: 0.1, bad: 1}", "above 0"},
        {"loss: {good_to_bad: 1, bad_to_good: 0.001, bad: 1}", "of all packets"},
        {"loss: {good_to_bad: 0.1, bad_to_good: 2, bad: 1}", "bad_to_good"},
        {"jitter_ms: -1", "jitter_ms"},
        {"reorder: 1.5", "link.reorder"},
        {"reorder: {by_ms: 3}", "share"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_experiment *e = calloc(1, sizeof(*e));
        char err[256];
        assert_int_equal(parse(bad[i].keys, e, err), -EINVAL);
        if (!strstr(err, "x.yaml:4: ") || !strstr(err, bad[i].says) || strchr(err, '\n'))
            fail_msg("%s: %s", bad[i].keys, err);
        free(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue__every_form),
        cmocka_unit_test(loss__a_number_or_a_channel),
        cmocka_unit_test(keys__refused_with_their_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
