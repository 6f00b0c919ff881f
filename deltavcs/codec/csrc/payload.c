/* A chunk in mode 0: sections, their states and words (spec 7). Chooses the kernels. */
#include "codec.h"

int dv_best_level(void) {
#ifdef DV_X86
    __builtin_cpu_init();
    /* A hypervisor may hide them from a processor that has AVX2. */
    int has_bits = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512cd") && has_bits)
        return DV_AVX512;
    if (__builtin_cpu_supports("avx2") && has_bits)
        return DV_AVX2;
#endif
    return DV_SCALAR;
}

static void cut(dv_section *s, int n_sections, size_t n) {
    size_t groups = n / DV_LANES + (n % DV_LANES != 0);
    size_t length = (groups / (size_t)n_sections + (groups % (size_t)n_sections != 0)) * DV_LANES;
    for (int i = 0; i < n_sections; i++) {
        size_t from = (size_t)i * length;
        s[i].at = from < n ? from : n;
        s[i].stop = n - s[i].at < length ? n : s[i].at + length;
    }
}

static int finished(const dv_section *s) {
    uint32_t off = 0;
    for (int i = 0; i < DV_LANES; i++)
        off |= s->x[i] ^ DV_STATE_LOW;
    return s->words == s->words_end && !off;
}

/* Checks every length. `n_payload` excludes the raw planes of EXP. */
int dv_decode_payload(int level, const dv_model *m, const uint32_t *table, const uint8_t *payload,
                      size_t n_payload, const uint8_t *base, uint8_t *out, size_t n) {
    dv_section s[DV_MAX_SECTIONS];
    if (n_payload < 4 || payload[0] || payload[2] || payload[3])
        return DV_BAD;
    /* Read once: another thread may write to the caller's buffer. */
    int n_sections = *(const volatile uint8_t *)(payload + 1);
    if (n_sections < 1 || n_sections > DV_MAX_SECTIONS)
        return DV_BAD;
    size_t at = 4 + (size_t)n_sections * (4 + 4 * DV_LANES);
    if (n_payload < at)
        return DV_BAD;
    cut(s, n_sections, n);
    for (int i = 0; i < n_sections; i++) {
        size_t n_words = dv_load32(payload + 4 + 4 * i);
        if (n_words > (n_payload - at) / 2)
            return DV_BAD;
        memcpy(s[i].x, payload + 4 + 4 * n_sections + 4 * DV_LANES * i, 4 * DV_LANES);
        for (int lane = 0; lane < DV_LANES; lane++)
            if (s[i].x[lane] < DV_STATE_LOW)
                return DV_BAD;
        s[i].words = payload + at;
        at += 2 * n_words;
        s[i].words_end = payload + at;
    }
    if (at != n_payload)
        return DV_BAD;
#ifdef DV_X86
    for (int i = 0; i < n_sections && level > DV_SCALAR; i += 2) {
        int pair = i + 1 < n_sections ? 2 : 1;
        (level == DV_AVX512 ? dv_decode_avx512 : dv_decode_avx2)(m, table, s + i, pair, base, out);
    }
#else
    (void)level;
#endif
    for (int i = 0; i < n_sections; i++)
        if (dv_decode_scalar(m, table, s + i, base, out) || !finished(s + i))
            return DV_BAD;
    return DV_OK;
}

size_t dv_plane_bytes(const dv_model *m, size_t n) { return m->is_exp ? n * (size_t)((1 + m->mantissa) / 8) : 0; }

size_t dv_decode_room(const dv_model *m, size_t n) { return m->is_exp && m->width == 32 ? 2 * n + 1 : 0; }

int dv_decode_chunk(int level, const dv_model *m, const uint32_t *table, const uint8_t *payload, size_t n_payload,
                    const uint8_t *base, uint8_t *out, size_t n, uint8_t *room) {
    size_t n_planes = dv_plane_bytes(m, n);
    if (n_payload < n_planes)
        return DV_BAD;
    uint8_t *values = m->is_exp && m->width == 32 ? room : out;
    int status = dv_decode_payload(level, m, table, payload, n_payload - n_planes, base, values, n);
    if (m->is_exp && status == DV_OK)
        dv_exp_join(level, m, values, payload + (n_payload - n_planes), n, out);
    return status;
}

/* Any section may take as many words as the chunk has bytes before the chunk counts as incompressible. */
static size_t room_of_one(const dv_model *m, size_t n) {
    return n * (size_t)(m->width / 8) + 8 * DV_LANES * 2;
}

size_t dv_encode_room(const dv_model *m, size_t n, int n_sections) {
    return room_of_one(m, n) * (size_t)n_sections;
}

int dv_encode_sections(int level, const dv_model *m, const uint32_t *table, const uint8_t *target,
                       const uint8_t *base, size_t n, dv_section *s, int n_sections, uint8_t *room) {
    cut(s, n_sections, n);
    for (int i = 0; i < n_sections; i++) {
        s[i].room = room + (size_t)i * room_of_one(m, n);
        s[i].head = s[i].room + room_of_one(m, n);
        for (int lane = 0; lane < DV_LANES; lane++)
            s[i].x[lane] = DV_STATE_LOW;
#ifdef DV_X86
        if (level > DV_SCALAR) {
            dv_section tail = s[i];
            tail.at = s[i].stop - (s[i].stop - s[i].at) % DV_LANES;
            if (dv_encode_scalar(m, table, &tail, target, base))
                return DV_TOO_LONG;
            tail.at = s[i].at;
            (level == DV_AVX512 ? dv_encode_avx512 : dv_encode_avx2)(m, table, &tail, target, base);
            s[i] = tail;
        }
#else
        (void)level;
#endif
        size_t from = s[i].at;
        if (dv_encode_scalar(m, table, &s[i], target, base))
            return DV_TOO_LONG;
        s[i].at = from;
    }
    return DV_OK;
}
