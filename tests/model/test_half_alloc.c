/* A training step allocates nothing: the program's own malloc counts, for the libraries below it as well. The
 * one exception is stated and bounded: oneDNN builds a map of a product's arguments, some nodes of C++'s, in
 * every execute. */
#include "tests/model/fixture.h"
#include "trainer/tensor/bf16.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
enum { COUNTS = 1 };

static atomic_uint allocations, nodes;
static atomic_size_t largest_node;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

/* NOLINTBEGIN: these replace the C library's, which is the point. */
void *malloc(size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}
/* C++'s operator new, which is oneDNN's alone here. */
void *operator_new(size_t) __asm__("_Znwm");
void *operator_new(size_t n)
{
    atomic_fetch_add(&nodes, 1);
    if (n > atomic_load(&largest_node))
        atomic_store(&largest_node, n);
    return __libc_malloc(n);
}
/* NOLINTEND */
#else
enum { COUNTS = 0 };
static atomic_uint allocations, nodes;
static atomic_size_t largest_node;
#endif

/* Of oneDNN 2.6: two maps of at most six arguments, in nodes and a table each. */
enum { MAP_NODES = 16, MAP_NODE_BYTES = 512 };

enum { LAYERS = FIXTURE_LAYERS, D = FIXTURE_D, SEQS = 3, MAX_ROWS = 200 };

static const uint32_t lens[SEQS] = {61, 7, 129}, cuts[SEQS] = {1, 1, 2};

/* Steps of a batch with two adapters and two cuts; returns allocations of the last one. */
static unsigned steps(const struct sl_model_config *config, enum sl_precision precision, bool recompute)
{
    static uint32_t targets[MAX_ROWS];
    static sl_bf16 x[MAX_ROWS * D], dx[MAX_ROWS * D];
    struct sl_lora_config lora = {
        .rank = 4, .alpha = 8, .targets = fixture_all_targets(config->family), .seed = 7};
    struct sl_half_config c = {.first = 1,
        .last = LAYERS,
        .max_rows = MAX_ROWS,
        .max_seqs = SEQS,
        .max_adapters = 2,
        .recompute = recompute};
    struct sl_seq seqs[SEQS];
    struct sl_model *m = fixture_model(config, 1);
    struct sl_adapter *a = fixture_adapter(config, &lora, 1, LAYERS),
                      *b = fixture_adapter(config, &lora, 1, LAYERS);
    struct sl_half *h = NULL;
    unsigned before = 0, nodes_before = 0;
    fixture_ids(3, "targets", FIXTURE_VOCAB, MAX_ROWS, targets);
    assert_int_equal(sl_model_pack(m, precision, true), 0);
    assert_int_equal(sl_half_create(m, a, &c, &h), 0);
    for (uint32_t i = 0, row = 0; i < SEQS; row += lens[i++])
        seqs[i] = (struct sl_seq){.len = lens[i],
            .enter = cuts[i],
            .x_bf16 = x + (size_t)row * D,
            .dx_bf16 = dx + (size_t)row * D,
            .targets = targets + row,
            .adapter = i ? b : NULL};
    for (unsigned s = 0; s < 3; s++) { /* the first one makes the kernels of these shapes */
        for (int i = 0; i < MAX_ROWS * D; i++)
            x[i] = sl_bf16_round((float)sin(i + s));
        before = atomic_load(&allocations);
        nodes_before = atomic_load(&nodes);
        atomic_store(&largest_node, 0);
        assert_int_equal(sl_half_forward(h, seqs, SEQS, NULL), 0);
        assert_int_equal(sl_half_backward(h, seqs, SEQS, NULL), 0);
    }
    unsigned made = atomic_load(&allocations) - before, products = 2 * 4 * (LAYERS - 1) + 2;
    products += recompute ? 3 * (LAYERS - 2) : 0;
    assert_true(atomic_load(&nodes) - nodes_before <= MAP_NODES * products);
    assert_true(atomic_load(&largest_node) <= MAP_NODE_BYTES);
    sl_half_free(h);
    sl_adapter_free(a);
    sl_adapter_free(b);
    sl_model_free(m);
    return made;
}

static void half_step__allocates_nothing(void **state)
{
    if (!COUNTS) {
        print_message("SKIP: a sanitizer has its own malloc\n");
        return;
    }
    assert_true(atomic_load(&allocations) > 0); /* it does count */
    for (unsigned i = 0; i < 8; i++) {
        enum sl_precision precision = i & 1 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
        if (!sl_precision_supported(precision))
            continue;
        assert_int_equal(steps(i & 2 ? &fixture_llama : &fixture_gpt2, precision, i & 4), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(half_step__allocates_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
