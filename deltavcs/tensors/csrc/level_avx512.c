/* Kernels for AVX512. */
#include "arith.h"

#ifdef DV_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
#endif
#define DV_KERNELS dv_kernels_avx512
#include "kernels.inc"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
