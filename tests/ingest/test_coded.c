#include "dataplane/wire/int8.h"
#include "dataplane/wire/lz4_block.h"
#include "tests/ingest/fixture.h"

#include <stdlib.h>

/* 10 rows of 32 elements: 6 units of int8, the last one with 5 elements, and one of targets. */
enum { TENSOR = 6, ALL = 7, ELEMENTS = ROWS * D_MODEL, TARGETS = TENSOR };

static struct edge e;
static struct burst burst;
static uint8_t message[ALL * SL_UNIT_BYTES];

static void start(enum sl_codec codec, uint64_t seed, unsigned values)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2, .codec = codec});
    edge_open(&e, 1, 42);
    ask(&e, 1, 1);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    for (unsigned i = 0; i < sizeof(message); i++)
        message[i] = (uint8_t)(next_random(&seed) % values);
    burst.n = 0;
}

/* Units [unit0, unit0 + n) of a message, as they are. */
static void put(const uint8_t *from, uint32_t unit0, uint16_t n, bool forged)
{
    uint8_t *out = burst.bytes[burst.n];
    const struct sl_header h = {
        .type = SL_PACKET_DATA, .grant = 1, .pn = e.pn[1]++, .unit0 = unit0, .n_units = n};
    uint16_t len = seal_plain(&e.sealer[1], h, from + unit0 * SL_UNIT_BYTES, (size_t)n * SL_UNIT_BYTES, out);
    if (forged)
        out[len - 1] ^= 1;
    burst.rx[burst.n++] = rx_of(out, len);
}

static void put_block(uint32_t unit0, uint16_t n, const uint8_t *block, uint16_t coded)
{
    uint8_t *out = burst.bytes[burst.n];
    const struct sl_header h = {.type = SL_PACKET_DATA,
        .flags = SL_FLAG_COMPRESSED,
        .grant = 1,
        .pn = e.pn[1]++,
        .unit0 = unit0,
        .n_units = n,
        .coded = coded};
    burst.rx[burst.n++] = rx_of(out, seal_plain(&e.sealer[1], h, block, coded, out));
}

static uint16_t compress(uint32_t unit0, uint16_t n, uint8_t *block)
{
    void *state = malloc(sl_lz4_state_bytes());
    assert_non_null(state);
    uint16_t coded = sl_lz4_compress(state, message + unit0 * SL_UNIT_BYTES, n, block);
    free(state);
    assert_true(coded != 0);
    return coded;
}

static void assert_slot(const struct sl_slot *slot)
{
    uint16_t want[ELEMENTS];
    assert_non_null(slot);
    sl_int8_decode_bf16_plain(message, want, ELEMENTS);
    assert_memory_equal(slot->data, want, sizeof(want));
    assert_ptr_equal(sl_slot_targets(slot), slot->data + ROWS * SL_UNIT_BYTES); /* a bf16 row is a unit */
    assert_memory_equal(sl_slot_targets(slot), message + TARGETS * SL_UNIT_BYTES, ROWS * 4);
}

static void int8__lands_decoded(void **state)
{
    start(SL_CODEC_INT8, 1, 256);
    put(message, 4, 3, false); /* two units of the tensor and the targets */
    assert_int_equal(burst_send(&e, &burst), 1);
    assert_null(trainer_takes(&e));
    put(message, 0, 4, false);
    assert_int_equal(burst_send(&e, &burst), 1);
    struct sl_slot *slot = trainer_takes(&e);
    assert_slot(slot);
    assert_int_equal(slot->grid.n_units, ALL);
    assert_int_equal(slot->grid.tensor_units, TENSOR);
    assert_int_equal(stats_of(&e).units_placed, ALL);
    assert_int_equal(stats_of(&e).fragments_expanded, 0);
    memcpy(slot->data, message, TENSOR * SL_UNIT_BYTES); /* a gradient is units again */
    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
    assert_int_equal(e.seen[1].data_packets, 2);
    assert_memory_equal(sl_ingest_sink.source(e.ingest, 1, 1, 0, TENSOR), message, TENSOR * SL_UNIT_BYTES);
    assert_null(sl_ingest_sink.source(e.ingest, 1, 1, 0, TENSOR + 1));
    edge_free(&e);
}

/* A slot has to hold the tensor decoded: 60 rows travel in 31 units and take 60, and 4 of targets. */
static void int8__slot_is_of_what_is_stored(void **state)
{
    start(SL_CODEC_INT8, 1, 256);
    struct sl_request fits = request_of(2, 60), too_large = request_of(3, 61);
    send_request(&e, 1, &too_large);
    turn(&e);
    assert_lost(&e, 1, 0, 3, SL_LOST_REFUSED_SHAPE);
    send_request(&e, 1, &fits);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 2);
    edge_free(&e);
}

static void int8__forged_leaves_nothing(void **state)
{
    start(SL_CODEC_INT8, 2, 256);
    uint8_t other[sizeof(message)];
    memset(other, 0x55, sizeof(other));
    put(message, 4, 3, false);
    put(other, 4, 3, true);
    put(other, 0, 4, true);
    put(message, 0, 4, false); /* in the serial pass: the claim was released */
    put(other, 0, 4, true);
    assert_int_equal(burst_send(&e, &burst), 2);
    assert_slot(trainer_takes(&e));
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_TAG), 3);
    assert_conserved(&e);
    edge_free(&e);
}

/* Rules T5: what is there stays as it is, be it of the tensor or of the targets. */
static void int8__overlap_decodes_what_is_missing(void **state)
{
    start(SL_CODEC_INT8, 3, 256);
    uint8_t other[sizeof(message)];
    memset(other, 0x55, sizeof(other));
    put(message, 4, 3, false);
    burst_send(&e, &burst);
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 1, 6), 0);
    memcpy(other, message, 4 * SL_UNIT_BYTES);
    put(other, 0, 6, false);
    put(other, 6, 1, false); /* a duplicate */
    burst_send(&e, &burst);
    assert_slot(trainer_takes(&e));
    assert_int_equal(stats_of(&e).units_placed, ALL);
    assert_int_equal(stats_of(&e).units_scratch, 3);
    edge_free(&e);
}

static void lz4__each_fragment_alone_in_any_order(void **state)
{
    uint8_t block[4 * SL_UNIT_BYTES];
    start(SL_CODEC_INT8_LZ4, 4, 2);
    put(message, 4, 3, false); /* targets are in it: as it is */
    put_block(0, 4, block, compress(0, 4, block));
    assert_int_equal(burst_send(&e, &burst), 2);
    assert_slot(trainer_takes(&e));
    assert_int_equal(stats_of(&e).fragments_expanded, 1);
    edge_free(&e);
}

static void lz4__content_that_makes_no_sense(void **state)
{
    uint8_t block[4 * SL_UNIT_BYTES];
    start(SL_CODEC_INT8_LZ4, 5, 2);
    put(message, 4, 3, false);
    burst_send(&e, &burst);
    uint16_t coded = compress(0, 4, block);
    memset(block, 0xff, coded / 2);
    put_block(0, 4, block, coded);
    assert_int_equal(burst_send(&e, &burst), 0);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_CODING), 1);
    assert_int_equal(stats_of(&e).units_released, 4);
    coded = compress(0, 3, block); /* whole, but of fewer units than the grid's */
    put_block(0, 4, block, coded);
    put(message, 0, 4, false); /* in the same burst: waits for the claim, and gets it */
    assert_int_equal(burst_send(&e, &burst), 1);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_CODING), 2);
    assert_slot(trainer_takes(&e));
    assert_conserved(&e);
    edge_free(&e);
}

/* Nothing is opened that could not be wanted. */
static void lz4__where_it_may_not_be(void **state)
{
    uint8_t block[4 * SL_UNIT_BYTES];
    start(SL_CODEC_INT8, 6, 2);
    put_block(0, 4, block, compress(0, 4, block));
    assert_int_equal(burst_send(&e, &burst), 0);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_CODING), 1);
    edge_free(&e);
    start(SL_CODEC_BF16, 6, 2);
    put_block(0, 4, block, compress(0, 4, block));
    assert_int_equal(burst_send(&e, &burst), 0);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_CODING), 1);
    edge_free(&e);
    start(SL_CODEC_INT8_LZ4, 6, 2);
    put_block(4, 3, block, compress(4, 3, block)); /* holds targets, which are never coded */
    put_block(1, 4, block, compress(1, 4, block));
    assert_int_equal(burst_send(&e, &burst), 0);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_CODING), 1);
    assert_int_equal(drops(e.endpoint, SL_DROP_OFF_GRID), 1);
    assert_int_equal(stats_of(&e).units_released, 0);
    edge_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8__lands_decoded),
        cmocka_unit_test(int8__slot_is_of_what_is_stored),
        cmocka_unit_test(int8__forged_leaves_nothing),
        cmocka_unit_test(int8__overlap_decodes_what_is_missing),
        cmocka_unit_test(lz4__each_fragment_alone_in_any_order),
        cmocka_unit_test(lz4__content_that_makes_no_sense),
        cmocka_unit_test(lz4__where_it_may_not_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
