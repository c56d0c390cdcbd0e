/* Runs a libFuzzer target without libFuzzer: its seeds, then mutations of them from a fixed generator, so
 * that the suite fuzzes a little on every machine and always the same way. Usage: PROGRAM [ITERATIONS [SEED
 * FILE...]] */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* A target may offer seeds of its own: fills buf, returns the length, 0 after the last. */
__attribute__((weak)) size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap);

enum { INPUT_CAP = 1 << 16, SEEDS_MAX = 64, DEFAULT_ITERATIONS = 20000 };

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next(void) /* xorshift64*, Vigna 2016 */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1du;
}

struct input {
    uint8_t *bytes;
    size_t len;
};

static size_t mutate(uint8_t *b, size_t len)
{
    unsigned times = 1 + (unsigned)(next() % 8);

    while (times--) {
        size_t at = len ? next() % len : 0, run = 1 + next() % 16;
        switch (next() % 6) {
        case 0: /* flip a bit */
            if (len)
                b[at] ^= (uint8_t)(1u << next() % 8);
            break;
        case 1: /* an interesting byte */
            if (len)
                b[at] = (uint8_t) "\x00\xff\x7f\x80\x01\x20\x22\x7b"[next() % 8];
            break;
        case 2: /* cut out a run */
            if (run < len - at) {
                memmove(b + at, b + at + run, len - at - run);
                len -= run;
            }
            break;
        case 3: /* insert random bytes */
            if (len + run <= INPUT_CAP) {
                memmove(b + at + run, b + at, len - at);
                for (size_t i = 0; i < run; i++)
                    b[at + i] = (uint8_t)next();
                len += run;
            }
            break;
        case 4: /* copy a run elsewhere */
            if (len > run) {
                size_t from = next() % (len - run), to = next() % (len - run);
                memmove(b + to, b + from, run);
            }
            break;
        case 5: /* truncate */
            if (next() % 4 == 0)
                len = at;
            break;
        }
    }
    return len;
}

static size_t read_file(const char *path, uint8_t *out)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(out, 1, INPUT_CAP, f) : 0;

    if (f)
        fclose(f);
    return n;
}

static unsigned load_seeds(struct input *seeds, uint8_t *buf, int n_files, char **files)
{
    unsigned n = 0;

    for (unsigned i = 0; sl_fuzz_seed && n < SEEDS_MAX; i++) {
        size_t len = sl_fuzz_seed(i, buf, INPUT_CAP);
        if (len == 0)
            break;
        seeds[n++] = (struct input){memcpy(malloc(len), buf, len), len};
    }
    for (int i = 0; i < n_files && n < SEEDS_MAX; i++) {
        size_t len = read_file(files[i], buf);
        if (len)
            seeds[n++] = (struct input){memcpy(malloc(len), buf, len), len};
    }
    return n;
}

int main(int argc, char **argv)
{
    static uint8_t buf[INPUT_CAP];
    struct input seeds[SEEDS_MAX];
    unsigned long iterations = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT_ITERATIONS;
    unsigned n = load_seeds(seeds, buf, argc - 2, argv + 2);

    LLVMFuzzerTestOneInput(buf, 0);
    for (unsigned i = 0; i < n; i++)
        LLVMFuzzerTestOneInput(seeds[i].bytes, seeds[i].len);
    for (unsigned long i = 0; i < iterations; i++) {
        size_t len = 0;
        if (n) {
            const struct input *s = &seeds[next() % n];
            memcpy(buf, s->bytes, s->len);
            len = s->len;
        }
        len = mutate(buf, len);
        /* A copy of the exact size, so that a sanitizer sees a read past its end. */
        uint8_t *exact = malloc(len ? len : 1);
        memcpy(exact, buf, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
    for (unsigned i = 0; i < n; i++)
        free(seeds[i].bytes);
    printf("%u seeds, %lu mutations\n", n, iterations);
    return 0;
}
