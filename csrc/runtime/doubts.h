// What is likely wrong with the input of a stream, by looking at many frames of it.
#pragma once

#include <array>
#include <vector>

#include "keypoints.h"
#include "layouts.h"
#include "notices.h"

namespace edgepose {

// Notes times that are no seconds, keypoints that lie mostly outside of the picture, people with impossible proportions
// and people who always lie, as they do where x and y are exchanged. Nothing in here changes a pose.
class Doubts {
 public:
  Doubts(const Skeleton& skeleton, const Picture& picture);

  // The time from the last frame to this one.
  void look_at_time(double spacing_s, Notices& notices);

  // One frame in which the person was detected: what was read, and the joints, (J, 2) in any unit and (J,).
  void look_at_frame(const Reading& reading, const double* joints, const double* confidence, Notices& notices);

 private:
  struct Bone {
    int part, a, b;  // its place in the table of limits, and its joints
    int beyond = 0;  // in how many of the whole frames it was longer than its limit
    double longest = 0;
  };

  void look_at_proportions(const double* joints, const double* confidence);
  void judge(Notices& notices);

  const Picture picture_;
  const int joints_;
  std::vector<Bone> bones_;
  int long_spacings_ = 0;
  double shortest_s_ = HUGE_VAL;
  bool is_timed_ = false;  // the times were judged
  const int head_, ankles_[2];  // joints
  int frames_ = 0, whole_frames_ = 0, lying_frames_ = 0;
  Reading sum_;  // over these frames
};

}  // namespace edgepose
