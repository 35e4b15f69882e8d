#include "compilers.h"
#include "kernels.h"

#if defined(__aarch64__) && defined(EP_KNOWS_ARM_V8_2)
#include <arm_neon.h>
#define EP_NEON
#define EP_NEON_DOT
#define EP_NEON_FP16
#define EP_ISA neonfp16
#define EP_NAME "neonfp16"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod,fullfp16"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+fp16")
#endif
#include "vec.h"
#include "kernels.inl"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
