#include "device-sim/fleet/emulator.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One direction: the links, and where each packet under way lies. */
struct direction {
    struct sl_links *links;
    struct sl_dgram *held;
    uint32_t *free_slots, n_free;
};

struct sl_emulator {
    uint32_t n_phones, max_packets;
    struct sl_phone_addresses addresses;
    struct sl_queue *queue;
    struct sl_link_book *book;
    struct sl_radio_book *cells_book;
    struct sl_radio *cells; /* NULL: no environments */
    bool *elsewhere;        /* [n_phones] at its second address */
    struct direction up, down;
    struct sl_rrc *radio; /* [n_phones], with their configurations */
    struct sl_rrc_config *radio_config;
    uint64_t strays;
    struct sl_emulator_watch watch;
};

static void direction_free(struct direction *d)
{
    sl_links_free(d->links);
    free(d->held);
    free(d->free_slots);
}

static int direction_create(struct direction *d, uint32_t n_phones, uint32_t max_packets)
{
    d->held = calloc(max_packets, sizeof(*d->held));
    d->free_slots = calloc(max_packets, sizeof(*d->free_slots));
    if (!d->held || !d->free_slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < max_packets; i++)
        d->free_slots[d->n_free++] = max_packets - 1 - i;
    return sl_links_create(n_phones, max_packets, &d->links);
}

static int set_links(
    struct direction *d, const struct sl_link_pair *link, uint32_t n, uint64_t seed, const char *name)
{
    char key[48];
    int rc = 0;

    for (uint32_t i = 0; i < n && !rc; i++) {
        snprintf(key, sizeof(key), "link %u %s", i, name);
        rc = sl_links_set(
            d->links, i, strcmp(name, "up") == 0 ? &link[i].up : &link[i].down, sl_rng_key(seed, key));
    }
    return rc;
}

int sl_emulator_create(const struct sl_link_pair *link, struct sl_link_book *book,
    const struct sl_phone_addresses *addresses, uint32_t n_phones, uint32_t max_packets, uint64_t seed,
    struct sl_emulator **out)
{
    struct sl_emulator *e = calloc(1, sizeof(*e));
    if (!e) {
        sl_link_book_close(book);
        return -ENOMEM;
    }
    e->book = book;
    e->n_phones = n_phones;
    e->addresses = *addresses;
    e->max_packets = max_packets;
    e->radio = calloc(n_phones, sizeof(*e->radio));
    e->radio_config = calloc(n_phones, sizeof(*e->radio_config));
    int rc = e->radio && e->radio_config ? 0 : -ENOMEM;
    for (uint32_t i = 0; !rc && i < n_phones; i++)
        sl_rrc_init(&e->radio[i], &e->radio_config[i], 0);
    if (!rc)
        rc = direction_create(&e->up, n_phones, max_packets);
    if (!rc)
        rc = direction_create(&e->down, n_phones, max_packets);
    if (!rc)
        rc = set_links(&e->up, link, n_phones, seed, "up");
    if (!rc)
        rc = set_links(&e->down, link, n_phones, seed, "down");
    if (rc) {
        sl_emulator_free(e);
        return rc;
    }
    *out = e;
    return 0;
}

static void tell(struct sl_emulator *e, const struct direction *d, uint64_t now_ns, uint32_t phone,
    uint32_t bytes, enum sl_link_verdict verdict, enum sl_emulator_what what)
{
    struct sl_emulator_seen seen = {.at_ns = now_ns,
        .phone = phone,
        .bytes = bytes,
        .up = d == &e->up,
        .what = verdict == SL_LINK_TAKEN ? what : SL_EMULATOR_DROPPED,
        .verdict = verdict};

    if (e->watch.packets || verdict != SL_LINK_TAKEN)
        e->watch.seen(e->watch.ctx, &seen);
}

/* What has arrived; what was dropped on the way goes back to the port. */
static unsigned ready(
    struct sl_emulator *e, struct direction *d, struct sl_dgram *out, unsigned n, uint64_t now_ns)
{
    struct sl_link_out packet;
    unsigned got = 0;

    while (got < n && sl_link_next(d->links, now_ns, &packet)) {
        d->free_slots[d->n_free++] = packet.handle;
        sl_rrc_carried(&e->radio[packet.link], packet.due_ns);
        if (__builtin_expect(e->watch.seen != NULL, 0))
            tell(e, d, now_ns, packet.link, d->held[packet.handle].len, packet.verdict, SL_EMULATOR_ARRIVED);
        if (packet.verdict == SL_LINK_TAKEN)
            out[got++] = d->held[packet.handle];
        else
            sl_queue_free(e->queue, &d->held[packet.handle], 1);
    }
    return got;
}

static void release(struct sl_emulator *e, struct direction *d)
{
    uint32_t slot;

    while (e->queue && d->links && sl_links_evict(d->links, &slot))
        sl_queue_free(e->queue, &d->held[slot], 1);
}

void sl_emulator_free(struct sl_emulator *e)
{
    if (!e)
        return;
    release(e, &e->up);
    release(e, &e->down);
    direction_free(&e->up);
    direction_free(&e->down);
    sl_link_book_close(e->book);
    sl_radio_free(e->cells);
    sl_radio_book_close(e->cells_book);
    free(e->elsewhere);
    free(e->radio);
    free(e->radio_config);
    free(e);
}

/* On the lcore, in a cell's slot. */
static void moved(void *app, uint32_t phone, uint64_t now_ns)
{
    struct sl_emulator *e = app;

    e->elsewhere[phone] = !e->elsewhere[phone];
    if (e->watch.seen)
        e->watch.seen(e->watch.ctx,
            &(struct sl_emulator_seen){.at_ns = now_ns, .phone = phone, .what = SL_EMULATOR_MOVED});
}

int sl_emulator_set_cells(struct sl_emulator *e, struct sl_radio_book *book, uint64_t start_ns)
{
    e->cells_book = book;
    e->elsewhere = calloc(e->n_phones, sizeof(*e->elsewhere));
    int rc = e->elsewhere ? sl_radio_book_create(book, start_ns, moved, e, &e->cells) : -ENOMEM;

    if (!rc)
        sl_radio_bind(e->cells, e->up.links, e->down.links);
    return rc;
}

void sl_emulator_set_power(struct sl_emulator *e, uint32_t phone, double share)
{
    if (e->cells && sl_radio_serves(e->cells, phone))
        sl_radio_set_power(e->cells, phone, share);
}

bool sl_emulator_cell(const struct sl_emulator *e, uint32_t phone, struct sl_radio_state *out)
{
    if (!e->cells || !sl_radio_serves(e->cells, phone))
        return false;
    sl_radio_state(e->cells, phone, out);
    return true;
}

void sl_emulator_set_watch(struct sl_emulator *e, const struct sl_emulator_watch *watch)
{
    e->watch = *watch;
}

void sl_emulator_bind(struct sl_emulator *e, struct sl_queue *queue)
{
    e->queue = queue;
}

void sl_emulator_set_radio(
    struct sl_emulator *e, uint32_t phone, const struct sl_rrc_config *cfg, uint64_t seed)
{
    char name[32];

    snprintf(name, sizeof(name), "radio state %u", phone);
    e->radio_config[phone] = *cfg;
    sl_rrc_init(&e->radio[phone], &e->radio_config[phone], sl_rng_key(seed, name));
}

const struct sl_rrc *sl_emulator_radio(const struct sl_emulator *e, uint32_t phone)
{
    return &e->radio[phone];
}

/* A packet wants the phone's radio: what is not connected has to be woken, and serves nothing until then. */
static void wake(struct sl_emulator *e, const struct direction *d, uint32_t phone, uint64_t now_ns)
{
    struct sl_rrc *r = &e->radio[phone];
    uint64_t promotions = r->promotions;
    uint64_t ready = d == &e->up ? sl_rrc_use(r, now_ns) : sl_rrc_page(r, now_ns);

    if (ready <= now_ns)
        return;
    if (e->watch.seen && r->promotions > promotions)
        e->watch.seen(e->watch.ctx, &(struct sl_emulator_seen){.at_ns = now_ns,
                                        .phone = phone,
                                        .up = d == &e->up,
                                        .what = SL_EMULATOR_WOKEN,
                                        .ready_ns = ready});
    sl_links_hold(d->links, phone, ready);
    if (now_ns < r->ready_ns) /* not only asleep for the rest of its cycle: neither direction is served */
        sl_links_hold(d == &e->up ? e->down.links : e->up.links, phone, r->ready_ns);
}

/* A packet enters its link, or goes back to the port. */
static void offer(struct sl_emulator *e, struct direction *d, struct sl_dgram *dgram,
    const struct sl_addr *phone_addr, uint64_t now_ns)
{
    int phone = sl_phone_of_address(&e->addresses, phone_addr, e->n_phones);

    if (phone < 0) {
        e->strays++;
        sl_queue_free(e->queue, dgram, 1);
        return;
    }
    wake(e, d, (uint32_t)phone, now_ns);
    /* The links take at most as many as there are slots, so a taken packet has one. */
    uint32_t slot = d->n_free ? d->free_slots[d->n_free - 1] : 0;
    enum sl_link_verdict verdict = sl_links_offer(d->links, (uint32_t)phone, slot, dgram->len, now_ns);
    if (__builtin_expect(e->watch.seen != NULL, 0))
        tell(e, d, now_ns, (uint32_t)phone, dgram->len, verdict, SL_EMULATOR_TAKEN);
    if (verdict != SL_LINK_TAKEN) {
        sl_queue_free(e->queue, dgram, 1);
        return;
    }
    d->n_free--;
    d->held[slot] = *dgram;
}

static void up(void *ctx, struct sl_dgram *dgram, unsigned n, uint64_t now_ns)
{
    struct sl_emulator *e = ctx;

    for (unsigned i = 0; i < n; i++)
        offer(e, &e->up, &dgram[i], &dgram[i].src, now_ns);
}

static void down(void *ctx, struct sl_dgram *dgram, unsigned n, uint64_t now_ns)
{
    struct sl_emulator *e = ctx;

    for (unsigned i = 0; i < n; i++) {
        if (e->elsewhere)
            sl_phone_address_home(&e->addresses, &dgram[i].dst);
        offer(e, &e->down, &dgram[i], &dgram[i].dst, now_ns);
    }
}

static unsigned up_ready(void *ctx, struct sl_dgram *out, unsigned n, uint64_t now_ns)
{
    struct sl_emulator *e = ctx;
    unsigned got = ready(e, &e->up, out, n, now_ns);

    for (unsigned i = 0; i < got && e->elsewhere; i++)
        if (e->elsewhere[sl_phone_of_address(&e->addresses, &out[i].src, e->n_phones)])
            sl_phone_address_away(&out[i].src);
    return got;
}

static unsigned down_ready(void *ctx, struct sl_dgram *out, unsigned n, uint64_t now_ns)
{
    struct sl_emulator *e = ctx;

    return ready(e, &e->down, out, n, now_ns);
}

static uint64_t deadline(void *ctx)
{
    struct sl_emulator *e = ctx;
    uint64_t u = sl_links_deadline(e->up.links), d = sl_links_deadline(e->down.links);

    return u < d ? u : d;
}

const struct sl_emulator_ops sl_fleet_emulator = {
    .up = up, .down = down, .up_ready = up_ready, .down_ready = down_ready, .deadline = deadline};

void sl_emulator_stats(
    const struct sl_emulator *e, uint32_t phone, struct sl_link_stats *u, struct sl_link_stats *d)
{
    sl_links_stats(e->up.links, phone, u);
    sl_links_stats(e->down.links, phone, d);
}

void sl_emulator_rates(const struct sl_emulator *e, uint32_t phone, uint64_t from_ns, uint64_t until_ns,
    double *up_bps, double *down_bps)
{
    double s = (double)(until_ns - from_ns) * 1e-9;
    struct sl_radio_state cell;

    if (sl_emulator_cell(e, phone, &cell)) {
        *up_bps = cell.rate_bps[SL_RADIO_UP];
        *down_bps = cell.rate_bps[SL_RADIO_DOWN];
        return;
    }
    *up_bps = 8 * sl_service_capacity(sl_links_service(e->up.links, phone), from_ns, until_ns) / s;
    *down_bps = 8 * sl_service_capacity(sl_links_service(e->down.links, phone), from_ns, until_ns) / s;
}

const struct sl_histogram *sl_emulator_lag(const struct sl_emulator *e, bool up)
{
    return sl_links_lag(up ? e->up.links : e->down.links);
}

uint64_t sl_emulator_strays(const struct sl_emulator *e)
{
    return e->strays;
}

void sl_emulator_queues(const struct sl_emulator *e, uint32_t phone, struct sl_emulator_queues *out)
{
    *out = (struct sl_emulator_queues){.up_bytes = sl_links_backlog_bytes(e->up.links, phone),
        .down_bytes = sl_links_backlog_bytes(e->down.links, phone),
        .up = sl_links_service(e->up.links, phone),
        .down = sl_links_service(e->down.links, phone)};
}
