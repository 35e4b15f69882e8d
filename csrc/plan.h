// Runs a list of steps over one arena whose offsets are fixed when the engine is loaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace edgepose {

// A float32 matrix; each person has one.
struct Shape {
  int rows, columns;
};

// A matrix in the arena: rows `ld` floats apart, from float `offset` on. With P people it starts at P * offset and
// holds one person after another, so that P * rows rows are one matrix.
struct Buffer {
  int rows, columns, ld;
  long offset;
};

enum class Op {
  tokens, frames, reshape, pick, concat, add, multiply, normalize, linear, conv, attention, graph_conv,
  clock, hats, taps, ring_attention
};

// One step. x, other, y, residual, gate are buffers; weight, scale, x_scale, bias, gather, scatter are tensors; -1
// where the step has none.
//   tokens      y[J, T C] = the input's (T, J, C), the frames of a joint side by side
//   frames      y[T, J C] = the input's (T, J, C), the joints of a frame side by side; in a plan with a state one frame
//               of them, y[1, J C]
//   reshape     y = x's elements, row after row, in rows of another length
//   pick        y[t] = x[first + stride t]
//   concat      y = x | other, side by side
//   add         y = x + bias[rows, columns]
//   multiply    y = activation(x * other), element by element
//   normalize   y = each row of x, mean 0 and variance 1 (epsilon)
//   linear      y = activation(x @ weight[k, n] + bias[n]) + residual
//   conv        y[t] = sum over taps i of x[first + stride t + i] @ weight[i, k, n] + bias[n] + residual[t]; rows of x
//               that do not exist count as zero; at least one tap has all its rows
//   attention   y[N, C] = multi-head softmax(q k^T) v of x[N, 3C] = q | k | v (1/sqrt(d) is in the weights).
//               span > 0: even heads look at most span tokens away, odd heads at every span-th token; is_causal: no
//               head looks at later tokens. gate[1, 2 heads] = g | b: y = g softmax(q k^T) v + (1 - b) g v
//   graph_conv  y = activation(scatter[J, R] (gather[R, J] x, times weight[g] for rows of group g) + bias[J, n])
//               + residual
// Steps that remember a person's earlier frames (memory.h), in a plan with a state:
//   clock       y[1, R + 1] = the places of the last R + 1 frames' ages, the newest first; x[1, first] is the time in s
//               since the frame before, 0 or less: nothing before is remembered
//   hats        y[1, n] = the weights of a function's n values at an age in s, x[1, first]
//   taps        y[1, count C] = x[1, C] now | one frame ago | ..., zero where not remembered; other: clock's y
//   ring_attention  y[1, C] = multi-head softmax(q k^T + age) v of x[1, 3C] = q | k | v (1/sqrt(d) is in the weights),
//               k and v of the frames 0 .. span back for even heads, 0, span, ... span (count - 1) back for odd ones;
//               bias[heads, n]: the n values of what a head adds by age; other: clock's y
// A product's weight may be int8: then each column of the product is multiplied by its `scale` (n), in a graph_conv
// (groups, n). x_bits, 8 or 16: each row of x is rounded to that many bits too, as kernels.h says (CPUs). x_scale (k):
// x is rounded to int8, round(x[i] * x_scale[i]) (GPUs).
struct Step {
  Op op;
  int x = -1, other = -1, y = -1, residual = -1, gate = -1;
  int weight = -1, scale = -1, x_scale = -1, bias = -1, gather = -1, scatter = -1;
  int x_bits = 0;
  Activation activation = Activation::none;
  int heads = 0, span = 0, count = 0;
  bool is_causal = false;
  int first = 0, stride = 1;
  float epsilon = 0;
  std::vector<int> group_rows;  // graph_conv: gathered rows a group
};

struct Tensor {
  std::vector<int> shape;
  Type type;
  const void* data;  // row-major, aligned for its type
};

struct PlanSpec {
  int frames = 0, joints = 0;
  int inputs = 2, outputs = 3;  // columns of the input and of the answer
  bool has_state = false;       // the steps run once a frame and remember what came before
  std::vector<Shape> buffers;
  std::vector<Step> steps;  // the last one's y is (joints, outputs), the answer
  std::vector<Tensor> tensors;
};

// Throws std::invalid_argument, naming the step, if anything in a spec does not fit or is out of bounds.
void check_plan(const PlanSpec& spec);

inline long elements(const Tensor& tensor) {
  long count = 1;
  for (int extent : tensor.shape) count *= extent;
  return count;
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Block = std::unique_ptr<void, Free>;  // cache-line aligned memory, in huge pages unless small

// A checked spec with its weights packed for one instruction set. Immutable; shared by any number of contexts.
class Plan {
 public:
  // Throws what check_plan throws. spec.tensors' data may be freed afterwards.
  Plan(const PlanSpec& spec, const Kernels& kernels);
  ~Plan();

  const char* isa() const { return kernels_.isa; }
  int frames() const { return frames_; }
  int joints() const { return joints_; }
  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }
  bool has_state() const { return state_ > 0; }
  long state() const { return state_; }  // floats of a person's state; all 0: nothing is remembered
  const std::vector<Buffer>& buffers() const { return buffers_; }

 private:
  friend class Context;
  struct Run;  // a step with its pointers resolved: plan_run.h

  const Kernels& kernels_;
  int frames_, joints_, inputs_, outputs_;
  long arena_, scratch_, state_;  // in floats: per person, per thread, per person
  Block packed_;
  std::vector<Buffer> buffers_;
  std::vector<Run> runs_;
};

// The working memory and the threads of one caller. One thread at a time may call run().
class Context {
 public:
  // cpus: the processors that the threads except the caller's are pinned to, as in Team. Throws std::invalid_argument
  // for fewer than 1 or more than 256 threads, and what Team throws.
  Context(std::shared_ptr<const Plan> plan, int threads, std::vector<int> cpus = {});

  // Makes room for `people` at once; run() with no more than that allocates nothing. Throws std::bad_alloc, and
  // std::invalid_argument if they take more than 8 GiB.
  void reserve(int people);

  // pose_m[people][J][outputs] from keypoints_norm[people][T][J][inputs]. Takes no lock while its threads are awake.
  // A plan with a state remembers nothing at the first of the T frames, and answers for the newest.
  void run(const float* keypoints_norm, float* pose_m, int people);

  // The same from one frame of each person, keypoints_norm[people][J][inputs], and states[people], Plan::state() floats
  // each, which it advances. For a plan with a state.
  void step(const float* keypoints_norm, float* pose_m, int people, float* const* states);

 private:
  static void work(void* context, int member);
  void run_step(const Plan::Run& run, int member);
  void run_product(const Plan::Run& run, int member);
  void run_attention(const Plan::Run& run, int member);
  void run_memory(const Plan::Run& run, int member);
  void run_frame(const float* keypoints_norm, long person_floats, float* const* states);
  void take_answers(float* pose_m) const;
  // The first row of a buffer; all people's rows follow each other.
  float* rows(int buffer) const { return arena() + plan_->buffers_[buffer].offset * people_; }
  float* arena() const { return static_cast<float*>(arena_.get()); }

  std::shared_ptr<const Plan> plan_;
  Team team_;
  int capacity_ = 0, people_ = 0;
  const float* input_ = nullptr;
  long input_floats_ = 0;            // floats of one person's input
  float* const* states_ = nullptr;   // one for each person
  Block arena_, scratch_;
  std::vector<float> window_states_;  // the states that run() uses
  std::vector<float*> window_state_of_;
};

}  // namespace edgepose
