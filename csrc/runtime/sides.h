// Correction of left and right where the detector exchanges them between frames.
#pragma once

#include <utility>
#include <vector>

#include "layouts.h"

namespace edgepose {

// Keeps a person's left and right consistent from frame to frame. At the rate of a camera nobody turns around between
// two frames: where left joints lie where the right ones were and the reverse, the detector has exchanged them, and
// they are exchanged back, in this frame and those after it until it changes its mind. Where left and right are too
// close to tell, as in profile, the last decision stays. The detector is believed after a time without a frame, and
// when it holds its view for longer than it held the other one.
class Sides {
 public:
  // seen_above: the least confidence of a joint that counts.
  Sides(const Skeleton& skeleton, double seen_above);

  void reset() { is_fresh_ = true; }

  // Corrects the sides of joints[J][2], in any unit, and confidence[J]. A joint that is not seen may hold anything.
  void operator()(double* joints, double* confidence, double timestamp_s);

  // Whether the last frame's sides were exchanged back.
  bool has_exchanged() const { return is_exchanged_; }
  // Whether the last frame proved the detector right: the corrected sides of the frames before it are wrong.
  bool gave_up() const { return gave_up_; }

 private:
  void exchange(double* joints, double* confidence) const;
  bool is_certain(const double* joints, const double* confidence) const;

  const double seen_above_;
  std::vector<std::pair<int, int>> pairs_;
  std::vector<double> joints_, confidence_;  // the last frame's, corrected
  double timestamp_s_ = 0, trust_s_ = 0;     // trust_s_: how long the detector may still be contradicted
  bool is_fresh_ = true, is_exchanged_ = false, gave_up_ = false;
};

}  // namespace edgepose
