// Which detection is whose: the assignment of rows to columns with the least sum of costs.
#pragma once

#include <vector>

namespace edgepose {

// Exact, by shortest augmenting paths: Jonker and Volgenant 1987, for rectangles as in Crouse 2016 ("On implementing 2D
// rectangular assignment algorithms"). A row may stay without a column for a price. Its memory grows with the largest
// problem and is then used again.
class Assignment {
 public:
  // columns_of[rows]: for each row its column, or -1. cost[rows][columns]: finite, or HUGE_VAL for a pair that may not
  // be. unassigned: the finite price of each row without a column.
  void operator()(const double* cost, int rows, int columns, double unassigned, int* columns_of);

 private:
  int shortest_path_from(int row);

  const double* cost_ = nullptr;
  int columns_ = 0, all_columns_ = 0;  // all: after the real ones one for each row that it may take instead
  double unassigned_ = 0;
  std::vector<double> row_price_, column_price_, distance_;
  std::vector<int> row_of_, column_of_, before_;  // before_: the row through which a column is reached
  std::vector<unsigned char> is_done_row_, is_done_;
};

}  // namespace edgepose
