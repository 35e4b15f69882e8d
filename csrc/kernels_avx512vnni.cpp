#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define EP_AVX512
#define EP_AVX512_VNNI
#define EP_ISA avx512vnni
#define EP_NAME "avx512vnni"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#endif
#include "vec.h"
#include "kernels.inl"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
