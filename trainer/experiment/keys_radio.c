/* The list `radio`: environments that links of classes name. */
#include "trainer/experiment/read.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define RADIO_FIELD(member)                                                                                  \
    .offset = offsetof(struct sl_radio_keys, member), .size = sizeof(((struct sl_radio_keys *)0)->member)
#define NUMBER(name, member, low, high)                                                                      \
    {                                                                                                        \
        .path = name, .kind = SL_FIELD_DOUBLE, RADIO_FIELD(member), .lo = low, .hi = high                    \
    }
#define WHOLE(name, member, low, high)                                                                       \
    {                                                                                                        \
        .path = name, .kind = SL_FIELD_U32, RADIO_FIELD(member), .lo = low, .hi = high                       \
    }
#define CHOICE(name, member, values)                                                                         \
    {                                                                                                        \
        .path = name, .kind = SL_FIELD_CHOICE, RADIO_FIELD(member), .choices = values                        \
    }

static int read_at(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
static int read_area(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
static int read_speed(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
static int read_zones(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);

static const struct sl_field radio_fields[] = {
    {.path = "name", .kind = SL_FIELD_TEXT, RADIO_FIELD(name), .required = true},
    NUMBER("carrier_ghz", carrier_ghz, 0.4, 100),
    NUMBER("bandwidth_mhz", bandwidth_mhz, 0.1, 400),
    NUMBER("usable", usable, 0.1, 1),
    NUMBER("down_share", down_share, 0.01, 1),
    NUMBER("up_share", up_share, 0.01, 1),
    NUMBER("base_m", base_m, 1, 300),
    NUMBER("phone_m", phone_m, 1.01, 13),
    CHOICE("path_loss", path_loss, "uma|umi|macro|free"),
    {.path = "shadowing", .kind = SL_FIELD_BOOL, RADIO_FIELD(shadowing)},
    CHOICE("fading", fading, "none|rayleigh|rician"),
    NUMBER("rice_k_db", rice_k_db, -30, 30),
    NUMBER("doppler_hz", doppler_hz, 0.1, 10000),
    WHOLE("diversity", diversity, 1, 16),
    WHOLE("down_layers", down_layers, 1, 8),
    WHOLE("up_layers", up_layers, 1, 8),
    CHOICE("modulation", modulation, "64qam|256qam"),
    NUMBER("base_dbm", base_dbm, -30, 80),
    NUMBER("phone_dbm", phone_dbm, -30, 40),
    NUMBER("base_noise_db", base_noise_db, 0, 30),
    NUMBER("phone_noise_db", phone_noise_db, 0, 30),
    NUMBER("interference_db", interference_db, 0, 40),
    {.path = "cells.at", .kind = SL_FIELD_CUSTOM, .read = read_at},
    CHOICE("cells.layout", layout, "list|line|grid"),
    WHOLE("cells.count", count, 1, SL_CELLS_MAX),
    NUMBER("cells.spacing_m", spacing_m, 1, 100000),
    {.path = "area_m", .kind = SL_FIELD_CUSTOM, .read = read_area},
    CHOICE("mobility.model", mobility, "static|waypoint|gauss_markov|path"),
    {.path = "mobility.speed_mps", .kind = SL_FIELD_CUSTOM, .read = read_speed},
    NUMBER("mobility.pause_s", pause_s, 0, 86400),
    NUMBER("mobility.memory", memory, 0, 0.999),
    {.path = "mobility.path", .kind = SL_FIELD_TEXT, RADIO_FIELD(path)},
    NUMBER("mobility.spread_s", spread_s, 0, 86400),
    {.path = "zones", .kind = SL_FIELD_CUSTOM, .read = read_zones},
    CHOICE("scheduler.kind", scheduler, "pf|rr|max"),
    NUMBER("scheduler.window_s", window_s, 0.001, 100),
    NUMBER("tti_ms", tti_ms, 0.125, 100),
    NUMBER("sr_ms", sr_ms, 0, 1000),
    NUMBER("grant_ms", grant_ms, 0, 1000),
    NUMBER("harq.delay_ms", harq_ms, 0, 1000),
    NUMBER("harq.bler", bler, 0, 0.9),
    NUMBER("handover.measure_ms", measure_ms, 10, 10000),
    NUMBER("handover.hysteresis_db", hysteresis_db, 0, 30),
    NUMBER("handover.trigger_ms", trigger_ms, 0, 10000),
    NUMBER("handover.interruption_ms", interruption_ms, 0, 10000),
    {.path = "handover.new_address", .kind = SL_FIELD_BOOL, RADIO_FIELD(new_address)},
    WHOLE("background.phones", background, 0, 10000),
    NUMBER("background.on_s", background_on_s, 0.001, 86400),
    NUMBER("background.off_s", background_off_s, 0.001, 86400),
};

/* A 20 MHz carrier of a macro cell in town. Shares of time: control channels take 14 % down and 8 % up
 * (TS 38.306 4.1.2); usable: 100 of 111 possible resource blocks; HARQ as LTE's; A3 as commonly set. */
static const struct sl_radio_keys radio_default = {.carrier_ghz = 2,
    .bandwidth_mhz = 20,
    .usable = 0.9,
    .down_share = 0.86,
    .up_share = 0.92,
    .base_m = 25,
    .phone_m = 1.5,
    .path_loss = "uma",
    .shadowing = true,
    .fading = "rayleigh",
    .rice_k_db = 6,
    .doppler_hz = 2,
    .diversity = 2,
    .down_layers = 2,
    .up_layers = 1,
    .modulation = "64qam",
    .base_dbm = 46,
    .phone_dbm = 23,
    .base_noise_db = 5,
    .phone_noise_db = 9,
    .interference_db = 3,
    .layout = "list",
    .spacing_m = 500,
    .mobility = "static",
    .speed_mps = {0.5, 1.5},
    .memory = 0.8,
    .scheduler = "pf",
    .window_s = 0.1,
    .tti_ms = 1,
    .sr_ms = 10,
    .grant_ms = 7,
    .harq_ms = 8,
    .bler = 0.1,
    .measure_ms = 200,
    .hysteresis_db = 3,
    .trigger_ms = 320,
    .interruption_ms = 50,
    .background_on_s = 5,
    .background_off_s = 20};

static const char *const numbers_of[] = {
    "", "one number", "two numbers", "", "", "five numbers: x0, y0, x1, y1, loss_db"};

/* A list of n numbers. */
static int read_numbers(struct sl_reader *r, const yaml_node_t *node, const char *key, double lo, double hi,
    double *out, uint32_t n)
{
    if (node->type != YAML_SEQUENCE_NODE ||
        node->data.sequence.items.top - node->data.sequence.items.start != (long)n)
        return sl_schema_error(r, node, "%s: give %s", key, numbers_of[n]);
    for (uint32_t i = 0; i < n; i++) {
        int status =
            sl_schema_number(r, yaml_document_get_node(r->document, node->data.sequence.items.start[i]), key,
                lo, hi, false, &out[i]);
        if (status)
            return status;
    }
    return 0;
}

static int read_at(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_radio_keys *k = base;

    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(r, node, "cells.at: give a list of places, like [[0, 0], [500, 0]]");
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(r->document, *i);
        if (k->n_cells == SL_CELLS_MAX)
            return sl_schema_error(r, item, "cells.at: more than %d cells", SL_CELLS_MAX);
        int status = read_numbers(r, item, "cells.at", 0, 1e6, k->cell_m[k->n_cells++], 2);
        if (status)
            return status;
    }
    return 0;
}

static int read_area(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_radio_keys *k = base;
    double size[2];
    int status = read_numbers(r, node, "area_m", 1, 1e6, size, 2);

    k->width_m = size[0];
    k->height_m = size[1];
    return status;
}

static int read_speed(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_radio_keys *k = base;
    int status = node->type == YAML_SEQUENCE_NODE
                     ? read_numbers(r, node, f->path, 0.01, 300, k->speed_mps, 2)
                     : sl_schema_number(r, node, f->path, 0.01, 300, false, &k->speed_mps[0]);

    if (!status && node->type != YAML_SEQUENCE_NODE)
        k->speed_mps[1] = k->speed_mps[0];
    return status || k->speed_mps[0] <= k->speed_mps[1]
               ? status
               : sl_schema_error(r, node, "mobility.speed_mps: the least first, then the greatest");
}

static int read_zones(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_radio_keys *k = base;

    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(
            r, node, "zones: give a list like [[200, 0, 300, 50, 60]]: x0, y0, x1, y1, loss_db");
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(r->document, *i);
        if (k->n_zones == SL_ZONES_MAX)
            return sl_schema_error(r, item, "zones: more than %d", SL_ZONES_MAX);
        double *z = k->zone[k->n_zones++];
        int status = read_numbers(r, item, "zones", 0, 1e6, z, 5);
        if (status)
            return status;
        if (z[2] <= z[0] || z[3] <= z[1])
            return sl_schema_error(r, item, "zones: x1 must be above x0 and y1 above y0");
    }
    return 0;
}

/* Cells in a row or in rows, with half a spacing around. */
static void lay_out(struct sl_radio_keys *k)
{
    uint32_t columns = strcmp(k->layout, "line") == 0 ? k->count : (uint32_t)ceil(sqrt(k->count));

    k->n_cells = k->count;
    for (uint32_t i = 0; i < k->count; i++) {
        k->cell_m[i][0] = k->spacing_m * (0.5 + i % columns);
        k->cell_m[i][1] = k->spacing_m * (0.5 + i / columns);
    }
}

static int finish(struct sl_reader *r, yaml_node_t *node, struct sl_radio_keys *k)
{
    bool placed = strcmp(k->layout, "list") != 0;

    if (placed ? k->count == 0 || k->n_cells : k->count || k->n_cells == 0)
        return sl_schema_error(r, node,
            "radio: cells: give at: [[x, y], ...], or layout: line or grid with count (and spacing_m)");
    if (placed)
        lay_out(k);
    if (k->width_m == 0)
        for (uint32_t i = 0; i < k->n_cells; i++) {
            k->width_m = fmax(k->width_m, k->cell_m[i][0] + 0.5 * k->spacing_m);
            k->height_m = fmax(k->height_m, k->cell_m[i][1] + 0.5 * k->spacing_m);
        }
    if ((strcmp(k->mobility, "path") == 0) != (k->path[0] != 0))
        return sl_schema_error(
            r, node, "radio: mobility.path: a file for mobility.model: path, and for that alone");
    if (k->base_m <= 1 && strcmp(k->path_loss, "free") != 0)
        return sl_schema_error(r, node, "radio: base_m: antennas stand above 1 m in that model");
    return 0;
}

int sl_experiment_read_radio(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, void *base)
{
    struct sl_experiment *e = base;

    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(r, node, "radio: give a list of environments, each with a name");
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(r->document, *i);
        struct sl_radio_keys *k = &e->radio[e->n_radios];
        if (e->n_radios == SL_RADIOS_MAX)
            return sl_schema_error(r, item, "radio: more than %d environments", SL_RADIOS_MAX);
        *k = radio_default;
        k->line = item->start_mark.line + 1;
        int status = sl_schema_read(r, item, radio_fields, sizeof(radio_fields) / sizeof(radio_fields[0]), k);
        if (!status)
            status = finish(r, item, k);
        if (status)
            return status;
        for (uint32_t n = 0; n < e->n_radios; n++)
            if (strcmp(e->radio[n].name, k->name) == 0)
                return sl_schema_error(r, item, "radio: '%s' is there twice; give it another name", k->name);
        e->n_radios++;
    }
    return 0;
}

static int refuse(struct sl_reader *r, size_t line, const char *what, const char *name, uint32_t n)
{
    int len = snprintf(r->err, r->err_cap, "%s:%zu: ", r->file, line);

    if (len > 0 && (size_t)len < r->err_cap)
        snprintf(r->err + len, r->err_cap - (size_t)len, what, name, n);
    return -EINVAL;
}

int sl_experiment_check_radio(struct sl_reader *r, struct sl_experiment *e)
{
    for (uint32_t i = 0; i < e->n_classes; i++) {
        struct sl_link_config *l = &e->fleet[i].link;
        if (!l->radio[0])
            continue;
        while (l->environment < e->n_radios && strcmp(e->radio[l->environment].name, l->radio) != 0)
            l->environment++;
        if (l->environment == e->n_radios)
            return refuse(r, l->line, "link.radio: no entry of radio has the name '%s'", l->radio, 0);
        if (l->cell > e->radio[l->environment].n_cells)
            return refuse(r, l->line, "link.cell: '%s' has only %u cells; add one, or name another", l->radio,
                e->radio[l->environment].n_cells);
    }
    return 0;
}
