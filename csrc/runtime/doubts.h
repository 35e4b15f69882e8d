// Signs that the input of a stream is wrong, found over many frames.
#pragma once

#include <array>
#include <vector>

#include "keypoints.h"
#include "layouts.h"
#include "notices.h"

namespace edgepose {

// Reports times that are not in seconds, keypoints mostly outside the picture, people with impossible proportions, and
// people who always lie, as when x and y are exchanged. Poses are never changed here.
class Doubts {
 public:
  Doubts(const Skeleton& skeleton, const Picture& picture);

  // spacing_s: the time since the last frame.
  void look_at_time(double spacing_s, Notices& notices);

  // Judges a frame in which the person was detected. joints: (J, 2) in any unit; confidence: (J,).
  void look_at_frame(const Reading& reading, const double* joints, const double* confidence, Notices& notices);

 private:
  struct Bone {
    int part, a, b;  // part: its index in the table of limits; a, b: its joints
    int beyond = 0;  // the number of whole frames in which it was longer than its limit
    double longest = 0;
  };

  void look_at_proportions(const double* joints, const double* confidence);
  void judge(Notices& notices);

  const Picture picture_;
  const int joints_;
  std::vector<Bone> bones_;
  int long_spacings_ = 0;
  double shortest_s_ = HUGE_VAL;
  bool is_timed_ = false;  // the times have been judged
  const int head_, ankles_[2];  // joint indices
  int frames_ = 0, whole_frames_ = 0, lying_frames_ = 0;
  Reading sum_;  // the sum over these frames
};

}  // namespace edgepose
