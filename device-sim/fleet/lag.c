/* Schedule lag: how much later than its modelled time something was handled (rules L13). Packets are the
 * links' account, phones' own times (a message that may leave, an update that is over) the fleet's. */
#include "device-sim/fleet/fleet.h"

static const double us_per_ns = 1e-3, quantile = 0.99;

/* Whether it keeps within the bound; adds its figures under `name`. */
static bool add(cJSON *to, const char *name, const struct sl_histogram *h, double bound_ms)
{
    cJSON *o = cJSON_AddObjectToObject(to, name);
    double p99 = (double)sl_histogram_quantile(h, quantile);

    cJSON_AddNumberToObject(o, "n", (double)h->count);
    cJSON_AddNumberToObject(o, "p50_us", (double)sl_histogram_quantile(h, 0.5) * us_per_ns);
    cJSON_AddNumberToObject(o, "p99_us", p99 * us_per_ns);
    cJSON_AddNumberToObject(o, "p999_us", (double)sl_histogram_quantile(h, 0.999) * us_per_ns);
    cJSON_AddNumberToObject(o, "max_us", h->count ? (double)h->max * us_per_ns : 0);
    return p99 <= bound_ms * 1e6;
}

bool sl_report_lag(const struct sl_fleet *f, cJSON *end)
{
    double bound_ms = f->material.experiment->sim.lag_bound_ms;
    cJSON *o = cJSON_AddObjectToObject(end, "lag");
    bool valid = add(o, "up", sl_plane_lag(f->plane, true), bound_ms);

    valid &= add(o, "down", sl_plane_lag(f->plane, false), bound_ms);
    valid &= add(o, "phones", f->lag, bound_ms);
    cJSON_AddNumberToObject(o, "bound_ms", bound_ms);
    cJSON_AddBoolToObject(o, "valid", valid);
    return valid;
}
