// Coordinate systems other than the camera's: rotations, a z-up world, and the floor that feet stand on.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "layouts.h"

namespace edgepose {

// Where camera coordinates (x right, y down, z forward, m) lie in other ones: p = rotation * p_camera + origin.
struct Axes {
  std::array<double, 9> rotation{1, 0, 0, 0, 1, 0, 0, 0, 1};  // (3, 3), row after row
  std::array<double, 3> origin{};                             // the camera's position

  // points: (count, 3), replaced. Directions and root-relative joints turn without the origin.
  template <class Real>
  void move(Real* points, std::size_t count, bool is_relative) const;
};

// "camera", "opencv" and "ros_optical" (REP 103's frame of images) have the camera's own axes; "ros_body" (REP 103) has
// x forward, y left and z up; "y_up" x right, y up and z towards the camera. Throws std::invalid_argument, listing the
// names, for another one.
Axes axes_named(const char* name);

// The world of a calibration: p_camera = rotation * p_world + translation, as OpenCV and Pose2Sim have it. Throws
// std::invalid_argument unless the rotation is one.
Axes axes_of_camera(const double* rotation, const double* translation);

// A world with z up, by the direction of gravity in camera axes, (0, 1, 0) for a level camera. x is the camera's
// forward direction, y its left one, both made level. The camera is height_m above the origin. Throws
// std::invalid_argument for a vector without direction, and a camera that looks straight up or down.
Axes axes_of_gravity(const double* gravity, double height_m);

// The floor by the feet that stand on it: a plane through the lower ankle of each pose, fitted to all of them. Where
// the ankles do not show its slope, because the person stayed in one place, that is taken from how upright they stood:
// the mean direction from ankles to thorax, or from gravity where it is known, which is then kept.
class Floor {
 public:
  // gravity: null: unknown. Throws std::invalid_argument for a skeleton without ankles or thorax.
  Floor(const Skeleton& skeleton, const double* gravity);

  void reset();

  // Takes a pose (J, 3) m whose root is at root_m.
  void add(const float* joints_m, const double* root_m);

  bool is_known() const { return count_ > 0; }

  // A z-up world: z is 0 on the floor, x is the camera's forward direction and y its left one, both level, and the
  // camera is above the origin. Throws std::invalid_argument before the first pose.
  Axes axes() const;

 private:
  const int ankles_[2], thorax_;
  std::array<double, 3> gravity_;
  bool has_gravity_;
  // Sums over the poses: of upright directions, of ankles and of their products.
  double count_ = 0, upright_[3], mean_[3], square_[9];
};

}  // namespace edgepose
