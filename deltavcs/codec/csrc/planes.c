/* Byte planes, and the parts of EXP that are not entropy-coded. Plain loops: the compiler vectorises them. */
#include "codec.h"
#include "levels.h"

BODY split_n(const uint8_t *restrict data, const uint8_t *restrict base, size_t n, const int itemsize,
             uint8_t *restrict planes) {
    /* Blocks stay in the first-level cache, so that all planes of one are cut from it at once. */
    for (size_t from = 0; from < n; from += 2048) {
        size_t stop = n - from < 2048 ? n : from + 2048;
        for (int j = 0; j < itemsize; j++)
            if (base)
                for (size_t i = from; i < stop; i++)
                    planes[(size_t)j * n + i] =
                        (uint8_t)(data[i * (size_t)itemsize + (size_t)j] ^ base[i * (size_t)itemsize + (size_t)j]);
            else
                for (size_t i = from; i < stop; i++)
                    planes[(size_t)j * n + i] = data[i * (size_t)itemsize + (size_t)j];
    }
}

BODY join_2(const uint8_t *restrict planes, const uint8_t *restrict base, size_t n, uint8_t *restrict out) {
    const uint8_t *low = planes, *high = planes + n;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)low[i] | (uint32_t)high[i] << 8;
        dv_store16(out + 2 * i, base ? v ^ dv_load16(base + 2 * i) : v);
    }
}
BODY join_4(const uint8_t *restrict planes, const uint8_t *restrict base, size_t n, uint8_t *restrict out) {
    for (size_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)planes[i] | (uint32_t)planes[n + i] << 8 | (uint32_t)planes[2 * n + i] << 16 |
                     (uint32_t)planes[3 * n + i] << 24;
        dv_store32(out + 4 * i, base ? v ^ dv_load32(base + 4 * i) : v);
    }
}
BODY join_any(const uint8_t *restrict planes, const uint8_t *restrict base, size_t n, int itemsize,
              uint8_t *restrict out) {
    for (size_t i = 0; i < n; i++)
        for (int j = 0; j < itemsize; j++) {
            size_t at = i * (size_t)itemsize + (size_t)j;
            out[at] = (uint8_t)(planes[(size_t)j * n + i] ^ (base ? base[at] : 0));
        }
}

BODY split_body(const uint8_t *data, const uint8_t *base, size_t n, int itemsize, uint8_t *planes) {
    if (itemsize == 2)
        split_n(data, base, n, 2, planes);
    else if (itemsize == 4)
        split_n(data, base, n, 4, planes);
    else
        split_n(data, base, n, itemsize, planes);
}
BODY join_body(const uint8_t *planes, const uint8_t *base, size_t n, int itemsize, uint8_t *out) {
    if (itemsize == 2 && base)
        join_2(planes, base, n, out);
    else if (itemsize == 2)
        join_2(planes, NULL, n, out);
    else if (itemsize == 4 && base)
        join_4(planes, base, n, out);
    else if (itemsize == 4)
        join_4(planes, NULL, n, out);
    else
        join_any(planes, base, n, itemsize, out);
}

/* EXP values: distance below the top exponent, then the spare bits of sign and mantissa (spec 4.4). */
BODY exp_split_body(int width, int mantissa, uint32_t mask, uint32_t top, int spare, const uint8_t *restrict target,
                    size_t n, uint8_t *restrict values, uint8_t *restrict planes) {
    int n_planes = (1 + mantissa) / 8;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = dv_pattern(target, i, width);
        uint32_t both = bits >> (width - 1) << mantissa | (bits & ((1u << mantissa) - 1u));
        uint32_t distance = (top - (bits >> mantissa & mask)) & mask;
        dv_store16(values + 2 * i, distance << spare | both >> (8 * n_planes));
        planes[i] = (uint8_t)both;
        if (n_planes == 3) {
            planes[n + i] = (uint8_t)(both >> 8);
            planes[2 * n + i] = (uint8_t)(both >> 16);
        }
    }
}
BODY exp_join_body(int width, int mantissa, uint32_t mask, uint32_t top, int spare, const uint8_t *restrict values,
                   const uint8_t *restrict planes, size_t stride, size_t n, uint8_t *restrict out) {
    int n_planes = (1 + mantissa) / 8;
    for (size_t i = 0; i < n; i++) {
        uint32_t value = dv_load16(values + 2 * i), both = planes[i];
        if (n_planes == 3)
            both |= (uint32_t)planes[stride + i] << 8 | (uint32_t)planes[2 * stride + i] << 16;
        both |= (value & ((1u << spare) - 1u)) << (8 * n_planes);
        uint32_t bits = both >> mantissa << (width - 1) | ((top - (value >> spare)) & mask) << mantissa |
                        (both & ((1u << mantissa) - 1u));
        if (width == 16)
            dv_store16(out + 2 * i, bits);
        else
            dv_store32(out + 4 * i, bits);
    }
}
BODY exp_split_any(const dv_model *m, const uint8_t *target, size_t n, uint8_t *values, uint8_t *planes) {
    if (m->mantissa == 7)
        exp_split_body(16, 7, 255, m->top, 0, target, n, values, planes);
    else if (m->mantissa == 10)
        exp_split_body(16, 10, 31, m->top, 3, target, n, values, planes);
    else
        exp_split_body(32, 23, 255, m->top, 0, target, n, values, planes);
}
/* By blocks, through the stack: `values` may then be `out` itself. */
BODY exp_join_any(const dv_model *m, const uint8_t *values, const uint8_t *planes, size_t n, uint8_t *out) {
    uint8_t block[2 * 1024];
    for (size_t from = 0; from < n; from += 1024) {
        size_t count = n - from < 1024 ? n - from : 1024;
        memcpy(block, values + 2 * from, 2 * count);
        if (m->mantissa == 7)
            exp_join_body(16, 7, 255, m->top, 0, block, planes + from, n, count, out + 2 * from);
        else if (m->mantissa == 10)
            exp_join_body(16, 10, 31, m->top, 3, block, planes + from, n, count, out + 2 * from);
        else
            exp_join_body(32, 23, 255, m->top, 0, block, planes + from, n, count, out + 4 * from);
    }
}

LEVELS(split_at, (const uint8_t *d, const uint8_t *b, size_t n, int w, uint8_t *p), split_body(d, b, n, w, p))
LEVELS(join_at, (const uint8_t *p, const uint8_t *b, size_t n, int w, uint8_t *o), join_body(p, b, n, w, o))
LEVELS(exp_split_at, (const dv_model *m, const uint8_t *t, size_t n, uint8_t *v, uint8_t *p),
       exp_split_any(m, t, n, v, p))
LEVELS(exp_join_at, (const dv_model *m, const uint8_t *v, const uint8_t *p, size_t n, uint8_t *o),
       exp_join_any(m, v, p, n, o))

void dv_split(int level, const uint8_t *data, const uint8_t *base, size_t n, int itemsize, uint8_t *planes) {
    PICK(split_at, (data, base, n, itemsize, planes));
}
void dv_join(int level, const uint8_t *planes, const uint8_t *base, size_t n, int itemsize, uint8_t *out) {
    PICK(join_at, (planes, base, n, itemsize, out));
}
void dv_exp_split(int level, const dv_model *m, const uint8_t *target, size_t n, uint8_t *values, uint8_t *planes) {
    PICK(exp_split_at, (m, target, n, values, planes));
}
/* `values` may be `out` itself where elements have 16 bits. */
void dv_exp_join(int level, const dv_model *m, const uint8_t *values, const uint8_t *planes, size_t n, uint8_t *out) {
    PICK(exp_join_at, (m, values, planes, n, out));
}
