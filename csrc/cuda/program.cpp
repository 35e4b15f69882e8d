#include "program.h"

#include <cstring>
#include <stdexcept>

#include "../placement.h"
#include "../tensors.h"

namespace edgepose::cuda {

namespace {

bool is_product(Op op) { return op == Op::linear || op == Op::conv || op == Op::graph_conv; }

// The steps of a plan as values: what a step reads is the number of the step that wrote it.
struct Values {
  struct Use {
    int step;
    int edgepose::Step::*slot;
  };
  std::vector<edgepose::Step> steps;
  std::vector<std::vector<Use>> uses;  // the uses of each step's value

  explicit Values(const PlanSpec& spec) : steps(spec.steps), uses(spec.steps.size()) {
    std::vector<int> writer(spec.buffers.size(), -1);
    for (int i = 0; i < (int)steps.size(); i++) {
      for (auto slot : {&edgepose::Step::x, &edgepose::Step::other, &edgepose::Step::residual, &edgepose::Step::gate}) {
        int& value = steps[i].*slot;
        if (value < 0) continue;
        value = writer[value];
        uses[value].push_back({i, slot});
      }
      writer[steps[i].y] = i;
    }
  }

  // Whether step i's value is read, and by nothing but `slot` of steps with this op.
  bool feeds_only(int i, Op op, int edgepose::Step::*slot) const {
    for (const Use& use : uses[i])
      if (use.slot != slot || steps[use.step].op != op) return false;
    return !uses[i].empty();
  }
};

class Maker {
 public:
  Maker(const PlanSpec& spec, bool uses_tensor_cores)
      : spec_(spec),
        uses_tensor_cores_(uses_tensor_cores),
        values_(spec),
        made_(spec.steps.size()),
        is_gone_(spec.steps.size()),
        answer_(count() - 1) {}

  Program make() {
    if (spec_.has_state)
      throw std::invalid_argument("it remembers frames, which the CUDA kernels do not yet: build it for the CPU");
    program_.frames = spec_.frames, program_.joints = spec_.joints;
    program_.inputs = spec_.inputs, program_.outputs = spec_.outputs;
    for (int i = 0; i < count(); i++) made_[i] = plain(i);
    for (int i = 0; i < count(); i++) fuse(i);
    std::vector<int> numbers;  // the steps that stay
    for (int i = 0; i < count(); i++)
      if (!is_gone_[i]) numbers.push_back(i);
    made_[answer_].is_answer = true;
    place(numbers);
    for (int i : numbers) program_.steps.push_back(made_[i]);
    return std::move(program_);
  }

 private:
  int count() const { return (int)spec_.steps.size(); }
  const Shape& buffer(int i) const { return spec_.buffers[spec_.steps[i].y]; }
  static int ld(const Shape& b) { return row_on_gpu(b.columns); }

  template <class T>
  long constant(const std::vector<T>& values) {
    std::vector<unsigned char>& to = program_.constants;
    const std::size_t at = (to.size() + 63) / 64 * 64;
    to.resize(at + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(to.data() + at, values.data(), values.size() * sizeof(T));
    return (long)at;
  }

  // A tensor as floats, its rows padded to ld; -1 for none. times: how often its elements are repeated.
  long floats(int index, int ld, int times = 1) {
    if (index < 0) return -1;
    const Tensor& tensor = spec_.tensors[index];
    const int n = tensor.shape.back();
    const long rows = elements(tensor) / n;
    std::vector<float> values((std::size_t)(rows * ld) * times);
    for (long t = 0; t < times; t++)
      for (long r = 0; r < rows; r++)
        for (int c = 0; c < n; c++) values[(t * rows + r) * ld + c] = element(tensor, r * n + c);
    return constant(values);
  }

  // Step i without fusion; x, other, residual and gate are still numbers of steps.
  Step plain(int i) {
    const edgepose::Step& from = values_.steps[i];
    Step step;
    step.op = from.op;
    step.x = from.x, step.other = from.other, step.residual = from.residual, step.gate = from.gate;
    step.rows = buffer(i).rows, step.columns = buffer(i).columns;
    if (step.x >= 0) step.x_rows = buffer(from.x).rows, step.ldx = ld(buffer(from.x)), step.k = buffer(from.x).columns;
    if (step.other >= 0) step.ldo = ld(buffer(from.other));
    if (step.residual >= 0) step.residual_rows = buffer(from.residual).rows, step.ldr = ld(buffer(from.residual));
    if (step.gate >= 0) step.ldg = ld(buffer(from.gate));
    step.activation = from.activation, step.heads = from.heads, step.span = from.span, step.is_causal = from.is_causal;
    step.first = from.first, step.stride = from.stride, step.epsilon = from.epsilon;
    if (from.op == Op::attention && step.columns / step.heads > kHeadWidth)
      throw std::invalid_argument("step " + std::to_string(i) + ": heads of "
                                  + std::to_string(step.columns / step.heads) + " channels; the CUDA kernels take "
                                  + std::to_string(kHeadWidth) + " at most");
    if (from.op == Op::attention) {
      const int local = (step.rows + kWarps - 1) / kWarps;
      // The sequences of an odd head.
      const int sequences = step.span && step.heads > 1 ? (step.span < step.rows ? step.span : step.rows) : 1;
      const int strided = sequences * (((step.rows + sequences - 1) / sequences + kWarps - 1) / kWarps);
      step.parts = local > strided ? local : strided;
    }
    if (from.op == Op::add) step.ldp = row_on_gpu(step.columns), step.position = floats(from.bias, step.ldp);
    if (from.x_bits)
      throw std::invalid_argument("step " + std::to_string(i)
                                  + ": a scale for each row of x is for CPUs, the CUDA kernels take one for all: "
                                  "edgepose compile --model NAME --precision int8 --backend cuda");
    if (is_product(from.op)) weights(from, step);
    return step;
  }

  void weights(const edgepose::Step& from, Step& step) {
    const Tensor& weight = spec_.tensors[from.weight];
    const bool is_conv = from.op == Op::conv, is_graph = from.op == Op::graph_conv;
    step.taps = is_conv ? weight.shape[0] : 1;
    step.groups = is_graph ? weight.shape[0] : 1;
    step.k *= step.taps;
    step.stored = weight.type;
    step.multiplied = from.x_scale >= 0 ? Multiplied::i8
                      : weight.type != Type::f32 && uses_tensor_cores_ ? Multiplied::f16 : Multiplied::f32;
    step.ldb = round_up(step.columns, kPanelColumns);
    step.bias = floats(from.bias, step.ldb);
    step.scale = floats(from.scale, step.ldb);
    step.x_scale = floats(from.x_scale, step.k / step.taps, step.taps);
    std::vector<unsigned char> packed;
    for (int first = 0; first < step.columns; first += kPanelColumns)
      for (int group = 0; group < step.groups; group++) pack_panel(weight, step, group, first, packed);
    step.panel = (long)packed.size() * kPanelColumns / step.ldb;
    step.weight = constant(packed);
    if (!is_graph) return;
    std::vector<int> rows{0}, start, index;
    std::vector<float> coefficient;
    for (int part : from.group_rows) rows.push_back(rows.back() + part);
    step.group_rows = constant(rows);
    compress(spec_.tensors[from.gather], start, index, coefficient);
    step.gather_start = constant(start), step.gather_index = constant(index),
    step.gather_coefficient = constant(coefficient);
    compress(spec_.tensors[from.scatter], start, index, coefficient);
    step.scatter_start = constant(start), step.scatter_index = constant(index),
    step.scatter_coefficient = constant(coefficient);
  }

  // Appends one panel of one group to `to`, zero past k and n. Fragments: for each 16 (int8: 32) of k, the part of
  // each lane in the A matrix of mma.m16n8k16 (m16n8k32), which is the weights transposed.
  void pack_panel(const Tensor& weight, const Step& step, int group, int first, std::vector<unsigned char>& to) const {
    const int n = weight.shape.back();
    const auto put = [&](int i, int column) {
      const bool is_there = i < step.k && first + column < n;
      const long from = is_there ? ((long)group * step.k + i) * n + first + column : 0;
      const int size = bytes_of(step.stored);
      to.resize(to.size() + size);
      if (is_there)
        std::memcpy(&to[to.size() - size], static_cast<const unsigned char*>(weight.data) + from * size, size);
    };
    const bool is_i8 = step.multiplied == Multiplied::i8;
    if (!uses_tensor_cores_ || step.multiplied == Multiplied::f32) {
      const int together = is_i8 ? 4 : 1;  // elements of k side by side
      for (int i = 0; i < step.k; i += together)
        for (int column = 0; column < kPanelColumns; column++)
          for (int j = 0; j < together; j++) put(i + j, column);
      return;
    }
    const int pack = is_i8 ? 4 : 2, span = 8 * pack;  // numbers per register; elements of k per fragment
    for (int i = 0; i < step.k; i += span)
      for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 4 * pack; e++)
          put(i + lane % 4 * pack + e % pack + e / (2 * pack) * (span / 2), lane / 4 + e / pack % 2 * 8);
  }

  void fuse(int i) {
    const Op op = made_[i].op;
    const int x = values_.steps[i].x;
    if (op == Op::tokens || op == Op::frames) {
      if (!values_.feeds_only(i, Op::linear, &edgepose::Step::x)) return;
      for (const Values::Use& use : values_.uses[i])
        made_[use.step].source = op == Op::tokens ? Source::tokens : Source::frames;
      is_gone_[i] = true;
    } else if (op == Op::normalize) {
      if (!values_.feeds_only(i, Op::linear, &edgepose::Step::x)) return;
      for (const Values::Use& use : values_.uses[i]) {
        Step& linear = made_[use.step];
        linear.normalizes = true, linear.epsilon = made_[i].epsilon, linear.x = made_[i].x;
      }
      is_gone_[i] = true;
    } else if (op == Op::pick) {
      if (!values_.feeds_only(i, Op::conv, &edgepose::Step::residual)) return;
      for (const Values::Use& use : values_.uses[i]) {
        Step& conv = made_[use.step];
        conv.residual = made_[i].x, conv.ldr = made_[i].ldx, conv.residual_rows = made_[i].x_rows;
        conv.residual_first = made_[i].first, conv.residual_stride = made_[i].stride;
      }
      is_gone_[i] = true;
    } else if (op == Op::add) {
      Step& product = made_[x];
      if (values_.uses[x].size() != 1 || !is_product(product.op) || product.position >= 0) return;
      product.position = made_[i].position, product.ldp = made_[i].ldp;
      become(i, x);
    } else if (op == Op::reshape && i == count() - 1) {
      if (values_.uses[x].size() != 1 || x != last_that_stays(i)) return;
      is_gone_[i] = true, answer_ = x;
    }
  }

  // The earlier `step` does step i's work too: readers of i's value now read that step's.
  void become(int i, int step) {
    is_gone_[i] = true;
    if (answer_ == i) answer_ = step;
    values_.uses[step] = values_.uses[i];
    for (const Values::Use& use : values_.uses[i]) {
      values_.steps[use.step].*use.slot = step;
      Step& reader = made_[use.step];
      (use.slot == &edgepose::Step::x          ? reader.x
       : use.slot == &edgepose::Step::other    ? reader.other
       : use.slot == &edgepose::Step::residual ? reader.residual
                                               : reader.gate) = step;
    }
  }

  int last_that_stays(int before) const {
    while (is_gone_[--before]) continue;
    return before;
  }

  // Places the values of the steps that stay in the arena, then replaces the steps' numbers by offsets.
  void place(const std::vector<int>& numbers) {
    std::vector<Life> lives;
    std::vector<int> life_of(count(), -1);  // -1: no step that stays, e.g. a product reads the input itself
    const auto reads = [&](int i) {
      Step& step = made_[i];
      return std::vector<long*>{&step.x, &step.other, &step.residual, &step.gate};
    };
    for (int i : numbers) {
      Step& step = made_[i];
      step.ldy = step.is_answer ? step.columns : row_on_gpu(step.columns);
      for (long* value : reads(i))
        if (*value >= 0 && life_of[*value] >= 0) lives[life_of[*value]].dies = i;
      if (step.is_answer) continue;
      life_of[i] = (int)lives.size();
      lives.push_back({i, -1, (long)step.rows * step.ldy});
    }
    std::vector<long> offsets;
    program_.arena = first_fit(lives, offsets);
    for (int i : numbers) {
      made_[i].y = made_[i].is_answer ? -1 : offsets[life_of[i]];
      for (long* value : reads(i))
        if (*value >= 0) *value = life_of[*value] < 0 ? -1 : offsets[life_of[*value]];
    }
    if (program_.arena == 0) program_.arena = 1;  // an arena is never empty
  }

  const PlanSpec& spec_;
  const bool uses_tensor_cores_;
  Values values_;
  std::vector<Step> made_;
  std::vector<bool> is_gone_;
  int answer_;
  Program program_;
};

}  // namespace

long Program::most_items(int people) const {
  long most = 1;
  for (const Step& step : steps) {
    const long panels = step.ldb / kPanelColumns, all = (long)people * step.rows;
    const long items = step.op == Op::linear || step.op == Op::conv ? (all + kTileRows - 1) / kTileRows * panels
                       : step.op == Op::graph_conv                  ? people * panels
                       : step.op == Op::attention                   ? (long)people * step.heads * step.parts
                       : step.op == Op::normalize                   ? (all + kWarps - 1) / kWarps
                                                                    : (all * step.columns + kThreads - 1) / kThreads;
    most = items > most ? items : most;
  }
  return most;
}

Program make_program(const PlanSpec& spec, bool uses_tensor_cores) {
  check_plan(spec);
  return Maker(spec, uses_tensor_cores).make();
}

}  // namespace edgepose::cuda
