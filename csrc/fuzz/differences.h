// Runs a kernel of one instruction set and the generic one on the same numbers, and says how far apart they are and how
// far kernels.h allows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../pack.h"

namespace edgepose::differences {

constexpr double kEps = 0x1p-23, kHalfEps = 0x1p-11, kSmooth = 4e-7;  // the last: of GELU and sigmoid, as vec.h says

// Random numbers below 1/2, the same on every machine. With `spread` many of them are up to 2^spread times smaller;
// with `extreme` one in that many weights of eight bits is at an end of its range.
struct Random {
  unsigned state = 1;
  int spread = 0, extreme = 0;

  unsigned bits(unsigned below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
  }
  float number() {
    const float x = (float)bits(1 << 24) / (1 << 24) - 0.5f;
    return spread ? std::ldexp(x, -(int)bits((unsigned)spread + 1)) : x;
  }
  std::vector<float> numbers(long n) {
    std::vector<float> all((std::size_t)n);
    for (float& x : all) x = number();
    return all;
  }
};

// Half precision of a multiple of 2^-8 below 1, which it holds exactly.
inline std::uint16_t half(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return x == 0 ? 0 : (std::uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023));
}

// What weights are stored as, and to how many bits x is rounded.
struct Precision {
  const char* name;
  Type stored;
  int x_bits;
};
constexpr Precision kPrecisions[] = {
    {"f32", Type::f32, 0}, {"f16", Type::f16, 0}, {"w8", Type::i8, 0}, {"i8", Type::i8, 8}, {"i16", Type::i8, 16}};

// Weights of a shape, of numbers that their type holds exactly.
class RandomWeights {
 public:
  RandomWeights(Type stored, std::vector<int> shape, Random& random) : tensor_{std::move(shape), stored, nullptr} {
    for (long i = 0; i < elements(tensor_); i++) {
      const float x = random.number();
      const bool is_extreme = random.extreme && random.bits((unsigned)random.extreme) == 0;
      f32_.push_back(std::round(256 * x) / 256);
      f16_.push_back(half(f32_.back()));
      i8_.push_back((std::int8_t)(!is_extreme ? std::round(254 * x) : x < -0.25f ? -128 : x < 0 ? -127 : 127));
    }
    tensor_.data = stored == Type::f32 ? (const void*)f32_.data() : stored == Type::f16 ? (const void*)f16_.data()
                                                                                         : i8_.data();
  }
  const Tensor& tensor() const { return tensor_; }
  double largest() const { return tensor_.type == Type::i8 ? 128. / 127 : 0.5; }  // times a scale of 1/127

 private:
  Tensor tensor_;
  std::vector<float> f32_;
  std::vector<std::uint16_t> f16_;
  std::vector<std::int8_t> i8_;
};

// Weights packed for the kernels of a table.
class Packed {
 public:
  Packed(const Tensor& weight, int x_bits, const Kernels& kernels)
      : packing_(packing_of(weight, x_bits, kernels)),
        bytes_((std::size_t)packing_.bytes()),
        scale_((std::size_t)packing_.groups * packing_.panels * kPanelColumns, 1.f / 127) {
    pack(weight, packing_, false, bytes_.data());
    is_half_ = !x_bits && packing_.product.linear == kernels.product(weight.type, Multiplied::f16).linear;
  }
  const Product& product() const { return packing_.product; }
  bool is_half() const { return is_half_; }
  Weights weights() const { return {bytes_.data(), packing_.part, scale_.data()}; }

 private:
  Packing packing_;
  std::vector<unsigned char> bytes_;
  std::vector<float> scale_;
  bool is_half_;
};

struct Difference {
  double found, allowed;
  bool is_too_large() const { return !(found <= allowed); }
};

inline double largest(const std::vector<float>& numbers) {
  double most = 0;
  for (float x : numbers) most = std::max(most, std::fabs((double)x));
  return most;
}

inline double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); i++)
    most = std::isnan(a[i]) || std::isnan(b[i]) ? INFINITY : std::max(most, std::fabs((double)a[i] - b[i]));
  return most;
}

// How far two sums of k products may be apart. Whole numbers are exact.
inline double allowed_sums(const Packed& packed, int x_bits, int k, double x, double w) {
  if (x_bits) return 0;
  const double floats = 4 * k * kEps * x * w;
  return packed.is_half() ? floats + k * x * (kHalfEps * (3 + kHalfRun / 2) * w + 0x1p-28) : floats;
}

inline Difference linear(const Kernels& kernels, const Kernels& generic, const Precision& precision, int m, int k,
                         int n, Activation activation, bool has_residual, Random& random) {
  const int ldx = k + 3, ldy = n + 5;
  const RandomWeights w(precision.stored, {k, n}, random);
  const std::vector<float> x = random.numbers((long)m * ldx), b = random.numbers(round_up(n, kPanelColumns)),
                           r = random.numbers((long)m * ldy);
  std::vector<float> y(r), z(r), scratch((std::size_t)linear_scratch(k));
  const Packed packed(w.tensor(), precision.x_bits, kernels), plain(w.tensor(), precision.x_bits, generic);
  packed.product().linear(x.data(), packed.weights(), b.data(), has_residual ? r.data() : nullptr, y.data(),
                          scratch.data(), ldx, ldy, m, k, n, activation);
  plain.product().linear(x.data(), plain.weights(), b.data(), has_residual ? r.data() : nullptr, z.data(),
                         scratch.data(), ldx, ldy, m, k, n, activation);
  const double sums = allowed_sums(packed, precision.x_bits, k, largest(x), w.largest()),
               before = k * largest(x) * w.largest() + largest(b);
  const bool is_smooth = activation == Activation::gelu || activation == Activation::sigmoid;
  // GELU is 1.13 times as steep as its input at most. What follows the sums rounds once each, alike in whole numbers.
  double allowed = 1.13 * sums + (precision.x_bits ? 0 : 4 * kEps * (before + largest(r)));
  if (is_smooth) allowed += 2 * kSmooth * std::max(1., before) + 2 * kEps * (before + largest(r));
  return {apart(y, z), allowed};
}

// A chain of five joints in two groups: each joint itself, and its two neighbours mixed before the product.
inline Difference graph_conv(const Kernels& kernels, const Kernels& generic, const Precision& precision, int people,
                             int k, int n, Random& random) {
  static const int kRows[] = {0, 5, 9}, kGatherStart[] = {0, 1, 2, 3, 4, 5, 7, 9, 11, 13},
                   kGatherIndex[] = {0, 1, 2, 3, 4, 0, 1, 1, 2, 2, 3, 3, 4};
  static const float kGather[] = {1, 1, 1, 1, 1, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f};
  static const int kScatterStart[] = {0, 2, 4, 6, 8, 9}, kScatterIndex[] = {0, 5, 1, 6, 2, 7, 3, 8, 4};
  static const float kScatter[] = {1, .5f, 1, .5f, 1, .5f, 1, .5f, 1};
  static const Graph kChain = {
      5, 2, kRows, {kGatherStart, kGatherIndex, kGather}, {kScatterStart, kScatterIndex, kScatter}};
  const int ldx = round_up(k + 3, 16), ldy = n + 5, np = round_up(n, kPanelColumns), m = 5 * people;
  const RandomWeights w(precision.stored, {2, k, n}, random);
  std::vector<float> x = random.numbers((long)m * ldx);
  for (float& value : x) value = std::round(value * 8) / 8;  // so that the mean of two is exact
  const std::vector<float> b = random.numbers(5L * np), r = random.numbers((long)m * ldy);
  std::vector<float> y(r), z(r), scratch((std::size_t)graph_scratch(9, ldx, k) + 16);
  float* aligned = scratch.data() + (64 - (std::size_t)scratch.data() % 64) % 64 / 4;
  const Packed packed(w.tensor(), precision.x_bits, kernels), plain(w.tensor(), precision.x_bits, generic);
  packed.product().graph_conv(x.data(), packed.weights(), b.data(), r.data(), y.data(), aligned, kChain, ldx, ldy, np,
                              people, k, n, Activation::relu);
  plain.product().graph_conv(x.data(), plain.weights(), b.data(), r.data(), z.data(), aligned, kChain, ldx, ldy, np,
                             people, k, n, Activation::relu);
  // The coefficients of a joint's products add up to 2 at most. They are added in another order.
  const double sums = allowed_sums(packed, precision.x_bits, k, largest(x), w.largest());
  return {apart(y, z), 2 * sums + 4 * kEps * (2 * k * largest(x) * w.largest() + largest(b) + largest(r))};
}

inline Difference attention(const Kernels& kernels, const Kernels& generic, int tokens, int d, int before, int after,
                            Random& random) {
  const int ldx = 3 * d + 1, ldy = d + 2;
  const std::vector<float> q = random.numbers((long)tokens * ldx);
  std::vector<float> y((std::size_t)tokens * ldy), z(y), scratch((std::size_t)attention_scratch(tokens, d) + 16);
  float* aligned = scratch.data() + (64 - (std::size_t)scratch.data() % 64) % 64 / 4;
  kernels.attention(q.data(), q.data() + d, q.data() + 2 * d, y.data(), aligned, ldx, ldy, tokens, d, before, after);
  generic.attention(q.data(), q.data() + d, q.data() + 2 * d, z.data(), aligned, ldx, ldy, tokens, d, before, after);
  return {apart(y, z), 2 * (d + tokens + 8) * kEps};
}

inline Difference ring_attention(const Kernels& kernels, const Kernels& generic, int d, int span, int count,
                                 Random& random) {
  const int heads = 2, rows = span * (count - 1) + 1, ages = 5;
  const std::vector<float> q = random.numbers((long)heads * d), kv = random.numbers(2L * heads * d * rows),
                           age = random.numbers((long)heads * ages);
  std::vector<float> place((std::size_t)rows), y((std::size_t)heads * d), z(y);
  for (int i = 0; i < rows; i++) place[(std::size_t)i] = i % 5 == 4 ? -1 : 0.3f * (float)i;
  const Ring ring = {kv.data(), rows, rows / 2};
  kernels.ring_attention(q.data(), ring, place.data(), age.data(), y.data(), heads, d, span, count, ages);
  generic.ring_attention(q.data(), ring, place.data(), age.data(), z.data(), heads, d, span, count, ages);
  return {apart(y, z), 2 * (d + rows + 8) * kEps};
}

inline Difference normalize(const Kernels& kernels, const Kernels& generic, int m, int n, Random& random) {
  const std::vector<float> x = random.numbers((long)m * (n + 3));
  std::vector<float> y((std::size_t)m * (n + 5)), z(y);
  kernels.normalize(x.data(), y.data(), n + 3, n + 5, m, n, 1e-5f);
  generic.normalize(x.data(), z.data(), n + 3, n + 5, m, n, 1e-5f);
  return {apart(y, z), n < 2 ? 1e-3 : 64 * kEps * n};
}

inline Difference multiply(const Kernels& kernels, const Kernels& generic, int m, int n, Random& random) {
  const std::vector<float> x = random.numbers((long)m * (2 * n + 1));
  std::vector<float> y((std::size_t)m * (n + 5)), z(y);
  kernels.multiply(x.data(), x.data() + n, y.data(), 2 * n + 1, 2 * n + 1, n + 5, m, n, Activation::sigmoid);
  generic.multiply(x.data(), x.data() + n, z.data(), 2 * n + 1, 2 * n + 1, n + 5, m, n, Activation::sigmoid);
  return {apart(y, z), kSmooth};
}

inline Difference add(const Kernels& kernels, const Kernels& generic, int m, int n, Random& random) {
  const std::vector<float> x = random.numbers((long)m * (2 * n + 1));
  std::vector<float> y((std::size_t)m * (n + 5)), z(y);
  kernels.add(x.data(), x.data() + n, y.data(), 2 * n + 1, 2 * n + 1, n + 5, m, n);
  generic.add(x.data(), x.data() + n, z.data(), 2 * n + 1, 2 * n + 1, n + 5, m, n);
  return {apart(y, z), 0};
}

inline Difference blend(const Kernels& kernels, const Kernels& generic, int m, int n, Random& random) {
  const std::vector<float> x = random.numbers((long)m * (n + 3)), before = random.numbers((long)m * (n + 5));
  std::vector<float> y(before), z(before);
  kernels.blend(0.5f, 0.25f, x.data(), y.data(), n + 3, n + 5, m, n);
  generic.blend(0.5f, 0.25f, x.data(), z.data(), n + 3, n + 5, m, n);
  return {apart(y, z), 4 * kEps};
}

}  // namespace edgepose::differences
