/* Recorded comings and goings: what is taken is a chain of rising times for each device, and every refusal
 * has a sentence with a line. */
#include "device-sim/life/trace.h"

#include <stdlib.h>
#include <string.h>

enum { DEVICES = 3 };

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {"time_s,device,event\n0,1,arrive\n2.5,0,arrive\n# x\n3e1,1,depart\n",
        "0 , 2 ,arrive\r\n\n0,2,depart\n0,2,arrive\n", "1,0,arrive\n0,1,arrive\n"};
    if (index >= sizeof seeds / sizeof seeds[0] || cap < strlen(seeds[index]))
        return 0;
    memcpy(buf, seeds[index], strlen(seeds[index]));
    return strlen(seeds[index]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_life_trace *trace = NULL;
    char err[256] = "";
    uint64_t any = 0;

    if (sl_life_trace_parse("fuzz", (const char *)data, size, DEVICES, &trace, err, sizeof err)) {
        if (!strstr(err, "fuzz:") || strchr(err, '\n') || trace)
            abort();
        return 0;
    }
    for (uint32_t d = 0; d <= DEVICES; d++) {
        uint64_t last = 0, at;
        for (uint64_t k = 0; (at = sl_life_trace_change(trace, d, k)) != UINT64_MAX; k++, any++) {
            if (at < last)
                abort();
            last = at;
        }
    }
    if (!any)
        abort();
    sl_life_trace_free(trace);
    return 0;
}
