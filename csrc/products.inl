// Products with packed weights: linear and graph_conv, in every precision. Included by kernels.inl.

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

// Rows in eight bits, as round_rows() left them.
struct RoundedRows {
  const rounded* x;
  long ld;
  EP_INLINE RoundedRows from(int row) const { return {x + row * ld, ld}; }
};

// How far ahead of their use the weights are fetched, in weights: 128 steps of k. One thread, ampose-l, whose weights do not
// fit the caches: 8.2 ms without, 5.4 ms with (float32; half precision 6.9 and 5.3). To L2: straight to L1 gave 6.4 ms.
constexpr int kAhead = 128 * kPanel;
constexpr int kAheadDots = 4 * kAhead / 2;  // of weights that are multiplied in eight bits, 64 steps of 4

// sums[P][R][panel] = left[R,k] @ P packed panels `stride` weights apart. The registers hold it all; the sum over k runs from 0
// upwards.
template <int R, int P, class Left, class Weight>
EP_INLINE void tile(const Left& left, const Weight* __restrict w, long stride, int k, vf (&sums)[P][R][kVectors]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) sums[p][r][v] = vf{};
  // Rows: one pointer a three rows, the rows between a scaled index away, so that 17 rows need 6 registers.
  const float* row[(R + 2) / 3];
#pragma GCC unroll 32
  for (int r = 0; r < (R + 2) / 3; r++) row[r] = left.from(3 * r).x;
  for (int i = 0; i < k; i++, w += kPanel) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      prefetch(w + p * stride + kAhead);
      vf wv[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) wv[v] = load(w + p * stride + v * kLanes);
#pragma GCC unroll 32
      for (int r = 0; r < R; r++) {
        const vf xr = splat(left.at(row[r / 3], r % 3, i));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) sums[p][r][v] += xr * wv[v];
      }
    }
  }
}

// The same in whole numbers, exact; a panel of w begins with the starts of its sums.
template <int R, int P>
EP_INLINE void tile(const RoundedRows& left, const int8_t* __restrict w, long stride, int k, vf (&sums)[P][R][kVectors]) {
  vi dots[P][R][kDots];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int v = 0; v < kDots; v++) {
        if constexpr (kZero != 0) dots[p][r][v] = load_dots(w + p * stride);  // one vector a panel
        else dots[p][r][v] = vi{};
      }
  const rounded* row[(R + 2) / 3];
#pragma GCC unroll 32
  for (int r = 0; r < (R + 2) / 3; r++) row[r] = left.from(3 * r).x;
  w += 4 * kPanel;
  for (int i = 0; i < k; i += 4, w += 4 * kPanel) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      prefetch(w + p * stride + kAheadDots);
      vi wv[kDots];
#pragma GCC unroll 8
      for (int v = 0; v < kDots; v++) wv[v] = load_dots(w + p * stride + v * kDotBytes);
#pragma GCC unroll 32
      for (int r = 0; r < R; r++) {
        const vi xr = splat4(row[r / 3] + r % 3 * left.ld + i);
#pragma GCC unroll 8
        for (int v = 0; v < kDots; v++) dots[p][r][v] = dot4(dots[p][r][v], xr, wv[v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) columns_of(dots[p][r], sums[p][r]);
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

// Where a product's rows go: y = activation(product + b) + residual, the first `columns` of a panel; vector v of it.
struct LinearOut {
  const float* b;
  const float* residual;
  float* y;
  long ldy;
  int columns;
  Activation activation;
  EP_INLINE LinearOut after(int panels) const {
    const int c = panels * kPanel;
    return {b + c, residual ? residual + c : nullptr, y + c, ldy, columns - c, activation};
  }
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

// The sums of eight-bit numbers, brought back to what they stand for.
template <class Out>
struct ScaledOut {
  Out out;
  const float* scale;
  const float* broken;  // of round_rows; null where x was not rounded
  EP_INLINE ScaledOut after(int panels) const { return {out.after(panels), scale + panels * kPanel, broken}; }
  EP_INLINE void write(int r, int v, vf sum) const {
    vf value = sum * load(scale + v * kLanes);
    EP_KEEP(value);  // rounded here: fused with the bias in one place and not in another, rows would differ with their number
    out.write(r, v, broken ? value + broken[r] : value);
  }
};

template <int R, int P, class Left, class Weight, class Out>
void product_tile(const Left& left, const Weight* w, long stride, int k, int row, const Out& out) {
  vf sums[P][R][kVectors];
  tile<R, P>(left.from(row), w, stride, k, sums);
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) out.write(row + r, p * kVectors + v, sums[p][r][v]);
}

template <int R, int P, class Left, class Weight, class Out>
EP_INLINE void product_rows(int rows, const Left& left, const Weight* w, long stride, int k, int row, const Out& out) {
  if (rows == R) product_tile<R, P>(left, w, stride, k, row, out);
  else if constexpr (R > 1) product_rows<R - 1, P>(rows, left, w, stride, k, row, out);
}

template <class Left>
constexpr int kRowsOf = kTileRows;
template <>
constexpr int kRowsOf<RoundedRows> = kDotRows;

// out = left[m,k] @ one packed panel, in tiles of nearly equal height.
template <class Left, class Weight, class Out>
void product(const Left& left, const Weight* w, int m, int k, const Out& out) {
  constexpr int kRows = kRowsOf<Left>;
  const int tiles = (m + kRows - 1) / kRows;
  for (int t = 0; t < tiles; t++) {
    const int row = (int)((long)m * t / tiles), next = (int)((long)m * (t + 1) / tiles);
    product_rows<kRows, 1>(next - row, left, w, 0, k, row, out);
  }
}

// The same, P panels at once while there are as many; the panels left. So few rows leave a processor's adders waiting for each
// other: one row of martinez, 0.33 ms a panel at a time.
template <int P, class Left, class Weight, class Out>
EP_INLINE int products_of_few(const Left& left, const Weight*& w, long stride, int panels, int m, int k, Out& out) {
  constexpr int kRows = kRowsOf<Left> / P;
  if constexpr (kRows > 0)
    if (m <= kRows)
      for (; panels >= P; panels -= P, w += P * stride, out = out.after(P))
        product_rows<kRows, P>(m, left, w, stride, k, 0, out);
  return panels;
}

// out = left[m,k] @ packed panels `stride` weights apart.
template <class Left, class Weight, class Out>
EP_INLINE void products(const Left& left, const Weight* w, long stride, int panels, int m, int k, Out out) {
  panels = products_of_few<4>(left, w, stride, panels, m, k, out);
  panels = products_of_few<2>(left, w, stride, panels, m, k, out);
  for (; panels > 0; panels--, w += stride, out = out.after(1)) product(left, w, m, k, out);
}

// y[m] = round(x * x_scale), row by row, up to the next whole 4 of k. broken[m] is NaN where a row's x is NaN or infinite, else 0: whole
// numbers would hide it.
void round_rows(const float* x, const float* x_scale, rounded* y, float* broken, long ldx, long ldy, int m, int k) {
  for (int r = 0; r < m; r++, x += ldx, y += ldy) {
    vf nothing = {};
    int c = 0;
    for (; c + kLanes <= k; c += kLanes) {
      const vf v = load(x + c);
      nothing += v - v;
      store_rounded(y + c, v * load(x_scale + c));
    }
    if (c < k) {
      const vf v = load(x + c, k - c);
      nothing += v - v;
      store_rounded(y + c, v * load(x_scale + c, k - c));
    }
    broken[r] = sum(nothing);
  }
}

void linear(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
            int ldx, int ldy, int m, int k, int n, Activation activation) {
  const long stride = packed_panel(w.precision, k);
  const int panels = (n + kPanel - 1) / kPanel, ldr = rounded_ld(k);
  float broken[kBlockRows];
  for (int row = 0; row < m; row += kBlockRows) {
    const int rows = m - row < kBlockRows ? m - row : kBlockRows;
    const float* from = x + (long)row * ldx;
    const long at = (long)row * ldy;
    const LinearOut out = {b, residual ? residual + at : nullptr, y + at, ldy, n, activation};
    switch (w.precision) {
      case Precision::f32: products(Rows{from, ldx}, (const float*)w.packed, stride / 4, panels, rows, k, out); break;
      case Precision::f16: products(Rows{from, ldx}, (const uint16_t*)w.packed, stride / 2, panels, rows, k, out); break;
      case Precision::w8:
        products(Rows{from, ldx}, (const int8_t*)w.packed, stride, panels, rows, k, ScaledOut<LinearOut>{out, w.scale, nullptr});
        break;
      case Precision::i8:
        round_rows(from, w.x_scale, (rounded*)scratch, broken, ldx, ldr, rows, k);
        products(RoundedRows{(const rounded*)scratch, ldr}, (const int8_t*)w.packed, stride, panels, rows, k,
                 ScaledOut<LinearOut>{out, w.scale, broken});
        break;
    }
  }
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

void graph_conv(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
                const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation) {
  const int J = graph.joints, R = graph.rows[graph.groups], ldr = rounded_ld(k);
  const long stride = packed_panel(w.precision, k);
  rounded* whole = (rounded*)(scratch + (long)kGraphPeople * R * ldx);
  float broken[kGraphPeople * kGraphRows];
  alignas(64) float z[kGraphPeople * kGraphRows * kPanel];
  for (int first = 0; first < people; first += kGraphPeople) {
    const int P = people - first < kGraphPeople ? people - first : kGraphPeople;
    const long at = (long)first * J;
    // Row r of person p lies at r * P + p: the rows of a group are one product for all people.
    for (int r = 0; r < R; r++)
      for (int p = 0; p < P; p++)
        gather_row(graph.gather, r, x + (at + p * J) * ldx, scratch + ((long)r * P + p) * ldx, ldx, k);
    if (w.precision == Precision::i8) round_rows(scratch, w.x_scale, whole, broken, ldx, ldr, P * R, k);
    for (int c = 0; c < n; c += kPanel) {
      for (int g = 0; g < graph.groups; g++) {
        const int row = P * graph.rows[g], rows = P * graph.rows[g + 1] - row;
        const void* panel = (const char*)w.packed + ((long)c / kPanel * graph.groups + g) * stride;
        const float* scale = w.scale ? w.scale + (long)g * ldb + c : nullptr;
        const Rows left = {scratch + (long)row * ldx, ldx};
        const PlainOut out = {z + row * kPanel, kPanel};
        switch (w.precision) {
          case Precision::f32: product(left, (const float*)panel, rows, k, out); break;
          case Precision::f16: product(left, (const uint16_t*)panel, rows, k, out); break;
          case Precision::w8: product(left, (const int8_t*)panel, rows, k, ScaledOut<PlainOut>{out, scale, nullptr}); break;
          case Precision::i8:
            product(RoundedRows{whole + (long)row * ldr, ldr}, (const int8_t*)panel, rows, k,
                    ScaledOut<PlainOut>{out, scale, broken + row});
            break;
        }
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
