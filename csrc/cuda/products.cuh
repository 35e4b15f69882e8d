// Products with packed weights: linear, conv and graph_conv of csrc/kernels.h, in every precision, on tensor cores or
// without.
#pragma once

#include "block.cuh"

namespace edgepose::cuda {

// The left sides of products: row(r).at(i) is element i of row r.
struct PlainRow {
  const float* x;
  EP_DEVICE float at(int i) const { return x[i]; }
};
struct PlainRows {
  const float* x;
  long ld;
  EP_DEVICE PlainRow row(int r) const { return {x + r * ld}; }
};

struct InputRow {  // one token: its frames lie `apart` floats from each other
  const float* x;
  int apart, columns;
  EP_DEVICE float at(int i) const { return x[(long)(i / columns) * apart + i % columns]; }
};
struct InputRows {  // the input as `tokens` and `frames` read it, from row `first` on
  const Launch& launch;
  bool is_frames;
  int first;
  EP_DEVICE InputRow row(int r) const {
    const int row = first + r, T = launch.frames, J = launch.joints, C = launch.inputs;
    if (is_frames) return {launch.input + (long)row * J * C, C, C};
    return {launch.input + ((long)(row / J) * T * J + row % J) * C, C * J, C};
  }
};

struct TapRow {
  const float* x;  // the person's first row
  int from, rows, k;
  long ld;
  EP_DEVICE float at(int i) const {
    const int tap = i / k, row = from + tap;
    return row < 0 || row >= rows ? 0.f : x[row * ld + i - tap * k];
  }
};
struct TapRows {  // a convolution's taps side by side
  const float* x;
  const Step& s;
  int first, k;  // first: row; k: columns of x
  EP_DEVICE TapRow row(int r) const {
    const int row = first + r, person = row / s.rows;
    return {x + (long)person * s.x_rows * s.ldx, s.first + s.stride * (row - person * s.rows), s.x_rows, k, s.ldx};
  }
};

struct GatheredRow {  // first: the first entry, since nearly all rows have no other
  const float *x, *first;
  float coefficient;
  const int *index, *end;
  const float* coefficients;
  long ld;
  EP_DEVICE float at(int i) const {
    float sum = coefficient * first[i];
#pragma unroll 1
    for (int e = 1; index + e < end; e++) sum += coefficients[e] * x[index[e] * ld + i];
    return sum;
  }
};
struct GatheredRows {  // the gathered rows of one person
  const float* x;
  Sums sums;
  long ld;
  int first;
  EP_DEVICE GatheredRow row(int r) const {
    const int start = sums.start[first + r], end = sums.start[first + r + 1];
    const bool is_empty = start == end;
    return {x, x + (is_empty ? 0 : sums.index[start] * ld), is_empty ? 0.f : sums.coefficient[start],
            sums.index + start, sums.index + end, sums.coefficient + start, ld};
  }
};

// Mean and deviation of each row, one warp per row.
template <class Left>
EP_DEVICE void measure_rows(const Left& left, int m, int k, float epsilon, Shared& shared) {
  for (int r = warp(); r < m; r += kWarps) {
    const auto row = left.row(r);
    float total = 0, squares = 0;
    for (int i = lane(); i < k; i += 32) total += row.at(i);
    const float mean = sum_of_warp(total) / k;
    for (int i = lane(); i < k; i += 32) {
      const float d = row.at(i) - mean;
      squares += d * d;
    }
    squares = sum_of_warp(squares);
    if (lane() == 0) shared.mean[r] = mean, shared.deviation[r] = rsqrtf(squares / k + epsilon);
  }
  wait_for_block();
}

EP_DEVICE int bytes_of_x(Multiplied as) { return as == Multiplied::i8 ? 1 : as == Multiplied::f16 ? 2 : 4; }

// Elements [from, from + count) of m rows of x, in the numbers that are multiplied; zero up to the next multiple of 32.
template <class Left>
EP_DEVICE void load_rows(const Step& s, const float* x_scale, const Left& left, int m, int from, int count,
                         Shared& shared) {
  const int padded = (count + 31) / 32 * 32, size = bytes_of_x(s.multiplied);
  for (int r = warp(); r < m; r += kWarps) {
    unsigned char* to = shared.x + r * kRowStride;
    const auto row = left.row(r);
    const float mean = s.normalizes ? shared.mean[r] : 0.f, deviation = s.normalizes ? shared.deviation[r] : 1.f;
    float nothing = 0;
    for (int i = lane(); i < padded; i += 32) {
      const float v = i < count ? (row.at(from + i) - mean) * deviation : 0.f;
      if (size == 4) reinterpret_cast<float*>(to)[i] = v;
      if (size == 2) reinterpret_cast<half*>(to)[i] = to_half(v);
      if (size == 1) {
        nothing += v - v;  // NaN if v is NaN or infinite, which int8 would hide
        const float whole = i < count ? rintf(v * x_scale[from + i]) : 0.f;
        reinterpret_cast<int8_t*>(to)[i] = (int8_t)(whole < -128 ? -128.f : whole > 127 ? 127.f : whole);
      }
    }
    if (size > 1) continue;
    nothing = sum_of_warp(nothing);
    if (lane() == 0) shared.broken[r] = from ? shared.broken[r] + nothing : nothing;
  }
}

// A weight as the multiply-add path reads it.
EP_DEVICE float weight_at(const unsigned char* panel, Type stored, long i) {
  if (stored == Type::f32) return reinterpret_cast<const float*>(panel)[i];
  if (stored == Type::f16) return to_float(reinterpret_cast<const half*>(panel)[i]);
  return reinterpret_cast<const int8_t*>(panel)[i];
}

// The multiply-adds of one chunk without tensor cores: thread (slice, column) takes every 16th element of a row for its
// column.
template <class Sum>
EP_DEVICE void accumulate_plainly(const Step& s, const unsigned char* panel, int from, int count,
                                  Sum (&sums)[kTileRows], Shared& shared) {
  const int column = threadIdx.x % kPanelColumns, slices = kThreads / kPanelColumns;
  if (s.multiplied == Multiplied::i8) {
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
    const float wi = weight_at(panel, s.stored, (long)(from + i) * kPanelColumns + column);
#pragma unroll
    for (int r = 0; r < kTileRows; r++) sums[r] += reinterpret_cast<const float*>(shared.x + r * kRowStride)[i] * wi;
  }
}

// A lane's fragment of the weights, number `tile` of a panel.
EP_DEVICE void load_fragment(const Step& s, const unsigned char* panel, long tile, uint32_t (&a)[4]) {
  if (s.stored != Type::i8 || s.multiplied == Multiplied::i8) {
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
EP_DEVICE void accumulate_fragments(const Step& s, const unsigned char* panel, int from, int count,
                                    Sum (&sums)[kTileRows / 8][4], Shared& shared) {
  const int span = s.multiplied == Multiplied::i8 ? 32 : 16;
  for (int tile = warp(); tile * span < count; tile += kWarps) {
    uint32_t a[4];
    load_fragment(s, panel, from / span + tile, a);
#pragma unroll
    for (int group = 0; group < kTileRows / 8; group++) {
      // b: the lane's row, its 32 bytes of this tile, the lane's word in each half.
      const unsigned char* row = shared.x + (group * 8 + lane() / 4) * kRowStride + tile * 32;
      const uint32_t* words = reinterpret_cast<const uint32_t*>(row) + lane() % 4;
      multiply_add(sums[group], a, words[0], words[4]);
    }
  }
}

// Calls emit(r, c, sum) for the calling thread's elements of rows of x (m, at most kTileRows) times one panel. A block
// owns the whole of k: its warps each take a part, and their sums are added in one order. is_loaded: x is in shared
// memory from the previous call.
template <bool kTensorCores, class Sum, class Left, class Emit>
EP_DEVICE void product_as(const Step& s, const unsigned char* panel, const float* scale, const float* x_scale,
                          const Left& left, int m, bool is_loaded, Shared& shared, Emit emit) {
  const int chunk = kRowBytes / bytes_of_x(s.multiplied);
  const bool uses_fragments = kTensorCores && s.multiplied != Multiplied::f32;
  Sum plain[kTileRows] = {}, fragments[kTileRows / 8][4] = {};
  if (s.normalizes && !is_loaded) measure_rows(left, m, s.k, s.epsilon, shared);
  for (int from = 0; from < s.k; from += chunk) {
    const int count = s.k - from < chunk ? s.k - from : chunk;
    if (!is_loaded) load_rows(s, x_scale, left, m, from, count, shared);
    wait_for_block();
    if (uses_fragments) accumulate_fragments(s, panel, from, count, fragments, shared);
    else accumulate_plainly(s, panel, from, count, plain, shared);
    wait_for_block();
  }
  Sum* sums = reinterpret_cast<Sum*>(shared.sums[warp()]);
  if (uses_fragments) {
    for (int group = 0; group < kTileRows / 8; group++)
      for (int e = 0; e < 4; e++)
        sums[(group * 8 + lane() % 4 * 2 + e % 2) * kSumStride + lane() / 4 + e / 2 * 8] = fragments[group][e];
  } else {
    for (int r = 0; r < kTileRows; r++) {
      const Sum both = plain[r] + from_lane(plain[r], lane() ^ 16);  // a warp has two slices
      if (lane() < kPanelColumns) sums[r * kSumStride + lane()] = both;
    }
  }
  wait_for_block();
  for (int i = threadIdx.x; i < m * kPanelColumns; i += kThreads) {
    const int r = i / kPanelColumns, c = i % kPanelColumns;
    Sum total = 0;
    for (int w = 0; w < kWarps; w++) total += reinterpret_cast<const Sum*>(shared.sums[w])[r * kSumStride + c];
    float value = (float)total;
    if (scale) value *= scale[c];
    if (s.multiplied == Multiplied::i8) value += shared.broken[r];
    emit(r, c, value);
  }
}

template <bool kTensorCores, class Left, class Emit>
EP_DEVICE void product(const Step& s, const unsigned char* panel, const float* scale, const float* x_scale,
                       const Left& left, int m, bool is_loaded, Shared& shared, Emit emit) {
  if (s.multiplied == Multiplied::i8)
    product_as<kTensorCores, int>(s, panel, scale, x_scale, left, m, is_loaded, shared, emit);
  else product_as<kTensorCores, float>(s, panel, scale, x_scale, left, m, is_loaded, shared, emit);
}

// linear, and conv as a linear of its taps side by side. An item: kTileRows rows times one panel of 16 columns.
template <bool kTensorCores>
EP_DEVICE void linear(const Launch& launch, const Step& s, Shared& shared) {
  const int m = launch.people * s.rows, panels = s.ldb / kPanelColumns, tiles = (m + kTileRows - 1) / kTileRows;
  const bool fits = s.k * bytes_of_x(s.multiplied) <= kRowBytes;
  const unsigned char* weights = constants<unsigned char>(launch, s.weight);
  const float *bias = constants<float>(launch, s.bias), *scales = constants<float>(launch, s.scale);
  const float *x_scale = constants<float>(launch, s.x_scale),
              *x = s.source == Source::rows ? rows(launch, s.x) : nullptr;
  const Items mine((long)tiles * panels);
  int loaded = -1;
  for (long item = mine.first; item < mine.last; item++) {
    const int tile = (int)(item / panels), panel = (int)(item % panels), first = tile * kTileRows,
              c0 = panel * kPanelColumns;
    const int count = m - first < kTileRows ? m - first : kTileRows;
    const auto run = [&](const auto& left) {
      product<kTensorCores>(s, weights + panel * s.panel, scales ? scales + c0 : nullptr, x_scale, left, count,
                            fits && tile == loaded, shared, [&](int r, int c, float sum) {
                              if (c0 + c < s.columns)
                                store(launch, s, first + r, c0 + c, activate(sum + bias[c0 + c], s.activation));
                            });
    };
    if (s.source != Source::rows) run(InputRows{launch, s.source == Source::frames, first});
    else if (s.op == Op::conv) run(TapRows{x, s, first, s.k / s.taps});
    else run(PlainRows{x + (long)first * s.ldx, s.ldx});
    loaded = tile;
    wait_for_block();  // before the next rows: until all have read `broken`
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
      const unsigned char* weights =
          constants<unsigned char>(launch, s.weight) + panel * s.panel + group * (s.panel / s.groups);
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
      store(launch, s, person * s.rows + joint, c0 + c,
            activate(sum + bias[(long)joint * s.ldb + c0 + c], s.activation));
    }
  }
}

}  // namespace edgepose::cuda
