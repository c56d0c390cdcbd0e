#include "device-sim/link/light.h"

#include "device-sim/link/service.h"

#include <errno.h>

static const uint64_t ms_ns = 1000000;

static bool is_sound(const struct sl_light *r)
{
    if (!r || r->n < 2 || r->at_ms[r->n - 1] == 0)
        return false;
    for (size_t i = 1; i < r->n; i++)
        if (r->at_ms[i] < r->at_ms[i - 1])
            return false;
    for (size_t i = 0; i < r->n; i++) {
        if (r->first[i + 1] < r->first[i])
            return false;
        for (size_t k = (size_t)r->first[i] + 1; k < r->first[i + 1]; k++)
            if (r->offset_ms[k] < r->offset_ms[k - 1])
                return false;
    }
    return true;
}

int sl_light_init(
    struct sl_light_service *s, const struct sl_light *record, uint64_t phase_ns, uint64_t idle_ns)
{
    if (!is_sound(record))
        return -EINVAL;
    uint64_t period_ns = record->at_ms[record->n - 1] * ms_ns;
    *s = (struct sl_light_service){
        .record = record, .phase_ns = phase_ns % period_ns, .period_ns = period_ns, .idle_ns = idle_ns};
    return 0;
}

/* The last train of the record that began by then, or its first one; never the last line. */
static size_t find(const struct sl_light *r, uint64_t within_ns)
{
    size_t lo = 0, hi = r->n - 1;

    while (lo + 1 < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->at_ms[mid] * ms_ns <= within_ns)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static void begin_train(struct sl_light_service *s, uint64_t now_ns)
{
    const struct sl_light *r = s->record;
    uint64_t within = (now_ns + s->phase_ns) % s->period_ns;
    size_t i = find(r, within);
    uint64_t from = r->at_ms[i] * ms_ns, till = r->at_ms[i + 1] * ms_ns;
    double share = within > from && till > from ? (double)(within - from) / (double)(till - from) : 0;
    double delay_ms = r->delay_ms[i] + share * ((double)r->delay_ms[i + 1] - r->delay_ms[i]);

    s->open = true;
    s->start_ns = now_ns;
    s->delay_ns = (uint64_t)(delay_ms * (double)ms_ns);
    s->k = r->first[i];
    s->end = r->first[i + 1];
    s->left = SL_OPPORTUNITY_BYTES;
}

bool sl_light_begin(struct sl_light_service *s, uint64_t now_ns, uint64_t free_ns, uint64_t *begin_ns)
{
    const uint32_t *offset = s->record->offset_ms;

    if (!s->open || now_ns > (free_ns > s->busy_ns ? free_ns : s->busy_ns) + s->idle_ns)
        begin_train(s, now_ns);
    for (; s->k < s->end && (offset[s->k] + UINT64_C(1)) * ms_ns <= now_ns - s->start_ns; s->k++)
        s->left = SL_OPPORTUNITY_BYTES;
    if (s->k == s->end)
        return false;
    uint64_t at = s->start_ns + offset[s->k] * ms_ns;
    *begin_ns = at > now_ns ? at : now_ns;
    sl_light_busy(s, *begin_ns);
    return true;
}

void sl_light_busy(struct sl_light_service *s, uint64_t until_ns)
{
    if (until_ns > s->busy_ns)
        s->busy_ns = until_ns;
}

uint32_t sl_light_serve(struct sl_light_service *s, uint64_t begin_ns, uint32_t bytes, uint64_t *end_ns)
{
    *end_ns = begin_ns;
    while (bytes && s->k < s->end) {
        uint32_t used = bytes < s->left ? bytes : s->left;
        uint64_t at = s->start_ns + s->record->offset_ms[s->k] * ms_ns;
        if (at > *end_ns)
            *end_ns = at;
        bytes -= used;
        s->left -= used;
        if (s->left == 0) {
            s->k++;
            s->left = SL_OPPORTUNITY_BYTES;
        }
    }
    return bytes;
}

uint64_t sl_light_arrival(struct sl_light_service *s, uint64_t end_ns)
{
    uint64_t at = end_ns + s->delay_ns;

    if (at < s->arrived_ns)
        at = s->arrived_ns;
    s->arrived_ns = at;
    return at;
}
