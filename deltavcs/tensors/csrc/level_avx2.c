/* Kernels for AVX2. */
#include "arith.h"

#ifdef DV_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define DV_KERNELS dv_kernels_avx2
#include "kernels.inc"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
