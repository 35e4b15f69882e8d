// Position of the root in front of the camera, from a pose and the keypoints of its joints.
#pragma once

#include <array>
#include <cstddef>

namespace edgepose {

// Root position in m, camera axes, for which joints_m[joints][3], relative to the root, project to
// keypoints[joints][2]: least squares of (x + tx) f / (z + tz) + c = u, times the depth to make it linear. fx, fy, cx,
// cy: the lens, in the keypoints' unit. confidence[joints]: weights; a joint of weight 0 may hold anything.
// Throws std::invalid_argument for an impossible lens, numbers that are not finite, and joints that do not determine
// the position: fewer than two, or all in one point of the picture.
template <class Real>
std::array<double, 3> root_translation(const Real* joints_m, const Real* keypoints, const Real* confidence,
                                       std::size_t joints, double fx, double fy, double cx, double cy);

}  // namespace edgepose
