// Compares every kernel of each instruction set this CPU runs with the generic one, on seeded numbers: for CPUs that
// the Python tests do not reach. Prints the largest difference of each, exits with 1 if one is above what kernels.h
// allows.
#include <cstdio>

#include "../csrc/fuzz/differences.h"

using namespace edgepose;
using namespace edgepose::differences;

static int failures = 0;
static void report(const char* isa, const std::string& kernel, const Difference& difference) {
  std::printf("%s %s %.3g (%.3g allowed)\n", isa, kernel.c_str(), difference.found, difference.allowed);
  failures += difference.is_too_large();
}

int main() {
  int count;
  const InstructionSet* sets = instruction_sets(&count);
  const Kernels& generic = kernels("generic");
  for (int t = 0; t < count; t++) {
    if (!sets[t].runs) continue;
    const Kernels& table = *sets[t].kernels;
    const char* isa = table.isa;
    std::printf("%s\n", isa);
    Random random;
    for (int extreme : {0, 2, 50})
      for (const Precision& precision : kPrecisions) {
        random.extreme = extreme;
        if (extreme && precision.stored != Type::i8) continue;
        const std::string name = precision.name;
        for (int m : {1, 2, 5, 17, 40}) for (int k : {1, 17, 128}) for (int n : {3, 16, 37})
          for (Activation a : {Activation::none, Activation::relu, Activation::gelu, Activation::sigmoid})
            report(isa, "linear " + name, linear(table, generic, precision, m, k, n, a, true, random));
        for (int people : {1, 3, 9}) for (int k : {1, 17, 64}) for (int n : {3, 16, 37})
          report(isa, "graph_conv " + name, graph_conv(table, generic, precision, people, k, n, random));
      }
    for (int tokens : {1, 16, 17, 27}) for (int d : {3, 16, 27}) {
      for (int reach : {0, 3, tokens})
        report(isa, "attention", attention(table, generic, tokens, d, reach, reach, random));
      report(isa, "normalize", normalize(table, generic, tokens, d, random));
      report(isa, "multiply", multiply(table, generic, tokens, d, random));
      report(isa, "add", add(table, generic, tokens, d, random));
      report(isa, "blend", blend(table, generic, tokens, d, random));
    }
    for (int d : {3, 16, 27}) for (int count : {2, 7, 40})
      report(isa, "ring_attention", ring_attention(table, generic, d, 3, count, random));
  }
  return failures ? 1 : 0;
}
