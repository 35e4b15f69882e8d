// Smoothing over time, and positions for hidden joints. All times are in seconds, never in frames.
#pragma once

#include <limits>
#include <vector>

#include "layouts.h"
#include "pelvis.h"

namespace edgepose {

// The One Euro filter: a low-pass whose cutoff rises with speed, so that rest is calm and motion does not lag. Casiez,
// Roussel, Vogel, CHI 2012; the speed is taken from the last filtered value, as in the authors' code since August 2023.
// All arithmetic is in Real, constants too, so that poses are the same to the bit on every machine.
template <class Real>
class OneEuro {
 public:
  // min_cutoff_hz: the cutoff at rest. beta: how much it rises with speed, in Hz per unit of x per second. d_cutoff_hz:
  // the cutoff for the speed itself. values: the number of values in each call. Throws std::invalid_argument if a
  // cutoff is not positive or beta is negative.
  OneEuro(double min_cutoff_hz, double beta, double d_cutoff_hz, int values);

  void reset() { is_fresh_ = true; }

  // Replaces x by the filtered values. Times must increase. The first values after a reset pass unchanged.
  void operator()(Real* x, double timestamp_s);

 private:
  double min_cutoff_hz_, beta_, d_cutoff_hz_;
  bool is_fresh_ = true;
  double timestamp_s_ = 0;
  std::vector<Real> x_, speed_;
};

// Gives a position to every joint that the detector did not see, frame by frame, for one person.
//
// A joint becomes seen when its confidence reaches seen_above, and stays so until it falls below lost_below. A hidden
// joint keeps its last good offset to its parent, not its last position, because the person moves. Knees and ankles
// hidden for hold_s seconds fall back to the parent, so that a half-body picture gives short legs, not wild ones. A
// joint that was never seen sits at its parent. A hidden root moves by the mean motion of the joints still seen; one
// never seen, or hidden for kRootHoldS, is placed by PelvisStandIn. The fall-back of the legs is from Strided
// Transformer's demo.
class Hold {
 public:
  // Throws std::invalid_argument unless 0 < seen_above <= 1, 0 <= lost_below <= seen_above and hold_s >= 0.
  Hold(const Skeleton& skeleton, double seen_above, double lost_below, double hold_s);

  void reset();

  // Fills placed() and is_seen() from keypoints[J][2], in any unit, and confidence[J]. The keypoint of a hidden joint
  // is not read and may be NaN. Returns false and changes nothing if the body cannot be placed: no joint is seen, or
  // the root is hidden, never had a position, and nothing stands in for it.
  bool operator()(const double* keypoints, const double* confidence, double timestamp_s);

  const double* placed() const { return last_.data(); }  // (J, 2)
  const std::vector<unsigned char>& is_seen() const { return is_seen_; }

 private:
  bool fill(const double* keypoints, double timestamp_s);
  bool place_root(double timestamp_s);

  const double seen_above_, lost_below_, hold_s_;
  const int joints_, root_;
  const PelvisStandIn stand_in_;
  bool has_places_ = false;
  std::vector<int> parents_;  // the root is its own parent
  std::vector<unsigned char> falls_back_, is_seen_;
  int climb_rounds_ = 0;
  std::vector<double> seen_at_s_, offsets_, last_;
  // Scratch memory, kept so that no call allocates.
  std::vector<unsigned char> now_;
  std::vector<double> placed_, climb_, climbed_;
  std::vector<int> ancestor_, ancestors_;
};

}  // namespace edgepose
