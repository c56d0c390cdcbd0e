/* A phone's radio state: idle, being promoted, connected. Connected, it goes through continuous reception and
 * DRX (the tail) and is released after `inactivity` without a packet.
 *
 *          a packet               delay drawn              no packet for inactivity_ns
 *   IDLE ------------> PROMOTING ------------> CONNECTED ------------------------------> IDLE
 *     '--- to the phone: waits for its paging occasion first
 *
 * Promotion number i of a phone takes exp(mu + sigma z_i), z_i a function of (key, i) alone. No clock, no
 * timer: the state follows from the times of packets. One thread (the lcore) owns a phone's radio. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_rrc_config {
    uint64_t inactivity_ns; /* 0: always connected, nothing below counts */
    double mu, sigma;       /* of the logarithm of the promotion in ns */
    uint64_t paging_ns;     /* paging cycle of an idle phone; 0: it hears at once */
    /* After drx_after_ns without a packet a connected phone listens only at multiples of the cycle. 0: none
     */
    uint64_t drx_after_ns, drx_cycle_ns;
};
/* mu and sigma of the log-normal with that median and 95th percentile; median 0: no delay. */
void sl_rrc_fit(struct sl_rrc_config *, double median_s, double p95_s);

enum sl_rrc_state { SL_RRC_IDLE, SL_RRC_PROMOTING, SL_RRC_ACTIVE, SL_RRC_TAIL };
const char *sl_rrc_state_name(enum sl_rrc_state); /* "idle", ... */

struct sl_rrc {
    const struct sl_rrc_config *cfg; /* outlives it; phones of a class share one */
    uint64_t key, paging_phase_ns;
    uint64_t begin_ns, ready_ns, release_ns; /* of the present or the last connection */
    uint64_t promotions;
    uint64_t promotion_ns, connected_ns; /* of earlier connections */
};
void sl_rrc_init(struct sl_rrc *, const struct sl_rrc_config *, uint64_t key); /* idle */

/* A packet from the phone, or to it: when the radio can serve it, at least now. now_ns must not go back. */
uint64_t sl_rrc_use(struct sl_rrc *, uint64_t now_ns);
uint64_t sl_rrc_page(struct sl_rrc *, uint64_t now_ns);
/* A packet has left the air, either way: the radio was connected for it, however long it had waited. */
static inline void sl_rrc_carried(struct sl_rrc *r, uint64_t at_ns)
{
    if (at_ns + r->cfg->inactivity_ns > r->release_ns && at_ns >= r->ready_ns && r->cfg->inactivity_ns)
        r->release_ns = at_ns + r->cfg->inactivity_ns;
}

/* Time in promotions and connected, until now. */
void sl_rrc_times(const struct sl_rrc *, uint64_t now_ns, uint64_t *promotion_ns, uint64_t *connected_ns);
enum sl_rrc_state sl_rrc_state(const struct sl_rrc *, uint64_t now_ns);
