#include "kernels.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if 1  // every CPU: SSE2 on x86-64
#define EP_GENERIC
#define EP_ISA generic
#define EP_NAME "generic"
#include "vec.h"
#include "kernels.inl"
#endif
