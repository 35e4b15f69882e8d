// Places a plan's matrices in memory, for CPUs and GPUs: matrices whose lifetimes do not overlap share it.
#pragma once

#include <vector>

#include "plan.h"

namespace edgepose {

// A matrix of `floats`, padding included: step `born` writes it, step `dies` is the last to use it (-1: none).
struct Life {
  int born, dies;
  long floats;
};

// First-fit allocation in order of birth: sets offsets at which no two overlapping lives share a float; returns the
// total floats. Throws std::invalid_argument if those are more than a plan may take.
long first_fit(const std::vector<Life>& lives, std::vector<long>& offsets);

// The row stride in floats. On a CPU a row starts on a cache line, and 17 rows of a power-of-two width do not fall on
// the same L1 cache lines; on a GPU a row starts at a multiple of 32 bytes.
int row_on_cpu(int columns);
int row_on_gpu(int columns);

// A checked plan's buffers with their offsets in a CPU's arena, and the arena's size in floats.
struct Placed {
  std::vector<Buffer> buffers;
  long arena;
};
Placed place_on_cpu(const PlanSpec& spec);

}  // namespace edgepose
