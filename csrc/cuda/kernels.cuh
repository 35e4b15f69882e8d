// The persistent kernel: a block runs its share of every step, and waits for the others between two steps. Each function below is one
// kernel of csrc/kernels.h, with the same contract; its comment adds what a block owns. All threads of a block call it.
#pragma once

#include "device.cuh"
#include "program.h"

namespace edgepose::cuda {

constexpr int kRowStride = kRowBytes + 16;  // of a row of x in shared memory: the lanes of a fragment fall on 32 banks
constexpr int kOutputs = kTileRows * kPanelColumns;
constexpr int kKeys = 32;                   // keys and values that lie in shared memory at once, a lane each
constexpr float kUnseen = -1e30f;           // the score of a key that is not seen, as in kernels.inl

// What one launch works on. All pointers are the device's; host_input and answer may be host memory that it has mapped.
struct Launch {
  const Step* steps;
  int count;
  const unsigned char* constants;
  float* arena;
  const float* host_input;
  float* input;
  float* answer;
  int people, frames, joints;
  unsigned* arrived;
  unsigned* passed;
};

// A block's shared memory: a product's x, its sums and a graph convolution's rows, or an attention's keys, values and queries.
struct Shared {
  union {
    struct {
      alignas(16) unsigned char x[kTileRows * kRowStride];
      uint32_t sums[kWarps][kOutputs];  // float or int
      float z[kGraphRows * kPanelColumns];
      float mean[kTileRows], deviation[kTileRows], broken[kTileRows];  // deviation: one over it
    };
    float attention[2 * kKeys * (kHeadWidth + 1) + kWarps * kHeadWidth];
  };
  Step steps[2];
};

template <class T>
EP_DEVICE const T* constants(const Launch& launch, long at) {
  return at < 0 ? nullptr : reinterpret_cast<const T*>(launch.constants + at);
}
EP_DEVICE float* rows(const Launch& launch, long at) { return launch.arena + at * launch.people; }
EP_DEVICE int warp() { return threadIdx.x / 32; }
EP_DEVICE int lane() { return threadIdx.x % 32; }

EP_DEVICE float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? 0.f : x;
    case Activation::gelu: return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case Activation::sigmoid: return 1 / (1 + expf(-x));
  }
  return x;
}

// y[row][c] = value + residual + position. row: of all people.
EP_DEVICE void store(const Launch& launch, const Step& s, int row, int c, float value, bool adds_residual = true) {
  const int person = row / s.rows, t = row % s.rows;
  if (adds_residual && s.residual >= 0) {
    const long from = (long)person * s.residual_rows + s.residual_first + (long)t * s.residual_stride;
    value += rows(launch, s.residual)[from * s.ldr + c];
  }
  if (s.position >= 0) value += constants<float>(launch, s.position)[(long)t * s.ldp + c];
  float* y = s.is_answer ? launch.answer : rows(launch, s.y);
  y[(long)row * s.ldy + c] = value;
}

// The left sides of products: element i of row r.
struct PlainRows {
  const float* x;
  long ld;
  EP_DEVICE float at(int r, int i) const { return x[r * ld + i]; }
};
struct InputRows {  // as tokens and frames read the input, from row `first` on
  const Launch& launch;
  bool is_frames;
  int first;
  EP_DEVICE float at(int r, int i) const {
    const int row = first + r, T = launch.frames, J = launch.joints;
    if (is_frames) return launch.input[(long)row * J * 2 + i];
    return launch.input[(((long)(row / J) * T + i / 2) * J + row % J) * 2 + i % 2];
  }
};
struct TapRows {  // a convolution's taps side by side
  const float* x;
  const Step& s;
  int first, k;  // row; columns of x
  EP_DEVICE float at(int r, int i) const {
    const int row = first + r, from = s.first + s.stride * (row % s.rows) + i / k;
    return from < 0 || from >= s.x_rows ? 0.f : x[((long)(row / s.rows) * s.x_rows + from) * s.ldx + i % k];
  }
};
struct GatheredRows {  // of one person
  const float* x;
  Sums sums;
  long ld;
  int first;
  EP_DEVICE float at(int r, int i) const {
    float sum = 0;
    for (int e = sums.start[first + r]; e < sums.start[first + r + 1]; e++) sum += sums.coefficient[e] * x[sums.index[e] * ld + i];
    return sum;
  }
};

// Mean and deviation of each row, a warp a row.
template <class Left>
EP_DEVICE void measure_rows(const Left& left, int m, int k, float epsilon, Shared& shared) {
  for (int r = warp(); r < m; r += kWarps) {
    float total = 0, squares = 0;
    for (int i = lane(); i < k; i += 32) total += left.at(r, i);
    const float mean = sum_of_warp(total) / k;
    for (int i = lane(); i < k; i += 32) {
      const float d = left.at(r, i) - mean;
      squares += d * d;
    }
    squares = sum_of_warp(squares);
    if (lane() == 0) shared.mean[r] = mean, shared.deviation[r] = rsqrtf(squares / k + epsilon);
  }
  wait_for_block();
}

// How a precision multiplies. On tensor cores halves and int8, else floats and int8.
template <bool kTensorCores>
EP_DEVICE int bytes_of_x(Precision precision) {
  return precision == Precision::i8 ? 1 : kTensorCores && precision != Precision::f32 ? 2 : 4;
}

// Elements [from, from + count) of m rows of x, as the products take them; zero up to the next 32.
template <bool kTensorCores, class Left>
EP_DEVICE void load_rows(const Step& s, const float* x_scale, const Left& left, int m, int from, int count, Shared& shared) {
  const int padded = (count + 31) / 32 * 32, size = bytes_of_x<kTensorCores>(s.precision);
  for (int r = warp(); r < m; r += kWarps) {
    unsigned char* to = shared.x + r * kRowStride;
    float nothing = 0;
    for (int i = lane(); i < padded; i += 32) {
      float v = i < count ? left.at(r, from + i) : 0.f;
      if (s.normalizes && i < count) v = (v - shared.mean[r]) * shared.deviation[r];
      if (size == 4) reinterpret_cast<float*>(to)[i] = v;
      if (size == 2) reinterpret_cast<half*>(to)[i] = to_half(v);
      if (size == 1) {
        nothing += v - v;  // NaN where whole numbers would hide it
        const float whole = i < count ? rintf(v * x_scale[from + i]) : 0.f;
        reinterpret_cast<int8_t*>(to)[i] = (int8_t)(whole < -128 ? -128.f : whole > 127 ? 127.f : whole);
      }
    }
    nothing = sum_of_warp(nothing);
    if (lane() == 0) shared.broken[r] = from ? shared.broken[r] + nothing : nothing;
  }
}

// A weight as the multiply-add path reads it.
EP_DEVICE float weight_at(const unsigned char* panel, Precision precision, long i) {
  if (precision == Precision::f32) return reinterpret_cast<const float*>(panel)[i];
  if (precision == Precision::f16) return to_float(reinterpret_cast<const half*>(panel)[i]);
  return reinterpret_cast<const int8_t*>(panel)[i];
}

// The multiply-adds of one chunk without tensor cores: thread (slice, column) takes every 16th element of a row for its column.
template <class Sum>
EP_DEVICE void accumulate_plainly(const Step& s, const unsigned char* panel, int from, int count, Sum (&sums)[kTileRows], Shared& shared) {
  const int column = threadIdx.x % kPanelColumns, slices = kThreads / kPanelColumns;
  if (s.precision == Precision::i8) {
    const uint32_t* w = reinterpret_cast<const uint32_t*>(panel) + (long)from / 4 * kPanelColumns + column;
    for (int i = threadIdx.x / kPanelColumns; i < (count + 3) / 4; i += slices) {
      const uint32_t wi = w[(long)i * kPanelColumns];
#pragma unroll
      for (int r = 0; r < kTileRows; r++)
        sums[r] += dot4(reinterpret_cast<const uint32_t*>(shared.x + r * kRowStride)[i], wi, 0);
    }
    return;
  }
  for (int i = threadIdx.x / kPanelColumns; i < count; i += slices) {
    const float wi = weight_at(panel, s.precision, (long)(from + i) * kPanelColumns + column);
#pragma unroll
    for (int r = 0; r < kTileRows; r++) sums[r] += reinterpret_cast<const float*>(shared.x + r * kRowStride)[i] * wi;
  }
}

// A lane's fragment of the weights, number `tile` of a panel.
EP_DEVICE void load_fragment(const unsigned char* panel, Precision precision, long tile, uint32_t (&a)[4]) {
  if (precision != Precision::w8) {
    const Word4 words = reinterpret_cast<const Word4*>(panel)[tile * 32 + lane()];
    for (int i = 0; i < 4; i++) a[i] = words.word[i];
    return;
  }
  const Word2 words = reinterpret_cast<const Word2*>(panel)[tile * 32 + lane()];
  for (int i = 0; i < 4; i++) {  // two int8 become two halves
    const uint32_t two = words.word[i / 2] >> i % 2 * 16;
    const half low = to_half((float)(int8_t)(two & 255)), high = to_half((float)(int8_t)(two >> 8 & 255));
    a[i] = (uint32_t) reinterpret_cast<const uint16_t&>(low) | (uint32_t) reinterpret_cast<const uint16_t&>(high) << 16;
  }
}

// The multiply-adds of one chunk on tensor cores: warp w takes every 8th fragment, for all rows.
template <class Sum>
EP_DEVICE void accumulate_fragments(const Step& s, const unsigned char* panel, int from, int count, Sum (&sums)[kTileRows / 8][4],
                                    Shared& shared) {
  const int span = s.precision == Precision::i8 ? 32 : 16;
  for (int tile = warp(); tile * span < count; tile += kWarps) {
    uint32_t a[4];
    load_fragment(panel, s.precision, from / span + tile, a);
#pragma unroll
    for (int group = 0; group < kTileRows / 8; group++) {
      // b: the lane's row, its 32 bytes of this tile, the lane's word in each half.
      const unsigned char* row = shared.x + (group * 8 + lane() / 4) * kRowStride + tile * 32;
      const uint32_t* words = reinterpret_cast<const uint32_t*>(row) + lane() % 4;
      multiply_add(sums[group], a, words[0], words[4]);
    }
  }
}

// emit(r, c, sum): rows of x (m at most kTileRows) times one panel, for the elements of the calling thread. A block owns the whole of
// k: its warps each take a part, and their sums are added in one order. is_loaded: x is in shared memory from the call before.
template <bool kTensorCores, class Sum, class Left, class Emit>
EP_DEVICE void product_as(const Step& s, const unsigned char* panel, const float* scale, const float* x_scale, const Left& left, int m,
                          bool is_loaded, Shared& shared, Emit emit) {
  const int chunk = kRowBytes / bytes_of_x<kTensorCores>(s.precision);
  const bool uses_fragments = kTensorCores && s.precision != Precision::f32;
  Sum plain[kTileRows] = {}, fragments[kTileRows / 8][4] = {};
  if (s.normalizes && !is_loaded) measure_rows(left, m, s.k, s.epsilon, shared);
  for (int from = 0; from < s.k; from += chunk) {
    const int count = s.k - from < chunk ? s.k - from : chunk;
    if (!is_loaded) load_rows<kTensorCores>(s, x_scale, left, m, from, count, shared);
    wait_for_block();
    if (uses_fragments) accumulate_fragments(s, panel, from, count, fragments, shared);
    else accumulate_plainly(s, panel, from, count, plain, shared);
    wait_for_block();
  }
  Sum* sums = reinterpret_cast<Sum*>(shared.sums[warp()]);
  if (uses_fragments) {
    for (int group = 0; group < kTileRows / 8; group++)
      for (int e = 0; e < 4; e++)
        sums[(group * 8 + lane() % 4 * 2 + e % 2) * kPanelColumns + lane() / 4 + e / 2 * 8] = fragments[group][e];
  } else {
    for (int r = 0; r < kTileRows; r++) {
      const Sum both = plain[r] + from_lane(plain[r], lane() ^ 16);  // a warp has two slices
      if (lane() < kPanelColumns) sums[r * kPanelColumns + lane()] = both;
    }
  }
  wait_for_block();
  for (int i = threadIdx.x; i < m * kPanelColumns; i += kThreads) {
    const int r = i / kPanelColumns, c = i % kPanelColumns;
    Sum total = 0;
    for (int w = 0; w < kWarps; w++) total += reinterpret_cast<const Sum*>(shared.sums[w])[i];
    float value = (float)total;
    if (scale) value *= scale[c];
    if (s.precision == Precision::i8) value += shared.broken[r];
    emit(r, c, value);
  }
}

template <bool kTensorCores, class Left, class Emit>
EP_DEVICE void product(const Step& s, const unsigned char* panel, const float* scale, const float* x_scale, const Left& left, int m,
                       bool is_loaded, Shared& shared, Emit emit) {
  if (s.precision == Precision::i8) product_as<kTensorCores, int>(s, panel, scale, x_scale, left, m, is_loaded, shared, emit);
  else product_as<kTensorCores, float>(s, panel, scale, x_scale, left, m, is_loaded, shared, emit);
}

// The items of a step that this block owns: [first, last) of `items`, side by side.
struct Items {
  long first, last;
  EP_DEVICE explicit Items(long items) : first(items * blockIdx.x / gridDim.x), last(items * (blockIdx.x + 1) / gridDim.x) {}
};

// linear, and conv as a linear of its taps side by side. An item: kTileRows rows times one panel of 16 columns.
template <bool kTensorCores>
EP_DEVICE void linear(const Launch& launch, const Step& s, Shared& shared) {
  const int m = launch.people * s.rows, panels = s.ldb / kPanelColumns, tiles = (m + kTileRows - 1) / kTileRows;
  const bool fits = s.k * bytes_of_x<kTensorCores>(s.precision) <= kRowBytes;
  const unsigned char* weights = constants<unsigned char>(launch, s.weight);
  const float *bias = constants<float>(launch, s.bias), *scales = constants<float>(launch, s.scale);
  const float *x_scale = constants<float>(launch, s.x_scale), *x = s.source == Source::rows ? rows(launch, s.x) : nullptr;
  const Items mine((long)tiles * panels);
  int loaded = -1;
  for (long item = mine.first; item < mine.last; item++) {
    const int tile = (int)(item / panels), panel = (int)(item % panels), first = tile * kTileRows, c0 = panel * kPanelColumns;
    const int count = m - first < kTileRows ? m - first : kTileRows;
    const auto run = [&](const auto& left) {
      product<kTensorCores>(s, weights + panel * s.panel, scales ? scales + c0 : nullptr, x_scale, left, count, fits && tile == loaded,
                            shared, [&](int r, int c, float sum) {
        if (c0 + c < s.columns) store(launch, s, first + r, c0 + c, activate(sum + bias[c0 + c], s.activation));
      });
    };
    if (s.source != Source::rows) run(InputRows{launch, s.source == Source::frames, first});
    else if (s.op == Op::conv) run(TapRows{x, s, first, s.k / s.taps});
    else run(PlainRows{x + (long)first * s.ldx, s.ldx});
    loaded = tile;
    wait_for_block();
  }
}

// An item: one person, one panel of 16 columns, all groups.
template <bool kTensorCores>
EP_DEVICE void graph_conv(const Launch& launch, const Step& s, Shared& shared) {
  const int panels = s.ldb / kPanelColumns;
  const int* group_rows = constants<int>(launch, s.group_rows);
  const Sums gather = {constants<int>(launch, s.gather_start), constants<int>(launch, s.gather_index),
                       constants<float>(launch, s.gather_coefficient)};
  const Sums scatter = {constants<int>(launch, s.scatter_start), constants<int>(launch, s.scatter_index),
                        constants<float>(launch, s.scatter_coefficient)};
  const float *bias = constants<float>(launch, s.bias), *scales = constants<float>(launch, s.scale);
  const float* x_scale = constants<float>(launch, s.x_scale);
  const Items mine((long)launch.people * panels);
  for (long item = mine.first; item < mine.last; item++) {
    const int person = (int)(item / panels), panel = (int)(item % panels), c0 = panel * kPanelColumns;
    const float* x = rows(launch, s.x) + (long)person * s.x_rows * s.ldx;
    for (int group = 0; group < s.groups; group++) {
      const unsigned char* weights = constants<unsigned char>(launch, s.weight) + panel * s.panel + group * (s.panel / s.groups);
      const float* scale = scales ? scales + (long)group * s.ldb + c0 : nullptr;
      for (int first = group_rows[group]; first < group_rows[group + 1]; first += kTileRows) {
        const int count = group_rows[group + 1] - first < kTileRows ? group_rows[group + 1] - first : kTileRows;
        product<kTensorCores>(s, weights, scale, x_scale, GatheredRows{x, gather, s.ldx, first}, count, false, shared,
                              [&](int r, int c, float sum) { shared.z[(first + r) * kPanelColumns + c] = sum; });
        wait_for_block();
      }
    }
    for (int i = threadIdx.x; i < s.rows * kPanelColumns; i += kThreads) {
      const int joint = i / kPanelColumns, c = i % kPanelColumns;
      if (c0 + c >= s.columns) continue;
      float sum = 0;
      for (int e = scatter.start[joint]; e < scatter.start[joint + 1]; e++)
        sum += scatter.coefficient[e] * shared.z[scatter.index[e] * kPanelColumns + c];
      store(launch, s, person * s.rows + joint, c0 + c, activate(sum + bias[(long)joint * s.ldb + c0 + c], s.activation));
    }
    wait_for_block();
  }
}

// A query's softmax over its keys as they come, 32 at a time: what it has seen so far. A lane owns every 32nd channel of y.
struct Attended {
  float top = kUnseen, total = 0, y[kHeadWidth / 32] = {};

  // score: of the lane's key, kUnseen where it is not seen. value(key): where the value of each of the `count` keys lies.
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

  // emit(c, y): the lane's channels.
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
  const int sequences = s.span && H > 1 ? (s.span < N ? s.span : N) : 1;  // of an odd head; tokens of different ones do not meet
  const int local = (N + kWarps - 1) / kWarps, strided = ((N + sequences - 1) / sequences + kWarps - 1) / kWarps;
  const int a_head = local > sequences * strided ? local : sequences * strided;
  float *keys = shared.attention, *values = keys + kKeys * ld, *queries = values + kKeys * ld + warp() * kHeadWidth;
  const Items mine((long)launch.people * H * a_head);
  for (long item = mine.first; item < mine.last; item++) {
    const int person = (int)(item / (H * a_head)), head = (int)(item / a_head % H), part = (int)(item % a_head);
    const bool is_strided = s.span && head % 2;
    const int step = is_strided ? s.span : 1, sequence = is_strided ? part / strided : 0;
    const int first = (is_strided ? part % strided : part) * kWarps;  // query, of this sequence
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

// The streaming form: y[people][C] = attention of the newest token of each person, whose keys and values lie in rings. q: (people, C);
// keys, values: (people, capacity, C), row `newest` the newest token's; the `count` newest rows are tokens. span, heads: as in attention,
// which is causal here. A warp owns one person's head.
EP_DEVICE void attention_newest(const float* q, const float* keys, const float* values, float* y, int people, int capacity, int newest,
                                int count, int heads, int d, int span) {
  const int C = heads * d;
  for (int item = blockIdx.x * kWarps + warp(); item < people * heads; item += gridDim.x * kWarps) {
    const int person = item / heads, head = item % heads;
    const bool is_strided = span && head % 2;
    const int step = is_strided ? span : 1, reach = span && !is_strided && span + 1 < count ? span + 1 : count;  // in age
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

// An item: one row, a warp's.
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

// The steps that write each element by itself. An item: one element, a thread's.
EP_DEVICE void elements(const Launch& launch, const Step& s) {
  const long all = (long)launch.people * s.rows * s.columns;
  const float* x = s.x < 0 ? nullptr : rows(launch, s.x);
  const float* other = s.residual < 0 ? nullptr : rows(launch, s.residual);
  for (long i = (long)blockIdx.x * kThreads + threadIdx.x; i < all; i += (long)gridDim.x * kThreads) {
    const int row = (int)(i / s.columns), c = (int)(i % s.columns), person = row / s.rows, t = row % s.rows;
    float value = 0;
    switch (s.op) {
      case Op::tokens: value = InputRows{launch, false, row}.at(0, c); break;
      case Op::frames: value = InputRows{launch, true, row}.at(0, c); break;
      case Op::reshape: {
        const long at = (long)t * s.columns + c;
        value = x[((long)person * s.x_rows + at / s.k) * s.ldx + at % s.k];
        break;
      }
      case Op::pick: value = x[((long)person * s.x_rows + s.first + (long)t * s.stride) * s.ldx + c]; break;
      case Op::concat: value = c < s.k ? x[(long)row * s.ldx + c] : other[(long)row * s.ldr + c - s.k]; break;
      case Op::multiply: value = activate(x[(long)row * s.ldx + c] * other[(long)row * s.ldr + c], s.activation); break;
      default: value = x[(long)row * s.ldx + c];  // add: store() brings the constant
    }
    store(launch, s, row, c, value, false);  // residual, if any, was the other operand
  }
}

template <bool kTensorCores>
EP_DEVICE void run_step(const Launch& launch, const Step& s, Shared& shared) {
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

// The whole plan. The input is read from the host once, side by side; the next step's description is there before the wait is over.
template <bool kTensorCores>
EP_DEVICE void run(const Launch& launch, Shared& shared) {
  const long floats = (long)launch.people * launch.frames * launch.joints * 2;
  for (long i = (long)blockIdx.x * kThreads + threadIdx.x; i < floats; i += (long)gridDim.x * kThreads)
    launch.input[i] = launch.host_input[i];
  for (int i = 0; i < launch.count; i++) {
    load_step(launch, i, shared);
    wait_for_grid(launch.arrived, launch.passed);
    run_step<kTensorCores>(launch, shared.steps[i % 2], shared);
  }
}

}  // namespace edgepose::cuda
