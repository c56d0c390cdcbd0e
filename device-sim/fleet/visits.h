/* Phones that come and go: each phone's schedule (device-sim/life), carried out on its line. */
#pragma once

#include "device-sim/life/life.h"
#include "device-sim/life/trace.h"
#include "trainer/experiment/experiment.h"

struct sl_visit_counts {
    uint64_t events[SL_LIFE_KINDS];
    uint64_t away_ns, since_ns; /* since: away since then, where it is */
    uint64_t rests, rest_ns;    /* for the battery's sake; rest_ns: when to look at it next, 0: it does not */
};

/* All zero where phones of no class come and go. */
struct sl_visits {
    struct sl_life_config *config; /* [classes] */
    struct sl_life_trace **trace;  /* [classes], NULL where there is none */
    uint32_t n_classes;
    struct sl_life *life; /* [devices] */
    struct sl_visit_counts *counts;
};

/* From the classes; traces are read (FILE:LINE in err). Their time begins at start_ns. */
int sl_visits_create(const struct sl_experiment *, struct sl_visits *, char *err, size_t err_cap);
void sl_visits_begin(const struct sl_experiment *, uint64_t start_ns, struct sl_visits *);
void sl_visits_free(struct sl_visits *);
/* Of a class, without its trace. */
void sl_life_config_of(const struct sl_life_keys *, struct sl_life_config *);
static inline bool sl_visits_on(const struct sl_visits *v)
{
    return v->life != NULL;
}

struct sl_fleet;
void sl_visits_poll(struct sl_fleet *, uint32_t phone, uint64_t now_ns);
uint64_t sl_visits_deadline(const struct sl_visits *, uint32_t phone);
/* The battery is at its floor: the phone goes, and comes back when it has charged enough. False: it never
 * will, since its class has no hours at a charger. */
bool sl_visits_rest(struct sl_fleet *, uint32_t phone, uint64_t now_ns);
/* A phone has heard that the run is over: those that are away need not come back. */
void sl_visits_run_over(struct sl_fleet *);
