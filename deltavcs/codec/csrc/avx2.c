/* AVX2 coder: a group is four vectors of 8 states; permutations by table stand in for expand and compress. */
#include "codec.h"

#ifdef DV_X86
#include <immintrin.h>

#define T256 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE256 static inline __attribute__((always_inline)) T256

/* For each set of lanes: which of the next words each lane takes, one byte per lane. */
static uint64_t expand_by_mask[256];
/* For each set of lanes: the lanes in it, moved to the upper end. */
static uint64_t gather_by_mask[256];

void dv_avx2_init(void) {
    for (unsigned mask = 0; mask < 256; mask++) {
        uint64_t taken = 0, bytes = 0, upper = 0;
        for (unsigned lane = 0; lane < 8; lane++)
            if (mask >> lane & 1u)
                bytes |= taken++ << (8 * lane);
        for (unsigned lane = 8, to = 8; lane-- > 0;)
            if (mask >> lane & 1u)
                upper |= (uint64_t)lane << (8 * --to);
        expand_by_mask[mask] = bytes;
        gather_by_mask[mask] = upper;
    }
}

INLINE256 __m256i order16(__m256i bits) {
    return _mm256_xor_si256(bits, _mm256_and_si256(_mm256_srai_epi16(bits, 15), _mm256_set1_epi16(0x7FFF)));
}
INLINE256 __m256i order32(__m256i bits) {
    return _mm256_xor_si256(bits, _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1));
}
INLINE256 __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE256 void store(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }

/* Refill the lanes that are below the limit; 8 words must remain. */
INLINE256 __m256i refill(__m256i x, const uint8_t **words) {
    __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*words));
    __m256i from = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)expand_by_mask[mask]));
    *words += 2 * (unsigned)__builtin_popcount(mask);
    __m256i filled = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_permutevar8x32_epi32(next, from));
    return _mm256_blendv_epi8(x, filled, low);
}
INLINE256 __m256i low_bits(__m256i x, __m256i k) {
    return _mm256_andnot_si256(_mm256_sllv_epi32(_mm256_set1_epi32(-1), k), x);
}

/* Table of each context; contexts fit a byte and table_of[0] is 0, so other bytes stay 0. */
INLINE256 __m256i tables_of(const dv_model *m, __m256i context, __m256i is_last) {
    __m256i lut = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)m->table_of));
    __m256i found = _mm256_shuffle_epi8(lut, context);
    return _mm256_blendv_epi8(found, _mm256_set1_epi32(m->table_of[16]), is_last);
}
INLINE256 __m256i context16(const dv_model *m, __m256i base) {
    __m256i e = _mm256_srl_epi16(base, _mm_cvtsi32_si128(m->mantissa));
    e = _mm256_and_si256(e, _mm256_set1_epi16((short)m->exp_mask));
    __m256i below = _mm256_subs_epu16(_mm256_set1_epi16((short)m->top), e);
    below = _mm256_min_epu16(below, _mm256_set1_epi16(16));
    __m256i is_last = _mm256_cmpeq_epi16(below, _mm256_set1_epi16(16));
    __m256i lut = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)m->table_of));
    __m256i found = _mm256_shuffle_epi8(lut, below);
    return _mm256_blendv_epi8(found, _mm256_set1_epi16(m->table_of[16]), is_last);
}
INLINE256 __m256i context32(const dv_model *m, __m256i base) {
    __m256i e = _mm256_srl_epi32(base, _mm_cvtsi32_si128(m->mantissa));
    e = _mm256_and_si256(e, _mm256_set1_epi32((int)m->exp_mask));
    __m256i below = _mm256_sub_epi32(_mm256_set1_epi32((int)m->top), e);
    below = _mm256_max_epi32(below, _mm256_setzero_si256());
    below = _mm256_min_epi32(below, _mm256_set1_epi32(16));
    return tables_of(m, below, _mm256_cmpeq_epi32(below, _mm256_set1_epi32(16)));
}

/* One symbol per lane: *token, and the state before it is refilled. */
INLINE256 __m256i take_token(const uint32_t *table, __m256i of, __m256i x, __m256i *token) {
    const __m256i slot_mask = _mm256_set1_epi32(DV_PROB_SCALE - 1);
    __m256i slot = _mm256_or_si256(_mm256_slli_epi32(of, DV_PROB_BITS), _mm256_and_si256(x, slot_mask));
    __m256i entry = _mm256_i32gather_epi32((const int *)table, slot, 4);
    __m256i rest = _mm256_and_si256(_mm256_srli_epi32(entry, 12), slot_mask);
    __m256i freq = _mm256_and_si256(entry, _mm256_set1_epi32(0xFFF));
    *token = _mm256_srli_epi32(entry, 23);
    return _mm256_add_epi32(_mm256_mullo_epi32(freq, _mm256_srli_epi32(x, DV_PROB_BITS)), rest);
}

/* Raw bits of an EXP value: how many, and the value without them. */
INLINE256 __m256i raw_exp(const dv_model *m, __m256i token, __m256i *first) {
    __m256i escape = _mm256_cmpeq_epi32(token, _mm256_set1_epi32(63));
    *first = _mm256_andnot_si256(escape, _mm256_sll_epi32(token, _mm_cvtsi32_si128(m->spare)));
    return _mm256_blendv_epi8(_mm256_set1_epi32(m->spare), _mm256_set1_epi32(m->n_raw[63]), escape);
}
/* The same of a difference, from the upper 9 bits of its entry. */
INLINE256 __m256i raw_delta(__m256i entry, __m256i *first) {
    __m256i k = _mm256_and_si256(entry, _mm256_set1_epi32(31));
    *first = _mm256_sllv_epi32(_mm256_srli_epi32(entry, 5), k);
    return k;
}

INLINE256 void decode16(const dv_model *m, const uint32_t *table, dv_section *s, const int is_exp,
                        const uint8_t *base, uint8_t *out) {
    const __m256i before_raw = _mm256_set1_epi32(m->raw_from - 1);
    const uint8_t *words = s->words;
    __m256i x[4], z[4];
    for (int i = 0; i < 4; i++)
        x[i] = load((const uint8_t *)(s->x + 8 * i));
    for (; s->stop - s->at >= DV_LANES && s->words_end - words >= 128; s->at += DV_LANES) {
        __m256i from[2], context[2];
        for (int j = 0; j < 2 && !is_exp; j++) {
            from[j] = load(base + 2 * (s->at + 16 * (size_t)j));
            context[j] = context16(m, from[j]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m256i of = _mm256_setzero_si256();
            if (!is_exp)
                of = _mm256_cvtepu16_epi32(i & 1 ? _mm256_extracti128_si256(context[i / 2], 1)
                                                 : _mm256_castsi256_si128(context[i / 2]));
            x[i] = take_token(table, of, x[i], &z[i]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            x[i] = refill(x[i], &words);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            if (!is_exp || _mm256_movemask_epi8(_mm256_cmpgt_epi32(z[i], before_raw))) {
                __m256i k = is_exp ? raw_exp(m, z[i], &z[i]) : raw_delta(z[i], &z[i]);
                z[i] = _mm256_or_si256(z[i], low_bits(x[i], k));
                x[i] = refill(_mm256_srlv_epi32(x[i], k), &words);
            }
        }
        for (int j = 0; j < 2; j++) {
            /* packus works within 128-bit halves. */
            __m256i value = _mm256_packus_epi32(z[2 * j], z[2 * j + 1]);
            value = _mm256_permute4x64_epi64(value, 0xD8);
            if (!is_exp) {
                __m256i sign = _mm256_and_si256(value, _mm256_set1_epi16(1));
                sign = _mm256_sub_epi16(_mm256_setzero_si256(), sign);
                __m256i delta = _mm256_xor_si256(_mm256_srli_epi16(value, 1), sign);
                value = order16(_mm256_add_epi16(order16(from[j]), delta));
            }
            store(out + 2 * (s->at + 16 * (size_t)j), value);
        }
    }
    for (int i = 0; i < 4; i++)
        store((uint8_t *)(s->x + 8 * i), x[i]);
    s->words = words;
}

INLINE256 void decode32(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *base, uint8_t *out) {
    const __m256i sixteen = _mm256_set1_epi32(16);
    const uint8_t *words = s->words;
    __m256i x[4], z[4], k[4], from[4];
    for (int i = 0; i < 4; i++)
        x[i] = load((const uint8_t *)(s->x + 8 * i));
    for (; s->stop - s->at >= DV_LANES && s->words_end - words >= 192; s->at += DV_LANES) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            from[i] = load(base + 4 * (s->at + 8 * (size_t)i));
            x[i] = take_token(table, context32(m, from[i]), x[i], &z[i]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            x[i] = refill(x[i], &words);
        int more = 0;
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m256i has_raw = _mm256_cmpgt_epi32(z[i], _mm256_set1_epi32(15));
            __m256i escape = _mm256_cmpeq_epi32(z[i], _mm256_set1_epi32(127));
            k[i] = _mm256_and_si256(has_raw, _mm256_sub_epi32(_mm256_srli_epi32(z[i], 2), _mm256_set1_epi32(2)));
            k[i] = _mm256_blendv_epi8(k[i], _mm256_set1_epi32(32), escape);
            __m256i lead = _mm256_or_si256(_mm256_and_si256(z[i], _mm256_set1_epi32(3)), _mm256_set1_epi32(4));
            /* The escape shifts by 32, which leaves zero. */
            z[i] = _mm256_blendv_epi8(z[i], _mm256_sllv_epi32(lead, k[i]), has_raw);
            __m256i part = _mm256_min_epu32(k[i], sixteen);
            z[i] = _mm256_or_si256(z[i], low_bits(x[i], part));
            x[i] = refill(_mm256_srlv_epi32(x[i], part), &words);
            more |= _mm256_movemask_epi8(_mm256_cmpgt_epi32(k[i], sixteen));
        }
        for (int i = 0; i < 4 && more; i++) {
            __m256i has_raw = _mm256_cmpgt_epi32(k[i], sixteen);
            __m256i part = _mm256_and_si256(has_raw, _mm256_sub_epi32(k[i], sixteen));
            z[i] = _mm256_or_si256(z[i], _mm256_slli_epi32(low_bits(x[i], part), 16));
            x[i] = refill(_mm256_srlv_epi32(x[i], part), &words);
        }
        for (int i = 0; i < 4; i++) {
            __m256i sign = _mm256_and_si256(z[i], _mm256_set1_epi32(1));
            sign = _mm256_sub_epi32(_mm256_setzero_si256(), sign);
            __m256i delta = _mm256_xor_si256(_mm256_srli_epi32(z[i], 1), sign);
            store(out + 4 * (s->at + 8 * (size_t)i), order32(_mm256_add_epi32(order32(from[i]), delta)));
        }
    }
    for (int i = 0; i < 4; i++)
        store((uint8_t *)(s->x + 8 * i), x[i]);
    s->words = words;
}

T256 void dv_decode_avx2(const dv_model *m, const uint32_t *table, dv_section *s, int n, const uint8_t *base,
                         uint8_t *out) {
    for (int j = 0; j < n; j++) {
        if (m->is_exp)
            decode16(m, table, s + j, 1, base, out);
        else if (m->width == 16)
            decode16(m, table, s + j, 0, base, out);
        else
            decode32(m, table, s + j, base, out);
    }
}

/* Write the low words of the lanes of `full` below head. What the store leaves under them is written later. */
INLINE256 __m256i shed(__m256i x, __m256i full, uint8_t **head) {
    unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(full));
    __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)gather_by_mask[mask]));
    __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xFFFF));
    low = _mm256_permutevar8x32_epi32(low, order);
    low = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    _mm_storeu_si128((__m128i *)(*head - 16), _mm256_castsi256_si128(low));
    *head -= 2 * (unsigned)__builtin_popcount(mask);
    return _mm256_blendv_epi8(x, _mm256_srli_epi32(x, 16), full);
}
INLINE256 __m256i put_raw(__m256i x, __m256i k, __m256i raw, uint8_t **head) {
    const __m256i zero = _mm256_setzero_si256();
    /* A shift by 32 leaves zero, so lanes without raw bits do not shed. */
    __m256i above = _mm256_srlv_epi32(x, _mm256_sub_epi32(_mm256_set1_epi32(32), k));
    __m256i full = _mm256_xor_si256(_mm256_cmpeq_epi32(above, zero), _mm256_set1_epi32(-1));
    return _mm256_or_si256(_mm256_sllv_epi32(shed(x, full, head), k), raw);
}
INLINE256 __m256i put_token(__m256i x, __m256i entry, uint8_t **head) {
    const __m256i one = _mm256_set1_epi32(1);
    __m256i freq = _mm256_and_si256(entry, _mm256_set1_epi32(0xFFF));
    __m256i keep = _mm256_cmpgt_epi32(freq, _mm256_srli_epi32(x, 21));
    x = shed(x, _mm256_xor_si256(keep, _mm256_set1_epi32(-1)), head);
    __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(x, 16));
    __m256 value = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)));
    value = _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0f)), value);
    /* Relative error below 2^-22 and a quotient below 2^21: at most one off, either way. */
    __m256i q = _mm256_cvttps_epi32(_mm256_div_ps(value, _mm256_cvtepi32_ps(freq)));
    __m256i r = _mm256_sub_epi32(x, _mm256_mullo_epi32(q, freq));
    __m256i under = _mm256_srai_epi32(r, 31);
    __m256i over = _mm256_cmpgt_epi32(r, _mm256_sub_epi32(freq, one));
    r = _mm256_add_epi32(r, _mm256_and_si256(under, freq));
    r = _mm256_sub_epi32(r, _mm256_and_si256(over, freq));
    q = _mm256_sub_epi32(_mm256_add_epi32(q, under), over);
    q = _mm256_add_epi32(_mm256_slli_epi32(q, DV_PROB_BITS), r);
    return _mm256_add_epi32(q, _mm256_srli_epi32(entry, 12));
}

INLINE256 __m256i token_of(__m256i z, const int width, const int is_exp, int spare, __m256i escape) {
    if (is_exp)
        return _mm256_min_epu32(_mm256_srl_epi32(z, _mm_cvtsi32_si128(spare)), escape);
    /* A float's exponent and upper mantissa bits are the octave and the next bits. Above 2^16 the 14 low
     * bits are cut, so that the float is exact. */
    __m256i cut = _mm256_setzero_si256();
    if (width == 32) {
        __m256i small = _mm256_cmpeq_epi32(_mm256_srli_epi32(z, 16), cut);
        cut = _mm256_andnot_si256(small, _mm256_set1_epi32(14));
    }
    __m256i t = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_srlv_epi32(z, cut)));
    t = _mm256_sub_epi32(_mm256_srli_epi32(t, 21), _mm256_set1_epi32(4 * 127));
    t = _mm256_min_epu32(_mm256_add_epi32(t, _mm256_slli_epi32(cut, 2)), escape);
    __m256i small = _mm256_cmpeq_epi32(_mm256_srli_epi32(z, 4), _mm256_setzero_si256());
    return _mm256_blendv_epi8(t, z, small);
}
INLINE256 __m256i raw_bits(const dv_model *m, __m256i token, const int is_exp, __m256i escape) {
    __m256i k = _mm256_set1_epi32(m->spare);
    if (!is_exp) {
        __m256i has_raw = _mm256_cmpgt_epi32(token, _mm256_set1_epi32(15));
        k = _mm256_and_si256(has_raw, _mm256_sub_epi32(_mm256_srli_epi32(token, 2), _mm256_set1_epi32(2)));
    }
    return _mm256_blendv_epi8(k, _mm256_set1_epi32(m->n_raw[m->n_tokens - 1]), _mm256_cmpeq_epi32(token, escape));
}

/* Zigzagged differences and tables of 8 elements of 32 bits, or of 16 of 16 bits in two halves. */
INLINE256 void values32(const dv_model *m, const uint8_t *target, const uint8_t *base, __m256i *z, __m256i *of) {
    __m256i from = load(base), delta = _mm256_sub_epi32(order32(load(target)), order32(from));
    *z = _mm256_xor_si256(_mm256_slli_epi32(delta, 1), _mm256_srai_epi32(delta, 31));
    *of = context32(m, from);
}
INLINE256 void values16(const dv_model *m, const int is_exp, const uint8_t *target, const uint8_t *base, __m256i *z,
                        __m256i *of) {
    __m256i value = load(target), context = _mm256_setzero_si256();
    if (!is_exp) {
        __m256i from = load(base), delta = _mm256_sub_epi16(order16(value), order16(from));
        value = _mm256_xor_si256(_mm256_slli_epi16(delta, 1), _mm256_srai_epi16(delta, 15));
        context = context16(m, from);
    }
    z[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(value));
    z[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(value, 1));
    of[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(context));
    of[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(context, 1));
}

INLINE256 void encode_groups(const dv_model *m, const uint32_t *table, dv_section *s, const int width,
                             const int is_exp, const uint8_t *target, const uint8_t *base) {
    const __m256i escape = _mm256_set1_epi32(m->n_tokens - 1), sixteen = _mm256_set1_epi32(16);
    const __m256i zero = _mm256_setzero_si256();
    uint8_t *head = s->head;
    size_t e = s->stop;
    __m256i x[4];
    for (int i = 0; i < 4; i++)
        x[i] = load((const uint8_t *)(s->x + 8 * i));
    while (e - s->at >= DV_LANES && head - s->room >= 6 * DV_LANES) {
        __m256i z[4], of[4], entry[4], k[4];
        e -= DV_LANES;
        for (int i = 0; i < 4 && width == 32; i++)
            values32(m, target + 4 * (e + 8 * (size_t)i), base + 4 * (e + 8 * (size_t)i), z + i, of + i);
        for (int i = 0; i < 4 && width == 16; i += 2)
            values16(m, is_exp, target + 2 * (e + 8 * (size_t)i), is_exp ? NULL : base + 2 * (e + 8 * (size_t)i),
                     z + i, of + i);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            of[i] = _mm256_slli_epi32(of[i], width == 16 ? 6 : 7);
            __m256i token = token_of(z[i], width, is_exp, m->spare, escape);
            entry[i] = _mm256_i32gather_epi32((const int *)table, _mm256_add_epi32(of[i], token), 4);
            __m256i unseen = _mm256_cmpeq_epi32(entry[i], zero);
            if (_mm256_movemask_epi8(unseen)) {
                token = _mm256_blendv_epi8(token, escape, unseen);
                entry[i] = _mm256_i32gather_epi32((const int *)table, _mm256_add_epi32(of[i], token), 4);
            }
            k[i] = raw_bits(m, token, is_exp, escape);
            z[i] = low_bits(z[i], k[i]);
        }
        for (int i = 3; i >= 0 && width == 32; i--)
            x[i] = put_raw(x[i], _mm256_subs_epu16(k[i], sixteen), _mm256_srli_epi32(z[i], 16), &head);
        for (int i = 3; i >= 0; i--) {
            __m256i raw = _mm256_and_si256(z[i], _mm256_set1_epi32(0xFFFF));
            x[i] = put_raw(x[i], _mm256_min_epu32(k[i], sixteen), raw, &head);
        }
        for (int i = 3; i >= 0; i--)
            x[i] = put_token(x[i], entry[i], &head);
    }
    for (int i = 0; i < 4; i++)
        store((uint8_t *)(s->x + 8 * i), x[i]);
    s->head = head;
    s->stop = e;
}

T256 void dv_encode_avx2(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *target,
                         const uint8_t *base) {
    if (m->is_exp)
        encode_groups(m, table, s, 16, 1, target, base);
    else if (m->width == 16)
        encode_groups(m, table, s, 16, 0, target, base);
    else
        encode_groups(m, table, s, 32, 0, target, base);
}
#endif
