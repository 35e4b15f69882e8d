#include "keypoints.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "text.h"

namespace edgepose {

namespace {

constexpr double kLeastPx = 2.0;   // a person is larger
constexpr double kBorderPx = 1.0;  // detectors count pixels from the centre or the corner, from 0 or from 1
// Scores reach 1.02 (AIST++), 1.1 (MMPose's heat maps) and nearly 10 (RTMPose's classifiers); per cents and pixels are
// larger.
constexpr double kMostScore = 20.0;
constexpr double kNegative = -0.01;     // a heat map's noise may be a little below 0
// Share of the keypoints with a position. If more are negative, it is MediaPipe's z, negative in front of the hips.
constexpr double kManyNegative = 0.25;

bool is_whole(double value) { return std::fabs(value) <= kMostPx; }

// Whether a position was found. A detector marks missing keypoints by positions that no found keypoint has to the last
// digit.
bool is_place(double x, double y) {
  return !(x == 0 && y == 0) && !(x == -1 && y == -1) && !(std::isnan(x) && std::isnan(y));
}

template <class Real>
void check_confidences(const Real* keypoints_px, int keypoints, int columns) {
  double least = 0, most = 0;
  int places = 0, negative = 0;
  for (int k = 0; k < keypoints; k++) {
    const Real* keypoint = keypoints_px + (long)columns * k;
    if (!is_place((double)keypoint[0], (double)keypoint[1])) continue;
    const double said = (double)keypoint[2];
    places++, negative += said < kNegative;
    least = std::min(least, said), most = std::max(most, said);
  }
  if (most > kMostScore || (negative > 1 && negative > kManyNegative * places))
    throw std::invalid_argument("the third column of keypoints_px goes from " + text(least) + " to " + text(most)
                                + "; wanted confidences from 0 to 1, or two columns. MediaPipe's z is none: pass its "
                                  "visibility; divide per cents by 100");
}

// The depth measured at a keypoint; NaN where none was.
double depth_of(double said, int keypoint) {
  if (!std::isfinite(said) || said == 0) return NAN;
  if (said < 0 || said > kMostDepthM)
    throw std::invalid_argument("the depth of keypoint " + std::to_string(keypoint) + " is " + text(said)
                                + "; wanted metres from 0 to " + text(kMostDepthM)
                                + ", 0 or no number where nothing was measured. Divide millimetres by 1000");
  return said;
}

}  // namespace

double depth_at(const float* depths, long width, long height, const double* xy_px, int reach_px) {
  const bool is_inside = xy_px[0] > -0.5 && xy_px[0] < (double)width - 0.5 && xy_px[1] > -0.5
                         && xy_px[1] < (double)height - 0.5;
  if (!is_inside) return NAN;
  const long x = std::lround(xy_px[0]), y = std::lround(xy_px[1]), reach = std::clamp(reach_px, 0, kMostReachPx);
  float near[(2 * kMostReachPx + 1) * (2 * kMostReachPx + 1)];
  int count = 0;
  for (long row = std::max(0L, y - reach); row <= std::min(height - 1, y + reach); row++)
    for (long column = std::max(0L, x - reach); column <= std::min(width - 1, x + reach); column++) {
      const float depth = depths[row * width + column];
      if (depth > 0 && std::isfinite(depth)) near[count++] = depth;
    }
  if (count == 0) return NAN;
  std::nth_element(near, near + count / 2, near + count);
  return near[count / 2];
}

double confidence_of(double x, double y, double said) {
  if (!is_place(x, y) || said < 0) return 0;
  return std::min(said, 1.0);  // no number stays none
}

template <class Real>
Reading read_keypoints(const Real* keypoints_px, int keypoints, int columns, const Picture& picture, double* to,
                       double* depth_m) {
  Reading reading;
  double most = 0;
  for (int k = 0; k < keypoints; k++, to += 3) {
    const Real* from = keypoints_px + (long)k * columns;
    to[0] = (double)from[0], to[1] = (double)from[1];
    to[2] = confidence_of(to[0], to[1], columns > 2 ? (double)from[2] : 1.0);
    depth_m[k] = columns > 3 ? depth_of((double)from[3], k) : NAN;
    if (to[2] == 0) {
      to[0] = to[1] = 0;  // it may hold anything
      continue;
    }
    if (!is_whole(to[0]) || !is_whole(to[1]) || !(to[2] > 0))
      throw std::invalid_argument("keypoint " + std::to_string(k) + " is (" + text(to[0]) + ", " + text(to[1])
                                  + (columns > 2 ? ", " + text((double)from[2]) : "")
                                  + "); wanted finite pixels within " + text(kMostPx)
                                  + ", or confidence 0 if it was not found");
    most = std::max({most, std::fabs(to[0]), std::fabs(to[1])});
    reading.found++;
    reading.right_px = std::max(reading.right_px, to[0]), reading.bottom_px = std::max(reading.bottom_px, to[1]);
    const bool is_inside = to[0] >= -kBorderPx && to[0] <= picture.width_px + kBorderPx && to[1] >= -kBorderPx
                           && to[1] <= picture.height_px + kBorderPx;
    if (!is_inside) reading.outside++, to[2] = 0;
  }
  if (most > 0 && most <= kLeastPx)
    throw std::invalid_argument("keypoints_px are all within " + text(kLeastPx)
                                + " px of the corner, as normalised ones are; wanted pixels: coordinates from 0 to 1 "
                                  "times the picture's width and height, from -1 to 1 that after (x + 1) / 2");
  if (columns > 2) check_confidences(keypoints_px, keypoints, columns);
  return reading;
}

template Reading read_keypoints(const float*, int, int, const Picture&, double*, double*);
template Reading read_keypoints(const double*, int, int, const Picture&, double*, double*);

}  // namespace edgepose
