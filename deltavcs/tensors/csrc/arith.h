/* Kernels of deltavcs.tensors: the arithmetic of stored dtypes (spec v1-derived §1, §2), and sums over them.
 *
 * Every level gives the same bits: each operation is one IEEE 754 binary64 operation, never contracted, and
 * sums have one order (see DV_LANES). Callers have proven all lengths; buffers may have any alignment.
 */
#ifndef DELTAVCS_ARITH_H
#define DELTAVCS_ARITH_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels read little-endian elements in place; numpy does the work on other machines"
#endif
#if FLT_EVAL_METHOD != 0
#error "the arithmetic must be that of binary64, without excess precision"
#endif
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define DV_X86 1
#endif

enum { DV_F64, DV_F32, DV_F16, DV_BF16, DV_E5M2, DV_E4M3, DV_N_DTYPES };
enum { DV_SCALAR, DV_AVX2, DV_AVX512 };
enum { DV_PUSH, DV_ADD, DV_SUBTRACT, DV_MULTIPLY, DV_DIVIDE, DV_N_OPS };

/* The order of every sum. A block of DV_BLOCK terms is read as rows of DV_LANES; each lane is summed from the
 * first row to the last, starting from +0.0; then the upper half of the lanes is added to the lower half until
 * one is left. Sums of blocks are added in turn, starting from +0.0. A last block that is not full behaves as
 * if zeros followed. */
#define DV_LANES 64
#define DV_BLOCK 4096

#define DV_MAX_STACK 16
#define DV_MAX_TOKENS 2048
#define DV_MAX_INPUTS 256

/* Elements in any place. */
typedef uint16_t __attribute__((aligned(1), may_alias)) dv_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) dv_u32;
typedef uint64_t __attribute__((aligned(1), may_alias)) dv_u64;
typedef float __attribute__((aligned(1), may_alias)) dv_f32;
typedef double __attribute__((aligned(1), may_alias)) dv_f64;

/* One step of a postfix program, as `struct.pack("<iid")` writes it. */
typedef struct {
    int32_t op, input;
    double scalar;
} dv_token;

/* An input of a program: `n` elements, +0.0 after them. */
typedef struct {
    const uint8_t *raw;
    size_t n;
    int dtype;
} dv_input;

enum { DV_BASE, DV_DRIFT, DV_DELTA, DV_DOT, DV_N_GEOMETRY };
enum { DV_MOVE, DV_AA, DV_BB, DV_AB, DV_N_PAIR };

/* The kernels of one instruction set. */
typedef struct {
    void (*widen)(int dtype, const uint8_t *raw, size_t n, dv_f64 *out);
    void (*round)(int dtype, const dv_f64 *values, size_t n, uint8_t *out);
    /* Elements of 1, 2, 4 or 8 bytes that differ in any bit. */
    size_t (*count)(int itemsize, const uint8_t *a, const uint8_t *b, size_t n);
    /* Elements that differ in any bit, and the sum of (a − b)² over those elements alone. */
    size_t (*difference)(int dtype, const uint8_t *a, const uint8_t *b, size_t n, double *squares);
    /* Σs², Σ(t−s)², Σ(f−s)², Σ(f−s)(t−s) over inputs t, f, s of n elements each. */
    void (*geometry)(const dv_input in[3], double sums[DV_N_GEOMETRY]);
    /* Σ(b−a)² as `difference`, Σa², Σb², Σab; returns the elements that differ. */
    size_t (*pair)(int dtype, const uint8_t *a, const uint8_t *b, size_t n, double sums[DV_N_PAIR]);
    /* Evaluate a proven program and round the results to `dtype`. */
    void (*linear)(const dv_token *program, size_t n_tokens, const dv_input *in, int dtype, size_t n, uint8_t *out);
} dv_kernels;

extern const dv_kernels dv_kernels_any;
#ifdef DV_X86
extern const dv_kernels dv_kernels_avx2, dv_kernels_avx512;
#endif

static inline size_t dv_itemsize(int dtype) {
    static const uint8_t sizes[DV_N_DTYPES] = {8, 4, 2, 2, 1, 1};
    return sizes[dtype];
}

#endif
