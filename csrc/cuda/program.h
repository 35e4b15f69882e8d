// A plan for the GPU: its steps, some of them fused, and its weights in one block, as plain data that the persistent
// kernel reads.
#pragma once

#include <vector>

#include "../plan.h"

namespace edgepose::cuda {

constexpr int kWarps = 8, kThreads = 32 * kWarps;  // per block
// Rows of x that share one pass over the weights: three tensor core tiles, the joints of a person.
constexpr int kTileRows = 24;
constexpr int kRowBytes = 1024;    // bytes of a row of x in shared memory at once: 256 floats, 512 halves or 1024 int8
constexpr int kHeadWidth = 192;    // channels of an attention head, at most: what fits beside 32 keys in shared memory

// Where a product's x lies: in the arena, or in the input, read as the step `tokens` or `frames` reads it.
enum class Source { rows, tokens, frames };

// One step. Arena offsets are in floats a person; offsets of constants in bytes; -1 where there is none.
struct Step {
  Op op;
  Source source = Source::rows;
  long x = -1, other = -1, y = -1, residual = -1, gate = -1;
  int x_rows = 0, ldx = 0, k = 0;         // k: rows of the weights; in a convolution all taps together
  int rows = 0, columns = 0, ldy = 0;
  int ldo = 0, ldg = 0;                   // other's, the gate's
  int ldr = 0, residual_rows = 0, residual_first = 0, residual_stride = 1;
  bool is_answer = false;                 // y is the answer, without gaps between its rows
  bool normalizes = false;                // each row of x is normalised before its product
  float epsilon = 0;
  Type stored = Type::f32;
  Multiplied multiplied = Multiplied::f32;
  // panel: the bytes of one panel of all groups.
  long weight = -1, panel = 0, scale = -1, x_scale = -1, bias = -1, position = -1;
  int ldb = 0, ldp = 0;
  Activation activation = Activation::none;
  // parts: items of an attention head, each of kWarps queries that see each other.
  int heads = 0, span = 0, parts = 0;
  bool is_causal = false;
  int taps = 1, first = 0, stride = 1;
  int groups = 0;
  long group_rows = -1;                   // (groups + 1) int: the first gathered row of each group
  long gather_start = -1, gather_index = -1, gather_coefficient = -1;
  long scatter_start = -1, scatter_index = -1, scatter_coefficient = -1;
};

// y = activation(product) + residual[first + stride t] + position. Fused into the products around them: tokens, frames
// and normalize that feed nothing but linears, an add behind a product, a pick that is the residual of one, the reshape
// that gives the answer. A step reads nothing that it writes, except an element's own residual: blocks need no order
// within a step.
struct Program {
  int frames = 0, joints = 0, inputs = 0, outputs = 0;
  long arena = 0;  // floats a person
  std::vector<Step> steps;
  std::vector<unsigned char> constants;

  // The most blocks that a step has an item of work for (Items in block.cuh).
  long most_items(int people) const;
};

// uses_tensor_cores: weights lie as mma instructions take them; if false, as [panel][k][16]. Throws what check_plan
// throws, and std::invalid_argument for heads wider than kHeadWidth.
Program make_program(const PlanSpec& spec, bool uses_tensor_cores);

}  // namespace edgepose::cuda
