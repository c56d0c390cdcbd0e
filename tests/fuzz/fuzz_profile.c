/* A run directory that somebody else has written: whatever the lines, a profile or one sentence that names
 * the line. Up to a byte 0 the input is traffic.jsonl, after it sim.jsonl. */
#include "device-sim/profile/profile.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define START                                                                                                \
    "{\"event\":\"start\",\"fleet\":2,\"states\":[\"idle\",\"sending\"],\"radios\":[\"active\"],"            \
    "\"phones\":[{\"index\":0,\"class\":\"a\"}]}\n"
#define SIDE                                                                                                 \
    "{\"offered\":[5000],\"carried\":[4000],\"dropped\":[1],\"allowed\":[9000],\"queued\":[10],\"served\":[" \
    "3],"                                                                                                    \
    "\"wait_ms\":[1.5]}"
#define SAMPLE(t, state)                                                                                     \
    "{\"t\":" t ",\"dt\":0.1,\"up\":" SIDE ",\"down\":" SIDE                                                 \
    ",\"rtt_ms\":[40],\"battery\":[0.9],\"temp_c\":[30],"                                                    \
    "\"clock\":[1],\"state\":\"" state "\",\"radio\":\"0\",\"all\":{\"sent_up\":10,\"arrived_down\":20}}\n"
#define PHONE "{\"event\":\"phone\",\"class\":\"a\",\"energy\":{\"compute\":1,\"send\":2}}\n"

static const char *const seeds[][2] = {
    {START SAMPLE("0.1", "0") SAMPLE("0.2", "1") SAMPLE("0.3", "0"), PHONE},
    {START SAMPLE("0.1", "1") START SAMPLE("0.1", "1"), PHONE PHONE},
    {START, ""},
};

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    if (index >= sizeof(seeds) / sizeof(*seeds))
        return 0;
    size_t first = strlen(seeds[index][0]) + 1, second = strlen(seeds[index][1]);
    if (first + second > cap)
        return 0;
    memcpy(buf, seeds[index][0], first);
    memcpy(buf + first, seeds[index][1], second);
    return first + second;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t first = end ? (size_t)(end - data) : size, second = end ? size - first - 1 : 0;
    char err[256] = "", nothing[1] = "";
    struct sl_profile_source s = {.traffic_name = "t", .events_name = "s"};

    s.traffic = first ? fmemopen((void *)(uintptr_t)data, first, "r") : fmemopen(nothing, 1, "r");
    s.events = second ? fmemopen((void *)(uintptr_t)(end + 1), second, "r") : fmemopen(nothing, 1, "r");
    if (!s.traffic || !s.events)
        abort();
    cJSON *o = sl_profile_read(&s, err, sizeof(err));
    if (!o && !err[0])
        abort();
    cJSON_Delete(o);
    fclose(s.traffic);
    fclose(s.events);
    return 0;
}
