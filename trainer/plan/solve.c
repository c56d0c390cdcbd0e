#include "trainer/plan/solve.h"

#include "trainer/plan/associate.h"
#include "trainer/plan/physical.h"
#include "trainer/plan/printed.h"
#include "trainer/plan/search.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROUNDS = 4, RELAX_MAX = 200, RANDOM_STARTS = 2, TAU_ROUNDS = 12 };

struct solver {
    const struct sl_plan_scenario *s;
    enum sl_plan_objective objective;
    uint64_t seed;
    struct sl_printed *printed;
    struct sl_physical *physical;
    struct sl_plan_value v;
    uint32_t *who;            /* [n]: 0 takes part, SL_PLAN_NOBODY does not */
    uint32_t *server, *alpha; /* the start being worked on */
    double *relaxed;          /* its cuts before rounding */
    struct sl_plan_member *member;
    double *cost;             /* [n][m] */
    uint32_t *best_server, *best_alpha;
    double best;
    struct sl_plan_report now, *report;
};

const char *sl_plan_method_name(enum sl_plan_method method)
{
    static const char *const names[SL_PLAN_METHOD_COUNT] = {"proposed", "alternating", "alpha_only", "resources_only",
        "greedy", "random", "edge_only", "local_only"};

    return method < SL_PLAN_METHOD_COUNT ? names[method] : "unknown";
}
