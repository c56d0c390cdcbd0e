/* What the element-wise kernels share: one loop, compiled for several instruction sets and chosen once when
 * the program starts, and an exponential that the compiler can vectorise. Reductions are `omp simd`
 * (-fopenmp-simd), so their order depends on the instruction set, never on the address or on what else is
 * computed. */
#pragma once

#include <stdint.h>
#include <string.h>

/* Sanitizers run before the resolvers of ifuncs may; other compilers spell the attribute differently. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define SL_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SL_CLONES
#endif

/* e^x for finite x within 2 ulp; 0 below -87.3 (no subnormals), largest at 88.7 (no infinity); NaN stays NaN.
 * x = n ln2 + r, |r| <= ln2/2: Cody-Waite reduction and a degree-6 Taylor-like polynomial (coefficients of
 * Cephes' expf). */
static inline __attribute__((always_inline)) float sl_expf(float x)
{
    const float log2e = 1.44269504088896341f, ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
    const float round = 12582912.0f; /* 1.5·2^23: adding it leaves the integer in the low mantissa bits */
    float c = x < -87.3f ? -87.3f : x;
    c = c > 88.7f ? 88.7f : c;
    float shifted = c * log2e + round;
    float n = shifted - round;
    float r = (c - n * ln2_hi) - n * ln2_lo;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits; /* 2^n, in two factors: n reaches 128 */
    memcpy(&bits, &shifted, sizeof bits);
    int32_t k = (int32_t)(bits & 0x7FFFFFu) - 0x400000;
    int32_t half = k >> 1;
    uint32_t b1 = (uint32_t)(half + 127) << 23, b2 = (uint32_t)(k - half + 127) << 23;
    float s1, s2;
    memcpy(&s1, &b1, sizeof s1);
    memcpy(&s2, &b2, sizeof s2);
    float y = p * s1 * s2;
    return x < -87.3f ? 0.0f : y;
}
