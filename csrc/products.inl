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

// Rows of numbers from 0 to 255, written by round_rows(); zero[r] is the zero point of row r.
struct RoundedRows {
  rounded* x;
  int32_t* zero;
  long ld;
  EP_INLINE RoundedRows from(int row) const { return {x + row * ld, zero + row, ld}; }
};
// Rows of 16-bit numbers: 256 * high + low.
struct SplitRows {
  RoundedRows high, low;
  EP_INLINE SplitRows from(int row) const { return {high.from(row), low.from(row)}; }
};

// How far ahead of their use the weights are fetched, in weights: 128 steps of k. One thread, ampose-l, whose weights
// do not fit the caches: 8.2 ms without, 5.4 ms with (float32; half precision 6.9 and 5.3). To L2: straight to L1
// gave 6.4 ms.
constexpr int kAhead = 128 * kPanel;
constexpr int kAheadDots = 4 * kAhead / 2;  // for weights multiplied in 8 bits: 64 steps of 4

// sums[P][R][panel] = left[R,k] @ P packed panels `stride` weights apart. All sums stay in registers; the sum over k
// runs from 0 upwards.
template <int R, int P, class Left, class Weight>
EP_INLINE void tile(const Left& left, const Weight* __restrict w, long stride, int k, vf (&sums)[P][R][kVectors]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) sums[p][r][v] = vf{};
  // Rows: one pointer per three rows, the others at a scaled index from it, so that 17 rows need 6 registers.
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

// The same in integers, exact; a panel of w begins with the sums of its columns.
template <int R, int P>
EP_INLINE void tile(const RoundedRows& left, const int8_t* __restrict w, long stride, int k,
                    vf (&sums)[P][R][kVectors]) {
  vi dots[P][R][kDots];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int v = 0; v < kDots; v++) dots[p][r][v] = vi{};
  const int8_t* weight_sums = w;
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
  for (int p = 0; p < P; p++) {
    vi weights[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) weights[v] = (vi)load((const float*)(weight_sums + p * stride) + v * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) columns_of(dots[p][r], left.zero[r], weights, sums[p][r]);
  }
}

// Adds two int32 sums as float32: as one int32 the total could overflow.
template <int R, int P>
EP_INLINE void tile(const SplitRows& left, const int8_t* __restrict w, long stride, int k, vf (&sums)[P][R][kVectors]) {
  vf high[P][R][kVectors];
  tile<R, P>(left.high, w, stride, k, high);
  tile<R, P>(left.low, w, stride, k, sums);
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) sums[p][r][v] += 256.f * high[p][r][v];
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

// Writes a product's rows: y = activation(product + b) + residual, the first `columns` of a panel, vector v of it.
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

// Writes the product unchanged: z[rows][kPanel].
struct PlainOut {
  float* z;
  int ldz;
  EP_INLINE void write(int r, int v, vf sum) const { store(z + (long)r * ldz + v * kLanes, sum); }
};

// Dequantises the sums of 8-bit numbers.
template <class Out>
struct ScaledOut {
  Out out;
  const float* scale;
  const float* steps;  // the rows' steps; null where x was not rounded
  EP_INLINE ScaledOut after(int panels) const { return {out.after(panels), scale + panels * kPanel, steps}; }
  EP_INLINE void write(int r, int v, vf sum) const {
    vf value = sum * load(scale + v * kLanes);
    if (steps) value *= steps[r];
    EP_KEEP(value);  // rounded here: fused with the bias in one place and not in another, rows would differ with their
                     // number
    out.write(r, v, value);
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
template <>
constexpr int kRowsOf<SplitRows> = kDotRows;

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

// The same, P panels at once while P are left; returns the panels left. With so few rows one panel at a time would
// leave the adders idle: one row of martinez takes 0.33 ms so.
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

// Rounds rows of x to integers as kernels.h says, zero up to a multiple of 4; 8 bits use `to.high` alone. step[m]: the
// row's step, NaN if the row has NaN or infinity, which integers would hide.
template <int kLevels>
void round_rows(const float* x, const SplitRows& to, float* step, long ldx, int m, int k) {
  for (int r = 0; r < m; r++, x += ldx) {
    vf top = {}, bottom = {}, nothing = {};
    for (int c = 0; c < k; c += kLanes) {
      const vf v = load_some(x + c, k - c);
      top = max(top, v), bottom = min(bottom, v);
      nothing += v * 0.f;
    }
    const float least = largest(-bottom), distance = largest(top) / kLevels + least / kLevels;
    const vf inverse = splat(distance < kLeastStep ? 0 : 1 / distance);
    const vi zero = round_product(splat(least), inverse) - kOrigin, levels = kLevels - vi{};
    step[r] = distance + sum(nothing);
    rounded *high = to.high.x + r * to.high.ld, *low = to.low.x + r * to.low.ld;
    if constexpr (kLevels == kLevels8) {
      to.high.zero[r] = zero[0] + kLeast;
    } else {
      to.high.zero[r] = (zero[0] >> 8) + kLeast, to.low.zero[r] = (zero[0] & 255) + kLeast;
    }
    for (int c = 0; c < k; c += kLanes) {
      // Never below 0: the least number of a row is rounded as zero is. Above `levels` where both ends are rounded
      // away.
      vi n = round_product(load_some(x + c, k - c), inverse) + (zero - kOrigin);
      n = n > levels ? levels : n;
      if constexpr (kLevels == kLevels8) {
        store_rounded(high + c, n);
      } else {
        store_rounded(high + c, n >> 8), store_rounded(low + c, n & 255);
      }
    }
  }
}

void linear(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
            int ldx, int ldy, int m, int k, int n, Activation activation) {
  const long stride = packed_panel(w.precision, k);
  const int panels = (n + kPanel - 1) / kPanel, ldr = rounded_ld(k);
  float steps[kBlockRows];
  int32_t zeros[2][kBlockRows];
  rounded* numbers = (rounded*)scratch;
  const SplitRows split = {{numbers, zeros[0], ldr}, {numbers + (long)kBlockRows * ldr, zeros[1], ldr}};
  for (int row = 0; row < m; row += kBlockRows) {
    const int rows = m - row < kBlockRows ? m - row : kBlockRows;
    const float* from = x + (long)row * ldx;
    const long at = (long)row * ldy;
    const LinearOut out = {b, residual ? residual + at : nullptr, y + at, ldy, n, activation};
    const int8_t* whole = (const int8_t*)w.packed;
    switch (w.precision) {
      case Precision::f32: products(Rows{from, ldx}, (const float*)w.packed, stride / 4, panels, rows, k, out); break;
      case Precision::f16:
        products(Rows{from, ldx}, (const uint16_t*)w.packed, stride / 2, panels, rows, k, out);
        break;
      case Precision::w8:
        products(Rows{from, ldx}, whole, stride, panels, rows, k, ScaledOut<LinearOut>{out, w.scale, nullptr});
        break;
      case Precision::i8:
        round_rows<kLevels8>(from, split, steps, ldx, rows, k);
        products(split.high, whole, stride, panels, rows, k, ScaledOut<LinearOut>{out, w.scale, steps});
        break;
      case Precision::i16:
        round_rows<kLevels16>(from, split, steps, ldx, rows, k);
        products(split, whole, stride, panels, rows, k, ScaledOut<LinearOut>{out, w.scale, steps});
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
  rounded* numbers = (rounded*)(scratch + (long)kGraphPeople * R * ldx);
  float steps[kGraphPeople * kGraphRows];
  int32_t zeros[2][kGraphPeople * kGraphRows];
  const SplitRows split = {{numbers, zeros[0], ldr}, {numbers + (long)kGraphPeople * R * ldr, zeros[1], ldr}};
  alignas(64) float z[kGraphPeople * kGraphRows * kPanel];
  for (int first = 0; first < people; first += kGraphPeople) {
    const int P = people - first < kGraphPeople ? people - first : kGraphPeople;
    const long at = (long)first * J;
    // Row r of person p lies at r * P + p: the rows of a group are one product for all people.
    for (int r = 0; r < R; r++)
      for (int p = 0; p < P; p++)
        gather_row(graph.gather, r, x + (at + p * J) * ldx, scratch + ((long)r * P + p) * ldx, ldx, k);
    if (w.precision == Precision::i8) round_rows<kLevels8>(scratch, split, steps, ldx, P * R, k);
    if (w.precision == Precision::i16) round_rows<kLevels16>(scratch, split, steps, ldx, P * R, k);
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
          case Precision::w8:
            product(left, (const int8_t*)panel, rows, k, ScaledOut<PlainOut>{out, scale, nullptr});
            break;
          case Precision::i8:
            product(split.high.from(row), (const int8_t*)panel, rows, k, ScaledOut<PlainOut>{out, scale, steps + row});
            break;
          case Precision::i16:
            product(split.from(row), (const int8_t*)panel, rows, k, ScaledOut<PlainOut>{out, scale, steps + row});
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
