#include "pelvis.h"

#include <algorithm>
#include <cmath>

namespace edgepose {

PelvisStandIn::PelvisStandIn(const Skeleton& skeleton)
    : root_(skeleton.root()),
      hips_{skeleton.index("left_hip"), skeleton.index("right_hip")},
      shoulders_{skeleton.index("left_shoulder"), skeleton.index("right_shoulder")},
      thorax_(skeleton.index("thorax")),
      nose_(skeleton.index("nose")) {}

bool PelvisStandIn::operator()(const unsigned char* is_seen, double* placed) const {
  const auto sees = [&](int joint) { return joint >= 0 && is_seen[joint]; };
  const auto distance = [&](int a, int b) {
    return std::hypot(placed[2 * a] - placed[2 * b], placed[2 * a + 1] - placed[2 * b + 1]);
  };
  double* pelvis = placed + 2 * root_;
  if (sees(hips_[0]) || sees(hips_[1])) {
    const int left = hips_[!sees(hips_[0])], right = hips_[sees(hips_[1])];  // a hidden one is the other
    for (int c = 0; c < 2; c++) pelvis[c] = 0.5 * (placed[2 * left + c] + placed[2 * right + c]);
    return true;
  }
  if (!sees(thorax_)) return false;
  const double by_shoulders =
      sees(shoulders_[0]) && sees(shoulders_[1]) ? kTrunkOverShoulders * distance(shoulders_[0], shoulders_[1]) : 0;
  const double by_nose = sees(nose_) ? kTrunkOverNose * distance(nose_, thorax_) : 0;
  const double trunk = std::max(by_shoulders, by_nose);
  pelvis[0] = placed[2 * thorax_], pelvis[1] = placed[2 * thorax_ + 1] + trunk;
  return trunk > 0;
}

}  // namespace edgepose
