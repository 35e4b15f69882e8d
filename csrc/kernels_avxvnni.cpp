#include "kernels.h"

#if defined(__x86_64__) && defined(EP_KNOWS_AVX_VNNI)
#include <immintrin.h>
#define EP_AVX2
#define EP_AVX_VNNI
#define EP_ISA avxvnni
#define EP_NAME "avxvnni"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avxvnni")
#endif
#include "vec.h"
#include "kernels.inl"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
