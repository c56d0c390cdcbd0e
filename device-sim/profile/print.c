#include "device-sim/profile/profile.h"

#include <math.h>
#include <stdio.h>

static double at(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItem(o, name);

    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static void print_spread(const char *what, const char *unit, const cJSON *s)
{
    if (at(s, "n") > 0)
        printf("  %-26s p10 %9.3f   p50 %9.3f   p90 %9.3f   p99 %9.3f %s\n", what, at(s, "p10"), at(s, "p50"),
            at(s, "p90"), at(s, "p99"), unit);
}

static void print_shares(const char *what, const cJSON *shares, double scale, const char *unit)
{
    const cJSON *v;

    printf("  %-26s", what);
    cJSON_ArrayForEach(v, shares) printf(" %s %.1f %s ", v->string, v->valuedouble * scale, unit);
    printf("\n");
}

static void print_side(const cJSON *class, const char *name)
{
    const cJSON *l = cJSON_GetObjectItem(class, name);
    char what[40];

    printf("  %-4s offered %.3f, carried %.3f", name, at(l, "offered_mbit_s"), at(l, "carried_mbit_s"));
    if (isfinite(at(l, "allowed_mbit_s")))
        printf(", link could carry %.3f", at(l, "allowed_mbit_s"));
    printf(" Mbit/s; %.0f packets dropped\n", at(l, "dropped"));
    snprintf(what, sizeof(what), "%s while busy", name);
    print_spread(what, "Mbit/s", cJSON_GetObjectItem(l, "busy_mbit_s"));
    snprintf(what, sizeof(what), "%s time in the queue", name);
    print_spread(what, "ms", cJSON_GetObjectItem(l, "wait_ms"));
    snprintf(what, sizeof(what), "%s queue", name);
    print_spread(what, "KiB", cJSON_GetObjectItem(l, "queued_kib"));
}

static void print_cell(const cJSON *cell)
{
    if (!cell)
        return;
    printf("  cells used %.0f, handovers of a phone %.2f\n", at(cell, "used"), at(cell, "handovers"));
    print_spread("up SNR", "dB", cJSON_GetObjectItem(cell, "snr_up_db"));
    print_spread("down SNR", "dB", cJSON_GetObjectItem(cell, "snr_down_db"));
}

void sl_profile_print(const cJSON *profile)
{
    const cJSON *c, *bursts;

    printf("%.1f s, %.0f samples; %.0f of %.0f phones watched; the fleet sent %.3f and got %.3f Mbit/s\n",
        at(profile, "seconds"), at(profile, "samples"), at(profile, "watched"), at(profile, "fleet"),
        at(profile, "sent_up_mbit_s"), at(profile, "arrived_down_mbit_s"));
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(profile, "classes"))
    {
        printf("\n%s: %.0f phones, %.0f watched\n", cJSON_GetObjectItem(c, "class")->valuestring,
            at(c, "phones"), at(c, "watched"));
        print_side(c, "up");
        print_side(c, "down");
        print_cell(cJSON_GetObjectItem(c, "cell"));
        bursts = cJSON_GetObjectItem(c, "bursts");
        print_spread("burst", "KiB", cJSON_GetObjectItem(bursts, "kib"));
        print_spread("burst lasts", "s", cJSON_GetObjectItem(bursts, "on_s"));
        print_spread("pause between bursts", "s", cJSON_GetObjectItem(bursts, "off_s"));
        print_spread("round trip", "ms", cJSON_GetObjectItem(c, "rtt_ms"));
        print_shares("states", cJSON_GetObjectItem(c, "states"), 100, "%");
        print_shares("radio", cJSON_GetObjectItem(c, "radios"), 100, "%");
        print_shares("energy of a phone", cJSON_GetObjectItem(c, "energy_j"), 1, "J");
        printf("  lowest battery %.1f %%, hottest %.1f C, slowest clock %.0f %%\n",
            100 * at(c, "battery_min"), at(c, "temp_max_c"), 100 * at(c, "clock_min"));
    }
}
