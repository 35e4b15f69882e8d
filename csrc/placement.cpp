#include "placement.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace edgepose {

namespace {

constexpr long kMaxArena = 1L << 24;  // floats a person: 64 MiB

}  // namespace

long first_fit(const std::vector<Life>& lives, std::vector<long>& offsets) {
  offsets.clear();
  long all = 0;
  for (const Life& life : lives) {
    std::vector<std::pair<long, long>> beside;  // ranges of the matrices alive at its birth
    for (std::size_t i = 0; i < offsets.size(); i++)
      if (lives[i].dies >= life.born) beside.push_back({offsets[i], offsets[i] + lives[i].floats});
    std::sort(beside.begin(), beside.end());
    long at = 0;
    for (const auto& [first, last] : beside) {
      if (at + life.floats <= first) break;
      at = std::max(at, last);
    }
    offsets.push_back(at);
    all = std::max(all, at + life.floats);
    if (all > kMaxArena)
      throw std::invalid_argument("the engine's plan is not valid: it takes more than 64 MiB a person");
  }
  return all;
}

int row_on_cpu(int columns) {
  const int row = round_up(columns, kPanelColumns) + kPanelColumns;
  return row % 256 ? row : row + kPanelColumns;
}

int row_on_gpu(int columns) { return round_up(columns, 8); }

Placed place_on_cpu(const PlanSpec& spec) {
  const int steps = (int)spec.steps.size();
  std::vector<Life> lives;
  std::vector<int> life_of(spec.buffers.size(), -1);
  for (int i = 0; i < steps; i++) {
    const Step& step = spec.steps[i];
    int& y = life_of[step.y];
    if (y < 0) {
      y = (int)lives.size();
      lives.push_back({i, -1, (long)spec.buffers[step.y].rows * row_on_cpu(spec.buffers[step.y].columns)});
    }
    for (int used : {step.x, step.other, step.residual, step.gate, step.y})
      if (used >= 0) lives[life_of[used]].dies = i;
  }
  lives[life_of[spec.steps.back().y]].dies = steps;  // the answer is read after the last step
  std::vector<long> offsets;
  Placed placed{{}, first_fit(lives, offsets)};
  for (std::size_t b = 0; b < spec.buffers.size(); b++) {
    const Shape& shape = spec.buffers[b];
    const long offset = life_of[b] < 0 ? 0 : offsets[life_of[b]];
    placed.buffers.push_back({shape.rows, shape.columns, row_on_cpu(shape.columns), offset});
  }
  return placed;
}

}  // namespace edgepose
