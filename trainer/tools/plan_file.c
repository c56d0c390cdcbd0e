#include "trainer/tools/plan_file.h"

#include "trainer/model/fail.h"
#include "trainer/model/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS_MAX = 10000, SLOTS_MAX = 1000000 };
static const size_t file_max = 256u << 20;

struct field {
    const char *key;
    size_t at;
    bool required, whole;
    double otherwise;
};

#define USER(k, required, otherwise)                                                                         \
    {                                                                                                        \
#k, offsetof(struct sl_plan_user, k), required, false, otherwise                                     \
    }
static const struct field user_fields[] = {
    USER(layer_flop, true, 0),
    USER(head_flop, false, 0),
    USER(cores, true, 0),
    USER(flop_per_cycle, true, 0),
    USER(f_max_hz, true, 0),
    USER(kappa, true, 0),
    USER(p_min_w, false, 1e-3),
    USER(p_max_w, true, 0),
    USER(up_bit, true, 0),
    USER(down_bit, false, 0),
    USER(layer_up_bit, false, 0),
    USER(layer_down_bit, false, 0),
    USER(samples, false, 1),
    USER(lipschitz, false, 0),
    USER(rtt_s, false, 0),
    USER(wake_s, false, 0),
    USER(up_bps_per_hz, false, 0),
    USER(bandwidth_max_hz, false, 0),
    USER(down_bps, false, 0),
    USER(rx_w, false, 0),
    USER(idle_w, false, 0),
    USER(soc, false, 1),
    USER(soc_min, false, 0),
    USER(deadline_s, false, 0),
    USER(energy_j, false, 0),
    {"min_layers", offsetof(struct sl_plan_user, min_layers), false, true, 0},
    {"max_layers", offsetof(struct sl_plan_user, max_layers), false, true, LAYERS_MAX},
    {0},
};
#undef USER
#define SERVER(k, required)                                                                                  \
    {                                                                                                        \
#k, offsetof(struct sl_plan_server, k), required, false, 0                                           \
    }
static const struct field server_fields[] = {
    SERVER(bandwidth_hz, true),
    SERVER(f_max_hz, true),
    SERVER(cores, true),
    SERVER(flop_per_cycle, true),
    SERVER(kappa, true),
    SERVER(tx_psd_w_per_hz, false),
    {"slots", offsetof(struct sl_plan_server, slots), false, true, 0},
    {0},
};
#undef SERVER
static const struct field scenario_fields[] = {
    {"layers", offsetof(struct sl_plan_scenario, layers), true, true, 0},
    {"noise_w_per_hz", offsetof(struct sl_plan_scenario, noise_w_per_hz), true, false, 0},
    {"min_share", offsetof(struct sl_plan_scenario, min_share), false, false, 1e-4},
    {"battery_price", offsetof(struct sl_plan_scenario, battery_price), false, false, 0},
    {0},
};
static const struct field weight_fields[] = {
    {"delay", offsetof(struct sl_plan_weights, delay), true, false, 0},
    {"energy", offsetof(struct sl_plan_weights, energy), true, false, 0},
    {"stability", offsetof(struct sl_plan_weights, stability), true, false, 0},
    {0},
};

static bool known(const struct field *f, const char *key, const char *const *further)
{
    for (; f->key; f++)
        if (strcmp(f->key, key) == 0)
            return true;
    for (; *further; further++)
        if (strcmp(*further, key) == 0)
            return true;
    return false;
}

/* A number, or null: not known. */
static int number(const cJSON *v, const char *key, const char *what, double *out, char *err, size_t cap)
{
    if (!cJSON_IsNumber(v) && !cJSON_IsNull(v))
        return sl_fail(
            -EINVAL, err, cap, "%s: %s must be a number, or null where it is not known", what, key);
    *out = cJSON_IsNull(v) ? NAN : v->valuedouble;
    return 0;
}

static int read_fields(const cJSON *o, const struct field *fields, const char *const *further,
    const char *what, void *into, char *err, size_t cap)
{
    if (!cJSON_IsObject(o))
        return sl_fail(-EINVAL, err, cap, "%s: must be an object", what);
    for (const cJSON *v = o->child; v; v = v->next)
        if (!known(fields, v->string, further))
            return sl_fail(-EINVAL, err, cap, "%s: \"%.100s\" is not a key", what, v->string);
    for (const struct field *f = fields; f->key; f++) {
        const cJSON *v = sl_json_get(o, f->key);
        double value = f->otherwise;
        int rc = 0;
        if (!v && f->required)
            return sl_fail(-EINVAL, err, cap, "%s: %s is missing", what, f->key);
        if (v && f->whole) {
            uint32_t n = (uint32_t)f->otherwise;
            rc = sl_json_u32(o, f->key, what, 0, SLOTS_MAX, &n, err, cap);
            value = n;
        } else if (v) {
            rc = number(v, f->key, what, &value, err, cap);
        }
        if (rc)
            return rc;
        if (f->whole)
            *(uint32_t *)((char *)into + f->at) = (uint32_t)value;
        else
            *(double *)((char *)into + f->at) = value;
    }
    return 0;
}

static int read_servers(
    const cJSON *list, struct sl_plan_scenario *s, const char *path, char *err, size_t cap)
{
    static const char *const none[] = {NULL};
    uint32_t m = 0;

    for (const cJSON *v = list->child; v; v = v->next, m++) {
        char what[300];
        snprintf(what, sizeof what, "%.250s: servers[%u]", path, m);
        int rc = read_fields(v, server_fields, none, what, &s->server[m], err, cap);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_users(const cJSON *list, struct sl_plan_scenario *s, const char *path, char *err, size_t cap)
{
    static const char *const gain[] = {"gain", NULL};
    uint32_t n = 0;

    for (const cJSON *v = list->child; v; v = v->next, n++) {
        char what[300];
        snprintf(what, sizeof what, "%.250s: users[%u]", path, n);
        int rc = read_fields(v, user_fields, gain, what, &s->user[n], err, cap);
        if (rc)
            return rc;
        const cJSON *row = sl_json_get(v, "gain");
        if (!cJSON_IsArray(row) || (uint32_t)cJSON_GetArraySize(row) != s->n_servers)
            return sl_fail(
                -EINVAL, err, cap, "%s: gain must be a list of %u numbers, one a server", what, s->n_servers);
        double *g = s->gain + (size_t)n * s->n_servers;
        for (const cJSON *x = row->child; x; x = x->next)
            if ((rc = number(x, "gain", what, g++, err, cap)))
                return rc;
    }
    return 0;
}

static int read_whole(const cJSON *o, struct sl_plan_scenario *s, const char *path, char *err, size_t cap)
{
    static const char *const lists[] = {"weights", "users", "servers", "asynchronous", NULL}, *const none[] =
                                                                                                  {NULL};
    char what[300];
    int rc = read_fields(o, scenario_fields, lists, path, s, err, cap);

    if (rc)
        return rc;
    if (s->layers > LAYERS_MAX)
        return sl_fail(-EINVAL, err, cap, "%s: layers must be at most %u", path, LAYERS_MAX);
    const cJSON *asynchronous = sl_json_get(o, "asynchronous");
    if (asynchronous && !cJSON_IsBool(asynchronous))
        return sl_fail(-EINVAL, err, cap, "%s: asynchronous must be true or false", path);
    s->asynchronous = cJSON_IsTrue(asynchronous);
    s->weights = (struct sl_plan_weights){1, 1, 0};
    snprintf(what, sizeof what, "%.250s: weights", path);
    if (sl_json_get(o, "weights") &&
        (rc = read_fields(sl_json_get(o, "weights"), weight_fields, none, what, &s->weights, err, cap)))
        return rc;
    const cJSON *users = sl_json_get(o, "users"), *servers = sl_json_get(o, "servers");
    if (!cJSON_IsArray(users) || !cJSON_IsArray(servers))
        return sl_fail(-EINVAL, err, cap, "%s: users and servers must be lists", path);
    s->n_users = (uint32_t)cJSON_GetArraySize(users);
    s->n_servers = (uint32_t)cJSON_GetArraySize(servers);
    if (s->n_users == 0 || s->n_servers == 0)
        return sl_fail(-EINVAL, err, cap, "%s: give at least one user and one server", path);
    s->user = calloc((size_t)s->n_users + 1, sizeof *s->user);
    s->server = calloc((size_t)s->n_servers + 1, sizeof *s->server);
    s->gain = calloc((size_t)s->n_users * s->n_servers + 1, sizeof *s->gain);
    if (!s->user || !s->server || !s->gain)
        return sl_fail(-ENOMEM, err, cap, "%s: out of memory", path);
    rc = read_servers(servers, s, path, err, cap);
    return rc ? rc : read_users(users, s, path, err, cap);
}

int sl_scenario_parse(
    const char *text, size_t len, const char *name, struct sl_plan_scenario *s, char *err, size_t cap)
{
    cJSON *o = NULL;
    int rc = sl_json_parse(text, len, name, &o, err, cap);

    memset(s, 0, sizeof *s);
    if (rc)
        return rc;
    rc = read_whole(o, s, name, err, cap);
    cJSON_Delete(o);
    if (rc)
        sl_scenario_free(s);
    return rc;
}

int sl_scenario_read(const char *path, struct sl_plan_scenario *s, char *err, size_t cap)
{
    char *text;
    size_t len;
    int rc = sl_read_file(path, file_max, &text, &len, err, cap);

    if (rc)
        return rc;
    rc = sl_scenario_parse(text, len, path, s, err, cap);
    free(text);
    return rc;
}

void sl_scenario_free(struct sl_plan_scenario *s)
{
    free(s->user);
    free(s->server);
    free(s->gain);
    memset(s, 0, sizeof *s);
}

/* ---- plans ---- */

static const struct field choice_fields[] = {
    {"alpha", offsetof(struct sl_plan_choice, alpha), false, true, 0},
    {"power_w", offsetof(struct sl_plan_choice, power_w), false, false, 0},
    {"bandwidth_hz", offsetof(struct sl_plan_choice, bandwidth_hz), false, false, 0},
    {"f_hz", offsetof(struct sl_plan_choice, f_hz), false, false, 0},
    {"f_edge_hz", offsetof(struct sl_plan_choice, f_edge_hz), false, false, 0},
    {0},
};

static int read_choice(const cJSON *v, const struct sl_plan_scenario *s, const char *what,
    struct sl_plan_choice *c, char *err, size_t cap)
{
    /* What solve adds to a plan is no part of it. */
    static const char *const further[] = {"server", "delay_s", "energy_j", "stability", "why", NULL};
    int rc = read_fields(v, choice_fields, further, what, c, err, cap);

    c->server = SL_PLAN_NOBODY;
    if (rc || !sl_json_is_set(v, "server"))
        return rc;
    rc = sl_json_u32(v, "server", what, 0, s->n_servers - 1, &c->server, err, cap);
    if (!rc && (c->alpha < 1 || c->alpha > s->layers))
        rc = sl_fail(-EINVAL, err, cap, "%s: alpha must be from 1 to %u", what, s->layers);
    return rc;
}

int sl_plan_parse(const char *text, size_t len, const char *name, const struct sl_plan_scenario *s,
    struct sl_plan *plan, char *err, size_t cap)
{
    cJSON *o = NULL;
    int rc = sl_json_parse(text, len, name, &o, err, cap);

    *plan = (struct sl_plan){s->n_users, calloc((size_t)s->n_users + 1, sizeof *plan->user)};
    const cJSON *users = rc ? NULL : sl_json_get(o, "users");
    if (!rc && !plan->user)
        rc = sl_fail(-ENOMEM, err, cap, "%s: out of memory", name);
    if (!rc && (!cJSON_IsArray(users) || (uint32_t)cJSON_GetArraySize(users) != s->n_users))
        rc = sl_fail(-EINVAL, err, cap, "%s: users must be a list of %u, as many as the scenario has", name,
            s->n_users);
    uint32_t n = 0;
    for (const cJSON *v = rc ? NULL : users->child; v && !rc; v = v->next, n++) {
        char what[300];
        snprintf(what, sizeof what, "%.250s: users[%u]", name, n);
        rc = read_choice(v, s, what, &plan->user[n], err, cap);
    }
    cJSON_Delete(o);
    if (rc) {
        free(plan->user);
        plan->user = NULL;
    }
    return rc;
}

int sl_plan_read(
    const char *path, const struct sl_plan_scenario *s, struct sl_plan *plan, char *err, size_t cap)
{
    char *text;
    size_t len;
    int rc = sl_read_file(path, file_max, &text, &len, err, cap);

    plan->user = NULL;
    if (rc)
        return rc;
    rc = sl_plan_parse(text, len, path, s, plan, err, cap);
    free(text);
    return rc;
}

/* JSON has no infinity: null. */
static bool put(cJSON *o, const char *key, double v)
{
    return isfinite(v) ? cJSON_AddNumberToObject(o, key, v) : cJSON_AddNullToObject(o, key);
}

static bool put_user(cJSON *list, const struct sl_plan_scenario *s, enum sl_plan_objective objective,
    uint32_t n, const struct sl_plan_choice *c, const struct sl_plan_cost *cost)
{
    cJSON *o = cJSON_CreateObject();

    if (!o || !cJSON_AddItemToArray(list, o))
        return false;
    if (c->server == SL_PLAN_NOBODY) {
        return cJSON_AddNullToObject(o, "server") &&
               cJSON_AddStringToObject(o, "why", sl_plan_why_not(s, objective, n));
    }
    return put(o, "alpha", c->alpha) && put(o, "server", c->server) && put(o, "power_w", c->power_w) &&
           put(o, "bandwidth_hz", c->bandwidth_hz) && put(o, "f_hz", c->f_hz) &&
           put(o, "f_edge_hz", c->f_edge_hz) && put(o, "delay_s", cost->delay_s) &&
           put(o, "energy_j", cost->energy_j) && put(o, "stability", cost->stability);
}

static bool put_report(cJSON *o, const struct sl_plan_report *r)
{
    uint32_t n = r->iterations < SL_PLAN_TRACE_MAX ? r->iterations : SL_PLAN_TRACE_MAX;
    cJSON *trace = cJSON_CreateDoubleArray(r->trace, (int)n);

    if (!trace)
        return false;
    cJSON_AddItemToObject(o, "trace", trace);
    return put(o, "lower_bound", r->lower_bound) && put(o, "gap", r->score.objective / r->lower_bound - 1) &&
           put(o, "iterations", r->iterations) && put(o, "moves", r->moves) && put(o, "starts", r->starts) &&
           put(o, "kkt_residual", r->kkt_residual);
}

cJSON *sl_plan_json(const struct sl_plan_scenario *s, enum sl_plan_objective objective,
    const struct sl_plan *plan, const struct sl_plan_score *score, const struct sl_plan_report *report)
{
    cJSON *o = cJSON_CreateObject(), *users = cJSON_AddArrayToObject(o, "users");
    struct sl_plan_cost *cost = calloc(plan->n + 1u, sizeof *cost);
    struct sl_plan_score again;
    bool good = o && users && cost;

    if (good)
        sl_plan_score(s, objective, plan, cost, &again);
    for (uint32_t n = 0; n < plan->n && good; n++)
        good = put_user(users, s, objective, n, &plan->user[n], &cost[n]);
    good = good && cJSON_AddStringToObject(o, "for", objective == SL_PLAN_PRINTED ? "printed" : "physical") &&
           put(o, "objective", score->objective) && put(o, "delay_s", score->delay_s) &&
           put(o, "energy_j", score->energy_j) && put(o, "stability", score->stability) &&
           put(o, "violation", score->violation) && put(o, "planned", score->planned) &&
           (!report || put_report(o, report));
    free(cost);
    if (good)
        return o;
    cJSON_Delete(o);
    return NULL;
}
