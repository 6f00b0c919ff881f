/* A chunk in mode 0: sections, their states and words (spec 7). Chooses the kernels. */
#include "codec.h"

int dv_levels(int levels[DV_N_LEVELS]) {
    int n = 0;
    levels[n++] = DV_SCALAR;
#ifdef DV_X86
    __builtin_cpu_init();
    /* A hypervisor may hide them from a processor that has AVX2. */
    int has_bits = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    if (!__builtin_cpu_supports("avx2") || !has_bits)
        return n;
    levels[n++] = DV_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512cd")) {
        int is_amd = __builtin_cpu_is("amd") != 0;
        levels[n++] = is_amd ? DV_AVX512 : DV_AVX512_LOADS;
        levels[n++] = is_amd ? DV_AVX512_LOADS : DV_AVX512;
    }
#endif
    return n;
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

#ifdef DV_X86
/* The most that 32 elements take: three words each. */
#define GROUP_BYTES (3 * 2 * DV_LANES)

/* The last words of a section, with room after them. */
typedef struct {
    size_t n;
    int used;
    uint8_t words[2 * GROUP_BYTES];
} tail;

/* Where few words are left, go on in a copy with zeros after it, so that vectors can be loaded as before: weights
 * that hardly changed have nearly all their groups there. */
static void lift(dv_section *s, tail *t) {
    size_t n = (size_t)(s->words_end - s->words);
    if (t->used || n >= GROUP_BYTES)
        return;
    t->n = n;
    t->used = 1;
    memcpy(t->words, s->words, n);
    memset(t->words + n, 0, GROUP_BYTES);
    s->words = t->words;
    s->words_end = t->words + n + GROUP_BYTES;
}

static void decode_vectors(int level, const dv_model *m, const uint32_t *table, dv_section *s, int n,
                           const uint8_t *base, uint8_t *out) {
    if (level == DV_AVX2)
        dv_decode_avx2(m, table, s, n, base, out);
    else
        dv_decode_avx512(level, m, table, s, n, base, out);
}

/* Advance one or two sections by all their whole groups. */
static int decode_groups(int level, const dv_model *m, const uint32_t *table, dv_section *s, int n,
                         const uint8_t *base, uint8_t *out, tail *tails) {
    for (int i = 0; i < n; i++)
        tails[i].used = 0;
    for (int together = n; together; together--) /* The first section of two may have more groups than the last. */
        for (int turn = 0; turn <= together; turn++) {
            decode_vectors(level, m, table, s, together, base, out);
            for (int i = 0; i < together; i++)
                lift(s + i, tails + i);
        }
    for (int i = 0; i < n; i++) {
        if (!tails[i].used)
            continue;
        if ((size_t)(s[i].words - tails[i].words) > tails[i].n)
            return DV_BAD;
        s[i].words_end = tails[i].words + tails[i].n;
    }
    return DV_OK;
}
#endif

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
    tail tails[DV_MAX_SECTIONS];
    for (int i = 0; i < n_sections && level > DV_SCALAR; i += 2)
        if (decode_groups(level, m, table, s + i, i + 1 < n_sections ? 2 : 1, base, out, tails + i))
            return DV_BAD;
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
            if (level == DV_AVX2)
                dv_encode_avx2(m, table, &tail, target, base);
            else
                dv_encode_avx512(level, m, table, &tail, target, base);
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
