/* Key update (rules T8, RFC 9001 6), each direction by itself: its sender moves to the next key, its receiver
 * follows the phase bit.
 *
 * Packet numbers part the phases: all of a phase lie above all of the one before. So a packet with the other
 * phase's bit is of the phase before where its number lies below what was received in this one, and of the
 * next where it lies above. A sender updates again only when this phase was acknowledged and three PTOs have
 * passed since, so a receiver that is one phase behind is never two behind, and packets of the phase before
 * the last have left the network. */
#include "dataplane/transport/session.h"

#include <string.h>

enum { OLD_KEY_PTOS = 3 }; /* RFC 9001 6.1, 6.5 */

static uint64_t pto_ns(const struct sl_session *s)
{
    return sl_recovery_base_pto_ns(&s->recovery);
}

static uint32_t tx_owner(uint32_t session, uint8_t phase)
{
    return sl_rx_schedule_owner(session, phase) + SL_SCHEDULE_TX;
}

/* ---- receiving ---- */

enum sl_drop sl_key_phase_of(const struct sl_session *s, uint8_t flags, uint64_t pn, uint8_t *phase)
{
    if (((flags ^ s->rx_phase) & SL_FLAG_KEY_PHASE) == 0) {
        *phase = s->rx_phase;
        return pn < s->rx_limit ? SL_DROP_NONE : SL_DROP_KEY_EXHAUSTED;
    }
    if (pn < s->rx_limit - SL_PN_RECEIVE_LIMIT) {
        *phase = (uint8_t)(s->rx_phase - 1);
        return s->rx_has_before ? SL_DROP_NONE : SL_DROP_NO_KEY;
    }
    *phase = (uint8_t)(s->rx_phase + 1);
    if (pn >= SL_PN_LIMIT)
        return SL_DROP_KEY_EXHAUSTED;
    return s->rx_has_next ? SL_DROP_NONE : SL_DROP_NO_KEY;
}

const struct sl_aead_key *sl_key_to_open(
    struct sl_endpoint *ep, uint32_t session, uint8_t phase, const uint8_t **iv)
{
    struct sl_session *s = &ep->sessions[session];
    if (phase == s->rx_phase) {
        *iv = s->rx_iv;
        return sl_schedule_get(
            &ep->schedules, sl_rx_schedule_owner(session, phase), s->rx_key, &s->rx_schedule);
    }
    if (phase == (uint8_t)(s->rx_phase - 1) && s->rx_has_before) {
        *iv = s->rx_before.iv;
        return sl_schedule_get(
            &ep->schedules, sl_rx_schedule_owner(session, phase), s->rx_before.key, &s->rx_before_schedule);
    }
    if (phase == (uint8_t)(s->rx_phase + 1) && s->rx_has_next) {
        *iv = s->rx_next.iv;
        return sl_schedule_get(
            &ep->schedules, sl_rx_schedule_owner(session, phase), s->rx_next.key, &s->rx_next_schedule);
    }
    return NULL;
}

static void forget_before(struct sl_endpoint *ep, uint32_t session)
{
    struct sl_session *s = &ep->sessions[session];
    if (!s->rx_has_before)
        return;
    sl_schedule_forget(
        &ep->schedules, sl_rx_schedule_owner(session, (uint8_t)(s->rx_phase - 1)), s->rx_before_schedule);
    explicit_bzero(&s->rx_before, sizeof(s->rx_before));
    s->rx_has_before = false;
}

void sl_key_opened(struct sl_endpoint *ep, uint32_t session, uint8_t phase, uint64_t pn, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    if (phase == (uint8_t)(s->rx_phase + 1)) {
        forget_before(ep, session);
        memcpy(s->rx_before.key, s->rx_key, sizeof(s->rx_before.key));
        memcpy(s->rx_before.iv, s->rx_iv, sizeof(s->rx_before.iv));
        s->rx_before_schedule = s->rx_schedule;
        s->rx_has_before = true;
        memcpy(s->rx_key, s->rx_next.key, sizeof(s->rx_key));
        memcpy(s->rx_iv, s->rx_next.iv, sizeof(s->rx_iv));
        s->rx_schedule = s->rx_next_schedule;
        s->rx_has_next = false;
        s->rx_phase++;
        s->rx_limit = pn + SL_PN_RECEIVE_LIMIT;
        s->rx_updates++;
        ep->stats.key_updates_rx++;
        s->rx_forget_ns = now_ns + OLD_KEY_PTOS * pto_ns(s);
        s->key_ns = now_ns; /* the next keys, before anything is acknowledged */
        sl_session_update(ep, session, now_ns);
    } else if (phase == s->rx_phase && pn + SL_PN_RECEIVE_LIMIT < s->rx_limit) {
        s->rx_limit = pn + SL_PN_RECEIVE_LIMIT;
    }
}

/* ---- sending ---- */

const struct sl_aead_key *sl_key_to_seal(struct sl_endpoint *ep, uint32_t session)
{
    struct sl_session *s = &ep->sessions[session];
    return sl_schedule_get(&ep->schedules, tx_owner(session, s->tx_phase), s->tx_key, &s->tx_schedule);
}

/* The sending side's step to its next key, where it may be taken now. */
static bool update_sending(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    if (!s->tx_confirmed || !s->tx_has_next || now_ns < s->tx_update_ns)
        return false;
    sl_schedule_forget(&ep->schedules, tx_owner(session, s->tx_phase), s->tx_schedule);
    memcpy(s->tx_key, s->tx_next.key, sizeof(s->tx_key));
    memcpy(s->tx_iv, s->tx_next.iv, sizeof(s->tx_iv));
    s->tx_has_next = s->tx_confirmed = s->spent = false;
    s->tx_phase++;
    s->tx_first = s->next_pn;
    s->tx_updates++;
    ep->stats.key_updates_tx++;
    s->key_ns = now_ns;
    return true;
}

void sl_key_before_sealing(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    if (s->next_pn - s->tx_first >= ep->key_update_packets)
        update_sending(ep, session, now_ns);
}

void sl_key_sealed(struct sl_endpoint *ep, uint32_t session)
{
    struct sl_session *s = &ep->sessions[session];
    s->spent = s->next_pn - s->tx_first >= ep->key_stop_packets || s->next_pn >= SL_PN_LIMIT;
}

bool sl_key_wants_ack(const struct sl_endpoint *ep, const struct sl_session *s)
{
    return !s->tx_confirmed && s->recovery.in_flight == 0 &&
           s->next_pn - s->tx_first >= ep->key_update_packets / 2;
}

void sl_key_acked(struct sl_session *s, uint64_t largest_pn, uint64_t now_ns)
{
    if (s->tx_confirmed || largest_pn < s->tx_first)
        return;
    s->tx_confirmed = true;
    s->tx_update_ns = now_ns + OLD_KEY_PTOS * pto_ns(s);
    if (s->spent && s->tx_update_ns < s->key_ns)
        s->key_ns = s->tx_update_ns;
}

/* ---- ahead of time ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void sl_key_on_timer(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    struct sl_direction_keys next;
    s->key_ns = UINT64_MAX;
    if (s->rx_has_before && s->rx_forget_ns <= now_ns)
        forget_before(ep, session);
    if (s->spent)
        update_sending(ep, session, now_ns);
    if (!s->rx_has_next && sl_direction_keys_next(&s->rx_next, &next) == 0) {
        s->rx_next = next;
        s->rx_has_next = true;
    }
    if (!s->tx_has_next && sl_direction_keys_next(&s->tx_next, &next) == 0) {
        s->tx_next = next;
        s->tx_has_next = true;
    }
    explicit_bzero(&next, sizeof(next));
    if (!s->rx_has_next || !s->tx_has_next)
        s->key_ns = now_ns + SL_GRANULARITY_NS; /* the library is out of memory: later */
    if (s->rx_has_before)
        s->key_ns = earlier(s->key_ns, s->rx_forget_ns);
    if (s->spent && s->tx_confirmed)
        s->key_ns = earlier(s->key_ns, s->tx_update_ns);
}

/* ---- beginning and end ---- */

int sl_key_install(struct sl_endpoint *ep, uint32_t session, const uint8_t *secret)
{
    struct sl_session *s = &ep->sessions[session];
    struct sl_packet_keys k;
    int err = sl_packet_keys_derive(secret, &k);
    if (err == 0) {
        const struct sl_direction_keys *rx = ep->is_edge ? &k.device_to_edge : &k.edge_to_device;
        const struct sl_direction_keys *tx = ep->is_edge ? &k.edge_to_device : &k.device_to_edge;
        memcpy(s->rx_key, rx->key, sizeof(s->rx_key));
        memcpy(s->tx_key, tx->key, sizeof(s->tx_key));
        memcpy(s->rx_iv, rx->iv, sizeof(s->rx_iv));
        memcpy(s->tx_iv, tx->iv, sizeof(s->tx_iv));
        err = sl_direction_keys_next(rx, &s->rx_next);
        if (err == 0)
            err = sl_direction_keys_next(tx, &s->tx_next);
    }
    explicit_bzero(&k, sizeof(k));
    s->rx_limit = SL_PN_RECEIVE_LIMIT;
    s->rx_has_next = s->tx_has_next = true;
    s->key_ns = UINT64_MAX;
    return err;
}

void sl_key_forget(struct sl_endpoint *ep, uint32_t session)
{
    struct sl_session *s = &ep->sessions[session];
    forget_before(ep, session);
    sl_schedule_forget(&ep->schedules, sl_rx_schedule_owner(session, s->rx_phase), s->rx_schedule);
    sl_schedule_forget(
        &ep->schedules, sl_rx_schedule_owner(session, (uint8_t)(s->rx_phase + 1)), s->rx_next_schedule);
    sl_schedule_forget(&ep->schedules, tx_owner(session, s->tx_phase), s->tx_schedule);
}
