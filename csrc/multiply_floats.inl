// Products of float32 numbers. Included by products.inl.

// The left side: element (r, i) of Rows is x[r * ld + i], of Columns x[i * ld + r].
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

// Weights of float32, half precision (uint16_t) or eight bits, widened as they are read.
template <class Stored, class From = Rows>
struct Floats {
  using Left = From;
  using Weight = Stored;
  using Vector = vf;
  static constexpr Type kStored = sizeof(Stored) == 4 ? Type::f32 : sizeof(Stored) == 2 ? Type::f16 : Type::i8;
  static constexpr bool kIsThere = kStored != Type::f16 || kHasHalf;
  static constexpr bool kHasScale = kStored == Type::i8, kHasSteps = false, kHasLeftovers = false;
  static constexpr int kRows = kTileRows, kTogether = 1, kSums = kVectors, kDepth = 1;
  // 128 steps of k. One thread, ampose-l, whose weights do not fit the caches: 8.2 ms without, 5.4 ms with (float32;
  // half precision 6.9 and 5.3). To L2: straight to L1 gave 6.4 ms.
  static constexpr int kAhead = 128 * kPanel;

  EP_INLINE static Left prepare(const float* x, long ldx, int, int, const Room&) { return {x, ldx}; }
  EP_INLINE static vf weights(const Stored* w, int v) { return load(w + v * kLanes); }
  template <int R>
  EP_INLINE static vf at(const Left& left, const float* const* row, int r, int i) {
    return splat(left.at(row[r / 3], r % 3, i));
  }
  EP_INLINE static vf add(vf sum, vf x, vf w) { return sum + x * w; }

  template <int R, int P>
  EP_INLINE static void tile(const Left& left, const Stored* w, long stride, int k, vf (&sums)[P][R][kVectors]) {
    set_to_zero(sums);
    add_products<Floats, R, P>(left, w, stride, k, sums);
  }
};
