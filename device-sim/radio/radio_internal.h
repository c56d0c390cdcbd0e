/* A radio from the inside: radio.c makes it and is the links' granter, hearing.c knows what phones hear and
 * when they change the cell, cell.c serves a cell's slot. Internal to the folder. */
#pragma once

#include "device-sim/radio/radio.h"

#define SL_RADIO_NOBODY UINT32_MAX
enum { SL_RADIO_BAND_PARTS = 16 }; /* the least part of the band that is granted */

/* One direction of a phone. */
struct sl_radio_way {
    bool active;         /* in its cell's list */
    uint64_t ready_ns;   /* may be scheduled from then on (uplink: request and grant) */
    uint64_t last_ns;    /* of its deliveries: they keep their order */
    uint64_t blocks;     /* sent, for the draw of errors */
    double served;       /* bytes a TTI, exponentially averaged */
    uint64_t served_tti; /* of that average */
    uint64_t fading_tti; /* of the next */
    double fading;
};

struct sl_radio_phone {
    uint32_t environment, cell, candidate;
    uint64_t key;
    struct sl_mobility mobility;
    struct sl_radio_state state;
    bool has_looked;
    uint64_t looked_ns, candidate_ns; /* last look; since when the candidate has been better */
    double gain[SL_RADIO_DIRECTIONS]; /* SNR over the whole band, linear, without fading */
    double power;                     /* share of tx_dbm that it sends with */
    double doppler_hz;
    struct sl_radio_way way[SL_RADIO_DIRECTIONS];
};

struct sl_radio_list {
    uint32_t *phone, n;
};

struct sl_radio_cell {
    struct sl_radio_list active[SL_RADIO_DIRECTIONS];
    uint32_t turn[SL_RADIO_DIRECTIONS]; /* round robin */
    struct sl_field sight, shadow[2];   /* shadow: without and with a line of sight */
    /* others' phones: how many are on, until when, and the draws of it */
    uint64_t background_key, background_i, background_until_ns;
    uint32_t background_on;
};

struct sl_radio_environment {
    const struct sl_radio_config *cfg;
    struct sl_radio_cell *cell; /* [n_cells] */
    uint32_t n_active[SL_RADIO_DIRECTIONS];
    uint64_t next_tti_ns[SL_RADIO_DIRECTIONS],
        earliest_ns[SL_RADIO_DIRECTIONS]; /* earliest: after the last one */
};

struct sl_radio_granter {
    struct sl_radio *radio;
    enum sl_radio_direction way;
};

struct sl_radio {
    uint32_t n_phones, n_environments;
    uint64_t start_ns;
    struct sl_links *links[SL_RADIO_DIRECTIONS];
    struct sl_radio_granter granter[SL_RADIO_DIRECTIONS];
    void (*moved)(void *, uint32_t, uint64_t);
    void *app;
    struct sl_radio_environment *environment;
    struct sl_radio_phone *phone;
    uint32_t *lists; /* the cells' memory */
    double *metric;  /* [n_phones] of one TTI */
    uint32_t *order;
};

static inline double sl_radio_seconds(const struct sl_radio *r, uint64_t now_ns)
{
    return now_ns > r->start_ns ? (double)(now_ns - r->start_ns) * 1e-9 : 0;
}

/* A late host lets one direction catch up after the other: times of the second may lie before what the first
 * has seen. */
static inline uint64_t sl_radio_since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* hearing.c. best_part: bit/s with at most `most` of the band, and the part that gives it: downwards all,
 * upwards as little as the power fills. look: where the phone is and what it hears; may change its cell. */
double sl_radio_best_part(
    const struct sl_radio_config *, enum sl_radio_direction, double snr, double most, double *part);
void sl_radio_describe(
    const struct sl_radio_config *, struct sl_radio_phone *); /* the state that follows from gain */
void sl_radio_look(struct sl_radio *, uint32_t phone, uint64_t now_ns);

/* cell.c: who waits in which cell, and a slot of one. */
struct sl_radio_list *sl_radio_list_of(struct sl_radio_environment *, const struct sl_radio_phone *, int way);
void sl_radio_join(struct sl_radio *, uint32_t phone, int way);
void sl_radio_leave(struct sl_radio *, uint32_t phone, int way);
void sl_radio_change_cell(struct sl_radio *, uint32_t phone, uint32_t to);
void sl_radio_serve_cell(struct sl_radio *, struct sl_radio_environment *, struct sl_radio_cell *, int way,
    uint64_t now_ns, uint64_t tti);
