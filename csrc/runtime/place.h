// The place of the root in front of a camera, from a pose and where its joints are seen.
#pragma once

#include <array>
#include <cstddef>

namespace edgepose {

// The root's place in m, camera axes, from which joints_m[joints][3], relative to it, are seen at keypoints[joints][2]:
// the least squares of (x + tx) f / (z + tz) + c = u, times the depth, in which it is linear. fx, fy, cx, cy: the lens,
// in the unit of the keypoints. confidence[joints]: a joint's weight; 0 leaves it out, whatever it holds.
// Throws std::invalid_argument for an impossible lens, numbers that are not finite, and joints that do not determine
// the place: fewer than two, or all in one point of the picture.
template <class Real>
std::array<double, 3> root_translation(const Real* joints_m, const Real* keypoints, const Real* confidence,
                                       std::size_t joints, double fx, double fy, double cx, double cy);

}  // namespace edgepose
