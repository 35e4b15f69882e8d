// Left and right of a person whom the detector takes for facing the other way, from one frame to the next.
#pragma once

#include <utility>
#include <vector>

#include "layouts.h"

namespace edgepose {

// Keeps a person's sides from frame to frame. At the rate of a camera nobody turns around between two frames: where the
// pairs of left and right joints of a frame lie each where the other was, the detector has exchanged them, and they are
// exchanged back, in this frame and those after it until it changes its mind. Where the sides lie too near to each
// other to tell, as in profile, they stay as they were taken last. After a time without a frame, and where the detector
// holds on to its view for longer than it held the other one, it is right.
class Sides {
 public:
  // seen_above: the confidence from which on a joint counts.
  Sides(const Skeleton& skeleton, double seen_above);

  void reset() { is_fresh_ = true; }

  // Puts the sides of joints[J][2], in any unit, and confidence[J] right. A joint that is not seen may hold anything.
  void operator()(double* joints, double* confidence, double timestamp_s);

  // Whether the last frame's sides were exchanged back.
  bool has_exchanged() const { return is_exchanged_; }
  // Whether the detector was given right at the last frame: those before it have their sides wrong.
  bool gave_up() const { return gave_up_; }

 private:
  void exchange(double* joints, double* confidence) const;
  bool is_certain(const double* joints, const double* confidence) const;

  const double seen_above_;
  std::vector<std::pair<int, int>> pairs_;
  std::vector<double> joints_, confidence_;  // the last frame's, put right
  double timestamp_s_ = 0, trust_s_ = 0;     // trust_s_: for how long the detector may yet be contradicted
  bool is_fresh_ = true, is_exchanged_ = false, gave_up_ = false;
};

}  // namespace edgepose
