/* scripts/pki, judged by the TLS that has to accept or refuse what it makes. argv[1]: the script. */
#include "dataplane/crypto/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *script;
static char dir[64], said[2000];

/* Exit status; what it printed is in `said`. */
static int pki(const char *arguments)
{
    char command[1000];
    size_t n;
    FILE *f;

    snprintf(command, sizeof(command), "'%s' %s 2>&1", script, arguments);
    f = popen(command, "r");
    assert_non_null(f);
    n = fread(said, 1, sizeof(said) - 1, f);
    said[n] = 0;
    return WEXITSTATUS(pclose(f));
}

static int pki_in(const char *verb, const char *names)
{
    char arguments[500];

    snprintf(arguments, sizeof(arguments), "%s %s/pki %s", verb, dir, names);
    return pki(arguments);
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/sluice-pki-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pki_in("ca", ""), 0);
    assert_int_equal(pki_in("edge", "edge"), 0);
    assert_int_equal(pki_in("issue", "device-00000 device-00001"), 0);
    return 0;
}

static int teardown(void **state)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static struct sl_tls_ctx *context(enum sl_tls_role role, const char *name)
{
    char ca[100], cert[100], key[100], err[300];
    struct sl_tls_ctx *ctx;

    snprintf(ca, sizeof(ca), "%s/pki/ca.pem", dir);
    snprintf(cert, sizeof(cert), "%s/pki/%s.pem", dir, name);
    snprintf(key, sizeof(key), "%s/pki/%s.key", dir, name);
    if (sl_tls_ctx_create(role, ca, cert, key, &ctx, err, sizeof(err)))
        fail_msg("%s", err);
    return ctx;
}

/* Whether the two certificates get a connection; the edge's view of the device's name. */
static bool joins(const char *edge_name, const char *device_name, char name[65])
{
    struct sl_tls_ctx *edge_ctx = context(SL_TLS_SERVER, edge_name),
                      *device_ctx = context(SL_TLS_CLIENT, device_name);
    struct sl_tls *edge, *device;
    uint8_t buf[16384];
    bool ok;
    size_t n;

    assert_int_equal(sl_tls_create(edge_ctx, &edge), 0);
    assert_int_equal(sl_tls_create(device_ctx, &device), 0);
    for (int turn = 0; turn < 4; turn++) {
        while ((n = sl_tls_drain(device, buf, sizeof(buf))))
            sl_tls_feed(edge, buf, n);
        while ((n = sl_tls_drain(edge, buf, sizeof(buf))))
            sl_tls_feed(device, buf, n);
    }
    ok = sl_tls_established(edge) && sl_tls_read(device, buf, 1) == 0;
    if (ok)
        assert_int_equal(sl_tls_peer_name(edge, name), 0);
    sl_tls_free(edge);
    sl_tls_free(device);
    sl_tls_ctx_free(edge_ctx);
    sl_tls_ctx_free(device_ctx);
    return ok;
}

static void issue__certificates_join(void **state)
{
    char name[65];

    assert_true(joins("edge", "device-00001", name));
    assert_string_equal(name, "device-00001");
    assert_false(joins("device-00000", "device-00001", name));
    assert_false(joins("edge", "edge", name));
}

static void issue__keys_are_private(void **state)
{
    static const char *const keys[] = {"ca.key", "edge.key", "device-00000.key"};
    char file[100];
    struct stat st;

    for (unsigned i = 0; i < 3; i++) {
        snprintf(file, sizeof(file), "%s/pki/%s", dir, keys[i]);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    snprintf(file, sizeof(file), "%s/pki", dir);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void issue__overwrites_nothing(void **state)
{
    char name[65];

    assert_int_equal(pki_in("ca", ""), 1);
    assert_non_null(strstr(said, "not overwritten"));
    assert_int_equal(pki_in("issue", "device-00001"), 1);
    assert_non_null(strstr(said, "not overwritten"));
    assert_int_equal(pki_in("edge", "edge"), 1);
    assert_true(joins("edge", "device-00001", name));
}

static void issue__refuses_bad_names(void **state)
{
    static const char *const bad[] = {"../x", "''", "-x", "'a b'", "ca", "a/b"};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(pki_in("issue", bad[i]), 1);
}

static void issue__without_a_ca(void **state)
{
    assert_int_equal(pki("issue /nonexistent/pki device-1"), 1);
    assert_non_null(strstr(said, "scripts/pki ca"));
    assert_int_equal(pki(""), 2);
    assert_int_equal(pki("frobnicate /tmp"), 2);
}

static void show__lists_roles(void **state)
{
    assert_int_equal(pki_in("show", ""), 0);
    assert_non_null(strstr(said, "CA "));
    assert_non_null(strstr(said, "edge     until"));
    assert_non_null(strstr(said, "device   until"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(issue__certificates_join),
        cmocka_unit_test(issue__keys_are_private),
        cmocka_unit_test(issue__overwrites_nothing),
        cmocka_unit_test(issue__refuses_bad_names),
        cmocka_unit_test(issue__without_a_ca),
        cmocka_unit_test(show__lists_roles),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s scripts/pki\n", argv[0]);
        return 1;
    }
    script = argv[1];
    if (system("command -v openssl >/dev/null") != 0) {
        printf("SKIP: the openssl program is missing\n");
        return 77;
    }
    return cmocka_run_group_tests_name("scripts/pki", tests, setup, teardown);
}
