/* sluice-sim's command line, and the files of ids it writes. */
#include "device-sim/fleet/id_file.h"
#include "device-sim/fleet/options.h"

#include "tests/wire/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int parse(struct sl_sim_options *o, char *err, const char *const *args)
{
    char *argv[16] = {(char *)(uintptr_t) "sluice-sim"};
    int argc = 1;

    while (args[argc - 1]) {
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
        argc++;
    }
    return sl_sim_options_parse(argc, argv, o, err, 256);
}

static void options__are_read(void **state)
{
    const char *const args[] = {"--experiment", "e.yaml", "--run=r", "--pki", "p", "--json", "--fault",
        "nan@3:1", "--fault", "die@12:40", NULL};
    struct sl_sim_options o;
    char err[256];

    assert_int_equal(parse(&o, err, args), 0);
    assert_string_equal(o.experiment, "e.yaml");
    assert_string_equal(o.run, "r");
    assert_string_equal(o.pki, "p");
    assert_true(o.json && !o.calibrate);
    assert_int_equal(o.n_faults, 2);
    assert_int_equal(o.fault[0].kind, SL_SIM_FAULT_NAN);
    assert_int_equal(o.fault[1].kind, SL_SIM_FAULT_DIE);
    assert_int_equal(o.fault[1].step, 12);
    assert_int_equal(o.fault[1].device, 40);
}

static void options__that_are_wrong_are_named(void **state)
{
    static const char *const bad[][6] = {{"--experiment", "e", NULL}, {"--run", "r", NULL},
        {"--experiment", "e", "--run", "r", "extra", NULL},
        {"--experiment", "e", "--run", "r", "--nonsense", NULL}, {"--experiment", "e", "--run", NULL},
        {"--fault", "nan@0:1", NULL}, {"--fault", "nan@1:1x", NULL}, {"--fault", "burn@1:1", NULL},
        {"--fault", "die@:1", NULL}};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_sim_options o;
        char err[256] = "";
        assert_int_equal(parse(&o, err, bad[i]), -EINVAL);
        assert_true(err[0]);
    }
}

static void id_file__is_whole_or_the_old_one(void **state)
{
    char dir[] = "/tmp/sluice-ids-XXXXXX", path[64], err[256], line[64];
    const uint32_t ids[] = {5, 0, 4294967295u};
    struct sl_id_file f;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/x.ids", dir);
    assert_int_equal(sl_id_file_open(&f, dir, "x.ids", err, sizeof(err)), 0);
    sl_id_file_line(&f, ids, 3);
    sl_id_file_line(&f, ids, 0);
    assert_int_not_equal(access(path, F_OK), 0); /* not before it is whole */
    assert_int_equal(sl_id_file_close(&f, err, sizeof(err)), 0);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof(line), in));
    assert_string_equal(line, "5 0 4294967295\n");
    assert_non_null(fgets(line, sizeof(line), in));
    assert_string_equal(line, "\n");
    assert_null(fgets(line, sizeof(line), in));
    fclose(in);
    assert_int_equal(sl_id_file_open(&f, "/nonexistent", "x.ids", err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, "--run"));
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options__are_read),
        cmocka_unit_test(options__that_are_wrong_are_named),
        cmocka_unit_test(id_file__is_whole_or_the_old_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
