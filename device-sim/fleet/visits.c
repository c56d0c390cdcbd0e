#include "device-sim/fleet/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t rest_look_ns = 1000000000; /* how often a resting phone looks at its battery */

static struct sl_life_daily daily_of(const struct sl_daily_keys *k)
{
    return (struct sl_life_daily){k->begin_h, k->hours, k->spread_h, k->jitter_h, k->probability};
}

static enum sl_life_policy policy_of(const char *name)
{
    if (strcmp(name, "charging_and_idle") == 0)
        return SL_LIFE_CHARGING_AND_IDLE;
    if (strcmp(name, "charging") == 0)
        return SL_LIFE_CHARGING;
    return strcmp(name, "idle") == 0 ? SL_LIFE_IDLE : SL_LIFE_ALWAYS;
}

void sl_life_config_of(const struct sl_life_keys *k, struct sl_life_config *out)
{
    *out = (struct sl_life_config){.arrivals_per_hour = k->arrivals_per_hour,
        .stay_s = k->stay_s,
        .stay_sigma = k->stay_sigma,
        .present = k->present,
        .diurnal = k->diurnal,
        .policy = policy_of(k->policy),
        .start_h = k->start_h,
        .time_scale = k->time_scale,
        .charging = daily_of(&k->charging),
        .idle = daily_of(&k->idle),
        .crash_per_hour = k->crash_per_hour,
        .reboot_s = k->reboot_s,
        .reboot_sigma = k->reboot_sigma,
        .kill_per_hour = k->kill_per_hour,
        .restart_s = k->restart_s,
        .restart_sigma = k->restart_sigma};
}

static int read_traces(const struct sl_experiment *e, struct sl_visits *v, char *err, size_t err_cap)
{
    int rc = 0;

    for (uint32_t c = 0; c < e->n_classes && !rc; c++) {
        sl_life_config_of(&e->fleet[c].life, &v->config[c]);
        if (e->fleet[c].life.trace[0])
            rc = sl_life_trace_read(e->fleet[c].life.trace, e->fleet[c].count, &v->trace[c], err, err_cap);
        v->config[c].trace = v->trace[c];
    }
    return rc;
}

void sl_visits_begin(const struct sl_experiment *e, uint64_t start_ns, struct sl_visits *v)
{
    uint32_t phone = 0;

    for (uint32_t c = 0; c < v->n_classes; c++) {
        for (uint32_t i = 0; i < e->fleet[c].count; i++, phone++) {
            sl_life_init(&v->life[phone], &v->config[c], i, e->seed, phone, start_ns);
            v->counts[phone].since_ns = start_ns;
        }
    }
}

int sl_visits_create(const struct sl_experiment *e, struct sl_visits *v, char *err, size_t err_cap)
{
    memset(v, 0, sizeof(*v));
    if (!sl_experiment_comes_and_goes(e))
        return 0;
    v->n_classes = e->n_classes;
    v->config = calloc(e->n_classes, sizeof(*v->config));
    v->trace = calloc(e->n_classes, sizeof(*v->trace));
    v->life = calloc(e->n_devices, sizeof(*v->life));
    v->counts = calloc(e->n_devices, sizeof(*v->counts));
    int rc = v->config && v->trace && v->life && v->counts ? 0 : -ENOMEM;
    if (rc)
        snprintf(err, err_cap, "out of memory");
    else
        rc = read_traces(e, v, err, err_cap);
    if (rc)
        sl_visits_free(v);
    return rc;
}

void sl_visits_free(struct sl_visits *v)
{
    for (uint32_t c = 0; c < v->n_classes && v->trace; c++)
        sl_life_trace_free(v->trace[c]);
    free(v->config);
    free(v->trace);
    free(v->life);
    free(v->counts);
    memset(v, 0, sizeof(*v));
}

uint64_t sl_visits_deadline(const struct sl_visits *v, uint32_t phone)
{
    if (!v->life)
        return UINT64_MAX;
    uint64_t d = sl_life_deadline(&v->life[phone]), rest = v->counts[phone].rest_ns;

    return rest && rest < d ? rest : d;
}

static void report(struct sl_fleet *f, uint32_t phone, const char *what, uint64_t at_ns, uint64_t now_ns)
{
    char id[32];
    cJSON *o = cJSON_CreateObject();

    snprintf(id, sizeof(id), "device-%05u", phone);
    cJSON_AddStringToObject(o, "id", id);
    cJSON_AddStringToObject(o, "what", what);
    cJSON_AddNumberToObject(o, "at_s", (double)(at_ns - f->start_ns) * 1e-9);
    sl_metrics_write(f->metrics, "life", o);
    sl_events_texts(f->events, now_ns, phone, "life", "what", what, NULL, NULL);
}

static void carry_out(struct sl_fleet *f, uint32_t phone, const struct sl_life_event *event, uint64_t now_ns)
{
    struct sl_visit_counts *counts = &f->visits.counts[phone];
    double charger_w = sl_fleet_class(f, phone)->life.charger_w;
    struct sl_body *body = &f->bodies.body[phone];

    counts->events[event->kind]++;
    switch (event->kind) {
    case SL_LIFE_ARRIVE:
        counts->away_ns += event->at_ns - counts->since_ns;
        if (!counts->rest_ns)
            sl_line_come(f, phone, now_ns);
        break;
    case SL_LIFE_DEPART:
        sl_line_go(f, phone, SL_GO_SAYING_BYE, "it departs", now_ns);
        break;
    case SL_LIFE_CRASH:
        sl_line_go(f, phone, SL_GO_SILENTLY, NULL, now_ns);
        break;
    case SL_LIFE_KILL:
        sl_line_go(f, phone, SL_GO_DROPPED, NULL, now_ns);
        break;
    case SL_LIFE_PLUG:
    case SL_LIFE_UNPLUG:
        sl_body_plug(body, event->kind == SL_LIFE_PLUG, charger_w, now_ns);
        break;
    default: /* how idle it lies is told to nobody but the policy */
        break;
    }
    if (event->kind == SL_LIFE_DEPART || event->kind == SL_LIFE_CRASH || event->kind == SL_LIFE_KILL)
        counts->since_ns = event->at_ns;
}

bool sl_visits_rest(struct sl_fleet *f, uint32_t phone, uint64_t now_ns)
{
    const struct sl_life_keys *keys = &sl_fleet_class(f, phone)->life;
    struct sl_visit_counts *counts = sl_visits_on(&f->visits) ? &f->visits.counts[phone] : NULL;

    if (!counts || !keys->diurnal || keys->charger_w <= 0)
        return false;
    counts->rests++;
    counts->rest_ns = now_ns + rest_look_ns;
    report(f, phone, "battery_low", now_ns, now_ns);
    sl_line_go(f, phone, SL_GO_SAYING_BYE, "its battery is low", now_ns);
    return true;
}

static void look_at_rest(struct sl_fleet *f, uint32_t phone, uint64_t now_ns)
{
    struct sl_visit_counts *counts = &f->visits.counts[phone];

    if (!counts->rest_ns || now_ns < counts->rest_ns)
        return;
    counts->rest_ns = now_ns + rest_look_ns;
    if (!sl_body_has_recovered(sl_body_of(&f->bodies, f->plane, phone, now_ns)))
        return;
    counts->rest_ns = 0;
    f->phone[phone].leaving = false;
    report(f, phone, "battery_recovered", now_ns, now_ns);
    if (f->visits.life[phone].present)
        sl_line_come(f, phone, now_ns);
}

void sl_visits_poll(struct sl_fleet *f, uint32_t phone, uint64_t now_ns)
{
    struct sl_life_event event;

    if (!f->visits.life)
        return;
    if (!f->line[phone].over)
        look_at_rest(f, phone, now_ns);
    while (!f->line[phone].over && sl_life_next(&f->visits.life[phone], now_ns, &event)) {
        report(f, phone, sl_life_name(event.kind), event.at_ns, now_ns);
        carry_out(f, phone, &event, now_ns);
    }
}

void sl_visits_run_over(struct sl_fleet *f)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->line[i].away && !f->line[i].over)
            sl_line_end_away(f, i);
}
