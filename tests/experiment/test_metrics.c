#include "trainer/experiment/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void write__lines_are_json_and_keep_doubles_whole(void **state)
{
    char path[] = "/tmp/sluice-metrics-XXXXXX", line[256], err[128];
    struct sl_metrics *m;
    volatile double zero = 0;
    const double loss = 3.0000000000000004;

    close(mkstemp(path));
    assert_int_equal(sl_metrics_open(path, &m, err, sizeof err), 0);
    for (int i = 0; i < 2; i++) {
        cJSON *o = cJSON_CreateObject();
        sl_metrics_number(o, "loss", loss);
        sl_metrics_number(o, "bad", 0.0 / zero);
        assert_int_equal(sl_metrics_write(m, "step", o), 0);
    }
    sl_metrics_close(m);

    FILE *f = fopen(path, "r");
    int n = 0;
    while (fgets(line, sizeof line, f)) {
        cJSON *o = cJSON_Parse(line);
        assert_non_null(o);
        assert_string_equal(o->child->string, "t");
        assert_string_equal(cJSON_GetObjectItem(o, "event")->valuestring, "step");
        assert_true(cJSON_GetObjectItem(o, "loss")->valuedouble == loss);
        assert_true(cJSON_IsNull(cJSON_GetObjectItem(o, "bad")));
        cJSON_Delete(o);
        n++;
    }
    fclose(f);
    remove(path);
    assert_int_equal(n, 2);
}

static void open__directory_that_is_not_there(void **state)
{
    struct sl_metrics *m;
    char err[128] = "";

    assert_true(sl_metrics_open("/nonexistent/dir/edge.jsonl", &m, err, sizeof err) < 0);
    assert_non_null(strstr(err, "run directory"));
}

static void write__full_disk_is_reported(void **state)
{
    struct sl_metrics *m;
    char err[128];

    assert_int_equal(sl_metrics_open("/dev/full", &m, err, sizeof err), 0);
    assert_true(sl_metrics_write(m, "step", NULL) < 0);
    sl_metrics_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write__lines_are_json_and_keep_doubles_whole),
        cmocka_unit_test(open__directory_that_is_not_there),
        cmocka_unit_test(write__full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
