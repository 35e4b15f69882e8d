// The CPU kernels, written once; contracts in kernels.h. No std:: here: an inline function compiled for one
// instruction set can be the copy the linker keeps for all.
namespace edgepose::EP_ISA {
namespace {

// How a product reads its left side: element (r, i) of Rows is x[r * ld + i], of Columns x[i * ld + r].
struct Rows {
  const float* x;
  long ld;
  EP_INLINE Rows from(int row) const { return {x + row * ld, ld}; }
  EP_INLINE float at(const float* row, int r, int i) const { return row[r * ld + i]; }
};
struct Columns {
  const float* x;
  long ld;
  EP_INLINE Columns from(int row) const { return {x + row, ld}; }
  EP_INLINE float at(const float* row, int r, int i) const { return row[i * ld + r]; }
};

// How far ahead of their use the weights are fetched, in weights: 128 steps of k. One thread, ampose-l, whose weights do not
// fit the caches: 8.2 ms without, 5.4 ms with (float32; half precision 6.9 and 5.3). To L2: straight to L1 gave 6.4 ms.
constexpr int kAhead = 128 * kPanel;

// acc[R][kPanel] = left[R,k] @ one packed panel. The registers hold it all; the sum over k runs from 0 upwards.
template <int R, class Left, class Weight>
EP_INLINE void tile(const Left& left, const Weight* __restrict w, int k, vf (&acc)[R][kVectors]) {
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) acc[r][v] = vf{};
  // Rows: one pointer a three rows, the rows between a scaled index away, so that 17 rows need 6 registers.
  const float* row[(R + 2) / 3];
#pragma GCC unroll 32
  for (int r = 0; r < (R + 2) / 3; r++) row[r] = left.from(3 * r).x;
  for (int i = 0; i < k; i++, w += kPanel) {
    prefetch(w + kAhead);
    vf wv[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) wv[v] = load(w + v * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const vf xr = splat(left.at(row[r / 3], r % 3, i));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) acc[r][v] += xr * wv[v];
    }
  }
}

EP_INLINE vf activate(vf x, Activation activation) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return max(x, vf{});
    case Activation::gelu: return gelu(x);
    case Activation::sigmoid: return sigmoid(x);
  }
  return x;
}

// Where a product's rows go: y = activation(product + b) + residual, the first `columns` of a panel.
struct LinearOut {
  const float* b;
  const float* residual;
  float* y;
  long ldy;
  int columns;
  Activation activation;
  EP_INLINE void write(int r, int v, vf sum) const {
    const long at = r * ldy + v * kLanes;
    const int n = columns - v * kLanes;
    vf value = activate(sum + load(b + v * kLanes), activation);
    if (n >= kLanes) {
      if (residual) value += load(residual + at);
      store(y + at, value);
    } else {
      if (residual) value += load(residual + at, n);
      store(y + at, value, n);
    }
  }
};

// A packed panel times rows, left as it is: z[rows][kPanel].
struct PlainOut {
  float* z;
  int ldz;
  EP_INLINE void write(int r, int v, vf sum) const { store(z + (long)r * ldz + v * kLanes, sum); }
};

template <int R, class Left, class Weight, class Out>
void product_tile(const Left& left, const Weight* w, int k, int row, const Out& out) {
  vf acc[R][kVectors];
  tile<R>(left.from(row), w, k, acc);
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) out.write(row + r, v, acc[r][v]);
}

template <int R, class Left, class Weight, class Out>
EP_INLINE void product_rows(int rows, const Left& left, const Weight* w, int k, int row, const Out& out) {
  if (rows == R) product_tile<R>(left, w, k, row, out);
  else if constexpr (R > 1) product_rows<R - 1>(rows, left, w, k, row, out);
}

// out = left[m,k] @ one packed panel, in tiles of nearly equal height.
template <class Left, class Weight, class Out>
void product(const Left& left, const Weight* w, int m, int k, const Out& out) {
  const int tiles = (m + kTileRows - 1) / kTileRows;
  for (int t = 0; t < tiles; t++) {
    const int row = (int)((long)m * t / tiles), next = (int)((long)m * (t + 1) / tiles);
    product_rows<kTileRows>(next - row, left, w, k, row, out);
  }
}

constexpr int kBlockRows = 8 * 17;  // 136 rows of 512 floats are 272 KiB: they stay in L2 while the weights pass by

template <class Weight>
void linear_any(const float* x, const Weight* w, const float* b, const float* residual, float* y,
                int ldx, int ldy, int m, int k, int n, Activation activation) {
  for (int row = 0; row < m; row += kBlockRows) {
    const int rows = m - row < kBlockRows ? m - row : kBlockRows;
    const long at = (long)row * ldy;
    for (int c = 0; c < n; c += kPanel) {
      const LinearOut out = {b + c, residual ? residual + at + c : nullptr, y + at + c, ldy, n - c, activation};
      product(Rows{x + (long)row * ldx, ldx}, w + (long)c * k, rows, k, out);
    }
  }
}

void linear(const float* x, const float* w, const float* b, const float* residual, float* y,
            int ldx, int ldy, int m, int k, int n, Activation activation) {
  linear_any(x, w, b, residual, y, ldx, ldy, m, k, n, activation);
}

void linear_f16(const float* x, const uint16_t* w, const float* b, const float* residual, float* y,
                int ldx, int ldy, int m, int k, int n, Activation activation) {
  linear_any(x, w, b, residual, y, ldx, ldy, m, k, n, activation);
}

// to[0..n) = sum of the source rows of entry i.
EP_INLINE void gather_row(const Sums& sums, int i, const float* from, float* to, int ld, int n) {
  int c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    vf s = {};
    for (int e = sums.start[i]; e < sums.start[i + 1]; e++)
      s += sums.coefficient[e] * load(from + (long)sums.index[e] * ld + c);
    store(to + c, s);
  }
  if (c == n) return;
  vf s = {};
  for (int e = sums.start[i]; e < sums.start[i + 1]; e++)
    s += sums.coefficient[e] * load(from + (long)sums.index[e] * ld + c, n - c);
  store(to + c, s, n - c);
}

template <class Weight>
void graph_conv_any(const float* x, const Weight* w, const float* b, const float* residual, float* y, float* scratch,
                    const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation) {
  const int J = graph.joints;
  alignas(64) float z[kGraphPeople * kGraphRows * kPanel];
  for (int first = 0; first < people; first += kGraphPeople) {
    const int P = people - first < kGraphPeople ? people - first : kGraphPeople;
    const long at = (long)first * J;
    // Row r of person p lies at r * P + p: the rows of a group are one product for all people.
    for (int r = 0; r < graph.rows[graph.groups]; r++)
      for (int p = 0; p < P; p++)
        gather_row(graph.gather, r, x + (at + p * J) * ldx, scratch + ((long)r * P + p) * ldx, ldx, k);
    for (int c = 0; c < n; c += kPanel) {
      const Weight* panel = w + (long)c * k * graph.groups;
      for (int g = 0; g < graph.groups; g++) {
        const int row = P * graph.rows[g], rows = P * (graph.rows[g + 1] - graph.rows[g]);
        product(Rows{scratch + (long)row * ldx, ldx}, panel + (long)g * k * kPanel, rows, k,
                PlainOut{z + row * kPanel, kPanel});
      }
      for (int p = 0; p < P; p++)
        for (int j = 0; j < J; j++) {
          const long row = at + p * J + j;
          const LinearOut out = {b + (long)j * ldb + c, residual ? residual + row * ldy + c : nullptr,
                                 y + row * ldy + c, ldy, n - c, activation};
          for (int v = 0; v < kVectors; v++) {
            vf s = {};
            for (int e = graph.scatter.start[j]; e < graph.scatter.start[j + 1]; e++)
              s += graph.scatter.coefficient[e] * load(z + (graph.scatter.index[e] * P + p) * kPanel + v * kLanes);
            out.write(0, v, s);
          }
        }
    }
  }
}

void graph_conv(const float* x, const float* w, const float* b, const float* residual, float* y, float* scratch,
                const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation) {
  graph_conv_any(x, w, b, residual, y, scratch, graph, ldx, ldy, ldb, people, k, n, activation);
}

void graph_conv_f16(const float* x, const uint16_t* w, const float* b, const float* residual, float* y, float* scratch,
                    const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation) {
  graph_conv_any(x, w, b, residual, y, scratch, graph, ldx, ldy, ldb, people, k, n, activation);
}

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

void multiply(const float* x, const float* r, float* y, int ldx, int ldr, int ldy, int m, int n, Activation activation) {
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

constexpr float kUnseen = -1e30f;  // the score of a key out of a query's sight: its weight is below the last bit

// The scores stand transposed, a query a lane, so that softmax runs down whole vectors. Sixteen queries look at one range of
// keys, and what of it is out of the sight of one of them is masked.
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
    product(Rows{k + low * ldx, ldx}, queries, keys, d, PlainOut{scores, kPanel});
    for (int t = 0; t < rows; t++) {
      for (int key = low; key < first + t - before; key++) scores[(key - low) * kPanel + t] = kUnseen;
      for (int key = high; key-- > 0 && key - after > first + t;) scores[(key - low) * kPanel + t] = kUnseen;
    }
    softmax_columns(scores, keys, kPanel);
    for (int c = 0; c < d; c += kPanel)
      product(Columns{scores, kPanel}, values + (long)c * tokens + (long)low * kPanel, rows, keys,
              LinearOut{(const float*)zeros, nullptr, y + first * ldy + c, ldy, d - c, Activation::none});
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

}  // namespace

extern const Kernels table;
const Kernels table = {EP_NAME, kHasHalf, linear, linear_f16, graph_conv, graph_conv_f16, normalize, add, multiply,
                       blend, attention, probe_flops, probe_read};

}  // namespace edgepose::EP_ISA
