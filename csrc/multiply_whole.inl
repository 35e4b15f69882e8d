// Products of whole numbers, whose sums are exact. Included by products.inl.

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

// Rounds rows of x to integers as kernels.h says, zero up to a multiple of kDotDepth; 8 bits use `to.high` alone.
// step[m]: the row's step, NaN if the row has NaN or infinity, which integers would hide.
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
    for (int c = 0; c < (k + kDotDepth - 1) / kDotDepth * kDotDepth; c += kLanes) {
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

// Adds what kernels.h calls leftovers to the sums of rows, [rows][kPanel]; list: their count, and they.
[[maybe_unused]] void add_leftovers(const RoundedRows& left, const int8_t* list, int rows, int32_t* sums) {
  int32_t count;
  __builtin_memcpy(&count, list, 4);
  const Leftover* leftovers = (const Leftover*)(list + 4);
  for (int e = 0; e < count; e++) {
    const rounded* x = left.x + leftovers[e].i;
    int32_t* to = sums + leftovers[e].column;
    for (int r = 0; r < rows; r++, x += left.ld, to += kPanel) *to += *x * leftovers[e].number;
  }
}

// x in 8 bits.
struct Dots {
  using Left = RoundedRows;
  using Weight = int8_t;
  using Vector = vi;
  static constexpr Type kStored = Type::i8;
  static constexpr bool kIsThere = true, kHasScale = true, kHasSteps = true, kHasLeftovers = kHasPairs;
  static constexpr int kRows = kDotRows, kTogether = kDotTogether, kSums = kDots, kDepth = kDotDepth;
  static constexpr int kAhead = 4 * 64 * kPanel;  // 256 numbers of k

  EP_INLINE static Left prepare(const float* x, long ldx, int m, int k, const Room& room) {
    const Left left = {(rounded*)room.numbers, room.zero, rounded_ld(k)};
    round_rows<kLevels8>(x, {left, left}, room.step, ldx, m, k);
    return left;
  }
  EP_INLINE static vi weights(const int8_t* w, int v) { return load_dots(w + v * kDotBytes); }
  template <int R>
  EP_INLINE static vi at(const Left& left, const rounded* const* row, int r, int i) {
    const int next = r + kTogether - 1 < R ? r + kTogether - 1 : r;
    return dot_rows(row[r / 3] + r % 3 * left.ld + i, row[next / 3] + next % 3 * left.ld + i);
  }
  EP_INLINE static vi add(vi sum, vi x, vi w) { return dot(sum, x, w); }

  template <int R, int P>
  EP_INLINE static void tile(const Left& left, const int8_t* w, long stride, int k, vf (&sums)[P][R][kVectors]) {
    vi dots[P][kGroups<Dots, R>][kDots];
    set_to_zero(dots);
    add_products<Dots, R, P>(left, w + panel_sums(kDepth), stride, k, dots);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      int32_t whole[R][kPanel];
#pragma GCC unroll 32
      for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++)
          store((float*)whole[r] + v * kLanes, (vf)dot_sums(dots[p][r / kTogether], r % kTogether, v));
      if constexpr (kHasPairs) add_leftovers(left, w + p * stride + panel_bytes(kStored, kDepth, k), R, whole[0]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) {
        const vi weight_sums = (vi)load((const float*)(w + p * stride) + v * kLanes);
#pragma GCC unroll 32
        for (int r = 0; r < R; r++) {
          const vi sum = (vi)load((const float*)whole[r] + v * kLanes) - left.zero[r] * weight_sums;
          sums[p][r][v] = __builtin_convertvector(sum, vf);
        }
      }
    }
  }
};

// x in 16 bits: two passes over the same weights.
struct SplitDots : Dots {
  using Left = SplitRows;

  EP_INLINE static Left prepare(const float* x, long ldx, int m, int k, const Room& room) {
    const long ld = rounded_ld(k);
    rounded* numbers = (rounded*)room.numbers;
    const Left left = {{numbers, room.zero, ld}, {numbers + room.rows * ld, room.zero + room.rows, ld}};
    round_rows<kLevels16>(x, left, room.step, ldx, m, k);
    return left;
  }

  // Adds two int32 sums as float32: as one int32 the total could overflow.
  template <int R, int P>
  EP_INLINE static void tile(const Left& left, const int8_t* w, long stride, int k, vf (&sums)[P][R][kVectors]) {
    vf high[P][R][kVectors];
    Dots::tile<R, P>(left.high, w, stride, k, high);
    Dots::tile<R, P>(left.low, w, stride, k, sums);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 32
      for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) sums[p][r][v] += 256.f * high[p][r][v];
  }
};
