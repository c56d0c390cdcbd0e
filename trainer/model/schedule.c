#include "trainer/model/schedule.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {
    [SL_SCHEDULE_CONSTANT] = "constant", [SL_SCHEDULE_LINEAR] = "linear", [SL_SCHEDULE_COSINE] = "cosine"};
enum { KINDS = sizeof names / sizeof names[0] };

int sl_schedule_parse(const char *name, enum sl_schedule_kind *kind)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (strcmp(name, names[i]))
            continue;
        *kind = (enum sl_schedule_kind)i;
        return 0;
    }
    return -EINVAL;
}

const char *sl_schedule_name(enum sl_schedule_kind kind)
{
    return (unsigned)kind < KINDS ? names[kind] : "?";
}

const char *sl_lr_schedule_check(const struct sl_lr_schedule *s)
{
    if ((unsigned)s->kind >= KINDS)
        return "the schedule is constant, linear or cosine";
    if (!(s->floor >= 0 && s->floor <= 1))
        return "the last rate is a share of the first, from 0 to 1";
    if (s->kind != SL_SCHEDULE_CONSTANT && s->steps == 0)
        return "a schedule that falls needs a number of steps";
    return s->steps && s->warmup > s->steps ? "the warm-up is longer than the schedule" : NULL;
}

double sl_lr_share(const struct sl_lr_schedule *s, uint64_t step)
{
    if (step < s->warmup)
        return (double)(step + 1) / (double)s->warmup;
    if (s->kind == SL_SCHEDULE_CONSTANT)
        return 1;
    double length = fmax(1, (double)s->steps - (double)s->warmup);
    double gone = fmin(1, (double)(step - s->warmup) / length);
    double left = s->kind == SL_SCHEDULE_LINEAR ? 1 - gone : 0.5 * (1 + cos(M_PI * gone));
    return s->floor + (1 - s->floor) * left;
}
