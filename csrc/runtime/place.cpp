#include "place.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "lens.h"

namespace edgepose {

namespace {

constexpr double kLeastSpread = 1e-9;  // root mean square spread of the rays' slopes; less is one point
// The filter. A walking pelvis speeds up and slows down by some 2 m/s2 in each step.
constexpr double kAcceleration = 2.0;  // m/s2
constexpr double kFirstSpeed = 2.0;    // m/s, standard deviation of an unknown speed
constexpr double kMostSurprise = 3.0;  // standard deviations; a larger step of the measured depth is cut to this
constexpr double kRememberS = 1.0;     // after this time without a measurement the place is unknown
constexpr double kLeastDepthM = 0.1;
// Errors of poses follow each other in time, so a fit's own residual understates that of its depth.
constexpr double kLeastFitError = 0.02;  // share of the depth
// A depth camera's error: m, and share of the depth. Azure Kinect DK, hardware specification.
constexpr double kCameraError[2] = {0.011, 0.001};
constexpr double kPoseDepthErrorM = 0.05;  // a joint's depth in the pose, where the root's own is not measured
constexpr double kPixelError = 0.015;      // the root's slope in the picture
constexpr int kSizeFrames = 300;           // the learnt size is a mean over about as many frames
constexpr double kMostSizeStep = 0.1;      // the logarithm's most change in a frame
constexpr double kLearntSizeError = 0.03;  // relative

// One axis of the picture: with slope s and offset r = s z - x of each joint, t - s tz = r.
struct Axis {
  double weight = 0, slope = 0, offset = 0;  // sum of the weights, and weighted means
  double spread = 0, product = 0;            // sums of squares and products of the deviations from them
  double rest = 0;                           // sum of squares of the deviations of the offsets
};

struct Fit {
  Axis axes[2];
  std::size_t used = 0;

  bool is_determined() const {
    const double weight = axes[0].weight + axes[1].weight;
    return axes[0].spread + axes[1].spread > kLeastSpread * kLeastSpread * weight;
  }
  double depth_m() const { return -(axes[0].product + axes[1].product) / (axes[0].spread + axes[1].spread); }
  // The variance of the depth by the residuals of the fit.
  double variance() const {
    const double spread = axes[0].spread + axes[1].spread, product = axes[0].product + axes[1].product;
    const double residual = std::max(0.0, axes[0].rest + axes[1].rest - product * product / spread);
    return residual / (spread * std::max(1.0, 2.0 * (double)used - 3));
  }
};

template <class Real>
Fit fit(const Real* joints_m, const Real* keypoints, const Real* confidence, std::size_t joints, const double* focal,
        const double* centre) {
  Fit fit;
  const auto each = [&](auto look) {
    for (std::size_t j = 0; j < joints; j++) {
      if (!(confidence[j] > 0)) continue;
      for (int c = 0; c < 2; c++) {
        const double slope = ((double)keypoints[2 * j + (std::size_t)c] - centre[c]) / focal[c];
        const double offset = slope * (double)joints_m[3 * j + 2] - (double)joints_m[3 * j + (std::size_t)c];
        look(fit.axes[c], (double)confidence[j] * focal[c] * focal[c], slope, offset);
      }
    }
  };
  each([&](Axis& axis, double weight, double slope, double offset) {
    if (!std::isfinite(slope) || !std::isfinite(offset))
      throw std::invalid_argument("the pose or its keypoints are NaN or infinite in a joint with a confidence above 0");
    axis.weight += weight, axis.slope += weight * slope, axis.offset += weight * offset;
    fit.used += &axis == fit.axes;
  });
  for (Axis& axis : fit.axes) axis.slope /= axis.weight, axis.offset /= axis.weight;
  each([&](Axis& axis, double weight, double slope, double offset) {
    axis.spread += weight * (slope - axis.slope) * (slope - axis.slope);
    axis.product += weight * (slope - axis.slope) * (offset - axis.offset);
    axis.rest += weight * (offset - axis.offset) * (offset - axis.offset);
  });
  return fit;
}

double square(double x) { return x * x; }

}  // namespace

template <class Real>
std::array<double, 3> root_translation(const Real* joints_m, const Real* keypoints, const Real* confidence,
                                       std::size_t joints, double fx, double fy, double cx, double cy) {
  check_lens(fx, fy, cx, cy);
  const double focal[2] = {fx, fy}, centre[2] = {cx, cy};
  const Fit found = fit(joints_m, keypoints, confidence, joints, focal, centre);
  if (!found.is_determined())
    throw std::invalid_argument(std::to_string(found.used) + " joints with a confidence above 0 do not determine the "
                                "place of the root; wanted at least 2 that are apart in the picture");
  const double z = found.depth_m();
  return {found.axes[0].offset + found.axes[0].slope * z, found.axes[1].offset + found.axes[1].slope * z, z};
}

template std::array<double, 3> root_translation(const float*, const float*, const float*, std::size_t, double, double,
                                                double, double);
template std::array<double, 3> root_translation(const double*, const double*, const double*, std::size_t, double,
                                                double, double, double);

Place::Place(int joints, double focal) : joints_((std::size_t)joints), focal_(focal) {
  weights_.resize(joints_), depths_.reserve(joints_);
}

// The root's depth by a depth camera: as measured there, else the median over the joints less their depths in the pose.
bool Place::by_camera(const float* joints_m, const Sight& sight, Depth* depth) {
  const auto variance = [](double z) {
    return square(kCameraError[0] + kCameraError[1] * z);
  };
  depths_.clear();
  for (std::size_t j = 0; j < joints_; j++) {
    if (!sight.is_seen[j] || std::isnan(sight.depth_m[j])) continue;
    const bool is_root = joints_m[3 * j] == 0 && joints_m[3 * j + 1] == 0 && joints_m[3 * j + 2] == 0;
    if (is_root) return *depth = {sight.depth_m[j], variance(sight.depth_m[j])}, true;
    depths_.push_back(sight.depth_m[j] - (double)joints_m[3 * j + 2]);
  }
  if (depths_.empty()) return false;
  const auto middle = depths_.begin() + (std::ptrdiff_t)(depths_.size() / 2);
  std::nth_element(depths_.begin(), middle, depths_.end());
  *depth = {*middle, variance(*middle) + square(kPoseDepthErrorM)};
  return true;
}

void Place::predict(double dt_s) {
  depth_m_ += speed_m_s_ * dt_s;
  variance_[0] += dt_s * (2 * variance_[1] + dt_s * variance_[2]) + square(kAcceleration * dt_s * dt_s) / 4;
  variance_[1] += dt_s * variance_[2] + square(kAcceleration) * dt_s * dt_s * dt_s / 2;
  variance_[2] += square(kAcceleration * dt_s);
}

void Place::correct(const Depth& depth) {
  const double sum = variance_[0] + depth.variance, most = kMostSurprise * std::sqrt(sum);
  const double surprise = std::clamp(depth.m - depth_m_, -most, most);
  const double of_depth = variance_[0] / sum, of_speed = variance_[1] / sum;
  depth_m_ += of_depth * surprise, speed_m_s_ += of_speed * surprise;
  variance_[2] -= of_speed * variance_[1];
  variance_[1] -= of_depth * variance_[1];
  variance_[0] -= of_depth * variance_[0];
}

// The size of the person over that of the pose: a running mean of its logarithm with bounded steps.
void Place::learn_size(double ratio) {
  measured_ = std::min(measured_ + 1, kSizeFrames);
  const double step = std::log(ratio / size_), most = measured_ == 1 ? HUGE_VAL : kMostSizeStep;
  size_ *= std::exp(std::clamp(step, -most, most) / measured_);
}

void Place::reset() {
  is_started_ = false;
  measured_ = 0, size_ = 1;
}

bool Place::operator()(const float* joints_m, const Sight& sight, double timestamp_s, double size_error, Root* root) {
  for (std::size_t j = 0; j < joints_; j++) weights_[j] = sight.is_seen[j] ? (float)sight.confidence[j] : 0.0f;
  const double focal[2] = {focal_, focal_}, centre[2] = {0, 0};
  const Fit found = fit(joints_m, sight.keypoints_norm, weights_.data(), joints_, focal, centre);
  const bool is_fitted = found.is_determined() && found.depth_m() > kLeastDepthM;
  Depth depth{0, 0};
  const bool is_measured = is_fitted && by_camera(joints_m, sight, &depth);
  if (is_measured) learn_size(depth.m / found.depth_m());
  if (is_fitted && !is_measured) {
    const double z = found.depth_m() * size_;
    depth = {z, found.variance() * size_ * size_ + square(kLeastFitError * z)};
  }
  if (is_fitted)
    for (int c = 0; c < 2; c++) slope_[c] = found.axes[c].slope, offset_[c] = found.axes[c].offset * size_;
  if (is_started_) {
    predict(timestamp_s - timestamp_s_);
    if (is_fitted) correct(depth);
  } else if (is_fitted) {
    depth_m_ = depth.m, speed_m_s_ = 0;
    variance_[0] = depth.variance, variance_[1] = 0, variance_[2] = square(kFirstSpeed);
    is_started_ = true;
  }
  timestamp_s_ = timestamp_s;
  if (is_fitted) known_at_s_ = timestamp_s;
  if (!is_started_) return false;
  if (timestamp_s - known_at_s_ > kRememberS) return is_started_ = false;
  const double z = std::max(depth_m_, kLeastDepthM);
  if (measured_ > 0) size_error = is_measured ? 0 : kLearntSizeError;
  const double error_m = std::hypot(std::sqrt(variance_[0]), size_error * z);
  *root = {{offset_[0] + slope_[0] * z, offset_[1] + slope_[1] * z, z}, {0, 0, error_m}};
  for (int c = 0; c < 2; c++) root->error_m[(std::size_t)c] = std::hypot(slope_[c] * error_m, kPixelError * z);
  return true;
}

}  // namespace edgepose
