// Where a plan's matrices lie in the memory of a run: those whose lives do not meet share it. For CPUs and GPUs alike.
#pragma once

#include <vector>

#include "plan.h"

namespace edgepose {

// A matrix of `floats`, padding included: step `born` writes it, step `dies` is the last to use it (-1: nobody).
struct Life {
  int born, dies;
  long floats;
};

// First fit, in order of birth: sets an offset for each life such that no two that meet share a float; gives the
// floats of all. Throws std::invalid_argument if those are more than a plan may take.
long first_fit(const std::vector<Life>& lives, std::vector<long>& offsets);

// The floats from one row to the next. On a CPU a row starts on a cache line, and 17 rows of a power-of-two width do
// not fall on the same lines of the first-level cache; on a GPU it starts where a load of 32 bytes may.
int row_on_cpu(int columns);
int row_on_gpu(int columns);

// A checked plan's buffers as they lie in a CPU's arena, and its floats.
struct Placed {
  std::vector<Buffer> buffers;
  long arena;
};
Placed place_on_cpu(const PlanSpec& spec);

}  // namespace edgepose
