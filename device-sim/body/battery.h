/* A battery as a store of joules. What is drawn is drawn for a cause. At any time
 * start - level = drawn - charged, and the causes add up to what was drawn: an empty battery gives nothing
 * more, a full one takes nothing more. */
#pragma once

#include <stdint.h>

enum sl_cause {
    SL_CAUSE_COMPUTE,
    SL_CAUSE_SEND,
    SL_CAUSE_RECEIVE,
    SL_CAUSE_TAIL,      /* the radio connected, with nothing to carry */
    SL_CAUSE_IDLE,      /* the rest of the phone while it does not compute */
    SL_CAUSE_PROMOTION, /* the radio on its way from idle to connected */
    SL_CAUSE_COUNT
};
const char *sl_cause_name(enum sl_cause); /* "compute", "send", ... */

struct sl_battery {
    double capacity_j, level_j;
    double drawn_j, charged_j; /* so far */
    double by_cause_j[SL_CAUSE_COUNT];
};

double sl_battery_capacity_j(double mah, double volts);
void sl_battery_init(struct sl_battery *, double capacity_j, double start); /* start: share of full */
/* `in_j` arrives from a charger while `out_j[cause]` is wanted. */
void sl_battery_move(struct sl_battery *, const double out_j[SL_CAUSE_COUNT], double in_j);
