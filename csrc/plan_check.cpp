// Checks every index, shape and size of a plan before any of it is used. An engine file is not trusted.
#include <stdexcept>

#include "memory.h"
#include "placement.h"

namespace edgepose {

namespace {

constexpr int kMaxRows = 1 << 12, kMaxColumns = 1 << 16;  // far above every model; keeps all products below 2^31
constexpr int kMaxInputs = 1 << 6;  // columns of the input and of the answer
constexpr int kMaxTaps = 64;
constexpr long kMaxState = 1L << 24;  // floats a person: 64 MiB
constexpr std::size_t kMaxSteps = 1 << 10;
constexpr long kMaxScratch = 1L << 24;                     // floats a thread
constexpr long kMaxWeights = 1L << 27;  // floats of all steps: 512 MiB. A tensor counts as often as steps pack it

class Checker {
 public:
  explicit Checker(const PlanSpec& spec) : spec_(spec) {}

  void check() {
    need(spec_.frames >= 1 && spec_.frames <= kMaxRows, "frames are out of range");
    need(spec_.joints >= 1 && spec_.joints <= kMaxRows, "joints are out of range");
    need(spec_.inputs >= 1 && spec_.inputs <= kMaxInputs, "inputs are out of range");
    need(spec_.outputs >= 1 && spec_.outputs <= kMaxInputs, "outputs are out of range");
    for (const Tensor& tensor : spec_.tensors) {
      long count = 1;
      for (int extent : tensor.shape) {
        need(extent >= 1 && extent <= kMaxColumns, "a tensor's shape is out of range");
        count *= extent;
        need(count < (1L << 31), "a tensor is too large");
      }
    }
    for (const Shape& b : spec_.buffers)
      need(b.rows >= 1 && b.rows <= kMaxRows && b.columns >= 1 && b.columns <= kMaxColumns,
           "a buffer's shape is out of range");
    need(!spec_.steps.empty(), "it has no steps");
    need(spec_.steps.size() <= kMaxSteps, "it has more than 1024 steps");
    is_written_.assign(spec_.buffers.size(), false);
    for (at_ = 0; at_ < (int)spec_.steps.size(); at_++) {
      check(spec_.steps[at_]);
      is_written_[spec_.steps[at_].y] = true;
    }
    at_ = -1;
    need((state_ > 0) == spec_.has_state, "has_state is not as its steps are");
    const Shape& answer = buffer(spec_.steps.back().y, "y");
    need(answer.rows == spec_.joints && answer.columns == spec_.outputs,
         "the last step does not give (joints, outputs)");
  }

 private:
  void need(bool holds, const char* otherwise) const {
    if (holds) return;
    throw std::invalid_argument(
        "the engine's plan is not valid: " + (at_ < 0 ? "" : "step " + std::to_string(at_) + ": ") + otherwise);
  }

  const Shape& buffer(int i, const char* name) const {
    need(i >= 0 && i < (int)spec_.buffers.size(), (std::string(name) + " is not one of its buffers").c_str());
    return spec_.buffers[i];
  }

  // A buffer that an earlier step wrote.
  const Shape& written(int i, const char* name) const {
    const Shape& found = buffer(i, name);
    need(is_written_[i], (std::string(name) + " is read before anything is written to it").c_str());
    return found;
  }

  const Tensor& tensor(int i, const char* name, std::vector<int> shape) {
    need(i >= 0 && i < (int)spec_.tensors.size(), (std::string(name) + " is not one of its tensors").c_str());
    const Tensor& tensor = spec_.tensors[i];
    need(tensor.shape == shape, (std::string(name) + " has another shape than the buffers").c_str());
    weights_ += elements(tensor) / shape.back() * round_up(shape.back(), kPanelColumns);
    need(weights_ <= kMaxWeights, "the weights up to here are too large");
    return tensor;
  }

  void floats(int i, const char* name, std::vector<int> shape) {
    need(tensor(i, name, shape).type == Type::f32, (std::string(name) + " is not float32").c_str());
  }

  // Checks the weight of a product, and the scales of an int8 weight.
  void product(const Step& step, std::vector<int> shape, std::vector<int> scales) {
    const bool is_eight_bits = tensor(step.weight, "weight", shape).type == Type::i8;
    need(is_eight_bits == (step.scale != -1), "scale goes with a weight of int8");
    need(is_eight_bits || (step.x_scale == -1 && step.x_bits == 0), "x_scale and x_bits go with a weight of int8");
    need(step.x_bits == 0 || step.x_bits == 8 || step.x_bits == 16, "x_bits is neither 8 nor 16");
    need(step.x_bits == 0 || step.x_scale == -1, "x_scale and x_bits exclude each other");
    if (is_eight_bits) floats(step.scale, "scale", scales);
    if (step.x_scale != -1) floats(step.x_scale, "x_scale", {shape.end()[-2]});
  }

  // For a kernel that cannot write over its input.
  void apart(int x, int y) const { need(x != y, "it writes what it reads"); }

  static bool takes_residual(Op op) {
    return op == Op::linear || op == Op::conv || op == Op::graph_conv;
  }
  void check_stride(const Step& step) const {
    need(step.stride >= 1 && step.stride <= kMaxRows, "stride is out of range");
  }

  void check(const Step& step) {
    const Shape& y = buffer(step.y, "y");
    const bool reads_input = step.op == Op::tokens || step.op == Op::frames;
    need(step.gate == -1 || step.op == Op::attention, "this op takes no gate");
    need(!remembers(step.op) || spec_.has_state, "this op remembers frames, and the plan has no state");
    need(step.op != Op::tokens || !spec_.has_state, "a plan with a state takes a frame at a time, not tokens");
    need(!reads_input || (step.x == -1 && step.other == -1 && step.residual == -1), "this op reads the input alone");
    if (step.op == Op::tokens) {
      need(y.rows == spec_.joints && y.columns == spec_.inputs * spec_.frames,
           "tokens gives (joints, inputs * frames)");
      return;
    }
    if (step.op == Op::frames) {
      need(y.rows == (spec_.has_state ? 1 : spec_.frames) && y.columns == spec_.inputs * spec_.joints,
           "frames gives (frames, inputs * joints), or one of them in a plan with a state");
      return;
    }
    const Shape& x = written(step.x, "x");
    const bool same_shape = x.rows == y.rows && x.columns == y.columns;
    const bool reads_other = step.op == Op::concat || step.op == Op::multiply || step.op == Op::taps
                             || step.op == Op::ring_attention;
    need(reads_other || step.other == -1, "this op reads no other");
    const Shape other = reads_other ? written(step.other, "other") : Shape{};
    if (step.residual != -1) {
      const Shape& r = written(step.residual, "residual");
      need(r.rows == y.rows && r.columns == y.columns, "residual is not like y");
      need(takes_residual(step.op), "this op takes no residual");
    }
    switch (step.op) {
      case Op::tokens: case Op::frames: break;
      case Op::concat:
        need(x.rows == y.rows && other.rows == y.rows && x.columns + other.columns == y.columns, "y is not x | other");
        break;
      case Op::reshape:
        need((long)x.rows * x.columns == (long)y.rows * y.columns, "x and y differ in size");
        apart(step.x, step.y);
        break;
      case Op::pick:
        need(x.columns == y.columns, "x and y differ in columns");
        check_stride(step);
        need(step.first >= 0 && step.first + (long)(y.rows - 1) * step.stride < x.rows,
             "it picks rows that x does not have");
        apart(step.x, step.y);
        break;
      case Op::multiply:
        need(same_shape && other.rows == y.rows && other.columns == y.columns, "x, other and y differ in shape");
        break;
      case Op::add:
        need(same_shape, "x and y differ in shape");
        floats(step.bias, "bias", {x.rows, x.columns});
        break;
      case Op::normalize:
        need(same_shape, "x and y differ in shape");
        need(step.epsilon >= 0, "epsilon is negative");
        break;
      case Op::clock: case Op::hats: case Op::taps: case Op::ring_attention:
        apart(step.x, step.y);
        need(x.rows == 1 && y.rows == 1, "x or y is not one row");
        check_memory(step, x, y);
        break;
      case Op::linear:
        need(x.rows == y.rows, "x and y differ in rows");
        apart(step.x, step.y);
        product(step, {x.columns, y.columns}, {y.columns});
        floats(step.bias, "bias", {y.columns});
        break;
      case Op::conv: {
        need(step.weight >= 0 && step.weight < (int)spec_.tensors.size(), "weight is not one of its tensors");
        const std::vector<int>& shape = spec_.tensors[step.weight].shape;
        need(shape.size() == 3 && shape[0] <= kMaxTaps, "weight is not (taps, k, n)");
        product(step, {shape[0], x.columns, y.columns}, {y.columns});
        floats(step.bias, "bias", {y.columns});
        need(step.activation == Activation::none, "a convolution has no activation");
        check_stride(step);
        need(step.first > -kMaxRows && step.first < kMaxRows, "first is out of range");
        bool is_whole = false;
        for (int tap = 0; tap < shape[0]; tap++)
          is_whole |= step.first + tap >= 0 && step.first + tap + (long)(y.rows - 1) * step.stride < x.rows;
        need(is_whole, "no tap has all its rows");
        apart(step.x, step.y);
        break;
      }
      case Op::attention:
        need(step.span >= 0 && step.span <= kMaxRows, "span is out of range");
        if (step.gate != -1) {
          const Shape& gate = written(step.gate, "gate");
          need(gate.rows == 1 && gate.columns == 2 * (long)step.heads, "gate is not (1, 2 heads)");
          apart(step.gate, step.y);
        }
        need(x.rows == y.rows && x.columns == 3 * y.columns, "x is not q | k | v of y");
        need(step.heads >= 1 && y.columns % step.heads == 0, "heads do not divide the channels");
        need(attention_scratch(x.rows, y.columns / step.heads) <= kMaxScratch, "it takes too much memory");
        break;
      case Op::graph_conv: {
        need(x.rows == y.rows, "x and y differ in rows");
        apart(step.x, step.y);
        int all = 0;
        for (int rows : step.group_rows) {
          need(rows >= 1 && rows <= kGraphRows, "a group's rows are out of range");
          all += rows;
          need(all <= kGraphRows, "too many gathered rows");
        }
        need(graph_scratch(all, row_on_cpu(x.columns), x.columns) <= kMaxScratch, "it takes too much memory");
        const int groups = (int)step.group_rows.size();
        product(step, {groups, x.columns, y.columns}, {groups, y.columns});
        floats(step.bias, "bias", {y.rows, y.columns});
        floats(step.gather, "gather", {all, x.rows});
        floats(step.scatter, "scatter", {x.rows, all});
        break;
      }
    }
  }

  static bool remembers(Op op) {
    return op == Op::clock || op == Op::hats || op == Op::taps || op == Op::ring_attention;
  }

  // other: the places of at least so many frames.
  void places(const Step& step, int frames) const {
    const Shape& place = buffer(step.other, "other");
    need(place.rows == 1 && place.columns >= frames, "other has fewer places than frames are looked at");
    apart(step.other, step.y);
  }

  void check_memory(const Step& step, const Shape& x, const Shape& y) {
    if (step.op == Op::clock) {
      need(step.first >= 0 && step.first < x.columns, "first is not a column of x");
      need(y.columns >= 2, "it remembers no frame");
    } else if (step.op == Op::hats) {
      need(step.first >= 0 && step.first < x.columns, "first is not a column of x");
      need(y.columns >= 2, "y is not two values");
    } else if (step.op == Op::taps) {
      need(step.count >= 2 && step.count <= kMaxTaps && y.columns == (long)step.count * x.columns,
           "y is not count times x");
      places(step, step.count);
    } else {
      need(x.columns == 3 * y.columns, "x is not q | k | v of y");
      need(step.heads >= 2 && step.heads % 2 == 0 && y.columns % step.heads == 0,
           "heads are odd, or do not divide the channels");
      need(step.span >= 1 && step.span <= kMaxRows && step.count >= 2 && step.count <= kMaxRows
           && (long)step.span * (step.count - 1) < kMaxRows, "span or count is out of range");
      places(step, ring_rows(step.span, step.count));
      need(step.bias >= 0 && step.bias < (int)spec_.tensors.size(), "bias is not one of its tensors");
      const std::vector<int>& age = spec_.tensors[step.bias].shape;
      need(age.size() == 2 && age[1] >= 2, "bias is not (heads, ages)");
      floats(step.bias, "bias", {step.heads, age[1]});
    }
    state_ += memory_floats(step, y);
    need(state_ <= kMaxState, "its state takes more than 64 MiB a person");
  }

  const PlanSpec& spec_;
  long state_ = 0;
  int at_ = -1;
  std::vector<bool> is_written_;
  long weights_ = 0;
};

}  // namespace

void check_plan(const PlanSpec& spec) { Checker(spec).check(); }

}  // namespace edgepose
