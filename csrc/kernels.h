// The contract of every kernel. One table a CPU instruction set; dispatch.cpp says which one runs.
#pragma once

#include <cstdint>

namespace edgepose {

constexpr int kPanelColumns = 16;  // columns of a packed weight panel, the same on every CPU

enum class Activation { none, relu, gelu, sigmoid };

// The neighbour groups of a graph convolution. Group g multiplies `rows[g+1] - rows[g]` gathered rows of a person by its
// own weights; zero rows of the adjacency are never gathered. Sums are in compressed rows: entry e in
// [start[i], start[i+1]) adds coefficient[e] * source row index[e].
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

// Matrices are row-major float32; ldx and ldy are the distances between rows, in floats. Nothing is read or written past
// column n (or k) of a row. Packed weights: [ceil(n / 16)][k][16], zero past n; biases are padded with zeros to
// ceil(n / 16) * 16. `_f16` kernels take packed weights in IEEE half precision and compute in float32.
// In every kernel the sum over k has one order, so a row does not depend on how many rows or columns run with it.
struct Kernels {
  const char* isa;
  int has_f16;  // whether the _f16 kernels are there; where not, weights are widened when packed

  // y[m,n] = activation(x[m,k] @ w + b[n]) + residual[m,n]. residual may be null or y (its rows are ldy apart);
  // y must not alias x. |error| <= 2 k eps max|x| max|w| before the activation.
  void (*linear)(const float* x, const float* w, const float* b, const float* residual, float* y,
                 int ldx, int ldy, int m, int k, int n, Activation activation);
  void (*linear_f16)(const float* x, const uint16_t* w, const float* b, const float* residual, float* y,
                     int ldx, int ldy, int m, int k, int n, Activation activation);

  // For each person p: y_p[j,n] = activation(sum_g A_g x_p w_g + b[j,n]) + residual_p[j,n], where the A_g are `graph`'s.
  // x and y have people * joints rows; b has joints rows of ldb floats; w is packed [panel][group][k][16].
  // residual may be null (its rows are ldy apart); y must not alias x.
  // scratch: kGraphPeople * graph.rows[groups] rows of ldx floats, 64-byte aligned.
  void (*graph_conv)(const float* x, const float* w, const float* b, const float* residual, float* y, float* scratch,
                     const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation);
  void (*graph_conv_f16)(const float* x, const uint16_t* w, const float* b, const float* residual, float* y, float* scratch,
                         const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation);

  // y[m,n] = (x - mean) / sqrt(variance + epsilon), mean and variance of each row. y may be x.
  void (*normalize)(const float* x, float* y, int ldx, int ldy, int m, int n, float epsilon);

  // y[m,n] = x[m,n] + c[m,n]; c has rows of ldc floats. y may be x.
  void (*add)(const float* x, const float* c, float* y, int ldx, int ldc, int ldy, int m, int n);

  // y[m,n] = activation(x[m,n] * r[m,n]). y may be x or r.
  void (*multiply)(const float* x, const float* r, float* y, int ldx, int ldr, int ldy, int m, int n, Activation activation);

  // y[m,n] = a * y[m,n] + b * x[m,n]. y must not alias x.
  void (*blend)(float a, float b, const float* x, float* y, int ldx, int ldy, int m, int n);

  // One head: y[tokens,d] = softmax(q k^T) v; q, k, v are (tokens, d) with rows ldx apart. y must not alias them. Token i
  // looks at the tokens i - before .. i + after, as far as they exist; before, after >= 0.
  // scratch: attention_scratch(tokens, d) floats, 64-byte aligned.
  void (*attention)(const float* q, const float* k, const float* v, float* y, float* scratch,
                    long ldx, long ldy, int tokens, int d, int before, int after);

  // For the benchmark's roofline. probe_flops: n times 16 independent multiply-adds of whole vectors, nothing else;
  // returns the operations done. probe_read: reads x[0..n) `times` times; returns the bytes read.
  long (*probe_flops)(long n);
  long (*probe_read)(const float* x, long n, long times);
};

constexpr int kGraphPeople = 4;   // people whose gathered rows share one pass over the weights and stay in L2
constexpr int kGraphRows = 256;   // gathered rows of a person, at most

inline int round_up(int n, int to) { return (n + to - 1) / to * to; }
inline long attention_scratch(int tokens, int d) {
  return (long)tokens * round_up(d, kPanelColumns) + (long)(d + tokens) * kPanelColumns;
}

// The table of `isa`, or the best this CPU runs for null or "". Throws std::invalid_argument, listing what this CPU
// runs, for one it does not.
const Kernels& kernels(const char* isa);
const Kernels* const* supported_kernels(int* count);  // best first

}  // namespace edgepose
