/* AVX-512 coder: a group is two vectors of 16 states; two sections at once hide each other's latency. `loads` is
 * how tables are read, see DV_AVX512_LOADS. */
#include "codec.h"

#ifdef DV_X86
#include <immintrin.h>

#define T512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,bmi,bmi2,popcnt")))
#define INLINE512 static inline __attribute__((always_inline)) T512

/* Lower halves of 32-bit lanes: a lookup by uint16 would put entry 0 into the upper ones. */
#define EVEN 0x55555555u

typedef struct {
    __m512i tables16;          /* 32 × uint16: first slot of each context's table */
    __m512i raw_low, raw_high; /* raw bits of 64 tokens, uint16 */
    __m512i first_low, first_high;
    __m512i top16, mask16;
    __m512i tables_low, tables_high; /* the same as tables16, uint32 */
} consts512;

INLINE512 consts512 load_consts(const dv_model *m, int slots_per_table) {
    uint16_t of[32], raw[64] = {0}, first[64] = {0};
    uint32_t of32[32];
    for (int c = 0; c < 32; c++) {
        of32[c] = (uint32_t)m->table_of[c < DV_CONTEXTS ? c : DV_CONTEXTS - 1] * (uint32_t)slots_per_table;
        of[c] = (uint16_t)of32[c];
    }
    for (int t = 0; t < 64; t++) {
        raw[t] = m->n_raw[t];
        first[t] = (uint16_t)m->first[t];
    }
    consts512 c;
    c.tables16 = _mm512_loadu_si512(of);
    c.raw_low = _mm512_loadu_si512(raw);
    c.raw_high = _mm512_loadu_si512(raw + 32);
    c.first_low = _mm512_loadu_si512(first);
    c.first_high = _mm512_loadu_si512(first + 32);
    c.top16 = _mm512_set1_epi16((short)m->top);
    c.mask16 = _mm512_set1_epi16((short)m->exp_mask);
    c.tables_low = _mm512_loadu_si512(of32);
    c.tables_high = _mm512_loadu_si512(of32 + 16);
    return c;
}

INLINE512 __m512i order16(__m512i bits) {
    __m512i sign = _mm512_srai_epi16(bits, 15);
    return _mm512_xor_si512(bits, _mm512_and_si512(sign, _mm512_set1_epi16(0x7FFF)));
}
INLINE512 __m512i order32(__m512i bits) {
    __m512i sign = _mm512_srai_epi32(bits, 31);
    return _mm512_xor_si512(bits, _mm512_srli_epi32(sign, 1));
}

INLINE512 __m512i context16(const dv_model *m, const consts512 *c, __m512i base) {
    __m512i e = _mm512_and_si512(_mm512_srl_epi16(base, _mm_cvtsi32_si128(m->mantissa)), c->mask16);
    __m512i below = _mm512_min_epu16(_mm512_subs_epu16(c->top16, e), _mm512_set1_epi16(DV_CONTEXTS - 1));
    return _mm512_permutexvar_epi16(below, c->tables16);
}
INLINE512 __m512i context32(const dv_model *m, const consts512 *c, __m512i base) {
    __m512i e = _mm512_and_si512(_mm512_srl_epi32(base, _mm_cvtsi32_si128(m->mantissa)),
                                 _mm512_set1_epi32((int)m->exp_mask));
    __m512i below = _mm512_sub_epi32(_mm512_set1_epi32((int)m->top), e);
    below = _mm512_max_epi32(below, _mm512_setzero_si512());
    below = _mm512_min_epi32(below, _mm512_set1_epi32(DV_CONTEXTS - 1));
    return _mm512_permutex2var_epi32(c->tables_low, below, c->tables_high);
}
INLINE512 __m512i widen(__m512i v, int half) {
    return _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v));
}
INLINE512 __m512i narrow(__m512i low, __m512i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)), _mm512_cvtepi32_epi16(high), 1);
}

/* Refill the lanes that are below the limit; the caller has proven that 16 words remain. A lane that gave no bits
 * is never below it, as no section begins with such a state. */
INLINE512 __m512i refill(__m512i x, const uint8_t **words) {
    __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(DV_STATE_LOW));
    __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*words));
    *words += 2 * (unsigned)__builtin_popcount(low);
    return _mm512_or_si512(_mm512_mask_slli_epi32(x, low, x, 16), _mm512_maskz_expand_epi32(low, next));
}
INLINE512 __m512i low_bits(__m512i x, __m512i k) {
    return _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), k), x);
}

INLINE512 __m128i load_four(const uint32_t *table, __m128i at) {
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(at), high = (uint64_t)_mm_extract_epi64(at, 1);
    __m128i a = _mm_cvtsi32_si128((int)table[(uint32_t)low]), b = _mm_cvtsi32_si128((int)table[low >> 32]);
    __m128i c = _mm_cvtsi32_si128((int)table[(uint32_t)high]), d = _mm_cvtsi32_si128((int)table[high >> 32]);
    return _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
}
INLINE512 __m256i load_eight(const uint32_t *table, __m256i at) {
    __m128i low = load_four(table, _mm256_castsi256_si128(at));
    __m128i high = load_four(table, _mm256_extracti128_si256(at, 1));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
INLINE512 __m512i look_up(const uint32_t *table, __m512i at, const int loads) {
    if (!loads)
        return _mm512_i32gather_epi32(at, table, 4);
    __m256i low = load_eight(table, _mm512_castsi512_si256(at));
    __m256i high = load_eight(table, _mm512_extracti64x4_epi64(at, 1));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Decode n sections of 16-bit values in step (n is 1 or 2, a constant after inlining). */
INLINE512 void decode16(const dv_model *m, const uint32_t *table, dv_section *s, const int n, const int is_exp,
                        const int loads, const uint8_t *base, uint8_t *out) {
    const consts512 c = load_consts(m, DV_PROB_SCALE);
    const __m512i slot_mask = _mm512_set1_epi32(DV_PROB_SCALE - 1), freq_mask = _mm512_set1_epi32(0xFFF);
    const __m512i raw_from = _mm512_set1_epi32(m->raw_from), one16 = _mm512_set1_epi16(1);
    const uint8_t *words[2] = {s[0].words, s[n - 1].words};
    __m512i x[4], z[4], of[4];
    size_t at[2] = {s[0].at, s[n - 1].at}, groups = (s[0].stop - s[0].at) / DV_LANES;
    if (n == 2 && (s[1].stop - s[1].at) / DV_LANES < groups)
        groups = (s[1].stop - s[1].at) / DV_LANES;
    for (int i = 0; i < 2 * n; i++) {
        x[i] = _mm512_loadu_si512(s[i / 2].x + 16 * (i & 1));
        of[i] = _mm512_setzero_si512();
    }
    for (; groups; groups--) {
        __m512i from[2];
        if (s[0].words_end - words[0] < 128 || (n == 2 && s[1].words_end - words[1] < 128))
            break;
        for (int j = 0; j < n && !is_exp; j++) {
            from[j] = _mm512_loadu_si512(base + 2 * at[j]);
            __m512i context = context16(m, &c, from[j]);
            of[2 * j] = widen(context, 0);
            of[2 * j + 1] = widen(context, 1);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 2 * n; i++) {
            __m512i slot = _mm512_or_si512(of[i], _mm512_and_si512(x[i], slot_mask));
            __m512i entry = look_up(table, slot, loads);
            __m512i rest = _mm512_and_si512(_mm512_srli_epi32(entry, 12), slot_mask);
            z[i] = _mm512_srli_epi32(entry, 23);
            x[i] = _mm512_mullo_epi32(_mm512_and_si512(entry, freq_mask), _mm512_srli_epi32(x[i], DV_PROB_BITS));
            x[i] = _mm512_add_epi32(x[i], rest);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 2 * n; i++)
            x[i] = refill(x[i], &words[i / 2]);
#pragma GCC unroll 4
        for (int i = 0; i < 2 * n; i++) {
            if (!is_exp) {
                __m512i k = _mm512_and_si512(z[i], _mm512_set1_epi32(31));
                __m512i lead = _mm512_sllv_epi32(_mm512_srli_epi32(z[i], 5), k);
                /* lead | (x & ~(-1 << k)) */
                z[i] = _mm512_ternarylogic_epi32(lead, x[i], _mm512_sllv_epi32(_mm512_set1_epi32(-1), k), 0xF4);
                x[i] = refill(_mm512_srlv_epi32(x[i], k), &words[i / 2]);
                continue;
            }
            if (_mm512_cmpge_epu32_mask(z[i], raw_from)) {
                __m512i k = _mm512_maskz_permutex2var_epi16(EVEN, c.raw_low, z[i], c.raw_high);
                __m512i first = _mm512_permutex2var_epi16(c.first_low, z[i], c.first_high);
                z[i] = _mm512_or_si512(first, low_bits(x[i], k));
                x[i] = refill(_mm512_srlv_epi32(x[i], k), &words[i / 2]);
            }
        }
        for (int j = 0; j < n; j++) {
            __m512i value = narrow(z[2 * j], z[2 * j + 1]);
            if (!is_exp) {
                __m512i sign = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_and_si512(value, one16));
                __m512i delta = _mm512_xor_si512(_mm512_srli_epi16(value, 1), sign);
                value = order16(_mm512_add_epi16(order16(from[j]), delta));
            }
            _mm512_storeu_si512(out + 2 * at[j], value);
            at[j] += DV_LANES;
        }
    }
    for (int i = 0; i < 2 * n; i++)
        _mm512_storeu_si512(s[i / 2].x + 16 * (i & 1), x[i]);
    for (int j = 0; j < n; j++) {
        s[j].words = words[j];
        s[j].at = at[j];
    }
}

/* 32-bit weights: gathers at either level. Single loads do not fit beside what else this loop keeps in registers. */
INLINE512 void decode32(const dv_model *m, const uint32_t *table, dv_section *s, const int n, const uint8_t *base,
                        uint8_t *out) {
    const consts512 c = load_consts(m, DV_PROB_SCALE);
    const __m512i slot_mask = _mm512_set1_epi32(DV_PROB_SCALE - 1), freq_mask = _mm512_set1_epi32(0xFFF);
    const __m512i sixteen = _mm512_set1_epi32(16), two = _mm512_set1_epi32(2), one = _mm512_set1_epi32(1);
    const uint8_t *words[2] = {s[0].words, s[n - 1].words};
    __m512i x[4], z[4], k[4], from[4];
    size_t at[2] = {s[0].at, s[n - 1].at}, groups = (s[0].stop - s[0].at) / DV_LANES;
    if (n == 2 && (s[1].stop - s[1].at) / DV_LANES < groups)
        groups = (s[1].stop - s[1].at) / DV_LANES;
    for (int i = 0; i < 2 * n; i++)
        x[i] = _mm512_loadu_si512(s[i / 2].x + 16 * (i & 1));
    for (; groups; groups--) {
        if (s[0].words_end - words[0] < 192 || (n == 2 && s[1].words_end - words[1] < 192))
            break;
#pragma GCC unroll 4
        for (int i = 0; i < 2 * n; i++) {
            from[i] = _mm512_loadu_si512(base + 4 * (at[i / 2] + 16 * (size_t)(i & 1)));
            __m512i slot = _mm512_or_si512(context32(m, &c, from[i]), _mm512_and_si512(x[i], slot_mask));
            __m512i entry = look_up(table, slot, 0);
            __m512i rest = _mm512_and_si512(_mm512_srli_epi32(entry, 12), slot_mask);
            z[i] = _mm512_srli_epi32(entry, 23);
            x[i] = _mm512_mullo_epi32(_mm512_and_si512(entry, freq_mask), _mm512_srli_epi32(x[i], DV_PROB_BITS));
            x[i] = _mm512_add_epi32(x[i], rest);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 2 * n; i++)
            x[i] = refill(x[i], &words[i / 2]);
        __mmask16 more = 0;
#pragma GCC unroll 4
        for (int i = 0; i < 2 * n; i++) {
            __mmask16 has_raw = _mm512_cmpge_epu32_mask(z[i], sixteen);
            k[i] = _mm512_maskz_sub_epi32(has_raw, _mm512_srli_epi32(z[i], 2), two);
            k[i] = _mm512_mask_mov_epi32(k[i], _mm512_cmpeq_epi32_mask(z[i], _mm512_set1_epi32(127)),
                                         _mm512_set1_epi32(32));
            __m512i lead = _mm512_or_si512(_mm512_and_si512(z[i], _mm512_set1_epi32(3)), _mm512_set1_epi32(4));
            /* The escape shifts by 32, which leaves zero. */
            z[i] = _mm512_mask_sllv_epi32(z[i], has_raw, lead, k[i]);
            __m512i part = _mm512_min_epu32(k[i], sixteen);
            z[i] = _mm512_or_si512(z[i], low_bits(x[i], part));
            x[i] = _mm512_srlv_epi32(x[i], part);
            x[i] = refill(x[i], &words[i / 2]);
            more |= _mm512_cmpgt_epu32_mask(k[i], sixteen);
        }
        for (int i = 0; i < 2 * n && more; i++) {
            __mmask16 has_raw = _mm512_cmpgt_epu32_mask(k[i], sixteen);
            __m512i part = _mm512_maskz_sub_epi32(has_raw, k[i], sixteen);
            z[i] = _mm512_or_si512(z[i], _mm512_slli_epi32(low_bits(x[i], part), 16));
            x[i] = _mm512_srlv_epi32(x[i], part);
            x[i] = refill(x[i], &words[i / 2]);
        }
        for (int i = 0; i < 2 * n; i++) {
            __m512i sign = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_and_si512(z[i], one));
            __m512i delta = _mm512_xor_si512(_mm512_srli_epi32(z[i], 1), sign);
            _mm512_storeu_si512(out + 4 * (at[i / 2] + 16 * (size_t)(i & 1)),
                                order32(_mm512_add_epi32(order32(from[i]), delta)));
        }
        for (int j = 0; j < n; j++)
            at[j] += DV_LANES;
    }
    for (int i = 0; i < 2 * n; i++)
        _mm512_storeu_si512(s[i / 2].x + 16 * (i & 1), x[i]);
    for (int j = 0; j < n; j++) {
        s[j].words = words[j];
        s[j].at = at[j];
    }
}

INLINE512 void decode(const dv_model *m, const uint32_t *table, dv_section *s, const int n, const int loads,
                      const uint8_t *base, uint8_t *out) {
    if (m->is_exp)
        decode16(m, table, s, n, 1, loads, base, out);
    else if (m->width == 16)
        decode16(m, table, s, n, 0, loads, base, out);
    else
        decode32(m, table, s, n, base, out);
}
T512 void dv_decode_avx512(int level, const dv_model *m, const uint32_t *table, dv_section *s, int n,
                           const uint8_t *base, uint8_t *out) {
    if (level == DV_AVX512_LOADS)
        n == 2 ? decode(m, table, s, 2, 1, base, out) : decode(m, table, s, 1, 1, base, out);
    else
        n == 2 ? decode(m, table, s, 2, 0, base, out) : decode(m, table, s, 1, 0, base, out);
}

/* Write the low words of the lanes in `full` below head, lowest lane lowest. */
INLINE512 __m512i shed(__m512i x, __mmask16 full, uint8_t **head) {
    unsigned n = (unsigned)__builtin_popcount(full);
    __m256i words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, x));
    *head -= 2 * n;
    _mm256_mask_storeu_epi16(*head, (__mmask16)((1u << n) - 1u), words);
    return _mm512_mask_srli_epi32(x, full, x, 16);
}
INLINE512 __m512i put_raw(__m512i x, __m512i k, __m512i raw, uint8_t **head) {
    __mmask16 some = _mm512_test_epi32_mask(k, k);
    /* A shift by 32 leaves zero, so lanes without raw bits do not shed. */
    __m512i above = _mm512_srlv_epi32(x, _mm512_sub_epi32(_mm512_set1_epi32(32), k));
    x = shed(x, _mm512_mask_test_epi32_mask(some, above, above), head);
    return _mm512_or_si512(_mm512_sllv_epi32(x, k), raw);
}
INLINE512 __m512i put_token(__m512i x, __m512i entry, uint8_t **head) {
    const __m512 two = _mm512_set1_ps(2.0f);
    __m512i freq = _mm512_and_si512(entry, _mm512_set1_epi32(0xFFF));
    x = shed(x, _mm512_cmpge_epu32_mask(_mm512_srli_epi32(x, 21), freq), head);
    __m512 divisor = _mm512_cvtepi32_ps(freq), guess = _mm512_rcp14_ps(divisor);
    guess = _mm512_mul_ps(guess, _mm512_fnmadd_ps(divisor, guess, two));
    /* Relative error below 2^-22 and a quotient below 2^21: at most one off, either way. */
    __m512i q = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), guess));
    __m512i r = _mm512_sub_epi32(x, _mm512_mullo_epi32(q, freq));
    __mmask16 under = _mm512_movepi32_mask(r), over = _mm512_cmpge_epi32_mask(r, freq);
    r = _mm512_mask_add_epi32(_mm512_mask_sub_epi32(r, over, r, freq), under, r, freq);
    q = _mm512_mask_add_epi32(q, over, q, _mm512_set1_epi32(1));
    q = _mm512_mask_sub_epi32(q, under, q, _mm512_set1_epi32(1));
    return _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(q, DV_PROB_BITS), r), _mm512_srli_epi32(entry, 12));
}

INLINE512 __m512i token_of(__m512i z, const int width, const int is_exp, int spare, __m512i escape) {
    if (is_exp)
        return _mm512_min_epu32(_mm512_srl_epi32(z, _mm_cvtsi32_si128(spare)), escape);
    __mmask16 large = _mm512_cmpge_epu32_mask(z, _mm512_set1_epi32(16));
    __m512i t;
    if (width == 16) { /* A float's exponent and upper mantissa bits are the octave and the next bits. */
        t = _mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(z)), 21);
        t = _mm512_sub_epi32(t, _mm512_set1_epi32(4 * 127));
    } else {
        __m512i octave = _mm512_sub_epi32(_mm512_set1_epi32(31), _mm512_lzcnt_epi32(z));
        t = _mm512_srlv_epi32(z, _mm512_sub_epi32(octave, _mm512_set1_epi32(2)));
        t = _mm512_or_si512(_mm512_slli_epi32(octave, 2), _mm512_and_si512(t, _mm512_set1_epi32(3)));
    }
    return _mm512_min_epu32(_mm512_mask_mov_epi32(z, large, t), escape);
}
INLINE512 __m512i raw_bits(const consts512 *c, __m512i token, const int width, __m512i escape) {
    if (width == 16)
        return _mm512_maskz_permutex2var_epi16(EVEN, c->raw_low, token, c->raw_high);
    __mmask16 large = _mm512_cmpge_epu32_mask(token, _mm512_set1_epi32(16));
    __m512i k = _mm512_maskz_sub_epi32(large, _mm512_srli_epi32(token, 2), _mm512_set1_epi32(2));
    return _mm512_mask_mov_epi32(k, _mm512_cmpeq_epi32_mask(token, escape), _mm512_set1_epi32(32));
}

INLINE512 void encode_groups(const dv_model *m, const uint32_t *table, dv_section *s, const int width,
                             const int is_exp, const int loads, const uint8_t *target, const uint8_t *base) {
    const consts512 c = load_consts(m, m->n_tokens);
    const __m512i escape = _mm512_set1_epi32(m->n_tokens - 1), sixteen = _mm512_set1_epi32(16);
    __m512i x[2] = {_mm512_loadu_si512(s->x), _mm512_loadu_si512(s->x + 16)};
    uint8_t *head = s->head;
    size_t e = s->stop;
    while (e - s->at >= DV_LANES && head - s->room >= 6 * DV_LANES) {
        __m512i z[2], of[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()}, entry[2], k[2];
        e -= DV_LANES;
        if (width == 16) {
            __m512i value = _mm512_loadu_si512(target + 2 * e);
            if (!is_exp) {
                __m512i from = _mm512_loadu_si512(base + 2 * e), context = context16(m, &c, from);
                __m512i delta = _mm512_sub_epi16(order16(value), order16(from));
                value = _mm512_xor_si512(_mm512_slli_epi16(delta, 1), _mm512_srai_epi16(delta, 15));
                of[0] = widen(context, 0);
                of[1] = widen(context, 1);
            }
            z[0] = widen(value, 0);
            z[1] = widen(value, 1);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            if (width == 32) {
                __m512i from = _mm512_loadu_si512(base + 4 * (e + 16 * (size_t)i));
                __m512i delta = order32(_mm512_loadu_si512(target + 4 * (e + 16 * (size_t)i)));
                delta = _mm512_sub_epi32(delta, order32(from));
                z[i] = _mm512_xor_si512(_mm512_slli_epi32(delta, 1), _mm512_srai_epi32(delta, 31));
                of[i] = context32(m, &c, from);
            }
            __m512i token = token_of(z[i], width, is_exp, m->spare, escape);
            entry[i] = look_up(table, _mm512_add_epi32(of[i], token), loads);
            __mmask16 unseen = _mm512_testn_epi32_mask(entry[i], entry[i]);
            if (unseen) {
                token = _mm512_mask_mov_epi32(token, unseen, escape);
                entry[i] = look_up(table, _mm512_add_epi32(of[i], token), loads);
            }
            k[i] = raw_bits(&c, token, width, escape);
            z[i] = low_bits(z[i], k[i]);
        }
        if (width == 32) {
            for (int i = 1; i >= 0; i--)
                x[i] = put_raw(x[i], _mm512_subs_epu16(k[i], sixteen), _mm512_srli_epi32(z[i], 16), &head);
        }
        for (int i = 1; i >= 0; i--) {
            __m512i raw = _mm512_and_si512(z[i], _mm512_set1_epi32(0xFFFF));
            x[i] = put_raw(x[i], _mm512_min_epu32(k[i], sixteen), raw, &head);
        }
        for (int i = 1; i >= 0; i--)
            x[i] = put_token(x[i], entry[i], &head);
    }
    _mm512_storeu_si512(s->x, x[0]);
    _mm512_storeu_si512(s->x + 16, x[1]);
    s->head = head;
    s->stop = e;
}

INLINE512 void encode(const dv_model *m, const uint32_t *table, dv_section *s, const int loads, const uint8_t *target,
                      const uint8_t *base) {
    if (m->is_exp)
        encode_groups(m, table, s, 16, 1, loads, target, base);
    else if (m->width == 16)
        encode_groups(m, table, s, 16, 0, loads, target, base);
    else
        encode_groups(m, table, s, 32, 0, loads, target, base);
}
T512 void dv_encode_avx512(int level, const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *target,
                           const uint8_t *base) {
    if (level == DV_AVX512_LOADS)
        encode(m, table, s, 1, target, base);
    else
        encode(m, table, s, 0, target, base);
}
#endif
