/* Choice of tables: the writer's freedom, so it need not match numpy bit for bit (spec 6.3). */
#include <math.h>

#include "codec.h"

#define TABLE_BITS 24.0
/* What a table must save besides, by counted weight: a decoder's tables are 8 KiB each and compete for the
 * first-level cache, and opening a tensor builds them. */
#define TABLE_BITS_PER_WEIGHT (1.0 / 1024)
#define BITS_PER_FREQUENCY 5.0

static int top_exponent(const dv_model *m, const uint32_t *counts) {
    uint64_t by_exponent[DV_MAX_EXPONENTS] = {0}, inside = 0, most = 0;
    uint32_t top = 0, window = DV_CONTEXTS - 1;
    for (uint32_t e = 0; e <= m->exp_mask; e++) {
        for (int t = 0; t < m->n_tokens; t++)
            by_exponent[e] += counts[e * (uint32_t)m->n_tokens + (uint32_t)t];
        inside += by_exponent[e];
        inside -= e >= window ? by_exponent[e - window] : 0u;
        if (inside > most) {
            most = inside;
            top = e;
        }
    }
    return (int)top;
}

static void fold(const dv_model *m, const uint32_t *counts, uint32_t folded[DV_CONTEXTS][DV_MAX_TOKENS]) {
    memset(folded, 0, DV_CONTEXTS * sizeof *folded);
    for (uint32_t e = 0; e <= m->exp_mask; e++) {
        uint32_t below = e < m->top ? m->top - e : 0u;
        below = below < DV_CONTEXTS - 1 ? below : DV_CONTEXTS - 1;
        for (int t = 0; t < m->n_tokens; t++)
            folded[below][t] += counts[e * (uint32_t)m->n_tokens + (uint32_t)t];
    }
}

/* log2 to about 1e-4, for comparing costs. */
static double rough_log2(uint32_t value) {
    union {
        float f;
        uint32_t bits;
    } as = {.f = (float)value};
    double exponent = (double)(as.bits >> 23) - 127.0;
    as.bits = (as.bits & 0x7FFFFFu) | 0x3F800000u;
    double x = (double)as.f - 1.0;
    return exponent + x * (1.441814 + x * (-0.708614 + x * (0.415060 + x * (-0.193536 + x * 0.045276))));
}

static double run_cost(const uint32_t *counts, int n_tokens) {
    double total = 0, bits = 0;
    for (int t = 0; t < n_tokens; t++)
        total += counts[t];
    for (int t = 0; t < n_tokens; t++)
        if (counts[t]) {
            double c = counts[t];
            bits -= c * rough_log2(counts[t]);
            bits += c * 8 * DV_PROB_SCALE > total ? BITS_PER_FREQUENCY : 0;
        }
    return total > 0 ? bits + total * log2(total) : bits;
}

/* The cheapest partition of the used contexts into runs that share a table; counts are summed by table. */
static void share(dv_model *m, uint32_t folded[DV_CONTEXTS][DV_MAX_TOKENS]) {
    int used[DV_CONTEXTS], n = 0, from[DV_CONTEXTS + 1] = {0}, starts[DV_CONTEXTS] = {0};
    double best[DV_CONTEXTS + 1], n_weights = 0;
    for (int c = 0; c < DV_CONTEXTS; c++) {
        double in_context = 0;
        for (int t = 0; t < m->n_tokens; t++)
            in_context += folded[c][t];
        if (in_context > 0)
            used[n++] = c;
        n_weights += in_context;
    }
    const double table_bits = TABLE_BITS + n_weights * TABLE_BITS_PER_WEIGHT;
    best[0] = 0;
    for (int end = 1; end <= n; end++) {
        uint32_t run[DV_MAX_TOKENS] = {0};
        best[end] = INFINITY;
        for (int start = end - 1; start >= 0; start--) {
            for (int t = 0; t < m->n_tokens; t++)
                run[t] += folded[used[start]][t];
            double cost = best[start] + table_bits + run_cost(run, m->n_tokens);
            if (cost < best[end]) {
                best[end] = cost;
                from[end] = start;
            }
        }
    }
    for (int end = n; end > 0; end = from[end])
        starts[used[from[end]]] = from[end] > 0;
    for (int c = 0, table = 0; c < DV_CONTEXTS; c++) {
        table += starts[c];
        m->table_of[c] = (uint8_t)table;
        m->n_tables = table + 1;
        for (int t = 0; t < m->n_tokens && table != c; t++) {
            folded[table][t] += folded[c][t];
            folded[c][t] = 0;
        }
    }
}

static int round_all(const double *share_of, int n, double scale, uint16_t *freqs) {
    int sum = 0;
    for (int t = 0; t < n; t++)
        if (share_of[t] > 0) {
            int f = (int)(share_of[t] * scale + 0.5);
            freqs[t] = (uint16_t)(f > 1 ? f : 1);
            sum += freqs[t];
        }
    return sum;
}

/* As `normalise` in tables.py. */
static double normalise(const dv_model *m, const uint32_t *counts, uint16_t *freqs) {
    const int last = m->n_tokens - 1;
    double total = 0, kept = 0, share_of[DV_MAX_TOKENS] = {0}, low = 0, high = 2 * DV_PROB_SCALE, bits = 0;
    for (int t = 0; t <= last; t++)
        total += counts[t];
    for (int t = 0; t <= last; t++) {
        double gain = (double)counts[t] * (m->n_raw[last] - m->n_raw[t]);
        if (t == last || gain > total * (1.4426950408889634 / DV_PROB_SCALE) + 1)
            kept += share_of[t] = counts[t] ? counts[t] : 1;
    }
    for (int t = 0; t <= last; t++)
        share_of[t] /= kept;
    memset(freqs, 0, (size_t)m->n_tokens * sizeof *freqs);
    for (int i = 0; i < 14; i++) {
        double scale = (low + high) / 2;
        if (round_all(share_of, last + 1, scale, freqs) > DV_PROB_SCALE)
            high = scale;
        else
            low = scale;
    }
    int sum = round_all(share_of, last + 1, low, freqs), largest = 0;
    for (int t = 1; t <= last; t++)
        if (freqs[t] > freqs[largest])
            largest = t;
    freqs[largest] = (uint16_t)(freqs[largest] + DV_PROB_SCALE - sum);
    for (int t = 0; t <= last; t++) {
        int as = freqs[t] ? t : last;
        bits += counts[t] * (DV_PROB_BITS - (double)log2f(freqs[as]) + m->n_raw[as]);
    }
    return bits;
}

double dv_tune_delta(dv_model *m, const uint32_t *counts, uint16_t *freqs) {
    uint32_t folded[DV_CONTEXTS][DV_MAX_TOKENS];
    double bits = 0;
    m->top = (uint32_t)top_exponent(m, counts);
    fold(m, counts, folded);
    share(m, folded);
    for (int i = 0; i < m->n_tables; i++)
        bits += normalise(m, folded[i], freqs + i * m->n_tokens);
    return bits;
}
