#include "plan.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace edgepose {

namespace {

constexpr long kMaxFloats = 1L << 31;   // of all people at once: 8 GiB, and 2^27 rows, since a row takes 16 floats or more
constexpr std::size_t kHugePage = std::size_t(2) << 20;
// From here on a block gets huge pages of its own: few address translations to look up. At 30 Hz they have gone cold from
// one frame to the next, on a virtual machine at twice the price: ampose 0.50 ms without, 0.40 ms with (0.30 back to back).
constexpr std::size_t kSmall = std::size_t(16) << 10;

Block aligned_block(std::size_t bytes) {
  const std::size_t align = bytes >= kSmall ? kHugePage : 64;
  const std::size_t whole = (bytes + align - 1) / align * align;
  void* p = std::aligned_alloc(align, whole);
  if (!p) throw std::bad_alloc();
#if defined(__linux__)
  if (align == kHugePage) madvise(p, whole, MADV_HUGEPAGE);
#endif
  return Block(p);
}

float widen(std::uint16_t h) {
  const std::uint32_t sign = (std::uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 0) return (sign ? -1.f : 1.f) * (float)fraction * 5.9604644775390625e-8f;  // 2^-24: subnormals
  const std::uint32_t bits = sign | (exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float element(const Tensor& tensor, long i) {
  return tensor.is_half ? widen(static_cast<const std::uint16_t*>(tensor.data)[i])
                        : static_cast<const float*>(tensor.data)[i];
}

}  // namespace

struct Plan::Run {
  Op op;
  int x, y, residual;
  bool is_half = false;
  const void* weight = nullptr;
  const float* bias = nullptr;
  int ldb = 0;
  Activation activation;
  int heads;
  float epsilon;
  std::vector<int> rows, gather_start, gather_index, scatter_start, scatter_index;
  std::vector<float> gather_coefficient, scatter_coefficient;

  Graph graph() const {
    return {(int)scatter_start.size() - 1, (int)rows.size() - 1, rows.data(),
            {gather_start.data(), gather_index.data(), gather_coefficient.data()},
            {scatter_start.data(), scatter_index.data(), scatter_coefficient.data()}};
  }
};

namespace {

// The non-zero entries of a matrix, row by row.
void compress(const Tensor& matrix, std::vector<int>& start, std::vector<int>& index, std::vector<float>& coefficient) {
  start = {0};
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

// weight[groups][k][n] -> [ceil(n / 16)][groups][k][16], zero past n.
template <class T>
void pack(const Tensor& weight, T* to) {
  const bool grouped = weight.shape.size() == 3;
  const int groups = grouped ? weight.shape[0] : 1, k = weight.shape[grouped], n = weight.shape[grouped + 1];
  for (int first = 0; first < n; first += kPanelColumns)
    for (int g = 0; g < groups; g++)
      for (int i = 0; i < k; i++)
        for (int c = first; c < first + kPanelColumns; c++, to++) {
          const long at = ((long)g * k + i) * n + c;
          if (c >= n) *to = 0;
          else if constexpr (sizeof(T) == 2) *to = static_cast<const std::uint16_t*>(weight.data)[at];
          else *to = element(weight, at);
        }
}

void pack_bias(const Tensor& bias, int ldb, float* to) {
  const int n = bias.shape.back();
  const long rows = elements(bias) / n;
  for (long r = 0; r < rows; r++)
    for (int c = 0; c < ldb; c++) *to++ = c < n ? element(bias, r * n + c) : 0.f;
}

}  // namespace

Plan::Plan(const PlanSpec& spec, const Kernels& kernels) : kernels_(kernels) {
  check_plan(spec);
  frames_ = spec.frames;
  joints_ = spec.joints;
  arena_ = spec.arena;
  scratch_ = 0;
  buffers_ = spec.buffers;
  const auto aligned = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  // Twice over the steps: once for the size of the one block that holds all weights in the order of their use, once to
  // fill it.
  for (bool fill : {false, true}) {
    std::size_t used = 0;
    for (const Step& step : spec.steps) {
      Run run;
      run.op = step.op, run.x = step.x, run.y = step.y, run.residual = step.residual;
      run.activation = step.activation, run.heads = step.heads, run.epsilon = step.epsilon;
      if (step.weight >= 0 && (step.op == Op::linear || step.op == Op::graph_conv)) {
        const Tensor& weight = spec.tensors[step.weight];
        const int n = weight.shape.back();
        run.is_half = weight.is_half && kernels_.has_f16;
        void* to = static_cast<unsigned char*>(packed_.get()) + used;
        used += aligned((std::size_t)(elements(weight) / n) * round_up(n, kPanelColumns) * (run.is_half ? 2 : 4));
        if (fill && run.is_half) pack(weight, static_cast<std::uint16_t*>(to));
        if (fill && !run.is_half) pack(weight, static_cast<float*>(to));
        run.weight = to;
      }
      if (step.bias >= 0 && step.op != Op::tokens && step.op != Op::normalize && step.op != Op::attention) {
        const Tensor& bias = spec.tensors[step.bias];
        run.ldb = round_up(bias.shape.back(), kPanelColumns);
        float* to = reinterpret_cast<float*>(static_cast<unsigned char*>(packed_.get()) + used);
        used += aligned((std::size_t)(elements(bias) / bias.shape.back()) * run.ldb * 4);
        if (fill) pack_bias(bias, run.ldb, to);
        run.bias = to;
      }
      if (!fill) {
        long scratch = 0;
        if (step.op == Op::attention)
          scratch = attention_scratch(buffers_[step.y].rows, buffers_[step.y].columns / step.heads);
        if (step.op == Op::graph_conv)
          scratch = (long)kGraphPeople * spec.tensors[step.gather].shape[0] * buffers_[step.x].ld;
        scratch_ = scratch > scratch_ ? scratch : scratch_;
        continue;
      }
      if (step.op == Op::graph_conv) {
        run.rows = {0};
        for (int rows : step.group_rows) run.rows.push_back(run.rows.back() + rows);
        compress(spec.tensors[step.gather], run.gather_start, run.gather_index, run.gather_coefficient);
        compress(spec.tensors[step.scatter], run.scatter_start, run.scatter_index, run.scatter_coefficient);
      }
      runs_.push_back(std::move(run));
    }
    if (!fill) packed_ = aligned_block(used + 64);
    packed_bytes_ = used;
  }
  scratch_ = (scratch_ + 31) / 16 * 16;
}

Plan::~Plan() = default;

Context::Context(std::shared_ptr<const Plan> plan, int threads)
    : plan_(std::move(plan)), team_((threads < 1 || threads > 256)
                                        ? throw std::invalid_argument("threads must be 1 to 256, not " + std::to_string(threads))
                                        : threads) {
  scratch_ = aligned_block((std::size_t)plan_->scratch_ * 4 * threads);
  reserve(1);
}

void Context::reserve(int people) {
  if (people <= capacity_) return;
  if (plan_->arena_ * people > kMaxFloats)
    throw std::invalid_argument(std::to_string(people) + " people at once take more than 8 GiB; run fewer at a time: "
                                + std::to_string(kMaxFloats / plan_->arena_) + " fit");
  const std::size_t bytes = (std::size_t)plan_->arena_ * people * 4 + 64;
  Block arena = aligned_block(bytes);
  std::memset(arena.get(), 0, bytes);
  arena_ = std::move(arena);
  capacity_ = people;
}

void Context::run(const float* keypoints_norm, float* pose_m, int people) {
  if (people <= 0) return;
  reserve(people);
  input_ = keypoints_norm;
  people_ = people;
  team_.run(work, this);
  const Buffer& answer = plan_->buffers_[plan_->runs_.back().y];
  const float* from = arena() + answer.offset * people;
  for (long row = 0; row < (long)people * answer.rows; row++, from += answer.ld, pose_m += 3)
    std::memcpy(pose_m, from, 3 * sizeof(float));
}

void Context::work(void* context, int member) {
  Context& self = *static_cast<Context*>(context);
  const std::vector<Plan::Run>& runs = self.plan_->runs_;
  for (std::size_t i = 0; i < runs.size(); i++) {
    if (i) self.team_.barrier();
    self.run_step(runs[i], member);
  }
}

void Context::run_step(const Plan::Run& run, int member) {
  const Kernels& kernels = plan_->kernels_;
  const int members = team_.size();
  const Buffer& Y = plan_->buffers_[run.y];
  float* y = arena() + Y.offset * people_;
  float* scratch = static_cast<float*>(scratch_.get()) + plan_->scratch_ * member;
  if (run.op == Op::tokens) {
    const Share share(people_ * Y.rows, member, members);
    const int T = plan_->frames_, J = plan_->joints_;
    for (int row = share.first; row < share.last; row++) {
      const float* from = input_ + ((long)(row / J) * T * J + row % J) * 2;
      for (int t = 0; t < T; t++) std::memcpy(y + (long)row * Y.ld + 2 * t, from + (long)t * J * 2, 2 * sizeof(float));
    }
    return;
  }
  const Buffer& X = plan_->buffers_[run.x];
  const float* x = arena() + X.offset * people_;
  const float* residual = run.residual < 0 ? nullptr : arena() + plan_->buffers_[run.residual].offset * people_;
  switch (run.op) {
    case Op::tokens: break;
    case Op::add: {
      const Share share(people_, member, members);
      for (int p = share.first; p < share.last; p++)
        kernels.add(x + (long)p * X.rows * X.ld, run.bias, y + (long)p * Y.rows * Y.ld, X.ld, run.ldb, Y.ld, Y.rows, Y.columns);
      break;
    }
    case Op::normalize: {
      const Share share(people_ * Y.rows, member, members);
      kernels.normalize(x + (long)share.first * X.ld, y + (long)share.first * Y.ld, X.ld, Y.ld, share.count(), Y.columns,
                        run.epsilon);
      break;
    }
    case Op::attention: {
      const Share share(people_ * run.heads, member, members);
      const int d = Y.columns / run.heads;
      for (int i = share.first; i < share.last; i++) {
        const long row = (long)(i / run.heads) * Y.rows;
        const int c = i % run.heads * d;
        const float* q = x + row * X.ld + c;
        kernels.attention(q, q + Y.columns, q + 2 * Y.columns, y + row * Y.ld + c, scratch, X.ld, Y.ld, Y.rows, d);
      }
      break;
    }
    case Op::linear:
    case Op::graph_conv: {
      // Many people: each thread takes some of them. Few: all threads take all rows, and some columns each, so that the
      // weights are read once.
      const bool by_people = people_ >= 2 * members;
      const Share people(people_, by_people ? member : 0, by_people ? members : 1);
      const Share panels(round_up(Y.columns, kPanelColumns) / kPanelColumns, by_people ? 0 : member, by_people ? 1 : members);
      const int first = panels.first * kPanelColumns, end = panels.last * kPanelColumns;
      const int n = (end < Y.columns ? end : Y.columns) - first;
      if (n <= 0 || people.count() == 0) break;
      const int groups = run.op == Op::linear ? 1 : (int)run.rows.size() - 1;
      const long weights = (long)first * X.columns * groups, row = (long)people.first * Y.rows;
      const float* w = static_cast<const float*>(run.weight) + weights;
      const std::uint16_t* w16 = static_cast<const std::uint16_t*>(run.weight) + weights;
      const float* bias = run.bias + first;
      const float* from = x + row * X.ld;
      float* to = y + row * Y.ld + first;
      if (residual) residual += row * Y.ld + first;
      const int m = people.count() * Y.rows, k = X.columns;
      if (run.op == Op::linear && run.is_half)
        kernels.linear_f16(from, w16, bias, residual, to, X.ld, Y.ld, m, k, n, run.activation);
      else if (run.op == Op::linear)
        kernels.linear(from, w, bias, residual, to, X.ld, Y.ld, m, k, n, run.activation);
      else if (run.is_half)
        kernels.graph_conv_f16(from, w16, bias, residual, to, scratch, run.graph(), X.ld, Y.ld, run.ldb, people.count(), k, n,
                               run.activation);
      else
        kernels.graph_conv(from, w, bias, residual, to, scratch, run.graph(), X.ld, Y.ld, run.ldb, people.count(), k, n,
                           run.activation);
      break;
    }
  }
}

}  // namespace edgepose
