// Reads the numbers of a plan's tensors, whatever their type.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "plan.h"

namespace edgepose {

inline float widen(std::uint16_t h) {
  const std::uint32_t sign = (std::uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 0) return (sign ? -1.f : 1.f) * (float)fraction * 5.9604644775390625e-8f;  // 2^-24: subnormals
  const std::uint32_t bits = sign | (exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float element(const Tensor& tensor, long i) {
  switch (tensor.type) {
    case Type::f32: return static_cast<const float*>(tensor.data)[i];
    case Type::f16: return widen(static_cast<const std::uint16_t*>(tensor.data)[i]);
    case Type::i8: return static_cast<const std::int8_t*>(tensor.data)[i];
  }
  return 0;
}

// The non-zero entries of a matrix, row by row.
inline void compress(const Tensor& matrix, std::vector<int>& start, std::vector<int>& index,
                     std::vector<float>& coefficient) {
  start = {0}, index.clear(), coefficient.clear();
  for (int r = 0; r < matrix.shape[0]; r++) {
    for (int c = 0; c < matrix.shape[1]; c++) {
      const float value = element(matrix, (long)r * matrix.shape[1] + c);
      if (value == 0) continue;
      index.push_back(c);
      coefficient.push_back(value);
    }
    start.push_back((int)index.size());
  }
}

}  // namespace edgepose
