/* Answers for dpdk-telemetry.py about the data path: sessions, lcores, slots, drops. They are given on DPDK's
 * telemetry thread. Counters are read where they are; what belongs to a data lcore's endpoint is asked for by
 * a note that the lcore answers between two bursts, so that nothing of it is read by another thread. */
#include "trainer/edge/counters.h"
#include "trainer/edge/edge.h"

#include "dataplane/io/dpdk/telemetry.h"
#include "trainer/plan/replan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_EVERY_NS 1000000L /* an adaptive lcore's sleep is as long at most */
enum { ANSWER_WITHIN_LOOKS = 500 };

/* ------------------------------------------------------------------------------------- on the lcore's thread
 */

static void list_sessions(struct edge_lcore *l, struct lcore_query *q)
{
    q->n = q->n_open = 0;
    for (uint32_t s = 0; s < l->max_sessions; s++) {
        if (!sl_endpoint_is_open(l->endpoint, s))
            continue;
        if (q->n_open++ >= q->first && q->n < LCORE_QUERY_SESSIONS)
            q->sessions[q->n++] = s;
    }
}

void edge_answer_query(struct edge_lcore *l)
{
    struct lcore_query *q = &l->query;
    if (q->lists)
        list_sessions(l, q);
    else
        q->status = sl_session_stats(l->endpoint, q->first, &q->stats);
    __atomic_store_n(&q->state, LCORE_QUERY_ANSWERED, __ATOMIC_RELEASE);
}

/* --------------------------------------------------------------------------------------- on telemetry's
 * thread
 */

/* One client at a time is served, so a lcore's note has one writer. */
static int ask(struct edge_lcore *l, bool lists, uint32_t first)
{
    struct lcore_query *q = &l->query;
    if (__atomic_load_n(&q->state, __ATOMIC_ACQUIRE) == LCORE_QUERY_ASKED)
        return -EBUSY; /* the lcore has not even answered the one before */
    q->lists = lists;
    q->first = first;
    __atomic_store_n(&q->state, LCORE_QUERY_ASKED, __ATOMIC_RELEASE);
    sl_lcore_wake(l->lcore);
    for (int i = 0; i < ANSWER_WITHIN_LOOKS; i++) {
        if (__atomic_load_n(&q->state, __ATOMIC_ACQUIRE) == LCORE_QUERY_ANSWERED)
            return 0;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_NS}, NULL);
    }
    return -ETIMEDOUT;
}

/* A number, decimal or 0x...; 0 where none is given. */
static int number_of(const char *params, uint64_t *out)
{
    char *end;
    *out = 0;
    if (!params || !*params)
        return 0;
    errno = 0;
    *out = strtoull(params, &end, 0);
    return *end || errno || *params == '-' ? -EINVAL : 0;
}

static void add_counters(struct sl_telemetry *t, const struct edge_counter *c, const void *stats)
{
    for (; c->name; c++)
        sl_telemetry_number(t, c->name, *(const uint64_t *)((const char *)stats + c->offset));
}

static void write_sessions(void *ctx, struct sl_telemetry *t)
{
    struct edge_lcore *l = ctx;
    uint64_t handles[LCORE_QUERY_SESSIONS];
    for (uint32_t i = 0; i < l->query.n; i++)
        handles[i] = l->query.sessions[i];
    sl_telemetry_number(t, "open", l->query.n_open);
    sl_telemetry_list(t, "handles", handles, l->query.n);
}

static const char *const lcore_names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
    "13", "14", "15", "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29",
    "30", "31"};

static const char *name_of(uint32_t lcore)
{
    return lcore < sizeof lcore_names / sizeof lcore_names[0] ? lcore_names[lcore] : "more";
}

static int sessions(void *app, const char *params, struct sl_telemetry *t)
{
    struct edge *e = app;
    uint64_t first;
    int status = number_of(params, &first);
    for (uint32_t i = 0; !status && i < e->n_lcores; i++) {
        status = ask(&e->lcores[i], true, first > UINT32_MAX ? UINT32_MAX : (uint32_t)first);
        if (!status)
            sl_telemetry_object(t, name_of(i), write_sessions, &e->lcores[i]);
    }
    return status;
}

/* "HANDLE" of lcore 0, or "LCORE,HANDLE". */
static int session(void *app, const char *params, struct sl_telemetry *t)
{
    struct edge *e = app;
    uint64_t handle, lcore = 0;
    const char *comma = params ? strchr(params, ',') : NULL;
    char head[24] = "";
    if (!params || (comma && (size_t)(comma - params) >= sizeof head))
        return -EINVAL;
    if (comma)
        memcpy(head, params, (size_t)(comma - params));
    if (number_of(head, &lcore) || number_of(comma ? comma + 1 : params, &handle) || lcore >= e->n_lcores)
        return -EINVAL;
    struct edge_lcore *l = &e->lcores[lcore];
    if (handle >= l->max_sessions)
        return -ENOENT;
    int status = ask(l, false, (uint32_t)handle);
    if (!status)
        status = l->query.status;
    if (status)
        return status;
    const struct sl_session_stats *s = &l->query.stats;
    sl_telemetry_number(t, "lcore", lcore);
    sl_telemetry_number(t, "device", l->sessions[handle].device);
    add_counters(t, edge_session_counters, s);
    return 0;
}

static void write_lcore(void *ctx, struct sl_telemetry *t)
{
    const struct edge_lcore *l = ctx;
    struct sl_lcore_stats s;
    sl_lcore_stats(l->lcore, &s);
    add_counters(t, edge_lcore_counters, &s);
    sl_telemetry_number(t, "busy_percent", s.cycles_total ? s.cycles_busy * 100 / s.cycles_total : 0);
    sl_telemetry_number(t, "devices", l->n_devices);
}

static int lcores(void *app, const char *params, struct sl_telemetry *t)
{
    struct edge *e = app;
    for (uint32_t i = 0; i < e->n_lcores; i++)
        sl_telemetry_object(t, name_of(i), write_lcore, &e->lcores[i]);
    return 0;
}

static void write_slots(void *ctx, struct sl_telemetry *t)
{
    const struct edge_lcore *l = ctx;
    struct sl_ingest_stats s;
    sl_ingest_stats(l->ingest, &s);
    sl_telemetry_number(t, "slots", l->n_slots);
    sl_telemetry_number(t, "free", s.slots_free);
    sl_telemetry_number(t, "in_use", s.slots_in_use);
    sl_telemetry_number(t, "in_use_max", s.slots_in_use_max);
    sl_telemetry_number(t, "with_trainer", s.with_trainer);
    sl_telemetry_number(t, "requests_waiting", s.requests_waiting);
    sl_telemetry_number(t, "grants_outstanding", s.grants_outstanding);
    sl_telemetry_number(t, "gradients_outstanding", s.gradients_outstanding);
    add_counters(t, edge_ingest_counters, &s);
}

static int slots(void *app, const char *params, struct sl_telemetry *t)
{
    struct edge *e = app;
    for (uint32_t i = 0; i < e->n_lcores; i++)
        sl_telemetry_object(t, name_of(i), write_slots, &e->lcores[i]);
    return 0;
}

/* Times in milliseconds; busy, stalled and idle add up to the training time so far. */
static int trainer_load(void *app, const char *params, struct sl_telemetry *t)
{
    const struct edge *e = app;
    struct sl_load_times l;
    sl_load_read(&e->load, &l);
    uint64_t all = l.busy_ns + l.stall_ns + l.idle_ns;
    sl_telemetry_number(t, "busy_ms", l.busy_ns / 1000000);
    sl_telemetry_number(t, "stall_ms", l.stall_ns / 1000000);
    sl_telemetry_number(t, "idle_ms", l.idle_ns / 1000000);
    sl_telemetry_number(t, "stall_permille", all ? l.stall_ns * 1000 / all : 0);
    return 0;
}

static int drops(void *app, const char *params, struct sl_telemetry *t)
{
    struct edge *e = app;
    struct sl_endpoint_stats endpoint;
    struct sl_port_stats port;
    edge_endpoint_stats(e, &endpoint);
    sl_port_stats(e->port, &port);
    for (unsigned i = SL_DROP_NONE + 1; i < SL_DROP_COUNT; i++)
        sl_telemetry_number(t, sl_drop_name((enum sl_drop)i), endpoint.drops[i]);
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        sl_telemetry_number(t, sl_port_drop_name((enum sl_port_drop)i), port.drops[i]);
    return 0;
}

/* Fractions in millionths. */
static int plan(void *app, const char *params, struct sl_telemetry *t)
{
    const struct edge_plan_view *v = edge_plan_view(app);
    if (!v)
        return -ENOENT;
    uint64_t at_ns = __atomic_load_n(&v->at_ns, __ATOMIC_RELAXED);
    sl_telemetry_number(t, "plans", __atomic_load_n(&v->plans, __ATOMIC_RELAXED));
    sl_telemetry_number(t, "age_ms", at_ns ? (sl_loop_now_ns() - at_ns) / 1000000 : 0);
    sl_telemetry_text(t, "reason",
        sl_replan_reason_name((enum sl_replan_reason)__atomic_load_n(&v->reason, __ATOMIC_RELAXED)));
    sl_telemetry_number(t, "devices", __atomic_load_n(&v->devices, __ATOMIC_RELAXED));
    sl_telemetry_number(t, "changed", __atomic_load_n(&v->changed, __ATOMIC_RELAXED));
    sl_telemetry_number(t, "changed_all", __atomic_load_n(&v->changed_all, __ATOMIC_RELAXED));
    sl_telemetry_number(t, "objective_now_millionths", __atomic_load_n(&v->objective_now, __ATOMIC_RELAXED));
    sl_telemetry_number(t, "objective_millionths", __atomic_load_n(&v->objective, __ATOMIC_RELAXED));
    sl_telemetry_number(t, "solver_us", __atomic_load_n(&v->solver_us, __ATOMIC_RELAXED));
    return 0;
}

int edge_open_telemetry(struct edge *e)
{
    static const struct {
        const char *command, *help;
        sl_telemetry_fn fn;
    } commands[] = {
        {"/sluice/sessions", "Open sessions by data lcore. Parameter: how many to skip (512 are listed)",
            sessions},
        {"/sluice/session", "Counters of a session. Parameters: [LCORE,]HANDLE", session},
        {"/sluice/lcores", "Polls, cycles and packets of each data lcore", lcores},
        {"/sluice/slots", "Slots and grants of each data lcore", slots},
        {"/sluice/trainer", "The trainer's time: busy, stalled (idle while work waited), idle", trainer_load},
        {"/sluice/plan", "The live planner's last plan; null where cuts are the experiment's", plan},
        {"/sluice/drops", "What was received or due and dropped, by name", drops},
    };
    int status = 0;
    for (size_t i = 0; !status && i < sizeof commands / sizeof commands[0]; i++)
        status = sl_telemetry_register(commands[i].command, commands[i].help, commands[i].fn, e);
    if (status)
        snprintf(e->err, sizeof e->err, "DPDK does not take telemetry commands: %s", strerror(-status));
    return status;
}

void edge_close_telemetry(void)
{
    sl_telemetry_close();
}
