// The only file that knows the vector width or includes an intrinsic; included once by each kernels_<isa>.cpp,
// after it has defined EP_<ISA> and EP_ISA and set its target pragma.
//
// A packed weight panel is kPanel columns wide on every CPU: kVectors vectors of kLanes floats.
#include <cstdint>

namespace edgepose::EP_ISA {
namespace {

constexpr int kPanel = 16;
#if defined(EP_AVX512)  // with EP_AVX512_VNNI or not
constexpr int kLanes = 16;  // 17 rows x 1 vector = 17 accumulators + 1 weight of 32 registers: one pass for one person
constexpr int kTileRows = 17;
#elif defined(EP_AVX2)
constexpr int kLanes = 8;      // 6 rows x 2 vectors = 12 accumulators + 2 weights + 1 input = 15 of 16 registers
constexpr int kTileRows = 6;
#elif defined(EP_NEON)
constexpr int kLanes = 4;      // 6 rows x 4 vectors = 24 accumulators + 4 weights + 1 input = 29 of 32 registers
constexpr int kTileRows = 6;
#else
constexpr int kLanes = 4;      // 2 rows x 4 vectors = 8 accumulators + 4 weights + 1 input = 13 of SSE2's 16 registers
constexpr int kTileRows = 2;
#endif
constexpr int kVectors = kPanel / kLanes;

#define EP_INLINE inline __attribute__((always_inline))

// Selects lanes of two vectors by number; b's lanes are numbered after a's.
#if defined(__clang__) || __GNUC__ >= 12
#define EP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#elif __GNUC__ >= 9
#define EP_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#else
#error "edgepose's kernels need gcc 9 or later, or clang"
#endif

typedef float vf __attribute__((vector_size(4 * kLanes), may_alias));
typedef float vf_unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * kLanes), may_alias));

EP_INLINE vf splat(float x) { return x - vf{}; }
EP_INLINE vf load(const float* p) { return *(const vf_unaligned*)p; }
EP_INLINE void store(float* p, vf v) { *(vf_unaligned*)p = v; }
// NaN in a stays NaN: broken input must not come out as a pose. One instruction either way.
EP_INLINE vf max(vf a, vf b) { return b > a ? b : a; }
EP_INLINE vf min(vf a, vf b) { return b < a ? b : a; }

// Loads or stores the first n lanes (n may be <= 0 or >= kLanes); the others read as zero, their memory is not touched.
#if defined(EP_AVX512)
EP_INLINE __mmask16 lanes_below(int n) { return n >= kLanes ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }
EP_INLINE vf load(const float* p, int n) { return (vf)_mm512_maskz_loadu_ps(lanes_below(n), p); }
EP_INLINE void store(float* p, vf v, int n) { _mm512_mask_storeu_ps(p, lanes_below(n), (__m512)v); }
#else
EP_INLINE vf load(const float* p, int n) {
  vf v = {};
  for (int i = 0; i < kLanes; i++) if (i < n) v[i] = p[i];
  return v;
}
EP_INLINE void store(float* p, vf v, int n) {
  for (int i = 0; i < kLanes; i++) if (i < n) p[i] = v[i];
}
#endif

// Loads at most n lanes; the others are zero.
EP_INLINE vf load_some(const float* p, int n) { return n >= kLanes ? load(p) : load(p, n); }

// The sum of all lanes, halves added to halves: always the same order.
#if defined(EP_AVX512)
EP_INLINE float sum(vf v) {
  v += EP_SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += EP_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  return (v[0] + v[2]) + (v[1] + v[3]);
}
#elif defined(EP_AVX2)
EP_INLINE float sum(vf v) {
  v += EP_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  return (v[0] + v[2]) + (v[1] + v[3]);
}
#else
EP_INLINE float sum(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#endif

// The largest lane.
EP_INLINE float largest(vf v) {
#if defined(EP_AVX512)
  v = max(v, EP_SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = max(v, EP_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
#elif defined(EP_AVX2)
  v = max(v, EP_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
#endif
  const float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
  return a > b ? a : b;
}

// Half precision is a storage format: widened when loaded, computed in float32. Where the CPU cannot widen a vector,
// kHasHalf is 0 and the weights are widened once, when they are packed.
#if defined(EP_AVX512)
constexpr int kHasHalf = 1;
EP_INLINE vf load(const uint16_t* p) {
  return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p));
}
#elif defined(EP_AVX2)
constexpr int kHasHalf = 1;
EP_INLINE vf load(const uint16_t* p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
#elif defined(EP_NEON)
constexpr int kHasHalf = 1;
EP_INLINE vf load(const uint16_t* p) { return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
#else
constexpr int kHasHalf = 0;
EP_INLINE vf load(const uint16_t*) { return vf{}; }
#endif

// 8-bit weights, widened as they are read. (maskz, here and below: the plain intrinsics' headers cause warnings in g++
// 12.)
#if defined(EP_AVX512)
EP_INLINE vf load(const int8_t* p) {
  return (vf)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p)));
}
#elif defined(EP_AVX2)
EP_INLINE vf load(const int8_t* p) {
  return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
#elif defined(EP_NEON)
EP_INLINE vf load(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
#elif defined(__SSE2__)
EP_INLINE vf load(const int8_t* p) {  // ampose-l: 82 ms element by element
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  __m128i v = _mm_cvtsi32_si128(four);
  v = _mm_unpacklo_epi8(v, v);
  return (vf)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24));
}
#else
EP_INLINE vf load(const int8_t* p) { return vf{(float)p[0], (float)p[1], (float)p[2], (float)p[3]}; }
#endif

// Dot products of whole numbers: a panel's 16 columns of kDotDepth weights are kDots vectors of kDotBytes, each added
// to a vector of int32 sums: one per column, or two per column side by side (kDots is then twice kVectors), or with
// kDotTogether = 2 two columns of one row and the same of the next. x, from 0 to 255, is stored as `rounded`, with
// kLeast added. kHasPairs: an instruction adds two products in 16 bits, which would saturate: leftovers in kernels.h.
#if defined(EP_AVX512_VNNI)
typedef uint8_t rounded;
constexpr bool kHasPairs = false;
constexpr int kLeast = 0, kDots = 1, kDotBytes = 64, kDotRows = 17, kDotDepth = 4, kDotTogether = 1;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)_mm512_loadu_si512(p); }
EP_INLINE vi dot(vi sum, vi x, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w); }
#elif defined(EP_AVX512)
typedef uint8_t rounded;
constexpr bool kHasPairs = true;
constexpr int kLeast = 0, kDots = 1, kDotBytes = 64, kDotRows = 12, kDotDepth = 4, kDotTogether = 1;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)_mm512_loadu_si512(p); }
EP_INLINE vi dot(vi sum, vi x, vi w) {
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)x, (__m512i)w);
  return sum + (vi)_mm512_madd_epi16(pairs, (__m512i)(0x00010001 - vi{}));
}
#elif defined(EP_AVX_VNNI)
typedef uint8_t rounded;
constexpr bool kHasPairs = false;
constexpr int kLeast = 0, kDots = 2, kDotBytes = 32, kDotRows = 6, kDotDepth = 4, kDotTogether = 1;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)_mm256_loadu_si256((const __m256i*)p); }
#if defined(EP_EMULATED)
EP_INLINE vi dot(vi sum, vi x, vi w) {
  typedef uint8_t vx __attribute__((vector_size(4 * kLanes)));
  typedef int8_t vw __attribute__((vector_size(4 * kLanes)));
  for (int i = 0; i < 4 * kLanes; i++) sum[i / 4] += ((vx)x)[i] * ((vw)w)[i];
  return sum;
}
#else
EP_INLINE vi dot(vi sum, vi x, vi w) { return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)w); }
#endif
#elif defined(EP_AVX2)
// Products a nanosecond, 12 rows of 256 and 512 columns, on Zen 4: 114, and 75 by products of 16-bit numbers, for which
// weights are widened.
typedef uint8_t rounded;
constexpr bool kHasPairs = true;
constexpr int kLeast = 0, kDots = 2, kDotBytes = 32, kDotRows = 6, kDotDepth = 4, kDotTogether = 1;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)_mm256_loadu_si256((const __m256i*)p); }
EP_INLINE vi dot(vi sum, vi x, vi w) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
  return sum + (vi)_mm256_madd_epi16(pairs, (__m256i)(0x00010001 - vi{}));
}
#elif defined(EP_NEON_I8MM)
typedef int8_t rounded;
constexpr bool kHasPairs = false;
constexpr int kLeast = -128, kDots = 8, kDotBytes = 16, kDotRows = 6, kDotDepth = 8, kDotTogether = 2;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)vld1q_s8(p); }
EP_INLINE vi dot(vi sum, vi x, vi w) { return (vi)vmmlaq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w); }
#elif defined(EP_NEON_DOT)
typedef int8_t rounded;
constexpr bool kHasPairs = false;
constexpr int kLeast = -128, kDots = 4, kDotBytes = 16, kDotRows = 6, kDotDepth = 4, kDotTogether = 1;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)vld1q_s8(p); }
EP_INLINE vi dot(vi sum, vi x, vi w) { return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w); }
#elif defined(EP_NEON)
typedef int8_t rounded;
constexpr bool kHasPairs = false;
constexpr int kLeast = -128, kDots = 8, kDotBytes = 8, kDotRows = 2, kDotDepth = 4, kDotTogether = 1;
EP_INLINE vi load_dots(const int8_t* p) { return (vi)vcombine_s8(vld1_s8(p), vdup_n_s8(0)); }
EP_INLINE vi dot(vi sum, vi x, vi w) {
  return (vi)vpadalq_s16((int32x4_t)sum, vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w)));
}
#else
typedef int16_t rounded;
constexpr bool kHasPairs = false;
constexpr int kLeast = -128, kDots = 8, kDotBytes = 8, kDotRows = 1, kDotDepth = 4, kDotTogether = 1;
#if defined(__SSE2__)
EP_INLINE vi load_dots(const int8_t* p) {
  return (vi)_mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i*)p)), 8);
}
EP_INLINE vi dot(vi sum, vi x, vi w) { return sum + (vi)_mm_madd_epi16((__m128i)x, (__m128i)w); }
#else
typedef int16_t vs __attribute__((vector_size(16), may_alias));
EP_INLINE vi load_dots(const int8_t* p) { return (vi)vs{p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]}; }
EP_INLINE vi dot(vi sum, vi x, vi w) {
  const vs a = (vs)x, b = (vs)w;
  for (int i = 0; i < 4; i++) sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sum;
}
#endif
#endif

// kDotDepth numbers of a row of x, and of the next where kDotTogether is 2, repeated across a vector.
EP_INLINE vi dot_rows(const rounded* p, [[maybe_unused]] const rounded* next) {
  typedef int64_t vl __attribute__((vector_size(4 * kLanes)));
  if constexpr (kDotTogether == 2) {
    vl both;
    __builtin_memcpy(&both, p, 8);
    __builtin_memcpy((char*)&both + 8, next, 8);
    return (vi)both;
  } else if constexpr (sizeof(rounded) == 1) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    return four - vi{};
  } else {
    int64_t four;
    __builtin_memcpy(&four, p, 8);
    return (vi)(four - vl{});
  }
}

// Vector v of a row's 16 sums; row: 0, or 1 for the second of kDotTogether.
EP_INLINE vi dot_sums(const vi (&sums)[kDots], [[maybe_unused]] int row, int v) {
#if defined(EP_NEON_I8MM)
  const vi a = sums[2 * v], b = sums[2 * v + 1];
  return row ? EP_SHUFFLE(a, b, 2, 3, 6, 7) : EP_SHUFFLE(a, b, 0, 1, 4, 5);
#elif defined(EP_AVX512) || defined(EP_AVX2) || defined(EP_NEON_DOT)
  return sums[v];
#else
  const vi a = sums[2 * v], b = sums[2 * v + 1];
  return EP_SHUFFLE(a, b, 0, 2, 4, 6) + EP_SHUFFLE(a, b, 1, 3, 5, 7);
#endif
}

// Sums in half precision, rounded after every multiply-add.
#if defined(EP_NEON_FP16)
constexpr int kHalfLanes = 8, kHalfRows = 4;  // 4 rows x (2 sums in half + 4 in single precision) + 2 weights + 1 input
typedef float16x8_t vh;
EP_INLINE vh load_halves(const uint16_t* p) { return vreinterpretq_f16_u16(vld1q_u16(p)); }
EP_INLINE vh splat_half(const uint16_t* p) { return vreinterpretq_f16_u16(vld1q_dup_u16(p)); }
EP_INLINE vh add_halves(vh sum, vh x, vh w) { return vfmaq_f16(sum, x, w); }
EP_INLINE void store_halves(uint16_t* p, vf v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }
// Vector v of a row's 16 sums, as float32.
EP_INLINE vf widened(const vh (&sums)[kPanel / kHalfLanes], int v) {
  return (vf)vcvt_f32_f16(v % 2 ? vget_high_f16(sums[v / 2]) : vget_low_f16(sums[v / 2]));
}
#endif

// Makes the compiler treat a register's value as used and as unknown.
#if defined(__aarch64__)
#define EP_KEEP(v) __asm__ volatile("" : "+w"(v))
#elif defined(EP_AVX512)
#define EP_KEEP(v) __asm__ volatile("" : "+v"(v))
#else
#define EP_KEEP(v) __asm__ volatile("" : "+x"(v))
#endif

// kOrigin + x * y rounded to an integer, half to even, if it is within 2^22; otherwise any number. Not fused: the same
// on every CPU.
constexpr int kOrigin = 0x4b400000;  // 1.5 * 2^23: from 2^23 on float32 holds only integers
EP_INLINE vi round_product(vf x, vf y) {
  vf product = x * y;
  EP_KEEP(product);
  return (vi)(product + 12582912.f);
}

// Stores numbers from 0 to 255, with kLeast added.
EP_INLINE void store_rounded(rounded* p, vi numbers) {
  numbers += kLeast;
#if defined(EP_AVX512)
  if constexpr (sizeof(rounded) == 1)
    _mm_storeu_si128((__m128i*)p, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)numbers));
  else _mm256_storeu_si256((__m256i*)p, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)numbers));
#else
  typedef rounded vr __attribute__((vector_size(kLanes * sizeof(rounded)), aligned(1), may_alias));
  *(vr*)p = __builtin_convertvector(numbers, vr);
#endif
}

// Prefetches into L2. The address need not exist.
EP_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// e^x, relative error below 3 ulp for x in [-87, 88]; x is clamped from below.
// Range reduction by a two-part log 2, then the minimax polynomial of Cephes' expf (Moshier).
EP_INLINE vf exp(vf x) {
  x = max(x, splat(-87.f));
  const vf n = (x * 1.44269504f + 12582912.f) - 12582912.f;
  const vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.f);
  return p * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
}

// 1 / (1 + e^-x), absolute error below 2e-7.
EP_INLINE vf sigmoid(vf x) { return 1.f / (1.f + exp(min(-x, splat(87.f)))); }

// x/2 (1 + erf(x / sqrt 2)), absolute error below 4e-7 max(1, |x|).
// erf(z) = z P(z^2) / Q(z^2) on |z| <= 3.9 (beyond it is 1 to float32), fitted for least maximum error (1.5e-8).
EP_INLINE vf gelu(vf x) {
  const vf z = min(max(x * 0.707106781f, splat(-3.9f)), splat(3.9f)), s = z * z;
  vf p = s * 2.0503864561760565e-06f + 0.00028745768941007555f;
  p = p * s + 0.003836889285594225f;
  p = p * s + 0.05296695604920387f;
  p = p * s + 0.1919413059949875f;
  p = p * s + 1.128378987312317f;
  vf q = s * 3.823075530817732e-05f + 0.0011817379854619503f;
  q = q * s + 0.01510922983288765f;
  q = q * s + 0.11475832015275955f;
  q = q * s + 0.5034353137016296f;
  q = q * s + 1.f;
  const vf half = x * 0.5f;
  return half * (z * p / q) + half;
}

}  // namespace
}  // namespace edgepose::EP_ISA
