#include "kernels.h"

#include <stdexcept>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace edgepose {

namespace generic { extern const Kernels table; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
namespace avx512vnni { extern const Kernels table; }
#elif defined(__aarch64__)
namespace neon { extern const Kernels table; }
namespace neondot { extern const Kernels table; }
#endif

#if defined(__x86_64__)
// Half-precision conversion: clang's __builtin_cpu_supports does not know its name.
static bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

#if defined(__aarch64__)
static bool has_dot_product() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return false;
#endif
}
#endif

static std::vector<const Kernels*> find_supported() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
      && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (has_avx512 && __builtin_cpu_supports("avx512vnni")) found.push_back(&avx512vnni::table);
  if (has_avx512) found.push_back(&avx512::table);
  if (has_avx2) found.push_back(&avx2::table);
#elif defined(__aarch64__)
  if (has_dot_product()) found.push_back(&neondot::table);
  found.push_back(&neon::table);
#endif
  found.push_back(&generic::table);
  return found;
}

const Kernels* const* supported_kernels(int* count) {
  static const std::vector<const Kernels*> found = find_supported();
  *count = (int)found.size();
  return found.data();
}

const Kernels& kernels(const char* isa) {
  int count;
  const Kernels* const* found = supported_kernels(&count);
  if (!isa || !*isa) return *found[0];
  std::string names;
  for (int i = 0; i < count; i++) {
    if (std::string(isa) == found[i]->isa) return *found[i];
    names += std::string(i ? ", " : "") + found[i]->isa;
  }
  throw std::invalid_argument(std::string("instruction set \"") + isa + "\" is not one this CPU runs; it runs "
                              + names);
}

}  // namespace edgepose
