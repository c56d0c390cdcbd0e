#include "dataplane/transport/schedules.h"
#include "tests/transport/model.h"

#include <stdlib.h>

enum { PLACES = 4, OWNERS = 9 };

static struct sl_aead *aead;
static struct sl_schedules cache;
static void *memory;
static uint16_t place[OWNERS];

static int setup(void **state)
{
    size_t bytes = (sl_schedules_bytes(PLACES) + 63) / 64 * 64;
    aead = sl_aead_create();
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    memset(place, 0, sizeof(place));
    sl_schedules_init(&cache, aead, PLACES, memory);
    return 0;
}

static int teardown(void **state)
{
    sl_aead_free(aead);
    free(memory);
    return 0;
}

static void key_of(uint32_t owner, uint8_t key[SL_AEAD_KEY_BYTES])
{
    memset(key, (int)owner + 1, SL_AEAD_KEY_BYTES);
}

/* That it is the schedule of the owner's key is seen by what it seals, beside a schedule of one's own. */
static void use(uint32_t owner)
{
    static const uint8_t iv[SL_AEAD_IV_BYTES] = {1}, plain[5] = {1, 2, 3, 4, 5};
    uint8_t key[SL_AEAD_KEY_BYTES], got[5], want[5], got_tag[16], want_tag[16];
    struct sl_aead_key *own = aligned_alloc(64, sl_aead_key_size());
    key_of(owner, key);
    sl_aead_key_init(aead, own, key);
    sl_aead_seal(aead, own, iv, owner, plain, 5, plain, 5, want, want_tag);
    const struct sl_aead_key *schedule = sl_schedule_get(&cache, owner, key, &place[owner]);
    sl_aead_seal(aead, schedule, iv, owner, plain, 5, plain, 5, got, got_tag);
    assert_memory_equal(got, want, 5);
    assert_memory_equal(got_tag, want_tag, 16);
    free(own);
}

static void sl_schedule_get__is_made_once_while_there_is_room(void **state)
{
    for (unsigned round = 0; round < 10; round++)
        for (uint32_t owner = 0; owner < PLACES; owner++)
            use(owner);
    assert_int_equal(cache.made, PLACES);
}

static void sl_schedule_get__more_keys_than_places(void **state)
{
    uint64_t random = 1;
    for (unsigned i = 0; i < 1000; i++)
        use((uint32_t)(next_random(&random) % OWNERS));
    assert_true(cache.made > PLACES && cache.made < 1000);
}

/* One that is used all the time stays, whatever else passes through. */
static void sl_schedule_get__what_is_used_stays(void **state)
{
    use(0);
    use(1);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t before = cache.made;
        use(2 + i % (OWNERS - 2));
        assert_true(cache.made <= before + 1);
        before = cache.made;
        use(0);
        if (i > PLACES)
            assert_int_equal(cache.made, before);
    }
}

static void sl_schedule_forget__wipes_its_own_only(void **state)
{
    static const uint8_t zero[64];
    use(0);
    use(1);
    const uint8_t *bytes = cache.keys + place[0] * cache.stride;
    sl_schedule_forget(&cache, 1, place[0]); /* another's place */
    assert_memory_not_equal(bytes, zero, 16);
    sl_schedule_forget(&cache, 0, place[0]);
    assert_memory_equal(bytes, zero, sizeof(zero));
    sl_schedule_forget(&cache, 0, 9999);
    uint64_t before = cache.made;
    use(1);
    assert_int_equal(cache.made, before);
    use(0);
    assert_int_equal(cache.made, before + 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sl_schedule_get__is_made_once_while_there_is_room),
        TEST(sl_schedule_get__more_keys_than_places),
        TEST(sl_schedule_get__what_is_used_stays),
        TEST(sl_schedule_forget__wipes_its_own_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
