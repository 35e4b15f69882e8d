// The contract of every kernel. One table a CPU instruction set; dispatch.cpp says which one runs.
#pragma once

#include <cstdint>

namespace edgepose {

constexpr int kPanelColumns = 16;  // columns of a packed weight panel, the same on every CPU

enum class Activation { none, relu, gelu, sigmoid };

// How the numbers of a tensor, and so a product's weights, are stored: float32, IEEE half, int8.
enum class Type { f32, f16, i8 };
// The numbers that a product multiplies. f32: weights are widened as they are read. i8, i16: x is rounded to 8 or 16
// bits, weights are int8, and the sums are exact. f16: x is rounded to half precision, and so is each sum of kHalfRun
// products; the sums are added up in float32.
enum class Multiplied { f32, f16, i8, i16 };
constexpr int kTypes = 3, kMultiplied = 4;

// The weights of a product, packed by pack.h: [ceil(n / 16)] panels of [ceil(k / depth)][16][depth] numbers, zero past
// n and k. Where depth > 1, a panel begins with the sums of its 16 columns, int32.
struct Weights {
  const void* packed;
  long part;           // bytes of a panel; of a graph convolution, of one of its groups
  const float* scale;  // int8 only: (n), padded to whole panels. A column's weight is scale[column] * the number stored
};

// Where a product has leftovers, the weights of rows i and i + 1 of w, i even, add up to kMostPair at most, as do their
// positive and their negative ones alone: 255 times that is the largest sum that 16 bits hold. What a weight would add
// beyond it stands, after a count (int32), in a list behind the panel's numbers.
constexpr int kMostPair = 128;
struct Leftover {
  uint16_t i;
  uint8_t column;
  int8_t number;
};

// In i8 and i16 a row of x is rounded to whole numbers from 0 to `levels`, from its least to its largest number, 0
// included:
//   step = largest / levels - least / levels;  inverse = 1 / step, 0 where the step is below kLeastStep
//   number = min(round(x * inverse) + zero, levels),  zero = round(-least * inverse)
// A number counts as step * (number - zero). Computed in float32, half to even: the same on every CPU.
constexpr int kLevels8 = 255, kLevels16 = 65535;
constexpr float kLeastStep = 1e-35f;

// In f16 a row of x is first multiplied by a power of two that brings its largest number to 16 or more and below 32, so
// that no sum of kHalfRun products with weights up to kMostHalfWeight overflows. |error| <= k max|x| (2^-11 (3 +
// kHalfRun / 2) max|w| + 2^-28).
constexpr int kHalfRun = 16;
constexpr float kMostHalfWeight = 127;

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

// The last `rows` frames of a person, a row of keys | values each: the frame i back is row newest - i, modulo rows.
struct Ring {
  const float* keys_values;
  int rows, newest;
};

// Matrices are row-major float32; ldx and ldy are the distances between rows, in floats. Nothing is read or written
// past column n (or k) of a row. Biases are padded with zeros to whole panels. In every kernel the sum over k has one
// order, so a row does not depend on how many rows or columns run with it. NaN or an infinity in a row of x makes that
// row of y NaN or infinite, whatever the precision.

// A product in one precision: how its weights are packed, and the two kernels that multiply by them. All null where a
// CPU does not have it.
struct Product {
  int depth;  // numbers of k that lie side by side in a packed panel
  bool has_leftovers;

  // y[m,n] = activation(x[m,k] @ w + b[n]) + residual[m,n]. residual may be null or y (its rows are ldy apart);
  // y must not alias x. In f32 |error| <= 2 k eps max|x| max|w| before the activation, in i8 and i16 the same from the
  // product of the rounded x and w. scratch: linear_scratch(k) floats, not used in f32.
  void (*linear)(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
                 int ldx, int ldy, int m, int k, int n, Activation activation);

  // For each person p: y_p[j,n] = activation(sum_g A_g x_p w_g + b[j,n]) + residual_p[j,n], where the A_g are
  // `graph`'s. x and y have people * joints rows; b has joints rows of ldb floats; w is packed [panel][group], its
  // scale [group] rows of ldb floats. residual may be null (its rows are ldy apart); y must not alias x. scratch:
  // graph_scratch(rows, ldx, k) floats of graph.rows[groups] rows, 64-byte aligned.
  void (*graph_conv)(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
                     const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation);
};

struct Kernels {
  const char* isa;
  Product products[kTypes][kMultiplied];  // for weights stored in a type and multiplied in another
  const Product& product(Type stored, Multiplied as) const { return products[(int)stored][(int)as]; }

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

  // The newest frame's look at a person's last ones, all heads in one pass: y[heads d] = softmax(q k^T + age) v,
  // q[heads d]. Even heads look at the frames 0 .. span back, odd ones at 0, span, ... span (count - 1); a frame i
  // back whose place[i] is below 0 is skipped, the newest never. age[heads][ages]: values at the places 0 .. ages - 1;
  // what a head adds to a score is linear between them, and the last beyond. y must not alias q. Softmax is taken
  // online, 16 frames at a time. heads even; span >= 1; count, ages >= 2; ring.rows > span (count - 1).
  void (*ring_attention)(const float* q, const Ring& ring, const float* place, const float* age, float* y, int heads,
                         int d, int span, int count, int ages);

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

static inline int bytes_of(Type type) { return type == Type::f32 ? 4 : type == Type::f16 ? 2 : 1; }
// Bytes of the sums that a packed panel begins with.
static inline int panel_sums(int depth) { return depth > 1 ? 4 * kPanelColumns : 0; }
// Bytes of a packed panel without leftovers.
static inline long panel_bytes(Type stored, int depth, int k) {
  return panel_sums(depth) + (long)bytes_of(stored) * round_up(k, depth) * kPanelColumns;
}
static inline long attention_scratch(int tokens, int d) {
  return (long)tokens * round_up(d, kPanelColumns) + (long)(d + tokens) * kPanelColumns;
}

// Instruction sets that older compilers do not know.
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define EP_KNOWS_AVX_VNNI
#endif

// An instruction set of this architecture.
struct InstructionSet {
  const char* isa;
  const char* machines;    // the first that have it
  const char* gain;        // what it is faster at, and how
  const Kernels* kernels;  // null where the compiler of this build did not know it
  bool runs;               // on this CPU
};
// All that edgepose has kernels for, best first; the last runs on every CPU. Those that round x to half precision come
// after those that do not.
const InstructionSet* instruction_sets(int* count);

// The kernels of `isa`; for null or "" the best that this CPU runs. Throws std::invalid_argument, listing what this CPU
// runs, for an `isa` that it does not.
const Kernels& kernels(const char* isa);

}  // namespace edgepose
