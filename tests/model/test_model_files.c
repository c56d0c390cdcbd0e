#include "tests/model/files.h"
#include "trainer/model/model.h"
#include "trainer/model/model_files.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void hash_is(const char *dir, const char *want)
{
    uint8_t hash[32];
    char err[300] = "", text[65];
    if (sl_model_hash(dir, hash, err, sizeof err))
        fail_msg("%s", err);
    for (unsigned i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(text, want);
}

/* FIPS 180-4's example: SHA-256("abc"). */
static void hash__config_then_tensors(void **state)
{
    char *dir = files_dir(), err[300];
    uint8_t hash[32];
    files_write(dir, "config.json", "a", 1);
    assert_int_equal(sl_model_hash(dir, hash, err, sizeof err), -ENOENT);
    files_write(dir, "model.safetensors", "bc", 2);
    hash_is(dir, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    files_write(dir, "model.safetensors", "bd", 2);
    assert_int_equal(sl_model_hash(dir, hash, err, sizeof err), 0);
    assert_int_not_equal(hash[0] << 8 | hash[1], 0xba78);
    files_dir_remove(dir);
}

/* Order of first mention in the index, each file once: "a" + "b" + "c". */
static void hash__shards_in_index_order(void **state)
{
    static const char index[] = "{\"weight_map\":{\"x\":\"z.st\",\"y\":\"a.st\",\"w\":\"z.st\"}}";
    char *dir = files_dir();
    files_write(dir, "config.json", "a", 1);
    files_write(dir, "z.st", "b", 1);
    files_write(dir, "a.st", "c", 1);
    files_write(dir, "model.safetensors.index.json", index, strlen(index));
    hash_is(dir, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    files_dir_remove(dir);
}

static void files__refuses_bad_indexes(void **state)
{
    static const char *const bad[] = {"", "[]", "{}", "{\"weight_map\":{}}", "{\"weight_map\":{\"x\":1}}",
        "{\"weight_map\":{\"x\":\"\"}}", "{\"weight_map\":{\"x\":\"/etc/passwd\"}}",
        "{\"weight_map\":{\"x\":\"..\"}}"};
    char *dir = files_dir(), err[300];
    struct sl_model_files f;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        files_write(dir, "model.safetensors.index.json", bad[i], strlen(bad[i]));
        assert_int_equal(sl_model_files(dir, &f, err, sizeof err), -EINVAL);
        assert_non_null(strstr(err, "index.json"));
    }
    files_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash__config_then_tensors),
        cmocka_unit_test(hash__shards_in_index_order),
        cmocka_unit_test(files__refuses_bad_indexes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
