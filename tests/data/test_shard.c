#include "trainer/data/shard.h"

#include "tests/data/scratch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char err[256];

struct world {
    struct sl_tokenizer *tok;
    struct sl_records records;
};

static struct sl_tokenizer *byte_tokenizer(void)
{
    char *json;
    size_t len;
    const char *text = "a";
    struct sl_tokenizer *tok;
    assert_int_equal(sl_tokenizer_train(&text, &(size_t){1}, 1, 257, &json, &len, err, sizeof err), 0);
    assert_int_equal(sl_tokenizer_parse(json, len, &tok, err, sizeof err), 0);
    free(json);
    return tok;
}

/* Five files of 9, 7, 5, 4 and 3 records of 100 bytes, in another order. */
static const int sizes[] = {4, 9, 3, 7, 5};
enum { FILES = 5, RECORD_BYTES = 100 };

static struct world make_world(void)
{
    struct world w = {.tok = byte_tokenizer()};
    for (int f = 0; f < FILES; f++) {
        char name[16], text[2000];
        int at = 0;
        snprintf(name, sizeof name, "f%d", f);
        for (int r = 0; r < sizes[f]; r++)
            at += snprintf(text + at, sizeof text - (size_t)at, "%0*d\n%%\n", RECORD_BYTES, 100 * f + r);
        assert_int_equal(sl_records_append_bytes(&w.records, name, text, (size_t)at, err, sizeof err), 0);
    }
    return w;
}

static void free_world(struct world *w)
{
    sl_records_free(&w->records);
    sl_tokenizer_free(w->tok);
}

static void shards__files_go_to_the_phone_with_least(void **state)
{
    struct world w = make_world();
    struct sl_shard_config cfg = {.min_bytes = 900};
    struct sl_shard *shards;
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 3, &cfg, &shards, err, sizeof err), 0);
    /* Largest first: 9 | 7 | 5, then 4 to the third, then 3 to the second. */
    const size_t want[] = {900, 1000, 900};
    for (int p = 0; p < 3; p++) {
        assert_int_equal(shards[p].bytes, want[p]);
        assert_int_equal(shards[p].held_out.n, 0);
        /* One token per byte; one end token per record, and one begin. */
        assert_int_equal(shards[p].train.n, want[p] + want[p] / RECORD_BYTES + 1);
    }
    sl_shards_free(shards, 3);
    free_world(&w);
}

static void shards__too_many_phones_names_the_most(void **state)
{
    struct world w = make_world();
    struct sl_shard_config cfg = {.min_bytes = 900};
    struct sl_shard *shards;
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 4, &cfg, &shards, err, sizeof err), -ERANGE);
    assert_non_null(strstr(err, "3 phones at most, not 4"));
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 60, &cfg, &shards, err, sizeof err), -ERANGE);
    assert_non_null(strstr(err, "3 phones at most, not 60"));
    cfg.min_bytes = 60000;
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 1, &cfg, &shards, err, sizeof err), -ERANGE);
    assert_non_null(strstr(err, "0 phones at most, not 1"));
    assert_non_null(strstr(err, "60000 bytes"));
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 0, &cfg, &shards, err, sizeof err), -EINVAL);
    free_world(&w);
}

static void hex(const uint8_t hash[32], char text[65])
{
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
}

static void shards__held_out_records_are_kept_apart_and_excluded_ones_dropped(void **state)
{
    struct world w = make_world();
    struct scratch dir = scratch_make();
    char list[300], text[200], hash[65];
    snprintf(list, sizeof list, "%s/list", dir.path);
    struct sl_shard_config cfg = {.held_out = 0.4, .excluded = list};
    const struct sl_record *first = NULL;
    size_t held_out = 0;
    for (size_t i = 0; i < w.records.n; i++) {
        if (!sl_record_held_out(&w.records.rec[i], cfg.held_out))
            continue;
        held_out++;
        first = first ? first : &w.records.rec[i];
    }
    assert_in_range(held_out, 2, w.records.n - 2);
    hex(first->hash, hash);
    snprintf(text, sizeof text, "# read before\n%s\n", hash);
    scratch_write(&dir, "list", text);

    struct sl_shard *shards;
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 1, &cfg, &shards, err, sizeof err), 0);
    assert_int_equal(shards[0].bytes, (w.records.n - held_out) * RECORD_BYTES);
    assert_int_equal(shards[0].train.n, (w.records.n - held_out) * (RECORD_BYTES + 1) + 1);
    assert_int_equal(shards[0].held_out.n, (held_out - 1) * (RECORD_BYTES + 1) + 1);
    sl_shards_free(shards, 1);

    scratch_write(&dir, "list", "12ab\n");
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 1, &cfg, &shards, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "list:1: not a SHA-256"));
    cfg.excluded = "/nowhere/list";
    assert_int_equal(sl_shards_make(&w.records, w.tok, 0, 1, &cfg, &shards, err, sizeof err), -ENOENT);
    scratch_remove(&dir);
    free_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards__files_go_to_the_phone_with_least),
        cmocka_unit_test(shards__too_many_phones_names_the_most),
        cmocka_unit_test(shards__held_out_records_are_kept_apart_and_excluded_ones_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
