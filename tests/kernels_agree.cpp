// Compares every kernel of each instruction set this CPU runs with the generic one, on seeded numbers: for CPUs that
// the Python tests do not reach. Prints the largest difference of each, exits with 1 if one is above what float32
// allows.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../csrc/kernels.h"

using namespace edgepose;

static unsigned state = 1;
static float number() { state = state * 1664525u + 1013904223u; return (float)(state >> 8) / (1 << 24) - 0.5f; }
static std::vector<float> numbers(long n) { std::vector<float> v(n); for (float& x : v) x = number(); return v; }

// Half precision of multiples of 2^-8 below 1: exact in both, so that both kernels see the same weights.
static unsigned short half(float x) {
  unsigned bits; std::memcpy(&bits, &x, 4);
  return x == 0 ? 0 : (unsigned short)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023));
}

// Packs integers w[k][np] into the panels of integer products, as kernels.h says.
static std::vector<signed char> packed_dots(const std::vector<signed char>& w, int k, int np) {
  const long bytes = packed_panel(Precision::i8, k);
  std::vector<signed char> packed(np / kPanelColumns * bytes);
  for (int c = 0; c < np; c++) {
    signed char* panel = packed.data() + c / kPanelColumns * bytes;
    int sum = 0;
    for (int i = 0; i < k; i++) {
      sum += w[(long)i * np + c];
      panel[64 + (i / 4 * kPanelColumns + c % kPanelColumns) * 4 + i % 4] = w[(long)i * np + c];
    }
    std::memcpy(panel + c % kPanelColumns * 4, &sum, 4);
  }
  return packed;
}

// A chain of five joints in two groups: each joint itself, and its two neighbours mixed before the product.
static const int kRows[] = {0, 5, 9}, kGatherStart[] = {0, 1, 2, 3, 4, 5, 7, 9, 11, 13},
                 kGatherIndex[] = {0, 1, 2, 3, 4, 0, 1, 1, 2, 2, 3, 3, 4};
static const float kGather[] = {1, 1, 1, 1, 1, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f};
static const int kScatterStart[] = {0, 2, 4, 6, 8, 9}, kScatterIndex[] = {0, 5, 1, 6, 2, 7, 3, 8, 4};
static const float kScatter[] = {1, .5f, 1, .5f, 1, .5f, 1, .5f, 1};
static const Graph kChain = {
    5, 2, kRows, {kGatherStart, kGatherIndex, kGather}, {kScatterStart, kScatterIndex, kScatter}};

static int failures = 0;
static void compare(const char* isa, const char* kernel, const std::vector<float>& a, const std::vector<float>& b,
                    double allowed) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); i++)
    most = std::fmax(most, std::isnan(a[i]) ? INFINITY : std::fabs((double)a[i] - b[i]));
  std::printf("%s %s %.3g (%.3g allowed)\n", isa, kernel, most, allowed);
  failures += !(most <= allowed);
}

int main() {
  int count;
  const Kernels* const* tables = supported_kernels(&count);
  const Kernels& reference = kernels("generic");
  const double eps = 1.1920929e-7;
  for (int t = 0; t < count; t++) {
    const Kernels& table = *tables[t];
    std::printf("%s\n", table.isa);
    for (int m : {1, 2, 5, 17, 40}) for (int k : {1, 17, 128}) for (int n : {3, 16, 37}) {
      const int ldx = k + 3, ldy = n + 5, np = round_up(n, kPanelColumns);
      const std::vector<float> x = numbers((long)m * ldx), b = numbers(np), r = numbers((long)m * ldy);
      std::vector<float> w = numbers((long)np * k), y(m * ldy), z(m * ldy);
      std::vector<unsigned short> w16(w.size());
      for (std::size_t i = 0; i < w.size(); i++) { w[i] = std::round(w[i] * 256) / 256; w16[i] = half(w[i]); }
      std::vector<float> scale(np, 1.f / 127), scratch(linear_scratch(k));
      std::vector<signed char> whole((long)np * k), w8(whole.size());
      for (int i = 0; i < k; i++) for (int c = 0; c < np; c++)
          w8[((long)c / kPanelColumns * k + i) * kPanelColumns + c % kPanelColumns] = whole[(long)i * np + c] =
              (signed char)std::round(254 * number());
      for (Activation a : {Activation::none, Activation::relu, Activation::gelu, Activation::sigmoid}) {
        const auto linear = [&](const Kernels& kernels, Weights weights, std::vector<float>& to) {
          kernels.linear(x.data(), weights, b.data(), r.data(), to.data(), scratch.data(), ldx, ldy, m, k, n, a);
        };
        linear(reference, {Precision::f32, w.data(), nullptr}, z);
        linear(table, {Precision::f32, w.data(), nullptr}, y);
        compare(table.isa, "linear", y, z, 2 * (k + 4) * eps);
        if (table.has_f16) {
          linear(table, {Precision::f16, w16.data(), nullptr}, y);
          compare(table.isa, "linear_f16", y, z, 2 * (k + 4) * eps);
        }
        linear(reference, {Precision::w8, w8.data(), scale.data()}, z);
        linear(table, {Precision::w8, w8.data(), scale.data()}, y);
        compare(table.isa, "linear_w8", y, z, 2 * (k + 4) * eps);
        const std::vector<signed char> packed = packed_dots(whole, k, np);
        for (Precision bits : {Precision::i8, Precision::i16}) {
          linear(reference, {bits, packed.data(), scale.data()}, z);
          linear(table, {bits, packed.data(), scale.data()}, y);
          // Equal to the bit, except for GELU and sigmoid.
          const bool is_exact = a == Activation::none || a == Activation::relu;
          compare(table.isa, bits == Precision::i8 ? "linear_i8" : "linear_i16", y, z,
                  is_exact ? 0 : 4 * (k + 4) * eps);
        }
      }
      table.normalize(x.data(), y.data(), ldx, ldy, m, k < n ? k : n, 1e-5f);
      reference.normalize(x.data(), z.data(), ldx, ldy, m, k < n ? k : n, 1e-5f);
      compare(table.isa, "normalize", y, z, k < 2 ? 1e-3 : 64 * eps * k);
    }
    for (int people : {1, 3, 9}) for (int k : {1, 17, 64}) for (int n : {3, 16, 37}) {
      const int ldx = round_up(k + 3, 16), ldy = n + 5, np = round_up(n, kPanelColumns), m = 5 * people;
      // Eighths, so that the mean of two is exact.
      std::vector<float> x = numbers((long)m * ldx), b = numbers(5L * np), r = numbers((long)m * ldy), y(m * ldy),
                         z(m * ldy);
      for (float& v : x) v = std::round(v * 8) / 8;
      std::vector<float> scale(2 * np, 1.f / 127), w(2L * np * k), scratch(graph_scratch(9, ldx, k) + 16);
      float* aligned = scratch.data() + (64 - (std::size_t)scratch.data() % 64) % 64 / 4;
      std::vector<unsigned short> w16(w.size());
      std::vector<signed char> w8(w.size());
      for (std::size_t i = 0; i < w.size(); i++) {
        w[i] = std::round(number() * 256) / 256;
        w16[i] = half(w[i]);
        w8[i] = (signed char)std::round(254 * number());
      }
      // For integers: both groups of a panel lie one after the other.
      std::vector<signed char> packed;
      for (int panel = 0; panel < np / kPanelColumns; panel++) for (int g = 0; g < 2; g++) {
        const signed char* from = w8.data() + (2L * panel + g) * k * kPanelColumns;
        const std::vector<signed char> one =
            packed_dots(std::vector<signed char>(from, from + (long)k * kPanelColumns), k, kPanelColumns);
        packed.insert(packed.end(), one.begin(), one.end());
      }
      const auto conv = [&](const Kernels& kernels, Weights weights, std::vector<float>& to) {
        kernels.graph_conv(x.data(), weights, b.data(), r.data(), to.data(), aligned, kChain, ldx, ldy, np, people, k,
                           n, Activation::relu);
      };
      conv(reference, {Precision::f32, w.data(), nullptr}, z);
      conv(table, {Precision::f32, w.data(), nullptr}, y);
      compare(table.isa, "graph_conv", y, z, 4 * (k + 4) * eps);
      if (table.has_f16) {
        conv(table, {Precision::f16, w16.data(), nullptr}, y);
        compare(table.isa, "graph_conv_f16", y, z, 4 * (k + 4) * eps);
      }
      conv(reference, {Precision::w8, w8.data(), scale.data()}, z);
      conv(table, {Precision::w8, w8.data(), scale.data()}, y);
      compare(table.isa, "graph_conv_w8", y, z, 4 * (k + 4) * eps);
      for (Precision bits : {Precision::i8, Precision::i16}) {
        conv(reference, {bits, packed.data(), scale.data()}, z);
        conv(table, {bits, packed.data(), scale.data()}, y);
        compare(table.isa, bits == Precision::i8 ? "graph_conv_i8" : "graph_conv_i16", y, z,
                4 * k * eps);  // for the sums of the mixing
      }
    }
    for (int tokens : {1, 16, 17, 27}) for (int d : {3, 16, 27}) {
      const int ldx = 3 * d + 1, ldy = d + 2;
      const std::vector<float> q = numbers((long)tokens * ldx);
      std::vector<float> y(tokens * ldy), z(tokens * ldy), scratch(attention_scratch(tokens, d) + 16);
      float* aligned = scratch.data() + (64 - (std::size_t)scratch.data() % 64) % 64 / 4;
      for (int reach : {0, 3, tokens}) {
        table.attention(q.data(), q.data() + d, q.data() + 2 * d, y.data(), aligned, ldx, ldy, tokens, d, reach, reach);
        reference.attention(q.data(), q.data() + d, q.data() + 2 * d, z.data(), aligned, ldx, ldy, tokens, d, reach,
                            reach);
        compare(table.isa, "attention", y, z, 2 * (d + tokens + 8) * eps);
      }
      table.multiply(q.data(), q.data() + d, y.data(), ldx, ldx, ldy, tokens, d, Activation::sigmoid);
      reference.multiply(q.data(), q.data() + d, z.data(), ldx, ldx, ldy, tokens, d, Activation::sigmoid);
      compare(table.isa, "multiply", y, z, 4e-7);
      table.add(q.data(), q.data() + d, y.data(), ldx, ldx, ldy, tokens, d);
      reference.add(q.data(), q.data() + d, z.data(), ldx, ldx, ldy, tokens, d);
      compare(table.isa, "add", y, z, 0);
      table.blend(0.5f, 0.25f, q.data(), y.data(), ldx, ldy, tokens, d);
      reference.blend(0.5f, 0.25f, q.data(), z.data(), ldx, ldy, tokens, d);
      compare(table.isa, "blend", y, z, 4 * eps + 4e-7);
    }
  }
  return failures ? 1 : 0;
}
