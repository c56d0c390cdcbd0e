/* Gradients leave a batch as soon as they are final. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"
#include "trainer/pipeline/batch.h"

#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS = 4, ROWS = 9, FIRST = 1 };

struct leaving {
    uint32_t device;
    bool finite, below_untouched;
    float dx[ROWS * WIDTH];
};

struct fixture {
    struct sl_model *model;
    struct sl_adapter *adapter;
    struct sl_batch *batch;
    struct sl_slots *slots;
    enum sl_codec codec;
    struct leaving left[MEMBERS];
    uint32_t n_left;
};

static bool all_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0)
            return false;
    return true;
}

static void on_leave(void *app, const struct sl_batch_member *m, bool finite)
{
    struct fixture *f = app;
    struct leaving *l = &f->left[f->n_left++];
    l->device = m->device;
    l->finite = finite;
    l->below_untouched = true;
    for (uint32_t k = FIRST; k < m->cut; k++) {
        struct sl_block b = sl_adapter_block(f->adapter, k);
        l->below_untouched = l->below_untouched && all_zero(b.grad, b.n);
    }
    sl_codec_decode(f->codec, m->slot->data, l->dx, ROWS * WIDTH);
    memset(m->slot->data, 0xff, ROWS * WIDTH * 4); /* the slot is another's from here on */
}

/* Devices 0 .. 3 at these cuts. */
static const uint32_t cuts[MEMBERS] = {1, 3, 2, 3};

static void open_batch(struct fixture *f, enum sl_codec codec, float alpha)
{
    struct sl_model_config shape = tiny_config(SL_FAMILY_LLAMA);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    memset(f, 0, sizeof *f);
    lora.alpha = alpha;
    f->codec = codec;
    assert_int_equal(sl_model_create(&shape, 11, &f->model), 0);
    assert_int_equal(sl_adapter_create(&shape, &lora, FIRST, LAYERS, &f->adapter), 0);
    struct sl_batch_config c = {.model = f->model,
        .adapter = f->adapter,
        .first = FIRST,
        .max_rows = 64,
        .max_members = MEMBERS,
        .codec = codec,
        .leave = on_leave,
        .app = f};
    assert_int_equal(sl_batch_create(&c, &f->batch), 0);
    f->slots = fake_slots(MEMBERS, ROWS);
}

static void close_batch(struct fixture *f)
{
    sl_batch_free(f->batch);
    sl_adapter_free(f->adapter);
    sl_model_free(f->model);
    fake_slots_free(f->slots);
}

static void add(struct fixture *f, uint32_t device)
{
    float x[ROWS * WIDTH];
    const char *why;
    struct sl_slot *s = sl_slot_get(f->slots, device);
    for (uint32_t i = 0; i < ROWS * WIDTH; i++)
        x[i] = (float)((i * 37 + device * 11) % 101) / 50 - 1;
    s->request = (struct sl_request){.step = 1, .n_seqs = 1, .len = {ROWS}};
    assert_int_equal(sl_grid_make(&s->grid, ROWS, WIDTH, f->codec, 1, 20), 0);
    sl_codec_encode(f->codec, x, s->data, ROWS * WIDTH);
    memcpy(s->data + (size_t)s->grid.tensor_units * 64, text_window(device, ROWS), ROWS * sizeof(uint32_t));
    assert_int_equal(sl_batch_add(f->batch, s, device, cuts[device], &why), 0);
}

static void compute(struct fixture *f, int expected)
{
    sl_batch_clear(f->batch);
    f->n_left = 0;
    for (uint32_t d = 0; d < MEMBERS; d++)
        add(f, d);
    assert_int_equal(sl_batch_forward(f->batch), MEMBERS);
    assert_int_equal(sl_batch_backward(f->batch), expected);
}

static const struct leaving *leaving_of(const struct fixture *f, uint32_t device)
{
    for (uint32_t i = 0; i < f->n_left; i++)
        if (f->left[i].device == device)
            return &f->left[i];
    fail_msg("device %u has not left", device);
    return NULL;
}

/* The highest cut first, while no layer below it has been computed; and each gradient is the one that the
 * device gets in a batch of its own, so nothing later belongs to it. */
static void backward__lets_the_highest_cut_leave_first(void **state)
{
    static const enum sl_codec codecs[] = {SL_CODEC_F32, SL_CODEC_BF16};
    for (unsigned k = 0; k < 2; k++) {
        struct fixture f;
        open_batch(&f, codecs[k], 8);
        compute(&f, 0);
        assert_int_equal(f.n_left, MEMBERS);
        for (uint32_t i = 0; i < MEMBERS; i++) {
            assert_true(f.left[i].finite);
            assert_true(f.left[i].below_untouched);
            assert_true(i == 0 || cuts[f.left[i].device] <= cuts[f.left[i - 1].device]);
            assert_false(all_zero(f.left[i].dx, ROWS * WIDTH));
        }
        for (uint32_t d = 0; d < MEMBERS; d++) {
            struct fixture alone;
            open_batch(&alone, codecs[k], 8);
            add(&alone, d);
            assert_int_equal(sl_batch_forward(alone.batch), 1);
            assert_int_equal(sl_batch_backward(alone.batch), 0);
            const struct leaving *l = leaving_of(&f, d);
            double difference = 0, norm = 0;
            for (uint32_t i = 0; i < ROWS * WIDTH; i++) {
                difference += (double)(l->dx[i] - alone.left[0].dx[i]) * (l->dx[i] - alone.left[0].dx[i]);
                norm += (double)alone.left[0].dx[i] * alone.left[0].dx[i];
            }
            assert_true(difference <= (codecs[k] == SL_CODEC_F32 ? 1e-12 : 1e-5) * norm);
            close_batch(&alone);
        }
        close_batch(&f);
    }
}

/* Rules T15, member by member: at block 1 a factor is zero and the other so large that the backward pass
 * overflows there, while the forward pass does not see it. Who entered above has a finite gradient by then. */
static void backward__keeps_back_a_gradient_that_is_not_finite(void **state)
{
    struct fixture f;
    open_batch(&f, SL_CODEC_F32, 1e9f);
    struct sl_block b = sl_adapter_block(f.adapter, 1);
    memset(b.data, 0, b.n * sizeof *b.data);
    float *q = sl_adapter_b(f.adapter, 1, SL_Q_PROJ);
    for (uint32_t i = 0; i < WIDTH * 4; i++)
        q[i] = FLT_MAX / 4;
    compute(&f, -EDOM);
    assert_int_equal(f.n_left, MEMBERS);
    for (uint32_t d = 0; d < MEMBERS; d++)
        assert_int_equal(leaving_of(&f, d)->finite, cuts[d] > 1);
    close_batch(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backward__lets_the_highest_cut_leave_first),
        cmocka_unit_test(backward__keeps_back_a_gradient_that_is_not_finite),
    };
    return cmocka_run_group_tests_name("pipeline/batch", tests, NULL, NULL);
}
