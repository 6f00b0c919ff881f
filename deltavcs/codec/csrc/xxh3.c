/* XXH3-64 with seed 0 and the default secret, for inputs of more than 240 bytes (the specification's "large
 * inputs"), so that a chunk can be proven without a way back into Python. Tested against the xxhash package. */
#include "codec.h"
#ifdef DV_X86
#include <immintrin.h>
#define T512 __attribute__((target("avx512f")))
#define T256 __attribute__((target("avx2")))
#endif

#define STRIPE 64
#define SECRET 192
#define STRIPES_PER_BLOCK ((SECRET - STRIPE) / 8)
#define BLOCK (STRIPE * STRIPES_PER_BLOCK)

#define PRIME32_1 0x9E3779B1u
#define PRIME32_2 0x85EBCA77u
#define PRIME32_3 0xC2B2AE3Du
#define PRIME64_1 0x9E3779B185EBCA87u
#define PRIME64_2 0xC2B2AE3D27D4EB4Fu
#define PRIME64_3 0x165667B19E3779F9u
#define PRIME64_4 0x85EBCA77C2B2AE63u
#define PRIME64_5 0x27D4EB2F165667C5u
#define PRIME_MX1 0x165667919E3779F9u

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
    0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
    0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
    0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
    0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
    0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
    0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
    0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
    0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
    0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
    0x40, 0x7e,
};

static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static void stripes(uint64_t *restrict acc, const uint8_t *restrict data, const uint8_t *restrict key, size_t n) {
    for (size_t s = 0; s < n; s++, data += STRIPE, key += 8)
        for (int i = 0; i < 8; i++) {
            uint64_t value = load64(data + 8 * i), mixed = value ^ load64(key + 8 * i);
            acc[i ^ 1] += value;
            acc[i] += (mixed & 0xFFFFFFFFu) * (mixed >> 32);
        }
}
static void blocks(uint64_t *restrict acc, const uint8_t *restrict data, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; b++, data += BLOCK) {
        stripes(acc, data, secret, STRIPES_PER_BLOCK);
        for (int i = 0; i < 8; i++)
            acc[i] = (acc[i] ^ acc[i] >> 47 ^ load64(secret + SECRET - STRIPE + 8 * i)) * PRIME32_1;
    }
}

#ifdef DV_X86
/* Compilers do not see that the factors have 32 bits, and multiply three times. */
T512 static void blocks_512(uint64_t *acc, const uint8_t *data, size_t n_blocks) {
    __m512i sums = _mm512_loadu_si512(acc), prime = _mm512_set1_epi64(PRIME32_1);
    for (size_t b = 0; b < n_blocks; b++) {
        for (int s = 0; s < STRIPES_PER_BLOCK; s++, data += STRIPE) {
            __m512i value = _mm512_loadu_si512(data);
            __m512i mixed = _mm512_xor_si512(value, _mm512_loadu_si512(secret + 8 * s));
            sums = _mm512_add_epi64(sums, _mm512_shuffle_epi32(value, _MM_PERM_BADC));
            sums = _mm512_add_epi64(sums, _mm512_mul_epu32(mixed, _mm512_srli_epi64(mixed, 32)));
        }
        sums = _mm512_xor_si512(sums, _mm512_srli_epi64(sums, 47));
        sums = _mm512_xor_si512(sums, _mm512_loadu_si512(secret + SECRET - STRIPE));
        __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(sums, 32), prime);
        sums = _mm512_add_epi64(_mm512_mul_epu32(sums, prime), _mm512_slli_epi64(high, 32));
    }
    _mm512_storeu_si512(acc, sums);
}
T256 static void blocks_256(uint64_t *acc, const uint8_t *data, size_t n_blocks) {
    __m256i prime = _mm256_set1_epi64x(PRIME32_1), sums[2];
    for (int h = 0; h < 2; h++)
        sums[h] = _mm256_loadu_si256((const __m256i *)(acc + 4 * h));
    for (size_t b = 0; b < n_blocks; b++) {
        for (int s = 0; s < STRIPES_PER_BLOCK; s++, data += STRIPE)
            for (int h = 0; h < 2; h++) {
                __m256i value = _mm256_loadu_si256((const __m256i *)(data + 32 * h));
                __m256i mixed = _mm256_xor_si256(value, _mm256_loadu_si256((const __m256i *)(secret + 8 * s + 32 * h)));
                sums[h] = _mm256_add_epi64(sums[h], _mm256_shuffle_epi32(value, 0x4E));
                sums[h] = _mm256_add_epi64(sums[h], _mm256_mul_epu32(mixed, _mm256_srli_epi64(mixed, 32)));
            }
        for (int h = 0; h < 2; h++) {
            __m256i key = _mm256_loadu_si256((const __m256i *)(secret + SECRET - STRIPE + 32 * h));
            __m256i mixed = _mm256_xor_si256(_mm256_xor_si256(sums[h], _mm256_srli_epi64(sums[h], 47)), key);
            __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
            sums[h] = _mm256_add_epi64(_mm256_mul_epu32(mixed, prime), _mm256_slli_epi64(high, 32));
        }
    }
    for (int h = 0; h < 2; h++)
        _mm256_storeu_si256((__m256i *)(acc + 4 * h), sums[h]);
}
#endif

static uint64_t folded(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t dv_xxh3(int level, const uint8_t *data, size_t n) {
    uint64_t acc[8] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    const size_t n_blocks = (n - 1) / BLOCK, rest = n - 1 - n_blocks * BLOCK;
#ifdef DV_X86
    (level >= DV_AVX512 ? blocks_512 : level == DV_AVX2 ? blocks_256 : blocks)(acc, data, n_blocks);
#else
    (void)level;
    blocks(acc, data, n_blocks);
#endif
    stripes(acc, data + n_blocks * BLOCK, secret, rest / STRIPE);
    stripes(acc, data + n - STRIPE, secret + SECRET - STRIPE - 7, 1);
    uint64_t hash = n * PRIME64_1;
    for (int i = 0; i < 4; i++)
        hash += folded(acc[2 * i] ^ load64(secret + 11 + 16 * i), acc[2 * i + 1] ^ load64(secret + 19 + 16 * i));
    hash ^= hash >> 37;
    hash *= PRIME_MX1;
    return hash ^ hash >> 32;
}
