// The CPU kernels, written once; contracts in kernels.h. No std:: here: an inline function compiled for one
// instruction set can be the copy the linker keeps for all.
namespace edgepose::EP_ISA {
namespace {

#include "products.inl"

void normalize(const float* x, float* y, int ldx, int ldy, int m, int n, float epsilon) {
  for (int r = 0; r < m; r++, x += ldx, y += ldy) {
    vf total = {}, squares = {};
    int c = 0;
    for (; c + kLanes <= n; c += kLanes) total += load(x + c);
    total += load(x + c, n - c);
    const float mean = sum(total) / (float)n;
    for (c = 0; c + kLanes <= n; c += kLanes) {
      const vf d = load(x + c) - mean;
      squares += d * d;
    }
    float tail = 0;
    for (int i = c; i < n; i++) tail += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.f / __builtin_sqrtf((sum(squares) + tail) / (float)n + epsilon);
    for (c = 0; c + kLanes <= n; c += kLanes) store(y + c, (load(x + c) - mean) * scale);
    if (c < n) store(y + c, (load(x + c, n - c) - mean) * scale, n - c);
  }
}

void add(const float* x, const float* c, float* y, int ldx, int ldc, int ldy, int m, int n) {
  for (int r = 0; r < m; r++, x += ldx, c += ldc, y += ldy) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i) + load(c + i));
    if (i < n) store(y + i, load(x + i, n - i) + load(c + i, n - i), n - i);
  }
}

void multiply(const float* x, const float* r, float* y, int ldx, int ldr, int ldy, int m, int n,
              Activation activation) {
  for (int row = 0; row < m; row++, x += ldx, r += ldr, y += ldy) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, activate(load(x + i) * load(r + i), activation));
    if (i < n) store(y + i, activate(load(x + i, n - i) * load(r + i, n - i), activation), n - i);
  }
}

void blend(float a, float b, const float* x, float* y, int ldx, int ldy, int m, int n) {
  for (int row = 0; row < m; row++, x += ldx, y += ldy) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, a * load(y + i) + b * load(x + i));
    if (i < n) store(y + i, a * load(y + i, n - i) + b * load(x + i, n - i), n - i);
  }
}

// Each column of x[n][kPanel] (rows ld apart) becomes its softmax.
EP_INLINE void softmax_columns(float* x, int n, int ld) {
  for (int v = 0; v < kPanel; v += kLanes) {
    vf top = load(x + v), total = {};
    for (int i = 1; i < n; i++) top = max(top, load(x + (long)i * ld + v));
    for (int i = 0; i < n; i++) {
      const vf e = exp(load(x + (long)i * ld + v) - top);
      total += e;
      store(x + (long)i * ld + v, e);
    }
    const vf scale = 1.f / total;
    for (int i = 0; i < n; i++) store(x + (long)i * ld + v, load(x + (long)i * ld + v) * scale);
  }
}

constexpr float kUnseen = -1e30f;  // the score of a masked key: its weight is below float32's last bit

// The scores are transposed, one query per lane, so that softmax runs down whole vectors. Sixteen queries share one
// range of keys; the keys that one of them may not see are masked for it.
void attention(const float* q, const float* k, const float* v, float* y, float* scratch,
               long ldx, long ldy, int tokens, int d, int before, int after) {
  const int dp = (d + kPanel - 1) / kPanel * kPanel;
  float* values = scratch;                        // [dp / 16][tokens][16]
  float* queries = values + (long)tokens * dp;    // [d][16]: 16 queries, packed like weights
  float* scores = queries + (long)d * kPanel;     // [keys][16]: how these 16 queries weigh each key
  for (int c = 0; c < dp; c += kLanes)
    for (int t = 0; t < tokens; t++)
      store(values + ((long)(c / kPanel) * tokens + t) * kPanel + c % kPanel, load(v + t * ldx + c, d - c));
  const vf zeros[kVectors] = {};
  for (int i = 0; i < d * kPanel; i++) queries[i] = 0;  // lanes past the last query: any finite numbers
  for (int first = 0; first < tokens; first += kPanel) {
    const int rows = tokens - first < kPanel ? tokens - first : kPanel;
    const int low = first > before ? first - before : 0;
    const int high = tokens - (first + rows) > after ? first + rows + after : tokens, keys = high - low;
    for (int t = 0; t < rows; t++)
      for (int i = 0; i < d; i++) queries[i * kPanel + t] = q[(first + t) * ldx + i];
    product<Floats<float>>(Rows{k + low * ldx, ldx}, queries, keys, d, PlainOut{scores, kPanel});
    for (int t = 0; t < rows; t++) {
      for (int key = low; key < first + t - before; key++) scores[(key - low) * kPanel + t] = kUnseen;
      for (int key = high; key-- > 0 && key - after > first + t;) scores[(key - low) * kPanel + t] = kUnseen;
    }
    softmax_columns(scores, keys, kPanel);
    for (int c = 0; c < d; c += kPanel)
      product<Floats<float, Columns>>(
          Columns{scores, kPanel}, values + (long)c * tokens + (long)low * kPanel, rows, keys,
          LinearOut{(const float*)zeros, nullptr, y + first * ldy + c, ldy, d - c, Activation::none});
  }
}

// One head's part of ring_attention: the frames 0, step, ... step (count - 1) back.
EP_INLINE void attend_ring(const float* q, const float* keys, int row, const Ring& ring, const float* place,
                           const float* age, float* y, int values, int d, int step, int count, int ages) {
  float top = kUnseen, total = 0;
  for (int c = 0; c < d; c++) y[c] = 0;
  for (int first = 0; first < count; first += kPanel) {
    const float* of[kPanel];  // null: not seen
    float weights[kPanel], best = kUnseen;
    for (int i = 0; i < kPanel; i++) {
      const int back = (first + i) * step;
      of[i] = nullptr, weights[i] = kUnseen;
      if (first + i >= count || place[back] < 0) continue;
      const int at = ring.newest - back;
      of[i] = keys + (long)(at < 0 ? at + ring.rows : at) * row;
      vf dot = {};
      for (int c = 0; c < d; c += kLanes) dot += load_some(q + c, d - c) * load_some(of[i] + c, d - c);
      const float last = (float)(ages - 1), p = place[back] < last ? place[back] : last;
      const int below = p < last ? (int)p : ages - 2;
      const float share = p - (float)below;
      weights[i] = sum(dot) + ((1 - share) * age[below] + share * age[below + 1]);
      best = weights[i] > best || weights[i] != weights[i] ? weights[i] : best;  // NaN stays
    }
    const float before = top;
    top = best > top || best != best ? best : top;
    vf sums = {};
    for (int v = 0; v < kPanel; v += kLanes) {
      const vf e = exp(load(weights + v) - top);
      store(weights + v, e);
      sums += e;
    }
    const float fade = exp(splat(before - top))[0];
    total = total * fade + sum(sums);
    for (int c = 0; c < d; c += kLanes) {
      vf mixed = load_some(y + c, d - c) * fade;
      for (int i = 0; i < kPanel; i++)
        if (of[i]) mixed += weights[i] * load_some(of[i] + values + c, d - c);
      store(y + c, mixed, d - c);
    }
  }
  for (int c = 0; c < d; c += kLanes) store(y + c, load_some(y + c, d - c) * (1.f / total), d - c);
}

void ring_attention(const float* q, const Ring& ring, const float* place, const float* age, float* y, int heads, int d,
                    int span, int count, int ages) {
  const int channels = heads * d;
  for (int h = 0; h < heads; h++) {
    const int step = h % 2 ? span : 1, seen = h % 2 ? count : span + 1;
    attend_ring(q + h * d, ring.keys_values + h * d, 2 * channels, ring, place, age + (long)h * ages, y + h * d,
                channels, d, step, seen, ages);
  }
}

constexpr int kProbes = 12;  // independent chains: more than latency times units, fewer than registers

long probe_flops(long n) {
  vf acc[kProbes];
#pragma GCC unroll 16
  for (int i = 0; i < kProbes; i++) acc[i] = splat((float)i);
  const vf a = splat(0.999f), b = splat(0.001f);
  for (long i = 0; i < n; i++)
#pragma GCC unroll 16
    for (int c = 0; c < kProbes; c++) {
      acc[c] = acc[c] * a + b;
      EP_KEEP(acc[c]);
    }
  return n * kProbes * kLanes * 2;
}

long probe_dots(long n) {
  vi sums[kProbes];
#pragma GCC unroll 16
  for (int i = 0; i < kProbes; i++) sums[i] = i - vi{};
  const vi a = 0x01010101 - vi{}, b = 0x02020202 - vi{};
  for (long i = 0; i < n; i++)
#pragma GCC unroll 16
    for (int c = 0; c < kProbes; c++) {
      sums[c] = dot(sums[c], a, b);
      EP_KEEP(sums[c]);
    }
  return n * kProbes * (kDotDepth * kDotTogether * kPanel / kDots) * 2;
}

long probe_read(const float* x, long n, long times) {
  vf seen[8] = {};
  for (long t = 0; t < times; t++)
    for (long i = 0; i + 8 * kLanes <= n; i += 8 * kLanes)
#pragma GCC unroll 8
      for (int c = 0; c < 8; c++) seen[c] += load(x + i + c * kLanes);
  for (int c = 1; c < 8; c++) seen[0] += seen[c];
  EP_KEEP(seen[0]);
  return times * (n / (8 * kLanes)) * 8 * kLanes * 4;
}

template <class M>
constexpr Product product_as() {
  if constexpr (M::kIsThere) return {M::kDepth, M::kHasLeftovers, linear<M>, graph_conv<M>};
  else return {};
}
#if defined(EP_NEON_FP16)
constexpr Product kHalves = product_as<Halves>();
#else
constexpr Product kHalves = {};
#endif

}  // namespace

extern const Kernels table;
const Kernels table = {
    EP_NAME,
    {// multiplied as float32, half precision, 8 bits, 16 bits
     {product_as<Floats<float>>(), {}, {}, {}},
     {product_as<Floats<uint16_t>>(), kHalves, {}, {}},
     {product_as<Floats<int8_t>>(), {}, product_as<Dots>(), product_as<SplitDots>()}},
    normalize, add, multiply, blend, attention, ring_attention, probe_flops, probe_dots, probe_read};

}  // namespace edgepose::EP_ISA
