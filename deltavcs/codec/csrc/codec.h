/* Kernels of the DELTA and EXP codecs; docs/spec/v1-codec.md is normative, numpy the reference.
 *
 * All functions are pure and re-entrant. Buffers carry no alignment. Lengths are proven by the caller
 * (module.c) except where a function says that it checks. */
#ifndef DELTAVCS_CODEC_H
#define DELTAVCS_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels read little-endian words in place; numpy stands in on this machine"
#endif

#define DV_LANES 32
#define DV_CONTEXTS 17
#define DV_MAX_TOKENS 128
#define DV_PROB_BITS 11
#define DV_PROB_SCALE 2048
#define DV_STATE_LOW 65536u
#define DV_MAX_SECTIONS 16
#define DV_MAX_EXPONENTS 256

#define DV_OK 0
#define DV_BAD (-1)
#define DV_TOO_LONG (-2)

/* DV_AVX512_LOADS is DV_AVX512 with tables read by single loads: AMD's gathers take longer than those, except where
 * 32-bit weights are decoded, which both levels do with gathers. */
enum { DV_SCALAR, DV_AVX2, DV_AVX512, DV_AVX512_LOADS, DV_N_LEVELS };

/* One tensor's number format and context map. */
typedef struct {
    int width;         /* bits of a pattern: 16 or 32 */
    int mantissa;      /* mantissa bits */
    uint32_t exp_mask; /* exponent values - 1 */
    uint32_t top;      /* exponent that contexts (DELTA) or tokens (EXP) count down from */
    int is_exp;        /* EXP, else DELTA */
    int spare;         /* EXP: bits of sign and mantissa coded with the token */
    int n_tokens;      /* 64 or 128 */
    int n_tables;      /* 1..17 */
    int raw_from;      /* first token that has raw bits */
    uint8_t table_of[32]; /* 17 used; padded for vector loads */
    uint8_t n_raw[DV_MAX_TOKENS];  /* raw bits of a token */
    uint32_t first[DV_MAX_TOKENS]; /* value of a token whose raw bits are zero */
} dv_model;

/* One section: its elements [at, stop), lane states and unread (decoder) or unused (encoder) words. */
typedef struct {
    size_t at, stop;
    const uint8_t *words, *words_end; /* decoder */
    uint8_t *room, *head;             /* encoder: words grow down from head, never below room */
    uint32_t x[DV_LANES];
} dv_section;

/* Decode table entry: frequency in bits 0..11, slot - cumulative in 12..22, token in 23..29; for DELTA of 16 bits
 * instead of the token its raw bits in 23..27 and its upper bits in 28..31, so that nothing is looked up by token.
 * Encode table entry: frequency in bits 0..11, cumulative in 12..22. */
#define DV_FREQ(entry) ((entry)&0xFFFu)
#define DV_REST(entry) (((entry) >> 12) & 0x7FFu)
#define DV_TOKEN(entry) ((entry) >> 23)
#define DV_RAW(entry) (((entry) >> 23) & 31u)
#define DV_LEAD(entry) ((entry) >> 28)

static inline uint32_t dv_load16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t dv_load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline void dv_store16(uint8_t *p, uint32_t v) {
    uint16_t w = (uint16_t)v;
    memcpy(p, &w, 2);
}
static inline void dv_store32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

static inline uint32_t dv_pattern(const uint8_t *data, size_t i, int width) {
    return width == 16 ? dv_load16(data + 2 * i) : dv_load32(data + 4 * i);
}

/* Order-preserving map of sign-magnitude patterns, its own inverse (spec 4.1). */
static inline uint32_t dv_order(uint32_t bits, int width) {
    uint32_t magnitude = (1u << (width - 1)) - 1u;
    return (bits >> (width - 1)) & 1u ? bits ^ magnitude : bits;
}
static inline uint32_t dv_difference(uint32_t target, uint32_t base, int width) {
    uint32_t all = width == 16 ? 0xFFFFu : 0xFFFFFFFFu;
    uint32_t delta = (dv_order(target, width) - dv_order(base, width)) & all;
    uint32_t sign = (delta >> (width - 1)) & 1u ? all : 0u;
    return ((delta << 1) & all) ^ sign;
}
static inline uint32_t dv_apply(uint32_t zigzag, uint32_t base, int width) {
    uint32_t all = width == 16 ? 0xFFFFu : 0xFFFFFFFFu;
    uint32_t delta = (zigzag >> 1) ^ (0u - (zigzag & 1u));
    return dv_order((dv_order(base, width) + delta) & all, width);
}
static inline uint32_t dv_exponent(const dv_model *m, uint32_t bits) {
    return (bits >> m->mantissa) & m->exp_mask;
}
static inline uint32_t dv_table(const dv_model *m, uint32_t base) {
    uint32_t e = dv_exponent(m, base);
    uint32_t below = e < m->top ? m->top - e : 0u;
    return m->table_of[below < DV_CONTEXTS - 1 ? below : DV_CONTEXTS - 1];
}
/* Token of a zigzagged difference (spec 4.2), without branches: a float's exponent and upper mantissa bits
 * are the octave and the next bits. Above 2^16 the 14 low bits are cut, so that the float is exact. */
static inline __attribute__((always_inline)) uint32_t dv_token(uint32_t z, const int width) {
    const uint32_t escape = 4u * (uint32_t)width - 1u;
    union {
        float f;
        uint32_t bits;
    } as;
    uint32_t cut = width == 16 ? 0u : 14u & (0u - (uint32_t)(z > 0xFFFFu));
    as.f = (float)(int32_t)(z >> cut);
    uint32_t large = 0u - (uint32_t)(z > 15u);
    uint32_t token = (z & ~large) | (((as.bits >> 21) - 4u * 127u + 4u * cut) & large);
    return token < escape ? token : escape;
}

/* model.c */
void dv_model_init(dv_model *m, int width, int mantissa, uint32_t top, int is_exp);
void dv_decode_table(const dv_model *m, const uint16_t *freqs, uint32_t *out);
void dv_encode_table(const uint16_t *freqs, int n_tables, int n_tokens, uint32_t *out);
int dv_read_tables(const uint8_t *bits, size_t n_bytes, int n_tables, int n_tokens, uint16_t *freqs);
size_t dv_write_tables(const uint16_t *freqs, int n_tables, int n_tokens, uint8_t *out);

/* count.c */
void dv_count_delta(int level, const dv_model *m, const uint8_t *target, const uint8_t *base, size_t n,
                    uint32_t *counts);
void dv_count_exponents(const dv_model *m, const uint8_t *target, size_t n, uint32_t *counts);

/* tune.c: choose the tables of a DELTA tensor from counts by exponent ([exponents, alphabet]). Fills top,
 * table_of and the frequencies; returns the bits that the counted weights take with them. */
double dv_tune_delta(dv_model *m, const uint32_t *counts, uint16_t *freqs);

/* scalar.c: advance a section to its end. DELTA reads `base` and writes patterns to `out`; EXP reads no
 * base and writes uint16 values. Checks every read of words. DV_OK or DV_BAD. */
int dv_decode_scalar(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *base,
                     uint8_t *out);
/* Code elements [at, stop) backwards; EXP takes uint16 values as `target`. With `stop` a multiple of 32
 * above `at`, all groups are whole. DV_OK or DV_TOO_LONG. */
int dv_encode_scalar(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *target,
                     const uint8_t *base);

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define DV_X86 1
/* Advance one or two sections by whole groups while at least the words of a group remain. */
void dv_avx2_init(void);
void dv_decode_avx2(const dv_model *m, const uint32_t *table, dv_section *s, int n, const uint8_t *base,
                    uint8_t *out);
void dv_decode_avx512(int level, const dv_model *m, const uint32_t *table, dv_section *s, int n, const uint8_t *base,
                      uint8_t *out);
/* Code whole groups backwards from stop while there is room for one; leaves the rest in [at, stop). */
void dv_encode_avx2(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *target,
                    const uint8_t *base);
void dv_encode_avx512(int level, const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *target,
                      const uint8_t *base);
#endif

/* payload.c: the levels this processor can run, slowest first; how many there are. */
int dv_levels(int levels[DV_N_LEVELS]);
int dv_decode_payload(int level, const dv_model *m, const uint32_t *table, const uint8_t *payload,
                      size_t n_payload, const uint8_t *base, uint8_t *out, size_t n);
/* Bytes of raw planes after the words of a chunk of n elements. */
size_t dv_plane_bytes(const dv_model *m, size_t n);
/* Decode a whole chunk in mode 0; `room` has dv_decode_room bytes. Checks every length. DV_OK or DV_BAD. */
size_t dv_decode_room(const dv_model *m, size_t n);
int dv_decode_chunk(int level, const dv_model *m, const uint32_t *table, const uint8_t *payload, size_t n_payload,
                    const uint8_t *base, uint8_t *out, size_t n, uint8_t *room);
size_t dv_encode_room(const dv_model *m, size_t n, int n_sections);
int dv_encode_sections(int level, const dv_model *m, const uint32_t *table, const uint8_t *target,
                       const uint8_t *base, size_t n, dv_section *s, int n_sections, uint8_t *room);

/* xxh3.c: the checksum of a chunk of more than 240 bytes. */
#define DV_XXH3_LEAST 241
uint64_t dv_xxh3(int level, const uint8_t *data, size_t n);

/* planes.c */
void dv_split(int level, const uint8_t *data, const uint8_t *base, size_t n, int itemsize, uint8_t *planes);
void dv_join(int level, const uint8_t *planes, const uint8_t *base, size_t n, int itemsize, uint8_t *out);
void dv_exp_split(int level, const dv_model *m, const uint8_t *target, size_t n, uint8_t *values, uint8_t *planes);
void dv_exp_join(int level, const dv_model *m, const uint8_t *values, const uint8_t *planes, size_t n, uint8_t *out);

#endif
