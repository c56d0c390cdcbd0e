#include "device-sim/radio/mcs.h"

#include <math.h>

static const double attenuation = 0.75;
static const double efficiency[2][SL_CQI_MAX + 1] = {
    {0, 0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.9141, 2.4063, 2.7305, 3.3223, 3.9023,
        4.5234, 5.1152, 5.5547},
    {0, 0.1523, 0.3770, 0.8770, 1.4766, 1.9141, 2.4063, 2.7305, 3.3223, 3.9023, 4.5234, 5.1152, 5.5547,
        6.2266, 6.9141, 7.4063}};

uint32_t sl_cqi(enum sl_cqi_table t, double snr)
{
    double carried = snr > 0 ? attenuation * log2(1 + snr) : 0;
    uint32_t lo = 0, hi = SL_CQI_MAX;

    while (lo < hi) {
        uint32_t mid = (lo + hi + 1) / 2;
        if (efficiency[t][mid] <= carried)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

double sl_cqi_efficiency(enum sl_cqi_table t, uint32_t cqi)
{
    return efficiency[t][cqi <= SL_CQI_MAX ? cqi : SL_CQI_MAX];
}

double sl_cqi_threshold(enum sl_cqi_table t, uint32_t cqi)
{
    return exp2(sl_cqi_efficiency(t, cqi) / attenuation) - 1;
}
