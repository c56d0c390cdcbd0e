/* Personal adapters: a fleet is so many trainings side by side, whatever is in memory and whenever the edge
 * dies. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 24, EVERY = 4, BATCH = 2, PHONES_MAX = 8 };

/* -------------------------------------------------------------------------------------------------- the disk
 */

static struct {
    uint8_t *bytes;
    uint32_t places, loads, fetches;
    struct sl_adapter_record_head fetched;
    float front[LAYERS * 4096];
    float edge[LAYERS * 4096];
} disk;

static void forget_disk(void)
{
    free(disk.bytes);
    memset(&disk, 0, sizeof disk);
}

static uint8_t *place_bytes(const struct sl_adapter_record_shape *s, uint32_t place)
{
    size_t record = sl_adapter_record_bytes(s);
    if (place >= disk.places) {
        disk.bytes = realloc(disk.bytes, (place + 1) * record);
        memset(disk.bytes + disk.places * record, 0xee, (place + 1 - disk.places) * record);
        disk.places = place + 1;
    }
    return disk.bytes + place * record;
}

/* The whole record, as an export reads it. */
static void fetch(struct world *w, const struct sl_adapter_record_shape *s, struct sl_disk_op *op)
{
    char why[256];
    struct sl_lora_config lora = tiny_lora(sl_model_config(w->model)->family, false);
    struct sl_adapter *a;
    struct sl_moments moments[LAYERS];
    struct sl_optim_config optim = s->moments ? adamw(1) : sgd(1);
    const uint8_t *bytes = place_bytes(s, op->place);
    assert_int_equal(sl_adapter_create(sl_model_config(w->model), &lora, s->first, s->n_layers, &a), 0);
    for (uint32_t i = 0; i < s->n_layers - s->first; i++)
        assert_int_equal(sl_moments_create(&optim, s->block, &moments[i]), 0);
    assert_int_equal(
        sl_adapter_record_decode(s, op->head.id, bytes, a, moments, &disk.fetched, why, sizeof why), 0);
    assert_int_equal(sl_adapter_record_decode_front(s, op->head.id, bytes + sl_adapter_record_edge_bytes(s),
                         disk.front, NULL, why, sizeof why),
        0);
    for (uint32_t l = s->first; l < s->n_layers; l++)
        memcpy(disk.edge + l * s->block, sl_adapter_block(a, l).data, s->block * sizeof(float));
    for (uint32_t i = 0; i < s->n_layers - s->first; i++)
        sl_moments_free(&moments[i]);
    sl_adapter_free(a);
    disk.fetches++;
}

static bool work(struct world *w)
{
    struct sl_adapter_store *store = sl_trainer_store(w->trainer);
    struct sl_adapter_record_shape s;
    struct sl_disk_op *op = sl_adapter_store_take(store);
    char why[256] = "";
    int status = 0;
    if (!op)
        return false;
    sl_adapter_store_shape(store, &s);
    uint8_t *bytes = op->place == SL_PLACE_NONE ? NULL : place_bytes(&s, op->place);
    if (op->kind == SL_DISK_LOAD && !bytes) {
        sl_adapter_store_make_initial(store, op->frame);
    } else if (op->kind == SL_DISK_LOAD) {
        status = sl_adapter_record_decode(
            &s, op->head.id, bytes, op->frame->adapter, op->frame->moments, &op->head, why, sizeof why);
        disk.loads++;
    } else if (op->kind == SL_DISK_SAVE) {
        sl_adapter_record_encode(&s, &op->head, op->frame->adapter, op->frame->moments, bytes);
        if (op->front)
            sl_adapter_record_encode_front(
                &s, &op->head, op->front, bytes + sl_adapter_record_edge_bytes(&s));
    } else if (bytes) {
        fetch(w, &s, op);
    }
    op->done_ns = fake_now_ns;
    sl_adapter_store_done(store, op, status, why);
    return true;
}

/* --------------------------------------------------------------------------------------------------- fleets
 */

static const uint32_t lengths[PHONES_MAX][BATCH] = {
    {17, 9}, {30, 5}, {12, 23}, {8, 8}, {25, 3}, {14, 14}, {6, 19}, {11, 10}};

static struct world_config fleet_config(
    enum sl_family family, struct sl_optim_config optim, uint32_t n, const uint32_t *cut, uint32_t resident)
{
    struct world_config c = {.family = family,
        .optim = optim,
        .n_phones = n,
        .aggregate_every = EVERY,
        .steps = STEPS,
        .deterministic = true,
        .resident = resident,
        .disk = work};
    memcpy(c.cut, cut, n * sizeof *cut);
    return c;
}

static void send(struct world *w, struct phone *p, uint32_t step, enum sl_request_kind kind)
{
    const uint32_t *windows[BATCH];
    for (uint32_t i = 0; i < BATCH; i++)
        windows[i] = text_window(step * 2 * PHONES_MAX + 2 * p->index + i, lengths[p->index][i]);
    phone_send(p, w->lcore, windows, lengths[p->index], BATCH, kind);
}

static double central_of(struct central *c, uint32_t device, uint32_t step)
{
    const uint32_t *windows[BATCH];
    for (uint32_t i = 0; i < BATCH; i++)
        windows[i] = text_window(step * 2 * PHONES_MAX + 2 * device + i, lengths[device][i]);
    return central_step(c, windows, lengths[device], BATCH);
}

static void pull(struct world *w, uint32_t device)
{
    struct sl_command *c = sl_trainer_command(w->trainer);
    c->kind = SL_COMMAND_PULL;
    c->device = device;
    c->what = 1;
    sl_trainer_post(w->trainer, c);
    world_run(w);
}

/* What is stored of the device is what central training made: blocks below the cut from its push, the others
 * from the edge. Returns the largest difference relative to the largest weight. */
static double distance(struct world *w, struct central *c, uint32_t device, uint32_t cut)
{
    double difference = 0, largest = 0;
    uint32_t before = disk.fetches;
    pull(w, device);
    assert_int_equal(disk.fetches, before + 1);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block b = sl_adapter_block(c->adapter, l);
        const float *ours = (l < cut ? disk.front : disk.edge) + l * b.n;
        for (size_t i = 0; i < b.n; i++) {
            difference = fmax(difference, fabs((double)ours[i] - b.data[i]));
            largest = fmax(largest, fabs((double)b.data[i]));
        }
    }
    return difference / largest;
}

static void one_phone(enum sl_family family, struct sl_optim_config optim, uint32_t cut)
{
    struct world w;
    struct central c;
    struct sl_lora_config lora = tiny_lora(family, false);
    struct world_config config = fleet_config(family, optim, 1, &cut, 1);
    world_open(&w, &config);
    central_init(&c, w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < STEPS; s++) {
        send(&w, &w.phones[0], s, SL_REQUEST_TRAIN);
        world_run(&w);
        double loss = central_of(&c, 0, s);
        assert_int_equal(w.global_step, s + 1);
        assert_memory_equal(&w.loss, &loss, sizeof loss); /* bit for bit */
    }
    assert_int_equal(w.finished, 1);
    assert_int_equal(w.kept, 2 * STEPS / EVERY);
    assert_int_equal(w.phones[0].version, STEPS / EVERY);
    assert_true(distance(&w, &c, 0, cut) == 0);
    central_free(&c);
    world_close(&w);
    forget_disk();
}

static void personal__one_device_is_bit_identical_to_central_training(void **state)
{
    for (uint32_t cut = 1; cut < LAYERS; cut++) {
        one_phone(SL_FAMILY_LLAMA, adamw(1e-2f), cut);
        one_phone(SL_FAMILY_LLAMA, sgd(0.5f), cut);
        one_phone(SL_FAMILY_GPT2, adamw(1e-2f), cut);
    }
}

/* So many separate trainings, in one batch a step. */
static void fleet(enum sl_family family, struct sl_optim_config optim, uint32_t n, const uint32_t *cut)
{
    struct world w;
    struct central c[PHONES_MAX];
    struct sl_lora_config lora = tiny_lora(family, false);
    struct world_config config = fleet_config(family, optim, n, cut, n);
    world_open(&w, &config);
    for (uint32_t d = 0; d < n; d++)
        central_init(&c[d], w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    double apart = 0;
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t d = 0; d < n; d++)
            send(&w, &w.phones[d], s, SL_REQUEST_TRAIN);
        world_run(&w);
        assert_int_equal(w.step_devices, n);
        for (uint32_t d = 0; d < n; d++) {
            double loss = central_of(&c[d], d, s), first = d ? w.phones[0].loss : loss;
            if (!(fabs(w.phones[d].loss - loss) <= 1e-6 * loss))
                fail_msg("step %u, device %u: fleet %.9f, alone %.9f", s, d, w.phones[d].loss, loss);
            apart = fmax(apart, fabs(first - loss));
        }
    }
    assert_int_equal(w.finished, 1);
    assert_true(apart > 1e-2); /* the devices differ: one adapter for all would not pass */
    for (uint32_t d = 0; d < n; d++) {
        double difference = distance(&w, &c[d], d, cut[d]);
        if (!(difference <= 1e-4))
            fail_msg("device %u: adapters differ by %g", d, difference);
        central_free(&c[d]);
    }
    world_close(&w);
    forget_disk();
}

static void personal__a_fleet_is_as_many_separate_trainings(void **state)
{
    static const uint32_t mixed[PHONES_MAX] = {2, 1, 3, 1, 2, 3, 1, 2};
    fleet(SL_FAMILY_LLAMA, sgd(0.5f), 3, mixed);
    fleet(SL_FAMILY_LLAMA, adamw(2e-3f), 8, mixed);
    fleet(SL_FAMILY_GPT2, sgd(0.5f), 5, mixed);
}

/* Eight devices, two adapters in memory, gangs of whoever is there: the same. */
static void personal__few_resident_change_nothing(void **state)
{
    struct world w;
    enum { N = 8 };
    static const uint32_t cut[N] = {2, 1, 3, 1, 2, 3, 1, 2};
    struct central c[N];
    uint32_t done[N] = {0};
    struct sl_optim_config optim = sgd(0.5f);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct world_config config = fleet_config(SL_FAMILY_LLAMA, optim, N, cut, 2);
    config.deterministic = false;
    config.steps = 0;
    world_open(&w, &config);
    for (uint32_t d = 0; d < N; d++)
        central_init(&c[d], w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t turn = 0; turn < 400; turn++) {
        for (uint32_t d = 0; d < N; d++)
            if (phone_can_send(&w.phones[d], w.lcore) && done[d] < STEPS &&
                w.phones[d].version == w.phones[d].pushes)
                send(&w, &w.phones[d], done[d], SL_REQUEST_TRAIN);
        uint64_t before[N];
        for (uint32_t d = 0; d < N; d++)
            before[d] = w.phones[d].returned;
        world_run(&w);
        fake_now_ns += 1000000;
        for (uint32_t d = 0; d < N; d++) {
            if (w.phones[d].returned == before[d])
                continue;
            assert_int_equal(w.phones[d].returned, before[d] + 1);
            double loss = central_of(&c[d], d, done[d]++);
            if (!(fabs(w.phones[d].loss - loss) <= 1e-6 * loss))
                fail_msg("step %u, device %u: fleet %.9f, alone %.9f", done[d], d, w.phones[d].loss, loss);
        }
    }
    for (uint32_t d = 0; d < N; d++) {
        assert_int_equal(done[d], STEPS);
        central_free(&c[d]);
    }
    assert_true(disk.loads > N * STEPS / 2);
    world_close(&w);
    forget_disk();
}

/* ------------------------------------------------------------------------------------------------ restarts
 */

struct snapshot {
    uint64_t version, step;
    float *weights;
    struct sl_moments moments[LAYERS];
};

static void copy_moments(struct sl_moments *to, const struct sl_moments *from, size_t n)
{
    to->t = from->t;
    if (from->m) {
        memcpy(to->m, from->m, n * sizeof(float));
        memcpy(to->v, from->v, n * sizeof(float));
    }
}

static void take_snapshot(struct snapshot *s, struct phone *p)
{
    size_t n = sl_adapter_block(p->adapter, 0).n;
    free(s->weights);
    phone_weights(p, &s->weights);
    s->version = p->version;
    s->step = p->step;
    for (uint32_t l = 0; l < p->cut; l++) {
        if (!s->moments[l].m)
            assert_int_equal(sl_moments_create(&p->optim, n, &s->moments[l]), 0);
        copy_moments(&s->moments[l], &p->moments[l], n);
    }
}

static void go_back(struct phone *p, const struct snapshot *s)
{
    phone_install(p, s->weights, s->version);
    p->step = s->step;
    for (uint32_t l = 0; l < p->cut; l++)
        copy_moments(&p->moments[l], &s->moments[l], sl_adapter_block(p->adapter, 0).n);
}

static void drop_snapshot(struct snapshot *s)
{
    free(s->weights);
    for (uint32_t l = 0; l < LAYERS; l++)
        sl_moments_free(&s->moments[l]);
}

enum { N_RESTART = 3, DIE_AT = 14 };
struct ending {
    double losses[STEPS][N_RESTART];
    float front[N_RESTART][LAYERS * 4096], edge[N_RESTART][LAYERS * 4096];
};

/* The edge dies in step DIE_AT; its successor begins with the last checkpoint and the records, the phones
 * with their snapshots of that version (rules T12). */
static void run_to_the_end(bool dies, struct ending *out)
{
    static const uint32_t cut[N_RESTART] = {2, 1, 3};
    struct world w;
    struct world_config config = fleet_config(SL_FAMILY_LLAMA, adamw(5e-3f), N_RESTART, cut, N_RESTART);
    struct snapshot snapshots[N_RESTART] = {0};
    world_open(&w, &config);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t d = 0; d < N_RESTART; d++)
            send(&w, &w.phones[d], s, SL_REQUEST_TRAIN);
        world_run(&w);
        for (uint32_t d = 0; d < N_RESTART; d++) {
            out->losses[s][d] = w.phones[d].loss;
            if ((s + 1) % EVERY == 0)
                take_snapshot(&snapshots[d], &w.phones[d]);
        }
        if (!dies || s != DIE_AT)
            continue;
        struct sl_checkpoint *c = world_checkpoint(&w);
        assert_int_equal(c->global_step, DIE_AT / EVERY * EVERY);
        assert_int_equal(c->devices[1].last_step, DIE_AT / EVERY * EVERY);
        world_close(&w);
        config.resume = c;
        world_open(&w, &config);
        sl_checkpoint_clear(c);
        free(c);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t d = 0; d < N_RESTART; d++)
            go_back(&w.phones[d], &snapshots[d]);
        s = DIE_AT / EVERY * EVERY - 1;
        dies = false;
    }
    assert_int_equal(w.finished, 1);
    for (uint32_t d = 0; d < N_RESTART; d++) {
        pull(&w, d);
        assert_int_equal(disk.fetched.version, STEPS / EVERY);
        memcpy(out->front[d], disk.front, sizeof disk.front);
        memcpy(out->edge[d], disk.edge, sizeof disk.edge);
        drop_snapshot(&snapshots[d]);
    }
    world_close(&w);
    forget_disk();
}

static void personal__a_restart_goes_on_bit_for_bit(void **state)
{
    static struct ending undisturbed, restarted;
    run_to_the_end(false, &undisturbed);
    run_to_the_end(true, &restarted);
    assert_memory_equal(&undisturbed, &restarted, sizeof undisturbed);
}

/* A phone that comes back with nothing begins at its last boundary, and so does the edge. */
static void personal__a_device_that_lost_its_state_takes_the_edge_back(void **state)
{
    struct world w;
    struct central c;
    uint32_t cut = 2;
    struct sl_optim_config optim = sgd(0.5f);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct world_config config = fleet_config(SL_FAMILY_LLAMA, optim, 1, &cut, 1);
    world_open(&w, &config);
    central_init(&c, w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < EVERY + 2; s++) {
        send(&w, &w.phones[0], s, SL_REQUEST_TRAIN);
        world_run(&w);
        if (s < EVERY)
            central_of(&c, 0, s);
    }
    struct sl_command *command = sl_trainer_command(w.trainer);
    command->kind = SL_COMMAND_JOIN;
    command->cut = cut;
    command->anew = true;
    snprintf(command->id, sizeof command->id, "device-00000");
    sl_trainer_post(w.trainer, command);
    pull(&w, 0);
    phone_install(&w.phones[0], disk.front, disk.fetched.version);
    for (uint32_t s = EVERY; s < EVERY + 3; s++) {
        send(&w, &w.phones[0], s, SL_REQUEST_TRAIN);
        world_run(&w);
        double loss = central_of(&c, 0, s);
        assert_memory_equal(&w.phones[0].loss, &loss, sizeof loss);
    }
    central_free(&c);
    world_close(&w);
    forget_disk();
}

/* --------------------------------------------------------------------------------------------- the others */

/* One device's gradient is not finite: it alone learns nothing, and is told (rules T15). */
static void personal__a_broken_gradient_is_its_own_affair(void **state)
{
    struct world w;
    static const uint32_t cut[2] = {1, 1};
    struct sl_optim_config optim = sgd(0.5f);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct world_config config = fleet_config(SL_FAMILY_LLAMA, optim, 2, cut, 2);
    struct central c;
    config.aggregate_every = STEPS;
    world_open(&w, &config);
    central_init(&c, w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < 6; s++) {
        for (uint32_t d = 0; d < 2; d++)
            send(&w, &w.phones[d], s, SL_REQUEST_TRAIN);
        if (s == 2) { /* the adapter of the first has diverged */
            struct sl_adapter_frame *f = sl_adapter_store_frame(sl_trainer_store(w.trainer), 0);
            sl_adapter_block(f->adapter, 2).data[0] = NAN;
        }
        world_run(&w);
        double loss = central_of(&c, 1, s);
        assert_true(fabs(w.phones[1].loss - loss) <= 1e-6 * loss);
        assert_true(isfinite(w.loss));
    }
    assert_int_equal(w.refused, 4);
    assert_int_equal(w.diverged, 0);
    central_free(&c);
    world_close(&w);
    forget_disk();
}

/* Held-out windows are scored with the device's own adapter. */
static void personal__evaluation_uses_the_devices_own(void **state)
{
    struct world w;
    enum { N = 4 };
    static const uint32_t cut[N] = {1, 2, 3, 2};
    struct central c[N];
    struct sl_optim_config optim = adamw(2e-3f);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct world_config config = fleet_config(SL_FAMILY_LLAMA, optim, N, cut, N);
    world_open(&w, &config);
    for (uint32_t d = 0; d < N; d++)
        central_init(&c[d], w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t d = 0; d < N; d++)
            send(&w, &w.phones[d], s, SL_REQUEST_TRAIN);
        world_run(&w);
        for (uint32_t d = 0; d < N; d++)
            central_of(&c[d], d, s);
    }
    assert_int_equal(w.finished, 1);
    world_phase(&w, SL_TRAINER_EVAL);
    for (uint32_t d = 0; d < N; d++)
        send(&w, &w.phones[d], 1000, SL_REQUEST_EVAL);
    world_run(&w);
    assert_int_equal(w.n_evals, N * BATCH);
    for (uint32_t d = 0; d < N; d++) {
        double loss = central_of(&c[d], d, 1000);
        assert_true(fabs(w.phones[d].loss - loss) <= 1e-5 * loss);
        central_free(&c[d]);
    }
    world_close(&w);
    forget_disk();
}

static void personal__a_shared_runs_checkpoint_is_refused(void **state)
{
    struct world w;
    uint32_t cut = 2;
    char err[256];
    struct world_config config = fleet_config(SL_FAMILY_LLAMA, sgd(0.5f), 1, &cut, 0);
    config.disk = NULL;
    world_open(&w, &config);
    struct sl_checkpoint *c = world_checkpoint(&w);
    struct sl_trainer *t;
    struct sl_trainer_config again = w.config;
    again.personal.resident = 1;
    again.resume = c;
    assert_int_equal(sl_trainer_create(&again, &t, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "shared"));
    sl_checkpoint_clear(c);
    free(c);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(personal__one_device_is_bit_identical_to_central_training),
        cmocka_unit_test(personal__a_fleet_is_as_many_separate_trainings),
        cmocka_unit_test(personal__few_resident_change_nothing),
        cmocka_unit_test(personal__a_restart_goes_on_bit_for_bit),
        cmocka_unit_test(personal__a_device_that_lost_its_state_takes_the_edge_back),
        cmocka_unit_test(personal__a_broken_gradient_is_its_own_affair),
        cmocka_unit_test(personal__evaluation_uses_the_devices_own),
        cmocka_unit_test(personal__a_shared_runs_checkpoint_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
