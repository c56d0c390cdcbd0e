#include "trainer/experiment/class_preset.h"

#include <string.h>

/* Promotions: round trips after idle time were measured with a median of 874 ms and a p95 of 1535 ms on LTE
 * (after 8 s), 1204 and 1645 ms on 5G SA (after 15 s); with the radio awake they are 30 to 75 ms. A promotion
 * is what is left without 50 ms. 5G NSA is anchored in LTE, whose control plane wakes the phone: LTE's
 * figures.
 *
 * Timers: phones that were idle for more than 8 to 12 s paid; hence 8 s (LTE) and 10 s (5G). Paging
 * cycle 1.28 s: 128 frames, a usual default of TS 36.331 and TS 38.331. DRX: LTE's 100 ms and 40 ms, and the
 * powers of LTE's promotion (1.2 W) and of Wi-Fi's tail (0.12 W for 0.24 s), after Huang et al., "A Close
 * Examination of Performance and Power Characteristics of 4G LTE Networks" (MobiSys 2012). Its LTE tail, 1.06
 * W, is the first generation's; later modems sleep deeper: 0.4 W here, and half as much again where a second
 * radio is on. NR's DRX cycle of 160 ms and Wi-Fi's wake-up of a few ms are choices within what the standards
 * allow; Wi-Fi hears its access point at beacons, each 102.4 ms (IEEE 802.11, power save). */
static const struct sl_rrc_keys rrc_presets[] = {
    {.kind = "none"},
    {.kind = "lte",
        .inactivity_s = 8,
        .promotion_median_ms = 824,
        .promotion_p95_ms = 1485,
        .paging_ms = 1280,
        .drx_after_ms = 100,
        .drx_cycle_ms = 40,
        .tail_w = 0.4,
        .promotion_w = 1.2},
    {.kind = "nr_nsa",
        .inactivity_s = 10,
        .promotion_median_ms = 824,
        .promotion_p95_ms = 1485,
        .paging_ms = 1280,
        .drx_after_ms = 100,
        .drx_cycle_ms = 160,
        .tail_w = 0.6,
        .promotion_w = 1.3},
    {.kind = "nr_sa",
        .inactivity_s = 10,
        .promotion_median_ms = 1154,
        .promotion_p95_ms = 1595,
        .paging_ms = 1280,
        .drx_after_ms = 100,
        .drx_cycle_ms = 160,
        .tail_w = 0.5,
        .promotion_w = 1.3},
    {.kind = "wifi",
        .inactivity_s = 0.24,
        .promotion_median_ms = 5,
        .promotion_p95_ms = 20,
        .paging_ms = 102.4,
        .tail_w = 0.12,
        .promotion_w = 0.12},
};

/* Phones. These are round figures of three kinds of phone, not any one phone's; only their order of magnitude
 * is claimed.
 *
 * Speed: what training kernels in f32 reach on the CPU while the phone stays usable, a few per cent of the
 * cores' peak (8 Cortex-A55 at 2 GHz: 128 GFLOP/s; a flagship's big cores: some 300).
 * Power: the whole chip's under that load at the full clock; kappa follows (rules P6), 1.9e-28 to 2.8e-28
 * W/Hz^3. Heat: a body of some 200 g holds 0.7 to 0.9 J/(g K), of which the part near the chip counts; a
 * settled rise of 7 to 9 degrees a watt takes the skin to 43 degrees at 2 to 2.6 W, what handhelds are said
 * to sustain. The time constant is 15 to 17 minutes. Battery: usual sizes; the floor is where Android starts
 * to save power, with a margin. Radio: a transmitter of 23 dBm (0.2 W, TS 38.101-1 class 3) through an
 * amplifier and transceiver, and the modem's share. */
static const struct sl_class_config class_presets[] = {
    {.preset = "low",
        .compute_gflops = 2,
        .memory_mib = 512,
        .battery_mah = 5000,
        .battery_v = 3.85,
        .battery_start = 1,
        .battery_floor = 0.2,
        .compute_w = 2.2,
        .radio_tx_w = 1.5,
        .radio_out_w = SL_HANDSET_OUT_W,
        .radio_rx_w = 0.9,
        .idle_w = 0.25,
        .dvfs = {.n = 5, .ghz = {0.6, 1.0, 1.4, 1.7, 2.0}},
        .thermal = {25, 9, 110, 43, 41},
        .rrc = {.kind = "lte"}},
    {.preset = "mid",
        .compute_gflops = 4,
        .memory_mib = 1024,
        .battery_mah = 5000,
        .battery_v = 3.85,
        .battery_start = 1,
        .battery_floor = 0.2,
        .compute_w = 3.2,
        .radio_tx_w = 1.8,
        .radio_out_w = SL_HANDSET_OUT_W,
        .radio_rx_w = 1.1,
        .idle_w = 0.3,
        .dvfs = {.n = 5, .ghz = {0.7, 1.1, 1.6, 2.0, 2.4}},
        .thermal = {25, 8, 120, 43, 41},
        .rrc = {.kind = "nr_nsa"}},
    {.preset = "flagship",
        .compute_gflops = 8,
        .memory_mib = 2048,
        .battery_mah = 4700,
        .battery_v = 3.85,
        .battery_start = 1,
        .battery_floor = 0.2,
        .compute_w = 5,
        .radio_tx_w = 2.2,
        .radio_out_w = SL_HANDSET_OUT_W,
        .radio_rx_w = 1.2,
        .idle_w = 0.3,
        .dvfs = {.n = 5, .ghz = {0.8, 1.3, 1.9, 2.5, 3.0}},
        .thermal = {25, 7, 140, 43, 41},
        .rrc = {.kind = "nr_sa"}},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const struct sl_class_config *sl_class_preset(const char *name)
{
    for (size_t i = 0; i < COUNT(class_presets); i++)
        if (strcmp(class_presets[i].preset, name) == 0)
            return &class_presets[i];
    return NULL;
}

const struct sl_rrc_keys *sl_rrc_preset(const char *kind)
{
    for (size_t i = 0; i < COUNT(rrc_presets); i++)
        if (strcmp(rrc_presets[i].kind, kind) == 0)
            return &rrc_presets[i];
    return NULL;
}
