// What the kernels need of the GPU: threads, barriers, tensor cores. The only file with PTX. Without nvcc the same
// names come from cuda_emulated.h (tests/), where a block's threads take turns on a CPU.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_fp16.h>

namespace edgepose::cuda {

#define EP_DEVICE __device__ __forceinline__

using half = __half;
EP_DEVICE half to_half(float x) { return __float2half_rn(x); }
EP_DEVICE float to_float(half x) { return __half2float(x); }

struct alignas(8) Word2 { uint32_t word[2]; };
struct alignas(16) Word4 { uint32_t word[4]; };

EP_DEVICE float sum_of_warp(float x) {
  for (int apart = 16; apart; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
  return x;
}
EP_DEVICE float max_of_warp(float x) {
  for (int apart = 16; apart; apart /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, apart));
  return x;
}
template <class T>
EP_DEVICE T from_lane(T x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }

// c += a[0] b[0] + ... + a[3] b[3], numbers of 8 bits. sm_61 and later.
EP_DEVICE int dot4(uint32_t a, uint32_t b, int c) { return __dp4a((int)a, (int)b, c); }

// c[16][8] += a[16][16] b[16][8], halves; a warp's fragments as PTX lays them out for mma.m16n8k16. sm_80 and later.
EP_DEVICE void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
// c[16][8] += a[16][32] b[32][8], int8; the fragments of mma.m16n8k32.
EP_DEVICE void multiply_add(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

EP_DEVICE void wait_for_block() { __syncthreads(); }

EP_DEVICE unsigned arrive(unsigned* counter) {
  unsigned before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return before;
}
EP_DEVICE unsigned read(const unsigned* word) {
  unsigned value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(__cvta_generic_to_global(word)) : "memory");
  return value;
}
EP_DEVICE void publish(unsigned* word, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" : : "l"(__cvta_generic_to_global(word)), "r"(value) : "memory");
}

// Grid-wide barrier: no block goes on before all have arrived, and each sees what the others wrote. All must run at
// once (cooperative launch). arrived, passed: zero before the first launch; arrived is zero again after each.
EP_DEVICE void wait_for_grid(unsigned* arrived, unsigned* passed) {
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned before = read(passed);
    if (arrive(arrived) == gridDim.x - 1) {
      *arrived = 0;
      publish(passed, before + 1);
    } else {
      while (read(passed) == before) continue;
      asm volatile("fence.acq_rel.gpu;" : : : "memory");
    }
  }
  __syncthreads();
}

}  // namespace edgepose::cuda
#else
#include "cuda_emulated.h"
#endif
