#include "compilers.h"
#include "kernels.h"

#if defined(__aarch64__) && defined(EP_KNOWS_ARM_V8_2)
#include <arm_neon.h>
#define EP_NEON
#define EP_NEON_DOT
#define EP_ISA neondot
#define EP_NAME "neondot"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "vec.h"
#include "kernels.inl"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
