// What a detector's numbers say: which keypoints it found, where, and how sure it is.
#pragma once

#include <string>

namespace edgepose {

constexpr double kMostPx = 1e6;  // no camera has a keypoint further out; a larger number is a broken one
constexpr double kMostDepthM = 100;  // nor does a depth camera see further

struct Picture {
  double width_px, height_px;
};

// Of one frame.
struct Reading {
  int found = 0;    // keypoints with a place and a confidence above 0
  int outside = 0;  // those among them outside of the picture
  double right_px = 0, bottom_px = 0;  // the largest x and y of those found
};

// 0 to 1. 0: the keypoint was not found. Detectors write (0, 0), (-1, -1) or no number for its place then, whatever
// they say of their confidence, or a confidence of 0 or less. A score a little above 1, as heat maps give it, counts
// as 1.
double confidence_of(double x, double y, double said);

// Fills to[keypoints][3], px and confidence, and depth_m[keypoints] from keypoints_px[keypoints][columns]: x, y, with 3
// columns the confidence, with 4 the depth that a depth camera measured there, in m along its axis. A keypoint that was
// not found becomes (0, 0, 0), one outside of the picture has confidence 0. Where nothing was measured (0, no number or
// infinite, as the cameras say it) the depth becomes no number.
// Throws std::invalid_argument for broken numbers, normalised coordinates, a third column that is no confidence and a
// fourth that has no metres.
template <class Real>
Reading read_keypoints(const Real* keypoints_px, int keypoints, int columns, const Picture& picture, double* to,
                       double* depth_m);

}  // namespace edgepose
