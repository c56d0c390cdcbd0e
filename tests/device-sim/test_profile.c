/* What is written of a run's traffic, and told of it afterwards: against figures made up here. */
#include "device-sim/profile/profile.h"
#include "device-sim/profile/spread.h"
#include "device-sim/profile/traffic.h"

#include "tests/wire/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const uint64_t ms = 1000000;
static const char *const states[] = {"asleep", "idle", "sending"}, *const radios[] = {"idle", "active"};
static const struct sl_traffic_names names = {states, radios, 3, 2};
static char dir[64], err[256];

static int make_dir(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/sluice-test-profile-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static void path_of(const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", dir, name);
}
static int remove_dir(void **state)
{
    char path[128];

    path_of("traffic.jsonl", path);
    unlink(path);
    path_of("sim.jsonl", path);
    unlink(path);
    return rmdir(dir);
}
static int remove_traffic(void **state)
{
    char path[128];

    path_of("traffic.jsonl", path);
    unlink(path);
    return rmdir(dir);
}
static void write_file(const char *name, const char *text)
{
    char path[128];

    path_of(name, path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void quantiles__are_those_of_the_sorted_values(void **state)
{
    struct sl_spread s = {0};

    assert_true(isnan(sl_spread_quantile(&s, 0.5)));
    for (int i = 1000; i > 0; i--)
        assert_int_equal(sl_spread_add(&s, i), 0);
    assert_true(sl_spread_quantile(&s, 0.5) == 500 && sl_spread_quantile(&s, 0.99) == 990);
    assert_true(
        sl_spread_quantile(&s, 0) == 1 && sl_spread_quantile(&s, 1) == 1000 && sl_spread_mean(&s) == 500.5);
    sl_spread_free(&s);
}

/* Two phones; the first sends 100,000 bytes a sample for 5 samples of 20, the second nothing. */
static void profile__has_the_load_bursts_and_shares_that_were_written(void **state)
{
    struct sl_traffic_phone p[2] = {{.index = 0, .class_name = "a", .service = "rate"},
        {.index = 7, .class_name = "b", .service = "granted"}};
    struct sl_traffic *t;
    char path[128];

    path_of("traffic.jsonl", path);
    assert_int_equal(sl_traffic_open(path, 10, p, 2, &names, 1000 * ms, &t, err, sizeof(err)), 0);
    for (unsigned k = 1; k <= 60; k++) {
        uint64_t now = 1000 * ms + k * 100 * ms;
        bool sends = k % 20 >= 10 && k % 20 < 15;
        assert_int_equal(sl_traffic_deadline(t), now);
        if (sends) {
            p[0].up.offered += 100000;
            p[0].up.carried += 100000;
            p[0].up.served += 10;
            p[0].up.wait_ns += 10 * 3 * ms;
            p[0].up.dropped++;
        }
        p[0].up.allowed += 200000;
        p[1].up.allowed = -1;
        p[0].down.carried = p[0].down.offered = 10 * k; /* acknowledgements */
        p[0].state = sends ? 2 : 1;
        p[0].radio = 1;
        p[0].rtt_ns = 40 * ms;
        p[0].battery = 1 - k * 0.001;
        p[0].temperature_c = 25 + k;
        p[0].clock = k > 30 ? 0.5 : 1;
        assert_int_equal(
            sl_traffic_sample(t, now, now, p, &(struct sl_traffic_totals){k * 1000000, k * 500000}), 0);
    }
    sl_traffic_close(t);
    write_file("sim.jsonl",
        "{\"event\":\"start\"}\n"
        "{\"event\":\"phone\",\"class\":\"a\",\"energy\":{\"compute\":3,\"send\":1}}\n"
        "{\"event\":\"phone\",\"class\":\"a\",\"energy\":{\"compute\":5,\"send\":2}}\n{\"torn");
    cJSON *o = sl_profile(dir, err, sizeof(err));
    assert_non_null(o);
#define AT(object, name) cJSON_GetObjectItem(object, name)
#define NUMBER(object, name) AT(object, name)->valuedouble
    assert_true(
        fabs(NUMBER(o, "seconds") - 6) < 1e-9 && NUMBER(o, "fleet") == 10 && NUMBER(o, "watched") == 2);
    assert_true(fabs(NUMBER(o, "sent_up_mbit_s") - 80) < 1e-9);
    cJSON *a = cJSON_GetArrayItem(AT(o, "classes"), 0), *b = cJSON_GetArrayItem(AT(o, "classes"), 1);
    cJSON *up = AT(a, "up");
    assert_true(fabs(NUMBER(up, "carried_mbit_s") - 15 * 0.8 / 6) < 1e-4);
    assert_true(fabs(NUMBER(up, "allowed_mbit_s") - 16) < 1e-4 && NUMBER(up, "dropped") == 15);
    assert_true(
        fabs(NUMBER(AT(up, "busy_mbit_s"), "p50") - 8) < 1e-4 && NUMBER(AT(up, "busy_mbit_s"), "n") == 15);
    assert_true(NUMBER(AT(up, "wait_ms"), "p90") == 3);
    assert_true(cJSON_IsNull(AT(AT(b, "up"), "allowed_mbit_s")));
    cJSON *bursts = AT(a, "bursts");
    assert_true(fabs(NUMBER(AT(bursts, "kib"), "p50") - 500000 / 1024.0) < 1e-3);
    assert_true(NUMBER(AT(bursts, "kib"), "n") == 3);
    assert_true(fabs(NUMBER(AT(bursts, "on_s"), "p50") - 0.5) < 1e-9 &&
                fabs(NUMBER(AT(bursts, "off_s"), "p50") - 1.5) < 1e-9);
    assert_true(NUMBER(AT(a, "rtt_ms"), "p99") == 40);
    assert_true(fabs(NUMBER(AT(a, "states"), "sending") - 0.25) < 1e-9);
    assert_true(NUMBER(AT(a, "radios"), "active") == 1 && NUMBER(AT(b, "radios"), "idle") == 1);
    assert_true(NUMBER(AT(a, "energy_j"), "compute") == 4 && NUMBER(AT(a, "energy_j"), "send") == 1.5);
    assert_true(NUMBER(a, "temp_max_c") == 85 && NUMBER(a, "clock_min") == 0.5);
    cJSON_Delete(o);
}

/* Two phones in cells: one is handed over from cell 1 to cell 2 and sends at 20 dB; what the idle one hears
 * is no load's SNR. */
static void profile__has_the_cells_of_phones_that_send(void **state)
{
    struct sl_traffic_phone p[2] = {{.index = 0, .class_name = "a", .service = "granted"},
        {.index = 1, .class_name = "a", .service = "granted"}};
    struct sl_traffic *t;
    char path[128];

    path_of("traffic.jsonl", path);
    assert_int_equal(sl_traffic_open(path, 2, p, 2, &names, 0, &t, err, sizeof(err)), 0);
    for (unsigned k = 1; k <= 20; k++) {
        p[0].up.carried = p[0].up.offered = p[0].up.offered + 4000;
        p[0].cell = (struct sl_traffic_cell){k > 10 ? 2 : 1, k > 10, 20, 30};
        p[1].cell = (struct sl_traffic_cell){7, 0, -5, 5};
        assert_int_equal(sl_traffic_sample(t, k * 100 * ms, k * 100 * ms, p, NULL), 0);
    }
    sl_traffic_close(t);
    write_file("sim.jsonl", "");
    cJSON *o = sl_profile(dir, err, sizeof(err));
    assert_non_null(o);
    cJSON *cell = AT(cJSON_GetArrayItem(AT(o, "classes"), 0), "cell");
    assert_non_null(cell);
    assert_true(NUMBER(cell, "used") == 2 && NUMBER(cell, "handovers") == 0.5);
    assert_true(NUMBER(AT(cell, "snr_up_db"), "p10") == 20 && NUMBER(AT(cell, "snr_down_db"), "p99") == 30);
    cJSON_Delete(o);
}

static void profile__names_the_line_that_it_does_not_understand(void **state)
{
    static const char start[] = "{\"event\":\"start\",\"fleet\":1,\"states\":[\"a\"],\"radios\":[\"b\"],"
                                "\"phones\":[{\"index\":0,\"class\":\"c\"}]}\n";
    char text[512];

    assert_null(sl_profile("/nonexistent", err, sizeof(err)));
    assert_non_null(strstr(err, "/nonexistent/traffic.jsonl"));
    snprintf(text, sizeof(text), "%s%s", start, "{\"t\":0.1}\n");
    write_file("traffic.jsonl", text);
    write_file("sim.jsonl", "");
    assert_null(sl_profile(dir, err, sizeof(err)));
    assert_non_null(strstr(err, "traffic.jsonl:2: "));
    write_file("traffic.jsonl", start);
    assert_null(sl_profile(dir, err, sizeof(err)));
    assert_non_null(strstr(err, "no samples"));
    write_file("traffic.jsonl", "{\"t\":0.1}\n");
    assert_null(sl_profile(dir, err, sizeof(err)));
    assert_non_null(strstr(err, "traffic.jsonl:1: "));
}

/* However long a run, the file grows more and more slowly; phones are spread over the fleet. */
static void traffic__is_bounded(void **state)
{
    struct sl_traffic_phone p = {.class_name = "a", .service = "rate"};
    struct sl_traffic *t;
    char path[128];
    unsigned samples = 0;

    path_of("traffic.jsonl", path);
    assert_int_equal(sl_traffic_open(path, 1, &p, 1, &names, 0, &t, err, sizeof(err)), 0);
    for (uint64_t now = 0; now < (600 + 1200 + 2400) * 1000 * ms; now += 100 * ms)
        if (now >= sl_traffic_deadline(t)) {
            assert_int_equal(sl_traffic_sample(t, now, now, &p, NULL), 0);
            samples++;
        }
    assert_in_range(samples, 3 * SL_TRAFFIC_SAMPLES - 3, 3 * SL_TRAFFIC_SAMPLES);
    sl_traffic_close(t);
    assert_int_equal(sl_traffic_watched(10000, 32, 0), 0);
    assert_int_equal(sl_traffic_watched(10000, 32, 31), 9687);
    assert_int_equal(sl_traffic_watched(3, 3, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles__are_those_of_the_sorted_values),
        cmocka_unit_test_setup_teardown(
            profile__has_the_load_bursts_and_shares_that_were_written, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(profile__has_the_cells_of_phones_that_send, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(
            profile__names_the_line_that_it_does_not_understand, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(traffic__is_bounded, make_dir, remove_traffic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
