#include "trainer/pipeline/modelled.h"

#include "dataplane/wire/packet.h"

#include <string.h>
#include <time.h>

enum { INT8_PER_UNIT = 63 }; /* dataplane/wire/int8.h */

/* Of the order of an honest gradient's elements, and exact in bf16. */
static const float step = 0x1p-10f;

static uint64_t elements_of_a_unit(enum sl_codec codec)
{
    return sl_codec_is_coded(codec) ? INT8_PER_UNIT
           : codec == SL_CODEC_F32  ? SL_UNIT_BYTES / 4
                                    : SL_UNIT_BYTES / 2;
}

void sl_modelled_gradient(enum sl_codec codec, uint8_t *units, uint32_t n_units)
{
    float x[SL_UNIT_BYTES];
    uint8_t unit[SL_UNIT_BYTES];

    for (unsigned i = 0; i < SL_UNIT_BYTES; i++)
        x[i] = i % 2 ? -step : step;
    sl_codec_encode(codec, x, unit, elements_of_a_unit(codec));
    for (uint32_t i = 0; i < n_units; i++)
        memcpy(units + (size_t)i * SL_UNIT_BYTES, unit, SL_UNIT_BYTES);
}

void sl_modelled_pass(const struct sl_modelled *m, const struct sl_seq *seqs, uint32_t n, bool backward)
{
    double s = m->pass_s(m->app, seqs, n, backward, 0);

    if (s > 0)
        m->wait(m->app, (uint64_t)(s * 1e9));
}

uint64_t sl_modelled_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sl_modelled_catch_up(const struct sl_modelled *m, const struct sl_seq *seqs, uint32_t n, bool backward,
    uint32_t down_to, uint64_t from_ns)
{
    double left = m->pass_s(m->app, seqs, n, backward, down_to) * 1e9 - (double)(sl_modelled_now() - from_ns);

    if (left > 0)
        m->wait(m->app, (uint64_t)left);
}
