#include "dataplane/wire/frame.h"

#include "dataplane/wire/bytes.h"

#include <stdbool.h>
#include <string.h>

/* Lengths on the wire; docs/protocol.md draws each. */
enum {
    PING_BYTES = 1,
    ACK_BYTES = 1 + 1 + 4 + 8 + 4, /* with one range */
    ACK_RANGE_BYTES = 4 + 4,       /* each further one */
    REQUEST_BYTES = 1 + 1 + 1 + 1 + 4 + 8,
    REQUEST_LEN_BYTES = 2,
    GRANT_BYTES = 1 + 3 + 4 + 8 + 4 + 4,
    RESULT_BYTES = 1 + 1 + 1 + 1 + 4 + 8 + 8 + 4 + 8,
    STEP_LOST_BYTES = 1 + 1 + 2 + 4 + 8,
    PATH_BYTES = 1 + 8,
};

/* ---- ACK: the highest range in full, each further one by its distance below the one before ---- */

static bool ack_valid(const struct sl_ack *a)
{
    if (a->n_ranges == 0 || a->n_ranges > SL_ACK_RANGES_MAX)
        return false;
    for (unsigned i = 0; i < a->n_ranges; i++) {
        const struct sl_ack_range *r = &a->range[i];
        if (r->first > r->last || r->last - r->first > UINT32_MAX)
            return false;
        if (i == 0)
            continue;
        uint64_t above = a->range[i - 1].first;
        if (r->last >= above || above - r->last < 2 || above - r->last - 1 > UINT32_MAX)
            return false;
    }
    return true;
}

static size_t ack_encode(const struct sl_ack *a, uint8_t *p, size_t cap)
{
    if (!ack_valid(a))
        return 0;
    size_t len = ACK_BYTES + (a->n_ranges - 1u) * ACK_RANGE_BYTES;
    if (len > cap)
        return 0;
    p[1] = (uint8_t)a->n_ranges;
    sl_put32(p + 2, a->delay_us);
    sl_put64(p + 6, a->range[0].last);
    sl_put32(p + 14, (uint32_t)(a->range[0].last - a->range[0].first));
    p += ACK_BYTES;
    for (unsigned i = 1; i < a->n_ranges; i++, p += ACK_RANGE_BYTES) {
        sl_put32(p, (uint32_t)(a->range[i - 1].first - a->range[i].last - 1));
        sl_put32(p + 4, (uint32_t)(a->range[i].last - a->range[i].first));
    }
    return len;
}

static size_t ack_decode(const uint8_t *p, size_t len, struct sl_ack *a)
{
    if (len < ACK_BYTES)
        return 0;
    unsigned n = p[1];
    if (n == 0 || n > SL_ACK_RANGES_MAX)
        return 0;
    size_t need = ACK_BYTES + (n - 1) * (size_t)ACK_RANGE_BYTES;
    if (len < need)
        return 0;
    a->n_ranges = (uint16_t)n;
    a->delay_us = sl_get32(p + 2);
    a->range[0].last = sl_get64(p + 6);
    uint64_t below = sl_get32(p + 14);
    if (below > a->range[0].last)
        return 0;
    a->range[0].first = a->range[0].last - below;
    p += ACK_BYTES;
    for (unsigned i = 1; i < n; i++, p += ACK_RANGE_BYTES) {
        uint64_t missing = sl_get32(p), above = a->range[i - 1].first;
        below = sl_get32(p + 4);
        if (missing == 0 || above < missing + 1 + below)
            return 0;
        a->range[i].last = above - missing - 1;
        a->range[i].first = a->range[i].last - below;
    }
    return need;
}

/* ---- the rest ---- */

static size_t request_encode(const struct sl_request *r, uint8_t *p, size_t cap)
{
    if (r->kind > SL_REQUEST_EVAL || r->n_seqs == 0 || r->n_seqs > SL_SEQS_MAX)
        return 0;
    size_t len = REQUEST_BYTES + (size_t)r->n_seqs * REQUEST_LEN_BYTES;
    if (len > cap)
        return 0;
    p[1] = r->kind;
    p[2] = r->cut;
    p[3] = (uint8_t)r->n_seqs;
    sl_put32(p + 4, r->ready_in_ms);
    sl_put64(p + 8, r->step);
    for (unsigned i = 0; i < r->n_seqs; i++) {
        if (r->len[i] == 0)
            return 0;
        sl_put16(p + REQUEST_BYTES + i * REQUEST_LEN_BYTES, r->len[i]);
    }
    return len;
}

static size_t request_decode(const uint8_t *p, size_t len, struct sl_request *r)
{
    if (len < REQUEST_BYTES)
        return 0;
    r->kind = p[1];
    r->cut = p[2];
    r->n_seqs = p[3];
    if (r->kind > SL_REQUEST_EVAL || r->n_seqs == 0 || r->n_seqs > SL_SEQS_MAX)
        return 0;
    size_t need = REQUEST_BYTES + (size_t)r->n_seqs * REQUEST_LEN_BYTES;
    if (len < need)
        return 0;
    r->ready_in_ms = sl_get32(p + 4);
    r->step = sl_get64(p + 8);
    for (unsigned i = 0; i < r->n_seqs; i++) {
        r->len[i] = sl_get16(p + REQUEST_BYTES + i * REQUEST_LEN_BYTES);
        if (r->len[i] == 0)
            return 0;
    }
    return need;
}

static size_t grant_encode(const struct sl_grant *g, uint8_t *p, size_t cap)
{
    if (cap < GRANT_BYTES || g->index == 0)
        return 0;
    memset(p + 1, 0, 3);
    sl_put32(p + 4, g->index);
    sl_put64(p + 8, g->step);
    sl_put32(p + 16, g->cumulative);
    sl_put32(p + 20, g->expiry_ms);
    return GRANT_BYTES;
}

static size_t grant_decode(const uint8_t *p, size_t len, struct sl_grant *g)
{
    if (len < GRANT_BYTES || p[1] != 0 || p[2] != 0 || p[3] != 0)
        return 0;
    g->index = sl_get32(p + 4);
    g->step = sl_get64(p + 8);
    g->cumulative = sl_get32(p + 16);
    g->expiry_ms = sl_get32(p + 20);
    return g->index == 0 ? 0 : GRANT_BYTES;
}

static size_t result_encode(const struct sl_result *r, uint8_t *p, size_t cap)
{
    uint64_t nll;
    if (cap < RESULT_BYTES || r->status > SL_RESULT_SKIPPED || (r->flags & ~SL_RESULT_BOUNDARY) != 0)
        return 0;
    p[1] = r->status;
    p[2] = r->flags;
    p[3] = 0;
    sl_put32(p + 4, r->grant);
    sl_put64(p + 8, r->step);
    sl_put64(p + 16, r->global_step);
    sl_put32(p + 24, r->tokens);
    memcpy(&nll, &r->nll, sizeof(nll));
    sl_put64(p + 28, nll);
    return RESULT_BYTES;
}

static size_t result_decode(const uint8_t *p, size_t len, struct sl_result *r)
{
    if (len < RESULT_BYTES || p[3] != 0)
        return 0;
    r->status = p[1];
    r->flags = p[2];
    if (r->status > SL_RESULT_SKIPPED || (r->flags & ~SL_RESULT_BOUNDARY) != 0)
        return 0;
    r->grant = sl_get32(p + 4);
    r->step = sl_get64(p + 8);
    r->global_step = sl_get64(p + 16);
    r->tokens = sl_get32(p + 24);
    uint64_t nll = sl_get64(p + 28);
    memcpy(&r->nll, &nll, sizeof(nll));
    return RESULT_BYTES;
}

static bool lost_reason_known(uint8_t reason)
{
    return reason >= SL_LOST_EXPIRED && reason <= SL_LOST_STALE;
}

static size_t step_lost_encode(const struct sl_step_lost *l, uint8_t *p, size_t cap)
{
    if (cap < STEP_LOST_BYTES || !lost_reason_known(l->reason))
        return 0;
    p[1] = l->reason;
    sl_put16(p + 2, 0);
    sl_put32(p + 4, l->grant);
    sl_put64(p + 8, l->step);
    return STEP_LOST_BYTES;
}

static size_t step_lost_decode(const uint8_t *p, size_t len, struct sl_step_lost *l)
{
    if (len < STEP_LOST_BYTES || !lost_reason_known(p[1]) || sl_get16(p + 2) != 0)
        return 0;
    l->reason = p[1];
    l->grant = sl_get32(p + 4);
    l->step = sl_get64(p + 8);
    return STEP_LOST_BYTES;
}

size_t sl_frame_encode(const struct sl_frame *f, uint8_t *p, size_t cap)
{
    if (cap == 0)
        return 0;
    size_t len = 0;
    switch (f->type) {
    case SL_FRAME_PADDING:
    case SL_FRAME_PING:
        len = PING_BYTES;
        break;
    case SL_FRAME_ACK:
        len = ack_encode(&f->ack, p, cap);
        break;
    case SL_FRAME_REQUEST:
        len = request_encode(&f->request, p, cap);
        break;
    case SL_FRAME_GRANT:
        len = grant_encode(&f->grant, p, cap);
        break;
    case SL_FRAME_RESULT:
        len = result_encode(&f->result, p, cap);
        break;
    case SL_FRAME_STEP_LOST:
        len = step_lost_encode(&f->step_lost, p, cap);
        break;
    case SL_FRAME_PATH_CHALLENGE:
    case SL_FRAME_PATH_RESPONSE:
        if (cap < PATH_BYTES)
            return 0;
        sl_put64(p + 1, f->challenge);
        len = PATH_BYTES;
        break;
    }
    if (len != 0)
        p[0] = f->type;
    return len;
}

size_t sl_frame_decode(const uint8_t *p, size_t len, struct sl_frame *f)
{
    if (len == 0)
        return 0;
    f->type = p[0];
    switch (p[0]) {
    case SL_FRAME_PADDING: {
        size_t run = 1;
        while (run < len && p[run] == SL_FRAME_PADDING)
            run++;
        return run;
    }
    case SL_FRAME_PING:
        return PING_BYTES;
    case SL_FRAME_ACK:
        return ack_decode(p, len, &f->ack);
    case SL_FRAME_REQUEST:
        return request_decode(p, len, &f->request);
    case SL_FRAME_GRANT:
        return grant_decode(p, len, &f->grant);
    case SL_FRAME_RESULT:
        return result_decode(p, len, &f->result);
    case SL_FRAME_STEP_LOST:
        return step_lost_decode(p, len, &f->step_lost);
    case SL_FRAME_PATH_CHALLENGE:
    case SL_FRAME_PATH_RESPONSE:
        if (len < PATH_BYTES)
            return 0;
        f->challenge = sl_get64(p + 1);
        return PATH_BYTES;
    }
    return 0;
}
