// The contract of every kernel. One table a CPU instruction set; dispatch.cpp says which one runs.
#pragma once

#include <cstdint>

namespace edgepose {

constexpr int kPanelColumns = 16;  // columns of a packed weight panel, the same on every CPU

enum class Activation { none, relu, gelu, sigmoid };

// How weights are stored and multiplied. f16 and w8 are widened to float32 as they are read; i8 and i16 store weights
// as w8 does, but multiply integers: x is rounded to 8 or 16 bits, and the sums are exact.
enum class Precision { f32, f16, w8, i8, i16 };

// The weights of a product, packed: f32, f16, w8 [ceil(n / 16)][k][16]; i8, i16 [ceil(n / 16)] panels of the sums of 16
// columns, int32, and [ceil(k / 4)][16][4]. Zero past n and k. packed_panel() is a panel's size. In eight bits the
// weight of a column is scale[column] * the number stored.
struct Weights {
  Precision precision;
  const void* packed;
  const float* scale;  // w8, i8, i16: (n) padded to whole panels
};

// In i8 and i16 a row of x is rounded to whole numbers from 0 to `levels`, from its least to its largest number, 0
// included:
//   step = largest / levels - least / levels;  inverse = 1 / step, 0 where the step is below kLeastStep
//   number = min(round(x * inverse) + zero, levels),  zero = round(-least * inverse)
// A number counts as step * (number - zero). Computed in float32, half to even: the same on every CPU.
constexpr int kLevels8 = 255, kLevels16 = 65535;
constexpr float kLeastStep = 1e-35f;

// The neighbour groups of a graph convolution. Group g multiplies `rows[g+1] - rows[g]` gathered rows of a person by
// its own weights; zero rows of the adjacency are never gathered. Sums are in compressed rows: entry e in [start[i],
// start[i+1]) adds coefficient[e] * source row index[e].
struct Sums {
  const int* start;
  const int* index;
  const float* coefficient;
};
struct Graph {
  int joints, groups;
  const int* rows;  // (groups + 1): the first gathered row of each group
  Sums gather;      // gathered row <- joints
  Sums scatter;     // joint <- gathered rows after their weights
};

// Matrices are row-major float32; ldx and ldy are the distances between rows, in floats. Nothing is read or written
// past column n (or k) of a row. Biases are padded with zeros to whole panels. In every kernel the sum over k has one
// order, so a row does not depend on how many rows or columns run with it. NaN or an infinity in a row of x makes that
// row of y NaN or infinite, whatever the precision.
struct Kernels {
  const char* isa;
  int has_f16;  // whether f16 can be read; where not, weights are widened when they are packed

  // y[m,n] = activation(x[m,k] @ w + b[n]) + residual[m,n]. residual may be null or y (its rows are ldy apart);
  // y must not alias x. |error| <= 2 k eps max|x| max|w| before the activation, from the product of the rounded x and
  // w. scratch: linear_scratch(k) floats for i8 and i16, else unused.
  void (*linear)(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
                 int ldx, int ldy, int m, int k, int n, Activation activation);

  // For each person p: y_p[j,n] = activation(sum_g A_g x_p w_g + b[j,n]) + residual_p[j,n], where the A_g are
  // `graph`'s. x and y have people * joints rows; b has joints rows of ldb floats; w is packed [panel][group], its
  // scale [group] rows of ldb floats. residual may be null (its rows are ldy apart); y must not alias x. scratch:
  // graph_scratch(rows, ldx, k) floats of graph.rows[groups] rows, 64-byte aligned.
  void (*graph_conv)(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
                     const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation);

  // y[m,n] = (x - mean) / sqrt(variance + epsilon), mean and variance of each row. y may be x.
  void (*normalize)(const float* x, float* y, int ldx, int ldy, int m, int n, float epsilon);

  // y[m,n] = x[m,n] + c[m,n]; c has rows of ldc floats. y may be x.
  void (*add)(const float* x, const float* c, float* y, int ldx, int ldc, int ldy, int m, int n);

  // y[m,n] = activation(x[m,n] * r[m,n]). y may be x or r.
  void (*multiply)(const float* x, const float* r, float* y, int ldx, int ldr, int ldy, int m, int n,
                   Activation activation);

  // y[m,n] = a * y[m,n] + b * x[m,n]. y must not alias x.
  void (*blend)(float a, float b, const float* x, float* y, int ldx, int ldy, int m, int n);

  // One head: y[tokens,d] = softmax(q k^T) v; q, k, v are (tokens, d) with rows ldx apart. y must not alias them. Token
  // i looks at the tokens i - before .. i + after, as far as they exist; before, after >= 0. scratch:
  // attention_scratch(tokens, d) floats, 64-byte aligned.
  void (*attention)(const float* q, const float* k, const float* v, float* y, float* scratch,
                    long ldx, long ldy, int tokens, int d, int before, int after);

  // For the benchmark's roofline. probe_flops: n times 16 independent multiply-adds of whole vectors, nothing else;
  // returns the operations done. probe_dots: the same for products of whole numbers. probe_read: reads x[0..n) `times`
  // times; returns the bytes read.
  long (*probe_flops)(long n);
  long (*probe_dots)(long n);
  long (*probe_read)(const float* x, long n, long times);
};

constexpr int kGraphPeople = 4;   // people whose gathered rows share one pass over the weights and stay in L2
constexpr int kGraphRows = 256;   // gathered rows of a person, at most
// Rows of a product that share one pass over the weights: 136 rows of 512 floats stay in L2.
constexpr int kBlockRows = 8 * 17;

static inline int round_up(int n, int to) { return (n + to - 1) / to * to; }

// The distance between two rows of rounded x, in numbers of 8 bits (16 on CPUs that multiply those). Never a power of
// two.
static inline int rounded_ld(int k) { return round_up(k, 64) + 64; }
// Two 16-bit numbers for each element: x in 16 bits is multiplied as two rows of 8 bits.
static inline long linear_scratch(int k) { return (long)kBlockRows * rounded_ld(k); }
static inline long graph_scratch(int rows, int ldx, int k) { return (long)kGraphPeople * rows * (ldx + rounded_ld(k)); }

// Bytes of one packed panel with all groups of a graph convolution.
static inline long packed_panel(Precision precision, int k, int groups = 1) {
  switch (precision) {
    case Precision::f32: return 4L * groups * k * kPanelColumns;
    case Precision::f16: return 2L * groups * k * kPanelColumns;
    case Precision::w8: return 1L * groups * k * kPanelColumns;
    case Precision::i8: case Precision::i16: return (long)groups * (round_up(k, 4) + 4) * kPanelColumns;
  }
  return 0;
}
static inline long attention_scratch(int tokens, int d) {
  return (long)tokens * round_up(d, kPanelColumns) + (long)(d + tokens) * kPanelColumns;
}

// The kernels of `isa`; for null or "" the best that this CPU runs. Throws std::invalid_argument, listing what this CPU
// runs, for an `isa` that it does not.
const Kernels& kernels(const char* isa);
const Kernels* const* supported_kernels(int* count);  // best first

}  // namespace edgepose
