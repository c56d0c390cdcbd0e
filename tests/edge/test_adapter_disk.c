/* Personal adapters on a real disk, from two threads as in the edge node: every device finds what it trained,
 * with a quarter of them in memory and each place written many times. */
#include "trainer/edge/adapter_disk.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEVICES = 32, RESIDENT = 8, GANG = 4, ROUNDS = 12, FIRST = 1, MAX_CUT = 2, POLL_NS = 1000000 };

struct world {
    struct sl_model_config shape;
    struct sl_loop *loop;
    struct sl_adapter_disk *disk;
    struct sl_adapter_store *store;
    float *initial;
    char path[64];
    pthread_t thread;
    bool usable[DEVICES];
    uint32_t fetched;       /* atomic */
    float fetched_front[4]; /* of the last one */
};

static void usable(void *app, uint32_t device, uint64_t since_ns)
{
    struct world *w = app;
    w->usable[device] = true;
}

static int fetched(void *app, const struct sl_disk_op *op, const uint8_t *record, char *why, size_t cap)
{
    struct world *w = app;
    struct sl_adapter_record_shape s;
    struct sl_adapter_record_head head;
    sl_adapter_store_shape(w->store, &s);
    float *front = malloc(MAX_CUT * s.block * sizeof *front);
    int status = sl_adapter_record_decode_front(
        &s, op->head.id, record + sl_adapter_record_edge_bytes(&s), front, &head, why, cap);
    memcpy(w->fetched_front, front, sizeof w->fetched_front);
    free(front);
    __atomic_add_fetch(&w->fetched, 1, __ATOMIC_RELEASE);
    return status;
}

static void not_fetched(void *app, const struct sl_disk_op *op, int status)
{
    fail_msg("a fetch failed: %s", strerror(-status));
}

static void poll(void *app, uint64_t now_ns)
{
    struct world *w = app;
    sl_adapter_disk_poll(w->disk, w->store);
}

static void *run_loop(void *app)
{
    struct world *w = app;
    sl_loop_run(w->loop, poll, w, POLL_NS);
    return NULL;
}

static void open_world(struct world *w)
{
    char err[256];
    memset(w, 0, sizeof *w);
    w->shape = (struct sl_model_config){.family = SL_FAMILY_LLAMA,
        .n_layers = 4,
        .d_model = 64,
        .n_heads = 4,
        .n_kv_heads = 4,
        .head_dim = 16,
        .d_ff = 128,
        .vocab = 32,
        .max_positions = 16};
    struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = 1u << SL_Q_PROJ | 1u << SL_DOWN_PROJ};
    w->initial = calloc(4 * sl_adapter_block_size(&w->shape, &lora), sizeof *w->initial);
    struct sl_adapter_store_config c = {.model = &w->shape,
        .lora = lora,
        .optim = {.kind = SL_ADAMW},
        .first = FIRST,
        .max_cut = MAX_CUT,
        .max_devices = DEVICES,
        .resident = RESIDENT,
        .initial = w->initial,
        .usable = usable,
        .app = w};
    assert_int_equal(sl_adapter_store_create(&c, &w->store), 0);
    if (sl_loop_create(4, &w->loop, err, sizeof err)) {
        printf("SKIP: %s\n", err);
        exit(77);
    }
    snprintf(w->path, sizeof w->path, "/var/tmp/sluice-test-adapters-%d", getpid());
    struct sl_adapter_disk_config d = {.loop = w->loop,
        .path = w->path,
        .buffers = 3,
        .fetched = fetched,
        .not_fetched = not_fetched,
        .app = w};
    sl_adapter_store_shape(w->store, &d.shape);
    assert_int_equal(sl_adapter_disk_open(&d, &w->disk, err, sizeof err), 0);
    for (uint32_t i = 0; i < DEVICES; i++) {
        char id[SL_ADAPTER_RECORD_ID_BYTES];
        snprintf(id, sizeof id, "device-%05u", i);
        sl_adapter_store_know(w->store, i, id);
    }
    assert_int_equal(pthread_create(&w->thread, NULL, run_loop, w), 0);
}

static void close_world(struct world *w)
{
    sl_loop_stop(w->loop);
    pthread_join(w->thread, NULL);
    sl_loop_free(w->loop);
    sl_adapter_disk_close(w->disk);
    sl_adapter_store_free(w->store);
    free(w->initial);
    unlink(w->path);
}

static void turn(struct world *w)
{
    if (!sl_adapter_store_turn(w->store, sl_loop_now_ns()))
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    if (sl_adapter_store_asked(w->store))
        sl_loop_wake(w->loop);
    if (sl_adapter_store_error(w->store))
        fail_msg("%s", sl_adapter_store_error(w->store));
}

static void want(struct world *w, uint32_t device)
{
    w->usable[device] = false;
    sl_adapter_store_want(w->store, device, sl_loop_now_ns());
}

/* The numbers in the frame are the device's own, of its last step; then the next step's. */
static void train(struct world *w, uint32_t device, uint32_t round)
{
    struct sl_adapter_frame *f = sl_adapter_store_frame(w->store, device);
    for (uint32_t l = FIRST; l < w->shape.n_layers; l++) {
        struct sl_block b = sl_adapter_block(f->adapter, l);
        struct sl_moments *m = &f->moments[l - FIRST];
        for (size_t i = 0; i < b.n; i++) {
            float expected = round ? (float)(round * 100 + device) : 0;
            assert_true(b.data[i] == expected && m->v[i] == expected);
            b.data[i] = m->v[i] = (float)((round + 1) * 100 + device);
        }
        assert_int_equal(m->t++, round);
    }
    sl_adapter_store_stepped(w->store, device, round + 1);
}

static void push(struct world *w, uint32_t device, uint32_t round)
{
    struct sl_adapter_record_shape s;
    sl_adapter_store_shape(w->store, &s);
    float *front = malloc(MAX_CUT * s.block * sizeof *front);
    for (size_t i = 0; i < MAX_CUT * s.block; i++)
        front[i] = (float)(round * 100 + device);
    assert_true(sl_adapter_store_push(w->store, device, front, MAX_CUT, round, sl_loop_now_ns()) > 0);
}

static void disk__every_device_finds_what_it_trained(void **state)
{
    struct world w;
    struct sl_adapter_store_stats s;
    open_world(&w);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t d = 0; d < GANG; d++)
            want(&w, d);
        for (uint32_t first = 0; first < DEVICES; first += GANG) {
            for (uint32_t d = first; d < first + GANG; d++) {
                while (!w.usable[d])
                    turn(&w);
                if (d + GANG < DEVICES)
                    want(&w, d + GANG); /* its message is there already */
            }
            for (uint32_t d = first; d < first + GANG; d++) {
                train(&w, d, round);
                sl_adapter_store_unwant(w.store, d);
                if ((round + d) % 3 == 0)
                    push(&w, d, round + 1);
            }
        }
        while (sl_adapter_store_pushes(w.store))
            turn(&w);
        if (round % 4 == 3) {
            sl_adapter_store_checkpoint_begin(w.store);
            sl_adapter_store_checkpoint_end(w.store, true);
        }
    }
    for (uint32_t d = 0; d < DEVICES; d++) {
        uint32_t before = w.fetched, last = ROUNDS - 1 - (ROUNDS - 1 + d) % 3 + 1;
        sl_adapter_store_fetch(w.store, d, 1, sl_loop_now_ns());
        while (__atomic_load_n(&w.fetched, __ATOMIC_ACQUIRE) == before)
            turn(&w);
        assert_true(w.fetched_front[0] == (float)(last * 100 + d));
    }
    sl_adapter_store_stats(w.store, &s);
    assert_true(s.loads > DEVICES * ROUNDS / 2 && s.evictions > DEVICES * ROUNDS / 4);
    assert_true(sl_adapter_store_places(w.store) <= 4 * DEVICES);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(disk__every_device_finds_what_it_trained)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
