/* The timing wheel against a sorted list. */
#include "device-sim/link/agenda.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { N = 300 };

struct plain {
    uint64_t at[N], order[N], next_order;
    bool in[N];
};

static int earliest(const struct plain *p)
{
    int best = -1;

    for (int i = 0; i < N; i++)
        if (p->in[i] &&
            (best < 0 || p->at[i] < p->at[best] || (p->at[i] == p->at[best] && p->order[i] < p->order[best])))
            best = i;
    return best;
}

/* Times from a nanosecond to hours ahead, sometimes equal, sometimes in the past; the wheel is emptied now
 * and then. */
static void agenda__is_a_sorted_list(void **state)
{
    static const uint64_t scales[] = {1, 3, 1000, 70000, 300000000, 20000000000, 4000000000000};
    struct sl_agenda *w;
    struct plain *p = calloc(1, sizeof *p);
    uint64_t now = 1700000000000000000, draw = 0;

    assert_int_equal(sl_agenda_create(N, &w), 0);
    for (int step = 0; step < 200000; step++) {
        uint64_t r = sl_rng_u64(5, draw++);
        uint32_t entry = (uint32_t)(r % N), got;
        uint64_t at;
        bool draining = step / 2000 % 2;
        if (!p->in[entry] && !(draining && r >> 40 & 3)) {
            p->at[entry] = now + sl_rng_u64(5, draw++) % scales[r >> 32 & 7 ? (r >> 32 & 7) - 1 : 0] -
                           (r >> 50 & 1) * 500;
            p->order[entry] = p->next_order++;
            p->in[entry] = true;
            sl_agenda_add(w, entry, p->at[entry]);
        }
        if (r >> 20 & 1 || draining) {
            int best = earliest(p);
            assert_true(sl_agenda_next(w) == (best < 0 ? UINT64_MAX : p->at[best]));
            uint64_t until = best < 0 ? now : p->at[best];
            assert_false(best >= 0 && sl_agenda_pop(w, until - 1, &got, &at));
            assert_true(sl_agenda_pop(w, until, &got, &at) == (best >= 0));
            if (best >= 0) {
                assert_int_equal(got, best);
                assert_true(at == p->at[best]);
                p->in[best] = false;
                now = at > now ? at : now;
            }
        }
    }
    sl_agenda_free(w);
    free(p);
}

static void create__refuses_none(void **state)
{
    struct sl_agenda *w;

    assert_int_equal(sl_agenda_create(0, &w), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agenda__is_a_sorted_list), cmocka_unit_test(create__refuses_none)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
