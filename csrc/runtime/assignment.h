// Assignment of detections to people: rows to columns with the least sum of costs.
#pragma once

#include <vector>

namespace edgepose {

// Exact solution by shortest augmenting paths: Jonker and Volgenant 1987, rectangular as in Crouse 2016 ("On
// implementing 2D rectangular assignment algorithms"). A row may stay unassigned at a price. The memory grows to the
// largest problem and is reused.
class Assignment {
 public:
  // columns_of[rows]: the column of each row, or -1. cost[rows][columns]: finite, or HUGE_VAL for a forbidden pair.
  // unassigned: the finite cost of a row without a column.
  void operator()(const double* cost, int rows, int columns, double unassigned, int* columns_of);

 private:
  int shortest_path_from(int row);

  const double* cost_ = nullptr;
  int columns_ = 0, all_columns_ = 0;  // all_columns_: the real ones, then one for each unassigned row
  double unassigned_ = 0;
  std::vector<double> row_price_, column_price_, distance_;
  std::vector<int> row_of_, column_of_, before_;  // before_: the previous row on the path to a column
  std::vector<unsigned char> is_done_row_, is_done_;
};

}  // namespace edgepose
