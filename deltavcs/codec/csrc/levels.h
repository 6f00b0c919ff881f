/* One plain loop, compiled once per instruction set and chosen at run time. */
#ifndef DELTAVCS_LEVELS_H
#define DELTAVCS_LEVELS_H

#define BODY static inline __attribute__((always_inline)) void

#ifdef DV_X86
#define T512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#define T256 __attribute__((target("avx2")))
#define LEVELS(name, params, call)                                                                             \
    T512 static void name##_512 params { call; }                                                               \
    T256 static void name##_256 params { call; }                                                               \
    static void name##_any params { call; }
#define PICK(name, args)                                                                                       \
    if (level >= DV_AVX512)                                                                                    \
        name##_512 args;                                                                                       \
    else if (level == DV_AVX2)                                                                                 \
        name##_256 args;                                                                                       \
    else                                                                                                       \
        name##_any args
#else
#define LEVELS(name, params, call)                                                                             \
    static void name##_any params { call; }
#define PICK(name, args)                                                                                       \
    (void)level;                                                                                               \
    name##_any args
#endif

#endif
