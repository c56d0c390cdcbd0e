#include "device-sim/device/store.h"

#include "dataplane/wire/lz4_block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum step_state { STEP_NONE, STEP_REQUESTED, STEP_GRANTED, STEP_SENT };

struct phone {
    bool open, sending, has_result;
    uint8_t state; /* enum step_state */
    uint32_t grant;
    uint32_t last_grant; /* highest index of the session: what is not above it may be a late duplicate */
    struct sl_request request;
    struct sl_grid grid;
    uint32_t gradient_fragments, fragments_left;
    struct sl_result result;
    uint64_t divisor;         /* sl_grid_divisor(grid.fragment_units): nothing divides for each packet */
    uint64_t *have, *claimed; /* a bit per fragment of the gradient, at its first unit */
    uint8_t *messages, *gradient;
    const uint8_t *message; /* of the step under way */
};

struct sl_store {
    struct sl_store_config cfg;
    struct sl_endpoint *endpoint;
    size_t bitmap_words;
    uint8_t *memory;
    uint64_t *bitmaps;
    void *lz4; /* the compressor's state; NULL: nothing is compressed */
    struct sl_store_stats stats;
    struct phone phone[];
};

static size_t to_units(size_t bytes)
{
    return (bytes + SL_UNIT_BYTES - 1) / SL_UNIT_BYTES * SL_UNIT_BYTES;
}

static bool test_bit(const uint64_t *map, uint32_t i)
{
    return map[i / 64] >> (i % 64) & 1;
}

static void set_bit(uint64_t *map, uint32_t i)
{
    map[i / 64] |= UINT64_C(1) << (i % 64);
}

static void clear_bit(uint64_t *map, uint32_t i)
{
    map[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

int sl_store_create(const struct sl_store_config *cfg, struct sl_store **out)
{
    if (cfg->n_phones == 0 || cfg->message_bytes == 0 || cfg->gradient_bytes == 0)
        return -EINVAL;
    struct sl_store *s = calloc(1, sizeof(*s) + cfg->n_phones * sizeof(s->phone[0]));
    if (!s)
        return -ENOMEM;
    s->cfg = *cfg;
    s->cfg.message_bytes = to_units(cfg->message_bytes);
    s->cfg.gradient_bytes = to_units(cfg->gradient_bytes);
    s->bitmap_words = s->cfg.gradient_bytes / SL_UNIT_BYTES / 64 + 1;
    size_t each = cfg->message ? 0 : 2 * s->cfg.message_bytes + s->cfg.gradient_bytes;
    s->memory = aligned_alloc(SL_UNIT_BYTES, cfg->message ? s->cfg.gradient_bytes : each * cfg->n_phones);
    s->bitmaps = calloc(cfg->n_phones, 2 * s->bitmap_words * sizeof(uint64_t));
    if (cfg->compress)
        s->lz4 = malloc(sl_lz4_state_bytes());
    if (!s->memory || !s->bitmaps || (cfg->compress && !s->lz4)) {
        sl_store_free(s);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < cfg->n_phones; i++) {
        s->phone[i].messages = s->memory + i * each;
        s->phone[i].gradient = cfg->message ? s->memory : s->phone[i].messages + 2 * s->cfg.message_bytes;
        s->phone[i].have = s->bitmaps + 2 * i * s->bitmap_words;
        s->phone[i].claimed = s->phone[i].have + s->bitmap_words;
    }
    *out = s;
    return 0;
}

void sl_store_free(struct sl_store *s)
{
    if (!s)
        return;
    free(s->memory);
    free(s->bitmaps);
    free(s->lz4);
    free(s);
}

void sl_store_bind(struct sl_store *s, struct sl_endpoint *ep)
{
    s->endpoint = ep;
}

uint8_t *sl_store_message(struct sl_store *s, uint32_t phone, uint64_t step)
{
    return s->phone[phone].messages + step % 2 * s->cfg.message_bytes;
}

uint8_t *sl_store_gradient(struct sl_store *s, uint32_t phone)
{
    return s->phone[phone].gradient;
}

size_t sl_store_message_bytes(const struct sl_store *s)
{
    return s->cfg.message_bytes;
}

void sl_store_stats(const struct sl_store *s, struct sl_store_stats *out)
{
    *out = s->stats;
}

/* The step is over: nothing of it is sent any more, and what still comes of it is a duplicate. */
static void end_step(struct sl_store *s, uint32_t i)
{
    struct phone *p = &s->phone[i];

    p->state = STEP_NONE;
    p->has_result = false;
    if (p->sending)
        sl_endpoint_cancel(s->endpoint, i, p->grant);
}

void sl_store_session_opened(struct sl_store *s, uint32_t i)
{
    struct phone *p = &s->phone[i];

    p->open = true;
    p->sending = p->has_result = false;
    p->state = STEP_NONE;
    p->grant = p->last_grant = 0;
}

void sl_store_session_closed(struct sl_store *s, uint32_t i)
{
    struct phone *p = &s->phone[i];

    p->open = false;
    p->sending = false;
    p->state = STEP_NONE;
}

int sl_store_request(
    struct sl_store *s, uint32_t i, const struct sl_request *r, const struct sl_grid *g, uint64_t now_ns)
{
    struct phone *p = &s->phone[i];
    struct sl_frame frame = {.type = SL_FRAME_REQUEST, .request = *r};

    if (p->state != STEP_NONE)
        return -EBUSY;
    if (!p->open)
        return -ENOENT;
    size_t gradient_bytes = r->kind == SL_REQUEST_TRAIN ? (size_t)g->tensor_units * SL_UNIT_BYTES : 0;
    if ((size_t)g->n_units * SL_UNIT_BYTES > s->cfg.message_bytes || gradient_bytes > s->cfg.gradient_bytes ||
        g->fragment_units == 0)
        return -EINVAL;
    p->message = s->cfg.message ? s->cfg.message(s->cfg.app, i, r, g) : sl_store_message(s, i, r->step);
    if (!p->message)
        return -EINVAL;
    int rc = sl_endpoint_frame(s->endpoint, i, &frame, now_ns);
    if (rc)
        return rc;
    p->request = *r;
    p->grid = *g;
    p->divisor = sl_grid_divisor(g->fragment_units);
    p->grant = 0;
    p->has_result = false;
    p->gradient_fragments =
        r->kind == SL_REQUEST_TRAIN ? (g->tensor_units + g->fragment_units - 1) / g->fragment_units : 0;
    p->fragments_left = p->gradient_fragments;
    memset(p->have, 0, s->bitmap_words * sizeof(uint64_t));
    memset(p->claimed, 0, s->bitmap_words * sizeof(uint64_t));
    p->state = STEP_REQUESTED;
    s->stats.requests++;
    return 0;
}

int sl_store_send(struct sl_store *s, uint32_t i, uint64_t now_ns)
{
    struct phone *p = &s->phone[i];

    if (p->state != STEP_GRANTED)
        return -EINVAL;
    int rc = sl_endpoint_send(s->endpoint, i, p->grant, p->grid.n_units, now_ns);
    if (rc)
        return rc;
    p->state = STEP_SENT;
    p->sending = true;
    s->stats.sent++;
    return 0;
}

void sl_store_drop(struct sl_store *s, uint32_t i)
{
    if (s->phone[i].state == STEP_NONE)
        return;
    s->stats.dropped++;
    end_step(s, i);
}

/* Result and gradient come in any order; with both the step is over. */
static void finish_if_whole(struct sl_store *s, uint32_t i)
{
    struct phone *p = &s->phone[i];

    if (!p->has_result || (p->result.status == SL_RESULT_GRADIENT && p->fragments_left))
        return;
    struct sl_store_event e = {.kind = SL_STORE_RESULT, .result = p->result, .step = p->request.step};
    end_step(s, i);
    s->stats.results++;
    s->cfg.event(s->cfg.app, i, &e);
}

static void on_grant(struct sl_store *s, uint32_t i, const struct sl_grant *g)
{
    struct phone *p = &s->phone[i];

    if (g->index > p->last_grant)
        p->last_grant = g->index;
    if (p->state != STEP_REQUESTED || g->step != p->request.step)
        return; /* a repeat, or for a step that was given up: it expires */
    p->grant = g->index;
    p->state = STEP_GRANTED;
    s->stats.granted++;
    s->cfg.event(s->cfg.app, i, &(struct sl_store_event){.kind = SL_STORE_GRANTED, .step = g->step});
}

static void on_result(struct sl_store *s, uint32_t i, const struct sl_result *r)
{
    struct phone *p = &s->phone[i];

    if (p->state != STEP_SENT || p->has_result || r->grant != p->grant || r->step != p->request.step)
        return;
    p->result = *r;
    p->has_result = true;
    finish_if_whole(s, i);
}

static void on_lost(struct sl_store *s, uint32_t i, const struct sl_step_lost *l)
{
    struct phone *p = &s->phone[i];

    if (p->state == STEP_NONE || l->step != p->request.step || l->grant != p->grant)
        return;
    end_step(s, i);
    s->stats.lost++;
    s->cfg.event(
        s->cfg.app, i, &(struct sl_store_event){.kind = SL_STORE_LOST, .reason = l->reason, .step = l->step});
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct sl_store *s = sink;

    if (session >= s->cfg.n_phones)
        return;
    switch (f->type) {
    case SL_FRAME_GRANT:
        on_grant(s, session, &f->grant);
        break;
    case SL_FRAME_RESULT:
        on_result(s, session, &f->result);
        break;
    case SL_FRAME_STEP_LOST:
        on_lost(s, session, &f->step_lost);
        break;
    default:
        break;
    }
}

static void refuse(struct sl_rx *rx, enum sl_drop why)
{
    rx->how = SL_REFUSE;
    rx->reason = (uint8_t)why;
}

static bool on_grid(const struct phone *p, const struct sl_rx *rx)
{
    uint32_t left, fragment = p->grid.fragment_units;

    if (rx->unit0 >= p->grid.tensor_units || !sl_grid_divides(p->divisor, rx->unit0))
        return false;
    left = p->grid.tensor_units - rx->unit0;
    return rx->n_units == (left < fragment ? left : fragment);
}

static void place_one(struct sl_store *s, struct sl_rx *rx)
{
    struct phone *p = rx->session < s->cfg.n_phones ? &s->phone[rx->session] : NULL;
    bool live = p && p->state >= STEP_GRANTED && rx->grant == p->grant && p->gradient_fragments;

    if (!p || rx->grant == 0 || (!live && rx->grant > p->last_grant)) {
        refuse(rx, SL_DROP_NO_GRANT);
        return;
    }
    if (!live) { /* rules T4: else a lost acknowledgement would be repeated for ever */
        rx->how = SL_SCRATCH;
        s->stats.fragments_scratch++;
        return;
    }
    if (!on_grid(p, rx)) {
        refuse(rx, SL_DROP_OFF_GRID);
        return;
    }
    if (rx->coded != 0) { /* only what goes up is compressed */
        refuse(rx, SL_DROP_BAD_CODING);
        return;
    }
    if (test_bit(p->have, rx->unit0)) {
        rx->how = SL_SCRATCH;
        s->stats.fragments_scratch++;
    } else if (test_bit(p->claimed, rx->unit0)) {
        rx->how = SL_DEFER;
    } else {
        set_bit(p->claimed, rx->unit0);
        rx->how = SL_PLACE;
        rx->dst = p->gradient + (size_t)rx->unit0 * SL_UNIT_BYTES;
    }
}

static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        place_one(sink, rx[i]);
}

/* The claim ends with the open; what was right counts. Should a frame have ended the step since place(), its
 * grant is still the phone's, so the books stay right, and nobody reads the buffer before the next step's
 * gradient is whole. */
static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct sl_store *s = sink;

    for (unsigned i = 0; i < n; i++) {
        struct phone *p = &s->phone[rx[i]->session];
        if (rx[i]->how != SL_PLACE || rx[i]->grant != p->grant)
            continue;
        clear_bit(p->claimed, rx[i]->unit0);
        if (!(ok_mask >> i & 1)) {
            s->stats.fragments_released++;
            continue;
        }
        set_bit(p->have, rx[i]->unit0);
        p->fragments_left--;
        s->stats.fragments_placed++;
    }
    for (unsigned i = 0; i < n; i++) {
        if (rx[i]->how == SL_PLACE && s->phone[rx[i]->session].state == STEP_SENT)
            finish_if_whole(s, rx[i]->session);
    }
}

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    struct sl_store *s = sink;

    return s->phone[session].message + (size_t)unit0 * SL_UNIT_BYTES;
}

/* Target ids are never coded (rules T1). */
static uint16_t compress(
    void *sink, uint32_t session, const uint8_t *units, uint32_t unit0, uint32_t n, uint8_t *out)
{
    struct sl_store *s = sink;

    if (!s->lz4 || unit0 + n > s->phone[session].grid.tensor_units)
        return 0;
    uint16_t coded = sl_lz4_compress(s->lz4, units, n, out);
    s->stats.fragments_compressed += coded != 0;
    s->stats.bytes_saved += coded != 0 ? n * SL_UNIT_BYTES - coded : 0;
    return coded;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    struct sl_store *s = sink;

    if (session < s->cfg.n_phones && s->phone[session].grant == grant)
        s->phone[session].sending = false;
}

const struct sl_sink_ops sl_store_sink = {
    .place = place, .commit = commit, .source = source, .compress = compress, .done = done, .frame = frame};
