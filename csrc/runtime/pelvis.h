// A place for the root of a body whose root the detector does not see.
#pragma once

#include "layouts.h"

namespace edgepose {

// Where the trunk's length is a guess: so far below the middle of the shoulders, straight down in the picture, stands a
// pelvis of which no hip is seen. The larger of the two counts. Medians of motion capture, as in
// edgepose/training/noise.py.
constexpr double kTrunkOverShoulders = 1.4;  // over the distance of the shoulders
constexpr double kTrunkOverNose = 2.2;       // over that of the nose from the middle of the shoulders

// The hips that are seen stand in for the pelvis, else the shoulders do.
class PelvisStandIn {
 public:
  explicit PelvisStandIn(const Skeleton& skeleton);

  // Fills the root's place in placed[J][2], in which joints with is_seen[J] have theirs. False if there is nothing to
  // place it by.
  bool operator()(const unsigned char* is_seen, double* placed) const;

 private:
  int root_, hips_[2], shoulders_[2], thorax_, nose_;  // -1: the skeleton has no such joint
};

}  // namespace edgepose
