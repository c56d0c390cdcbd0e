#include "harness.h"

#include "tests/pipeline/test.h"
#include "trainer/model/proximal.h"
#include "trainer/pipeline/factors.h"
#include "trainer/tensor/rng.h"

#include <stdlib.h>
#include <string.h>

uint64_t fake_now_ns = 1;

static uint64_t now(void)
{
    return fake_now_ns;
}

/* ------------------------------------------------------------------------------------------------------
 * slots */

struct sl_slots *fake_slots(uint32_t n, uint32_t max_rows)
{
    struct sl_slots *s = calloc(1, sizeof *s);
    s->n = n;
    s->slot = calloc(n, sizeof *s->slot);
    for (uint32_t i = 0; i < n; i++) {
        s->slot[i].handle = i;
        s->slot[i].data = aligned_alloc(64, ((size_t)max_rows * (WIDTH * 4 + 4) + 192) / 64 * 64);
    }
    return s;
}

void fake_slots_free(struct sl_slots *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        free(s->slot[i].data);
    free(s->slot);
    free(s);
}

struct sl_slot *sl_slot_get(struct sl_slots *s, uint32_t handle)
{
    return handle < s->n ? &s->slot[handle] : NULL;
}

uint32_t sl_slots_count(const struct sl_slots *s)
{
    return s->n;
}

static struct sl_slot *free_slot(struct sl_slots *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->slot[i].state == SL_SLOT_FREE)
            return &s->slot[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------
 * shapes */

struct sl_model_config tiny_config(enum sl_family family)
{
    return (struct sl_model_config){.family = family,
        .n_layers = LAYERS,
        .d_model = WIDTH,
        .n_heads = 4,
        .n_kv_heads = family == SL_FAMILY_LLAMA ? 2 : 4,
        .head_dim = WIDTH / 4,
        .d_ff = 64,
        .vocab = VOCAB,
        .max_positions = POSITIONS,
        .norm_eps = 1e-5f,
        .rope_theta = 10000,
        .tied_embeddings = true,
        .bos_id = -1,
        .eos_id = -1};
}

struct sl_lora_config tiny_lora(enum sl_family family, bool freeze_a)
{
    uint32_t targets = family == SL_FAMILY_LLAMA ? 1u << SL_Q_PROJ | 1u << SL_V_PROJ | 1u << SL_DOWN_PROJ
                                                 : 1u << SL_C_ATTN | 1u << SL_MLP_C_PROJ;
    return (struct sl_lora_config){
        .rank = 4, .alpha = 8, .targets = targets, .freeze_a = freeze_a, .seed = 5};
}

struct sl_optim_config sgd(float lr)
{
    return (struct sl_optim_config){.kind = SL_SGD, .lr = lr};
}

struct sl_optim_config adamw(float lr)
{
    return (struct sl_optim_config){.kind = SL_ADAMW, .lr = lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
}

const uint32_t *text_window(uint32_t i, uint32_t len)
{
    static uint32_t text[1 << 14];
    if (!text[0])
        for (uint32_t t = 0; t < 1 << 14; t++)
            text[t] =
                1 + (uint32_t)((sl_rng_u64(sl_rng_key(3, "text"), t) >> 20) % 40 + t % 7 * 8) % (VOCAB - 1);
    return text + (size_t)i * 61 % ((1 << 14) - len);
}

/* ------------------------------------------------------------------------------------------------------
 * phones */

void phone_init(struct phone *p, struct sl_model *model, const struct sl_lora_config *lora,
    const struct sl_optim_config *optim, enum sl_codec codec, uint32_t index, uint32_t cut, uint32_t max_rows)
{
    memset(p, 0, sizeof *p);
    p->model = model;
    p->optim = *optim;
    p->codec = codec;
    p->index = index;
    p->cut = cut;
    p->rank = lora->rank;
    p->max_rows = max_rows;
    assert_int_equal(sl_adapter_create(sl_model_config(model), lora, 0, cut, &p->adapter), 0);
    struct sl_half_config half = {.first = 0, .last = cut, .max_rows = max_rows, .max_seqs = 8};
    assert_int_equal(sl_half_create(model, p->adapter, &half, &p->half), 0);
    for (uint32_t l = 0; l < cut; l++)
        assert_int_equal(sl_moments_create(optim, sl_adapter_block(p->adapter, l).n, &p->moments[l]), 0);
    p->accumulate = 1;
    p->sum = calloc(LAYERS * sl_adapter_block(p->adapter, 0).n, sizeof *p->sum);
    p->x = malloc((size_t)max_rows * WIDTH * sizeof(float));
    p->dx = malloc((size_t)max_rows * WIDTH * sizeof(float));
}

void phone_forget(struct phone *p)
{
    p->slot = NULL;
}

void phone_recut(struct phone *p, uint32_t cut)
{
    struct sl_adapter *old = p->adapter;
    uint32_t both = cut < p->cut ? cut : p->cut;
    assert_null(p->slot); /* nothing in flight (rules L8) */
    assert_int_equal(
        sl_adapter_create(sl_model_config(p->model), sl_adapter_lora(old), 0, cut, &p->adapter), 0);
    for (uint32_t l = 0; l < both; l++)
        memcpy(sl_adapter_block(p->adapter, l).data, sl_adapter_block(old, l).data,
            sl_adapter_block(old, l).n * sizeof(float));
    for (uint32_t l = cut; l < p->cut; l++)
        sl_moments_free(&p->moments[l]);
    for (uint32_t l = p->cut; l < cut; l++)
        assert_int_equal(sl_moments_create(&p->optim, sl_adapter_block(p->adapter, l).n, &p->moments[l]), 0);
    sl_half_free(p->half);
    sl_adapter_free(old);
    struct sl_half_config half = {.first = 0, .last = cut, .max_rows = p->max_rows, .max_seqs = 8};
    assert_int_equal(sl_half_create(p->model, p->adapter, &half, &p->half), 0);
    p->cut = cut;
}

void phone_free(struct phone *p)
{
    sl_given_moments_free(p->given, p->next_cut - p->cut);
    sl_half_free(p->half);
    for (uint32_t l = 0; l < p->cut; l++)
        sl_moments_free(&p->moments[l]);
    sl_adapter_free(p->adapter);
    free(p->sum);
    free(p->x);
    free(p->dx);
}

bool phone_can_send(const struct phone *p, const struct sl_trainer_lcore lcores[])
{
    return !p->slot && free_slot(lcores[p->lcore].slots);
}

void phone_send(struct phone *p, const struct sl_trainer_lcore lcores[], const uint32_t *const *windows,
    const uint32_t *len, uint32_t n, enum sl_request_kind kind)
{
    struct sl_slot *s = free_slot(lcores[p->lcore].slots);
    assert_non_null(s);
    p->slot = s;
    p->n_seqs = n;
    p->rows = 0;
    s->state = SL_SLOT_READY;
    s->device = s->session = p->index;
    s->request = (struct sl_request){
        .step = ++p->step, .kind = (uint8_t)kind, .cut = (uint8_t)p->cut, .n_seqs = (uint16_t)n};
    for (uint32_t i = 0; i < n; i++) {
        p->seqs[i] = (struct sl_seq){.len = len[i] - 1, .ids = windows[i]};
        s->request.len[i] = (uint16_t)(len[i] - 1);
        p->rows += len[i] - 1;
    }
    assert_int_equal(sl_half_forward(p->half, p->seqs, n, p->x), 0);
    assert_int_equal(sl_grid_make(&s->grid, p->rows, WIDTH, p->codec, 1, 20), 0);
    sl_codec_encode(p->codec, p->x, s->data, (uint64_t)p->rows * WIDTH);
    uint32_t *targets = (uint32_t *)(void *)(s->data + (size_t)s->grid.tensor_units * 64);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(targets, windows[i] + 1, (len[i] - 1) * sizeof *targets);
        targets += len[i] - 1;
    }
    assert_int_equal(sl_ring_spsc_push(lcores[p->lcore].ready, &s->handle, 1), 1);
}

void phone_receive(struct phone *p)
{
    struct sl_slot *s = p->slot;
    p->loss = s->outcome.nll / p->rows;
    p->returned++;
    if (s->outcome.status == SL_RESULT_GRADIENT) {
        sl_codec_decode(p->codec, s->data, p->dx, (uint64_t)p->rows * WIDTH);
        sl_adapter_zero_grads(p->adapter);
        assert_int_equal(sl_half_backward(p->half, p->seqs, p->n_seqs, p->dx), 0);
        p->tokens_since += p->rows;
        p->sum_tokens += p->rows;
        bool steps = !p->gradients &&
                     (s->outcome.global_step % p->accumulate == 0 || s->outcome.flags & SL_RESULT_BOUNDARY);
        for (uint32_t l = 0; l < p->cut; l++) {
            struct sl_block b = sl_adapter_block(p->adapter, l);
            float *sum = p->sum + l * b.n;
            for (size_t i = 0; i < b.n; i++)
                sum[i] += b.grad[i];
            if (!steps)
                continue;
            sl_proximal_add(p->adapter, l, NULL, p->optim.proximal, (double)p->sum_tokens, sum);
            sl_optim_apply(
                &p->optim, &p->moments[l], b.data, sum, b.n, (double)p->sum_tokens, s->outcome.global_step);
            memset(sum, 0, b.n * sizeof *sum);
        }
        p->sum_tokens = steps ? 0 : p->sum_tokens;
    }
    s->state = SL_SLOT_FREE;
    p->slot = NULL;
}

size_t phone_weights(struct phone *p, float **weights)
{
    size_t block = sl_adapter_block(p->adapter, 0).n;
    *weights = malloc(p->cut * block * sizeof **weights);
    if (p->gradients)
        memcpy(*weights, p->sum, p->cut * block * sizeof **weights);
    for (uint32_t l = 0; l < p->cut && !p->gradients; l++)
        memcpy(*weights + l * block, sl_adapter_block(p->adapter, l).data, block * sizeof **weights);
    return p->cut * block;
}

void phone_install(struct phone *p, const float *g, uint64_t version)
{
    size_t block = sl_adapter_block(p->adapter, 0).n;
    for (uint32_t l = 0; l < p->cut; l++)
        memcpy(sl_adapter_block(p->adapter, l).data, g + l * block, block * sizeof *g);
    p->version = version;
    p->tokens_since = p->sum_tokens = 0;
    memset(p->sum, 0, LAYERS * block * sizeof *p->sum);
}

/* -------------------------------------------------------------------------------------------------------
 * world */

static uint8_t *last_checkpoint;
static size_t last_checkpoint_bytes;

static uint32_t device_index(void *app, const char *id)
{
    return (uint32_t)atoi(id + strlen("device-"));
}

/* G at the phone's rank. */
static void install(struct world *w, struct phone *p)
{
    const struct sl_model_config *shape = sl_model_config(w->model);
    struct sl_lora_config own = *sl_adapter_lora(p->adapter), lora = own;
    size_t block = sl_adapter_block_size(shape, &own);
    float *g = malloc(p->cut * block * sizeof *g);
    lora.rank = tiny_lora(shape->family, own.freeze_a).rank;
    sl_factors_prefix(shape, &lora, w->g, p->cut, own.rank, g);
    for (uint32_t l = 0; p->fresh_moments && l < p->cut; l++)
        if (memcmp(sl_adapter_block(p->adapter, l).data, g + l * block, block * sizeof *g))
            sl_moments_reset(&p->moments[l], block);
    phone_install(p, g, w->version);
    free(g);
}

void world_open(struct world *w, const struct world_config *c)
{
    memset(w, 0, sizeof *w);
    w->disk = c->disk;
    struct sl_model_config shape = tiny_config(c->family);
    struct sl_lora_config lora = tiny_lora(c->family, c->freeze_a);
    uint32_t max_rows = c->max_rows ? c->max_rows : 128, min_cut = LAYERS, min_rank = lora.rank;
    for (uint32_t i = 0; i < c->n_phones; i++)
        min_rank = c->rank[i] && c->rank[i] < min_rank ? c->rank[i] : min_rank;
    for (uint32_t i = 0; i < c->n_phones; i++)
        min_cut = c->cut[i] < min_cut ? c->cut[i] : min_cut;
    if (c->min_cut)
        min_cut = c->min_cut;
    assert_int_equal(sl_model_create(&shape, 11, &w->model), 0);
    w->n_lcores = c->n_lcores ? c->n_lcores : 1;
    for (uint32_t i = 0; i < w->n_lcores; i++)
        w->lcore[i] = (struct sl_trainer_lcore){.slots = fake_slots(c->slots ? c->slots : 8, max_rows),
            .ready = sl_ring_spsc_create(64),
            .returned = sl_ring_spsc_create(64)};
    w->n_phones = c->n_phones;
    char err[256];
    struct sl_trainer_config t = {.model = w->model,
        .lora = lora,
        .optim = c->optim,
        .codec = c->codec,
        .n_lcores = w->n_lcores,
        .gang = {.quorum = c->quorum > 0 ? c->quorum : 0.75,
            .deterministic = c->deterministic,
            .async = c->async,
            .n_devices = c->n_phones,
            .capacity = c->resident && c->resident < 8 ? c->resident : 8 * w->n_lcores,
            .max_devices = 8},
        .aggregation = c->gradients ? SL_AGGREGATE_GRADIENTS : SL_AGGREGATE_WEIGHTS,
        .aggregate_every = c->aggregate_every,
        .accumulate = c->accumulate,
        .svd = c->svd,
        .server = c->server,
        .mixed_ranks = min_rank < lora.rank,
        .steps = c->steps,
        .staleness = c->staleness,
        .min_cut = min_cut,
        .max_rows = c->gang_rows ? c->gang_rows : 8 * max_rows,
        .max_members = c->gang_max,
        .changes = c->changes,
        .n_changes = c->n_changes,
        .eval_rows = 2 * max_rows,
        .personal = {.resident = c->resident, .max_cut = LAYERS - 1, .index = device_index},
        .run = 77,
        .incarnation = 1,
        .resume = c->resume,
        .now_ns = now};
    memcpy(t.lcore, w->lcore, sizeof t.lcore);
    w->config = t;
    int status = sl_trainer_create(&t, &w->trainer, err, sizeof err);
    if (status)
        fail_msg("%s", err);
    for (uint32_t i = 0; i < c->n_phones; i++) {
        struct sl_lora_config own = lora;
        own.rank = c->rank[i] ? c->rank[i] : lora.rank;
        own.alpha = lora.alpha * (float)own.rank / (float)lora.rank;
        phone_init(&w->phones[i], w->model, &own, &c->optim, c->codec, i, c->cut[i], max_rows);
        w->phones[i].fresh_moments = c->svd;
        w->phones[i].lcore = c->lcore[i];
        w->phones[i].class = c->class[i];
        w->phones[i].gradients = c->gradients;
        w->phones[i].accumulate = c->accumulate ? c->accumulate : 1;
        world_join(w, i);
    }
    world_run(w);
    for (uint32_t i = 0; i < c->n_phones; i++)
        install(w, &w->phones[i]);
}

void world_close(struct world *w)
{
    sl_trainer_free(w->trainer);
    for (uint32_t i = 0; i < w->n_phones; i++)
        phone_free(&w->phones[i]);
    for (uint32_t i = 0; i < 8; i++)
        free(w->pushes[i]);
    for (uint32_t i = 0; i < w->n_lcores; i++) {
        fake_slots_free(w->lcore[i].slots);
        sl_ring_spsc_free(w->lcore[i].ready);
        sl_ring_spsc_free(w->lcore[i].returned);
    }
    sl_model_free(w->model);
    free(w->g);
    free(last_checkpoint);
    last_checkpoint = NULL;
}

static struct sl_command *command(struct world *w, enum sl_command_kind kind)
{
    struct sl_command *c = sl_trainer_command(w->trainer);
    assert_non_null(c);
    c->kind = kind;
    return c;
}

void world_join(struct world *w, uint32_t device)
{
    struct sl_command *c = command(w, SL_COMMAND_JOIN);
    c->device = c->session = device;
    c->lcore = w->phones[device].lcore;
    c->cut = w->phones[device].cut;
    c->rank = w->phones[device].rank;
    c->class = w->phones[device].class;
    snprintf(c->id, sizeof c->id, "device-%05u", device);
    sl_trainer_post(w->trainer, c);
}

void world_phase(struct world *w, enum sl_trainer_phase phase)
{
    struct sl_command *c = command(w, SL_COMMAND_PHASE);
    c->phase = phase;
    sl_trainer_post(w->trainer, c);
    sl_trainer_turn(w->trainer);
}

void world_push(struct world *w, struct phone *p)
{
    p->pushes++;
    struct sl_command *c = command(w, SL_COMMAND_PUSH);
    c->device = p->index;
    c->push.kind = p->gradients ? SL_PUSH_GRADIENTS : SL_PUSH_WEIGHTS;
    c->push.version = p->version;
    c->push.tokens = p->tokens_since;
    c->push.step = p->step;
    c->push.last = p->cut;
    c->push.n = phone_weights(p, &c->push.weights);
    if (w->keep_pushes) {
        free(w->pushes[p->index]);
        phone_weights(p, &w->pushes[p->index]);
    }
    sl_trainer_post(w->trainer, c);
}

static void take_checkpoint(struct world *w, uint8_t *image, size_t bytes)
{
    if (!image)
        return;
    free(last_checkpoint);
    last_checkpoint = image;
    last_checkpoint_bytes = bytes;
    sl_image_sign(last_checkpoint, last_checkpoint_bytes);
    w->checkpoints++;
    if (!w->disk)
        return;
    struct sl_command *c = command(w, SL_COMMAND_CHECKPOINTED);
    c->on_disk = true;
    sl_trainer_post(w->trainer, c);
}

/* One block's moments on their way to the edge. */
static void push_moments(struct world *w, struct phone *p, uint32_t layer)
{
    size_t n = sl_adapter_block(p->adapter, layer).n;
    struct sl_command *c = command(w, SL_COMMAND_PUSH);
    c->device = p->index;
    c->push.kind = SL_PUSH_MOMENTS;
    c->push.first = layer;
    c->push.last = layer + 1;
    c->push.step = p->moments[layer].t;
    c->push.n = 2 * n;
    c->push.weights = malloc(2 * n * sizeof(float));
    memcpy(c->push.weights, p->moments[layer].m, n * sizeof(float));
    memcpy(c->push.weights + n, p->moments[layer].v, n * sizeof(float));
    sl_trainer_post(w->trainer, c);
    w->moments_to_edge++;
}

/* With the G that comes (rules L9). */
static void change_cut(struct world *w, struct phone *p)
{
    uint32_t from = p->cut, to = p->next_cut;
    for (uint32_t l = to; l < from && p->give_moments && !w->keep_moments; l++)
        push_moments(w, p, l);
    phone_recut(p, to);
    for (uint32_t l = from; l < to && p->given; l++) {
        struct sl_given_moments *g = &p->given[l - from];
        size_t n = sl_adapter_block(p->adapter, l).n;
        if (!g->m_v)
            continue;
        p->moments[l].t = g->t;
        memcpy(p->moments[l].m, g->m_v, n * sizeof(float));
        memcpy(p->moments[l].v, g->m_v + n, n * sizeof(float));
        w->moments_to_phones++;
    }
    sl_given_moments_free(p->given, to - from);
    p->given = NULL;
    p->next_cut = 0;
}

static void world_install(struct world *w, uint32_t device)
{
    struct phone *p = &w->phones[device];
    if (p->next_cut)
        change_cut(w, p);
    install(w, p);
}

static void take_version(struct world *w, struct sl_event *e)
{
    free(w->g);
    w->g = e->version.g;
    w->version = e->version.version;
    w->factor_error = e->version.factor_error;
    w->left_out += e->version.left_out;
    for (uint32_t i = 0; i < e->version.n_devices; i++)
        world_install(w, e->version.devices[i]);
    free(e->version.devices);
    free(e->version.steps);
    take_checkpoint(w, e->version.checkpoint, e->version.checkpoint_bytes);
}

static void take_event(struct world *w, struct sl_event *e)
{
    switch (e->kind) {
    case SL_EVENT_STEP:
        w->loss = e->step.nll / (double)e->step.tokens;
        w->global_step = e->step.global_step;
        w->step_devices = e->step.devices;
        w->step_tokens = e->step.tokens;
        break;
    case SL_EVENT_EVAL:
        for (uint32_t i = 0; i < e->eval.n; i++)
            w->eval_nll[w->n_evals++] = e->eval.nll[i];
        break;
    case SL_EVENT_VERSION:
        take_version(w, e);
        break;
    case SL_EVENT_INSTALL:
        w->installs++;
        world_install(w, e->device);
        break;
    case SL_EVENT_STALE:
        w->stale++;
        break;
    case SL_EVENT_CUT:
        w->cuts++;
        w->phones[e->device].next_cut = e->cut.to;
        w->phones[e->device].give_moments = e->cut.give_moments;
        w->phones[e->device].given = e->cut.moments;
        break;
    case SL_EVENT_OLD_CUT:
        w->old_cuts++;
        break;
    case SL_EVENT_KEPT:
        w->kept++;
        if (e->kept.tell_device) {
            w->phones[e->device].version = e->kept.version;
            w->phones[e->device].tokens_since = 0;
        }
        break;
    case SL_EVENT_CHECKPOINT:
        w->stats = e->checkpoint.stats;
        take_checkpoint(w, e->checkpoint.image, e->checkpoint.bytes);
        break;
    case SL_EVENT_REFUSED:
        w->refused++;
        break;
    case SL_EVENT_PUSH_REFUSED:
        w->push_refused++;
        break;
    case SL_EVENT_SKIPPED:
        w->skipped++;
        break;
    case SL_EVENT_DIVERGED:
        w->diverged++;
        break;
    case SL_EVENT_FINISHED:
        w->finished++;
        break;
    }
    sl_trainer_release(w->trainer, e);
}

/* What came back by a lcore's ring is a slot of that lcore's. */
static bool take_returned(struct world *w, const struct sl_trainer_lcore *lcore)
{
    bool any = false;
    uint32_t handle;
    while (sl_ring_spsc_pop(lcore->returned, &handle, 1)) {
        struct sl_slot *s = sl_slot_get(lcore->slots, handle);
        struct phone *p = &w->phones[s->device];
        if (p->slot != s) { /* of a connection that is gone */
            s->state = SL_SLOT_FREE;
            continue;
        }
        bool push = s->outcome.flags & SL_RESULT_BOUNDARY;
        assert_ptr_equal(p->slot, s);
        phone_receive(p);
        if (push)
            world_push(w, p);
        any = true;
    }
    return any;
}

bool world_turn(struct world *w)
{
    struct sl_event *e;
    bool worked = sl_trainer_turn(w->trainer);
    for (uint32_t i = 0; i < w->n_lcores; i++)
        worked = take_returned(w, &w->lcore[i]) || worked;
    while ((e = sl_trainer_event(w->trainer)))
        take_event(w, e);
    return (w->disk && w->disk(w)) || worked;
}

void world_run(struct world *w)
{
    while (world_turn(w))
        ;
}

struct sl_checkpoint *world_checkpoint(struct world *w)
{
    (void)w;
    char err[256];
    struct sl_checkpoint *c = malloc(sizeof *c);
    assert_non_null(last_checkpoint);
    if (sl_checkpoint_decode(last_checkpoint, last_checkpoint_bytes, c, err, sizeof err))
        fail_msg("%s", err);
    return c;
}

void world_restart(
    struct world *w, struct world_config *config, struct sl_checkpoint *checkpoint, uint64_t step)
{
    world_close(w);
    config->resume = checkpoint;
    world_open(w, config);
    sl_checkpoint_clear(checkpoint);
    free(checkpoint);
    for (uint32_t d = 0; d < w->n_phones; d++)
        w->phones[d].step = step;
    world_phase(w, SL_TRAINER_TRAIN);
}

float *world_g(struct world *w, size_t *n)
{
    *n = sl_model_config(w->model)->n_layers *
         sl_adapter_block_size(sl_model_config(w->model), &w->config.lora);
    float *g = malloc(*n * sizeof *g);
    assert_non_null(g);
    memcpy(g, w->g, *n * sizeof *g);
    return g;
}

/* -----------------------------------------------------------------------------------------------------
 * central */

void central_init(struct central *c, struct sl_model *model, const struct sl_lora_config *lora,
    const struct sl_optim_config *optim, uint32_t max_rows)
{
    memset(c, 0, sizeof *c);
    c->optim = *optim;
    assert_int_equal(sl_adapter_create(sl_model_config(model), lora, 0, LAYERS, &c->adapter), 0);
    c->sum = calloc(LAYERS * sl_adapter_block(c->adapter, 0).n, sizeof *c->sum);
    struct sl_half_config half = {.first = 0, .last = LAYERS, .max_rows = max_rows, .max_seqs = 16};
    assert_int_equal(sl_half_create(model, c->adapter, &half, &c->half), 0);
    for (uint32_t l = 0; l < LAYERS; l++)
        assert_int_equal(sl_moments_create(optim, sl_adapter_block(c->adapter, l).n, &c->moments[l]), 0);
}

double central_step(struct central *c, const uint32_t *const *windows, const uint32_t *len, uint32_t n)
{
    struct sl_seq seqs[16] = {0};
    double nll = 0;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < n; i++) {
        seqs[i] = (struct sl_seq){.len = len[i] - 1, .ids = windows[i], .targets = windows[i] + 1};
        tokens += len[i] - 1;
    }
    assert_int_equal(sl_half_forward(c->half, seqs, n, NULL), 0);
    for (uint32_t i = 0; i < n; i++)
        nll += seqs[i].nll;
    sl_adapter_zero_grads(c->adapter);
    assert_int_equal(sl_half_backward(c->half, seqs, n, NULL), 0);
    c->sum_tokens += tokens;
    bool steps = ++c->steps % (c->accumulate ? c->accumulate : 1) == 0;
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block b = sl_adapter_block(c->adapter, l);
        float *sum = c->sum + l * b.n;
        for (size_t i = 0; i < b.n; i++)
            sum[i] += b.grad[i];
        if (!steps)
            continue;
        sl_proximal_add(c->adapter, l, NULL, c->optim.proximal, (double)c->sum_tokens, sum);
        sl_optim_apply(&c->optim, &c->moments[l], b.data, sum, b.n, (double)c->sum_tokens, c->steps);
        memset(sum, 0, b.n * sizeof *sum);
    }
    c->sum_tokens = steps ? 0 : c->sum_tokens;
    return nll / (double)tokens;
}

void central_free(struct central *c)
{
    free(c->sum);
    sl_half_free(c->half);
    for (uint32_t l = 0; l < LAYERS; l++)
        sl_moments_free(&c->moments[l]);
    sl_adapter_free(c->adapter);
}
