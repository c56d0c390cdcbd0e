#include "tests/bench/exchange.h"

#include "tests/bench/machine.h"
#include "tests/bench/sample.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

enum { RING = 64, SLOT_BYTES = 4096, UNITS = SLOT_BYTES / 64 };

int bench_exchange_init(struct bench_exchange *x, uint32_t n_slots)
{
    memset(x, 0, sizeof(*x));
    x->cpu[0] = x->cpu[1] = -1;
    sl_histogram_reset(&x->to_trainer);
    sl_histogram_reset(&x->to_lcore);
    sl_histogram_reset(&x->to_trainer_read);
    sl_histogram_reset(&x->to_lcore_read);
    sl_histogram_reset(&x->round_trip);
    x->ready = sl_ring_spsc_create(RING);
    x->returned = sl_ring_spsc_create(RING);
    int ret = sl_slots_create(n_slots, SLOT_BYTES, &x->slots);
    if (ret != 0 || x->ready == NULL || x->returned == NULL) {
        bench_exchange_free(x);
        return ret != 0 ? ret : -ENOMEM;
    }
    return 0;
}

void bench_exchange_free(struct bench_exchange *x)
{
    sl_slots_free(x->slots);
    sl_ring_spsc_free(x->ready);
    sl_ring_spsc_free(x->returned);
    x->slots = NULL;
    x->ready = x->returned = NULL;
}

static bool stopped(const struct bench_exchange *x)
{
    return __atomic_load_n(&x->stop, __ATOMIC_RELAXED) != 0;
}

/* Pins and seals, and waits for the other thread to have done so. */
static bool enter(struct bench_exchange *x, int cpu)
{
    int err = cpu >= 0 ? bench_pin(cpu) : 0;
    if (err == 0 && x->seal != NULL)
        err = x->seal();
    if (err != 0)
        __atomic_store_n(&x->seal_error, err, __ATOMIC_RELEASE);
    __atomic_fetch_add(&x->sealed, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&x->sealed, __ATOMIC_ACQUIRE) < 2 && !stopped(x))
        __builtin_ia32_pause();
    return __atomic_load_n(&x->seal_error, __ATOMIC_ACQUIRE) == 0;
}

static void *leave(struct bench_exchange *x, unsigned which)
{
    while (x->seal != NULL)
        __builtin_ia32_pause();
    struct rusage r;
    if (getrusage(RUSAGE_THREAD, &r) == 0)
        x->switches[which] = (uint64_t)r.ru_nivcsw;
    return NULL;
}

static uint64_t ns_of(const struct bench_exchange *x, uint64_t cycles)
{
    return (uint64_t)((double)cycles * x->ns_per_cycle);
}

/* ready_ns and global_step carry the senders' time stamps, in cycles: both threads' counters are the
 * machine's. */
static void hand_over(struct bench_exchange *x)
{
    struct sl_slot_entry *e = sl_slots_take(x->slots, UNITS);
    uint32_t handle = e->slot.handle, back;
    e->slot.state = SL_SLOT_READY;
    e->with_trainer = true;
    uint64_t t0 = e->slot.ready_ns = sl_cycles();
    sl_ring_spsc_push(x->ready, &handle, 1);
    while (sl_ring_spsc_pop(x->returned, &back, 1) == 0)
        if (stopped(x))
            return;
    uint64_t popped = sl_cycles();
    struct sl_slot_entry *b = sl_slots_entry(x->slots, back);
    uint64_t t1 = b != NULL ? b->slot.outcome.global_step : 0, t2 = sl_cycles();
    if (b != e) {
        x->wrong++;
        return;
    }
    e->with_trainer = false;
    sl_slots_give(x->slots, e);
    sl_histogram_record(&x->to_lcore, ns_of(x, popped > t1 ? popped - t1 : 0));
    sl_histogram_record(&x->to_lcore_read, ns_of(x, t2 > t1 ? t2 - t1 : 0));
    sl_histogram_record(&x->round_trip, ns_of(x, t2 - t0));
    __atomic_store_n(&x->done, x->done + 1, __ATOMIC_RELEASE);
}

/* ---- the least ---- */

struct line {
    _Alignas(128) uint64_t turn; /* atomic; the pair of lines that a CPU may fetch together */
    _Alignas(128) int cpu;
    uint64_t turns;
};

static void *answer(void *arg)
{
    struct line *l = arg;
    bench_pin(l->cpu);
    for (uint64_t want = 1; want < 2 * l->turns; want += 2) {
        while (__atomic_load_n(&l->turn, __ATOMIC_ACQUIRE) != want)
            __builtin_ia32_pause();
        __atomic_store_n(&l->turn, want + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

double bench_exchange_line_ns(int cpu_a, int cpu_b, unsigned turns)
{
    struct line l = {.cpu = cpu_b, .turns = turns};
    struct bench_sample trips;
    cpu_set_t before;
    pthread_t other;
    sched_getaffinity(0, sizeof(before), &before);
    if (cpu_a == cpu_b || bench_sample_init(&trips, turns) != 0)
        return 0;
    if (bench_pin(cpu_a) != 0 || pthread_create(&other, NULL, answer, &l) != 0) {
        bench_sample_free(&trips);
        return 0;
    }
    for (uint64_t i = 0; i < 2 * turns; i += 2) {
        uint64_t t0 = sl_cycles();
        __atomic_store_n(&l.turn, i + 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(&l.turn, __ATOMIC_ACQUIRE) != i + 2)
            __builtin_ia32_pause();
        bench_sample_add(&trips, (double)(sl_cycles() - t0));
    }
    pthread_join(other, NULL);
    sched_setaffinity(0, sizeof(before), &before);
    double ns = bench_sample_median(&trips) * 0.5e9 / (double)bench_tsc_hz();
    bench_sample_free(&trips);
    return ns;
}

/* ---- the two threads ---- */

void *bench_exchange_lcore(void *arg)
{
    struct bench_exchange *x = arg;
    if (enter(x, x->cpu[0])) {
        uint64_t next = sl_cycles();
        while ((x->n == 0 || x->done < x->n) && !stopped(x)) {
            while (sl_cycles() < next && !stopped(x))
                __builtin_ia32_pause();
            next = sl_cycles() + x->interval_cycles;
            hand_over(x);
        }
    }
    __atomic_store_n(&x->stop, 1, __ATOMIC_RELEASE);
    return leave(x, 0);
}

void *bench_exchange_trainer(void *arg)
{
    struct bench_exchange *x = arg;
    bool may = enter(x, x->cpu[1]);
    while (may && !stopped(x)) {
        uint32_t handle;
        if (sl_ring_spsc_pop(x->ready, &handle, 1) == 0)
            continue;
        uint64_t popped = sl_cycles();
        struct sl_slot *s = sl_slot_get(x->slots, handle);
        uint64_t sent = s->ready_ns, now = sl_cycles();
        s->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
        s->outcome.global_step = sl_cycles();
        sl_ring_spsc_push(x->returned, &handle, 1);
        sl_histogram_record(&x->to_trainer, ns_of(x, popped > sent ? popped - sent : 0));
        sl_histogram_record(&x->to_trainer_read, ns_of(x, now > sent ? now - sent : 0));
    }
    return leave(x, 1);
}
