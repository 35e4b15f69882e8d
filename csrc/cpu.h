// The instruction sets of an x86 processor, for a compiler whose __builtin_cpu_supports finds none: zig's, which builds
// the wheels with EP_OWN_CPUID.
#pragma once

#if defined(__x86_64__) && defined(EP_OWN_CPUID)
#include <cpuid.h>

#include <cstring>

namespace edgepose {

// Whether the processor has a set, and the system saves its registers. name: of those that dispatch.cpp asks for.
inline bool cpu_has(const char* name) {
  struct Feature {
    const char* name;
    unsigned leaf;
    int word;  // index into eax, ebx, ecx, edx
    unsigned bit, saved;
  };
  constexpr unsigned kWide = 0x06, kWidest = 0xe6;  // bits of XCR0: the registers of AVX, of AVX-512
  static const Feature features[] = {
      {"fma", 1, 2, 1u << 12, kWide},         {"avx2", 7, 1, 1u << 5, kWide},
      {"avx512f", 7, 1, 1u << 16, kWidest},   {"avx512dq", 7, 1, 1u << 17, kWidest},
      {"avx512bw", 7, 1, 1u << 30, kWidest},  {"avx512vl", 7, 1, 1u << 31, kWidest},
      {"avx512vnni", 7, 2, 1u << 11, kWidest}};
  unsigned words[4], low, high;
  if (!__get_cpuid(1, words, words + 1, words + 2, words + 3) || !(words[2] & bit_OSXSAVE)) return false;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  for (const Feature& feature : features)
    if (!std::strcmp(feature.name, name))
      return (low & feature.saved) == feature.saved
          && __get_cpuid_count(feature.leaf, 0, words, words + 1, words + 2, words + 3)
          && (words[feature.word] & feature.bit);
  return false;
}

}  // namespace edgepose

#define __builtin_cpu_supports(name) edgepose::cpu_has(name)
#endif
