/* Recorded paths of phones: whoever follows one is somewhere, at a finite speed, at any time; every refusal
 * names a line. */
#include "device-sim/radio/mobility.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {"t_s,x_m,y_m\n0,0,0\n10,100,-5\n20.5,1e2,50\n",
        "t_s,x_m,y_m\r\n0,1,1\r\n0.001,2,2\r\n", "t_s,x_m,y_m\n0,1e9,1\n1,-1e9,1"};
    if (index >= sizeof seeds / sizeof seeds[0] || cap < strlen(seeds[index]))
        return 0;
    memcpy(buf, seeds[index], strlen(seeds[index]));
    return strlen(seeds[index]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_path path = {0};
    struct sl_mobility m;
    char err[256] = "";
    double x, y;

    if (sl_path_parse((const char *)data, size, "fuzz", &path, err, sizeof err)) {
        if (strncmp(err, "fuzz:", 5) != 0 || strchr(err, '\n') || path.n || path.t_s)
            abort();
        return 0;
    }
    struct sl_mobility_config c = {.kind = SL_MOBILITY_PATH, .path = &path, .spread_s = 3};
    sl_mobility_init(&m, &c, 1, NULL);
    for (double t = 0; t < 1e6; t = 3 * t + 0.25) {
        double speed = sl_mobility_at(&m, t, &x, &y);
        if (!isfinite(speed) || speed < 0 || !(fabs(x) <= 1.001e9 && fabs(y) <= 1.001e9))
            abort();
    }
    sl_path_free(&path);
    return 0;
}
