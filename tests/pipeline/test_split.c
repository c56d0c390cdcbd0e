/* Split equals central (rules L6), without a network: the same windows through phones and trainer, and
 * through one whole half. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 50, WINDOW = 17, BATCH = 2 };

static enum sl_target first_target(enum sl_family family)
{
    return family == SL_FAMILY_LLAMA ? SL_Q_PROJ : SL_C_ATTN;
}

static void one_device(
    enum sl_family family, uint32_t cut, struct sl_optim_config optim, uint32_t every, bool freeze_a)
{
    struct world w;
    struct central c;
    struct sl_lora_config lora = tiny_lora(family, freeze_a);
    world_open(&w, &(struct world_config){.family = family,
                       .optim = optim,
                       .n_phones = 1,
                       .cut = {cut},
                       .aggregate_every = every,
                       .freeze_a = freeze_a,
                       .steps = STEPS});
    central_init(&c, w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < STEPS; s++) {
        const uint32_t *windows[BATCH], len[BATCH] = {WINDOW, WINDOW};
        for (uint32_t i = 0; i < BATCH; i++)
            windows[i] = text_window(s * BATCH + i, WINDOW);
        phone_send(&w.phones[0], w.lcore, windows, len, BATCH, SL_REQUEST_TRAIN);
        world_run(&w);
        double loss = central_step(&c, windows, len, BATCH);
        assert_int_equal(w.global_step, s + 1);
        assert_memory_equal(&w.loss, &loss, sizeof loss); /* bit for bit */
    }
    assert_int_equal(w.finished, 1);
    float largest = 0;
    for (size_t i = 0; i < 4 * WIDTH; i++)
        largest = fmaxf(largest, fabsf(sl_adapter_b(c.adapter, 0, first_target(family))[i]));
    assert_true(largest > 1e-4f); /* B has left zero: two that learn nothing would agree as well */
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block b = sl_adapter_block(c.adapter, l);
        assert_memory_equal(w.g + l * b.n, b.data, b.n * sizeof *b.data);
    }
    central_free(&c);
    world_close(&w);
}

static void split__one_device_any_cut_is_bit_identical(void **state)
{
    for (uint32_t cut = 1; cut < LAYERS; cut++) {
        one_device(SL_FAMILY_LLAMA, cut, adamw(1e-2f), 1, false);
        one_device(SL_FAMILY_LLAMA, cut, sgd(1.0f), 8, false);
        one_device(SL_FAMILY_GPT2, cut, adamw(1e-2f), 7, false);
    }
}

static void split__one_device_with_frozen_a_is_bit_identical(void **state)
{
    one_device(SL_FAMILY_LLAMA, 2, adamw(1e-2f), 4, true);
}

/* Three devices, windows of unequal length, different cuts, SGD, aggregation after every step. */
static void three_devices(enum sl_family family, uint32_t a, uint32_t b, uint32_t c_cut)
{
    struct world w;
    struct central c;
    struct sl_optim_config optim = sgd(0.5f);
    struct sl_lora_config lora = tiny_lora(family, false);
    world_open(&w, &(struct world_config){.family = family,
                       .optim = optim,
                       .n_phones = 3,
                       .cut = {a, b, c_cut},
                       .aggregate_every = 1,
                       .steps = STEPS,
                       .deterministic = true});
    central_init(&c, w.model, &lora, &optim, 128);
    world_phase(&w, SL_TRAINER_TRAIN);
    static const uint32_t lengths[3][2] = {{17, 9}, {30, 5}, {12, 23}};
    for (uint32_t s = 0; s < STEPS; s++) {
        const uint32_t *windows[6];
        uint32_t len[6];
        for (uint32_t d = 0; d < 3; d++) {
            for (uint32_t i = 0; i < 2; i++) {
                len[2 * d + i] = lengths[d][i];
                windows[2 * d + i] = text_window(s * 6 + 2 * d + i, lengths[d][i]);
            }
            phone_send(&w.phones[d], w.lcore, windows + 2 * d, len + 2 * d, 2, SL_REQUEST_TRAIN);
        }
        world_run(&w);
        double loss = central_step(&c, windows, len, 6);
        assert_int_equal(w.global_step, s + 1);
        assert_int_equal(w.step_devices, 3);
        if (!(fabs(w.loss - loss) <= 1e-6 * loss))
            fail_msg("step %u: split %.9f, central %.9f", s, w.loss, loss);
    }
    central_free(&c);
    world_close(&w);
}

static void split__three_devices_equal_central_training(void **state)
{
    three_devices(SL_FAMILY_LLAMA, 1, 2, 3);
    three_devices(SL_FAMILY_LLAMA, 3, 1, 1);
    three_devices(SL_FAMILY_GPT2, 2, 3, 1);
}

/* Rules L6: bf16 on the wire stays within 5e-4 a step at the start. */
static void split__bf16_stays_close(void **state)
{
    struct world w;
    struct central c;
    struct sl_optim_config optim = sgd(0.5f);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    world_open(&w, &(struct world_config){.optim = optim,
                       .codec = SL_CODEC_BF16,
                       .n_phones = 2,
                       .cut = {2, 1},
                       .aggregate_every = 1,
                       .steps = 5,
                       .deterministic = true});
    central_init(&c, w.model, &lora, &optim, 128);
    world_phase(&w, SL_TRAINER_TRAIN);
    bool differs = false;
    for (uint32_t s = 0; s < 5; s++) {
        const uint32_t *windows[2], len[2] = {WINDOW, 11};
        for (uint32_t d = 0; d < 2; d++) {
            windows[d] = text_window(2 * s + d, len[d]);
            phone_send(&w.phones[d], w.lcore, windows + d, len + d, 1, SL_REQUEST_TRAIN);
        }
        world_run(&w);
        double loss = central_step(&c, windows, len, 2);
        assert_true(fabs(w.loss - loss) <= 5e-4 * loss);
        differs = differs || w.loss != loss;
    }
    assert_true(differs);
    central_free(&c);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split__one_device_any_cut_is_bit_identical),
        cmocka_unit_test(split__one_device_with_frozen_a_is_bit_identical),
        cmocka_unit_test(split__three_devices_equal_central_training),
        cmocka_unit_test(split__bf16_stays_close),
    };
    return cmocka_run_group_tests_name("pipeline/split", tests, NULL, NULL);
}
