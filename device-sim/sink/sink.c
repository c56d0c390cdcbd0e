#include "device-sim/sink/sink.h"

#include "dataplane/io/lcore/address.h"
#include "dataplane/wire/packet.h"
#include "device-sim/sink/bounds.h"
#include "device-sim/sink/header.h"
#include "device-sim/sink/pcap.h"
#include "device-sim/sink/udp.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t look_every_ns = 100000000; /* at the signals, while nothing is due */
static const uint64_t s_ns = 1000000000;

struct sl_sink {
    struct sl_sink_config cfg;
    struct sl_flows *flows;
    struct sl_pcap *pcap;
    struct sl_udp_flows *udp;
    struct sl_sink_limit limit;
    struct sl_sink_result result;
    uint64_t epoch_ns; /* what is added to a flow's time in headers */
    uint64_t clock_ns; /* on the real clock: now, the beginning being 0; 0: in virtual time */
    uint8_t payload[SL_DATAGRAM_MAX_BYTES];
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * s_ns + (uint64_t)t.tv_nsec;
}

static uint64_t compute_ns(void *ctx, uint32_t phone, bool backward, uint64_t now_ns)
{
    struct sl_sink *s = ctx;

    return s->cfg.flows.compute_ns(s->cfg.compute_ctx, phone, backward, now_ns);
}

static void on_packet(void *ctx, const struct sl_flow_packet *p)
{
    struct sl_sink *s = ctx;
    uint32_t head = sl_addr_is_mapped(&p->src) ? 28 : 48;

    if (p->down && !s->cfg.down)
        return;
    s->result.given++;
    if (!sl_sink_limit_take(&s->limit, p->payload_bytes + head, p->at_ns)) {
        s->result.rate_limited++;
        return;
    }
    struct sl_flow_header h = {
        .flags = (uint8_t)((p->again ? SL_FLOW_AGAIN : 0) | (p->down ? SL_FLOW_DOWN : 0)),
        .run = s->cfg.run,
        .phone = p->phone,
        .message = p->message,
        .fragment = p->fragment,
        .fragments = p->fragments,
        .sequence = p->sequence,
        .offered_ns = s->epoch_ns + p->offered_ns,
        .sent_ns = s->epoch_ns + (s->clock_ns ? s->clock_ns : p->at_ns)};
    sl_flow_header_write(&h, s->payload);
    if (s->pcap) {
        sl_pcap_packet(s->pcap, p->at_ns, &p->src, &p->dst, s->payload, p->payload_bytes);
        s->result.sent++;
        s->result.sent_bytes += p->payload_bytes + head;
    } else {
        sl_udp_flows_send(s->udp, p->phone, s->payload, SL_FLOW_HEADER_BYTES,
            s->payload + SL_FLOW_HEADER_BYTES, p->payload_bytes - (size_t)SL_FLOW_HEADER_BYTES);
    }
}

int sl_sink_open(const struct sl_sink_config *c, struct sl_sink **out, char *err, size_t err_cap)
{
    struct sl_sink *s = calloc(1, sizeof(*s));
    struct sl_flows_config flows = c->flows;

    if (!s) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    s->cfg = *c;
    flows.compute_ns = compute_ns;
    flows.packet = on_packet;
    flows.ctx = s;
    /* Bytes that no link on the way can compress, the same in every packet. */
    for (size_t i = SL_FLOW_HEADER_BYTES; i < sizeof(s->payload); i++)
        s->payload[i] = (uint8_t)sl_rng_u64(sl_rng_key(0, "filling"), i);
    int rc = sl_flows_create(&flows, &s->flows);
    if (rc)
        snprintf(err, err_cap, "%u phones cannot be set up: %s", flows.n, strerror(-rc));
    else if (c->pcap)
        rc = sl_pcap_open(c->pcap, &s->pcap, err, err_cap);
    else
        rc = sl_udp_flows_open(&c->to, flows.n, &s->udp, err, err_cap);
    if (rc) {
        sl_sink_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

struct sl_queue *sl_sink_queue(struct sl_sink *s)
{
    return sl_flows_queue(s->flows);
}

static void run_virtual(struct sl_sink *s, uint64_t end_ns)
{
    uint64_t now = sl_flows_deadline(s->flows);

    while (now < end_ns && !*s->cfg.signals) {
        sl_flows_run(s->flows, now);
        s->result.seconds = (double)now * 1e-9;
        uint64_t next = sl_flows_deadline(s->flows);
        now = next > now ? next : now + 1; /* an emulator whose clock ticks more coarsely than ours */
    }
    if (now >= end_ns)
        s->result.seconds = (double)end_ns * 1e-9;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / s_ns), .tv_nsec = (long)(ns % s_ns)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void run_real(struct sl_sink *s, uint64_t end_ns)
{
    uint64_t began = clock_ns(CLOCK_MONOTONIC), model = 0, now, due;

    s->epoch_ns = clock_ns(CLOCK_REALTIME);
    while ((now = clock_ns(CLOCK_MONOTONIC) - began) < end_ns && !*s->cfg.signals) {
        s->clock_ns = now;
        /* Each in its own time: a host that comes late delays packets, and changes nothing about what
         * follows. */
        while ((due = sl_flows_deadline(s->flows)) <= now) {
            model = due > model ? due : model + 1; /* as in run_virtual */
            if (now > model && now - model > s->result.late_max_ns)
                s->result.late_max_ns = now - model;
            sl_flows_run(s->flows, model);
        }
        sl_udp_flows_flush(s->udp);
        if (due > now + look_every_ns)
            due = now + look_every_ns;
        sleep_until(began + (due < end_ns ? due : end_ns));
    }
    s->result.seconds = (double)now * 1e-9;
}

int sl_sink_run(struct sl_sink *s, struct sl_sink_result *out, char *err, size_t err_cap)
{
    uint64_t end_ns = (uint64_t)(s->cfg.seconds * 1e9);
    struct sl_udp_stats u;
    int rc = 0;

    sl_sink_limit_init(&s->limit, s->cfg.mbps, 0);
    if (s->pcap)
        run_virtual(s, end_ns);
    else
        run_real(s, end_ns);
    if (s->pcap) {
        rc = sl_pcap_close(s->pcap, err, err_cap);
        s->pcap = NULL;
    } else {
        sl_udp_flows_flush(s->udp);
        sl_udp_flows_stats(s->udp, &u);
        s->result.sent = u.sent;
        s->result.sent_bytes = u.sent_bytes;
        s->result.refused = u.refused;
        s->result.unreachable = u.unreachable;
        s->result.too_long = u.too_long;
        s->result.no_room = u.no_room;
    }
    s->result.gangs = sl_flows_gangs(s->flows);
    sl_flows_totals(s->flows, &s->result.up, &s->result.down);
    *out = s->result;
    return rc;
}

void sl_sink_close(struct sl_sink *s)
{
    if (s && s->flows)
        sl_flows_close(s->flows);
}

void sl_sink_free(struct sl_sink *s)
{
    char ignored[8];

    if (!s)
        return;
    if (s->pcap)
        sl_pcap_close(s->pcap, ignored, sizeof(ignored));
    sl_udp_flows_close(s->udp);
    sl_flows_free(s->flows);
    free(s);
}
