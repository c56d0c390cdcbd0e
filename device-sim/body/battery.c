#include "device-sim/body/battery.h"

#include <string.h>

static const double coulomb_per_mah = 3.6;

static const char *const names[SL_CAUSE_COUNT] = {
    [SL_CAUSE_COMPUTE] = "compute",
    [SL_CAUSE_SEND] = "send",
    [SL_CAUSE_RECEIVE] = "receive",
    [SL_CAUSE_TAIL] = "tail",
    [SL_CAUSE_IDLE] = "idle",
    [SL_CAUSE_PROMOTION] = "promotion",
};

const char *sl_cause_name(enum sl_cause c)
{
    return names[c];
}

double sl_battery_capacity_j(double mah, double volts)
{
    return mah * coulomb_per_mah * volts;
}

void sl_battery_init(struct sl_battery *b, double capacity_j, double start)
{
    memset(b, 0, sizeof(*b));
    b->capacity_j = capacity_j;
    b->level_j = start * capacity_j;
}

void sl_battery_move(struct sl_battery *b, const double out_j[SL_CAUSE_COUNT], double in_j)
{
    double wanted = 0, share = 1, room;

    for (int c = 0; c < SL_CAUSE_COUNT; c++)
        wanted += out_j[c];
    if (wanted > b->level_j + in_j) /* it runs dry on the way: the phone is off for the rest */
        share = (b->level_j + in_j) / wanted;
    for (int c = 0; c < SL_CAUSE_COUNT; c++)
        b->by_cause_j[c] += share * out_j[c];
    b->drawn_j += share * wanted;
    room = b->capacity_j - b->level_j + share * wanted;
    if (in_j > room)
        in_j = room;
    b->charged_j += in_j;
    b->level_j += in_j - share * wanted;
    if (b->level_j < 0) /* by rounding alone */
        b->level_j = 0;
}
