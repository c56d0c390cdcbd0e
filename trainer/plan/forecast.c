#include "trainer/plan/forecast.h"

static double joules(const struct sl_profile_sums *s)
{
    return s->compute_j + s->send_j + s->receive_j + s->tail_j + s->idle_j + s->promotion_j;
}

static void measure(
    const struct sl_forecast *f, const struct sl_profile_sums *now, struct sl_forecast_result *r)
{
    double n = (double)(now->steps - f->from.steps);

    *r = (struct sl_forecast_result){.cut = f->cut,
        .changed = f->changed,
        .steps = now->steps - f->from.steps,
        .predicted_s = f->step_s,
        .predicted_j = f->energy_j};
    r->measured_s = (now->computed_s - f->from.computed_s + now->turn_s - f->from.turn_s -
                        (now->held_s - f->from.held_s)) /
                    n;
    r->measured_j = (joules(now) - joules(&f->from)) / n;
    r->period_s = (now->at_s - f->from.at_s) / n;
}

static void open_window(
    struct sl_forecast *f, const struct sl_plan_profile *p, const struct sl_profile_work *work, bool changed)
{
    f->from = p->anchor;
    f->cut = p->anchor.cut;
    f->changed = changed;
    f->open = true;
    sl_profile_predict(p, work, f->cut, &f->step_s, &f->energy_j);
}

bool sl_forecast_beat(struct sl_forecast *f, const struct sl_plan_profile *p,
    const struct sl_profile_work *work, struct sl_forecast_result *r)
{
    bool over = false, changed = f->cut != 0 && p->anchor.cut != f->cut;

    if (!p->has_anchor) {
        f->open = false;
        return false;
    }
    if (p->anchor.at_s == f->seen_s)
        return false;
    f->seen_s = p->anchor.at_s;
    if (f->open && !changed) {
        if (p->anchor.steps - f->from.steps < SL_FORECAST_STEPS)
            return false;
        measure(f, &p->anchor, r);
        over = r->measured_s > 0 && r->measured_j >= 0;
    }
    f->open = false;
    if (sl_profile_ready(p))
        open_window(f, p, work, changed);
    return over;
}
