// What every kernel works with: the launch, a block's shared memory, and the way an element is stored.
#pragma once

#include "device.cuh"
#include "program.h"

namespace edgepose::cuda {

constexpr int kRowStride = kRowBytes + 16;  // between rows of x in shared memory: a fragment's lanes fall on 32 banks
constexpr int kSumStride = kPanelColumns + 4;  // between rows of sums: a fragment's lanes fall on different banks
constexpr int kKeys = 32;                   // keys and values in shared memory at once, one per lane
constexpr float kUnseen = -1e30f;           // the score of a masked key, as in kernels.inl

// What one launch works on. All pointers are the device's; host_input and answer may be host memory that it has mapped.
struct Launch {
  const Step* steps;
  int count;
  const unsigned char* constants;
  float* arena;
  const float* host_input;
  float* input;
  float* answer;
  int people, frames, joints, inputs;  // inputs: columns of a joint
  unsigned* arrived;
  unsigned* passed;
};

// A block's shared memory: a product's x, its sums and a graph convolution's rows, or an attention's keys, values and
// queries.
struct Shared {
  union {
    struct {
      alignas(16) unsigned char x[kTileRows * kRowStride];
      uint32_t sums[kWarps][kTileRows * kSumStride];  // float or int
      float z[kGraphRows * kPanelColumns];
      float mean[kTileRows], deviation[kTileRows], broken[kTileRows];  // deviation: its reciprocal
    };
    float attention[2 * kKeys * (kHeadWidth + 1) + kWarps * kHeadWidth];
  };
  Step steps[2];
};

template <class T>
EP_DEVICE const T* constants(const Launch& launch, long at) {
  return at < 0 ? nullptr : reinterpret_cast<const T*>(launch.constants + at);
}
EP_DEVICE float* rows(const Launch& launch, long at) { return launch.arena + at * launch.people; }
EP_DEVICE int warp() { return threadIdx.x / 32; }
EP_DEVICE int lane() { return threadIdx.x % 32; }

EP_DEVICE float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? 0.f : x;
    case Activation::gelu: return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case Activation::sigmoid: return 1 / (1 + expf(-x));
  }
  return x;
}

// y[row][c] = value + residual + position. row: counted over all people.
EP_DEVICE void store(const Launch& launch, const Step& s, int row, int c, float value) {
  const int person = row / s.rows, t = row % s.rows;
  if (s.residual >= 0) {
    const long from = (long)person * s.residual_rows + s.residual_first + (long)t * s.residual_stride;
    value += rows(launch, s.residual)[from * s.ldr + c];
  }
  if (s.position >= 0) value += constants<float>(launch, s.position)[(long)t * s.ldp + c];
  float* y = s.is_answer ? launch.answer : rows(launch, s.y);
  y[(long)row * s.ldy + c] = value;
}

// The consecutive items of a step that this block owns: [first, last) of `items`.
struct Items {
  long first, last;
  EP_DEVICE explicit Items(long items)
      : first(items * blockIdx.x / gridDim.x), last(items * (blockIdx.x + 1) / gridDim.x) {}
};

}  // namespace edgepose::cuda
