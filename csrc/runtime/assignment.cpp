#include "assignment.h"

#include <cmath>

namespace edgepose {

void Assignment::operator()(const double* cost, int rows, int columns, double unassigned, int* columns_of) {
  cost_ = cost, columns_ = columns, all_columns_ = columns + rows, unassigned_ = unassigned;
  row_price_.assign((std::size_t)rows, 0), column_price_.assign((std::size_t)all_columns_, 0);
  column_of_.assign((std::size_t)rows, -1), row_of_.assign((std::size_t)all_columns_, -1);
  for (int row = 0; row < rows; row++) {
    int column = shortest_path_from(row);
    for (int at = -1; at != row;) {
      at = before_[(std::size_t)column];
      row_of_[(std::size_t)column] = at;
      std::swap(column, column_of_[(std::size_t)at]);
    }
  }
  for (int row = 0; row < rows; row++)
    columns_of[row] = column_of_[(std::size_t)row] < columns ? column_of_[(std::size_t)row] : -1;
}

// Finds the free column at the end of the shortest path from an unassigned row, and updates the prices. There always is
// one: the row's own column for staying unassigned.
int Assignment::shortest_path_from(int row) {
  const std::size_t rows = row_price_.size();
  distance_.assign((std::size_t)all_columns_, HUGE_VAL), before_.assign((std::size_t)all_columns_, -1);
  is_done_.assign((std::size_t)all_columns_, 0), is_done_row_.assign(rows, 0);
  double reached = 0;
  int end = -1;
  for (int at = row; end < 0;) {
    is_done_row_[(std::size_t)at] = 1;
    int nearest = -1;
    for (int column = 0; column < all_columns_; column++) {
      const std::size_t c = (std::size_t)column;
      if (is_done_[c]) continue;
      const double cost = column < columns_ ? cost_[(long)at * columns_ + column] : unassigned_;
      const double there = reached + cost - row_price_[(std::size_t)at] - column_price_[c];
      if (there < distance_[c]) distance_[c] = there, before_[c] = at;
      const bool is_nearer =
          nearest < 0 || distance_[c] < distance_[(std::size_t)nearest]
          || (distance_[c] == distance_[(std::size_t)nearest] && row_of_[c] < 0 && row_of_[(std::size_t)nearest] >= 0);
      if (is_nearer) nearest = column;
    }
    reached = distance_[(std::size_t)nearest];
    is_done_[(std::size_t)nearest] = 1;
    if (row_of_[(std::size_t)nearest] < 0) end = nearest;
    else at = row_of_[(std::size_t)nearest];
  }
  row_price_[(std::size_t)row] += reached;
  for (std::size_t i = 0; i < rows; i++)
    if (is_done_row_[i] && (int)i != row) row_price_[i] += reached - distance_[(std::size_t)column_of_[i]];
  for (std::size_t c = 0; c < (std::size_t)all_columns_; c++)
    if (is_done_[c]) column_price_[c] -= reached - distance_[c];
  return end;
}

}  // namespace edgepose
