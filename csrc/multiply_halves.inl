// Products in half precision, of sums of kHalfRun numbers that are added up in float32. Included by products.inl.

// Rows of half-precision numbers, written by halve_rows().
struct HalfRows {
  const uint16_t* x;
  long ld;
  EP_INLINE HalfRows from(int row) const { return {x + row * ld, ld}; }
};

// Rounds rows of x to half precision, each times the power of two that kernels.h says. step[m]: its inverse, NaN if the
// row has NaN or infinity.
inline void halve_rows(const float* x, uint16_t* to, long ld, float* step, long ldx, int m, int k) {
  for (int r = 0; r < m; r++, x += ldx, to += ld) {
    vf top = {}, nothing = {};
    for (int c = 0; c < k; c += kLanes) {
      const vf v = load_some(x + c, k - c);
      top = max(top, max(v, -v));
      nothing += v * 0.f;
    }
    const float most = largest(top);
    int32_t bits;
    __builtin_memcpy(&bits, &most, 4);
    int power = (bits >> 23) - 4;  // the largest number is in [16, 32) * 2^(power - 127)
    if (power < 1) power = 1;      // all are below 2^-122
    const int32_t up = (254 - power) << 23, down = power << 23;
    float factor;
    __builtin_memcpy(&factor, &up, 4);
    __builtin_memcpy(step + r, &down, 4);
    step[r] += sum(nothing);
    for (int c = 0; c < k; c += kLanes) store_halves(to + c, load_some(x + c, k - c) * factor);
  }
}

struct Halves {
  using Left = HalfRows;
  using Weight = uint16_t;
  using Vector = vh;
  static constexpr Type kStored = Type::f16;
  static constexpr bool kIsThere = true, kHasScale = false, kHasSteps = true, kHasLeftovers = false;
  static constexpr int kRows = kHalfRows, kTogether = 1, kSums = kPanel / kHalfLanes, kDepth = 1;
  static constexpr int kAhead = 128 * kPanel;

  EP_INLINE static Left prepare(const float* x, long ldx, int m, int k, const Room& room) {
    halve_rows(x, (uint16_t*)room.numbers, rounded_ld(k), room.step, ldx, m, k);
    return {(const uint16_t*)room.numbers, rounded_ld(k)};
  }
  EP_INLINE static vh weights(const uint16_t* w, int v) { return load_halves(w + v * kHalfLanes); }
  template <int R>
  EP_INLINE static vh at(const Left& left, const uint16_t* const* row, int r, int i) {
    return splat_half(row[r / 3] + r % 3 * left.ld + i);
  }
  EP_INLINE static vh add(vh sum, vh x, vh w) { return add_halves(sum, x, w); }

  template <int R, int P>
  EP_INLINE static void tile(const Left& left, const uint16_t* w, long stride, int k, vf (&sums)[P][R][kVectors]) {
    set_to_zero(sums);
    for (int first = 0; first < k; first += kHalfRun) {
      vh halves[P][R][kSums];
      set_to_zero(halves);
      add_products<Halves, R, P>({left.x + first, left.ld}, w + (long)first * kPanel, stride,
                                 k - first < kHalfRun ? k - first : kHalfRun, halves);
#pragma GCC unroll 4
      for (int p = 0; p < P; p++)
#pragma GCC unroll 32
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; v++) sums[p][r][v] += widened(halves[p][r], v);
    }
  }
};
