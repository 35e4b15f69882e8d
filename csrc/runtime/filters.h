// OneEuro and Hold, as edgepose/filters.py has and explains them.
#pragma once

#include <limits>
#include <vector>

#include "layouts.h"

namespace edgepose {

// Filters float32 values, in float32 as numpy does: the poses are the same to the bit.
class OneEuro {
 public:
  // Throws std::invalid_argument if a cutoff is not positive or beta is negative. values: how many each call brings.
  OneEuro(double min_cutoff_hz, double beta, double d_cutoff_hz, int values);

  void reset() { is_fresh_ = true; }

  // x becomes the filtered values; timestamp_s is later than the last.
  void operator()(float* x, double timestamp_s);

 private:
  double min_cutoff_hz_, beta_, d_cutoff_hz_;
  bool is_fresh_ = true;
  double timestamp_s_ = 0;
  std::vector<float> x_, speed_;
};

// Puts a place on every joint that the detector did not see.
class Hold {
 public:
  // Throws std::invalid_argument unless 0 < seen_above <= 1 and hold_s >= 0.
  Hold(const Skeleton& skeleton, double seen_above, double lost_below, double hold_s);

  void reset();

  // Fills placed() and is_seen() from keypoints[J][2] and confidence[J]. False, and nothing changes, if there is nothing to
  // place the body by.
  bool operator()(const double* keypoints, const double* confidence, double timestamp_s);

  const double* placed() const { return last_.data(); }  // (J, 2)
  const std::vector<unsigned char>& is_seen() const { return is_seen_; }
  double seen_above() const { return seen_above_; }

 private:
  bool fill(const double* keypoints, double timestamp_s);

  const double seen_above_, lost_below_, hold_s_;
  const int joints_, root_;
  std::vector<int> parents_;  // the root's is itself
  std::vector<unsigned char> falls_back_, is_seen_, was_ever_seen_;
  int climb_rounds_ = 0;
  std::vector<double> seen_at_s_, offsets_, last_;
  // A call's own, kept so that no call allocates.
  std::vector<unsigned char> now_;
  std::vector<double> placed_, climb_, climbed_;
  std::vector<int> ancestor_, ancestors_;
};

}  // namespace edgepose
