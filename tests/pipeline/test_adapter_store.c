/* The store of personal adapters against a plain table, over random histories and a disk that takes its time;
 * what a checkpoint names is there after a crash, whatever was written since. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"
#include "trainer/pipeline/adapter_store.h"
#include "trainer/tensor/rng.h"

#include <errno.h>

#include <stdlib.h>
#include <string.h>

enum { FIRST = 1, MAX_CUT = 2, OPS = 64 };

/* -------------------------------------------------------------------------------------------------- the disk
 */

struct disk {
    struct sl_adapter_store *store;
    struct sl_adapter_record_shape shape;
    uint8_t *bytes;
    uint32_t places;
    struct sl_disk_op *ops[OPS];
    uint32_t n, fail_after; /* fail_after: operations until it breaks; 0: never */
    uint32_t fetched, fetched_initial;
    uint64_t fetched_version;
    float fetched_front;
};

static uint8_t *place_bytes(struct disk *d, uint32_t place)
{
    size_t record = sl_adapter_record_bytes(&d->shape);
    if (place >= d->places) {
        uint32_t n = 2 * (place + 1); /* not one by one */
        d->bytes = realloc(d->bytes, n * record);
        memset(d->bytes + d->places * record, 0xee, (n - d->places) * record);
        d->places = n;
    }
    return d->bytes + place * record;
}

static int carry_out(struct disk *d, struct sl_disk_op *op, char *why, size_t cap)
{
    size_t edge = sl_adapter_record_edge_bytes(&d->shape);
    float front[MAX_CUT * 4096];
    if (d->fail_after && --d->fail_after == 0) {
        snprintf(why, cap, "the disk is broken");
        return -EIO;
    }
    switch (op->kind) {
    case SL_DISK_LOAD:
        if (op->place == SL_PLACE_NONE) {
            sl_adapter_store_make_initial(d->store, op->frame);
            return 0;
        }
        return sl_adapter_record_decode(&d->shape, op->head.id, place_bytes(d, op->place), op->frame->adapter,
            op->frame->moments, &op->head, why, cap);
    case SL_DISK_SAVE:
        sl_adapter_record_encode(
            &d->shape, &op->head, op->frame->adapter, op->frame->moments, place_bytes(d, op->place));
        if (op->front)
            sl_adapter_record_encode_front(&d->shape, &op->head, op->front, place_bytes(d, op->place) + edge);
        return 0;
    case SL_DISK_FETCH:
        d->fetched++;
        if (op->place == SL_PLACE_NONE) {
            d->fetched_initial++;
            return 0;
        }
        assert_true(d->shape.block * MAX_CUT <= sizeof front / sizeof *front);
        int status = sl_adapter_record_decode_front(
            &d->shape, op->head.id, place_bytes(d, op->place) + edge, front, NULL, why, cap);
        d->fetched_version = op->head.version;
        d->fetched_front = front[0];
        return status;
    }
    return -EINVAL;
}

static void take_ops(struct disk *d)
{
    struct sl_disk_op *op;
    while (d->n < OPS && (op = sl_adapter_store_take(d->store)))
        d->ops[d->n++] = op;
}

/* Carries out one of those under way, any that no elder one on the same place stands before. */
static bool work(struct disk *d, uint32_t which)
{
    char why[256] = "";
    take_ops(d);
    if (!d->n)
        return false;
    uint32_t i = which % d->n;
    for (uint32_t k = 0; k < i; k++)
        if (d->ops[k]->place == d->ops[i]->place ||
            (d->ops[i]->frame && d->ops[k]->frame == d->ops[i]->frame))
            i = k, k = UINT32_MAX;
    struct sl_disk_op *op = d->ops[i];
    memmove(d->ops + i, d->ops + i + 1, (--d->n - i) * sizeof *d->ops);
    int status = carry_out(d, op, why, sizeof why);
    op->done_ns = op->asked_ns;
    sl_adapter_store_done(d->store, op, status, why);
    return true;
}

/* --------------------------------------------------------------------------------------------------- the
 * twin
 */

struct twin {
    bool known, wanted, usable;
    uint32_t now, boundary, durable, pending; /* times trained */
    uint64_t version, durable_version, pending_version, step;
};

struct store_world {
    struct sl_model_config shape;
    struct sl_adapter_store_config config;
    struct sl_adapter_store *store;
    struct disk disk;
    struct twin *twins;
    float *initial;
    uint64_t random, at;
};

static void usable(void *app, uint32_t device, uint64_t since_ns)
{
    struct store_world *w = app;
    assert_true(w->twins[device].wanted);
    assert_false(w->twins[device].usable);
    w->twins[device].usable = true;
}

static uint32_t draw(struct store_world *w, uint32_t below)
{
    return (uint32_t)(sl_rng_u64(w->random, w->at++) >> 33) % below;
}

static void open_store(struct store_world *w)
{
    assert_int_equal(sl_adapter_store_create(&w->config, &w->store), 0);
    w->disk.store = w->store;
    w->disk.n = 0;
    sl_adapter_store_shape(w->store, &w->disk.shape);
}

static void open_all(struct store_world *w, uint32_t devices, uint32_t resident, struct sl_optim_config optim)
{
    memset(w, 0, sizeof *w);
    w->shape = tiny_config(SL_FAMILY_LLAMA);
    w->random = sl_rng_key(9, "store");
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    size_t block = sl_adapter_block_size(&w->shape, &lora);
    w->initial = malloc(LAYERS * block * sizeof(float));
    for (size_t i = 0; i < LAYERS * block; i++)
        w->initial[i] = 0.5f;
    w->twins = calloc(devices, sizeof *w->twins);
    w->config = (struct sl_adapter_store_config){.model = &w->shape,
        .lora = lora,
        .optim = optim,
        .first = FIRST,
        .max_cut = MAX_CUT,
        .max_devices = devices,
        .resident = resident,
        .initial = w->initial,
        .usable = usable,
        .app = w};
    open_store(w);
}

static void close_all(struct store_world *w)
{
    sl_adapter_store_free(w->store);
    free(w->disk.bytes);
    free(w->twins);
    free(w->initial);
}

static void name(uint32_t device, char id[SL_ADAPTER_RECORD_ID_BYTES])
{
    snprintf(id, SL_ADAPTER_RECORD_ID_BYTES, "device-%05u", device);
}

static void know(struct store_world *w, uint32_t device)
{
    char id[SL_ADAPTER_RECORD_ID_BYTES];
    name(device, id);
    sl_adapter_store_know(w->store, device, id);
    w->twins[device].known = true;
}

/* What is in the frame is what was trained: first and last float, and the steps of the last block. */
static void check_frame(struct store_world *w, uint32_t device)
{
    struct sl_adapter_frame *f = sl_adapter_store_frame(w->store, device);
    struct sl_block first = sl_adapter_block(f->adapter, FIRST),
                    last = sl_adapter_block(f->adapter, LAYERS - 1);
    const struct sl_moments *m = &f->moments[LAYERS - 1 - FIRST];
    float expected = 0.5f + (float)w->twins[device].now * (float)(device + 1);
    assert_true(first.data[0] == expected);
    assert_true(last.data[last.n - 1] == expected);
    assert_int_equal(m->t, w->twins[device].now);
    if (m->v)
        assert_true(m->v[last.n - 1] == expected - 0.5f);
}

static void train(struct store_world *w, uint32_t device)
{
    struct twin *t = &w->twins[device];
    check_frame(w, device);
    struct sl_adapter_frame *f = sl_adapter_store_frame(w->store, device);
    for (uint32_t l = FIRST; l < LAYERS; l++) {
        struct sl_block b = sl_adapter_block(f->adapter, l);
        struct sl_moments *m = &f->moments[l - FIRST];
        for (size_t i = 0; i < b.n; i++) {
            b.data[i] += (float)(device + 1);
            if (m->v)
                m->v[i] = b.data[i] - 0.5f;
        }
        m->t++;
    }
    t->now++;
    sl_adapter_store_stepped(w->store, device, ++t->step);
}

static void unwant(struct store_world *w, uint32_t device)
{
    sl_adapter_store_unwant(w->store, device);
    w->twins[device].wanted = w->twins[device].usable = false;
}

static void push(struct store_world *w, uint32_t device)
{
    struct twin *t = &w->twins[device];
    size_t n = MAX_CUT * w->disk.shape.block;
    float *front = malloc(n * sizeof *front);
    for (size_t i = 0; i < n; i++)
        front[i] = (float)t->now;
    t->step += draw(w, 2); /* a step that was skipped counts, too */
    uint64_t version = sl_adapter_store_push(w->store, device, front, MAX_CUT, t->step, w->at);
    if (!version)
        return;
    assert_int_equal(version, ++t->version);
    t->boundary = t->now;
    t->usable = false; /* until it is written */
}

static void drain(struct store_world *w)
{
    do
        sl_adapter_store_turn(w->store, ++w->at);
    while (work(&w->disk, 0));
    assert_null(sl_adapter_store_error(w->store));
}

static void random_act(struct store_world *w)
{
    uint32_t device = draw(w, w->config.max_devices);
    struct twin *t = &w->twins[device];
    if (!t->known)
        know(w, device);
    switch (draw(w, 8)) {
    case 0:
    case 1:
    case 2:
        if (!t->wanted) {
            t->wanted = true;
            sl_adapter_store_want(w->store, device, w->at);
        } else if (t->usable) {
            train(w, device);
            unwant(w, device);
        }
        break;
    case 3:
        sl_adapter_store_hint(w->store, device, w->at);
        break;
    case 4:
        if (!t->wanted)
            push(w, device);
        break;
    case 5:
        if (draw(w, 4) == 0) { /* it left, and comes back with nothing of its own */
            unwant(w, device);
            sl_adapter_store_roll_back(w->store, device);
            t->now = t->boundary;
        }
        break;
    case 6:
        if (!t->usable && t->wanted && draw(w, 4) == 0)
            unwant(w, device);
        sl_adapter_store_fetch(w->store, device, 1, w->at);
        break;
    default:
        for (uint32_t i = draw(w, 4); i > 0; i--)
            work(&w->disk, draw(w, OPS));
        sl_adapter_store_turn(w->store, w->at);
        break;
    }
    assert_null(sl_adapter_store_error(w->store));
}

static void checkpoint(struct store_world *w, bool on_disk)
{
    for (uint32_t i = 0; i < w->config.max_devices; i++) {
        struct sl_adapter_boundary b;
        if (sl_adapter_store_boundary(w->store, i, &b) && on_disk) {
            /* A push that is not written is not in it. */
            w->twins[i].durable_version = b.version;
        }
    }
    sl_adapter_store_checkpoint_begin(w->store);
    for (uint32_t i = draw(w, 40); i > 0; i--)
        random_act(w);
    sl_adapter_store_checkpoint_end(w->store, on_disk);
}

static void store__gives_back_what_was_trained(void **state)
{
    struct store_world w;
    static const struct sl_optim_config optims[] = {{.kind = SL_ADAMW, .lr = 1}, {.kind = SL_SGD, .lr = 1}};
    for (unsigned o = 0; o < 2; o++) {
        open_all(&w, 40, o ? 3 : 8, optims[o]);
        for (uint32_t i = 0; i < 20000; i++) {
            random_act(&w);
            if (i % 500 == 0)
                checkpoint(&w, draw(&w, 4) > 0);
        }
        drain(&w);
        for (uint32_t i = 0; i < 40; i++) {
            if (!w.twins[i].known)
                continue;
            unwant(&w, i);
        }
        for (uint32_t i = 0; i < 40; i++) {
            if (!w.twins[i].known)
                know(&w, i);
            w.twins[i].wanted = true;
            sl_adapter_store_want(w.store, i, w.at);
            drain(&w);
            assert_true(w.twins[i].usable);
            check_frame(&w, i);
            unwant(&w, i);
        }
        struct sl_adapter_store_stats s;
        sl_adapter_store_stats(w.store, &s);
        print_message("%llu evictions, %llu loads, %llu hits, %llu misses, %llu saves\n",
            (unsigned long long)s.evictions, (unsigned long long)s.loads, (unsigned long long)s.hits,
            (unsigned long long)s.misses, (unsigned long long)s.saves);
        assert_true(s.evictions > 30 && s.loads > 30 && s.hits && s.saves > 30);
        assert_true(w.disk.fetched > 100);
        assert_true(sl_adapter_store_places(w.store) <= 4 * 40);
        close_all(&w);
    }
}

/* What was true when the checkpoint was taken is found by a new store, although the first one went on, wrote
 * over what it could, and died. */
static void store__finds_what_a_checkpoint_names(void **state)
{
    struct store_world w;
    enum { DEVICES = 12 };
    struct sl_adapter_boundary named[DEVICES];
    uint32_t trained[DEVICES], n_named = 0;
    bool has[DEVICES];
    open_all(&w, DEVICES, 4, (struct sl_optim_config){.kind = SL_ADAMW, .lr = 1});
    for (unsigned round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 300; i++)
            random_act(&w);
        while (sl_adapter_store_pushes(w.store)) { /* once written, a boundary is what the twin says */
            drain(&w);
            for (uint32_t i = 0; i < DEVICES; i++)
                if (w.twins[i].usable)
                    unwant(&w, i);
        }
        n_named = 0;
        for (uint32_t i = 0; i < DEVICES; i++) {
            has[i] = sl_adapter_store_boundary(w.store, i, &named[i]);
            trained[i] = w.twins[i].boundary;
            n_named += has[i];
            assert_true(!has[i] || named[i].version == w.twins[i].version);
        }
        sl_adapter_store_checkpoint_begin(w.store);
        for (uint32_t i = draw(&w, 30); i > 0; i--)
            random_act(&w);
        sl_adapter_store_checkpoint_end(w.store, true);
        for (uint32_t i = draw(&w, 200); i > 0; i--)
            random_act(&w);
        if (round % 2) { /* another one that fails: the first still counts */
            sl_adapter_store_checkpoint_begin(w.store);
            for (uint32_t i = draw(&w, 100); i > 0; i--)
                random_act(&w);
            sl_adapter_store_checkpoint_end(w.store, false);
            for (uint32_t i = draw(&w, 100); i > 0; i--)
                random_act(&w);
        }
        sl_adapter_store_free(w.store);
        open_store(&w);
        memset(w.twins, 0, DEVICES * sizeof *w.twins);
        for (uint32_t i = 0; i < DEVICES; i++) {
            char id[SL_ADAPTER_RECORD_ID_BYTES];
            name(i, id);
            if (!has[i])
                continue;
            assert_int_equal(sl_adapter_store_restore(w.store, i, id, &named[i]), 0);
            w.twins[i] = (struct twin){.known = true,
                .now = trained[i],
                .boundary = trained[i],
                .version = named[i].version,
                .step = named[i].step};
        }
        for (uint32_t i = 0; i < DEVICES; i++) {
            if (!has[i])
                continue;
            w.twins[i].wanted = true;
            sl_adapter_store_want(w.store, i, w.at);
            drain(&w);
            check_frame(&w, i);
            unwant(&w, i);
            sl_adapter_store_fetch(w.store, i, 1, w.at);
            drain(&w);
            assert_int_equal(w.disk.fetched_version, named[i].version);
            assert_true(w.disk.fetched_front == (float)trained[i]);
        }
    }
    assert_true(n_named > DEVICES / 2);
    close_all(&w);
}

static void store_restore__refuses_a_place_twice(void **state)
{
    struct store_world w;
    open_all(&w, 4, 2, adamw(1));
    struct sl_adapter_boundary b = {.place = 3, .version = 1, .step = 1};
    assert_int_equal(sl_adapter_store_restore(w.store, 0, "a", &b), 0);
    assert_int_equal(sl_adapter_store_restore(w.store, 1, "b", &b), -EINVAL);
    b.place = 1;
    assert_int_equal(sl_adapter_store_restore(w.store, 1, "b", &b), 0);
    close_all(&w);
}

/* Ten thousand devices, sixteen adapters in memory: all train, the file stays within its bound, and every
 * device finds its own again. */
static void store__ten_thousand_devices_sixteen_resident(void **state)
{
    struct store_world w;
    enum { DEVICES = 10000, RESIDENT = 16, ROUNDS = 2 };
    struct sl_adapter_store_stats s;
    open_all(&w, DEVICES, RESIDENT, adamw(1));
    for (uint32_t i = 0; i < DEVICES; i++)
        know(&w, i);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < DEVICES; i += RESIDENT / 2) {
            for (uint32_t k = i; k < i + RESIDENT / 2; k++)
                sl_adapter_store_hint(w.store, k, w.at);
            for (uint32_t k = i; k < i + RESIDENT / 2; k++) {
                w.twins[k].wanted = true;
                sl_adapter_store_want(w.store, k, w.at);
            }
            drain(&w);
            for (uint32_t k = i; k < i + RESIDENT / 2; k++) {
                assert_true(w.twins[k].usable);
                train(&w, k);
                unwant(&w, k);
            }
        }
    }
    sl_adapter_store_stats(w.store, &s);
    assert_int_equal(s.made, DEVICES);
    assert_true(s.loads >= DEVICES - RESIDENT);
    assert_true(sl_adapter_store_places(w.store) <= DEVICES);
    close_all(&w);
}

static void store__a_broken_disk_is_told(void **state)
{
    struct store_world w;
    open_all(&w, 8, 2, adamw(1));
    w.disk.fail_after = 1;
    for (uint32_t i = 0; i < 4; i++) {
        know(&w, i);
        w.twins[i].wanted = true;
        sl_adapter_store_want(w.store, i, 0);
        if (w.twins[i].usable) {
            train(&w, i);
            unwant(&w, i);
        }
        work(&w.disk, 0);
        sl_adapter_store_turn(w.store, 1);
    }
    assert_string_equal(sl_adapter_store_error(w.store), "the disk is broken");
    close_all(&w);
}

static void store__a_damaged_or_stale_record_is_told(void **state)
{
    struct store_world w;
    for (unsigned how = 0; how < 2; how++) {
        open_all(&w, 3, 1, adamw(1));
        for (uint32_t i = 0; i < 3; i++) {
            know(&w, i);
            w.twins[i].wanted = true;
            sl_adapter_store_want(w.store, i, 0);
            drain(&w);
            train(&w, i);
            unwant(&w, i);
        }
        if (how == 0)
            place_bytes(&w.disk, 0)[5000] ^= 1;
        else /* an older image of the same device at its place */
            for (uint32_t step = 0; step < 2; step++) {
                uint8_t *keep = malloc(sl_adapter_record_bytes(&w.disk.shape));
                memcpy(keep, place_bytes(&w.disk, 0), sl_adapter_record_bytes(&w.disk.shape));
                for (uint32_t i = 0; i < 2; i++) {
                    w.twins[i].wanted = true;
                    sl_adapter_store_want(w.store, i, 0);
                    drain(&w);
                    train(&w, i);
                    unwant(&w, i);
                }
                w.twins[2].wanted = true;
                sl_adapter_store_want(w.store, 2, 0);
                drain(&w);
                unwant(&w, 2);
                if (step == 1)
                    memcpy(place_bytes(&w.disk, 0), keep, sl_adapter_record_bytes(&w.disk.shape));
                free(keep);
            }
        w.twins[0].wanted = true;
        sl_adapter_store_want(w.store, 0, 0);
        do
            sl_adapter_store_turn(w.store, 1);
        while (work(&w.disk, 0));
        assert_non_null(sl_adapter_store_error(w.store));
        assert_non_null(strstr(sl_adapter_store_error(w.store), how ? "lost a write" : "damaged"));
        close_all(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store__gives_back_what_was_trained),
        cmocka_unit_test(store__finds_what_a_checkpoint_names),
        cmocka_unit_test(store_restore__refuses_a_place_twice),
        cmocka_unit_test(store__ten_thousand_devices_sixteen_resident),
        cmocka_unit_test(store__a_broken_disk_is_told),
        cmocka_unit_test(store__a_damaged_or_stale_record_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
