/* Scenarios and plans that somebody else has written: whatever the text, one sentence, or a scenario whose
 * plan is feasible and whose every number is one. Up to a byte 0 the input is a scenario, after it a plan. */
#include "trainer/tools/plan_file.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SERVER                                                                                               \
    "{\"bandwidth_hz\":2e7,\"f_max_hz\":3e9,\"cores\":16,\"flop_per_cycle\":8,\"kappa\":1e-27,\"tx_psd_w_"   \
    "per_hz\":1e-6}"
#define USER(rest)                                                                                           \
    "{\"layer_flop\":4e9,\"cores\":4,\"flop_per_cycle\":2,\"f_max_hz\":2e9,\"kappa\":2e-28,\"p_max_w\":0.5," \
    "\"up_bit\":1e7,\"gain\":[1e-11,3e-12]" rest "}"
#define SCENARIO(users, rest)                                                                                \
    "{\"layers\":6,\"noise_w_per_hz\":4e-21,\"servers\":[" SERVER "," SERVER "],\"users\":[" users "]" rest  \
    "}"
#define CHOICE                                                                                               \
    "{\"alpha\":2,\"server\":0,\"power_w\":0.1,\"bandwidth_hz\":1e7,\"f_hz\":1e9,\"f_edge_hz\":1e9}"

static const char *const seeds[][2] = {
    {SCENARIO(USER("") "," USER(",\"max_layers\":3,\"lipschitz\":2"),
         ",\"weights\":{\"delay\":1,\"energy\":2,\"stability\":1}"),
        "{\"users\":[" CHOICE "," CHOICE "]}"},
    {SCENARIO(USER(",\"down_bit\":1e7,\"rtt_s\":0.05,\"soc\":0.5,\"deadline_s\":9,\"energy_j\":50"),
         ",\"asynchronous\":true"),
        "{\"users\":[{\"server\":null}]}"},
    {SCENARIO(USER(",\"up_bps_per_hz\":1,\"bandwidth_max_hz\":1e6,\"down_bps\":1e7"), ""),
        "{\"users\":[" CHOICE "]}"},
};

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    if (index >= sizeof(seeds) / sizeof(*seeds))
        return 0;
    size_t first = strlen(seeds[index][0]) + 1, second = strlen(seeds[index][1]);
    if (first + second > cap)
        return 0;
    memcpy(buf, seeds[index][0], first);
    memcpy(buf + first, seeds[index][1], second);
    return first + second;
}

/* What the cheapest methods make of it: the scenario may hold any number at all. */
static void plan(const struct sl_plan_scenario *s, enum sl_plan_objective objective)
{
    struct sl_plan p = {s->n_users, calloc((size_t)s->n_users + 1, sizeof *p.user)};
    struct sl_plan_report report;

    if (p.user && sl_plan_solve(s, objective, SL_PLAN_ALPHA_ONLY, 1, &p, &report) == 0)
        for (uint32_t n = 0; n < p.n; n++)
            if (p.user[n].server != SL_PLAN_NOBODY && p.user[n].server >= s->n_servers)
                abort();
    free(p.user);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    size_t first = end ? (size_t)(end - data) : size;
    struct sl_plan_scenario s;
    struct sl_plan p;
    struct sl_plan_score score;
    char err[512];

    if (sl_scenario_parse((const char *)data, first, "fuzz", &s, err, sizeof err))
        return 0;
    for (int o = SL_PLAN_PRINTED; o <= SL_PLAN_PHYSICAL; o++)
        if (!sl_plan_scenario_fault(&s, (enum sl_plan_objective)o))
            plan(&s, (enum sl_plan_objective)o);
    if (end && sl_plan_parse((const char *)end + 1, size - first - 1, "fuzz", &s, &p, err, sizeof err) == 0) {
        sl_plan_score(&s, SL_PLAN_PHYSICAL, &p, NULL, &score);
        sl_plan_score(&s, SL_PLAN_PRINTED, &p, NULL, &score);
        if (score.violation < 0)
            abort();
        free(p.user);
    }
    sl_scenario_free(&s);
    return 0;
}
