// The persistent kernel: a block runs its share of every step, and waits for the others between two steps. Each
// function is one kernel of csrc/kernels.h, with the same contract; its comment adds what a block owns. All threads of
// a block call it.
#pragma once

#include "products.cuh"

namespace edgepose::cuda {

// The online softmax of a query over its keys, 32 at a time: the state so far. A lane owns every 32nd channel of y.
struct Attended {
  float top = kUnseen, total = 0, y[kHeadWidth / 32] = {};

  // score: of the lane's key, kUnseen if it is masked. value(key): the address of the value of each of the `count`
  // keys.
  template <class Value>
  EP_DEVICE void add(float score, int count, int d, Value value) {
    const float above = max_of_warp(score), now = above > top ? above : top;
    const float keeps = expf(top - now), weight = score == kUnseen ? 0.f : expf(score - now);
    top = now;
    total = total * keeps + sum_of_warp(weight);
#pragma unroll
    for (int i = 0; i < kHeadWidth / 32; i++) y[i] *= keeps;
    for (int key = 0; key < count; key++) {
      const float w = from_lane(weight, key);
      const float* v = value(key);
#pragma unroll
      for (int i = 0; i < kHeadWidth / 32; i++)
        if (i * 32 + lane() < d) y[i] += w * v[i * 32 + lane()];
    }
  }

  // Calls emit(c, y) for each of the lane's channels.
  template <class Emit>
  EP_DEVICE void finish(int d, Emit emit) const {
#pragma unroll
    for (int i = 0; i < kHeadWidth / 32; i++)
      if (i * 32 + lane() < d) emit(i * 32 + lane(), y[i] / total);
  }
};

// An item: 8 queries of one person's head, a warp each, all in one of the sequences of tokens that see each other.
EP_DEVICE void attention(const Launch& launch, const Step& s, Shared& shared) {
  const int N = s.rows, C = s.columns, H = s.heads, d = C / H, ld = d + 1;
  // The sequences of an odd head: tokens of different ones do not meet.
  const int sequences = s.span && H > 1 ? (s.span < N ? s.span : N) : 1;
  const int local = (N + kWarps - 1) / kWarps, strided = ((N + sequences - 1) / sequences + kWarps - 1) / kWarps;
  float *keys = shared.attention, *values = keys + kKeys * ld, *queries = values + kKeys * ld + warp() * kHeadWidth;
  const Items mine((long)launch.people * H * s.parts);
  for (long item = mine.first; item < mine.last; item++) {
    const int person = (int)(item / (H * s.parts)), head = (int)(item / s.parts % H), part = (int)(item % s.parts);
    const bool is_strided = s.span && head % 2;
    const int step = is_strided ? s.span : 1, sequence = is_strided ? part / strided : 0;
    const int first = (is_strided ? part % strided : part) * kWarps;  // query within this sequence
    const int length = sequence < N ? (N - sequence + step - 1) / step : 0;
    if ((is_strided ? sequence >= sequences : part >= local) || first >= length) continue;
    const int before = s.span && !is_strided ? s.span : N, after = s.is_causal ? 0 : before;
    const float* q = rows(launch, s.x) + ((long)person * N + sequence) * s.ldx + head * d;
    const long ldx = (long)s.ldx * step;
    const int mine_is = first + warp(), end = first + kWarps < length ? first + kWarps : length;
    if (mine_is < length)
      for (int c = lane(); c < d; c += 32) queries[c] = q[mine_is * ldx + c];
    const int low = first > before ? first - before : 0, high = length - end > after ? end + after : length;
    Attended attended;
    for (int from = low; from < high; from += kKeys) {
      const int count = high - from < kKeys ? high - from : kKeys;
      for (int i = threadIdx.x; i < count * d; i += kThreads) {
        const int key = i / d, c = i % d;
        keys[key * ld + c] = q[(from + key) * ldx + C + c];
        values[key * ld + c] = q[(from + key) * ldx + 2 * C + c];
      }
      wait_for_block();
      const int key = from + lane();
      float score = kUnseen;
      if (lane() < count && key >= mine_is - before && key <= mine_is + after) {
        score = 0;
        for (int c = 0; c < d; c++) score += queries[c] * keys[lane() * ld + c];
      }
      attended.add(score, count, d, [&](int row) { return values + row * ld; });
      wait_for_block();
    }
    if (mine_is >= length) continue;
    const int token = sequence + mine_is * step, row = person * N + token;
    const float* gate = s.gate < 0 ? nullptr : rows(launch, s.gate) + (long)person * s.ldg;
    attended.finish(d, [&](int c, float y) {
      if (gate) y = gate[head] * y + (1 - gate[H + head]) * gate[head] * q[mine_is * ldx + 2 * C + c];
      store(launch, s, row, head * d + c, y);
    });
  }
}

// The streaming form: y[people][C] = attention of the newest token of each person, whose keys and values lie in rings.
// q: (people, C); keys, values: (people, capacity, C), row `newest` the newest token's; the `count` newest rows are
// tokens. span, heads: as in attention, which is causal here. A warp owns one person's head.
EP_DEVICE void attention_newest(const float* q, const float* keys, const float* values, float* y, int people,
                                int capacity, int newest, int count, int heads, int d, int span) {
  const int C = heads * d;
  for (int item = blockIdx.x * kWarps + warp(); item < people * heads; item += gridDim.x * kWarps) {
    const int person = item / heads, head = item % heads;
    const bool is_strided = span && head % 2;
    // Ages in tokens; the newest token has age 0.
    const int step = is_strided ? span : 1, reach = span && !is_strided && span + 1 < count ? span + 1 : count;
    const int seen = (reach + step - 1) / step;
    const long at = (long)person * capacity * C + head * d;
    Attended attended;
    for (int from = 0; from < seen; from += kKeys) {
      const int here = seen - from < kKeys ? seen - from : kKeys;
      const int age = (from + lane()) * step, slot = ((newest - age) % capacity + capacity) % capacity;
      float score = kUnseen;
      if (lane() < here) {
        score = 0;
        for (int c = 0; c < d; c++) score += q[(long)person * C + head * d + c] * keys[at + (long)slot * C + c];
      }
      attended.add(score, here, d, [&](int key) { return values + at + (long)from_lane(slot, key) * C; });
    }
    attended.finish(d, [&](int c, float value) { y[(long)person * C + head * d + c] = value; });
  }
}

// An item: one row, done by one warp.
EP_DEVICE void normalize(const Launch& launch, const Step& s) {
  const float* x = rows(launch, s.x);
  const int n = s.columns;
  for (long row = blockIdx.x * kWarps + warp(); row < (long)launch.people * s.rows; row += gridDim.x * kWarps) {
    float total = 0, squares = 0;
    for (int c = lane(); c < n; c += 32) total += x[row * s.ldx + c];
    const float mean = sum_of_warp(total) / n;
    for (int c = lane(); c < n; c += 32) squares += (x[row * s.ldx + c] - mean) * (x[row * s.ldx + c] - mean);
    const float scale = rsqrtf(sum_of_warp(squares) / n + s.epsilon);
    for (int c = lane(); c < n; c += 32) store(launch, s, (int)row, c, (x[row * s.ldx + c] - mean) * scale);
  }
}

// The steps that write each element by itself. An item: one element, done by one thread.
EP_DEVICE void elements(const Launch& launch, const Step& s) {
  const long all = (long)launch.people * s.rows * s.columns;
  const float* x = s.x < 0 ? nullptr : rows(launch, s.x);
  const float* other = s.other < 0 ? nullptr : rows(launch, s.other);
  for (long i = (long)blockIdx.x * kThreads + threadIdx.x; i < all; i += (long)gridDim.x * kThreads) {
    const int row = (int)(i / s.columns), c = (int)(i % s.columns), person = row / s.rows, t = row % s.rows;
    float value = 0;
    switch (s.op) {
      case Op::tokens: value = InputRows{launch, false, row}.row(0).at(c); break;
      case Op::frames: value = InputRows{launch, true, row}.row(0).at(c); break;
      case Op::reshape: {
        const long at = (long)t * s.columns + c;
        value = x[((long)person * s.x_rows + at / s.k) * s.ldx + at % s.k];
        break;
      }
      case Op::pick: value = x[((long)person * s.x_rows + s.first + (long)t * s.stride) * s.ldx + c]; break;
      case Op::concat: value = c < s.k ? x[(long)row * s.ldx + c] : other[(long)row * s.ldo + c - s.k]; break;
      case Op::multiply: value = activate(x[(long)row * s.ldx + c] * other[(long)row * s.ldo + c], s.activation); break;
      default: value = x[(long)row * s.ldx + c];  // add: store() adds the constant
    }
    store(launch, s, row, c, value);
  }
}

template <bool kTensorCores>
EP_DEVICE void run_step(const Launch& launch, const Step& shared_step, Shared& shared) {
  // A copy in registers: stores to shared memory might change it, so it would be read again after each.
  const Step s = shared_step;
  switch (s.op) {
    case Op::linear: case Op::conv: linear<kTensorCores>(launch, s, shared); break;
    case Op::graph_conv: graph_conv<kTensorCores>(launch, s, shared); break;
    case Op::attention: attention(launch, s, shared); break;
    case Op::normalize: normalize(launch, s); break;
    default: elements(launch, s);
  }
}

EP_DEVICE void load_step(const Launch& launch, int i, Shared& shared) {
  const uint32_t* from = reinterpret_cast<const uint32_t*>(launch.steps + i);
  uint32_t* to = reinterpret_cast<uint32_t*>(&shared.steps[i % 2]);
  for (int word = threadIdx.x; word < (int)(sizeof(Step) / 4); word += kThreads) to[word] = from[word];
}

// Runs the whole plan. The input is read from the host once, in order; the next step's description is loaded before the
// wait.
template <bool kTensorCores>
EP_DEVICE void run(const Launch& launch, Shared& shared) {
  const long floats = (long)launch.people * launch.frames * launch.joints * launch.inputs;
  for (long i = (long)blockIdx.x * kThreads + threadIdx.x; i < floats; i += (long)gridDim.x * kThreads)
    launch.input[i] = launch.host_input[i];
  for (int i = 0; i < launch.count; i++) {
    load_step(launch, i, shared);
    wait_for_grid(launch.arrived, launch.passed);
    run_step<kTensorCores>(launch, shared.steps[i % 2], shared);
  }
}

}  // namespace edgepose::cuda
