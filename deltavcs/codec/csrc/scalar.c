/* Portable coder; also finishes what the vector kernels leave: the last words, the last partial group. */
#include "codec.h"

#define INLINE static inline __attribute__((always_inline))

/* `sure`: the caller has proven that words for the whole group remain; then there is no branch. */
INLINE int refill(uint32_t *x, dv_section *s, const int sure) {
    uint32_t low = *x < DV_STATE_LOW;
    if (sure) {
        /* Arithmetic: compilers make an unpredictable branch of a choice. */
        *x = *x << (16 * low) | (dv_load16(s->words) & (0u - low));
        s->words += 2 * low;
    } else if (low) {
        if (s->words_end - s->words < 2)
            return DV_BAD;
        *x = *x << 16 | dv_load16(s->words);
        s->words += 2;
    }
    return DV_OK;
}

/* Raw bits of the lanes listed, 16 at a time: all give their low ones before any gives more. */
INLINE int take_raw(dv_section *s, int n, const uint8_t *lanes, const uint8_t *n_raw, uint32_t *value,
                    const int width, const int sure) {
    for (int shift = 0; shift < width && n; shift += 16) {
        int more = 0;
        for (int j = 0; j < n; j++) {
            int i = lanes[j], k = (int)n_raw[i] - shift;
            if (width > 16 && k <= 0)
                continue;
            more |= k > 16;
            k = k > 16 ? 16 : k;
            value[i] |= (s->x[i] & ((1u << k) - 1u)) << shift;
            s->x[i] >>= k;
            if (refill(&s->x[i], s, sure))
                return DV_BAD;
        }
        if (!more)
            break;
    }
    return DV_OK;
}

INLINE int decode_group(const dv_model *m, const uint32_t *table, dv_section *s, int n, const uint8_t *base,
                        uint8_t *out, const int width, const int is_exp, const int sure) {
    uint8_t n_raw[DV_LANES], lanes[DV_LANES];
    uint32_t value[DV_LANES], from[DV_LANES];
    int n_with_raw = 0;
    for (int i = 0; i < n; i++) {
        from[i] = is_exp ? 0u : dv_pattern(base, s->at + (size_t)i, width);
        uint32_t x = s->x[i], of = is_exp ? 0u : dv_table(m, from[i]);
        uint32_t entry = table[of << DV_PROB_BITS | (x & (DV_PROB_SCALE - 1u))];
        s->x[i] = DV_FREQ(entry) * (x >> DV_PROB_BITS) + DV_REST(entry);
        if (width == 16 && !is_exp) {
            n_raw[i] = (uint8_t)DV_RAW(entry);
            value[i] = DV_LEAD(entry) << n_raw[i];
        } else {
            n_raw[i] = m->n_raw[DV_TOKEN(entry)];
            value[i] = m->first[DV_TOKEN(entry)];
        }
        lanes[n_with_raw] = (uint8_t)i;
        n_with_raw += n_raw[i] > 0;
        if (refill(&s->x[i], s, sure))
            return DV_BAD;
    }
    if (take_raw(s, n_with_raw, lanes, n_raw, value, is_exp ? 16 : width, sure))
        return DV_BAD;
    for (int i = 0; i < n; i++, s->at++)
        if (is_exp)
            dv_store16(out + 2 * s->at, value[i]);
        else if (width == 16)
            dv_store16(out + 2 * s->at, dv_apply(value[i], from[i], 16));
        else
            dv_store32(out + 4 * s->at, dv_apply(value[i], from[i], 32));
    return DV_OK;
}

INLINE int decode_all(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *base, uint8_t *out,
                      const int width, const int is_exp) {
    /* A local copy, which stores to `out` cannot alias. */
    dv_section local = *s;
    while (local.stop - local.at >= DV_LANES && local.words_end - local.words >= 6 * DV_LANES + 2)
        decode_group(m, table, &local, DV_LANES, base, out, width, is_exp, 1);
    *s = local;
    while (s->at < s->stop) {
        int n = s->stop - s->at < DV_LANES ? (int)(s->stop - s->at) : DV_LANES;
        if (decode_group(m, table, s, n, base, out, width, is_exp, 0))
            return DV_BAD;
    }
    return DV_OK;
}

int dv_decode_scalar(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *base,
                     uint8_t *out) {
    if (m->is_exp)
        return decode_all(m, table, s, base, out, 16, 1);
    if (m->width == 16)
        return decode_all(m, table, s, base, out, 16, 0);
    return decode_all(m, table, s, base, out, 32, 0);
}

/* Write the low word if the state is full. Room is proven per group, so the store is always allowed. */
INLINE void shed(uint32_t *x, dv_section *s, uint32_t full) {
    dv_store16(s->head - 2, *x);
    s->head -= 2 * full;
    *x >>= 16 * full;
}

INLINE void put_raw(uint32_t *x, dv_section *s, uint32_t raw, int k) {
    shed(x, s, *x >> (32 - k) != 0);
    *x = *x << k | (raw & ((1u << k) - 1u));
}

INLINE void put_token(uint32_t *x, dv_section *s, uint32_t entry) {
    uint32_t freq = DV_FREQ(entry);
    shed(x, s, *x >> 21 >= freq);
    /* Exact: the quotient is at least 1/4096 away from a whole number, the double within 2^-30. */
    uint32_t quotient = (uint32_t)(((double)*x + 0.5) / (double)freq);
    *x = (quotient << DV_PROB_BITS) + *x - quotient * freq + DV_REST(entry);
}

INLINE void code_of(const dv_model *m, const uint32_t *table, size_t e, const uint8_t *target, const uint8_t *base,
                    uint32_t *entry, uint32_t *raw, int *k, const int width, const int is_exp) {
    uint32_t escape = (uint32_t)m->n_tokens - 1u, of = 0, token, value;
    if (is_exp) {
        value = dv_load16(target + 2 * e);
        token = value >> m->spare < escape ? value >> m->spare : escape;
    } else {
        uint32_t b = dv_pattern(base, e, width);
        value = dv_difference(dv_pattern(target, e, width), b, width);
        token = dv_token(value, width);
        of = dv_table(m, b) * (uint32_t)m->n_tokens;
    }
    if (!table[of + token])
        token = escape;
    *entry = table[of + token];
    *k = m->n_raw[token];
    *raw = value - m->first[token];
}

INLINE int encode_all(const dv_model *m, const uint32_t *table, dv_section *section, const uint8_t *target,
                      const uint8_t *base, const int width, const int is_exp) {
    uint32_t entry[DV_LANES], raw[DV_LANES];
    uint8_t lanes[DV_LANES];
    int k[DV_LANES];
    dv_section local = *section, *s = &local;
    while (s->stop > s->at) {
        int n = (int)((s->stop - s->at) % DV_LANES);
        n = n ? n : DV_LANES;
        if (s->head - s->room < 6 * DV_LANES)
            return DV_TOO_LONG;
        s->stop -= (size_t)n;
        int n_with_raw = 0;
        for (int i = 0; i < n; i++) {
            code_of(m, table, s->stop + (size_t)i, target, base, &entry[i], &raw[i], &k[i], width, is_exp);
            lanes[n_with_raw] = (uint8_t)i;
            n_with_raw += k[i] > 0;
        }
        for (int shift = width - 16; shift >= 0; shift -= 16)
            for (int j = n_with_raw - 1; j >= 0; j--) {
                int i = lanes[j], more = k[i] - shift;
                if (shift == 0 || more > 0)
                    put_raw(&s->x[i], s, raw[i] >> shift, more > 16 ? 16 : more);
            }
        for (int i = n - 1; i >= 0; i--)
            put_token(&s->x[i], s, entry[i]);
    }
    *section = local;
    return DV_OK;
}

int dv_encode_scalar(const dv_model *m, const uint32_t *table, dv_section *s, const uint8_t *target,
                     const uint8_t *base) {
    if (m->is_exp)
        return encode_all(m, table, s, target, base, 16, 1);
    if (m->width == 16)
        return encode_all(m, table, s, target, base, 16, 0);
    return encode_all(m, table, s, target, base, 32, 0);
}
