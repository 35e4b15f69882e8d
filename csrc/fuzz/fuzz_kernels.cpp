// libFuzzer's entry: compares a kernel of each instruction set this CPU runs with the generic one, in sizes and numbers
// that the input chooses.
//
//   clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address -Wno-psabi csrc/fuzz/fuzz_kernels.cpp csrc/pack.cpp
//       csrc/dispatch.cpp csrc/kernels_*.cpp -o fuzz
//   ./fuzz -max_len=16
//
// With -DEP_EMULATED the sets whose instruction can be emulated run on CPUs without it.
#include <cstdio>
#include <cstdlib>

#include "differences.h"

using namespace edgepose;
using namespace edgepose::differences;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 10) return 0;
  const auto upto = [&](int i, int most) { return data[i] % (most + 1); };
  const int kernel = upto(0, 7), m = 1 + upto(1, 150), k = 1 + upto(2, 200), n = 1 + upto(3, 80);
  const Precision& precision = kPrecisions[upto(4, (int)std::size(kPrecisions) - 1)];
  const auto activation = (Activation)upto(5, 3);
  const Kernels& generic = kernels("generic");
  int count;
  const InstructionSet* sets = instruction_sets(&count);
  for (int t = 0; t < count; t++) {
    if (!sets[t].runs) continue;
    const Kernels& table = *sets[t].kernels;
    Random random{1u + data[6] + 256u * data[7], upto(8, 20), upto(9, 40)};
    const Difference difference =
        kernel == 0   ? linear(table, generic, precision, m, k, n, activation, data[5] & 4, random)
        : kernel == 1 ? graph_conv(table, generic, precision, 1 + m % 12, k, n, random)
        : kernel == 2 ? attention(table, generic, m, 1 + k % 40, upto(4, 255), upto(5, 255), random)
        : kernel == 3 ? normalize(table, generic, m, n, random)
        : kernel == 4 ? multiply(table, generic, m, n, random)
        : kernel == 5 ? add(table, generic, m, n, random)
        : kernel == 6 ? ring_attention(table, generic, 1 + k % 40, 1 + upto(4, 27), 2 + upto(5, 30), random)
                      : blend(table, generic, m, n, random);
    if (!difference.is_too_large()) continue;
    std::fprintf(stderr, "%s, kernel %d, %s, m %d, k %d, n %d: %g, allowed %g\n", table.isa, kernel, precision.name, m,
                 k, n, difference.found, difference.allowed);
    std::abort();
  }
  return 0;
}
