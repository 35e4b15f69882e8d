// Position of the root in front of the camera, from a pose and the keypoints of its joints.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace edgepose {

// Root position in m, camera axes, for which joints_m[joints][3], relative to the root, project to
// keypoints[joints][2]: least squares of (x + tx) f / (z + tz) + c = u, times the depth to make it linear. fx, fy, cx,
// cy: the lens, in the keypoints' unit. confidence[joints]: weights; a joint of weight 0 may hold anything.
// Throws std::invalid_argument for an impossible lens, numbers that are not finite, and joints that do not determine
// the position: fewer than two, or all in one point of the picture.
template <class Real>
std::array<double, 3> root_translation(const Real* joints_m, const Real* keypoints, const Real* confidence,
                                       std::size_t joints, double fx, double fy, double cx, double cy);

// The root in front of the camera, m, and the standard deviation of each coordinate.
struct Root {
  std::array<double, 3> m, error_m;
};

// What is known of the frame that a pose belongs to.
struct Sight {
  const float* keypoints_norm;     // (J, 2)
  const double* confidence;        // (J,)
  const unsigned char* is_seen;    // (J,)
  const double* depth_m;           // (J,) from a depth camera, along its axis; NaN where it measured none
};

// The depth of the root over time: a Kalman filter of depth and speed. Depths come from the pose's size in the picture,
// or from a depth camera where it measured any; x and y follow from the depth and the keypoints, so they do not lag.
class Place {
 public:
  // focal: of the keypoints, whose centre is (0, 0).
  Place(int joints, double focal);

  void reset();

  // Takes a pose; joints_m is (J, 3). size_error: the relative standard deviation of the pose's size. Returns whether
  // the place is known: until joints have determined it, and long after they did, it is not.
  bool operator()(const float* joints_m, const Sight& sight, double timestamp_s, double size_error, Root* root);

  // The person's size over that of the poses, as a depth camera has shown it; 1 until one has.
  double size() const { return size_; }

 private:
  struct Depth {
    double m, variance;
  };
  bool by_camera(const float* joints_m, const Sight& sight, Depth* depth);
  void predict(double dt_s);
  void correct(const Depth& depth);
  void learn_size(double ratio);

  const std::size_t joints_;
  const double focal_;
  std::vector<float> weights_;
  std::vector<double> depths_;
  bool is_started_ = false;
  double depth_m_, speed_m_s_, variance_[3];  // variances of depth, of both together, of speed
  double timestamp_s_, known_at_s_, slope_[2], offset_[2];
  int measured_ = 0;  // frames that size_ is a mean of
  double size_ = 1;
};

}  // namespace edgepose
