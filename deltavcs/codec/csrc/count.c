/* Histograms. Bins are computed by vector loops, block by block; only the increments are scalar. */
#include "codec.h"
#include "levels.h"

#define BLOCK 1024

BODY bins_body(int width, int mantissa, uint32_t mask, const uint8_t *restrict target, const uint8_t *restrict base,
               size_t n, uint32_t *restrict bins) {
    const uint32_t all = width == 16 ? 0xFFFFu : 0xFFFFFFFFu, magnitude = all >> 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t b = dv_pattern(base, i, width), t = dv_pattern(target, i, width);
        uint32_t ordered_b = b ^ (magnitude & (0u - (b >> (width - 1))));
        uint32_t ordered_t = t ^ (magnitude & (0u - (t >> (width - 1))));
        uint32_t delta = (ordered_t - ordered_b) & all;
        uint32_t z = (delta << 1 & all) ^ (all & (0u - (delta >> (width - 1))));
        bins[i] = (b >> mantissa & mask) * (4u * (uint32_t)width) + dv_token(z, width);
    }
}
BODY bins_any(const dv_model *m, const uint8_t *target, const uint8_t *base, size_t n, uint32_t *bins) {
    if (m->mantissa == 7)
        bins_body(16, 7, 255, target, base, n, bins);
    else if (m->mantissa == 10)
        bins_body(16, 10, 31, target, base, n, bins);
    else
        bins_body(32, 23, 255, target, base, n, bins);
}
LEVELS(bins_at, (const dv_model *m, const uint8_t *t, const uint8_t *b, size_t n, uint32_t *o),
       bins_any(m, t, b, n, o))

/* counts: [exponents, alphabet], added to. */
void dv_count_delta(int level, const dv_model *m, const uint8_t *target, const uint8_t *base, size_t n,
                    uint32_t *counts) {
    /* Two tables, so that equal neighbours do not wait for each other. */
    uint32_t bins[BLOCK], odd[DV_MAX_EXPONENTS * DV_MAX_TOKENS] = {0};
    const size_t bytes = (size_t)m->width / 8;
    for (size_t from = 0; from < n; from += BLOCK) {
        size_t count = n - from < BLOCK ? n - from : BLOCK;
        PICK(bins_at, (m, target + bytes * from, base + bytes * from, count, bins));
        size_t i = 0;
        for (; i + 2 <= count; i += 2) {
            counts[bins[i]]++;
            odd[bins[i + 1]]++;
        }
        if (i < count)
            counts[bins[i]]++;
    }
    for (size_t i = 0; i < ((size_t)m->exp_mask + 1) * (size_t)m->n_tokens; i++)
        counts[i] += odd[i];
}

/* counts: [exponents], added to. Four tables, so that equal neighbours do not wait for each other. */
void dv_count_exponents(const dv_model *m, const uint8_t *target, size_t n, uint32_t *counts) {
    uint32_t part[4][DV_MAX_EXPONENTS] = {{0}};
    for (size_t i = 0; i < n; i++)
        part[i & 3][dv_exponent(m, dv_pattern(target, i, m->width))]++;
    for (uint32_t e = 0; e <= m->exp_mask; e++)
        counts[e] += part[0][e] + part[1][e] + part[2][e] + part[3][e];
}
