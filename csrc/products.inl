// Products with packed weights: linear and graph_conv. Included by kernels.inl.
//
// A precision is a class M in one of the files multiply_*.inl, and a line of the table in kernels.inl:
//   kStored, Weight         how weights are stored: Type, and the type in C++
//   Left                    the rows of x as it multiplies them: `x`, the first, and from(r), those from row r on
//   prepare(x, ldx, m, k)   Left of m rows of float32; what a row needs beside its numbers goes into a Room
//   kHasScale, kHasSteps    what a sum is multiplied by: its column's scale, its row's step
//   kRows                   rows of a tile, as many as the registers hold
//   tile<R, P>              sums[P][R][panel] = left[R,k] @ P packed panels, `stride` weights apart
// and what add_products() makes tiles of:
//   Vector, kSums           the type of a sum, and how many there are for a panel and kTogether rows
//   kDepth, kAhead          numbers of k in a step of a sum; how far ahead weights are fetched, in weights
//   weights(w, v)           the weights of sum v
//   at<R>(left, row, r, i)  numbers i .. i + kDepth of rows r .. r + kTogether, repeated as the weights need them
//   add(sum, x, w)          sum + x w

// Memory for rows that are rounded: `rows` rows of numbers, each with its step and, for each half of a 16-bit number, a
// zero point.
struct Room {
  void* numbers;
  int rows;
  float* step;
  int32_t* zero;  // (2, rows)
};

template <class M, int R>
constexpr int kGroups = (R + M::kTogether - 1) / M::kTogether;

// Adds left[R,k] @ P packed panels to sums. All sums stay in registers; the sum over k runs from 0 upwards.
template <class M, int R, int P>
EP_INLINE void add_products(const typename M::Left& left, const typename M::Weight* __restrict w, long stride, int k,
                            typename M::Vector (&sums)[P][kGroups<M, R>][M::kSums]) {
  // One pointer per three rows, the others at a scaled index from it, so that 17 rows need 6 registers.
  decltype(left.x) row[(R + 2) / 3];
#pragma GCC unroll 32
  for (int r = 0; r < (R + 2) / 3; r++) row[r] = left.from(3 * r).x;
  for (int i = 0; i < k; i += M::kDepth, w += M::kDepth * kPanel) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      prefetch(w + p * stride + M::kAhead);
      typename M::Vector wv[M::kSums];
#pragma GCC unroll 8
      for (int v = 0; v < M::kSums; v++) wv[v] = M::weights(w + p * stride, v);
#pragma GCC unroll 32
      for (int g = 0; g < kGroups<M, R>; g++) {
        const typename M::Vector x = M::template at<R>(left, row, g * M::kTogether, i);
#pragma GCC unroll 8
        for (int v = 0; v < M::kSums; v++) sums[p][g][v] = M::add(sums[p][g][v], x, wv[v]);
      }
    }
  }
}

template <class Vector, int P, int G, int S>
EP_INLINE void set_to_zero(Vector (&sums)[P][G][S]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 32
    for (int g = 0; g < G; g++)
#pragma GCC unroll 8
      for (int v = 0; v < S; v++) sums[p][g][v] = Vector{};
}

#include "multiply_floats.inl"
#include "multiply_whole.inl"
#if defined(EP_NEON_FP16)
#include "multiply_halves.inl"
#endif

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
// write<true> has the activations that are long, write<false> the others.
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
  EP_INLINE bool is_long() const { return activation == Activation::gelu || activation == Activation::sigmoid; }
  template <bool kIsLong>
  EP_INLINE void write(int r, int v, vf sum) const {
    const long at = r * ldy + v * kLanes;
    const int n = columns - v * kLanes;
    vf value = sum + load(b + v * kLanes);
    if constexpr (kIsLong) value = activation == Activation::gelu ? gelu(value) : sigmoid(value);
    else if (activation == Activation::relu) value = max(value, vf{});
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
  EP_INLINE bool is_long() const { return false; }
  template <bool>
  EP_INLINE void write(int r, int v, vf sum) const { store(z + (long)r * ldz + v * kLanes, sum); }
};

// Multiplies the sums by what M keeps apart from its numbers.
template <class M, class Out>
struct ScaledOut {
  Out out;
  const float* scale;
  const float* steps;
  EP_INLINE ScaledOut after(int panels) const {
    return {out.after(panels), M::kHasScale ? scale + panels * kPanel : nullptr, steps};
  }
  EP_INLINE bool is_long() const { return out.is_long(); }
  template <bool kIsLong>
  EP_INLINE void write(int r, int v, vf sum) const {
    if constexpr (M::kHasScale) sum *= load(scale + v * kLanes);
    if constexpr (M::kHasSteps) sum *= steps[r];
    // Rounded here: fused with the bias in one place and not in another, rows would differ with their number.
    if constexpr (M::kHasScale || M::kHasSteps) EP_KEEP(sum);
    out.template write<kIsLong>(r, v, sum);
  }
};

// Rolled loops: unrolled, they would be most of the code and of the time to compile it. An activation outside of them,
// not inside: inside it made ampose 1.5 % slower.
template <bool kIsLong, int R, int P, class Out>
EP_INLINE void write_rows(const vf (&sums)[P][R][kVectors], int row, const Out& out) {
  for (int p = 0; p < P; p++)
#pragma GCC unroll 1
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) out.template write<kIsLong>(row + r, p * kVectors + v, sums[p][r][v]);
}

template <class M, int R, int P, class Out>
void product_tile(const typename M::Left& left, const typename M::Weight* w, long stride, int k, int row,
                  const Out& out) {
  vf sums[P][R][kVectors];
  M::template tile<R, P>(left.from(row), w, stride, k, sums);
  if (out.is_long()) write_rows<true>(sums, row, out);
  else write_rows<false>(sums, row, out);
}

template <class M, int R, int P, class Out>
EP_INLINE void product_rows(int rows, const typename M::Left& left, const typename M::Weight* w, long stride, int k,
                            int row, const Out& out) {
  if (rows == R) product_tile<M, R, P>(left, w, stride, k, row, out);
  else if constexpr (R > 1) product_rows<M, R - 1, P>(rows, left, w, stride, k, row, out);
}

// out = left[m,k] @ one packed panel, in tiles of nearly equal height.
template <class M, class Out>
void product(const typename M::Left& left, const typename M::Weight* w, int m, int k, const Out& out) {
  const int tiles = (m + M::kRows - 1) / M::kRows;
  for (int t = 0; t < tiles; t++) {
    const int row = (int)((long)m * t / tiles), next = (int)((long)m * (t + 1) / tiles);
    product_rows<M, M::kRows, 1>(next - row, left, w, 0, k, row, out);
  }
}

// The same, P panels at once while P are left; returns the panels left. With so few rows one panel at a time would
// leave the adders idle: one row of martinez takes 0.33 ms so.
template <class M, int P, class Out>
EP_INLINE int products_of_few(const typename M::Left& left, const typename M::Weight*& w, long stride, int panels,
                              int m, int k, Out& out) {
  constexpr int kRows = M::kRows / M::kTogether / P * M::kTogether;
  if constexpr (kRows > 0)
    if (m <= kRows)
      for (; panels >= P; panels -= P, w += P * stride, out = out.after(P))
        product_rows<M, kRows, P>(m, left, w, stride, k, 0, out);
  return panels;
}

// out = left[m,k] @ packed panels `stride` weights apart.
template <class M, class Out>
EP_INLINE void products(const typename M::Left& left, const typename M::Weight* w, long stride, int panels, int m,
                        int k, Out out) {
  panels = products_of_few<M, 4>(left, w, stride, panels, m, k, out);
  panels = products_of_few<M, 2>(left, w, stride, panels, m, k, out);
  for (; panels > 0; panels--, w += stride, out = out.after(1)) product<M>(left, w, m, k, out);
}

template <class M>
void linear(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
            int ldx, int ldy, int m, int k, int n, Activation activation) {
  const long stride = w.part / (long)sizeof(typename M::Weight);
  const int panels = (n + kPanel - 1) / kPanel;
  float steps[kBlockRows];
  int32_t zeros[2 * kBlockRows];
  for (int row = 0; row < m; row += kBlockRows) {
    const int rows = m - row < kBlockRows ? m - row : kBlockRows;
    const long at = (long)row * ldy;
    const LinearOut out = {b, residual ? residual + at : nullptr, y + at, ldy, n, activation};
    const auto left = M::prepare(x + (long)row * ldx, ldx, rows, k, Room{scratch, kBlockRows, steps, zeros});
    products<M>(left, (const typename M::Weight*)w.packed, stride, panels, rows, k,
                ScaledOut<M, LinearOut>{out, w.scale, steps});
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

template <class M>
void graph_conv(const float* x, const Weights& w, const float* b, const float* residual, float* y, float* scratch,
                const Graph& graph, int ldx, int ldy, int ldb, int people, int k, int n, Activation activation) {
  const int J = graph.joints, R = graph.rows[graph.groups];
  const long stride = w.part / (long)sizeof(typename M::Weight);
  float steps[kGraphPeople * kGraphRows];
  int32_t zeros[2 * kGraphPeople * kGraphRows];
  const Room room = {scratch + (long)kGraphPeople * R * ldx, kGraphPeople * R, steps, zeros};
  alignas(64) float z[kGraphPeople * kGraphRows * kPanel];
  for (int first = 0; first < people; first += kGraphPeople) {
    const int P = people - first < kGraphPeople ? people - first : kGraphPeople;
    const long at = (long)first * J;
    // Row r of person p lies at r * P + p: the rows of a group are one product for all people.
    for (int r = 0; r < R; r++)
      for (int p = 0; p < P; p++)
        gather_row(graph.gather, r, x + (at + p * J) * ldx, scratch + ((long)r * P + p) * ldx, ldx, k);
    const auto left = M::prepare(scratch, ldx, P * R, k, room);
    for (int c = 0; c < n; c += kPanel) {
      for (int g = 0; g < graph.groups; g++) {
        const int row = P * graph.rows[g], rows = P * graph.rows[g + 1] - row;
        const auto* panel = (const typename M::Weight*)w.packed + ((long)c / kPanel * graph.groups + g) * stride;
        product<M>(left.from(row), panel, rows, k,
                   ScaledOut<M, PlainOut>{{z + row * kPanel, kPanel},
                                          M::kHasScale ? w.scale + (long)g * ldb + c : nullptr, steps + row});
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
            if (out.is_long()) out.write<true>(0, v, s);
            else out.write<false>(0, v, s);
          }
        }
    }
  }
}
