#include "compilers.h"
#include "kernels.h"

#include <stdexcept>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>

#include "cpu.h"
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace edgepose {

namespace generic { extern const Kernels table; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels table; }
namespace avxvnni { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
namespace avx512vnni { extern const Kernels table; }
#elif defined(__aarch64__)
namespace neon { extern const Kernels table; }
namespace neondot { extern const Kernels table; }
namespace neoni8mm { extern const Kernels table; }
namespace neonfp16 { extern const Kernels table; }
#endif

#if defined(__x86_64__)
// Half-precision conversion: clang's __builtin_cpu_supports does not know its name.
static bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

// Not a name of gcc 11's __builtin_cpu_supports.
static bool has_avx_vnni() {
#if defined(EP_EMULATED)
  return has_avx2();
#else
  unsigned a, b, c, d;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
}

static bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
      && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

#if defined(__aarch64__)
#if defined(__linux__)
static bool has(unsigned long word, unsigned long bit) { return getauxval(word) & bit; }
static bool has_dot_product() { return has(AT_HWCAP, HWCAP_ASIMDDP); }
static bool has_half() { return has_dot_product() && has(AT_HWCAP, HWCAP_ASIMDHP); }
static bool has_i8mm() { return has_dot_product() && has(AT_HWCAP2, 1UL << 13); }  // HWCAP2_I8MM, since Linux 5.10
#else
static bool has_dot_product() { return false; }
static bool has_half() { return false; }
static bool has_i8mm() { return false; }
#endif
#endif

// Sets that an old compiler has left out of this build are null.
#if defined(__x86_64__) && defined(EP_KNOWS_AVX_VNNI)
static const Kernels* const kVnni = &avxvnni::table;
#elif defined(__x86_64__)
static const Kernels* const kVnni = nullptr;
#elif defined(__aarch64__) && defined(EP_KNOWS_ARM_V8_2)
static const Kernels *const kI8mm = &neoni8mm::table, *const kDot = &neondot::table, *const kHalf = &neonfp16::table;
#elif defined(__aarch64__)
static const Kernels *const kI8mm = nullptr, *const kDot = nullptr, *const kHalf = nullptr;
#endif

static std::vector<InstructionSet> find_sets() {
  std::vector<InstructionSet> sets = {
#if defined(__x86_64__)
      {"avx512vnni", "Ice Lake, Zen 4", "int8: 64 products an instruction", &avx512vnni::table, has_avx512_vnni()},
      {"avx512", "Skylake-SP", "16 float32 a vector", &avx512::table, has_avx512()},
      {"avxvnni", "Alder Lake, Zen 5", "int8: 32 products an instruction", kVnni, has_avx_vnni()},
      {"avx2", "Haswell, Zen", "8 float32 a vector, half precision", &avx2::table, has_avx2()},
#elif defined(__aarch64__)
      {"neoni8mm", "Neoverse V1, Cortex-A510", "int8: 32 products an instruction", kI8mm, has_i8mm()},
      {"neondot", "Cortex-A55, A76", "int8: 16 products an instruction", kDot, has_dot_product()},
      {"neon", "every ARMv8", "4 float32 a vector, half precision", &neon::table, true},
      {"neonfp16", "Cortex-A55, A76", "only if asked for: FP16 multiplied in FP16, 8 products an instruction", kHalf,
       has_half()},
#endif
      {"generic", "every CPU", "", &generic::table, true},
  };
  for (InstructionSet& set : sets) set.runs &= set.kernels != nullptr;
  return sets;
}

const InstructionSet* instruction_sets(int* count) {
  static const std::vector<InstructionSet> sets = find_sets();
  *count = (int)sets.size();
  return sets.data();
}

const Kernels& kernels(const char* isa) {
  int count;
  const InstructionSet* sets = instruction_sets(&count);
  std::string names;
  for (int i = 0; i < count; i++) {
    if (!sets[i].runs) continue;
    if (!isa || !*isa || std::string(isa) == sets[i].isa) return *sets[i].kernels;
    names += std::string(names.empty() ? "" : ", ") + sets[i].isa;
  }
  throw std::invalid_argument(std::string("instruction set \"") + isa + "\" is not one this CPU runs; it runs "
                              + names);
}

}  // namespace edgepose
