// A step of a plan with its pointers resolved, for those who run it.
#pragma once

#include <vector>

#include "plan.h"

namespace edgepose {

struct Plan::Run {
  Op op;
  int x, other, y, residual, gate;
  Product product{};
  Weights weights{};
  long panel = 0;  // bytes of a packed panel, of a graph convolution with all groups
  const float* bias = nullptr;
  int ldb = 0, ages = 0;
  Activation activation;
  int heads, span, count;
  bool is_causal;
  int first, stride, taps = 1;
  float epsilon;
  long state = 0;  // where its part of a person's state begins
  std::vector<int> rows, gather_start, gather_index, scatter_start, scatter_index;
  std::vector<float> gather_coefficient, scatter_coefficient;

  // The rows of y that tap i has a row of x for: [begin, end).
  int begin(int tap) const { return first + tap >= 0 ? 0 : (-(first + tap) + stride - 1) / stride; }
  int end(int tap, int x_rows, int y_rows) const {
    const int all = x_rows - first - tap <= 0 ? 0 : (x_rows - first - tap + stride - 1) / stride;
    return all < y_rows ? all : y_rows;
  }

  Graph graph() const {
    return {(int)scatter_start.size() - 1, (int)rows.size() - 1, rows.data(),
            {gather_start.data(), gather_index.data(), gather_coefficient.data()},
            {scatter_start.data(), scatter_index.data(), scatter_coefficient.data()}};
  }
};

}  // namespace edgepose
