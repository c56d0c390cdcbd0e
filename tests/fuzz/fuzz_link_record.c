/* Traces and series of rates: what is taken can be served, and every refusal has a sentence with a line. */
#include "device-sim/link/record.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {"0\n3\n3\n10\n", "0 30 0 0 5\n7 20 0 2\n20 9\n",
        "time_s,up_mbps\n0,1.5\n1,0\n2.5,3e1\n", "Timestamp,up_mbps\nx,1\ny,-\n\nz,\"4\"\n"};
    if (index >= sizeof seeds / sizeof seeds[0] || cap < strlen(seeds[index]))
        return 0;
    memcpy(buf, seeds[index], strlen(seeds[index]));
    return strlen(seeds[index]);
}

static void serve(const struct sl_service_params *p)
{
    struct sl_service v;
    uint64_t now = 0;

    if (sl_service_init(&v, p))
        abort();
    for (unsigned i = 0; i < 50; i++) {
        uint64_t begin = sl_service_begin(&v, now), end = sl_service_end(&v, begin, 700);
        if (begin < now || end < begin)
            abort();
        now = end + i;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_trace trace;
    struct sl_series series;
    struct sl_light light;
    uint32_t heavy_ms[] = {3};
    struct sl_trace heavy = {heavy_ms, 1};
    char err[256] = "";

    if (sl_trace_parse((const char *)data, size, "fuzz", &trace, err, sizeof err) == 0) {
        serve(&(struct sl_service_params){.kind = SL_SERVICE_TRACE, .trace = &trace, .phase_ns = size});
        sl_trace_free(&trace);
    } else if (!strstr(err, "fuzz:")) {
        abort();
    }
    err[0] = 0;
    if (sl_light_parse((const char *)data, size, "fuzz", &light, err, sizeof err) == 0) {
        serve(&(struct sl_service_params){
            .kind = SL_SERVICE_TRACE, .trace = &heavy, .light = &light, .light_phase_ns = size * 1000000});
        sl_light_free(&light);
    } else if (!strstr(err, "fuzz:")) {
        abort();
    }
    err[0] = 0;
    if (sl_series_parse((const char *)data, size, "fuzz", "up_mbps", &series, err, sizeof err) == 0) {
        serve(&(struct sl_service_params){.kind = SL_SERVICE_SERIES, .series = &series, .phase_ns = size});
        sl_series_free(&series);
    } else if (!strstr(err, "fuzz:")) {
        abort();
    }
    return 0;
}
