/* Tables: from and to bytes, for coding, and the histograms they are made from. */
#include "codec.h"

void dv_model_init(dv_model *m, int width, int mantissa, uint32_t top, int is_exp) {
    memset(m, 0, sizeof *m);
    m->width = width;
    m->mantissa = mantissa;
    m->exp_mask = (1u << (width - 1 - mantissa)) - 1u;
    m->top = top;
    m->is_exp = is_exp;
    m->n_tables = 1;
    m->spare = is_exp ? (1 + mantissa) % 8 : 0;
    m->n_tokens = is_exp ? 64 : 4 * width;
    m->raw_from = is_exp ? (m->spare ? 0 : m->n_tokens - 1) : 16;
    for (int t = 0; t < m->n_tokens - 1; t++) {
        if (is_exp) {
            m->n_raw[t] = (uint8_t)m->spare;
            m->first[t] = (uint32_t)t << m->spare;
        } else {
            m->n_raw[t] = (uint8_t)(t < 16 ? 0 : t / 4 - 2);
            m->first[t] = t < 16 ? (uint32_t)t : (4u | ((uint32_t)t & 3u)) << (t / 4 - 2);
        }
    }
    m->n_raw[m->n_tokens - 1] = (uint8_t)(is_exp ? m->spare + width - 1 - mantissa : width);
}

void dv_decode_table(const dv_model *m, const uint16_t *freqs, uint32_t *out) {
    for (int i = 0; i < m->n_tables; i++)
        for (int t = 0; t < m->n_tokens; t++) {
            uint32_t freq = freqs[i * m->n_tokens + t], entry = freq | (uint32_t)t << 23;
            if (m->width == 16 && !m->is_exp)
                entry = freq | (uint32_t)m->n_raw[t] << 23 | m->first[t] >> m->n_raw[t] << 28;
            for (uint32_t rest = 0; rest < freq; rest++)
                *out++ = entry | rest << 12;
        }
}

void dv_encode_table(const uint16_t *freqs, int n_tables, int n_tokens, uint32_t *out) {
    for (int i = 0; i < n_tables; i++) {
        uint32_t cum = 0;
        for (int t = 0; t < n_tokens; t++) {
            uint32_t freq = freqs[i * n_tokens + t];
            /* A token without frequency gets 0: cum may be 2048 there, which has no room. */
            *out++ = freq ? freq | cum << 12 : 0u;
            cum += freq;
        }
    }
}

typedef struct {
    const uint8_t *data;
    size_t at, n_bits;
} bit_reader;

static int next_bit(bit_reader *r) {
    if (r->at >= r->n_bits)
        return -1;
    int bit = r->data[r->at >> 3] >> (r->at & 7) & 1;
    r->at++;
    return bit;
}

static int32_t take_bits(bit_reader *r, int n) {
    int32_t value = 0;
    for (int i = 0; i < n; i++) {
        int bit = next_bit(r);
        if (bit < 0)
            return -1;
        value |= (int32_t)bit << i;
    }
    return value;
}

static int rice_parameter(uint32_t guess) {
    int length = guess ? 32 - __builtin_clz(guess) : 0;
    return length > 2 ? length - 2 : 0;
}

/* A Rice code; -1 if cut short or beyond any valid residual. */
static int32_t take_rice(bit_reader *r, int n_low) {
    int32_t quotient = 0;
    for (;;) {
        int bit = next_bit(r);
        if (bit < 0 || quotient > 2 * DV_PROB_SCALE)
            return -1;
        if (!bit)
            break;
        quotient++;
    }
    int32_t low = take_bits(r, n_low);
    return low < 0 ? -1 : (quotient << n_low) | low;
}

static int read_row(bit_reader *r, int n_tokens, uint16_t *row) {
    int32_t escape = take_bits(r, DV_PROB_BITS);
    if (escape < 0)
        return DV_BAD;
    memset(row, 0, (size_t)n_tokens * sizeof *row);
    row[n_tokens - 1] = (uint16_t)(escape + 1);
    int32_t left = DV_PROB_SCALE - (escape + 1), guess = 256;
    for (int t = 0; t < n_tokens - 1 && left; t++) {
        int32_t value = take_rice(r, rice_parameter((uint32_t)guess));
        if (value < 0)
            return DV_BAD;
        guess += value & 1 ? -(value / 2 + 1) : value / 2;
        if (guess < 0 || guess > left)
            return DV_BAD;
        row[t] = (uint16_t)guess;
        left -= guess;
    }
    return left ? DV_BAD : DV_OK;
}

int dv_read_tables(const uint8_t *bits, size_t n_bytes, int n_tables, int n_tokens, uint16_t *freqs) {
    bit_reader r = {bits, 0, 8 * n_bytes};
    for (int i = 0; i < n_tables; i++)
        if (read_row(&r, n_tokens, freqs + i * n_tokens))
            return DV_BAD;
    if (r.n_bits - r.at >= 8)
        return DV_BAD;
    while (r.at < r.n_bits)
        if (next_bit(&r))
            return DV_BAD;
    return DV_OK;
}

static void put_bits(uint8_t *out, size_t *at, uint32_t value, int n) {
    for (int i = 0; i < n; i++, (*at)++)
        if (value >> i & 1u)
            out[*at >> 3] |= (uint8_t)(1u << (*at & 7));
}

/* `out` must be zero and hold n_tables · 2048 bytes, more than any table takes. */
size_t dv_write_tables(const uint16_t *freqs, int n_tables, int n_tokens, uint8_t *out) {
    size_t at = 0;
    for (int i = 0; i < n_tables; i++, freqs += n_tokens) {
        put_bits(out, &at, (uint32_t)freqs[n_tokens - 1] - 1u, DV_PROB_BITS);
        int32_t left = DV_PROB_SCALE - freqs[n_tokens - 1], guess = 256;
        for (int t = 0; t < n_tokens - 1 && left; t++) {
            int32_t off = (int32_t)freqs[t] - guess;
            uint32_t value = off >= 0 ? 2u * (uint32_t)off : 2u * (uint32_t)-off - 1u;
            int n_low = rice_parameter((uint32_t)guess);
            for (uint32_t q = value >> n_low; q; q--)
                put_bits(out, &at, 1u, 1);
            put_bits(out, &at, 0u, 1);
            put_bits(out, &at, value & ((1u << n_low) - 1u), n_low);
            guess = freqs[t];
            left -= guess;
        }
    }
    return (at + 7) / 8;
}
