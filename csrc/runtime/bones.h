// The lengths of one person's bones: learnt from poses, and poses with them.
#pragma once

#include <cstddef>
#include <vector>

#include "layouts.h"
#include "lengths.h"

namespace edgepose {

// Left and right bones have one length. It is learnt as a running mean of logarithms in which a single pose counts
// little (Huber's), and is nearly constant once kLearnS seconds of poses were seen: then it moves by no more than
// kMostDriftPerS.
class Bones {
 public:
  static constexpr double kLearnS = 2.0, kMostDriftPerS = 0.001;

  // known_m: lengths that are not to be learnt: of limbs and hips.
  Bones(const Skeleton& skeleton, const Lengths& known_m);

  void reset();

  // Takes a pose, (J, 3). is_seen: (J,); null: all. A bone counts if both of its ends are seen.
  void learn(const float* joints_m, const unsigned char* is_seen, double timestamp_s);

  // The lengths are from now on those of all poses so far.
  void settle();

  // Gives a pose's bones the learnt lengths times `size`. From the root outwards each joint is put where its bone
  // allows it, near to where it was and to where the bone pointed; depth counts less, because lifters know it worse.
  // Bones not learnt yet are scaled; those that the caller knows have their own lengths.
  void project(float* joints_m, double size);

  // The standing height that thighs, shanks and trunk say, as in edgepose/columns.py; 0: not learnt yet.
  double height_m() const;

 private:
  struct Bone {
    std::size_t joint, parent, length;  // length: index of the length that it shares with its twin
  };
  struct Length {
    double learnt = 0, used = 0;  // logarithms of m
    double count = 0;             // poses it was learnt from; 0: unknown
    bool is_known = false;        // by the caller
  };

  std::vector<Bone> bones_;  // parents first
  std::vector<Length> lengths_, start_;
  std::vector<std::size_t> trunk_, thigh_shank_;  // lengths
  std::vector<float> was_;
  double learnt_s_ = 0, last_s_ = 0;
  bool has_time_ = false;
};

// Gives the poses of a whole recording, joints_m[frames][J][3], constant bones: learns the lengths from all of them,
// with one size for all.
void hold_bones(const Skeleton& skeleton, const Lengths& known_m, float* joints_m, std::size_t frames);

}  // namespace edgepose
