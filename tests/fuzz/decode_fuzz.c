/* Fuzzes the native decoder under ASan and UBSan.
 *
 * One input is a description of a call: format, lengths, table bits, payload. All kernels of this machine
 * must agree on it: the same bytes, or all refuse. Built with clang this is a libFuzzer target; otherwise
 * main() below makes valid inputs with the encoder, damages them and runs for the given seconds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../deltavcs/codec/csrc/codec.h"

#define HEAD 8
#define MAX_ELEMENTS 4096

static long accepted;
static int levels[DV_N_LEVELS], n_levels;

static void find_levels(void) {
#ifdef DV_X86
    dv_avx2_init();
#endif
    n_levels = dv_levels(levels);
}

#ifdef LIBFUZZER
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    find_levels();
    return 0;
}
#endif

static void *exact(const uint8_t *data, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    if (n && data)
        memcpy(copy, data, n);
    return copy;
}

static int decode_once(int level, const dv_model *m, const uint32_t *table, const uint8_t *payload, size_t n_payload,
                       const uint8_t *base, size_t n, uint8_t *out) {
    uint8_t *room = exact(NULL, dv_decode_room(m, n));
    int status = dv_decode_chunk(level, m, table, payload, n_payload, base, out, n, room);
    free(room);
    return status;
}

/* Bytes: format, number of tables, elements (2), table bytes (2), top (2), map of 17, tables, payload. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int widths[4] = {16, 16, 32, 32}, mantissas[4] = {7, 10, 23, 23};
    if (size < HEAD)
        return 0;
    int format = data[0] & 3, is_exp = data[0] >> 2 & 1;
    size_t n = dv_load16(data + 2) % (MAX_ELEMENTS + 1), n_bits = dv_load16(data + 4);
    dv_model m;
    dv_model_init(&m, widths[format], mantissas[format], 0, is_exp);
    m.top = dv_load16(data + 6) & m.exp_mask;
    m.n_tables = is_exp ? 1 : 1 + data[1] % DV_CONTEXTS;
    for (int c = 0; c < DV_CONTEXTS; c++)
        m.table_of[c] = (uint8_t)(c < m.n_tables ? c : m.n_tables - 1);
    n_bits = n_bits < size - HEAD ? n_bits : size - HEAD;
    uint16_t freqs[DV_CONTEXTS * DV_MAX_TOKENS];
    uint8_t *bits = exact(data + HEAD, n_bits);
    int readable = !dv_read_tables(bits, n_bits, m.n_tables, m.n_tokens, freqs);
    free(bits);
    if (!readable)
        return 0;
    uint32_t *table = malloc(4 * (size_t)m.n_tables * DV_PROB_SCALE);
    dv_decode_table(&m, freqs, table);
    size_t n_payload = size - HEAD - n_bits, n_out = n * (size_t)m.width / 8;
    uint8_t *payload = exact(data + HEAD + n_bits, n_payload), *base = exact(NULL, n_out);
    for (size_t i = 0; i < n_out; i++)
        base[i] = (uint8_t)(i * 37 >> (i & 3));
    uint8_t *first = exact(NULL, n_out), *out = exact(NULL, n_out);
    int expected = decode_once(DV_SCALAR, &m, table, payload, n_payload, is_exp ? NULL : base, n, first);
    for (int i = 1; i < n_levels; i++) {
        int status = decode_once(levels[i], &m, table, payload, n_payload, is_exp ? NULL : base, n, out);
        if (status != expected || (status == DV_OK && memcmp(first, out, n_out)))
            abort();
    }
    accepted += expected == DV_OK;
    free(table);
    free(payload);
    free(base);
    free(first);
    free(out);
    return 0;
}

#ifndef LIBFUZZER
static uint64_t state = 88172645463325252ull;
static uint32_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}
static int any_level(void) { return levels[draw() % (uint32_t)n_levels]; }

/* A valid input, written by the encoder at a random level. */
static size_t make_input(uint8_t *input) {
    static const int widths[3] = {16, 16, 32}, mantissas[3] = {7, 10, 23};
    static uint32_t counts[DV_MAX_EXPONENTS * DV_MAX_TOKENS], encode_table[DV_CONTEXTS * DV_MAX_TOKENS];
    static uint8_t bits[DV_CONTEXTS * DV_PROB_SCALE], target[4 * MAX_ELEMENTS], base[4 * MAX_ELEMENTS];
    static uint8_t values[2 * MAX_ELEMENTS], planes[3 * MAX_ELEMENTS];
    int format = (int)(draw() % 3), is_exp = (int)(draw() % 2), n_sections = 1 + (int)(draw() % 4);
    size_t n = draw() % (draw() % 3 ? 300 : MAX_ELEMENTS), n_bytes = n * (size_t)widths[format] / 8;
    uint16_t freqs[DV_CONTEXTS * DV_MAX_TOKENS];
    dv_model m;
    dv_model_init(&m, widths[format], mantissas[format], 0, is_exp);
    uint32_t spread = 1u << draw() % 20;
    for (size_t i = 0; i < n_bytes; i++)
        base[i] = (uint8_t)(i * 37 >> (i & 3));
    for (size_t i = 0; i < n; i++) {
        uint32_t v = dv_pattern(base, i, m.width) + draw() % spread - spread / 2;
        m.width == 16 ? dv_store16(target + 2 * i, v) : dv_store32(target + 4 * i, v);
    }
    memset(counts, 0, sizeof counts);
    if (is_exp) {
        memset(freqs, 0, sizeof freqs);
        for (int t = 0; t < 64; t++)
            freqs[t] = 32;
        m.top = draw() & m.exp_mask;
    } else {
        dv_model sampled = m;
        size_t n_counted = draw() % 4 ? n : n / 2;
        dv_count_delta(any_level(), &m, target, base, n_counted, counts);
        dv_tune_delta(&sampled, counts, freqs);
        m.top = sampled.top;
        m.n_tables = draw() % 2 ? DV_CONTEXTS : 1;
    }
    /* The harness maps context c to table min(c, tables - 1). */
    for (int c = 0; c < m.n_tables; c++) {
        m.table_of[c] = (uint8_t)c;
        memmove(freqs + c * m.n_tokens, freqs, (size_t)m.n_tokens * sizeof *freqs);
    }
    memset(bits, 0, sizeof bits);
    size_t n_bits = dv_write_tables(freqs, m.n_tables, m.n_tokens, bits);
    dv_encode_table(freqs, m.n_tables, m.n_tokens, encode_table);
    uint8_t *room = malloc(dv_encode_room(&m, n, n_sections));
    dv_section s[DV_MAX_SECTIONS];
    if (is_exp)
        dv_exp_split(any_level(), &m, target, n, values, planes);
    int status = dv_encode_sections(any_level(), &m, encode_table,
                                    is_exp ? values : target, base, n, s, n_sections, room);
    size_t at = HEAD + n_bits, each = dv_encode_room(&m, n, n_sections) / (size_t)n_sections;
    input[0] = (uint8_t)(format | is_exp << 2);
    input[1] = (uint8_t)(m.n_tables - 1);
    dv_store16(input + 2, (uint32_t)n);
    dv_store16(input + 4, (uint32_t)n_bits);
    dv_store16(input + 6, m.top);
    memcpy(input + HEAD, bits, n_bits);
    if (status == DV_OK) {
        dv_store32(input + at, (uint32_t)n_sections << 8);
        at += 4;
        for (int i = 0; i < n_sections; i++, at += 4)
            dv_store32(input + at, (uint32_t)(room + each * (size_t)(i + 1) - s[i].head) / 2);
        for (int i = 0; i < n_sections; i++, at += 4 * DV_LANES)
            memcpy(input + at, s[i].x, 4 * DV_LANES);
        for (int i = 0; i < n_sections; i++) {
            size_t n_words = (size_t)(room + each * (size_t)(i + 1) - s[i].head);
            memcpy(input + at, s[i].head, n_words);
            at += n_words;
        }
        size_t n_planes = is_exp ? n * (size_t)((1 + m.mantissa) / 8) : 0;
        memcpy(input + at, planes, n_planes);
        at += n_planes;
    }
    free(room);
    return at;
}

static size_t damage(uint8_t *input, size_t size) {
    for (uint32_t i = draw() % 4; i > 0 && size > HEAD; i--) {
        size_t at = draw() % 5 ? HEAD + draw() % (size - HEAD < 200 ? size - HEAD : 200) : draw() % size;
        switch (draw() % 4) {
        case 0:
            input[at] ^= (uint8_t)(1u << draw() % 8);
            break;
        case 1:
            input[at] = (uint8_t)draw();
            break;
        case 2:
            size = at > HEAD ? at : size;
            break;
        default:
            input[draw() % size] = 0xFF;
        }
    }
    return size;
}

/* Valid inputs as files, for libFuzzer to start from. */
static void write_corpus(const char *folder, uint8_t *input) {
    char path[4096];
    for (int i = 0; i < 300; i++) {
        size_t size = make_input(input);
        snprintf(path, sizeof path, "%s/%d", folder, i);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(input, 1, size, file) != size || fclose(file))
            exit(1);
    }
}

/* fuzz SECONDS [SEED], or fuzz corpus FOLDER */
int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    uint8_t *input = malloc(64 * MAX_ELEMENTS);
    long runs = 0;
    find_levels();
    if (argc > 2 && !strcmp(argv[1], "corpus")) {
        write_corpus(argv[2], input);
        free(input);
        return 0;
    }
    state ^= argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    for (time_t end = time(NULL) + (time_t)seconds; time(NULL) < end;) {
        size_t size = make_input(input);
        uint8_t *copy = malloc(size);
        for (int i = 0; i < 20; i++, runs++) {
            memcpy(copy, input, size);
            LLVMFuzzerTestOneInput(copy, i ? damage(copy, size) : size);
        }
        free(copy);
    }
    if (!accepted)
        return 1;
    printf("%ld inputs, %ld decoded, no fault\n", runs, accepted);
    free(input);
    return 0;
}
#endif
