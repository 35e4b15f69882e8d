// Estimated position of the root where the detector does not see it.
#pragma once

#include "layouts.h"

namespace edgepose {

// Where no hip is seen, the pelvis is estimated this far below the middle of the shoulders, straight down in the
// picture. The larger of the two lengths counts. Medians of motion capture, as in edgepose/training/noise.py.
constexpr double kTrunkOverShoulders = 1.4;  // times the distance between the shoulders
constexpr double kTrunkOverNose = 2.2;       // times the distance from the middle of the shoulders to the nose

// Takes the pelvis from the hips that are seen, else from the shoulders.
class PelvisStandIn {
 public:
  explicit PelvisStandIn(const Skeleton& skeleton);

  // Fills the root's position in placed[J][2], in which joints with is_seen[J] have theirs. False if none of them can
  // stand in for it.
  bool operator()(const unsigned char* is_seen, double* placed) const;

 private:
  int root_, hips_[2], shoulders_[2], thorax_, nose_;  // -1: the skeleton has no such joint
};

}  // namespace edgepose
