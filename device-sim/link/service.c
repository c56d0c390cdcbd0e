#include "device-sim/link/service.h"

#include <errno.h>
#include <math.h>

static const uint64_t ms_ns = 1000000;
static const double ns_per_s = 1e9;

static double series_bits(const struct sl_series *s, uint64_t until_ns)
{
    double bits = 0;

    for (size_t k = 0; k + 1 < s->n && s->at_ns[k] < until_ns; k++) {
        uint64_t end = s->at_ns[k + 1] < until_ns ? s->at_ns[k + 1] : until_ns;
        bits += s->rate_bps[k] * (double)(end - s->at_ns[k]) / ns_per_s;
    }
    return bits;
}

static int init_trace(struct sl_service *v, const struct sl_trace *t)
{
    if (!t || t->n == 0 || t->at_ms[t->n - 1] == 0)
        return -EINVAL;
    for (size_t k = 1; k < t->n; k++)
        if (t->at_ms[k] < t->at_ms[k - 1])
            return -EINVAL;
    v->trace = t;
    v->period_ns = t->at_ms[t->n - 1] * ms_ns;
    v->left = SL_OPPORTUNITY_BYTES;
    return 0;
}

static int init_series(struct sl_service *v, const struct sl_series *s)
{
    if (!s || s->n < 2 || s->at_ns[0] != 0)
        return -EINVAL;
    for (size_t k = 1; k < s->n; k++)
        if (s->at_ns[k] <= s->at_ns[k - 1] || !(s->rate_bps[k - 1] >= 0 && s->rate_bps[k - 1] <= 1e12))
            return -EINVAL;
    v->series = s;
    v->period_ns = s->at_ns[s->n - 1];
    v->bits_a_cycle = series_bits(s, v->period_ns);
    return v->bits_a_cycle >= SL_SERVICE_RATE_MIN_BPS * (double)v->period_ns / ns_per_s ? 0 : -EINVAL;
}

int sl_service_init(struct sl_service *v, const struct sl_service_params *p)
{
    int rc = 0;

    *v = (struct sl_service){.kind = p->kind};
    switch (p->kind) {
    case SL_SERVICE_RATE: /* within these bounds the factor keeps at least 20 significant bits */
        if (!(p->rate_bps >= SL_SERVICE_RATE_MIN_BPS && p->rate_bps <= 1e12))
            return -EINVAL;
        v->ns_per_byte_q32 = (uint64_t)llround(8e9 / p->rate_bps * 0x1p32);
        return 0;
    case SL_SERVICE_TRACE:
        rc = init_trace(v, p->trace);
        if (!rc && p->light)
            rc = sl_light_init(&v->light, p->light, p->light_phase_ns, p->light_idle_ns);
        break;
    case SL_SERVICE_SERIES:
        rc = init_series(v, p->series);
        break;
    case SL_SERVICE_GRANTED:
        return 0;
    default:
        return -EINVAL;
    }
    if (!rc)
        v->phase_ns = p->phase_ns % v->period_ns;
    return rc;
}

/* ---- a trace ---- */

static uint64_t opportunity_ns(const struct sl_service *v)
{
    return v->cycle * v->period_ns + v->trace->at_ms[v->i] * ms_ns - v->phase_ns;
}

static void next_opportunity(struct sl_service *v)
{
    v->left = SL_OPPORTUNITY_BYTES;
    if (++v->i == v->trace->n) {
        v->i = 0;
        v->cycle++;
    }
}

/* The first opportunity from `lo` on that lies at or after that time of the record. */
static size_t first_at(const struct sl_trace *t, size_t lo, uint64_t within_ns)
{
    size_t hi = t->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->at_ms[mid] * ms_ns < within_ns)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Whether the opportunity in hand is over, or lies before the link's time 0. */
static bool is_past(const struct sl_service *v, uint64_t now_ns)
{
    return v->cycle * v->period_ns + v->trace->at_ms[v->i] * ms_ns < now_ns + v->phase_ns;
}

/* Goes to the first opportunity at or after now_ns; those on the way are lost. */
static void seek(struct sl_service *v, uint64_t now_ns)
{
    uint64_t at = now_ns + v->phase_ns, cycle = at / v->period_ns;
    size_t lo = 0;

    if (!is_past(v, now_ns))
        return;
    if (cycle > v->cycle) {
        /* The end of a cycle is the start of the next: an opportunity there belongs to the one that ends. */
        bool at_end = at % v->period_ns == 0;
        v->cycle = at_end ? cycle - 1 : cycle;
    } else {
        lo = v->i;
    }
    uint64_t within = at - v->cycle * v->period_ns;
    lo = first_at(v->trace, lo, within);
    v->i = lo;
    v->left = SL_OPPORTUNITY_BYTES;
    if (lo == v->trace->n) {
        v->i = 0;
        v->cycle++;
    }
}

static uint64_t trace_end(struct sl_service *v, uint32_t bytes)
{
    uint64_t at = opportunity_ns(v);

    while (bytes > v->left) {
        bytes -= v->left;
        next_opportunity(v);
        at = opportunity_ns(v);
    }
    v->left -= bytes;
    if (v->left == 0)
        next_opportunity(v);
    return at;
}

/* ---- a series of rates ---- */

/* When `bits` have been delivered from `from` on (both on the record's own time). */
static uint64_t series_end(const struct sl_service *v, uint64_t from, double bits)
{
    const struct sl_series *s = v->series;
    uint64_t cycle = from / v->period_ns, within = from % v->period_ns;
    size_t lo = 0, hi = s->n - 1;

    double whole = floor(bits / v->bits_a_cycle);
    cycle += (uint64_t)whole;
    bits -= whole * v->bits_a_cycle;
    while (lo + 1 < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->at_ns[mid] <= within)
            lo = mid;
        else
            hi = mid;
    }
    for (size_t k = lo;;) {
        double there = s->rate_bps[k] * (double)(s->at_ns[k + 1] - within) / ns_per_s;
        if (bits <= there && s->rate_bps[k] > 0)
            return cycle * v->period_ns + within + (uint64_t)llround(bits / s->rate_bps[k] * ns_per_s);
        bits -= there;
        within = s->at_ns[++k];
        if (k + 1 == s->n) {
            k = 0;
            within = 0;
            cycle++;
        }
    }
}

/* ---- all kinds ---- */

uint64_t sl_service_begin(struct sl_service *v, uint64_t now_ns)
{
    if (now_ns < v->free_at_ns)
        now_ns = v->free_at_ns;
    if (v->kind != SL_SERVICE_TRACE)
        return now_ns;
    uint64_t begin;
    if (v->light.record && sl_light_begin(&v->light, now_ns, v->free_at_ns, &begin))
        return begin;
    seek(v, now_ns);
    begin = opportunity_ns(v);
    sl_light_busy(&v->light, begin);
    return begin;
}

uint64_t sl_service_end(struct sl_service *v, uint64_t begin_ns, uint32_t bytes)
{
    uint64_t end = begin_ns;

    if (v->kind == SL_SERVICE_RATE) {
        if (begin_ns > v->free_at_ns)
            v->fraction = 0;
        unsigned __int128 takes = (unsigned __int128)bytes * v->ns_per_byte_q32 + v->fraction;
        end += (uint64_t)(takes >> 32);
        v->fraction = (uint32_t)takes;
    } else if (v->kind == SL_SERVICE_TRACE) {
        if (v->light.record)
            bytes = sl_light_serve(&v->light, begin_ns, bytes, &end);
        if (bytes) {
            seek(v, end);
            end = trace_end(v, bytes);
        }
    } else if (v->kind == SL_SERVICE_SERIES) {
        end = series_end(v, begin_ns + v->phase_ns, 8.0 * bytes) - v->phase_ns;
    }
    v->free_at_ns = end;
    return end;
}

uint64_t sl_service_arrival(struct sl_service *v, uint64_t end_ns)
{
    return v->light.record ? sl_light_arrival(&v->light, end_ns) : end_ns;
}

static double trace_capacity(const struct sl_service *v, uint64_t until)
{
    uint64_t cycle = until / v->period_ns, within = until % v->period_ns;
    double n = (double)cycle * (double)v->trace->n + (double)first_at(v->trace, 0, within);

    /* The last opportunity of a cycle lies at the next one's time 0. */
    if (cycle && within == 0)
        for (size_t k = v->trace->n; k > 0 && v->trace->at_ms[k - 1] * ms_ns == v->period_ns; k--)
            n--;
    return n * SL_OPPORTUNITY_BYTES;
}

static double capacity_until(const struct sl_service *v, uint64_t until_ns)
{
    if (v->kind == SL_SERVICE_RATE)
        return (double)until_ns / ((double)v->ns_per_byte_q32 * 0x1p-32);
    uint64_t until = until_ns + v->phase_ns;
    if (v->kind == SL_SERVICE_TRACE)
        return trace_capacity(v, until);
    if (v->kind == SL_SERVICE_SERIES)
        return ((double)(until / v->period_ns) * v->bits_a_cycle +
                   series_bits(v->series, until % v->period_ns)) /
               8;
    return 0;
}

double sl_service_capacity(const struct sl_service *v, uint64_t from_ns, uint64_t until_ns)
{
    return until_ns > from_ns ? capacity_until(v, until_ns) - capacity_until(v, from_ns) : 0;
}
