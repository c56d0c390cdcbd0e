#include "dataplane/transport/ack.h"
#include "tests/transport/model.h"

/* ---- replay window ---- */

enum { BITS = SL_PN_WINDOW_WORDS * 64 };

/* A run of packet numbers, each with the verdict it must meet; a fresh one is marked, as after a good tag. */
struct step {
    uint64_t pn;
    bool fresh;
};

static void sl_pn_window__table(void **state)
{
    static const struct {
        const char *name;
        struct step steps[8];
        unsigned n;
    } cases[] = {
        {"first is 0", {{0, true}}, 1},
        {"first is not 0", {{77, true}}, 1},
        {"0 again", {{0, true}, {0, false}}, 2},
        {"in order", {{0, true}, {1, true}, {2, true}, {3, true}}, 4},
        {"each again", {{0, true}, {1, true}, {0, false}, {1, false}}, 4},
        {"backwards", {{3, true}, {2, true}, {1, true}, {0, true}}, 4},
        {"backwards, again", {{3, true}, {2, true}, {3, false}, {2, false}}, 4},
        {"hole filled", {{0, true}, {2, true}, {1, true}, {1, false}}, 4},
        {"end of a word", {{63, true}, {64, true}, {63, false}, {64, false}}, 4},
        {"end of a word, backwards", {{64, true}, {63, true}, {63, false}, {64, false}}, 4},
        {"same bit of the next word", {{5, true}, {69, true}, {5, false}, {69, false}}, 4},
        {"same bit a window later", {{5, true}, {5 + BITS, true}, {5, false}, {5 + BITS, false}}, 4},
        {"lowest of the window", {{BITS - 1, true}, {0, true}, {0, false}}, 3},
        {"just below the window", {{BITS, true}, {63, false}, {64, true}}, 3},
        {"word slides as one", {{BITS + 63, true}, {63, false}, {64, true}, {64, false}}, 4},
        {"next word slides", {{BITS + 64, true}, {127, false}, {128, true}}, 3},
        {"never seen, too old", {{10 * BITS, true}, {1, false}}, 2},
        {"jump of one word clears it", {{0, true}, {64, true}, {65, true}, {1, true}, {0, false}}, 5},
        {"jump of a window", {{0, true}, {BITS, true}, {BITS - 1, true}, {BITS + 1, true}}, 4},
        {"jump of a window and one", {{0, true}, {BITS + 1, true}, {BITS, true}, {64, true}, {63, false}}, 5},
        {"jump of two windows leaves no bit", {{7, true}, {7 + 2 * BITS, true}, {7 + BITS + 64, true}}, 3},
        {"jump far leaves no bit", {{3, true}, {1u << 22, true}, {(1u << 22) - 1, true}}, 3},
        {"far, then just under", {{1u << 22, true}, {(1u << 22) - BITS + 64, true}}, 2},
        {"far, then too old", {{1u << 22, true}, {(1u << 22) - BITS, false}}, 2},
        {"two jumps", {{100, true}, {5000, true}, {100, false}, {4999, true}, {4999, false}}, 5},
        {"jump within the window", {{0, true}, {500, true}, {0, false}, {1, true}, {499, true}}, 5},
        {"last before the limit", {{(1u << 23) - 1, true}, {(1u << 23) - 1, false}}, 2},
        {"greatest of all", {{UINT64_MAX - 1, true}, {UINT64_MAX - 1, false}, {UINT64_MAX - 2, true}}, 3},
        {"words reused in turn",
            {{0, true}, {BITS, true}, {2 * BITS, true}, {BITS, false}, {2 * BITS - 1, true}}, 5},
        {"stale bit does not show", {{1, true}, {BITS - 1, true}, {BITS, true}, {BITS + 1, true}}, 4},
        {"late, in the oldest word", {{BITS - 1, true}, {1, true}, {0, true}, {1, false}}, 4},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct sl_pn_window w = {0};
        uint64_t older[SL_PN_WINDOW_WORDS] = {0};
        for (unsigned i = 0; i < cases[c].n; i++) {
            const struct step *s = &cases[c].steps[i];
            if (sl_pn_window_fresh(&w, older, s->pn) != s->fresh)
                fail_msg("%s: step %u, packet %llu", cases[c].name, i, (unsigned long long)s->pn);
            if (s->fresh)
                sl_pn_window_mark(&w, older, s->pn);
        }
    }
}

/* Against a plain array of what was seen. */
static void sl_pn_window__random_walk(void **state)
{
    enum { TOP = 20000 };
    static bool seen[TOP + 4000];
    struct sl_pn_window w = {0};
    uint64_t older[SL_PN_WINDOW_WORDS] = {0};
    uint64_t random = 1, at = 0;
    memset(seen, 0, sizeof(seen));
    while (at < TOP) {
        uint64_t r = next_random(&random);
        at += r % 97 == 0 ? r >> 32 & 2047 : r >> 32 & 1;
        uint64_t back = r >> 8 & 1023, pn = at > back ? at - back : at;
        uint64_t top = w.next == 0 ? 0 : (w.next - 1) / 64;
        bool old = w.next != 0 && pn / 64 + SL_PN_WINDOW_WORDS <= top;
        assert_int_equal(sl_pn_window_fresh(&w, older, pn), !old && !seen[pn]);
        if (!old && !seen[pn]) {
            sl_pn_window_mark(&w, older, pn);
            seen[pn] = true;
        }
    }
}

/* ---- ranges ---- */

static void sl_pn_window_ranges__none(void **state)
{
    struct sl_pn_window w = {0};
    uint64_t older[SL_PN_WINDOW_WORDS] = {0};
    struct sl_ack a;
    assert_int_equal(sl_pn_window_ranges(&w, older, &a), 0);
}

static void sl_pn_window_ranges__by_hand(void **state)
{
    struct sl_pn_window w = {0};
    uint64_t older[SL_PN_WINDOW_WORDS] = {0};
    struct sl_ack a;
    static const uint64_t pns[] = {0, 1, 2, 5, 63, 64, 65, 128, 200};
    for (size_t i = 0; i < sizeof(pns) / sizeof(pns[0]); i++)
        sl_pn_window_mark(&w, older, pns[i]);
    assert_int_equal(sl_pn_window_ranges(&w, older, &a), 5);
    static const struct sl_ack_range want[] = {{200, 200}, {128, 128}, {63, 65}, {5, 5}, {0, 2}};
    assert_memory_equal(a.range, want, sizeof(want));
}

static void sl_pn_window_ranges__long_run_ends_at_the_window(void **state)
{
    struct sl_pn_window w = {0};
    uint64_t older[SL_PN_WINDOW_WORDS] = {0};
    struct sl_ack a;
    for (uint64_t pn = 0; pn < 3 * BITS + 10; pn++)
        sl_pn_window_mark(&w, older, pn);
    assert_int_equal(sl_pn_window_ranges(&w, older, &a), 1);
    assert_int_equal(a.range[0].last, 3 * BITS + 9);
    assert_int_equal(a.range[0].first, 2 * BITS + 64); /* its last word is 3*16, its first 2*16 + 1 */
}

static void sl_pn_window_ranges__at_most_32_and_the_highest(void **state)
{
    struct sl_pn_window w = {0};
    uint64_t older[SL_PN_WINDOW_WORDS] = {0};
    struct sl_ack a;
    for (uint64_t pn = 0; pn <= 800; pn += 8)
        sl_pn_window_mark(&w, older, pn);
    assert_int_equal(sl_pn_window_ranges(&w, older, &a), SL_ACK_RANGES_MAX);
    for (unsigned i = 0; i < SL_ACK_RANGES_MAX; i++)
        assert_true(a.range[i].first == 800 - 8 * i && a.range[i].last == 800 - 8 * i);
}

static void sl_pn_window_ranges__random_against_fresh(void **state)
{
    uint64_t random = 99;
    for (unsigned round = 0; round < 300; round++) {
        struct sl_pn_window w = {0};
        uint64_t older[SL_PN_WINDOW_WORDS] = {0};
        struct sl_ack a;
        uint64_t base = next_random(&random) % 100000, gap = 1 + next_random(&random) % 40;
        for (unsigned i = 0; i < 900; i++) {
            uint64_t pn = base + i;
            if (next_random(&random) % gap != 0 || gap == 1)
                sl_pn_window_mark(&w, older, pn);
        }
        unsigned n = sl_pn_window_ranges(&w, older, &a);
        assert_true(n > 0 && a.range[0].last == w.next - 1);
        for (unsigned i = 0; i < n; i++) {
            for (uint64_t pn = a.range[i].first; pn <= a.range[i].last; pn++)
                assert_false(sl_pn_window_fresh(&w, older, pn));
            if (i + 1 < n) {
                assert_true(a.range[i + 1].last + 1 < a.range[i].first);
                for (uint64_t pn = a.range[i + 1].last + 1; pn < a.range[i].first; pn++)
                    assert_true(sl_pn_window_fresh(&w, older, pn));
            }
        }
    }
}

/* ---- when ---- */

static void sl_ack_owed__second_packet_or_a_gap_at_once(void **state)
{
    struct sl_ack_state a;
    sl_ack_state_init(&a);
    assert_false(sl_ack_pending(&a));
    sl_ack_owed(&a, 1, true, 100);
    assert_true(sl_ack_pending(&a));
    assert_false(sl_ack_now(&a));
    assert_int_equal(a.deadline_ns, 100 + SL_MAX_ACK_DELAY_NS);
    sl_ack_owed(&a, 1, true, 200);
    assert_true(sl_ack_now(&a));
    for (unsigned i = 0; i < 1000; i++)
        sl_ack_owed(&a, 1, true, 300);
    assert_true(sl_ack_now(&a) && sl_ack_pending(&a));
    sl_ack_sent(&a);
    assert_false(sl_ack_now(&a) || sl_ack_pending(&a));
    assert_true(a.deadline_ns == UINT64_MAX);
    sl_ack_owed(&a, 1, false, 400);
    assert_true(sl_ack_now(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_pn_window__table),
        cmocka_unit_test(sl_pn_window__random_walk),
        cmocka_unit_test(sl_pn_window_ranges__none),
        cmocka_unit_test(sl_pn_window_ranges__by_hand),
        cmocka_unit_test(sl_pn_window_ranges__long_run_ends_at_the_window),
        cmocka_unit_test(sl_pn_window_ranges__at_most_32_and_the_highest),
        cmocka_unit_test(sl_pn_window_ranges__random_against_fresh),
        cmocka_unit_test(sl_ack_owed__second_packet_or_a_gap_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
