// Checks a detector's keypoints: which were found, where, and how surely.
#pragma once

#include <string>

namespace edgepose {

constexpr double kMostPx = 1e6;  // no camera has a keypoint further out; a larger number is broken input
constexpr double kMostDepthM = 100;  // the same for a depth camera

struct Picture {
  double width_px, height_px;
};

// Summary of one frame.
struct Reading {
  int found = 0;    // keypoints with a place and a confidence above 0
  int outside = 0;  // found keypoints that lie outside the picture
  double right_px = 0, bottom_px = 0;  // the largest x and y of the found keypoints
};

// Confidence of a keypoint, 0 to 1; 0: not found. For a keypoint they did not find detectors write (0, 0), (-1, -1) or
// NaN as its position, with any confidence, or a confidence of 0 or less. A score a little above 1, as heat maps give
// it, counts as 1.
double confidence_of(double x, double y, double said);

// Fills to[keypoints][3], px and confidence, and depth_m[keypoints] from keypoints_px[keypoints][columns]: x, y, with 3
// columns the confidence, with 4 also the depth from a depth camera, in m along its axis. A keypoint that was not found
// becomes (0, 0, 0); one outside the picture gets confidence 0. A depth that was not measured (0, NaN or infinite,
// depending on the camera) becomes NaN.
// Throws std::invalid_argument for broken numbers, normalised coordinates, a third column that is not a confidence and
// a fourth that is not in metres.
template <class Real>
Reading read_keypoints(const Real* keypoints_px, int keypoints, int columns, const Picture& picture, double* to,
                       double* depth_m);

constexpr int kMostReachPx = 10;

// Depth at a pixel of a depth picture, depths[height][width]: the median of what was measured within reach_px of it
// along either axis, kMostReachPx at most; NaN where nothing was measured (0, NaN or infinite), and outside the
// picture.
double depth_at(const float* depths, long width, long height, const double* xy_px, int reach_px);

}  // namespace edgepose
