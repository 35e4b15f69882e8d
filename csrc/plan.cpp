#include "plan.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "memory.h"
#include "pack.h"
#include "placement.h"
#include "plan_run.h"
#include "tensors.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace edgepose {

namespace {

// Limit for all people together: 8 GiB, and 2^27 rows, since a row takes 16 floats or more.
constexpr long kMaxFloats = 1L << 31;
constexpr std::size_t kHugePage = std::size_t(2) << 20;
// Blocks from this size on get huge pages of their own: fewer TLB misses. At 30 Hz the TLB has gone cold by the next
// frame, and on a virtual machine a miss costs twice as much: ampose 0.50 ms without, 0.40 ms with (0.30 back to back).
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

bool is_product(Op op) { return op == Op::linear || op == Op::conv || op == Op::graph_conv; }

// Pads each row with zeros to ldb.
void pack_rows(const Tensor& bias, int ldb, float* to) {
  const int n = bias.shape.back();
  const long rows = elements(bias) / n;
  for (long r = 0; r < rows; r++)
    for (int c = 0; c < ldb; c++) *to++ = c < n ? element(bias, r * n + c) : 0.f;
}

// Copies the elements of a person's matrix into rows of another length.
void copy_elements(const float* x, const Buffer& X, float* y, const Buffer& Y) {
  const long all = (long)X.rows * X.columns;
  for (long at = 0; at < all;) {
    const long left_x = X.columns - at % X.columns, left_y = Y.columns - at % Y.columns,
               run = left_x < left_y ? left_x : left_y;
    std::memcpy(y + at / Y.columns * Y.ld + at % Y.columns, x + at / X.columns * X.ld + at % X.columns,
                run * sizeof(float));
    at += run;
  }
}

}  // namespace

Plan::Plan(const PlanSpec& spec, const Kernels& kernels) : kernels_(kernels) {
  check_plan(spec);
  frames_ = spec.frames;
  joints_ = spec.joints;
  inputs_ = spec.inputs;
  outputs_ = spec.outputs;
  scratch_ = 0;
  Placed placed = place_on_cpu(spec);
  buffers_ = std::move(placed.buffers);
  arena_ = placed.arena;
  // Two passes over the steps: the first finds the size of the one block that holds all weights in order of use, the
  // second fills it.
  for (bool fill : {false, true}) {
    std::size_t used = 0;
    state_ = 0;
    const auto room = [&](std::size_t bytes) {
      unsigned char* to = fill ? static_cast<unsigned char*>(packed_.get()) + used : nullptr;
      used += (bytes + 63) / 64 * 64;
      return to;
    };
    // A tensor's rows, each padded to ld floats, then `zeros` rows of zeros; null for no tensor.
    const auto floats = [&](int index, int ld, int zeros = 0) -> const float* {
      if (index < 0) return nullptr;
      const Tensor& tensor = spec.tensors[index];
      const long rows = elements(tensor) / tensor.shape.back();
      float* to = reinterpret_cast<float*>(room((rows + zeros) * ld * sizeof(float)));
      if (fill) pack_rows(tensor, ld, to);
      if (fill) std::memset(to + rows * ld, 0, zeros * ld * sizeof(float));
      return to;
    };
    for (const Step& step : spec.steps) {
      Run run;
      run.op = step.op, run.x = step.x, run.other = step.other, run.y = step.y;
      run.residual = step.residual, run.gate = step.gate;
      run.activation = step.activation, run.heads = step.heads, run.epsilon = step.epsilon;
      run.span = step.span, run.is_causal = step.is_causal, run.first = step.first, run.stride = step.stride;
      run.count = step.count, run.state = state_;
      if (is_product(step.op)) {
        if (step.x_scale >= 0)
          throw std::invalid_argument(
              "its int8 has one scale for all rows of x: it is for a GPU, or by an older edgepose. Build it again: "
              "edgepose compile --model NAME --precision int8 --backend native");
        const Tensor& weight = spec.tensors[step.weight];
        const Packing packing = packing_of(weight, step.x_bits, kernels_);
        if (step.op == Op::conv) run.taps = packing.groups;
        run.product = packing.product;
        run.panel = packing.part * (step.op == Op::conv ? 1 : packing.groups);
        unsigned char* to = room(packing.bytes());
        if (fill) pack(weight, packing, step.op == Op::conv, to);
        run.weights = {to, packing.part, floats(step.scale, packing.panels * kPanelColumns)};
      }
      if (is_product(step.op) || step.op == Op::add) {
        run.ldb = round_up(spec.tensors[step.bias].shape.back(), kPanelColumns);
        run.bias = floats(step.bias, run.ldb, step.op == Op::conv);  // the zeros: for the taps after the first
      }
      if (step.op == Op::ring_attention) {
        run.ages = spec.tensors[step.bias].shape.back();
        run.bias = floats(step.bias, run.ages);
      }
      state_ += memory_floats(step, spec.buffers[step.y]);
      if (!fill) {
        long scratch = 0;
        if (step.op == Op::attention)
          scratch = attention_scratch(buffers_[step.y].rows, buffers_[step.y].columns / step.heads);
        if (step.op == Op::graph_conv)
          scratch = graph_scratch(spec.tensors[step.gather].shape[0], buffers_[step.x].ld, buffers_[step.x].columns);
        if (step.op == Op::linear || step.op == Op::conv) scratch = linear_scratch(buffers_[step.x].columns);
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
  }
  scratch_ = (scratch_ + 31) / 16 * 16;
}

Plan::~Plan() = default;

Context::Context(std::shared_ptr<const Plan> plan, int threads, std::vector<int> cpus)
    : plan_(std::move(plan)),
      team_((threads < 1 || threads > 256)
                ? throw std::invalid_argument("threads must be 1 to 256, not " + std::to_string(threads))
                : threads,
            std::move(cpus)) {
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
  people_ = people;
  const long frame = (long)plan_->joints_ * plan_->inputs_, window = plan_->frames_ * frame, state = plan_->state_;
  window_states_.assign((std::size_t)(people * state), 0.f);
  window_state_of_.clear();
  for (int p = 0; p < people; p++) window_state_of_.push_back(window_states_.data() + p * state);
  for (int t = 0; t < (plan_->has_state() ? plan_->frames_ : 1); t++)
    run_frame(keypoints_norm + t * frame, window, window_state_of_.data());
  take_answers(pose_m);
}

void Context::step(const float* keypoints_norm, float* pose_m, int people, float* const* states) {
  if (people <= 0) return;
  reserve(people);
  people_ = people;
  run_frame(keypoints_norm, (long)plan_->joints_ * plan_->inputs_, states);
  take_answers(pose_m);
}

// person_floats: between two people's keypoints.
void Context::run_frame(const float* keypoints_norm, long person_floats, float* const* states) {
  input_ = keypoints_norm, input_floats_ = person_floats, states_ = states;
  team_.run(work, this);
}

void Context::take_answers(float* pose_m) const {
  const Buffer& answer = plan_->buffers_[plan_->runs_.back().y];
  const float* from = arena() + answer.offset * people_;
  for (long row = 0; row < (long)people_ * answer.rows; row++, from += answer.ld, pose_m += answer.columns)
    std::memcpy(pose_m, from, answer.columns * sizeof(float));
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
  float* y = rows(run.y);
  if (run.op == Op::tokens || run.op == Op::frames) {
    const Share share(people_ * Y.rows, member, members);
    const int T = plan_->frames_, J = plan_->joints_, C = plan_->inputs_;
    for (int row = share.first; row < share.last; row++) {
      float* to = y + (long)row * Y.ld;
      if (run.op == Op::frames) {
        const float* from = input_ + row / Y.rows * input_floats_ + (long)(row % Y.rows) * J * C;
        std::memcpy(to, from, (std::size_t)J * C * sizeof(float));
        continue;
      }
      const float* from = input_ + ((long)(row / J) * T * J + row % J) * C;
      for (int t = 0; t < T; t++) std::memcpy(to + C * t, from + (long)t * J * C, C * sizeof(float));
    }
    return;
  }
  const Buffer& X = plan_->buffers_[run.x];
  const float* x = rows(run.x);
  switch (run.op) {
    case Op::tokens: case Op::frames: break;
    case Op::reshape: {
      const Share share(people_, member, members);
      for (long p = share.first; p < share.last; p++) copy_elements(x + p * X.rows * X.ld, X, y + p * Y.rows * Y.ld, Y);
      break;
    }
    case Op::pick: {
      const Share share(people_ * Y.rows, member, members);
      for (int row = share.first; row < share.last; row++) {
        const long from = (long)(row / Y.rows) * X.rows + run.first + row % Y.rows * run.stride;
        std::memcpy(y + (long)row * Y.ld, x + from * X.ld, Y.columns * sizeof(float));
      }
      break;
    }
    case Op::concat: {
      const Share share(people_ * Y.rows, member, members);
      const Buffer& O = plan_->buffers_[run.other];
      for (long row = share.first; row < share.last; row++) {
        std::memcpy(y + row * Y.ld, x + row * X.ld, X.columns * sizeof(float));
        std::memcpy(y + row * Y.ld + X.columns, rows(run.other) + row * O.ld, O.columns * sizeof(float));
      }
      break;
    }
    case Op::add: {
      const Share share(people_, member, members);
      for (int p = share.first; p < share.last; p++)
        kernels.add(x + (long)p * X.rows * X.ld, run.bias, y + (long)p * Y.rows * Y.ld, X.ld, run.ldb, Y.ld, Y.rows,
                    Y.columns);
      break;
    }
    case Op::multiply: {
      const Share share(people_ * Y.rows, member, members);
      const Buffer& O = plan_->buffers_[run.other];
      kernels.multiply(x + (long)share.first * X.ld, rows(run.other) + (long)share.first * O.ld,
                       y + (long)share.first * Y.ld, X.ld, O.ld, Y.ld, share.count(), Y.columns, run.activation);
      break;
    }
    case Op::normalize: {
      const Share share(people_ * Y.rows, member, members);
      kernels.normalize(x + (long)share.first * X.ld, y + (long)share.first * Y.ld, X.ld, Y.ld, share.count(),
                        Y.columns, run.epsilon);
      break;
    }
    case Op::attention: run_attention(run, member); break;
    case Op::linear: case Op::conv: case Op::graph_conv: run_product(run, member); break;
    case Op::clock: case Op::hats: case Op::taps: case Op::ring_attention: run_memory(run, member); break;
  }
}

void Context::run_memory(const Plan::Run& run, int member) {
  const Buffer &X = plan_->buffers_[run.x], &Y = plan_->buffers_[run.y];
  const Share share(people_, member, team_.size());
  for (long p = share.first; p < share.last; p++) {
    const float *x = rows(run.x) + p * X.ld, *place = nullptr;
    if (run.other >= 0) place = rows(run.other) + p * plan_->buffers_[run.other].ld;
    float *y = rows(run.y) + p * Y.ld, *state = states_[p] + run.state;
    switch (run.op) {
      case Op::clock: tell_time(x[run.first], state, y, Y.columns - 1); break;
      case Op::hats: hats(place_of(x[run.first]), y, Y.columns); break;
      case Op::taps: recall_taps(x, place, state, y, X.columns, run.count); break;
      default: {
        const Ring ring = remember(x + Y.columns, state, 2 * Y.columns, ring_rows(run.span, run.count));
        plan_->kernels_.ring_attention(x, ring, place, run.bias, y, run.heads, Y.columns / run.heads, run.span,
                                       run.count, run.ages);
      }
    }
  }
}

void Context::run_attention(const Plan::Run& run, int member) {
  const Kernels& kernels = plan_->kernels_;
  const Buffer &X = plan_->buffers_[run.x], &Y = plan_->buffers_[run.y];
  float* scratch = static_cast<float*>(scratch_.get()) + plan_->scratch_ * member;
  const Share share(people_ * run.heads, member, team_.size());
  const int d = Y.columns / run.heads, N = Y.rows, C = Y.columns;
  for (int i = share.first; i < share.last; i++) {
    const int person = i / run.heads, head = i % run.heads;
    const float* q = rows(run.x) + (long)person * N * X.ld + head * d;
    float* y = rows(run.y) + (long)person * N * Y.ld + head * d;
    const bool is_local = run.span && head % 2 == 0;
    // An odd head's tokens fall into `span` sequences that do not see each other.
    const int step = run.span && !is_local ? run.span : 1;
    const int before = is_local ? run.span : N, after = run.is_causal ? 0 : before;
    for (int s = 0; s < step && s < N; s++) {
      const float* from = q + (long)s * X.ld;
      kernels.attention(from, from + C, from + 2 * C, y + (long)s * Y.ld, scratch, (long)X.ld * step, (long)Y.ld * step,
                        (N - s + step - 1) / step, d, before, after);
    }
    if (run.gate >= 0) {
      const float* gate = rows(run.gate) + (long)person * plan_->buffers_[run.gate].ld;
      const float g = gate[head], b = gate[run.heads + head];
      kernels.blend(g, (1 - b) * g, q + 2 * C, y, X.ld, Y.ld, N, d);
    }
  }
}

void Context::run_product(const Plan::Run& run, int member) {
  const int members = team_.size();
  const Buffer &X = plan_->buffers_[run.x], &Y = plan_->buffers_[run.y];
  // Many people: each thread takes some of them. Few: all threads take all rows, and some columns each, so that the
  // weights are read once.
  const bool by_people = people_ >= 2 * members;
  const Share people(people_, by_people ? member : 0, by_people ? members : 1);
  const Share panels(round_up(Y.columns, kPanelColumns) / kPanelColumns, by_people ? 0 : member,
                     by_people ? 1 : members);
  const int first = panels.first * kPanelColumns, end = panels.last * kPanelColumns;
  const int n = (end < Y.columns ? end : Y.columns) - first, k = X.columns;
  if (n <= 0 || people.count() == 0) return;
  const float* x = rows(run.x) + (long)people.first * X.rows * X.ld;
  const long at = (long)people.first * Y.rows * Y.ld + first;
  float* y = rows(run.y) + at;
  const float* residual = run.residual < 0 ? nullptr : rows(run.residual) + at;
  float* scratch = static_cast<float*>(scratch_.get()) + plan_->scratch_ * member;
  // The weights of tap `tap` from this member's first panel on.
  const auto weights = [&](int tap) {
    Weights from = run.weights;
    const long panel = (long)tap * (round_up(Y.columns, kPanelColumns) / kPanelColumns) + panels.first;
    from.packed = static_cast<const unsigned char*>(from.packed) + panel * run.panel;
    if (from.scale) from.scale += first;
    return from;
  };
  const auto linear = [&](const float* from, int ldx, int tap, const float* b, const float* added, float* to, int m) {
    run.product.linear(from, weights(tap), b, added, to, scratch, ldx, Y.ld, m, k, n, run.activation);
  };
  if (run.op == Op::linear) {
    linear(x, X.ld, 0, run.bias + first, residual, y, people.count() * Y.rows);
  } else if (run.op == Op::graph_conv) {
    run.product.graph_conv(x, weights(0), run.bias + first, residual, y, scratch, run.graph(), X.ld, Y.ld, run.ldb,
                           people.count(), k, n, run.activation);
  } else {
    // One linear per tap, added to the sum so far; the tap that all rows have comes first and adds bias and residual.
    int whole = 0;
    while (run.begin(whole) > 0 || run.end(whole, X.rows, Y.rows) < Y.rows) whole++;
    for (int turn = 0; turn < run.taps; turn++) {
      const int tap = turn == 0 ? whole : turn <= whole ? turn - 1 : turn;
      const int begin = run.begin(tap), count = run.end(tap, X.rows, Y.rows) - begin;
      if (count <= 0) continue;
      // If the rows of x and y line up for every person, all people are one matrix.
      const bool in_step = count == Y.rows && X.rows == run.stride * Y.rows;
      const int matrices = in_step ? 1 : people.count(), m = in_step ? people.count() * Y.rows : count;
      for (int p = 0; p < matrices; p++) {
        const float* from = x + ((long)p * X.rows + run.first + tap + (long)begin * run.stride) * X.ld;
        const long to = ((long)p * Y.rows + begin) * Y.ld;
        const float* added = turn ? y + to : residual ? residual + to : nullptr;
        linear(from, X.ld * run.stride, tap, run.bias + first + (turn ? run.ldb : 0), added, y + to, m);
      }
    }
  }
}

}  // namespace edgepose
