#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#define EP_NEON
#define EP_ISA neon
#define EP_NAME "neon"
#include "vec.h"
#include "kernels.inl"
#endif
