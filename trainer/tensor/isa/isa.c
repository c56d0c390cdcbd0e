/* Which instruction set's kernels run. */
#include "trainer/tensor/isa/isa.h"

#include <errno.h>

extern const struct sl_row_kernels sl_row_kernels_base, sl_row_kernels_v3, sl_row_kernels_v4,
    sl_row_kernels_v4_bf16;

extern const struct sl_attention_kernels sl_attention_kernels_base, sl_attention_kernels_v3,
    sl_attention_kernels_v4, sl_attention_kernels_v4_bf16;

static const struct sl_row_kernels *const rows[SL_ISA_COUNT] = {
    &sl_row_kernels_base,
#ifdef SL_X86_LEVELS
    &sl_row_kernels_v3,
    &sl_row_kernels_v4,
    &sl_row_kernels_v4_bf16,
#endif
};
static const struct sl_attention_kernels *const attention[SL_ISA_COUNT] = {
    &sl_attention_kernels_base,
#ifdef SL_X86_LEVELS
    &sl_attention_kernels_v3,
    &sl_attention_kernels_v4,
    &sl_attention_kernels_v4_bf16,
#endif
};
static enum sl_isa current = SL_ISA_BASE;

bool sl_isa_supported(enum sl_isa isa)
{
    if (isa == SL_ISA_BASE)
        return true;
#ifdef SL_X86_LEVELS
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
    switch (isa) {
    case SL_ISA_V3:
        return v3;
    case SL_ISA_V4:
        return v4;
    case SL_ISA_V4_BF16:
        return v4 && __builtin_cpu_supports("avx512bf16");
    default:
        break;
    }
#endif
    return false;
}

__attribute__((constructor)) static void choose(void)
{
#ifdef SL_X86_LEVELS
    __builtin_cpu_init();
#endif
    for (unsigned isa = 0; isa < SL_ISA_COUNT; isa++)
        if (sl_isa_supported(isa))
            current = isa;
}

const char *sl_isa_name(enum sl_isa isa)
{
    static const char *const names[SL_ISA_COUNT] = {"baseline", "x86-64-v3", "x86-64-v4", "x86-64-v4+bf16"};
    return names[isa];
}

enum sl_isa sl_isa_current(void)
{
    return current;
}

int sl_isa_use(enum sl_isa isa)
{
    if (!sl_isa_supported(isa))
        return -ENOTSUP;
    current = isa;
    return 0;
}

const struct sl_row_kernels *sl_row_kernels(void)
{
    return rows[current];
}

const struct sl_attention_kernels *sl_attention_kernels(void)
{
    return attention[current];
}
