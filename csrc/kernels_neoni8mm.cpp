#include "compilers.h"
#include "kernels.h"

#if defined(__aarch64__) && defined(EP_KNOWS_ARM_V8_2)
#include <arm_neon.h>
#define EP_NEON
#define EP_NEON_I8MM
#define EP_ISA neoni8mm
#define EP_NAME "neoni8mm"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif
#include "vec.h"
#include "kernels.inl"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
