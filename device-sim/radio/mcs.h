/* From signal-to-noise ratio to bits: the channel quality indicator of TS 38.214 table 5.2.2.1-2 (up to
 * 64-QAM) or -3 (up to 256-QAM), the highest whose spectral efficiency the channel carries at a block error
 * rate near a tenth. The thresholds are those of an attenuated Shannon bound, efficiency = 0.75 log2(1 + SNR)
 * (the form of TR 36.942 A.2; the factor fits the tables' range to link-level thresholds of about -7 dB to 22
 * dB). Pure functions. */
#pragma once

#include <stdint.h>

enum { SL_CQI_MAX = 15 };
enum sl_cqi_table { SL_CQI_64QAM, SL_CQI_256QAM };

uint32_t sl_cqi(enum sl_cqi_table, double snr);            /* 0: out of range; snr linear */
double sl_cqi_efficiency(enum sl_cqi_table, uint32_t cqi); /* bit/s/Hz; cqi 0: 0 */
double sl_cqi_threshold(enum sl_cqi_table, uint32_t cqi);  /* least snr, linear */
